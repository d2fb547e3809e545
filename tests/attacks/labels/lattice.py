"""Labels from sums over them, by lattice reduction.

`sum_i x_ij y_i` with known integers x and y_i of 0 and 1 is a subset sum for every column j. With the embedding of
Lagarias and Odlyzko (1985), centred as Coster et al. (1992) do, the labels are a short vector of a lattice that LLL
(Lenstra, Lenstra, Lovasz 1982) or BKZ (Schnorr, Euchner 1994) finds while it is much the shortest. Sums that carry
noise are met as closely as the noise lets them: each is scaled so that its error counts as much as a label does.
"""

import numpy as np
from fpylll import BKZ, LLL, IntegerMatrix
from numpy.typing import NDArray

SCALE = 64
BLOCKS = (20, 30)

Integers = NDArray[np.int64]


def solve(columns: Integers, sums: NDArray[np.float64], *, error: float, share: float) -> Integers | None:
    """Labels (n,) of 0 and 1 whose sums over `columns` (n, d) are within `error` of `sums` (d,), or None.

    `share`: the share of ones that the attacker expects. The first answer that fits is taken: where several do, it
    may be a wrong one.
    """
    rows, count = columns.shape
    spread = np.sqrt(share * (1 - share))
    weight = SCALE * spread * np.sqrt(3.0) / error if error else SCALE * rows * rows
    centre, last = round(SCALE * share), round(SCALE * spread)
    basis = IntegerMatrix(rows + 1, rows + count + 1)
    for i in range(rows):
        basis[i, i], basis[rows, i] = SCALE, centre
        for j in range(count):
            basis[i, rows + j] = round(weight * int(columns[i, j]))
    for j in range(count):
        basis[rows, rows + j] = round(weight * float(sums[j]))
    basis[rows, rows + count] = last
    LLL.reduction(basis)
    for block in (0, *BLOCKS):
        if block:
            BKZ.reduction(basis, BKZ.Param(block, max_loops=6, flags=BKZ.MAX_LOOPS))
        for at in range(rows + 1):
            vector = [basis[at, k] for k in range(rows + count + 1)]
            if abs(vector[-1]) == last:
                sign = -1 if vector[-1] > 0 else 1
                scaled = np.array([sign * entry + centre for entry in vector[:rows]])
                labels = scaled // SCALE
                if set(scaled.tolist()) <= {0, SCALE} and np.abs(columns.T @ labels - sums).max() <= error + 0.01:
                    return labels
    return None


def regression(columns: Integers, sums: NDArray[np.float64]) -> Integers:
    """The guess that needs no lattice: the smallest vector with these sums, cut at the middle."""
    centred = np.linalg.lstsq(columns.T.astype(float), 2.0 * sums - columns.sum(axis=0), rcond=None)[0]
    return (centred > 0).astype(np.int64)
