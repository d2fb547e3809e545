"""How good a model of several classes is, from the scores of one model against the rest for each class.

Probabilities are those of scikit-learn's OneVsRestClassifier: every class's own, divided by their sum in the row.
"""

import math

import msgspec
import numpy as np
from numpy.typing import NDArray

from learning.evaluation import ranking
from learning.evaluation.metrics import weighted_mean
from learning.links import characters

Vector = NDArray[np.float64]
Classes = NDArray[np.int64]


class ClassesEvaluation(msgspec.Struct, frozen=True, kw_only=True):
    """`log_loss`, `accuracy`, `macro_auc` (mean over classes of that class against the rest; NaN where one is missing).

    `confusion`: weight of the rows of each class (rows) by the class that is likeliest (columns).
    """

    rows: int
    log_loss: float
    accuracy: float
    macro_auc: float
    confusion: tuple[tuple[float, ...], ...]


def probabilities(scores: Vector) -> Vector:
    """Probabilities (n, k) of `scores` (n, k): each row sums to 1."""
    chances = characters.logistic(scores)
    # A row that no class wants is anybody's.
    total = np.maximum(chances.sum(axis=1, keepdims=True), np.finfo(np.float64).tiny)
    found: Vector = chances / total
    return found


def evaluate(classes: Classes, scores: Vector, weights: Vector | None = None) -> ClassesEvaluation:
    """All figures of the rows' `classes` (n,) in 0..k-1 and `scores` (n, k), with `weights` (n,) if rows count so."""
    chances, (rows, count) = probabilities(scores), scores.shape
    weight = np.ones(rows) if weights is None else weights
    own = chances[np.arange(rows), classes]
    likeliest = np.argmax(scores, axis=1)
    areas = [
        ranking.area(ranking.ranking((classes == place).astype(np.float64), chances[:, place], weights))
        for place in range(count)
    ]
    return ClassesEvaluation(
        rows=rows,
        log_loss=weighted_mean(-np.log(np.maximum(own, np.finfo(np.float64).eps)), weights),
        accuracy=weighted_mean((likeliest == classes).astype(np.float64), weights),
        macro_auc=math.fsum(areas) / count if all(math.isfinite(one) for one in areas) else math.nan,
        confusion=tuple(
            tuple(math.fsum(weight[(classes == true) & (likeliest == found)].tolist()) for found in range(count))
            for true in range(count)
        ),
    )
