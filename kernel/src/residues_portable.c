// One number at a time, radix 2^56, for every machine with a 128-bit product.
//
// Sums of products are kept in 128 bits and carried at the end, as in the lanes: 2^112 a product, at most 10 L <= 800
// of them, so they stay below 2^122, and a product costs a multiplication and two additions.

#include "residues_ring.h"

#include <string.h>

#define LANES 1
#define LIMB_BITS 56
#define MASK ((1ULL << LIMB_BITS) - 1)

__extension__ typedef unsigned __int128 u128;
__extension__ typedef __int128 i128;
typedef u64 limb;
typedef u128 sum;

// t[0..lb + 3) += (x_0 + x_1 B + x_2 B^2 + x_3 B^3) b, from column `first` of 0, 3 or 4 on: each limb that is loaded
// serves four sums. lb is at least 4.
static inline void four_rows(sum *restrict t, const u64 *restrict x, const limb *restrict b, size_t lb, size_t first) {
    const u64 x0 = x[0], x1 = x[1], x2 = x[2], x3 = x[3];
    if (first == 0) {
        t[0] += (u128)x0 * b[0];
        t[1] += (u128)x0 * b[1] + (u128)x1 * b[0];
        t[2] += (u128)x0 * b[2] + (u128)x1 * b[1] + (u128)x2 * b[0];
    }
    for (size_t j = first > 3 ? first : 3; j < lb; j++)
        t[j] += (u128)x0 * b[j] + (u128)x1 * b[j - 1] + (u128)x2 * b[j - 2] + (u128)x3 * b[j - 3];
    t[lb] += (u128)x1 * b[lb - 1] + (u128)x2 * b[lb - 2] + (u128)x3 * b[lb - 3];
    t[lb + 1] += (u128)x2 * b[lb - 1] + (u128)x3 * b[lb - 2];
    t[lb + 2] += (u128)x3 * b[lb - 1];
}

static inline void one_row(sum *restrict t, u64 x, const limb *restrict b, size_t lb) {
    for (size_t j = 0; j < lb; j++) t[j] += (u128)x * b[j];
}

static void multiply(sum *restrict T, const limb *restrict a, size_t la, const limb *restrict b, size_t lb) {
    size_t i = 0;
    for (; lb >= 4 && i + 4 <= la; i += 4) four_rows(T + i, a + i, b, lb, 0);
    for (; i < la; i++) one_row(T + i, a[i], b, lb);
}

static void multiply_wide(sum *T, const limb *a, const limb *b, size_t W, sum *room) {
    (void)room;
    memset(T, 0, 2 * W * sizeof(sum));
    multiply(T, a, W, b, W);
}

static void multiply_high(sum *restrict T, const limb *restrict a, const limb *restrict b, size_t W) {
    // Rows of four from four columns below the cut on.
    for (size_t i = 0; i < W; i += 4) {
        const size_t rows = W - i < 4 ? W - i : 4, low = W > i + 8 ? W - i - 8 : 0;
        multiply(T + i + low, a + i, rows, b + low, W - low);
    }
}

static void multiply_low(sum *restrict T, const limb *restrict a, const limb *restrict b, size_t W) {
    for (size_t i = 0; i < W; i += 4) multiply(T + i, a + i, W - i < 4 ? W - i : 4, b, W - i);
}

static void multiply_self(sum *restrict T, const limb *restrict a, size_t L) {
    for (size_t i = 0; i < L; i += 4) {
        const size_t rows = L - i < 4 ? L - i : 4;
        u64 twice[4];
        for (size_t k = 0; k < rows; k++) {
            twice[k] = 2 * a[i + k];
            T[2 * (i + k)] += (u128)a[i + k] * a[i + k];
            for (size_t j = 0; j < k; j++) T[2 * i + j + k] += (u128)twice[j] * a[i + k];
        }
        if (i + rows < L) multiply(T + 2 * i + 4, twice, 4, a + i + 4, L - i - 4);
    }
}

static void carry_sums(limb *out, const sum *T, size_t limbs) {
    u128 over = 0;
    for (size_t i = 0; i < limbs; i++) {
        const u128 t = T[i] + over;
        out[i] = (u64)t & MASK;
        over = t >> LIMB_BITS;
    }
}

