// X25519 and Elligator 2: the lanes without AVX-512, and who runs which.

#include "x25519.h"

#include "dispatch.h"
#include "x25519_lanes.h"

#include <string.h>

// Vectors never leave this file, so how they would be passed between files does not matter.
#pragma GCC diagnostic ignored "-Wpsabi"

typedef uint64_t vec __attribute__((vector_size(64)));
__extension__ typedef unsigned __int128 u128;

#define LOW52 ((1ULL << 52) - 1)

static inline vec all(uint64_t number) {
    return (vec){number, number, number, number, number, number, number, number};
}

static inline vec lo(vec t, vec x, vec y) {
    for (int l = 0; l < 8; l++) t[l] += (uint64_t)((u128)(x[l] & LOW52) * (y[l] & LOW52)) & LOW52;
    return t;
}

static inline vec hi(vec t, vec x, vec y) {
    for (int l = 0; l < 8; l++) t[l] += (uint64_t)((u128)(x[l] & LOW52) * (y[l] & LOW52) >> 52);
    return t;
}

static inline vec shift_right(vec x, int bits) { return x >> all((uint64_t)bits); }

static inline vec select(vec bits, vec x, vec y) {
    const vec mask = all(0) - (bits & all(1));
    return (x & ~mask) | (y & mask);
}

static inline vec is_zero(vec x) { return all(1) ^ ((x | (all(0) - x)) >> all(63)); }

static inline vec gather(const uint8_t *const *rows, size_t word) {
    vec x;
    for (int l = 0; l < 8; l++) {
        uint64_t number = 0;
        for (size_t k = 0; k < 8; k++) number |= (uint64_t)rows[l][8 * word + k] << (8 * k);
        x[l] = number;
    }
    return x;
}

static inline void scatter(uint8_t *const *rows, size_t word, vec x) {
    for (int l = 0; l < 8; l++)
        for (size_t k = 0; k < 8; k++) rows[l][8 * word + k] = (uint8_t)(x[l] >> (8 * k));
}

#define STEP static __attribute__((noinline))
#include "x25519_field.inc"

void wk_x25519_many(uint8_t *out, const uint8_t *points, size_t count, const uint8_t *scalar) {
    uint8_t clamped[32];
    memcpy(clamped, scalar, 32);
    clamped[0] &= 248;
    clamped[31] = (uint8_t)((clamped[31] & 127) | 64);
    if (wk_path_get() == WK_AVX512IFMA)
        wk_x25519_many_ifma(out, points, count, clamped);
    else
        x25519_many(out, points, count, clamped);
}

void wk_elligator2_many(uint8_t *out, const uint8_t *elements, size_t count) {
    if (wk_path_get() == WK_AVX512IFMA)
        wk_elligator2_many_ifma(out, elements, count);
    else
        elligator2_many(out, elements, count);
}
