// Eight numbers side by side: radix 2^52, one limb of eight numbers in a register, AVX-512 IFMA.
//
// Everything is made of tiles of 10 x 10 limbs: 200 multiply-adds on 20 accumulators and 10 multiplicands, which
// leaves one register for the multiplier. Two multiply-adds start in a cycle, and little else on their ports, so their
// number is nearly the time.
//
// Accumulators hold sums of 52-bit numbers: 2 L for each product that is added, four of them and a reduction in `into`
// with L <= 40, two and a reduction elsewhere with L <= 80: at most 480, so they stay below 2^61.

#include "residues_ring.h"

#if defined(__x86_64__)

#include "residues_lanes.h"

#include <string.h>

typedef vec limb;
typedef vec sum;

// T += a b for la limbs of a, in tens, and ten of b. The upper ten sums of one tile are the lower ten of the next and
// stay in their registers, so that no tile waits for the memory that the last one wrote.
static __attribute__((noinline)) void strip(vec *restrict T, const vec *restrict a, size_t la, const vec *restrict b) {
    vec t[2 * TILE], y[TILE];
    UNROLL for (int k = 0; k < 2 * TILE; k++) t[k] = T[k];
    UNROLL for (int k = 0; k < TILE; k++) y[k] = b[k];
    for (size_t at = TILE;; at += TILE) {
        UNROLL for (int i = 0; i < TILE; i++) {
            const vec x = a[i];
            UNROLL for (int j = 0; j < TILE; j++) t[i + j] = lo(t[i + j], x, y[j]);
            UNROLL for (int j = 0; j < TILE; j++) t[i + j + 1] = hi(t[i + j + 1], x, y[j]);
        }
        UNROLL for (int k = 0; k < TILE; k++) T[k] = t[k];
        T += TILE;
        a += TILE;
        UNROLL for (int k = 0; k < TILE; k++) t[k] = t[k + TILE];
        if (at >= la) break;
        UNROLL for (int k = 0; k < TILE; k++) t[k + TILE] = T[k + TILE];
    }
    UNROLL for (int k = 0; k < TILE; k++) T[k] = t[k];
}

// The products a_i a_j with i < j of one tile.
static __attribute__((noinline)) void tile_triangle(vec *restrict T, const vec *restrict a) {
    vec t[2 * TILE], y[TILE];
    UNROLL for (int k = 0; k < 2 * TILE; k++) t[k] = T[k];
    UNROLL for (int k = 0; k < TILE; k++) y[k] = a[k];
    UNROLL for (int i = 0; i < TILE - 1; i++) {
        UNROLL for (int j = i + 1; j < TILE; j++) t[i + j] = lo(t[i + j], y[i], y[j]);
        UNROLL for (int j = i + 1; j < TILE; j++) t[i + j + 1] = hi(t[i + j + 1], y[i], y[j]);
    }
    UNROLL for (int k = 0; k < 2 * TILE; k++) T[k] = t[k];
}

// Ten digits m with (T + m n) = 0 mod 2^520, the first tile of n, and the carry out of the ten limbs.
static __attribute__((noinline)) void tile_reduce(vec *restrict T, vec *restrict m, const vec *restrict n, u64 inverse) {
    vec t[2 * TILE];
    const vec zero = _mm512_setzero_si512(), mask = _mm512_set1_epi64((long long)MASK), one = _mm512_set1_epi64(1);
    const vec k = _mm512_set1_epi64((long long)inverse);
    UNROLL for (int i = 0; i < 2 * TILE; i++) t[i] = T[i];
    UNROLL for (int i = 0; i < TILE; i++) {
        const vec digit = lo(zero, t[i], k);
        m[i] = digit;
        // The low half of digit n_0 cancels what is in t[i]: a carry of one exactly if that was not zero.
        const __mmask8 some = _mm512_test_epi64_mask(t[i], mask);
        const vec over = _mm512_srli_epi64(t[i], 52);
        t[i + 1] = _mm512_add_epi64(t[i + 1], _mm512_mask_add_epi64(over, some, over, one));
        // The next digit waits for these two and for nothing else: side by side, and first.
        const vec above = hi(zero, digit, n[0]);
        t[i + 1] = _mm512_add_epi64(lo(t[i + 1], digit, n[1]), above);
        UNROLL for (int j = 2; j < TILE; j++) t[i + j] = lo(t[i + j], digit, n[j]);
        UNROLL for (int j = 1; j < TILE; j++) t[i + j + 1] = hi(t[i + j + 1], digit, n[j]);
    }
    UNROLL for (int i = TILE; i < 2 * TILE; i++) T[i] = t[i];
}

