// Powers and products where every lane does the same: row by row, or with one exponent for all.

#include "residues.h"

#include "residues_ring.h"

#include <stdlib.h>
#include <string.h>

#define POWER_WINDOW 4

// What a function needs of memory, taken at once and freed at once.
typedef struct {
    u64 *x, *y, *limbs, *spare, *table;
    int status;
} workspace;

static workspace take(const struct wk_ring *ring, size_t elements) {
    workspace w = {.x = wk_memory(wk_element(ring)), .y = wk_memory(wk_element(ring))};
    w.limbs = wk_memory(4 * ring->limbs * ring->operations->lanes);
    w.spare = wk_memory(ring->square_words > ring->stride ? ring->square_words : ring->stride);
    w.table = wk_memory((elements ? elements : 1) * wk_element(ring));
    w.status = w.x && w.y && w.limbs && w.spare && w.table ? 0 : -1;
    return w;
}

static int give_back(workspace w) {
    free(w.x);
    free(w.y);
    free(w.limbs);
    free(w.spare);
    free(w.table);
    return w.status;
}

static void copy(const struct wk_ring *ring, u64 *to, const u64 *from) {
    memcpy(to, from, wk_element(ring) * sizeof(u64));
}

static void leave_rows(const struct wk_ring *ring, workspace w, uint64_t *out, size_t first, size_t count, int plain) {
    u64 *rows[WK_LANES_MAX];
    wk_rows_out(rows, out, ring->square_words, first, count, ring->operations->lanes, w.spare);
    if (plain)
        wk_leave_plain(ring, rows, w.x, w.limbs);
    else
        wk_leave(ring, rows, w.x, w.limbs);
}

int wk_power(const wk_ring *ring, uint64_t *out, const uint64_t *in, size_t in_words, size_t count,
             const uint64_t *exponent, size_t exponent_words, size_t bits) {
    const wk_operations *op = ring->operations;
    const size_t size = (size_t)1 << POWER_WINDOW, positions = (bits + POWER_WINDOW - 1) / POWER_WINDOW;
    workspace w = take(ring, size);
    for (size_t first = 0; w.status == 0 && first < count; first += op->lanes) {
        const u64 *rows[WK_LANES_MAX];
        wk_rows(rows, in, in_words, first, count, op->lanes);
        wk_enter(ring, w.y, rows, in_words, w.limbs, 1);
        copy(ring, w.table, wk_power_of_r(ring, 1));
        for (size_t d = 1; d < size; d++)
            op->mul(ring, w.table + d * wk_element(ring), w.table + (d - 1) * wk_element(ring), w.y);
        for (size_t k = positions; k-- > 0;) {
            u64 digits[WK_LANES_MAX];
            for (size_t l = 0; l < WK_LANES_MAX; l++)
                digits[l] = wk_bits(exponent, exponent_words, k * POWER_WINDOW, POWER_WINDOW);
            for (size_t bit = 0; k + 1 < positions && bit < POWER_WINDOW; bit++) op->square(ring, w.x, w.x);
            op->pick(ring, k + 1 < positions ? w.y : w.x, w.table, size, digits);
            if (k + 1 < positions) op->mul(ring, w.x, w.x, w.y);
        }
        leave_rows(ring, w, out, first, count, 0);
    }
    return give_back(w);
}

// No way into pairs and out again.
// What the lanes will read and write next: rows are one after the other.
static struct wk_ahead ahead_of(const struct wk_ring *ring, const u64 *left, const u64 *right, const u64 *out,
                                size_t first, size_t count) {
    const size_t lanes = ring->operations->lanes, width = ring->square_words;
    const size_t here = count - first < lanes ? count - first : lanes, left_over = count - first - here;
    const size_t next = (first + here) * width, words = (left_over < lanes ? left_over : lanes) * width;
    return (struct wk_ahead){.from = {left + next, right + next, out + first * width}, .words = {words, words, here * width}};
}

int wk_multiply_two(const wk_ring *ring, uint64_t *out, const uint64_t *left, const uint64_t *right, size_t count) {
    const wk_operations *op = ring->operations;
    const size_t wide = 2 * ring->limbs, width = ring->square_words;
    u64 *x = wk_memory(WK_FOLD_NUMBERS * wide * op->lanes), *y = x + wide * op->lanes, *spare = wk_memory(width);
    const int status = x && spare ? 0 : -1;
    for (size_t first = 0; status == 0 && first < count; first += op->lanes) {
        const u64 *rows[WK_LANES_MAX];
        u64 *results[WK_LANES_MAX];
        const struct wk_ahead ahead = ahead_of(ring, left, right, out, first, count);
        wk_rows(rows, left, width, first, count, op->lanes);
        op->split(x, wide, rows, width);
        wk_rows(rows, right, width, first, count, op->lanes);
        op->split(y, wide, rows, width);
        if (ring->fold.power)
            wk_ifma_multiply_folded(ring, x, &ahead);
        else
            op->multiply_plain(ring, x, x, y);
        wk_rows_out(results, out, width, first, count, op->lanes, spare);
        op->join(results, width, x, wide);
    }
    free(x);
    free(spare);
    return status;
}

