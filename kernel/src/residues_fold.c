// Products mod n^2 of plain numbers in lanes: Karatsuba three times, and a reduction that folds first.
//
// With N = n^2, B = 2^52, L limbs a half of N and a product T of 4 L columns:
//
//   fold      T = T_1 B^at + T_0, T_1 of L limbs, becomes T_0 + T_1 C, C = B^at mod N: two products of L limbs, and L limbs
//             less to reduce.
//   quotient  Barrett's, by M = N 2^s: q = floor(T / B^cut) floor(B^(cut + L) / M) / B^L, of which the upper half is
//             computed. What is left, T - q M mod B^(2 L), is below (2 L + 6) M.
//   rest      a quotient by N of its first bits, at most one too little, and N once more where that was so.
//
// paillier/folding.py finds `at`, `cut` and s, and checks all these bounds for a modulus.
//
// Columns hold sums: up to 2^62, and below zero as Karatsuba leaves them. They are carried where limbs are needed, from
// GUARD columns further down on: what all columns below those are worth is less than one in the last of them, but it may
// be below zero. So that nothing that is cut off above ever is, B^(at - 2) is added twice, once before T is cut and once
// after, with what makes 2 B^(at - 2) a multiple of N; one is taken from the quotient's number before it is used, and the
// reciprocal of the first bits is one too little.

#include "residues_ring.h"

#if defined(__x86_64__)

#include "residues_lanes.h"

#include <string.h>

#define GUARD 3
#define INLINE static inline __attribute__((always_inline))

// A limb of eight numbers, or the same limb of a constant in all lanes.
INLINE vec limb_of(const void *x, size_t i, int constant) {
    return constant ? _mm512_set1_epi64(((const long long *)x)[i]) : ((const vec *)x)[i];
}

// t += a b, ten limbs each.
INLINE void tile(vec *t, const void *a, const vec *b, int constant) {
    vec y[TILE];
    UNROLL for (int j = 0; j < TILE; j++) y[j] = b[j];
    UNROLL for (int i = 0; i < TILE; i++) {
        const vec x = limb_of(a, (size_t)i, constant);
        UNROLL for (int j = 0; j < TILE; j++) t[i + j] = lo(t[i + j], x, y[j]);
        UNROLL for (int j = 0; j < TILE; j++) t[i + j + 1] = hi(t[i + j + 1], x, y[j]);
    }
}

// The tiles (i, s - i): they go into the same columns, which stay in registers.
INLINE void diagonal(vec *t, const void *a, const vec *b, size_t n, size_t s, int constant) {
    const size_t from = s < n ? 0 : s - n + 1, to = s < n ? s + 1 : n, width = constant ? sizeof(u64) : sizeof(vec);
    for (size_t i = from; i < to; i++) tile(t, (const char *)a + i * TILE * width, b + (s - i) * TILE, constant);
}

// Ten columns are complete.
INLINE void put_down(vec *T, vec *t) {
    UNROLL for (int k = 0; k < TILE; k++) {
        T[k] = t[k];
        t[k] = t[k + TILE];
        t[k + TILE] = _mm512_setzero_si512();
    }
}

INLINE void clear(vec *t) {
    UNROLL for (int k = 0; k < 2 * TILE; k++) t[k] = _mm512_setzero_si512();
}

// T = a b, of L limbs each.
INLINE void product(vec *T, const void *a, const vec *b, size_t L, int constant) {
    const size_t n = L / TILE;
    vec t[2 * TILE];
    clear(t);
    for (size_t s = 0; s + 1 < 2 * n; s++) {
        diagonal(t, a, b, n, s, constant);
        put_down(T + s * TILE, t);
    }
    put_down(T + 2 * L - TILE, t);
}

static __attribute__((noinline)) void product_of_lanes(vec *T, const vec *a, const vec *b, size_t L) {
    product(T, a, b, L, 0);
}

static __attribute__((noinline)) void product_by_constant(vec *T, const u64 *a, const vec *b, size_t L) {
    product(T, a, b, L, 1);
}