static void multiply(vec *T, const vec *a, size_t la, const vec *b, size_t lb) {
    for (size_t j = 0; j < lb; j += TILE) strip(T + j, a, la, b + j);
}

// x_0 + x_1 in limbs, for halves of H limbs; the carry out of the last, 0 or 1.
static vec add_halves(vec *out, const vec *x, size_t H) {
    const vec mask = _mm512_set1_epi64((long long)MASK);
    vec over = _mm512_setzero_si512();
    for (size_t i = 0; i < H; i++) {
        const vec sum = _mm512_add_epi64(_mm512_add_epi64(x[i], x[H + i]), over);
        out[i] = _mm512_and_si512(sum, mask);
        over = _mm512_srli_epi64(sum, 52);
    }
    return over;
}

// Karatsuba, once: (a_0 + a_1)(b_0 + b_1) - a_0 b_0 - a_1 b_1 in the middle. A sum of halves may have one bit more than
// its limbs; what that bit is worth is added under a mask. Columns in the middle may be below zero.
static void multiply_wide(vec *T, const vec *a, const vec *b, size_t W, vec *room) {
    const size_t H = W / 2;
    vec *M = room, *sa = room + W, *sb = room + W + H;
    const vec zero = _mm512_setzero_si512(), over_a = add_halves(sa, a, H), over_b = add_halves(sb, b, H);
    const vec mask_a = _mm512_sub_epi64(zero, over_a), mask_b = _mm512_sub_epi64(zero, over_b);
    memset(T, 0, 2 * W * sizeof(vec));
    memset(M, 0, W * sizeof(vec));
    multiply(T, a, H, b, H);
    multiply(T + W, a + H, H, b + H, H);
    multiply(M, sa, H, sb, H);
    for (size_t i = 0; i < H; i++)
        M[H + i] += _mm512_and_si512(mask_a, sb[i]) + _mm512_and_si512(mask_b, sa[i]);
    for (size_t i = 0; i < W; i++) M[i] -= T[i] + T[W + i];
    for (size_t i = 0; i < W; i++) T[H + i] += M[i];
    T[H + W] += _mm512_and_si512(over_a, over_b);
}

// The columns of a tile from the tenth on.
static __attribute__((noinline)) void tile_upper(vec *restrict T, const vec *restrict a, const vec *restrict b) {
    vec t[TILE], y[TILE];
    UNROLL for (int k = 0; k < TILE; k++) t[k] = T[k];
    UNROLL for (int k = 0; k < TILE; k++) y[k] = b[k];
    UNROLL for (int i = 0; i < TILE; i++) {
        const vec x = a[i];
        UNROLL for (int j = TILE - i; j < TILE; j++) t[i + j - TILE] = lo(t[i + j - TILE], x, y[j]);
        UNROLL for (int j = TILE - 1 - i; j < TILE; j++) t[i + j + 1 - TILE] = hi(t[i + j + 1 - TILE], x, y[j]);
    }
    UNROLL for (int k = 0; k < TILE; k++) T[k] = t[k];
}

// The columns of a tile up to the tenth.
static __attribute__((noinline)) void tile_lower(vec *restrict T, const vec *restrict a, const vec *restrict b) {
    vec t[TILE], y[TILE];
    UNROLL for (int k = 0; k < TILE; k++) t[k] = T[k];
    UNROLL for (int k = 0; k < TILE; k++) y[k] = b[k];
    UNROLL for (int i = 0; i < TILE; i++) {
        const vec x = a[i];
        UNROLL for (int j = 0; j < TILE - i; j++) t[i + j] = lo(t[i + j], x, y[j]);
        UNROLL for (int j = 0; j < TILE - 1 - i; j++) t[i + j + 1] = hi(t[i + j + 1], x, y[j]);
    }
    UNROLL for (int k = 0; k < TILE; k++) T[k] = t[k];
}

static void multiply_high(vec *T, const vec *a, const vec *b, size_t W) {
    for (size_t j = 0; j < W; j += TILE) {
        tile_upper(T + W, a + W - TILE - j, b + j);
        if (j) strip(T + W, a + W - j, j, b + j);
    }
}

static void multiply_low(vec *T, const vec *a, const vec *b, size_t W) {
    for (size_t j = 0; j < W; j += TILE) {
        if (j + TILE < W) strip(T + j, a, W - TILE - j, b + j);
        tile_lower(T + W - TILE, a + W - TILE - j, b + j);
    }
}

