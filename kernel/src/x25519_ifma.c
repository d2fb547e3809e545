// X25519 and Elligator 2 in eight lanes of AVX-512 IFMA.

#include "x25519_lanes.h"

#if defined(__x86_64__)

#include "ifma_target.h"

#include <string.h>

typedef uint64_t vec __attribute__((vector_size(64), aligned(64)));

static inline vec all(uint64_t number) { return (vec)_mm512_set1_epi64((long long)number); }
static inline vec lo(vec t, vec x, vec y) { return (vec)_mm512_madd52lo_epu64((__m512i)t, (__m512i)x, (__m512i)y); }
static inline vec hi(vec t, vec x, vec y) { return (vec)_mm512_madd52hi_epu64((__m512i)t, (__m512i)x, (__m512i)y); }

#define shift_right(x, bits) ((vec)_mm512_srli_epi64((__m512i)(x), bits))

static inline vec select(vec bits, vec x, vec y) {
    const __mmask8 second = _mm512_test_epi64_mask((__m512i)bits, _mm512_set1_epi64(1));
    return (vec)_mm512_mask_blend_epi64(second, (__m512i)x, (__m512i)y);
}

static inline vec is_zero(vec x) {
    return (vec)_mm512_maskz_set1_epi64(_mm512_testn_epi64_mask((__m512i)x, (__m512i)x), 1);
}

static inline vec gather(const uint8_t *const *rows, size_t word) {
    uint64_t x[8];
    for (int l = 0; l < 8; l++) memcpy(&x[l], rows[l] + 8 * word, 8);
    return (vec)_mm512_loadu_si512(x);
}

static inline void scatter(uint8_t *const *rows, size_t word, vec x) {
    uint64_t words[8];
    _mm512_storeu_si512(words, (__m512i)x);
    for (int l = 0; l < 8; l++) memcpy(rows[l] + 8 * word, &words[l], 8);
}

#define STEP static inline
#include "x25519_field.inc"

void wk_x25519_many_ifma(uint8_t *out, const uint8_t *points, size_t count, const uint8_t *scalar) {
    x25519_many(out, points, count, scalar);
}

void wk_elligator2_many_ifma(uint8_t *out, const uint8_t *elements, size_t count) {
    elligator2_many(out, elements, count);
}

WK_TARGET_END

#else

void wk_x25519_many_ifma(uint8_t *out, const uint8_t *points, size_t count, const uint8_t *scalar) {
    (void)out, (void)points, (void)count, (void)scalar;
}

void wk_elligator2_many_ifma(uint8_t *out, const uint8_t *elements, size_t count) {
    (void)out, (void)elements, (void)count;
}

#endif
