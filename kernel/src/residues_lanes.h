// Lanes of eight numbers: radix 2^52, one limb of eight numbers in a register, AVX-512 IFMA.

#ifndef WK_RESIDUES_LANES_H
#define WK_RESIDUES_LANES_H

#include "ifma_target.h"

#define TILE 10
#define LANES 8
#define LIMB_BITS 52
#define MASK ((1ULL << 52) - 1)

typedef __m512i vec;

#define UNROLL _Pragma("GCC unroll 20")

static inline vec lo(vec t, vec x, vec y) { return _mm512_madd52lo_epu64(t, x, y); }
static inline vec hi(vec t, vec x, vec y) { return _mm512_madd52hi_epu64(t, x, y); }

#endif