static void multiply_self(vec *T, const vec *a, size_t L) {
    for (size_t i = 0; i < L; i += TILE) {
        tile_triangle(T + 2 * i, a + i);
        if (i + TILE < L) strip(T + 2 * i + TILE, a + i + TILE, L - i - TILE, a + i);
    }
    for (size_t i = 0; i < L; i++) {
        const vec x = a[i];
        T[2 * i] = lo(_mm512_slli_epi64(T[2 * i], 1), x, x);
        T[2 * i + 1] = hi(_mm512_slli_epi64(T[2 * i + 1], 1), x, x);
    }
}

static void carry_sums(vec *out, const vec *t, size_t limbs) {
    const vec mask = _mm512_set1_epi64((long long)MASK);
    vec over = _mm512_setzero_si512();
    for (size_t i = 0; i < limbs; i++) {
        const vec sum = _mm512_add_epi64(t[i], over);
        out[i] = _mm512_and_si512(sum, mask);
        over = _mm512_srai_epi64(sum, 52);
    }
}

static void subtract_sums(vec *out, const vec *t, const vec *q, size_t limbs) {
    const vec mask = _mm512_set1_epi64((long long)MASK);
    vec over = _mm512_setzero_si512();
    for (size_t i = 0; i < limbs; i++) {
        const vec d = _mm512_add_epi64(_mm512_sub_epi64(t[i], q[i]), over);
        out[i] = _mm512_and_si512(d, mask);
        over = _mm512_srai_epi64(d, 52);
    }
}

// out = T / R mod n, the digits m of the reduction on the way.
static void reduce(const struct wk_ring *ring, vec *out, vec *m, vec *T) {
    const size_t L = ring->limbs;
    const vec *n = (const vec *)ring->n;
    for (size_t i = 0; i < L; i += TILE) {
        tile_reduce(T + i, m + i, n, ring->inverse);
        if (L > TILE) strip(T + i + TILE, n + TILE, L - TILE, m + i);
    }
    carry_sums(out, T + L, L);
}

// x - n where that is not negative; `took` gets one for each lane where it was.
static void subtract_once(vec *x, const vec *n, size_t L, vec *took) {
    const vec mask = _mm512_set1_epi64((long long)MASK), zero = _mm512_setzero_si512();
    vec less[2 * WK_LIMBS_MAX], borrow = zero;
    for (size_t i = 0; i < L; i++) {
        const vec d = _mm512_add_epi64(_mm512_sub_epi64(x[i], n[i]), borrow);
        less[i] = _mm512_and_si512(d, mask);
        borrow = _mm512_srai_epi64(d, 52);
    }
    const __mmask8 enough = _mm512_cmpeq_epi64_mask(borrow, zero);
    for (size_t i = 0; i < L; i++) x[i] = _mm512_mask_blend_epi64(enough, x[i], less[i]);
    *took = _mm512_maskz_set1_epi64(enough, 1);
}

static void subtract_multiple(vec *x, vec q, const vec *n, size_t L) {
    const vec mask = _mm512_set1_epi64((long long)MASK);
    vec over = _mm512_setzero_si512(), above = over;
    for (size_t i = 0; i < L; i++) {
        const vec taken = lo(above, q, n[i]);
        above = hi(_mm512_setzero_si512(), q, n[i]);
        const vec d = _mm512_add_epi64(_mm512_sub_epi64(x[i], taken), over);
        x[i] = _mm512_and_si512(d, mask);
        over = _mm512_srai_epi64(d, 52);
    }
}

static inline vec low_product(vec x, vec y) { return lo(_mm512_setzero_si512(), x, y); }
static inline vec shifted_down(vec x, size_t bits) { return _mm512_srl_epi64(x, _mm_cvtsi64_si128((long long)bits)); }
static inline vec all_lanes(u64 number) { return _mm512_set1_epi64((long long)number); }

static inline void transpose(vec *r) {
    vec s[8], t[8];
    UNROLL for (int i = 0; i < 8; i += 2) {
        s[i] = _mm512_unpacklo_epi64(r[i], r[i + 1]);
        s[i + 1] = _mm512_unpackhi_epi64(r[i], r[i + 1]);
    }
    UNROLL for (int i = 0; i < 8; i += 4) {
        UNROLL for (int j = 0; j < 2; j++) {
            t[i + j] = _mm512_shuffle_i64x2(s[i + j], s[i + j + 2], 0x88);
            t[i + j + 2] = _mm512_shuffle_i64x2(s[i + j], s[i + j + 2], 0xdd);
        }
    }
    UNROLL for (int j = 0; j < 4; j++) {
        r[j] = _mm512_shuffle_i64x2(t[j], t[j + 4], 0x88);
        r[j + 4] = _mm512_shuffle_i64x2(t[j], t[j + 4], 0xdd);
    }
}

