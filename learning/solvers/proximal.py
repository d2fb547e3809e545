"""The proximal step of an l1 penalty on a party's own columns, in the metric of its own curvature.

`argmin_x 1/2 (x - y)^T C (x - y) + sum_j l1_j |x_j|` by coordinate descent (Friedman, Hastie, Tibshirani 2010): an
entry that the penalty holds at zero comes out as 0.0. Elementwise operations in one fixed order: the same bits on
every machine.
"""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]

SWEEPS_MAX: Final = 2000
PRECISION: Final = 1e-12


def proximal_point(point: Vector, factor: Vector, penalties: Vector) -> Vector:
    """x (d,) of the `point` y (d,); C = `factor` @ `factor`.T (d, d), `penalties` l1_j (d,) of 0 or more."""
    curvature = np.zeros_like(factor)
    for column in factor.T:
        curvature += column[:, None] * column[None, :]
    diagonal = np.diag(curvature).tolist()
    weights, slope = point.copy(), np.zeros_like(point)  # slope = C (x - y)
    limits = penalties.tolist()
    for _ in range(SWEEPS_MAX):
        moved = size = 0.0
        for j, limit in enumerate(limits):
            before = float(weights[j])
            aim = before - float(slope[j]) / diagonal[j]
            after = math.copysign(max(0.0, abs(aim) - limit / diagonal[j]), aim) if limit else aim
            if after == 0.0:
                after = 0.0  # one zero, not two
            if after != before:
                weights[j] = after
                slope += curvature[:, j] * (after - before)
            moved = max(moved, abs(after - before) * math.sqrt(diagonal[j]))
            size = max(size, abs(after) * math.sqrt(diagonal[j]))
        if moved <= PRECISION * max(size, 1e-300):
            break
    return weights
