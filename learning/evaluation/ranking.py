"""Rows in the order of their scores: ROC curve, KS distance, lift and gain, confusion at a threshold.

Everything is computed from rows sorted by score, label and weight, so no figure depends on the order in which
they came. Rows of equal score are never torn apart: a threshold has all of them on one side.
"""

import math
from dataclasses import dataclass
from typing import Final, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
Choice = Literal["ks", "rate", "even", "given"]

BINS: Final = 10


@dataclass(frozen=True, slots=True)
class Ranking:
    """Distinct scores, falling, and what lies at or above each of them.

    `thresholds`, `positives`, `negatives` and `rows` (m,): the scores, the weight of positive and of negative
    rows and the number of rows so far. For labels that are no classes `positives` is the weighted sum of labels
    and `negatives` the weight.
    """

    thresholds: Vector
    positives: Vector
    negatives: Vector
    rows: NDArray[np.int64]


class Confusion(msgspec.Struct, frozen=True, kw_only=True):
    """Predictions at a threshold of the probability: weights of rows, and the shares that follow.

    A row is predicted positive when its probability is at least `threshold`. `choice` says where the threshold
    comes from: `ks` (where both classes are furthest apart), `rate` (so many predicted positives), `even` (1/2)
    or `given`. A share of nothing is NaN.
    """

    choice: Choice
    threshold: float
    true_positives: float
    false_positives: float
    true_negatives: float
    false_negatives: float

    @property
    def precision(self) -> float:
        """Positives among the predicted positives."""
        return _share(self.true_positives, self.true_positives + self.false_positives)

    @property
    def recall(self) -> float:
        """Predicted positives among the positives."""
        return _share(self.true_positives, self.true_positives + self.false_negatives)

    @property
    def specificity(self) -> float:
        """Predicted negatives among the negatives."""
        return _share(self.true_negatives, self.true_negatives + self.false_positives)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        hits = 2 * self.true_positives
        return _share(hits, hits + self.false_positives + self.false_negatives)

    @property
    def accuracy(self) -> float:
        """Rows predicted right."""
        right = self.true_positives + self.true_negatives
        return _share(right, right + self.false_positives + self.false_negatives)

    @property
    def predicted_rate(self) -> float:
        """Rows predicted positive."""
        found = self.true_positives + self.false_positives
        return _share(found, found + self.true_negatives + self.false_negatives)


class LiftBin(msgspec.Struct, frozen=True, kw_only=True):
    """A slice of the rows from the highest scores down.

    `share`: of the weight, up to and including this bin; `gain`: of the positives (or of the sum of labels) so
    far; `rate`: mean label in the bin; `lift`: that over the mean label of all; `cumulative_lift`: of all bins so
    far.
    """

    bin: int
    rows: int
    weight: float
    share: float
    rate: float
    lift: float
    gain: float
    cumulative_lift: float


def _share(part: float, whole: float) -> float:
    return part / whole if whole > 0 else math.nan


def ranking(labels: Vector, scores: Vector, weights: Vector | None = None) -> Ranking:
    """The ranking of 0/1 `labels` (n,) by `scores` (n,), with `weights` (n,) if rows count differently."""
    return _ranking(labels, 1.0 - labels, scores, weights)


def ranking_of_amounts(labels: Vector, scores: Vector, weights: Vector | None = None) -> Ranking:
    """The ranking of labels that are amounts, counts or measurements: sums of labels against weight."""
    return _ranking(labels, np.ones_like(labels), scores, weights)


def _ranking(positive: Vector, negative: Vector, scores: Vector, weights: Vector | None) -> Ranking:
    weight = np.ones_like(scores) if weights is None else weights
    order = np.lexsort((weight, positive, -scores))
    ordered = scores[order]
    last = np.flatnonzero(np.append(np.diff(ordered) != 0, True))
    return Ranking(
        thresholds=ordered[last],
        positives=np.cumsum((positive * weight)[order])[last],
        negatives=np.cumsum((negative * weight)[order])[last],
        rows=(last + 1).astype(np.int64),
    )


def roc(ranked: Ranking) -> tuple[Vector, Vector]:
    """(false positive rate, true positive rate), both from 0 to 1; NaN where there is one class only."""
    with np.errstate(invalid="ignore"):
        alarms = ranked.negatives / (ranked.negatives[-1] or math.nan)
        hits = ranked.positives / (ranked.positives[-1] or math.nan)
    return np.concatenate([[0.0], alarms]), np.concatenate([[0.0], hits])


