// Rings, and the way of numbers in and out of lanes.

#define _DEFAULT_SOURCE  // madvise

#include "residues.h"

#include "dispatch.h"
#include "residues_ring.h"

#include <stdlib.h>
#include <string.h>
#if defined(__linux__)
#include <sys/mman.h>
#endif

#define LARGE_PAGE ((size_t)2 << 20)
#define SLACK_BITS 8
#define TILE 10

// Tables are read at places that nobody can foresee: on pages of 2 MiB that costs no walk through the page tables.
static void *on_large_pages(size_t bytes) {
    void *memory = aligned_alloc(LARGE_PAGE, (bytes + LARGE_PAGE - 1) / LARGE_PAGE * LARGE_PAGE);
#if defined(__linux__)
    if (memory) (void)madvise(memory, bytes, MADV_HUGEPAGE);  // only a wish
#endif
    return memory;
}

u64 *wk_memory(size_t words) {
    const size_t bytes = (words * sizeof(u64) + 63) / 64 * 64;
    u64 *memory = bytes < 2 * LARGE_PAGE ? aligned_alloc(64, bytes ? bytes : 64) : on_large_pages(bytes);
    if (memory) memset(memory, 0, bytes);
    return memory;
}

static const wk_operations *present(void) {
    return wk_path_get() == WK_AVX512IFMA ? &wk_ifma_operations : &wk_portable_operations;
}

static size_t limbs_for(const wk_operations *operations, size_t bits) {
    const size_t limbs = (bits + SLACK_BITS + operations->limb_bits - 1) / operations->limb_bits;
    return operations->lanes == 1 ? (limbs < 4 ? 4 : limbs) : (limbs + TILE - 1) / TILE * TILE;
}

size_t wk_ring_bits(size_t bits) {
    const wk_operations *operations = present();
    const size_t limbs = limbs_for(operations, bits);
    return limbs > WK_LIMBS_MAX ? 0 : limbs * operations->limb_bits;
}

static void spread(const struct wk_ring *ring, u64 *x, size_t limbs, const u64 *number, size_t words) {
    const u64 *rows[WK_LANES_MAX];
    for (size_t l = 0; l < WK_LANES_MAX; l++) rows[l] = number;
    ring->operations->split(x, limbs, rows, words);
}

void wk_spread_pair(const struct wk_ring *ring, u64 *x, const u64 *pair) {
    spread(ring, x, ring->limbs, pair, ring->words);
    spread(ring, x + ring->limbs * ring->operations->lanes, ring->limbs, pair + ring->words, ring->words);
}

// -1/n mod 2^(limb bits), by Newton: each round doubles the bits that are right, from three.
static u64 inverse_of(u64 n, size_t limb_bits) {
    u64 inverse = n;
    for (int round = 0; round < 5; round++) inverse *= 2 - n * inverse;
    inverse = 0 - inverse;
    return inverse & ((1ULL << limb_bits) - 1);
}

// Digits that no limb exceeds, so that limbs can be subtracted without a borrow: each but the last lends
// one to its lower neighbour.
static void lend(const struct wk_ring *ring) {
    const size_t lanes = ring->operations->lanes, L = ring->limbs;
    const u64 unit = 1ULL << ring->operations->limb_bits;
    for (size_t l = 0; l < lanes; l++) {
        ring->above[l] += unit;
        for (size_t i = 1; i < L; i++) ring->above[i * lanes + l] += unit - 1;
        ring->above[L * lanes + l] -= 1;
    }
}

wk_ring *wk_ring_new(const uint64_t *n, size_t words, size_t square_words, const uint64_t *powers,
                     const uint64_t *above, size_t above_words) {
    const wk_operations *operations = present();
    size_t bits = 64 * words;
    while (bits > 0 && !(n[(bits - 1) / 64] >> ((bits - 1) % 64) & 1)) bits--;
    const size_t L = limbs_for(operations, bits), lanes = operations->lanes;
    wk_ring *ring = L > WK_LIMBS_MAX ? NULL : calloc(1, sizeof *ring);
    if (!ring) return NULL;
    *ring = (wk_ring){.operations = operations, .limbs = L, .stride = (2 * L + 7) / 8 * 8, .words = words};
    ring->square_words = square_words;
    ring->inverse = inverse_of(n[0], operations->limb_bits);
    ring->n = wk_memory(L * lanes);
    ring->above = wk_memory((L + 1) * lanes);
    ring->powers = wk_memory(WK_POWERS * wk_element(ring));
    ring->one = wk_memory(L * lanes);
    if (!ring->n || !ring->above || !ring->powers || !ring->one) {
        wk_ring_free(ring);
        return NULL;
    }
    spread(ring, ring->n, L, n, words);
    spread(ring, ring->above, L + 1, above, above_words);
    lend(ring);
    for (size_t k = 0; k < WK_POWERS; k++) wk_spread_pair(ring, ring->powers + k * wk_element(ring), powers + 2 * k * words);
    for (size_t l = 0; l < lanes; l++) ring->one[l] = 1;
    return ring;
}

size_t wk_ring_limb_bits(const wk_ring *ring) { return ring->operations->limb_bits; }

int wk_ring_prepare(wk_ring *ring, const uint64_t *square, const uint64_t *reciprocal, size_t words, size_t shift) {
    const size_t wide = 2 * ring->limbs, lanes = ring->operations->lanes;
    size_t bits = 64 * words;
    while (bits > 0 && !(square[(bits - 1) / 64] >> ((bits - 1) % 64) & 1)) bits--;
    ring->barrett_shift = shift;
    ring->head_shift = bits - WK_HEAD_BITS;
    ring->head_reciprocal = (1ULL << WK_HEAD_PRODUCT_BITS) / (wk_bits(square, words, ring->head_shift, WK_HEAD_BITS) + 1);
    ring->barrett = wk_memory(wide * lanes);
    ring->square = wk_memory(wide * lanes);
    if (!ring->barrett || !ring->square) return -1;
    spread(ring, ring->barrett, wide, reciprocal, words);
    spread(ring, ring->square, wide, square, words);
    return 0;
}

