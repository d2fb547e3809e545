// Fixed bases: powers from tables, and encryption by the owner of the key.
//
// A table has one block of 2^window entries for each window of each exponent. For an owner an entry is not (a, b) but
// (a, c) with a (1 + p c) the same number: then powers are multiplied by their first halves alone, which is 20 tiles'
// work of 25, and what the second halves do is the sum of all c, applied once at the end. The plaintext is one more
// term of that sum, for 1 + v N = 1 + p (v q mod p).

#include "residues.h"

#include "residues_ring.h"

#include <stdlib.h>
#include <string.h>

struct wk_table {
    const struct wk_ring *ring;
    size_t blocks;  // bases times windows
    size_t window;
    int halved;     // entries are (a, c)
    u64 *entries;
};

struct wk_owner {
    const struct wk_ring *ring[2];
    const struct wk_table *table[2];
    u64 *joints;    // four elements mod q^2
    u64 *p_square;  // 2 L limbs in all lanes
};

// Entry of each block's first power: base^(2^(window k)) for block k of the base.
static int first_powers(const struct wk_ring *ring, u64 *steps, const u64 *bases, size_t count, size_t windows,
                        size_t window) {
    const wk_operations *op = ring->operations;
    u64 *x = wk_memory(wk_element(ring)), *limbs = wk_memory(4 * ring->limbs * op->lanes);
    u64 *spare = wk_memory(ring->stride);
    const int status = x && limbs && spare ? 0 : -1;
    for (size_t first = 0; status == 0 && first < count; first += op->lanes) {
        const u64 *rows[WK_LANES_MAX];
        u64 *out[WK_LANES_MAX];
        wk_rows(rows, bases, ring->square_words, first, count, op->lanes);
        wk_enter(ring, x, rows, ring->square_words, limbs, 1);
        for (size_t k = 0; k < windows; k++) {
            for (size_t l = 0; l < op->lanes; l++)
                out[l] = first + l < count ? steps + ((first + l) * windows + k) * ring->stride : spare;
            op->store(out, x, 2 * ring->limbs);
            for (size_t bit = 0; k + 1 < windows && bit < window; bit++) op->square(ring, x, x);
        }
    }
    free(x);
    free(limbs);
    free(spare);
    return status;
}

// All powers below 2^window of the first powers in `steps`, as blocks of entries.
static int fill(const struct wk_ring *ring, u64 *entries, const u64 *steps, size_t blocks, size_t window) {
    const wk_operations *op = ring->operations;
    const size_t size = (size_t)1 << window;
    u64 *x = wk_memory(wk_element(ring)), *step = wk_memory(wk_element(ring)), *spare = wk_memory(ring->stride);
    const int status = x && step && spare ? 0 : -1;
    for (size_t first = 0; status == 0 && first < blocks; first += op->lanes) {
        const u64 *rows[WK_LANES_MAX];
        u64 *out[WK_LANES_MAX];
        wk_rows(rows, steps, ring->stride, first, blocks, op->lanes);
        op->load(step, rows, 2 * ring->limbs);
        memcpy(x, wk_power_of_r(ring, 1), wk_element(ring) * sizeof(u64));
        for (size_t d = 0; d < size; d++) {
            for (size_t l = 0; l < op->lanes; l++)
                out[l] = first + l < blocks ? entries + ((first + l) * size + d) * ring->stride : spare;
            op->store(out, x, 2 * ring->limbs);
            if (d + 1 < size) op->mul(ring, x, x, step);
        }
    }
    free(x);
    free(step);
    free(spare);
    return status;
}

// (a, b) becomes (a, c R), c = b / a mod p: 1 / a is in the table of the inverses.
static int halve_entries(const struct wk_ring *ring, u64 *entries, const u64 *inverses, size_t count) {
    const wk_operations *op = ring->operations;
    const size_t half = ring->limbs * op->lanes;
    u64 *x = wk_memory(wk_element(ring)), *y = wk_memory(wk_element(ring)), *spare = wk_memory(ring->stride);
    const int status = x && y && spare ? 0 : -1;
    for (size_t first = 0; status == 0 && first < count; first += op->lanes) {
        const u64 *rows[WK_LANES_MAX];
        u64 *out[WK_LANES_MAX];
        wk_rows(rows, entries, ring->stride, first, count, op->lanes);
        op->load(x, rows, 2 * ring->limbs);
        wk_rows(rows, inverses, ring->stride, first, count, op->lanes);
        op->load(y, rows, 2 * ring->limbs);
        op->mul_half(ring, x + half, x + half, y);
        wk_rows_out(out, entries, ring->stride, first, count, op->lanes, spare);
        op->store(out, x, 2 * ring->limbs);
    }
    free(x);
    free(y);
    free(spare);
    return status;
}