static void load(u64 *x, const u64 *const *entries, size_t limbs) {
    vec *out = (vec *)x;
    for (size_t at = 0; at < limbs; at += 8) {
        vec r[8];
        UNROLL for (int l = 0; l < 8; l++) r[l] = _mm512_loadu_si512(entries[l] + at);
        transpose(r);
        UNROLL for (int l = 0; l < 8; l++) out[at + (size_t)l] = r[l];
    }
}

static void store(u64 *const *entries, const u64 *x, size_t limbs) {
    const vec *in = (const vec *)x;
    for (size_t at = 0; at < limbs; at += 8) {
        vec r[8];
        UNROLL for (int l = 0; l < 8; l++) r[l] = in[at + (size_t)l];
        transpose(r);
        UNROLL for (int l = 0; l < 8; l++) _mm512_storeu_si512(entries[l] + at, r[l]);
    }
}

// Eight words of eight rows, the way in: halves of two rows come together while they are loaded, which leaves two rounds
// of shuffles where registers alone would take three.
static inline void words_in(vec *out, const u64 *const *rows, size_t at) {
    UNROLL for (size_t half = 0; half < 8; half += 4) {
        vec u[4], s[4];
        UNROLL for (size_t k = 0; k < 4; k++) {
            const u64 *low = rows[k % 2 + k / 2 * 4] + at + half, *high = rows[k % 2 + k / 2 * 4 + 2] + at + half;
            const __m256i first = _mm256_loadu_si256((const __m256i *)low);
            u[k] = _mm512_inserti64x4(_mm512_castsi256_si512(first), _mm256_loadu_si256((const __m256i *)high), 1);
        }
        UNROLL for (int k = 0; k < 4; k += 2) {
            s[k] = _mm512_unpacklo_epi64(u[k], u[k + 1]);
            s[k + 1] = _mm512_unpackhi_epi64(u[k], u[k + 1]);
        }
        UNROLL for (size_t k = 0; k < 2; k++) {
            out[half + k] = _mm512_shuffle_i64x2(s[k], s[k + 2], 0x88);
            out[half + k + 2] = _mm512_shuffle_i64x2(s[k], s[k + 2], 0xdd);
        }
    }
}

// And the way out.
static inline void words_out(u64 *const *rows, size_t at, const vec *in) {
    const vec lower = _mm512_set_epi64(11, 10, 3, 2, 9, 8, 1, 0), upper = _mm512_set_epi64(15, 14, 7, 6, 13, 12, 5, 4);
    UNROLL for (size_t half = 0; half < 8; half += 4) {
        UNROLL for (size_t odd = 0; odd < 2; odd++) {
            const vec *w = in + half;
            const vec low = odd ? _mm512_unpackhi_epi64(w[0], w[1]) : _mm512_unpacklo_epi64(w[0], w[1]);
            const vec high = odd ? _mm512_unpackhi_epi64(w[2], w[3]) : _mm512_unpacklo_epi64(w[2], w[3]);
            const vec first = _mm512_permutex2var_epi64(low, lower, high), second = _mm512_permutex2var_epi64(low, upper, high);
            u64 *const *r = rows + odd;
            _mm256_storeu_si256((__m256i *)(r[0] + at + half), _mm512_castsi512_si256(first));
            _mm256_storeu_si256((__m256i *)(r[2] + at + half), _mm512_extracti64x4_epi64(first, 1));
            _mm256_storeu_si256((__m256i *)(r[4] + at + half), _mm512_castsi512_si256(second));
            _mm256_storeu_si256((__m256i *)(r[6] + at + half), _mm512_extracti64x4_epi64(second, 1));
        }
    }
}

// The last words of rows, fewer than eight.
static void last_words_in(vec *out, const u64 *const *rows, size_t at, size_t words) {
    u64 ends[LANES][8] = {{0}};
    const u64 *ends_of[LANES];
    for (size_t l = 0; l < LANES; l++) {
        memcpy(ends[l], rows[l] + at, (words - at) * sizeof(u64));
        ends_of[l] = ends[l];
    }
    words_in(out, ends_of, 0);
}