int wk_ring_folds(const wk_ring *ring) { return ring->operations == &wk_ifma_operations; }

static void limbs_of(const struct wk_ring *ring, u64 *x, size_t limbs, const u64 *number, size_t words) {
    const size_t bits = ring->operations->limb_bits;
    for (size_t i = 0; i < limbs; i++) x[i] = wk_bits(number, words, i * bits, bits);
}

// Sums of halves, as residues_fold.c lays them out. Returns where they end.
static u64 *sums_of(u64 *sums, const u64 *x, size_t n, size_t bits) {
    const size_t H = n / 2;
    u64 over = 0;
    if (n % (2 * TILE)) return sums;
    for (size_t i = 0; i < H; i++) {
        const u64 sum = x[i] + x[H + i] + over;
        sums[i] = sum & ((1ULL << bits) - 1);
        over = sum >> bits;
    }
    sums[H] = over;
    u64 *end = sums_of(sums + H + 1, x, H, bits);
    end = sums_of(end, x + H, H, bits);
    return sums_of(end, sums, H, bits);
}

// Two factors of L limbs, and behind both the sums of their halves.
static u64 *factors_of(const struct wk_ring *ring, u64 *x, const u64 *number, size_t words) {
    const size_t L = ring->limbs, bits = ring->operations->limb_bits;
    limbs_of(ring, x, 2 * L, number, words);
    return sums_of(sums_of(x + 2 * L, x, L, bits), x + L, L, bits);
}

int wk_ring_prepare_fold(wk_ring *ring, const uint64_t *constants, size_t words, size_t at, size_t cut,
                         size_t head_shift, uint64_t head_reciprocal) {
    const size_t L = ring->limbs;
    struct wk_fold fold = {.at = at, .cut = cut, .head_shift = head_shift, .head_reciprocal = head_reciprocal};
    if (!wk_ring_folds(ring)) return 0;
    // Two factors of 2 L limbs, whose sums of halves are less than six times L, and three numbers.
    fold.power = wk_memory(2 * (2 + 6) * L + 5 * L);
    if (!fold.power) return -1;
    fold.multiple = factors_of(ring, fold.power, constants, words);
    fold.offset = factors_of(ring, fold.multiple, constants + words, words);
    fold.square = fold.offset + 2 * L;
    fold.reciprocal = fold.square + 2 * L;
    limbs_of(ring, fold.offset, 2 * L, constants + 2 * words, words);
    limbs_of(ring, fold.square, 2 * L, constants + 3 * words, words);
    limbs_of(ring, fold.reciprocal, L, constants + 4 * words, words);
    ring->fold = fold;
    return 0;
}

void wk_ring_free(wk_ring *ring) {
    if (!ring) return;
    free(ring->fold.power);
    free(ring->n);
    free(ring->above);
    free(ring->powers);
    free(ring->one);
    free(ring->barrett);
    free(ring->square);
    free(ring);
}

void wk_rows(const u64 **rows, const u64 *matrix, size_t width, size_t first, size_t count, size_t lanes) {
    for (size_t l = 0; l < lanes; l++) rows[l] = matrix + width * (first + l < count ? first + l : count - 1);
}

void wk_rows_out(u64 **rows, u64 *matrix, size_t width, size_t first, size_t count, size_t lanes, u64 *spare) {
    for (size_t l = 0; l < lanes; l++) rows[l] = first + l < count ? matrix + width * (first + l) : spare;
}

void wk_enter(const struct wk_ring *ring, u64 *x, const u64 *const *rows, size_t words, u64 *limbs, size_t times) {
    const u64 *constants[WK_POWERS - 1];
    const size_t bits = ring->limbs * ring->operations->limb_bits, chunks = (64 * words + bits - 1) / bits;
    ring->operations->split(limbs, chunks * ring->limbs, rows, words);
    for (size_t k = 0; k < chunks; k++) constants[k] = wk_power_of_r(ring, k + 1 + times);
    ring->operations->into(ring, x, limbs, constants, chunks);
}

void wk_enter_divided(const struct wk_ring *ring, u64 *x, const u64 *const *rows, size_t words, u64 *limbs) {
    ring->operations->split(limbs, 2 * ring->limbs, rows, words);
    ring->operations->halve(ring, x, limbs);
}

void wk_leave_plain(const struct wk_ring *ring, u64 *const *rows, const u64 *x, u64 *limbs) {
    ring->operations->flatten(ring, limbs, x);
    ring->operations->join(rows, ring->square_words, limbs, 2 * ring->limbs);
}

void wk_leave(const struct wk_ring *ring, u64 *const *rows, u64 *x, u64 *limbs) {
    ring->operations->times(ring, x, x, ring->one);
    wk_leave_plain(ring, rows, x, limbs);
}

void wk_product_of_lanes(const struct wk_ring *ring, u64 *x, u64 *other, u64 *entries) {
    const size_t lanes = ring->operations->lanes;
    for (size_t step = lanes / 2; step > 0; step /= 2) {
        u64 *to[WK_LANES_MAX];
        const u64 *from[WK_LANES_MAX];
        for (size_t l = 0; l < lanes; l++) {
            to[l] = entries + l * ring->stride;
            from[l] = entries + (l ^ step) * ring->stride;
        }
        ring->operations->store(to, x, 2 * ring->limbs);
        ring->operations->load(other, from, 2 * ring->limbs);
        ring->operations->mul(ring, x, x, other);
    }
}
