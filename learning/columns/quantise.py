"""Columns as 16-bit integers with a private centre and scale, and the columns that their owner refuses.

A column x becomes `round((x - centre) / scale)` in [-32767, 32767]: centre the mean, scale the largest
distance from it in 32767ths. Centring leaves the model as it is (the intercept, which is not penalised, takes
it up) and makes the scores of a party vary around zero, which link expansion and preconditioner want.
The business's intercept is a column of 32767s of scale 1/32767: exactly one.

Refused (docs/protocol.md, sections 3 and 5):

- NaN and infinity, constant columns;
- a column whose 16 bits an outlier eats: its typical variation is under 64 steps. Typical variation is the
  interquartile range. Where a quarter of the rows share one value (flags, counts with many zeros) that range
  may be nothing; there the median distance from that value among the other rows will do as well;
- a column in which fewer than 50 rows differ from the most frequent value (its gradient would be the
  residuals of those rows), unless both parties marked the job `small_sample`.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from learning.arithmetic.reductions import coarse_mean

STEPS = 32767
VARIATION_STEPS_MIN = 64
SUPPORT_MIN = 50
INTERCEPT = "intercept"


class ColumnRefused(ValueError):
    """A column its owner must not use; `code` may travel, all else stays at home.

    `reason` fits after the name of the column or of what it was made of.
    """

    def __init__(self, code: str, column: str, reason: str, *, place: str = "") -> None:
        super().__init__(f"{place + ':' if place else f'column {column!r}'} {reason}")
        self.code = code
        self.column = column
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Quantised:
    """A party's columns as integers, `x = values * scale + centre`: values (n, d), scales and centres (d,)."""

    values: NDArray[np.int16]
    scales: NDArray[np.float64]
    centres: NDArray[np.float64]
    intercept: bool


def quantise(matrix: NDArray[np.float64], names: Sequence[str], *, intercept: bool, small_sample: bool) -> Quantised:
    """Quantise `matrix` (n, columns); with `intercept`, a column of ones comes first.

    Raises ColumnRefused (codes column_not_finite, column_constant, column_support, column_outlier).
    """
    rows, columns = matrix.shape
    extra = int(intercept)
    values = np.empty((rows, columns + extra), dtype=np.int16)
    scales = np.empty(columns + extra)
    centres = np.zeros(columns + extra)
    if intercept:
        values[:, 0] = STEPS
        scales[0] = 1.0 / STEPS
    for j, name in enumerate(names, start=extra):
        column = np.asarray(matrix[:, j - extra], dtype=np.float64)
        centres[j], scales[j] = _grid(column, name, small_sample=small_sample)
        values[:, j] = steps_of(column, centres[j], scales[j])
    return Quantised(values=values, scales=scales, centres=centres, intercept=intercept)


def steps_of(column: NDArray[np.float64], centre: float, scale: float) -> NDArray[np.int64]:
    """The column in steps. Rows outside the range of training give larger steps than 16 bits hold."""
    return np.rint((column - centre) / scale).astype(np.int64)


def check_support(quantised: Quantised, names: Sequence[str], blocks: Sequence[int], *, small_sample: bool) -> None:
    """Refuse a column that hardly varies within a block of training rows: their gradient would show the few rows.

    `blocks`: rows of each, one after the other. Raises ColumnRefused (column_support).
    """
    edges = np.cumsum([0, *blocks]).tolist()
    if small_sample or len(quantised.values) == edges[-1] == blocks[0]:
        return
    for j, name in enumerate(names, start=int(quantised.intercept)):
        for first, last in itertools.pairwise(edges):
            _, counts = np.unique(quantised.values[first:last, j], return_counts=True)
            others = last - first - int(counts.max(initial=0))
            if others < SUPPORT_MIN:
                raise ColumnRefused(
                    "column_support",
                    name,
                    f"differs from its most frequent value in {others} rows of one part, {SUPPORT_MIN} are needed: "
                    "its gradient would show those rows; divide the rows into fewer parts, or leave it out",
                )


def _grid(column: NDArray[np.float64], name: str, *, small_sample: bool) -> tuple[float, float]:
    """(centre, scale) of a column that may be used."""
    if not np.isfinite(column).all():
        raise ColumnRefused("column_not_finite", name, "has missing or infinite values: fill or drop those")
    ordered = np.sort(column)
    if ordered[0] == ordered[-1]:
        raise ColumnRefused("column_constant", name, "has one value only: leave it out")
    distinct, counts = np.unique(ordered, return_counts=True)
    mode = float(distinct[np.argmax(counts)])
    others = np.sort(np.abs(ordered[ordered != mode] - mode))
    if len(others) < SUPPORT_MIN and not small_sample:
        raise ColumnRefused(
            "column_support",
            name,
            f"differs from its most frequent value in {len(others)} rows, {SUPPORT_MIN} are needed: its "
            "gradient would show those rows; leave it out or merge it with another",
        )
    centre = coarse_mean(column)
    scale = float(np.max(np.abs(column - centre))) / STEPS
    if not 0.0 < scale < np.inf or not np.isfinite(1.0 / scale):
        raise ColumnRefused("column_not_finite", name, "has values beyond what a float holds: rescale it")
    quarter = len(ordered) // 4
    quartiles = float(ordered[-1 - quarter] - ordered[quarter])
    variation = max(quartiles, float(others[len(others) // 2]))
    crowded = int(counts.max()) * 4 >= len(ordered)
    if (variation if crowded else quartiles) < VARIATION_STEPS_MIN * scale:
        raise ColumnRefused(
            "column_outlier",
            name,
            f"varies by less than {VARIATION_STEPS_MIN} of the steps that its largest value leaves: clip or "
            'transform it: { step = "clip", quantiles = [0.01, 0.99] } or { step = "log" } (docs/preparation.md)',
        )
    return centre, scale
