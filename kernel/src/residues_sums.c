// Sums over many rows: buckets, each lane with its own.
//
// A lane has a column, a digit of the exponents and a range of the rows; buckets are entries, so that a lane reads and
// writes ten cache lines and not eighty. Their addresses depend on the digits, which are secret: see docs/paillier.md.

#include "residues.h"

#include "residues_ring.h"

#include <stdlib.h>
#include <string.h>

#define SCALE_BITS 128

typedef struct {
    const struct wk_ring *ring;
    size_t size;       // buckets of a lane
    u64 *buckets;      // lanes * size entries
    u64 *x, *y, *spare, *limbs;
    u64 *one;          // an entry
    int status;
} bucket_space;

static bucket_space take(const struct wk_ring *ring, size_t size) {
    const size_t lanes = ring->operations->lanes;
    bucket_space s = {.ring = ring, .size = size, .buckets = wk_memory(lanes * size * ring->stride)};
    s.x = wk_memory(wk_element(ring));
    s.y = wk_memory(wk_element(ring));
    s.limbs = wk_memory(4 * ring->limbs * lanes);
    s.spare = wk_memory(ring->square_words > ring->stride ? ring->square_words : ring->stride);
    s.one = wk_memory(WK_LANES_MAX * ring->stride);
    s.status = s.buckets && s.x && s.y && s.limbs && s.spare && s.one ? 0 : -1;
    if (s.status == 0) {
        u64 *rows[WK_LANES_MAX];
        for (size_t l = 0; l < WK_LANES_MAX; l++) rows[l] = s.one + l * ring->stride;
        ring->operations->store(rows, wk_power_of_r(ring, 1), 2 * ring->limbs);
    }
    return s;
}

static int give_back(bucket_space s) {
    free(s.buckets);
    free(s.x);
    free(s.y);
    free(s.limbs);
    free(s.spare);
    free(s.one);
    return s.status;
}

static void empty(const bucket_space *s) {
    const size_t count = s->size * s->ring->operations->lanes, stride = s->ring->stride;
    for (size_t k = 0; k < count; k++) memcpy(s->buckets + k * stride, s->one, stride * sizeof(u64));
}

// Multiply each lane's entry into the bucket of its digit.
static void put(const bucket_space *s, const u64 *const *entries, const size_t *digits) {
    const struct wk_ring *ring = s->ring;
    u64 *places[WK_LANES_MAX];
    const u64 *from[WK_LANES_MAX];
    for (size_t l = 0; l < ring->operations->lanes; l++)
        from[l] = places[l] = s->buckets + (l * s->size + wk_index(digits[l])) * ring->stride;
    ring->operations->load(s->x, from, 2 * ring->limbs);
    ring->operations->load(s->y, entries, 2 * ring->limbs);
    ring->operations->mul(ring, s->x, s->x, s->y);
    ring->operations->store(places, s->x, 2 * ring->limbs);
}

static void bucket(const bucket_space *s, u64 *x, size_t digit) {
    const u64 *rows[WK_LANES_MAX];
    for (size_t l = 0; l < s->ring->operations->lanes; l++)
        rows[l] = s->buckets + (l * s->size + digit) * s->ring->stride;
    s->ring->operations->load(x, rows, 2 * s->ring->limbs);
}

// x = prod_d bucket_d^d; `running` is an element of room.
static void collect(const bucket_space *s, u64 *x, u64 *running) {
    const struct wk_ring *ring = s->ring;
    bucket(s, running, s->size - 1);
    memcpy(x, running, wk_element(ring) * sizeof(u64));
    for (size_t d = s->size - 2; d >= 1 && s->size > 2; d--) {
        bucket(s, s->y, d);
        ring->operations->mul(ring, running, running, s->y);
        ring->operations->mul(ring, x, x, running);
    }
}

// All numbers of `in` as entries, divided by R.
static void enter_all(const bucket_space *s, u64 *entries, const uint64_t *in, size_t count, int divided) {
    const struct wk_ring *ring = s->ring;
    const size_t lanes = ring->operations->lanes;
    for (size_t first = 0; first < count; first += lanes) {
        const u64 *rows[WK_LANES_MAX];
        u64 *out[WK_LANES_MAX];
        wk_rows(rows, in, ring->square_words, first, count, lanes);
        if (divided)
            wk_enter_divided(ring, s->x, rows, ring->square_words, s->limbs);
        else
            wk_enter(ring, s->x, rows, ring->square_words, s->limbs, 1);
        wk_rows_out(out, entries, ring->stride, first, count, lanes, s->spare);
        ring->operations->store(out, s->x, 2 * ring->limbs);
    }
}

