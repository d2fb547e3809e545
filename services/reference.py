"""The model that nobody may fit in earnest: the optimum on the joined table, for comparison in demonstrations."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]

ITERATIONS_MAX = 200
DECREMENT_MIN = 1e-20


@dataclass(frozen=True, slots=True)
class Reference:
    """Minimiser of mean loss + l2/2 |coefficients|^2; the intercept is not penalised."""

    intercept: float
    coefficients: Vector
    converged: bool


def fit(task: str, values: Vector, label: Vector, l2: float) -> Reference:
    """Damped Newton on columns `values` (n, d) and `label` (n,): logistic, linear or poisson.

    A constant column gets the coefficient 0.
    """
    rows, columns = values.shape
    centre, scale = values.mean(axis=0), values.std(axis=0)
    scale = np.where(np.ptp(values, axis=0) > 0, scale, 1.0)
    # The optimum of a linear model is proportional to its labels: in units of their size the stop fits all of them.
    unit = max(float(np.abs(label).max()), np.finfo(float).tiny) if task == "linear" else 1.0
    label = label / unit
    design = np.column_stack([np.ones(rows), (values - centre) / scale])
    penalties = np.concatenate([[0.0], l2 / scale**2])
    weights = np.zeros(columns + 1)
    if task == "poisson":
        weights[0] = np.log(label.mean())
    converged = False
    for _ in range(ITERATIONS_MAX):
        gradient, hessian = _derivatives(task, design, label, weights, penalties)
        step = np.linalg.solve(hessian, gradient)
        decrement = float(gradient @ step)
        if decrement < DECREMENT_MIN:
            converged = True
            break
        weights = _search(task, design, label, weights, penalties, step, decrement)
    weights = weights * unit
    coefficients = weights[1:] / scale
    return Reference(float(weights[0] - centre @ coefficients), coefficients, converged)


def _loss(task: str, design: Vector, label: Vector, weights: Vector, penalties: Vector) -> float:
    score = design @ weights
    if task == "logistic":
        losses = np.logaddexp(0.0, score) - label * score
    elif task == "linear":
        losses = (score - label) ** 2 / 2
    else:
        losses = np.exp(np.minimum(score, 700.0)) - label * score
    return float(losses.mean() + (penalties * weights**2).sum() / 2)


def _derivatives(task: str, design: Vector, label: Vector, weights: Vector, penalties: Vector) -> tuple[Vector, Vector]:
    score = design @ weights
    if task == "logistic":
        mean = 1.0 / (1.0 + np.exp(-np.clip(score, -700, 700)))
        curvature = mean * (1.0 - mean)
    elif task == "linear":
        mean, curvature = score, np.ones_like(score)
    else:
        mean = np.exp(np.minimum(score, 700.0))
        curvature = mean
    gradient = design.T @ (mean - label) / len(label) + penalties * weights
    hessian = (design * curvature[:, None]).T @ design / len(label) + np.diag(penalties + 1e-12)
    return gradient, hessian


def _search(
    task: str,
    design: Vector,
    label: Vector,
    weights: Vector,
    penalties: Vector,
    step: NDArray[np.floating],
    decrement: float,
) -> Vector:
    before, length = _loss(task, design, label, weights, penalties), 1.0
    while length > 1e-6:
        after = _loss(task, design, label, weights - length * step, penalties)
        if after <= before - 1e-4 * length * decrement + 1e-15:
            break
        length /= 2
    return weights - length * step