// The columns of a b from L on, to T[0..L), without what those below carry into them.
static __attribute__((noinline)) void upper_half(vec *T, const u64 *a, const vec *b, size_t L) {
    const size_t n = L / TILE;
    vec t[2 * TILE];
    clear(t);
    for (size_t k = 0; k < n; k++) {
        const u64 *x = a + k * TILE;
        vec y[TILE];
        UNROLL for (int j = 0; j < TILE; j++) y[j] = b[L - (k + 1) * TILE + (size_t)j];
        UNROLL for (int i = 0; i < TILE; i++) {
            const vec one = limb_of(x, (size_t)i, 1);
            UNROLL for (int j = TILE - i; j < TILE; j++) t[i + j - TILE] = lo(t[i + j - TILE], one, y[j]);
            UNROLL for (int j = TILE - 1 - i; j < TILE; j++) t[i + j + 1 - TILE] = hi(t[i + j + 1 - TILE], one, y[j]);
        }
    }
    for (size_t s = n; s + 1 < 2 * n; s++) {
        diagonal(t, a, b, n, s, 1);
        put_down(T + (s - n) * TILE, t);
    }
    put_down(T + L - TILE, t);
}

// T += the columns of a b below L.
static __attribute__((noinline)) void lower_half(vec *T, const u64 *a, const vec *b, size_t L) {
    const size_t n = L / TILE;
    vec t[2 * TILE];
    clear(t);
    for (size_t s = 0; s + 1 < n; s++) {
        UNROLL for (int k = 0; k < TILE; k++) t[k] = _mm512_add_epi64(t[k], T[s * TILE + (size_t)k]);
        diagonal(t, a, b, n, s, 1);
        put_down(T + s * TILE, t);
    }
    T += L - TILE;
    for (size_t k = 0; k < n; k++) {
        const u64 *x = a + k * TILE;
        vec y[TILE];
        UNROLL for (int j = 0; j < TILE; j++) y[j] = b[L - (k + 1) * TILE + (size_t)j];
        UNROLL for (int i = 0; i < TILE; i++) {
            const vec one = limb_of(x, (size_t)i, 1);
            UNROLL for (int j = 0; j < TILE - i; j++) t[i + j] = lo(t[i + j], one, y[j]);
            UNROLL for (int j = 0; j < TILE - 1 - i; j++) t[i + j + 1] = hi(t[i + j + 1], one, y[j]);
        }
    }
    UNROLL for (int k = 0; k < TILE; k++) T[k] = _mm512_add_epi64(T[k], t[k]);
}

INLINE vec limb_mask(void) { return _mm512_set1_epi64((long long)MASK); }

INLINE vec carried(vec *over, vec column) {
    const vec sum = _mm512_add_epi64(column, *over);
    *over = _mm512_srai_epi64(sum, 52);
    return sum;
}

// x_0 + x_1 for the halves of a and of b, two chains of carries side by side: H limbs and the carry, 0 or 1, each.
static void add_halves(vec *restrict x, const vec *restrict a, vec *restrict y, const vec *restrict b, size_t H) {
    vec over_x = _mm512_setzero_si512(), over_y = over_x;
    for (size_t i = 0; i < H; i++) {
        x[i] = _mm512_and_si512(carried(&over_x, _mm512_add_epi64(a[i], a[H + i])), limb_mask());
        y[i] = _mm512_and_si512(carried(&over_y, _mm512_add_epi64(b[i], b[H + i])), limb_mask());
    }
    x[H] = over_x;
    y[H] = over_y;
}

// Karatsuba: T = x y of 20 limbs in three tiles, from the sums of their halves in `a` and `b`. What the outer products
// give to the middle is where the middle one begins to add.
INLINE void leaf(vec *T, const void *x, const void *a, const vec *y, const vec *b, int constant) {
    const vec over_a = limb_of(a, TILE, constant), over_b = b[TILE];
    vec t[2 * TILE];
    clear(t);
    tile(t, x, y, constant);
    UNROLL for (int k = 0; k < 2 * TILE; k++) T[k] = t[k];
    clear(t);
    tile(t, (const char *)x + TILE * (constant ? sizeof(u64) : sizeof(vec)), y + TILE, constant);
    UNROLL for (int k = 0; k < TILE; k++) {
        T[3 * TILE + k] = t[TILE + k];
        const vec middle = _mm512_sub_epi64(t[k], T[TILE + k]);
        t[k] = _mm512_sub_epi64(_mm512_sub_epi64(T[TILE + k], T[k]), t[k]);
        t[TILE + k] = _mm512_sub_epi64(middle, t[TILE + k]);
    }
    T[3 * TILE] = lo(T[3 * TILE], over_a, over_b);
    UNROLL for (int k = 0; k < TILE; k++)
        t[TILE + k] = lo(lo(t[TILE + k], b[k], over_a), limb_of(a, (size_t)k, constant), over_b);
    tile(t, a, b, constant);
    UNROLL for (int k = 0; k < 2 * TILE; k++) T[TILE + k] = t[k];
}

