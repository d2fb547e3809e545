// From here on this file is compiled for AVX-512 IFMA, whatever the rest of the build is for. Where clang pushes the
// target, WK_TARGET_END at the end of the file takes it away again.

#ifndef WK_IFMA_TARGET_H
#define WK_IFMA_TARGET_H

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512vl,avx512dq,avx512bw,avx512ifma"))), apply_to = function)
#define WK_TARGET_END _Pragma("clang attribute pop")
#elif defined(__GNUC__)
#pragma GCC target("avx512f,avx512vl,avx512dq,avx512bw,avx512ifma")
#define WK_TARGET_END
#endif

#include <immintrin.h>

#endif
