#include "dispatch.h"

#include <stdatomic.h>

static atomic_int chosen = -1;

int wk_path_supported(int path) {
    if (path == WK_PORTABLE) return 1;
#if defined(__x86_64__)
    if (path == WK_AVX512IFMA)
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512ifma");
#endif
    return 0;
}

int wk_path_set(int path) {
    if (!wk_path_supported(path)) return -1;
    atomic_store(&chosen, path);
    return 0;
}

int wk_path_get(void) {
    const int path = atomic_load(&chosen);
    if (path >= 0) return path;
    return wk_path_supported(WK_AVX512IFMA) ? WK_AVX512IFMA : WK_PORTABLE;
}