static __attribute__((noinline)) void leaf_of_lanes(vec *T, const vec *x, const vec *y, vec *room) {
    vec *a = room, *b = room + TILE + 1;
    add_halves(a, x, b, y, TILE);
    leaf(T, x, a, y, b, 0);
}

static __attribute__((noinline)) void leaf_by_constant(vec *T, const u64 *x, const u64 *a, const vec *y, const vec *b) {
    leaf(T, x, a, y, b, 1);
}

// M is the product of the sums x and y without their carries: what these are worth, but both together.
INLINE void mend(vec *M, const void *x, const vec *y, size_t H, int constant) {
    const vec over_x = limb_of(x, H, constant), over_y = y[H];
    for (size_t i = 0; i < H; i++) M[H + i] = lo(lo(M[H + i], limb_of(x, i, constant), over_y), y[i], over_x);
}

// Karatsuba: T has x_0 y_0 and above it x_1 y_1, M has (x_0 + x_1)(y_0 + y_1), all in columns.
INLINE void join_thirds(vec *T, const vec *M, size_t H, size_t from, size_t to) {
    for (size_t i = from; i < to; i++) {
        const vec middle = _mm512_sub_epi64(T[H + i], T[2 * H + i]);
        T[H + i] = _mm512_sub_epi64(_mm512_add_epi64(middle, M[i]), T[i]);
        T[2 * H + i] = _mm512_sub_epi64(_mm512_sub_epi64(M[H + i], middle), T[3 * H + i]);
    }
}

// What both carries are worth together, before the rest is joined, which takes T[3 H] away from M[H].
INLINE void join_carries(vec *T, vec *M, vec over_x, vec over_y, size_t H) {
    T[3 * H] = lo(T[3 * H], over_x, over_y);
    M[H] = lo(M[H], over_x, over_y);
}

static void multiply_lanes(vec *T, const vec *a, const vec *b, size_t n, vec *room);

// The three products of T = a b, of n limbs each, not yet joined: n columns of the one in the middle at the beginning of
// `room`, which has 2 n + 2.
static void multiply_thirds(vec *T, const vec *a, const vec *b, size_t n, vec *room) {
    const size_t H = n / 2;
    vec *M = room, *x = M + n, *y = x + H + 1;
    add_halves(x, a, y, b, H);
    multiply_lanes(M, x, y, H, T);
    mend(M, x, y, H, 0);
    const vec over_x = x[H], over_y = y[H];
    multiply_lanes(T, a, b, H, x);
    multiply_lanes(T + n, a + H, b + H, H, x);
    join_carries(T, M, over_x, over_y, H);
}

// T = a b of n limbs each; `room` has 2 n + 2.
static void multiply_lanes(vec *T, const vec *a, const vec *b, size_t n, vec *room) {
    if (n == 2 * TILE)
        leaf_of_lanes(T, a, b, room);
    else if (n % (2 * TILE))
        product_of_lanes(T, a, b, n);
    else {
        multiply_thirds(T, a, b, n, room);
        join_thirds(T, room, n / 2, 0, n / 2);
    }
}

// Vectors behind a factor of n limbs for the sums of its halves and of theirs, as `add_all_halves` lays them out: for
// each half and for their sum, first of all that sum and its carry.
static inline size_t sums_of(size_t n) { return n % (2 * TILE) ? 0 : n / 2 + 1 + 3 * sums_of(n / 2); }