wk_table *wk_table_new(const wk_ring *ring, const uint64_t *bases, const uint64_t *inverses, size_t count,
                       size_t windows, size_t window) {
    const size_t blocks = count * windows, size = (blocks << window) * ring->stride;
    u64 *steps = wk_memory(blocks * ring->stride), *entries = wk_memory(size);
    u64 *inverted = inverses ? wk_memory(size) : NULL;
    wk_table *table = malloc(sizeof *table);
    int status = steps && entries && table && (inverted || !inverses) ? 0 : -1;
    if (status == 0) status = first_powers(ring, steps, bases, count, windows, window);
    if (status == 0) status = fill(ring, entries, steps, blocks, window);
    if (status == 0 && inverses) {
        status = first_powers(ring, steps, inverses, count, windows, window);
        if (status == 0) status = fill(ring, inverted, steps, blocks, window);
        if (status == 0) status = halve_entries(ring, entries, inverted, blocks << window);
    }
    free(steps);
    free(inverted);
    if (status != 0) {
        free(entries);
        free(table);
        return NULL;
    }
    *table = (wk_table){.ring = ring, .blocks = blocks, .window = window, .halved = inverses != NULL, .entries = entries};
    return table;
}

void wk_table_free(wk_table *table) {
    if (!table) return;
    free(table->entries);
    free(table);
}

static u64 byte_bits(const uint8_t *bytes, size_t length, size_t first, size_t count) {
    u64 value = 0;
    for (size_t k = 0; k < 4; k++) {
        const size_t at = first / 8 + k;
        if (at < length) value |= (u64)bytes[at] << (8 * k);
    }
    return value >> (first % 8) & ((1ULL << count) - 1);
}

// The entries that block `block` contributes to each lane's power, and a hint to fetch those of a later block.
static void find(const struct wk_table *table, const u64 **rows, const uint8_t *const *exponents, size_t length,
                 size_t block) {
    const size_t size = (size_t)1 << table->window, lanes = table->ring->operations->lanes;
    for (size_t l = 0; l < lanes; l++) {
        const size_t digit = wk_index(byte_bits(exponents[l], length, block * table->window, table->window));
        rows[l] = table->entries + (block * size + digit) * table->ring->stride;
        for (size_t k = 0; k < table->ring->stride; k += 8) __builtin_prefetch(rows[l] + k);
    }
}

static void exponent_rows(const uint8_t **rows, const uint8_t *exponents, size_t width, size_t first, size_t count,
                          size_t lanes) {
    for (size_t l = 0; l < lanes; l++) rows[l] = exponents + width * (first + l < count ? first + l : count - 1);
}

int wk_table_powers(const wk_table *table, uint64_t *out, const uint64_t *factors, const uint8_t *exponents,
                    size_t exponent_bytes, size_t count) {
    const struct wk_ring *ring = table->ring;
    const wk_operations *op = ring->operations;
    u64 *x = wk_memory(wk_element(ring)), *y = wk_memory(wk_element(ring));
    u64 *limbs = wk_memory(4 * ring->limbs * op->lanes), *spare = wk_memory(ring->square_words);
    const int status = x && y && limbs && spare ? 0 : -1;
    for (size_t first = 0; status == 0 && first < count; first += op->lanes) {
        const uint8_t *digits[WK_LANES_MAX];
        const u64 *rows[WK_LANES_MAX], *next[WK_LANES_MAX];
        u64 *results[WK_LANES_MAX];
        exponent_rows(digits, exponents, exponent_bytes, first, count, op->lanes);
        find(table, next, digits, exponent_bytes, 0);
        wk_rows(rows, factors, ring->square_words, first, count, op->lanes);
        wk_enter(ring, x, rows, ring->square_words, limbs, 1);
        for (size_t block = 0; block < table->blocks; block++) {
            memcpy(rows, next, sizeof rows);
            if (block + 1 < table->blocks) find(table, next, digits, exponent_bytes, block + 1);
            op->load(y, rows, 2 * ring->limbs);
            op->mul(ring, x, x, y);
        }
        wk_rows_out(results, out, ring->square_words, first, count, op->lanes, spare);
        wk_leave(ring, results, x, limbs);
    }
    free(x);
    free(y);
    free(limbs);
    free(spare);
    return status;
}