// x = R^(2 sum_i e_i), as a multiple of R: what dividing every row by R took away. Each lane raises R^(2 * 2^k) to a
// part of the bits of the sum.
static int make_good(const struct wk_ring *ring, u64 *x, const uint64_t *exponents, size_t words, size_t rows) {
    const wk_operations *op = ring->operations;
    const size_t part = SCALE_BITS / op->lanes, element = wk_element(ring);
    u64 sum[2] = {0, 0};
    for (size_t r = 0; r < rows; r++) {
        const u64 low = exponents[r * words], high = words > 1 ? exponents[r * words + 1] : 0;
        sum[0] += low;
        sum[1] += high + (sum[0] < low);
    }
    u64 *base = wk_memory(element), *other = wk_memory(element), *entries = wk_memory(op->lanes * ring->stride);
    u64 *spare = wk_memory(op->lanes * ring->stride);
    const int status = base && other && entries && spare ? 0 : -1;
    if (status == 0) {
        const u64 *rows_in[WK_LANES_MAX];
        u64 *rows_out[WK_LANES_MAX];
        memcpy(other, wk_power_of_r(ring, 3), element * sizeof(u64));
        for (size_t l = 0; l < op->lanes; l++) {
            for (size_t k = 0; k < op->lanes; k++) rows_out[k] = (k == 0 ? entries + l * ring->stride : spare + k * ring->stride);
            op->store(rows_out, other, 2 * ring->limbs);
            for (size_t bit = 0; l + 1 < op->lanes && bit < part; bit++) op->square(ring, other, other);
        }
        for (size_t l = 0; l < op->lanes; l++) rows_in[l] = entries + l * ring->stride;
        op->load(base, rows_in, 2 * ring->limbs);
        memcpy(x, wk_power_of_r(ring, 1), element * sizeof(u64));
        for (size_t bit = part; bit-- > 0;) {
            u64 bits[WK_LANES_MAX];
            for (size_t l = 0; l < op->lanes; l++) bits[l] = wk_bits(sum, 2, l * part + bit, 1);
            op->square(ring, x, x);
            op->mul(ring, other, x, base);
            op->choose(ring, x, x, other, bits);
        }
        wk_product_of_lanes(ring, x, other, entries);
    }
    free(base);
    free(other);
    free(entries);
    free(spare);
    return status;
}

typedef struct {
    size_t rows, columns, windows, segments, window, exponent_words;
    const uint64_t *exponents;
} sum_shape;

// Task t of all (column, digit, range of rows): its bucket products, as entries of `products`.
static void fill_buckets(const bucket_space *s, const sum_shape *shape, const u64 *entries, u64 *products, u64 *running) {
    const struct wk_ring *ring = s->ring;
    const size_t lanes = ring->operations->lanes, tasks = shape->columns * shape->windows * shape->segments;
    const size_t range = (shape->rows + shape->segments - 1) / shape->segments;
    for (size_t first = 0; first < tasks; first += lanes) {
        empty(s);
        for (size_t r = 0; r < range; r++) {
            const u64 *from[WK_LANES_MAX];
            size_t digits[WK_LANES_MAX];
            for (size_t l = 0; l < lanes; l++) {
                const size_t task = first + l < tasks ? first + l : tasks - 1;
                const size_t column = task / (shape->windows * shape->segments);
                const size_t position = task / shape->segments % shape->windows;
                const size_t row = task % shape->segments * range + r, there = row < shape->rows;
                from[l] = there ? entries + (row * shape->columns + column) * ring->stride : s->one;
                digits[l] = there ? wk_bits(shape->exponents + row * shape->exponent_words, shape->exponent_words,
                                            position * shape->window, shape->window)
                                  : 0;
            }
            put(s, from, digits);
        }
        u64 *out[WK_LANES_MAX];
        collect(s, s->x, running);
        wk_rows_out(out, products, ring->stride, first, tasks, lanes, s->spare);
        ring->operations->store(out, s->x, 2 * ring->limbs);
    }
}

