// The lanes of x25519_ifma.c. The scalar is clamped.

#ifndef WK_X25519_LANES_H
#define WK_X25519_LANES_H

#include <stddef.h>
#include <stdint.h>

void wk_x25519_many_ifma(uint8_t *out, const uint8_t *points, size_t count, const uint8_t *scalar);
void wk_elligator2_many_ifma(uint8_t *out, const uint8_t *elements, size_t count);

#endif