wk_owner *wk_owner_new(const wk_ring *p, const wk_table *at_p, const wk_ring *q, const wk_table *at_q,
                       const uint64_t *joints, const uint64_t *p_square, size_t p_square_words) {
    const size_t lanes = q->operations->lanes;
    wk_owner *owner = calloc(1, sizeof *owner);
    if (!owner) return NULL;
    *owner = (wk_owner){.ring = {p, q}, .table = {at_p, at_q}};
    owner->joints = wk_memory(4 * wk_element(q));
    owner->p_square = wk_memory(2 * q->limbs * lanes);
    if (!owner->joints || !owner->p_square) {
        wk_owner_free(owner);
        return NULL;
    }
    for (size_t k = 0; k < 4; k++) wk_spread_pair(q, owner->joints + k * wk_element(q), joints + 2 * k * q->words);
    const u64 *rows[WK_LANES_MAX];
    for (size_t l = 0; l < WK_LANES_MAX; l++) rows[l] = p_square;
    q->operations->split(owner->p_square, 2 * q->limbs, rows, p_square_words);
    return owner;
}

void wk_owner_free(wk_owner *owner) {
    if (!owner) return;
    free(owner->joints);
    free(owner->p_square);
    free(owner);
}

// The ciphertexts of some lanes mod the square of one prime, as a plain pair: prod_k a_k (1 + p (sum_k c_k + plain)).
static void half_encrypt(const struct wk_table *table, u64 *x, u64 *entry, u64 *sum, const uint8_t *const *exponents,
                         size_t length, const u64 *const *plain) {
    const struct wk_ring *ring = table->ring;
    const wk_operations *op = ring->operations;
    const size_t L = ring->limbs, half = L * op->lanes;
    const u64 *rows[WK_LANES_MAX], *next[WK_LANES_MAX];
    op->split(sum, L, plain, ring->words);
    find(table, rows, exponents, length, 0);
    op->load(x, rows, 2 * L);
    op->accumulate(sum, x + half, L);
    memset(x + half, 0, half * sizeof(u64));
    find(table, next, exponents, length, table->blocks > 1);
    for (size_t block = 1; block < table->blocks; block++) {
        memcpy(rows, next, sizeof rows);
        if (block + 1 < table->blocks) find(table, next, exponents, length, block + 1);
        op->load(entry, rows, 2 * L);
        op->accumulate(sum, entry + half, L);
        op->times(ring, x, x, entry);
    }
    op->carry(sum, L);
    op->mul_half(ring, sum, sum, x);
    op->accumulate(x + half, sum, L);
    op->carry(x + half, L);
    op->times(ring, x, x, ring->one);
}

int wk_owner_encrypt(const wk_owner *owner, uint64_t *out, size_t out_words, const uint8_t *exponents_p,
                     size_t bytes_p, const uint8_t *exponents_q, size_t bytes_q, const uint64_t *plain_p,
                     const uint64_t *plain_q, size_t count) {
    const struct wk_ring *p = owner->ring[0], *q = owner->ring[1];
    const wk_operations *op = q->operations;
    const size_t half = q->limbs * op->lanes;
    const u64 *constants[4];
    u64 *x = wk_memory(wk_element(q)), *entry = wk_memory(wk_element(q)), *sum = wk_memory(half);
    u64 *chunks = wk_memory(4 * half), *wide = wk_memory(2 * half), *joined = wk_memory(4 * half);
    u64 *spare = wk_memory(out_words);
    const int status = x && entry && sum && chunks && wide && joined && spare ? 0 : -1;
    for (size_t k = 0; k < 4; k++) constants[k] = owner->joints + k * wk_element(q);
    for (size_t first = 0; status == 0 && first < count; first += op->lanes) {
        const uint8_t *exponents[WK_LANES_MAX];
        const u64 *plain[WK_LANES_MAX];
        u64 *results[WK_LANES_MAX];
        exponent_rows(exponents, exponents_p, bytes_p, first, count, op->lanes);
        wk_rows(plain, plain_p, p->words, first, count, op->lanes);
        half_encrypt(owner->table[0], x, entry, sum, exponents, bytes_p, plain);
        op->flatten(p, chunks, x);
        exponent_rows(exponents, exponents_q, bytes_q, first, count, op->lanes);
        wk_rows(plain, plain_q, q->words, first, count, op->lanes);
        half_encrypt(owner->table[1], x, entry, sum, exponents, bytes_q, plain);
        // c = c_p + p^2 (u (c_q - c_p) mod q^2)
        memcpy(chunks + 2 * half, x, 2 * half * sizeof(u64));
        op->into(q, x, chunks, constants, 4);
        op->flatten(q, wide, x);
        op->product(q, joined, wide, owner->p_square, chunks);
        wk_rows_out(results, out, out_words, first, count, op->lanes, spare);
        op->join(results, out_words, joined, 4 * q->limbs);
    }
    free(x);
    free(entry);
    free(sum);
    free(chunks);
    free(wide);
    free(joined);
    free(spare);
    return status;
}