// Horner over the digits, lanes being columns.
static void join_digits(const bucket_space *s, const sum_shape *shape, const u64 *products, const u64 *scale, uint64_t *out) {
    const struct wk_ring *ring = s->ring;
    const wk_operations *op = ring->operations;
    for (size_t first = 0; first < shape->columns; first += op->lanes) {
        memcpy(s->x, wk_power_of_r(ring, 1), wk_element(ring) * sizeof(u64));
        for (size_t position = shape->windows; position-- > 0;) {
            for (size_t bit = 0; position + 1 < shape->windows && bit < shape->window; bit++) op->square(ring, s->x, s->x);
            for (size_t segment = 0; segment < shape->segments; segment++) {
                const u64 *rows[WK_LANES_MAX];
                for (size_t l = 0; l < op->lanes; l++) {
                    const size_t column = first + l < shape->columns ? first + l : shape->columns - 1;
                    rows[l] = products + ((column * shape->windows + position) * shape->segments + segment) * ring->stride;
                }
                op->load(s->y, rows, 2 * ring->limbs);
                op->mul(ring, s->x, s->x, s->y);
            }
        }
        if (scale) op->mul(ring, s->x, s->x, scale);
        u64 *results[WK_LANES_MAX];
        wk_rows_out(results, out, ring->square_words, first, shape->columns, op->lanes, s->spare);
        wk_leave(ring, results, s->x, s->limbs);
    }
}

int wk_power_sum(const wk_ring *ring, uint64_t *out, const uint64_t *in, size_t rows, size_t columns,
                 const uint64_t *exponents, size_t exponent_words, size_t bits, size_t window, size_t segments) {
    const sum_shape shape = {.rows = rows, .columns = columns, .windows = (bits + window - 1) / window,
                             .segments = segments, .window = window, .exponent_words = exponent_words,
                             .exponents = exponents};
    size_t sum_bits = bits;
    for (size_t r = rows; r > 0; r >>= 1) sum_bits++;
    // Dividing each row by R is a third of the work of multiplying it, while the sum of the exponents is short.
    const int divided = sum_bits <= SCALE_BITS;
    bucket_space s = take(ring, (size_t)1 << window);
    u64 *entries = wk_memory(rows * columns * ring->stride);
    u64 *products = wk_memory(shape.columns * shape.windows * shape.segments * ring->stride);
    u64 *scale = wk_memory(wk_element(ring)), *running = wk_memory(wk_element(ring));
    int status = s.status == 0 && entries && products && scale && running ? 0 : -1;
    if (status == 0 && divided) status = make_good(ring, scale, exponents, exponent_words, rows);
    if (status == 0) {
        enter_all(&s, entries, in, rows * columns, divided);
        fill_buckets(&s, &shape, entries, products, running);
        join_digits(&s, &shape, products, divided ? scale : NULL, out);
    }
    free(entries);
    free(products);
    free(scale);
    free(running);
    give_back(s);
    return status;
}

int wk_bin_sums(const wk_ring *ring, uint64_t *out, const uint64_t *in, const uint32_t *bins, size_t rows,
                size_t columns, size_t count) {
    const size_t lanes = ring->operations->lanes;
    bucket_space s = take(ring, count);
    u64 *entries = wk_memory(rows * ring->stride);
    const int status = s.status == 0 && entries ? 0 : -1;
    if (status == 0) enter_all(&s, entries, in, rows, 0);
    for (size_t first = 0; status == 0 && first < columns; first += lanes) {
        empty(&s);
        for (size_t r = 0; r < rows; r++) {
            const u64 *from[WK_LANES_MAX];
            size_t digits[WK_LANES_MAX];
            for (size_t l = 0; l < lanes; l++) {
                from[l] = entries + r * ring->stride;
                digits[l] = bins[r * columns + (first + l < columns ? first + l : columns - 1)];
            }
            put(&s, from, digits);
        }
        for (size_t d = 0; d < count; d++) {
            u64 *results[WK_LANES_MAX];
            bucket(&s, s.x, d);
            for (size_t l = 0; l < lanes; l++)
                results[l] = first + l < columns ? out + ((first + l) * count + d) * ring->square_words : s.spare;
            wk_leave(ring, results, s.x, s.limbs);
        }
    }
    free(entries);
    give_back(s);
    return status;
}
