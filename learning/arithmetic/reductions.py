"""Sums over rows that are exact, so that no byte of a model depends on row order, chunks, threads or machine.

Quantised columns are integers. Products of them are summed by the floating-point matrix product in blocks so
small that every partial sum is an integer below 2^53: then each addition is exact and their order is free.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

LIMB_BITS = 16
SUM_ROWS = 1 << 20  # 2^15 (column) x 2^16 (limb) x 2^20 rows < 2^53
WEIGHT_BITS = 12
PRODUCT_BITS = 24  # of what parties tell each other about their gradients
GRAM_ROWS = 1 << 10  # 2^15 x 2^(15 + 12) x 2^10 rows < 2^53
GRAM_FLUSH = 1 << 20  # 2^42 x 2^20 rows < 2^63


def column_sums(columns: NDArray[np.int16], numbers: Sequence[int]) -> list[int]:
    """`columns.T @ numbers` as exact integers; columns (n, d), n integers of any size and sign.

    Raises ValueError when the numbers of rows differ.
    """
    rows, width = columns.shape
    if len(numbers) != rows:
        raise ValueError(f"{rows} rows of columns, {len(numbers)} numbers")
    sums = [0] * width
    for first in range(0, rows, SUM_ROWS):
        block = columns[first : first + SUM_ROWS].astype(np.float64)
        limbs = _limbs(numbers[first : first + SUM_ROWS])
        products = block.T @ limbs.astype(np.float64)
        for j, row in enumerate(products.tolist()):
            sums[j] += sum(int(value) << (LIMB_BITS * k) for k, value in enumerate(row))
    return sums


def _limbs(numbers: Sequence[int]) -> NDArray[np.int32]:
    """Two's complement in limbs of 16 bits, the highest one signed: shape (n, limbs)."""
    largest = max((abs(int(number)) for number in numbers), default=0)
    count = largest.bit_length() // LIMB_BITS + 1
    data = b"".join(int(number).to_bytes(2 * count, "little", signed=True) for number in numbers)
    unsigned = np.frombuffer(data, dtype="<u2").reshape(-1, count)
    limbs: NDArray[np.int32] = unsigned.astype(np.int32)
    limbs[:, -1] = unsigned[:, -1].astype(np.int16)
    return limbs


def weighted_gram(columns: NDArray[np.int16], weights: NDArray[np.int64]) -> NDArray[np.float64]:
    """`columns.T @ diag(weights) @ columns`, exact but for one final rounding; weights in [0, 2^12]."""
    rows, width = columns.shape
    if weights.size and (weights.min() < 0 or weights.max() > 1 << WEIGHT_BITS):
        raise ValueError("weights are between 0 and 2^12")
    total = np.zeros((width, width), dtype=object)
    for start in range(0, rows, GRAM_FLUSH):
        part = np.zeros((width, width), dtype=np.int64)
        for first in range(start, min(rows, start + GRAM_FLUSH), GRAM_ROWS):
            last = min(first + GRAM_ROWS, start + GRAM_FLUSH)
            block = columns[first:last].astype(np.float64)
            part += (block.T @ (block * weights[first:last, None])).astype(np.int64)
        total = total + part
    return total.astype(np.float64)


def coarse_mean(values: NDArray[np.float64]) -> float:
    """The mean of finite `values`, to 2^-20 of the largest: the same bits for every order of the rows."""
    largest = float(np.max(np.abs(values)))
    if largest == 0.0:
        return 0.0
    steps = np.rint(values / largest * 2.0**20).astype(np.int64)
    return int(steps.sum()) / (len(values) * 2**20) * largest


def root_mean_square(values: NDArray[np.float64]) -> float:
    """Root of the mean square, correctly summed."""
    return math.sqrt(math.fsum((values * values).tolist()) / len(values))


def rounded(value: float) -> float:
    """`value` to 24 significant bits."""
    mantissa, exponent = math.frexp(value)
    return math.ldexp(round(mantissa * (1 << PRODUCT_BITS)), exponent - PRODUCT_BITS)