int wk_multiply(const wk_ring *ring, uint64_t *out, const uint64_t *in, size_t terms, size_t count) {
    const wk_operations *op = ring->operations;
    workspace w = take(ring, 0);
    for (size_t first = 0; w.status == 0 && first < count; first += op->lanes) {
        const u64 *rows[WK_LANES_MAX];
        // The product is R^power times what it should be. Dividing by R is a third of the work of multiplying by it,
        // so every second factor comes in divided: from 1 to -1, back to 1 with R^3, or to 0 with R^2 at the end.
        int power = terms % 2 || terms < 2 ? 1 : -1;
        for (size_t k = 0; k < terms; k++) {
            u64 *factor = k ? w.y : w.x;
            wk_rows(rows, in + k * count * ring->square_words, ring->square_words, first, count, op->lanes);
            if (k == 0 ? power < 0 : power > 0)
                wk_enter_divided(ring, factor, rows, ring->square_words, w.limbs);
            else
                wk_enter(ring, factor, rows, ring->square_words, w.limbs, k == 0 ? 1 : k + 1 < terms ? 3 : 2);
            if (k) {
                op->mul(ring, w.x, w.x, w.y);
                power = -power;
            }
        }
        leave_rows(ring, w, out, first, count, terms > 1);
    }
    return give_back(w);
}

int wk_add_plain(const wk_ring *ring, uint64_t *out, const uint64_t *in, const uint64_t *plain, size_t count) {
    const wk_operations *op = ring->operations;
    const size_t half = ring->limbs * op->lanes;
    workspace w = take(ring, 0);
    for (size_t first = 0; w.status == 0 && first < count; first += op->lanes) {
        const u64 *rows[WK_LANES_MAX];
        wk_rows(rows, in, ring->square_words, first, count, op->lanes);
        wk_enter(ring, w.x, rows, ring->square_words, w.limbs, 1);
        // 1 + v n, plain, times a multiple of R: plain.
        memcpy(w.y, ring->one, half * sizeof(u64));
        wk_rows(rows, plain, ring->words, first, count, op->lanes);
        op->split(w.y + half, ring->limbs, rows, ring->words);
        op->mul(ring, w.x, w.x, w.y);
        leave_rows(ring, w, out, first, count, 1);
    }
    return give_back(w);
}

// table[sum_j d_j 2^(j window)] = prod_j base_j^d_j; the bases are `stride` elements apart, the table starts with one.
static void joint_table(const struct wk_ring *ring, u64 *table, const u64 *bases, size_t size, size_t window, u64 *power) {
    const size_t element = wk_element(ring);
    size_t block = 1;
    copy(ring, table, wk_power_of_r(ring, 1));
    for (size_t j = 0; j < size; j++) {
        copy(ring, power, bases + j * element);
        for (size_t d = 1; d < (size_t)1 << window; d++) {
            if (d > 1) ring->operations->mul(ring, power, power, bases + j * element);
            copy(ring, table + d * block * element, power);
            for (size_t k = 1; k < block; k++)
                ring->operations->mul(ring, table + (d * block + k) * element, table + k * element, power);
        }
        block <<= window;
    }
}

static void joint_digits(u64 *digits, const uint64_t *exponents, size_t terms, size_t first, size_t count, size_t lanes,
                         size_t from, size_t size, size_t window, size_t position) {
    for (size_t l = 0; l < lanes; l++) {
        const uint64_t *row = exponents + terms * (first + l < count ? first + l : count - 1);
        digits[l] = 0;
        for (size_t j = 0; j < size; j++) digits[l] |= wk_bits(row + from + j, 1, position * window, window) << (j * window);
    }
}