def area(ranked: Ranking) -> float:
    """Area under the ROC curve, ties counted half; NaN with one class only."""
    alarms, hits = roc(ranked)
    return math.fsum((np.diff(alarms) * (hits[1:] + hits[:-1])).tolist()) / 2


def gini_of_amounts(ranked: Ranking) -> float:
    """Gini index of a ranking of amounts: twice the area between its gain curve and the diagonal.

    Even the best order, that of the labels themselves, stays below 1; divide by its index for a figure that
    reaches 1.
    """
    return 2.0 * area(ranked) - 1.0


def ks_point(ranked: Ranking) -> tuple[float, float]:
    """(KS distance, score at which both classes are furthest apart); NaN with one class only.

    The score belongs to the upper side. Of equal distances, the one at the highest score.
    """
    alarms, hits = roc(ranked)
    gaps = np.abs(hits - alarms)[1:]
    if not np.isfinite(gaps).all():
        return math.nan, math.nan
    place = int(np.argmax(gaps))
    return float(gaps[place]), float(ranked.thresholds[place])


def threshold_of_rate(ranked: Ranking, rate: float) -> float:
    """The lowest score down to which at most `rate` of the weight lies; infinite where that is none."""
    weight = ranked.positives + ranked.negatives
    within = np.flatnonzero(weight <= rate * weight[-1] * (1 + 1e-12))
    return float(ranked.thresholds[within[-1]]) if len(within) else math.inf


def confusion(ranked: Ranking, score: float, threshold: float, choice: Choice) -> Confusion:
    """Predictions when rows of at least `score` are positive; `threshold` is the probability of that score."""
    above = int((ranked.thresholds >= score).sum())
    found = (float(ranked.positives[above - 1]), float(ranked.negatives[above - 1])) if above else (0.0, 0.0)
    return Confusion(
        choice=choice,
        threshold=threshold,
        true_positives=found[0],
        false_positives=found[1],
        true_negatives=float(ranked.negatives[-1]) - found[1],
        false_negatives=float(ranked.positives[-1]) - found[0],
    )


def bins_of(scores: Vector, weights: Vector | None = None, bins: int = BINS) -> NDArray[np.int64]:
    """The quantile bin 0..bins - 1 of every row, lowest scores first: (n,).

    Bins have about the same weight. Rows of equal score share a bin: the one in which the middle of their weight
    lies. So a bin may be empty.
    """
    _, place = np.unique(scores, return_inverse=True)
    weight = np.ones_like(scores) if weights is None else weights
    order = np.lexsort((weight, scores))
    sums = np.zeros(int(place.max()) + 1)
    np.add.at(sums, place[order], weight[order])
    middle = np.cumsum(sums) - sums / 2
    chosen: NDArray[np.int64] = np.minimum(bins - 1, (middle / sums.sum() * bins).astype(np.int64))[place]
    return chosen


def lift(labels: Vector, scores: Vector, weights: Vector | None = None, bins: int = BINS) -> tuple[LiftBin, ...]:
    """Lift and gain by quantile bins, highest scores first; bins without weight are left out."""
    weight = np.ones_like(scores) if weights is None else weights
    place = bins - 1 - bins_of(scores, weights, bins)
    all_weight, all_sum = math.fsum(weight.tolist()), math.fsum((weight * labels).tolist())
    rows: list[LiftBin] = []
    weight_so_far = sum_so_far = 0.0
    for number in range(bins):
        inside = place == number
        if not weight[inside].any():
            continue  # no rows, or rows of weight 0 alone
        own, positive = math.fsum(weight[inside].tolist()), math.fsum((weight * labels)[inside].tolist())
        weight_so_far, sum_so_far = weight_so_far + own, sum_so_far + positive
        mean = all_sum / all_weight
        rows.append(
            LiftBin(
                bin=len(rows) + 1,
                rows=int(inside.sum()),
                weight=own,
                share=weight_so_far / all_weight,
                rate=positive / own,
                lift=_share(positive / own, mean),
                gain=_share(sum_so_far, all_sum),
                cumulative_lift=_share(sum_so_far / weight_so_far, mean),
            )
        )
    return tuple(rows)
