"""How good a model of several classes is, from the scores of one model against the rest for each class.

Probabilities are those of scikit-learn's OneVsRestClassifier: every class's own, divided by their sum in the row.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

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


def columns(names: Sequence[str], scores: Vector) -> dict[str, Any]:
    """What a table of scores (n, k) of k `names` has: the likeliest class, then each one's probability and score."""
    chances = probabilities(scores)
    return {
        "prediction": [names[place] for place in np.argmax(scores, axis=1)],
        **{f"probability_{name}": chances[:, place] for place, name in enumerate(names)},
        **{f"score_{name}": scores[:, place] for place, name in enumerate(names)},
    }


def as_builtins(
    labels: Vector,
    scores: Vector,
    parts: Mapping[str, NDArray[np.int64]],
    names: Sequence[str],
    weights: Vector | None = None,
) -> dict[str, Any]:
    """Part -> figures as JSON has them: as of models of one score, `metrics` by name. What is not defined is None."""
    found: dict[str, Any] = {}
    for part, rows in parts.items():
        if len(rows):
            one = evaluate(labels[rows].astype(np.int64), scores[rows], None if weights is None else weights[rows])
            found[part] = {
                "rows": one.rows,
                "metrics": {name: value if math.isfinite(value) else None for name, value in metrics(one).items()},
                "classes": list(names),
                "confusion": [list(row) for row in one.confusion],
            }
    return found


def metrics(found: ClassesEvaluation) -> dict[str, float]:
    """The figures that are one number, by name."""
    return {"log_loss": found.log_loss, "accuracy": found.accuracy, "macro_auc": found.macro_auc}


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