static void add_all_halves(vec *sums, const vec *x, size_t n) {
    const size_t H = n / 2, inner = sums_of(H);
    vec over = _mm512_setzero_si512(), *rest = sums + H + 1;
    if (n % (2 * TILE)) return;
    for (size_t i = 0; i < H; i++)
        sums[i] = _mm512_and_si512(carried(&over, _mm512_add_epi64(x[i], x[H + i])), limb_mask());
    sums[H] = over;
    if (H == 2 * TILE)
        add_halves(rest, x, rest + inner, x + H, TILE);
    else {
        add_all_halves(rest, x, H);
        add_all_halves(rest + inner, x + H, H);
    }
    add_all_halves(rest + 2 * inner, sums, H);
}

// T = a b of n limbs each, with their sums; `room` has 2 n.
static void multiply_constant(vec *T, const u64 *a, const u64 *a_sums, const vec *b, const vec *b_sums, size_t n, vec *room) {
    const size_t H = n / 2, inner = sums_of(H);
    if (n == 2 * TILE) {
        leaf_by_constant(T, a, a_sums, b, b_sums);
        return;
    }
    if (n % (2 * TILE)) {
        product_by_constant(T, a, b, n);
        return;
    }
    const u64 *a_rest = a_sums + H + 1;
    const vec *b_rest = b_sums + H + 1;
    multiply_constant(T, a, a_rest, b, b_rest, H, room);
    multiply_constant(T + n, a + H, a_rest + inner, b + H, b_rest + inner, H, room);
    multiply_constant(room, a_sums, a_rest + 2 * inner, b_sums, b_rest + 2 * inner, H, room + n);
    mend(room, a_sums, b_sums, H, 1);
    join_carries(T, room, limb_of(a_sums, H, 1), b_sums[H], H);
    join_thirds(T, room, H, 0, H);
}

// The L limbs of a b from column `at` on; T keeps what is below. `room` has 4 L + 2.
static void multiply_full(vec *q, vec *T, const vec *a, const vec *b, size_t L, size_t at, vec *room) {
    const vec mask = limb_mask(), one = _mm512_set1_epi64(1);
    vec over = _mm512_setzero_si512();
    multiply_thirds(T, a, b, 2 * L, room);
    // The columns above first: their chain of carries then runs beside the work on the others.
    const size_t first = at > 2 * L + GUARD ? at - GUARD - 2 * L : 0;
    join_thirds(T, room, L, first, L);
    T[at - 2] = _mm512_add_epi64(T[at - 2], one);
    for (size_t i = at - GUARD; i < at; i++) T[i] = _mm512_and_si512(carried(&over, T[i]), mask);
    for (size_t i = 0; i < L; i++) q[i] = _mm512_and_si512(carried(&over, T[at + i]), mask);
    T[at - 2] = _mm512_add_epi64(T[at - 2], one);
    join_thirds(T, room, L, 0, first);
}

// T + A + D B^L + offset, A and D being the products of T_1 with the halves of C: its L limbs from column `cut` on to q,
// less one, and all to T.
static void add_folded(vec *q, vec *T, const vec *A, const vec *D, const struct wk_fold *fold, size_t L) {
    const size_t W = 2 * L, cut = fold->cut, low = cut - GUARD, end = cut + L > W ? cut + L : W;
    const vec mask = limb_mask(), one = _mm512_set1_epi64(1);
    vec over = _mm512_setzero_si512();
    for (size_t i = fold->at; i < end; i++) T[i] = _mm512_setzero_si512();
    for (size_t i = low; i < end; i++) {
        vec t = T[i];
        if (i >= L) t = _mm512_add_epi64(t, D[i - L]);
        if (i < W) T[i] = t = _mm512_add_epi64(_mm512_add_epi64(t, limb_of(fold->offset, i, 1)), A[i]);
        if (i == cut) t = _mm512_sub_epi64(t, one);
        t = _mm512_and_si512(carried(&over, t), mask);
        if (i >= cut && i < cut + L) q[i - cut] = t;
    }
    for (size_t i = 0; i < low && i < L; i++)
        T[i] = _mm512_add_epi64(_mm512_add_epi64(T[i], limb_of(fold->offset, i, 1)), A[i]);
    for (size_t i = L; i < low; i++)
        T[i] = _mm512_add_epi64(_mm512_add_epi64(T[i], limb_of(fold->offset, i, 1)), _mm512_add_epi64(A[i], D[i - L]));
}

