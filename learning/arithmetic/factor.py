"""Cholesky factors by elementwise operations in one fixed order: the same bits on every machine.

LAPACK may order its sums by the machine it runs on; these matrices are small (columns of one party).
"""

import math

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
PIVOT_MIN = 1e-12
ROUNDING = 1e-9


def cholesky(matrix: Matrix) -> Matrix:
    """Lower factor L with `L @ L.T = matrix`, symmetric and positive, shape (d, d).

    A pivot below 1e-12 of its diagonal entry is raised to that: a column that others determine exactly gets a
    long but finite step, which the safeguards of the loop bound.
    """
    work = matrix.copy()
    size = len(work)
    lower = np.zeros_like(work)
    floor = np.maximum(np.diag(matrix) * PIVOT_MIN, np.finfo(np.float64).tiny)
    for i in range(size):
        lower[i, i] = math.sqrt(max(float(work[i, i]), float(floor[i])))
        lower[i + 1 :, i] = work[i + 1 :, i] / lower[i, i]
        below = lower[i + 1 :, i]
        work[i + 1 :, i + 1 :] -= below[:, None] * below[None, :]
    return lower


def bounded_cholesky(matrix: Matrix, floor: Matrix, lift: float = 1.0) -> Matrix:
    """Lower factor of a symmetric `matrix` (d, d) that noise may have made indefinite, with bounded entries.

    A pivot is raised where it is below its `floor` (d,) > 0 or so small that an entry of its column would be larger
    than the root of the largest diagonal entry (Gill, Murray, Wright: Practical Optimization, 1981, 4.4.2.2), then to
    `lift` times what is needed. A positive definite matrix with larger pivots is left as it is.
    """
    work = matrix.copy()
    size = len(work)
    lower = np.zeros_like(work)
    largest = float(np.diag(matrix).max(initial=0.0)) or 1.0
    for i in range(size):
        column = work[i + 1 :, i]
        needed = max(float(floor[i]), float((column * column).max(initial=0.0)) / largest)
        # Of a positive definite matrix no entry is larger, but rounding may say so.
        pivot = float(work[i, i])
        lower[i, i] = math.sqrt(pivot if pivot >= needed * (1.0 - ROUNDING) and pivot > 0.0 else lift * needed)
        below = column / lower[i, i]
        lower[i + 1 :, i] = below
        work[i + 1 :, i + 1 :] -= below[:, None] * below[None, :]
    return lower


def solve_lower(lower: Matrix, vector: Matrix) -> Matrix:
    """x with `lower @ x = vector`."""
    solution = np.zeros_like(vector)
    for i in range(len(vector)):
        known = math.fsum((lower[i, :i] * solution[:i]).tolist())
        solution[i] = (float(vector[i]) - known) / float(lower[i, i])
    return solution


def solve_upper(lower: Matrix, vector: Matrix) -> Matrix:
    """x with `lower.T @ x = vector`."""
    solution = np.zeros_like(vector)
    for i in reversed(range(len(vector))):
        known = math.fsum((lower[i + 1 :, i] * solution[i + 1 :]).tolist())
        solution[i] = (float(vector[i]) - known) / float(lower[i, i])
    return solution


def spread_of_solution(lower: Matrix, deviations: Matrix) -> Matrix:
    """Deviation of each entry of `solve_lower(lower, e)` for independent errors e of `deviations` (d,)."""
    inverse = np.diag(deviations)
    for i in range(len(deviations)):
        known = (lower[i, :i, None] * inverse[:i]).sum(axis=0)
        inverse[i] = (inverse[i] - known) / lower[i, i]
    variances = [math.fsum((row * row).tolist()) for row in inverse]
    return np.array([math.sqrt(variance) for variance in variances])
