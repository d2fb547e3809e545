// Curve25519 in batches: X25519 (RFC 7748) and the Elligator 2 map (RFC 9380).
//
// Numbers are 32 bytes, little-endian. Scalar, points and elements are secret: no branch and no address depends on them.

#ifndef WK_X25519_H
#define WK_X25519_H

#include <stddef.h>
#include <stdint.h>

// out_i = X25519(scalar, point_i), RFC 7748 section 5: the scalar is clamped, the top bit of a point is ignored, a
// coordinate above p is taken mod p, and a point of low order gives zero.
void wk_x25519_many(uint8_t *out, const uint8_t *points, size_t count, const uint8_t *scalar);

// out_i = u-coordinate of the point that Elligator 2 (RFC 9380 section 6.7.1 with J = 486662, K = 1, Z = 2) maps the
// element to, times the cofactor 8; zero for the neutral element. Elements are below 2^255.
void wk_elligator2_many(uint8_t *out, const uint8_t *elements, size_t count);

#endif