// floor of the first bits of T + A, by those of N.
static vec quotient_of_head(const struct wk_fold *fold, const vec *T, const vec *A) {
    const size_t at = fold->head_shift / LIMB_BITS, bits = fold->head_shift % LIMB_BITS;
    vec over = _mm512_setzero_si512();
    for (size_t i = at < GUARD ? 0 : at - GUARD; i < at; i++) carried(&over, _mm512_add_epi64(T[i], A[i]));
    const vec first = _mm512_and_si512(carried(&over, _mm512_add_epi64(T[at], A[at])), limb_mask());
    const vec second = carried(&over, _mm512_add_epi64(T[at + 1], A[at + 1]));
    const vec down = _mm512_srl_epi64(first, _mm_cvtsi64_si128((long long)bits));
    const vec up = _mm512_sll_epi64(second, _mm_cvtsi64_si128((long long)(LIMB_BITS - bits)));
    return hi(_mm512_setzero_si512(), _mm512_or_si512(down, up), limb_of(&fold->head_reciprocal, 0, 1));
}

// T + A mod N: the rest by the quotient of its first bits, and N once more where that was one too little.
static void finish(const struct wk_fold *fold, vec *out, vec *restrict less, const vec *restrict T, const vec *A, size_t W) {
    const vec zero = _mm512_setzero_si512(), mask = limb_mask(), e = quotient_of_head(fold, T, A);
    vec over = zero, under = zero, below = zero;
    for (size_t i = 0; i < W; i++) {
        const vec n = limb_of(fold->square, i, 1);
        const vec rest = _mm512_sub_epi64(_mm512_add_epi64(T[i], A[i]), lo(below, e, n));
        below = hi(zero, e, n);
        out[i] = carried(&over, rest);
        less[i] = carried(&under, _mm512_sub_epi64(rest, n));
    }
    const __mmask8 enough = _mm512_cmpeq_epi64_mask(under, over);
    for (size_t i = 0; i < W; i++) out[i] = _mm512_and_si512(_mm512_mask_blend_epi64(enough, out[i], less[i]), mask);
}

// A part of what is needed soon, on its way into the nearest cache beside the work: not many lines can be on their way at
// a time.
#define PARTS 8
static void fetch(const struct wk_ahead *ahead, size_t part) {
    for (size_t k = 0; k < WK_AHEAD; k++) {
        const size_t to = ahead->words[k] * (part + 1) / PARTS;
        for (size_t at = ahead->words[k] * part / PARTS / 8 * 8; at < to; at += 8) __builtin_prefetch(ahead->from[k] + at);
    }
}

static void multiply_folded(const struct wk_ring *ring, u64 *x, const struct wk_ahead *ahead) {
    const struct wk_fold *fold = &ring->fold;
    const size_t L = ring->limbs, W = 2 * L;
    const u64 *C = fold->power, *M = fold->multiple, *C_sums = C + W, *M_sums = M + W;
    // Everything in few lines of the cache: what is no longer needed makes room for what comes.
    vec *low = (vec *)x, *high = low + W, *T = high + W, *room = T + 2 * W, *q = room + 2 * W + 2, *sums = q + L;
    vec over = _mm512_setzero_si512();
    fetch(ahead, 0);
    multiply_full(q, T, low, high, L, fold->at, room);
    fetch(ahead, 1);
    add_all_halves(sums, q, L);
    multiply_constant(low, C, C_sums, q, sums, L, room);
    fetch(ahead, 2);
    multiply_constant(high, C + L, C_sums + sums_of(L), q, sums, L, room);
    fetch(ahead, 3);
    add_folded(q, T, low, high, fold, L);
    fetch(ahead, 4);
    upper_half(high, fold->reciprocal, q, L);
    for (size_t i = 0; i < L; i++) q[i] = _mm512_and_si512(carried(&over, high[i]), limb_mask());
    fetch(ahead, 5);
    add_all_halves(sums, q, L);
    multiply_constant(low, M, M_sums, q, sums, L, room);
    fetch(ahead, 6);
    lower_half(T + L, M + L, q, L);
    fetch(ahead, 7);
    finish(fold, low, high, T, low, W);
}

void (*const wk_ifma_multiply_folded)(const struct wk_ring *, u64 *, const struct wk_ahead *) = multiply_folded;

WK_TARGET_END

#else

void (*const wk_ifma_multiply_folded)(const struct wk_ring *, u64 *, const struct wk_ahead *) = 0;

#endif
