"""How good a model is on one part of the rows: every figure of a report, from labels and scores.

A part is the rows of training, validation or test. Thresholds are chosen on one part (training) and kept on the
others, so that what is reported there is what the threshold does to rows it was not chosen on.
"""

import math
from collections.abc import Mapping
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from learning.evaluation import metrics, ranking
from learning.evaluation.calibration import CalibrationBin, HosmerLemeshow, effective_sizes, hosmer_lemeshow
from learning.evaluation.calibration import table as calibration_table
from learning.links import characters

Vector = NDArray[np.float64]

TRAINING: Final = "training"


class Threshold(msgspec.Struct, frozen=True, kw_only=True):
    """A score from which rows are predicted positive, and why this one."""

    choice: ranking.Choice
    score: float

    @property
    def probability(self) -> float:
        """The probability that belongs to the score."""
        return float(characters.logistic(np.array([self.score]))[0]) if math.isfinite(self.score) else 1.0


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of one part. `metrics` by name; `confusion` and `hosmer_lemeshow` for 0/1 labels only."""

    part: str
    rows: int
    weight: float
    metrics: dict[str, float]
    calibration: tuple[CalibrationBin, ...]
    lift: tuple[ranking.LiftBin, ...]
    confusion: tuple[ranking.Confusion, ...] = ()
    hosmer_lemeshow: HosmerLemeshow | None = None


def mean_response(task: str, scores: Vector) -> Vector:
    """The prediction on the scale of the labels: the inverse link of `scores` (n,)."""
    if task == "logistic":
        return characters.logistic(scores)
    return scores if task == "linear" else characters.exponential(scores)


def thresholds(
    labels: Vector,
    scores: Vector,
    weights: Vector | None = None,
    *,
    rate: float | None = None,
    given: float | None = None,
) -> tuple[Threshold, ...]:
    """The thresholds to report of a logistic model: 1/2, that of KS, and the ones asked for.

    `rate`: predict this share of the weight positive, at most; `given`: a probability. Raises ValueError where
    one of them is not between 0 and 1.
    """
    for name, value in (("rate", rate), ("threshold", given)):
        if value is not None and not 0 < value < 1:
            raise ValueError(f"{name} {value:g} is not between 0 and 1")
    ranked = ranking.ranking(labels, scores, weights)
    found = [Threshold(choice="even", score=0.0)]
    _, at_ks = ranking.ks_point(ranked)
    if math.isfinite(at_ks):
        found.append(Threshold(choice="ks", score=at_ks))
    if rate is not None:
        found.append(Threshold(choice="rate", score=ranking.threshold_of_rate(ranked, rate)))
    if given is not None:
        found.append(Threshold(choice="given", score=math.log(given / (1 - given))))
    return tuple(found)


def evaluate(
    task: str,
    labels: Vector,
    scores: Vector,
    weights: Vector | None = None,
    *,
    part: str = TRAINING,
    at: tuple[Threshold, ...] = (),
    bins: int = ranking.BINS,
    power: float = 0.0,
) -> Evaluation:
    """All figures of `labels` (n,) and `scores` (n,), n > 0, with `weights` (n,) if rows count differently.

    `at`: thresholds of the confusion tables of a logistic model. `power`: that of a Tweedie model.
    """
    predictions = mean_response(task, scores)
    table = calibration_table(labels, predictions, weights, bins)
    binary = task == "logistic"
    sizes = None if weights is None or (weights == 1.0).all() else effective_sizes(predictions, weights, bins)
    ranked = (ranking.ranking if binary else ranking.ranking_of_amounts)(labels, scores, weights)
    return Evaluation(
        part=part,
        rows=len(labels),
        weight=float(len(labels)) if weights is None else math.fsum(weights.tolist()),
        metrics=_figures(task, labels, scores, predictions, weights, ranked, power),
        calibration=table,
        lift=ranking.lift(labels, scores, weights, bins),
        confusion=tuple(ranking.confusion(ranked, one.score, one.probability, one.choice) for one in at if binary),
        hosmer_lemeshow=hosmer_lemeshow(table, held_out=part != TRAINING, sizes=sizes) if binary else None,
    )


def _figures(
    task: str,
    labels: Vector,
    scores: Vector,
    predictions: Vector,
    weights: Vector | None,
    ranked: ranking.Ranking,
    power: float,
) -> dict[str, float]:
    if task == "logistic":
        auc = ranking.area(ranked)
        loss = metrics.log_loss(labels, scores, weights)
        return {
            "auc": auc,
            "gini": 2.0 * auc - 1.0,
            "ks": ranking.ks_point(ranked)[0],
            "log_loss": loss,
            "deviance": 2.0 * loss,
            "brier": metrics.brier(labels, scores, weights),
        }
    figures = {"deviance": deviance(task, labels, scores, weights, power)}
    figures["rmse"] = metrics.rmse(labels, predictions, weights)
    if task == "linear":
        figures["r2"] = metrics.r2(labels, scores, weights)
    elif (labels >= 0).all() and labels.any():
        figures["gini"] = ranking.gini_of_amounts(ranked)
    return figures


def deviance(task: str, labels: Vector, scores: Vector, weights: Vector | None = None, power: float = 0.0) -> float:
    """Mean unit deviance of a task at `scores` (n,). Raises ValueError for a task without one."""
    if task == "logistic":
        return 2.0 * metrics.log_loss(labels, scores, weights)
    if task == "linear":
        return metrics.weighted_mean((labels - scores) ** 2, weights)
    if task == "poisson":
        return metrics.poisson_deviance(labels, scores, weights)
    if task == "gamma":
        return metrics.gamma_deviance(labels, scores, weights)
    if task == "tweedie":
        return metrics.tweedie_deviance(labels, scores, power, weights)
    raise ValueError(f"no deviance of task {task!r}")


def by_part(
    task: str,
    labels: Vector,
    scores: Vector,
    parts: Mapping[str, NDArray[np.int64]],
    weights: Vector | None = None,
    *,
    rate: float | None = None,
    given: float | None = None,
    power: float = 0.0,
) -> dict[str, Evaluation]:
    """Evaluations of all `parts` (name -> rows) that have rows; thresholds are those of the training part.

    Without a training part they are chosen on the first one.
    """
    filled = {name: rows for name, rows in parts.items() if len(rows)}
    first = filled.get(TRAINING, next(iter(filled.values()), np.zeros(0, dtype=np.int64)))

    def of(values: Vector | None, rows: NDArray[np.int64]) -> Vector | None:
        return None if values is None else values[rows]

    at: tuple[Threshold, ...] = ()
    if task == "logistic" and len(first):
        at = thresholds(labels[first], scores[first], of(weights, first), rate=rate, given=given)
    return {
        name: evaluate(task, labels[rows], scores[rows], of(weights, rows), part=name, at=at, power=power)
        for name, rows in filled.items()
    }


SHARES: Final = ("precision", "recall", "specificity", "f1", "accuracy", "predicted_rate")


def as_builtins(evaluations: Mapping[str, Evaluation]) -> dict[str, Any]:
    """Part -> figures as JSON has them. What is not defined (the AUC of a single class) is None."""
    found: dict[str, Any] = {}
    for part, one in evaluations.items():
        content = msgspec.to_builtins(one)
        content["confusion"] = [
            {**msgspec.to_builtins(table), **{name: getattr(table, name) for name in SHARES}} for table in one.confusion
        ]
        found[part] = _finite(content)
    return found


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinity."""
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
