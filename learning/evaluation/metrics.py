"""How good a model is, from labels and scores z (before the link). All sums are correctly rounded."""

import math

import numpy as np
from numpy.typing import NDArray

from learning.evaluation import ranking
from learning.links import characters
from learning.links.family import Family

Vector = NDArray[np.float64]


def weighted_mean(values: Vector, weights: Vector | None = None) -> float:
    """The mean of `values` (n,), row i counted `weights[i]` times."""
    if weights is None:
        return math.fsum(values.tolist()) / len(values)
    return math.fsum((weights * values).tolist()) / math.fsum(weights.tolist())


def _positives_and_ranks(labels: Vector, scores: Vector) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Counts of positive and of all rows at each distinct score, ascending."""
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    positives = np.bincount(inverse, weights=labels == 1, minlength=len(counts)).astype(np.int64)
    return positives, counts.astype(np.int64)


def auc(labels: Vector, scores: Vector) -> float:
    """Area under the receiver operating characteristic, ties counted half; NaN with one class only."""
    positives, counts = _positives_and_ranks(labels, scores)
    negatives = counts - positives
    below = np.cumsum(negatives) - negatives
    all_positives, all_negatives = int(positives.sum()), int(negatives.sum())
    if not all_positives or not all_negatives:
        return math.nan
    doubled = int((positives * (2 * below + negatives)).sum())
    return doubled / (2 * all_positives * all_negatives)


def ks(labels: Vector, scores: Vector) -> float:
    """Kolmogorov-Smirnov distance between the scores of both classes; NaN with one class only."""
    positives, counts = _positives_and_ranks(labels, scores)
    negatives = counts - positives
    if not positives.sum() or not negatives.sum():
        return math.nan
    gap = np.cumsum(positives) / positives.sum() - np.cumsum(negatives) / negatives.sum()
    return float(np.abs(gap).max())


def log_loss(labels: Vector, scores: Vector, weights: Vector | None = None) -> float:
    """Mean negative log-likelihood of 0/1 labels."""
    return weighted_mean(np.logaddexp(0.0, scores) - labels * scores, weights)


def accuracy(labels: Vector, scores: Vector, weights: Vector | None = None) -> float:
    """Share of rows (of their weight) whose label is the likelier one."""
    right = (scores > 0) == (labels == 1)
    return int(right.sum()) / len(labels) if weights is None else weighted_mean(right.astype(np.float64), weights)


def brier(labels: Vector, scores: Vector, weights: Vector | None = None) -> float:
    """Mean square distance of probability and 0/1 label."""
    return weighted_mean((characters.logistic(scores) - labels) ** 2, weights)


def rmse(labels: Vector, scores: Vector, weights: Vector | None = None) -> float:
    """Root of the mean square error of a linear model."""
    return math.sqrt(weighted_mean((scores - labels) ** 2, weights))


def r2(labels: Vector, scores: Vector, weights: Vector | None = None) -> float:
    """Share of the labels' variance that a linear model explains; NaN for constant labels."""
    total = weighted_mean((labels - weighted_mean(labels, weights)) ** 2, weights)
    return 1.0 - weighted_mean((labels - scores) ** 2, weights) / total if total > 0 else math.nan


def poisson_deviance(labels: Vector, scores: Vector, weights: Vector | None = None) -> float:
    """Mean deviance of counts under rates exp(score)."""
    rates = np.exp(scores)
    safe = np.where(labels > 0, labels, 1.0)
    terms = np.where(labels > 0, labels * (np.log(safe) - scores), 0.0) - (labels - rates)
    return 2.0 * weighted_mean(terms, weights)


def gamma_deviance(labels: Vector, scores: Vector, weights: Vector | None = None) -> float:
    """Mean deviance of labels above 0 under means exp(score)."""
    return 2.0 * weighted_mean(labels * np.exp(-scores) - 1.0 - (np.log(labels) - scores), weights)


def tweedie_deviance(labels: Vector, scores: Vector, power: float, weights: Vector | None = None) -> float:
    """Mean deviance of labels under means exp(score) and variance mean^power, 1 <= power <= 2."""
    if power == 1.0:
        return poisson_deviance(labels, scores, weights)
    if power == 2.0:
        return gamma_deviance(labels, scores, weights)
    up, down = np.exp((2.0 - power) * scores), np.exp((1.0 - power) * scores)
    saturated = labels ** (2.0 - power) / ((1.0 - power) * (2.0 - power))
    return 2.0 * weighted_mean(saturated - labels * down / (1.0 - power) + up / (2.0 - power), weights)


def evaluate(
    task: str, labels: Vector, scores: Vector, power: float = 0.0, weights: Vector | None = None
) -> dict[str, float]:
    """The metrics of a task by name, of labels (n,) and scores z (n,); `power` is that of a Tweedie model.

    With `weights` losses and errors are weighted means, and in ranks and hits a row counts as much as it weighs.
    """
    if task == "logistic":
        ranked = None if weights is None else ranking.ranking(labels, scores, weights)
        return {
            "auc": auc(labels, scores) if ranked is None else ranking.area(ranked),
            "ks": ks(labels, scores) if ranked is None else ranking.ks_point(ranked)[0],
            "log_loss": log_loss(labels, scores, weights),
            "accuracy": accuracy(labels, scores, weights),
        }
    if task == "linear":
        return {"rmse": rmse(labels, scores, weights), "r2": r2(labels, scores, weights)}
    variance_power = Family(task=task, power=power).variance_power
    return {
        f"{task}_deviance": tweedie_deviance(labels, scores, variance_power, weights),
        "rmse": rmse(labels, np.exp(scores), weights),
    }