static void subtract_sums(limb *out, const sum *T, const sum *Q, size_t limbs) {
    i128 over = 0;
    for (size_t i = 0; i < limbs; i++) {
        const i128 d = (i128)T[i] - (i128)Q[i] + over;
        out[i] = (u64)d & MASK;
        over = d >> LIMB_BITS;
    }
}

static void reduce(const struct wk_ring *ring, limb *out, limb *m, sum *T) {
    const size_t L = ring->limbs;
    const limb *n = ring->n;
    const u64 inverse = ring->inverse;
    size_t i = 0;
    for (; i < L; i++) {
        // The digits of four columns, then their products with the rest of n.
        const size_t rows = L - i < 4 ? 1 : 4;
        for (size_t k = 0; k < rows; k++) {
            u128 t = T[i + k];
            for (size_t j = 0; j < k; j++) t += (u128)m[i + j] * n[k - j];
            m[i + k] = (u64)t * inverse & MASK;
            t += (u128)m[i + k] * n[0];
            T[i + k + 1] += t >> LIMB_BITS;
        }
        if (rows == 4) {
            four_rows(T + i, m + i, n, L, 4);
            i += 3;
        } else
            one_row(T + i + 1, m[i], n + 1, L - 1);
    }
    carry_sums(out, T + L, L);
}

static void subtract_once(limb *x, const limb *n, size_t L, limb *took) {
    limb less[2 * WK_LIMBS_MAX];
    u64 under = 0;
    for (size_t i = 0; i < L; i++) {
        const u64 d = x[i] - n[i] - under;
        less[i] = d & MASK;
        under = d >> 63;
    }
    const u64 keep = 0 - under;
    for (size_t i = 0; i < L; i++) x[i] = (x[i] & keep) | (less[i] & ~keep);
    *took = 1 - under;
}

static void subtract_multiple(limb *x, limb q, const limb *n, size_t L) {
    i128 over = 0;
    for (size_t i = 0; i < L; i++) {
        const i128 d = (i128)x[i] - (i128)((u128)q * n[i]) + over;
        x[i] = (u64)d & MASK;
        over = d >> LIMB_BITS;
    }
}

static inline limb low_product(limb x, limb y) { return x * y & MASK; }
static inline limb shifted_down(limb x, size_t bits) { return x >> bits; }
static inline limb all_lanes(u64 number) { return number; }

static void load(u64 *x, const u64 *const *entries, size_t limbs) { memcpy(x, entries[0], limbs * sizeof(u64)); }

static void store(u64 *const *entries, const u64 *x, size_t limbs) { memcpy(entries[0], x, limbs * sizeof(u64)); }

static void split(u64 *x, size_t limbs, const u64 *const *rows, size_t words) {
    for (size_t i = 0; i < limbs; i++) x[i] = wk_bits(rows[0], words, LIMB_BITS * i, LIMB_BITS);
}

static void join(u64 *const *rows, size_t words, const u64 *x, size_t limbs) {
    for (size_t k = 0; k < words; k++) {
        const size_t i = 64 * k / LIMB_BITS, shift = 64 * k % LIMB_BITS;
        u64 word = i < limbs ? x[i] >> shift : 0;
        if (i + 1 < limbs) word |= x[i + 1] << (LIMB_BITS - shift);
        if (i + 2 < limbs && 2 * LIMB_BITS - shift < 64) word |= x[i + 2] << (2 * LIMB_BITS - shift);
        rows[0][k] = word;
    }
}

static void pick(const struct wk_ring *ring, u64 *out, const u64 *table, size_t count, const u64 *digits) {
    const size_t limbs = 2 * ring->limbs;
    for (size_t d = 0; d < count; d++) {
        const u64 differ = d ^ digits[0];
        const u64 here = ((differ | (0 - differ)) >> 63) - 1;
        for (size_t i = 0; i < limbs; i++) out[i] = (out[i] & ~here) | (table[d * ring->stride + i] & here);
    }
}

static void choose(const struct wk_ring *ring, u64 *out, const u64 *x, const u64 *y, const u64 *bits) {
    const size_t limbs = 2 * ring->limbs;
    const u64 second = 0 - (bits[0] & 1);
    for (size_t i = 0; i < limbs; i++) out[i] = (x[i] & ~second) | (y[i] & second);
}

#define ROOM(name, sums, count) limb name[count]
#define OPERATIONS wk_portable_operations
#include "residues_pair.inc"
