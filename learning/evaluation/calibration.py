"""Whether predictions are right on average, by quantile bins of them: expected against observed.

Hosmer, Lemeshow, Sturdivant: Applied Logistic Regression, 3rd ed. (2013), 5.2.2, for the test of binary labels.
"""

import math

import msgspec
import numpy as np
from numpy.typing import NDArray

from learning.evaluation.ranking import BINS, bins_of

Vector = NDArray[np.float64]


class CalibrationBin(msgspec.Struct, frozen=True, kw_only=True):
    """A quantile bin of the predictions: weighted means, lowest predictions first.

    `expected` is the mean prediction, `observed` the mean label; `lowest` and `highest` bound its predictions.
    """

    bin: int
    rows: int
    weight: float
    lowest: float
    highest: float
    expected: float
    observed: float


class HosmerLemeshow(msgspec.Struct, frozen=True, kw_only=True):
    """The test of a calibration table: small `p` speaks against the model. NaN where it cannot be computed."""

    statistic: float
    degrees: int
    p: float


def table(
    labels: Vector, predictions: Vector, weights: Vector | None = None, bins: int = BINS
) -> tuple[CalibrationBin, ...]:
    """The calibration table of `labels` (n,) and `predictions` (n,) on the scale of the labels."""
    weight = np.ones_like(predictions) if weights is None else weights
    place = bins_of(predictions, weights, bins)
    rows: list[CalibrationBin] = []
    for number in range(bins):
        inside = place == number
        own = math.fsum(weight[inside].tolist())
        if own <= 0.0:
            continue  # no rows, or rows of weight 0 alone
        rows.append(
            CalibrationBin(
                bin=len(rows) + 1,
                rows=int(inside.sum()),
                weight=own,
                lowest=float(predictions[inside].min()),
                highest=float(predictions[inside].max()),
                expected=math.fsum((weight * predictions)[inside].tolist()) / own,
                observed=math.fsum((weight * labels)[inside].tolist()) / own,
            )
        )
    return tuple(rows)


def effective_sizes(predictions: Vector, weights: Vector, bins: int = BINS) -> tuple[float, ...]:
    """Of every bin of `table` the number of equal rows whose mean varies as much, (sum w)^2 / sum w^2 (Kish 1965)."""
    place = bins_of(predictions, weights, bins)
    inside = [weights[place == number] for number in range(bins)]
    return tuple(
        math.fsum(own.tolist()) ** 2 / square for own in inside if (square := math.fsum((own * own).tolist())) > 0.0
    )


def hosmer_lemeshow(
    bins: tuple[CalibrationBin, ...], *, held_out: bool, sizes: tuple[float, ...] | None = None
) -> HosmerLemeshow:
    """The test on a table of 0/1 labels.

    Degrees of freedom: bins - 2 on the rows of training, as many as bins on rows the model has not seen. `sizes`: of
    weighted rows the effective number in each bin (`effective_sizes`), which their mean varies with; with the sum of
    the weights instead, weights twice as large would be twice the evidence.
    """
    degrees = len(bins) if held_out else len(bins) - 2
    terms = []
    for row, size in zip(bins, sizes or [row.weight for row in bins], strict=True):
        variance = size * row.expected * (1.0 - row.expected)
        terms.append((size * (row.observed - row.expected)) ** 2 / variance if variance > 0 else math.nan)
    statistic = math.fsum(terms)
    p = upper_tail(statistic, degrees) if degrees > 0 and math.isfinite(statistic) else math.nan
    return HosmerLemeshow(statistic=statistic, degrees=degrees, p=p)


def upper_tail(statistic: float, degrees: int) -> float:
    """P(chi-square of `degrees` degrees >= statistic): Abramowitz, Stegun (1964), 26.4.4 and 26.4.5."""
    if statistic <= 0.0:
        return 1.0
    half = statistic / 2.0
    odd = degrees % 2
    total = math.erfc(math.sqrt(half)) if odd else 0.0
    # Terms half^k / Gamma(k + 1) for k = 0, 1, ... or 1/2, 3/2, ... below degrees / 2.
    order = 0.5 if odd else 0.0
    while order < degrees / 2.0 - 0.5:
        total += math.exp(order * math.log(half) - half - math.lgamma(order + 1.0))
        order += 1.0
    return min(1.0, total)
