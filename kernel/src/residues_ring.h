// Inside of the residue kernel: the ring, and the operations that a path (AVX-512 IFMA, portable) provides.
//
// A number mod n^2 is kept as a pair (a, b), value a + n b, each half reduced by Montgomery's method mod n alone:
// of the halves' four products only three are needed, and both reductions are of half the length. With R = 2^(limb
// bits * limbs) > 2^8 n, and a product a a' = R a'' - m n from the first reduction,
//     (a + n b)(a' + n b') / R = a'' + n ((a b' + b a' - m) / R)     mod n^2.
// Bounds: halves that come out of `mul`, `square` and `times` are below n (1 + 2^-1), those of `into` below 6 n; every
// operation takes halves below 6 n, since 72 n^2 / R < n / 2.
//
// Lanes: an `element` is a pair for each lane, limb by limb: limb i of lane l is x[i * lanes + l], first the L limbs
// of a, then those of b; the next element is stride * lanes words further. An `entry` is the pair of one lane, the
// next one stride words further.

#ifndef WK_RESIDUES_RING_H
#define WK_RESIDUES_RING_H

#include <stddef.h>
#include <stdint.h>

#define WK_LANES_MAX 8
#define WK_LIMBS_MAX 80
#define WK_POWERS 5
// The first bits of n^2 and those of a number below 2^10 n^2: their product with a reciprocal of 21 bits fits 52.
#define WK_HEAD_BITS 20
#define WK_HEAD_PRODUCT_BITS 40

typedef uint64_t u64;

typedef struct wk_operations wk_operations;

// What residues_fold.c needs, limb by limb, the same for all lanes. Behind C and -M are, for each of their two halves, the
// sums of its halves and of theirs.
struct wk_fold {
    size_t at, cut;       // columns where the product is folded, and where the quotient's number begins
    size_t head_shift;    // bits of a rest below its first ones, which fit a limb
    u64 head_reciprocal;  // floor(2^52 / (n^2 without so many bits, and one)) - 1
    u64 *power;           // C = B^at mod n^2; all memory of these
    u64 *offset;          // -2 B^(at - 2) mod n^2
    u64 *reciprocal;      // floor(B^(cut + L) / M), L limbs
    u64 *multiple;        // -M mod B^(2 L)
    u64 *square;          // n^2
};

struct wk_ring {
    const wk_operations *operations;
    size_t limbs;          // L: limbs of one half
    size_t stride;         // words of an entry: 2 L, rounded up to whole cache lines
    size_t words;          // 64-bit words of n
    size_t square_words;   // 64-bit words of n^2, as ciphertexts have them
    u64 inverse;           // -1/n mod 2^(limb bits)
    u64 *n;                // L limbs in all lanes
    u64 *above;            // a multiple of n just above R, L + 1 limbs, with digits that no limb exceeds
    u64 *powers;           // R^1 .. R^5 mod n^2 as elements
    u64 *one;              // the number 1, L limbs in all lanes
    u64 *barrett;          // floor(B^(2 L + t) / n^2), B the base of limbs and B^t the power below n^2: 2 L limbs
    u64 *square;           // n^2: 2 L limbs
    size_t barrett_shift;  // t
    size_t head_shift;     // bits of n^2 below its first HEAD_BITS
    u64 head_reciprocal;   // floor(2^HEAD_PRODUCT_BITS / (first HEAD_BITS of n^2, and one))
    struct wk_fold fold;   // all zero where it was not prepared
};