int wk_power_rows(const wk_ring *ring, uint64_t *out, const uint64_t *in, const uint64_t *factors,
                  const uint64_t *exponents, size_t count, size_t terms, size_t bits, size_t group, size_t window) {
    const wk_operations *op = ring->operations;
    const size_t element = wk_element(ring), positions = (bits + window - 1) / window;
    const size_t groups = (terms + group - 1) / group, size = (size_t)1 << (group * window);
    workspace w = take(ring, groups * size + group);
    u64 *bases = w.table + groups * size * element;
    for (size_t first = 0; w.status == 0 && first < count; first += op->lanes) {
        const u64 *rows[WK_LANES_MAX];
        for (size_t g = 0; g < groups; g++) {
            const size_t have = terms - g * group < group ? terms - g * group : group;
            for (size_t j = 0; j < have; j++) {
                wk_rows(rows, in + (g * group + j) * ring->square_words, terms * ring->square_words, first, count, op->lanes);
                wk_enter(ring, bases + j * element, rows, ring->square_words, w.limbs, 1);
            }
            joint_table(ring, w.table + g * size * element, bases, have, window, w.y);
        }
        copy(ring, w.x, wk_power_of_r(ring, 1));
        for (size_t k = positions; k-- > 0;) {
            for (size_t bit = 0; k + 1 < positions && bit < window; bit++) op->square(ring, w.x, w.x);
            for (size_t g = 0; g < groups; g++) {
                const size_t have = terms - g * group < group ? terms - g * group : group;
                u64 digits[WK_LANES_MAX];
                joint_digits(digits, exponents, terms, first, count, op->lanes, g * group, have, window, k);
                op->pick(ring, w.y, w.table + g * size * element, (size_t)1 << (have * window), digits);
                if (k + 1 == positions && g == 0)
                    copy(ring, w.x, w.y);
                else
                    op->mul(ring, w.x, w.x, w.y);
            }
        }
        if (factors) {
            wk_rows(rows, factors, ring->square_words, first, count, op->lanes);
            wk_enter(ring, w.y, rows, ring->square_words, w.limbs, 1);
            op->mul(ring, w.x, w.x, w.y);
        }
        leave_rows(ring, w, out, first, count, 0);
    }
    return give_back(w);
}

int wk_pack_rows(const wk_ring *ring, uint64_t *out, const uint64_t *in, size_t count, size_t slot, size_t step) {
    const wk_operations *op = ring->operations;
    const size_t results = (count + step - 1) / step;
    workspace w = take(ring, 0);
    for (size_t first = 0; w.status == 0 && first < results; first += op->lanes) {
        copy(ring, w.x, wk_power_of_r(ring, 1));
        for (size_t i = step; i-- > 0;) {
            u64 have[WK_LANES_MAX];
            const u64 *rows[WK_LANES_MAX];
            for (size_t l = 0; l < op->lanes; l++) {
                const size_t row = (first + l) * step + i;
                have[l] = first + l < results && row < count;
                rows[l] = in + ring->square_words * (have[l] ? row : 0);
            }
            // A block that is still to begin is one, and its squares are.
            for (size_t bit = 0; i + 1 < step && bit < slot; bit++) op->square(ring, w.x, w.x);
            wk_enter(ring, w.y, rows, ring->square_words, w.limbs, 1);
            op->choose(ring, w.y, wk_power_of_r(ring, 1), w.y, have);
            op->mul(ring, w.x, w.x, w.y);
        }
        leave_rows(ring, w, out, first, results, 0);
    }
    return give_back(w);
}

int wk_common_factor(const wk_ring *ring, uint64_t *out, const uint64_t *in, size_t count) {
    const wk_operations *op = ring->operations;
    workspace w = take(ring, 1);
    if (w.status == 0) {
        copy(ring, w.x, wk_power_of_r(ring, 1));
        for (size_t first = 0; first < count; first += op->lanes) {
            const u64 *rows[WK_LANES_MAX];
            wk_rows(rows, in, ring->square_words, first, count, op->lanes);
            wk_enter_divided(ring, w.y, rows, ring->square_words, w.limbs);
            op->mul_half(ring, w.x, w.x, w.y);
        }
        memset(w.x + ring->limbs * op->lanes, 0, ring->limbs * op->lanes * sizeof(u64));
        wk_product_of_lanes(ring, w.x, w.y, w.table);
        memset(w.x + ring->limbs * op->lanes, 0, ring->limbs * op->lanes * sizeof(u64));
        u64 *rows[WK_LANES_MAX];
        for (size_t l = 0; l < WK_LANES_MAX; l++) rows[l] = w.spare;
        op->flatten(ring, w.limbs, w.x);
        op->join(rows, ring->words, w.limbs, ring->limbs);
        memcpy(out, w.spare, ring->words * sizeof(u64));
    }
    return give_back(w);
}
