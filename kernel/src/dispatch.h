// Which of the paths through the kernel runs.

#ifndef WK_DISPATCH_H
#define WK_DISPATCH_H

enum { WK_PORTABLE = 0, WK_AVX512IFMA = 1 };

// Whether this machine can run a path.
int wk_path_supported(int path);

// Take a path from now on; -1, and no change, for one that this machine cannot run. What was made for another path
// (a ring, a table) keeps it.
int wk_path_set(int path);

// The path that runs: the fastest there is unless one was set.
int wk_path_get(void);

#endif