struct wk_operations {
    size_t lanes;
    size_t limb_bits;
    // out = x y / R, x x / R, x a / R. `a` has L limbs. Any of them may be the same memory.
    void (*mul)(const struct wk_ring *ring, u64 *out, const u64 *x, const u64 *y);
    void (*square)(const struct wk_ring *ring, u64 *out, const u64 *x);
    void (*times)(const struct wk_ring *ring, u64 *out, const u64 *x, const u64 *a);
    // out = sum_k chunk_k constant_k / R: chunks of L limbs one after the other, constants are elements.
    void (*into)(const struct wk_ring *ring, u64 *out, const u64 *chunks, const u64 *const *constants, size_t count);
    // out = wide / R, wide having 2 L limbs and being below R n.
    void (*halve)(const struct wk_ring *ring, u64 *out, const u64 *wide);
    // wide = a + n b, below n^2, 2 L limbs; halves are below 3 n here.
    void (*flatten)(const struct wk_ring *ring, u64 *wide, const u64 *x);
    // out = x y mod n^2, below n^2, of plain numbers below n^2: 2 L limbs each. One product, where pairs would take one
    // and a way in and out.
    void (*multiply_plain)(const struct wk_ring *ring, u64 *out, const u64 *x, const u64 *y);
    // out = a b / R mod n, L limbs each.
    void (*mul_half)(const struct wk_ring *ring, u64 *out, const u64 *a, const u64 *b);
    // out = a b + addend: 2 L limbs each, out 4 L.
    void (*product)(const struct wk_ring *ring, u64 *out, const u64 *a, const u64 *b, const u64 *addend);
    // Limbs in `sum` grow; `carry` makes them limbs again, what is above the last being lost.
    void (*accumulate)(u64 *sum, const u64 *x, size_t limbs);
    void (*carry)(u64 *x, size_t limbs);
    // Lanes from entries and back.
    void (*load)(u64 *x, const u64 *const *entries, size_t limbs);
    void (*store)(u64 *const *entries, const u64 *x, size_t limbs);
    // Lanes from little-endian 64-bit words and back.
    void (*split)(u64 *x, size_t limbs, const u64 *const *rows, size_t words);
    void (*join)(u64 *const *rows, size_t words, const u64 *x, size_t limbs);
    // out = table[digit of the lane], all of the table being read whatever the digits.
    void (*pick)(const struct wk_ring *ring, u64 *out, const u64 *table, size_t count, const u64 *digits);
    // out = bit of each lane ? y : x
    void (*choose)(const struct wk_ring *ring, u64 *out, const u64 *x, const u64 *y, const u64 *bits);
};

extern const wk_operations wk_portable_operations;
extern const wk_operations wk_ifma_operations;

// Memory that is needed soon.
#define WK_AHEAD 3
struct wk_ahead {
    const u64 *from[WK_AHEAD];
    size_t words[WK_AHEAD];
};

// x = x y mod n^2 as `multiply_plain`, in a ring with `fold`: y and room for six such numbers are behind x, and lost. NULL
// where there are no lanes.
#define WK_FOLD_NUMBERS 8
extern void (*const wk_ifma_multiply_folded)(const struct wk_ring *ring, u64 *x, const struct wk_ahead *ahead);

// In a build for the constant-time check an index that is documented to depend on a secret (docs/paillier.md, what a
// neighbour on the machine may see) is declared public; everywhere else this is the index.
#ifdef WK_CHECK_CONSTANT_TIME
size_t wk_index(size_t index);
#else
static inline size_t wk_index(size_t index) { return index; }
#endif

// Whole cache lines, freed with free(); NULL where there is no memory.
u64 *wk_memory(size_t words);

static inline size_t wk_element(const struct wk_ring *ring) { return ring->stride * ring->operations->lanes; }

// R^power mod n^2 as an element, power 1 .. WK_POWERS.
static inline const u64 *wk_power_of_r(const struct wk_ring *ring, size_t power) {
    return ring->powers + (power - 1) * wk_element(ring);
}

// An element with the same number in all lanes, from little-endian words of its two halves.
void wk_spread_pair(const struct wk_ring *ring, u64 *x, const u64 *pair);

// The rows first .. first + lanes - 1 of a matrix, the last row again where there are no more.
void wk_rows(const u64 **rows, const u64 *matrix, size_t width, size_t first, size_t count, size_t lanes);
// The same for writing; what has no row goes to `spare`.
void wk_rows_out(u64 **rows, u64 *matrix, size_t width, size_t first, size_t count, size_t lanes, u64 *spare);

// x = X R^times for the numbers X of these rows: `words` words in k chunks of L limbs, times + k <= 5. `limbs` has room
// for four chunks.
void wk_enter(const struct wk_ring *ring, u64 *x, const u64 *const *rows, size_t words, u64 *limbs, size_t times);
// x = X / R for numbers below R n: a third of the work.
void wk_enter_divided(const struct wk_ring *ring, u64 *x, const u64 *const *rows, size_t words, u64 *limbs);
// The numbers of x (plain, not times R) to rows of n^2.
void wk_leave_plain(const struct wk_ring *ring, u64 *const *rows, const u64 *x, u64 *limbs);
// The numbers whose multiples by R are x.
void wk_leave(const struct wk_ring *ring, u64 *const *rows, u64 *x, u64 *limbs);
// x becomes, in all lanes, the product of all its lanes. `entries` has room for one entry a lane.
void wk_product_of_lanes(const struct wk_ring *ring, u64 *x, u64 *other, u64 *entries);

// Bits [first, first + count) of a number of `words` words; bits beyond it are zero.
static inline u64 wk_bits(const u64 *number, size_t words, size_t first, size_t count) {
    const size_t word = first / 64, shift = first % 64;
    u64 value = word < words ? number[word] >> shift : 0;
    if (shift != 0 && word + 1 < words) value |= number[word + 1] << (64 - shift);
    return count < 64 ? value & ((1ULL << count) - 1) : value;
}

#endif