static void last_words_out(u64 *const *rows, size_t at, size_t words, const vec *in) {
    u64 ends[LANES][8], *ends_of[LANES];
    for (size_t l = 0; l < LANES; l++) ends_of[l] = ends[l];
    words_out(ends_of, 0, in);
    for (size_t l = 0; l < LANES; l++) memcpy(rows[l] + at, ends[l], (words - at) * sizeof(u64));
}

// 16 limbs are 13 words: within such a block every shift is a constant. Words are shuffled as blocks need them, so that
// shuffles and shifts, which have a port each, go side by side.
#define BLOCK_LIMBS 16
#define BLOCK_WORDS 13
#define EITHER_WITHIN 0xa8  // (low | high) & mask

static void split(u64 *x, size_t limbs, const u64 *const *rows, size_t words) {
    const vec mask = _mm512_set1_epi64((long long)MASK);
    vec W[4 * WK_LIMBS_MAX + 32];
    vec *out = (vec *)x;
    size_t have = 0;
    for (size_t first = 0, word = 0; first < limbs; first += BLOCK_LIMBS, word += BLOCK_WORDS) {
        for (; have <= word + BLOCK_WORDS; have += 8) {
            if (have + 8 <= words)
                words_in(W + have, rows, have);
            else if (have < words)
                last_words_in(W + have, rows, have, words);
            else
                memset(W + have, 0, 8 * sizeof(vec));
        }
        const vec *w = W + word;
        UNROLL for (size_t i = 0; i < BLOCK_LIMBS; i++) {
            const size_t at = 52 * i / 64, shift = 52 * i % 64;
            if (first + i >= limbs) break;
            const vec low = _mm512_srli_epi64(w[at], (unsigned)shift);
            const vec high = shift > 12 ? _mm512_slli_epi64(w[at + 1], (unsigned)(64 - shift)) : low;
            out[first + i] = _mm512_ternarylogic_epi64(low, high, mask, EITHER_WITHIN);
        }
    }
}

static void join(u64 *const *rows, size_t words, const u64 *x, size_t limbs) {
    const vec *in = (const vec *)x;
    vec W[4 * WK_LIMBS_MAX + 32];
    size_t done = 0;
    for (size_t first = 0, word = 0; done < words; first += BLOCK_LIMBS, word += BLOCK_WORDS) {
        UNROLL for (size_t k = 0; k < BLOCK_WORDS; k++) {
            const size_t limb = first + 64 * k / 52, shift = 64 * k % 52;
            vec v = _mm512_setzero_si512();
            if (limb < limbs) v = _mm512_srli_epi64(in[limb], (unsigned)shift);
            if (limb + 1 < limbs) v = _mm512_or_si512(v, _mm512_slli_epi64(in[limb + 1], (unsigned)(52 - shift)));
            if (104 - shift < 64 && limb + 2 < limbs)
                v = _mm512_or_si512(v, _mm512_slli_epi64(in[limb + 2], (unsigned)(104 - shift)));
            W[word + k] = v;
        }
        for (; done + 8 <= word + BLOCK_WORDS && done + 8 <= words; done += 8) words_out(rows, done, W + done);
        if (done + 8 > words && words <= word + BLOCK_WORDS) {
            if (done < words) last_words_out(rows, done, words, W + done);
            return;
        }
    }
}

static void pick(const struct wk_ring *ring, u64 *out, const u64 *table, size_t count, const u64 *digits) {
    const size_t limbs = 2 * ring->limbs;
    vec *o = (vec *)out;
    const vec wanted = _mm512_loadu_si512(digits);
    for (size_t d = 0; d < count; d++) {
        const vec *entry = (const vec *)table + d * ring->stride;
        const __mmask8 here = _mm512_cmpeq_epi64_mask(wanted, _mm512_set1_epi64((long long)d));
        for (size_t i = 0; i < limbs; i++) o[i] = _mm512_mask_mov_epi64(o[i], here, entry[i]);
    }
}

static void choose(const struct wk_ring *ring, u64 *out, const u64 *x, const u64 *y, const u64 *bits) {
    const size_t limbs = 2 * ring->limbs;
    const __mmask8 second = _mm512_test_epi64_mask(_mm512_loadu_si512(bits), _mm512_set1_epi64(1));
    for (size_t i = 0; i < limbs; i++)
        ((vec *)out)[i] = _mm512_mask_blend_epi64(second, ((const vec *)x)[i], ((const vec *)y)[i]);
}

#define ROOM(name, sums, count) vec *name = (sums)
#define OPERATIONS wk_ifma_operations
#include "residues_pair.inc"

WK_TARGET_END

#else

const wk_operations wk_ifma_operations = {0};

#endif
