"""The model that nobody may fit in earnest: the optimum on the joined table, for comparison in demonstrations."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from learning.links.family import LOG_LINKS, Family
from learning.solvers.proximal import proximal_point

Vector = NDArray[np.float64]

ITERATIONS_MAX = 200
DECREMENT_MIN = 1e-20


@dataclass(frozen=True, slots=True)
class Reference:
    """Minimiser of mean loss + l2/2 |coefficients|^2 + l1 sum |coefficients|; the intercept is not penalised."""

    intercept: float
    coefficients: Vector
    converged: bool


@dataclass(frozen=True, slots=True)
class _Problem:
    """Standardised columns with a constant, and what the loss needs of each row."""

    task: str
    power: float
    design: Vector
    label: Vector
    penalties: Vector
    row_weights: Vector
    offset: Vector
    shrinkage: Vector

    def loss(self, weights: Vector) -> float:
        score, label, power = self.design @ weights + self.offset, self.label, self.power
        if self.task == "logistic":
            losses = np.logaddexp(0.0, score) - label * score
        elif self.task == "linear":
            losses = (score - label) ** 2 / 2
        else:
            losses = _integral(2.0 - power, score) - label * _integral(1.0 - power, score)
        smooth = (self.row_weights * losses).mean() + (self.penalties * weights**2).sum() / 2
        return float(smooth + (self.shrinkage * np.abs(weights)).sum())

    def derivatives(self, weights: Vector) -> tuple[Vector, Vector]:
        score, label, power = self.design @ weights + self.offset, self.label, self.power
        if self.task == "logistic":
            mean = 1.0 / (1.0 + np.exp(-np.clip(score, -700, 700)))
            residual, curvature = mean - label, mean * (1.0 - mean)
        elif self.task == "linear":
            residual, curvature = score - label, np.ones_like(score)
        else:
            up, down = _exponential((2.0 - power) * score), label * _exponential((1.0 - power) * score)
            residual, curvature = up - down, (2.0 - power) * up + (power - 1.0) * down
        residual, curvature = residual * self.row_weights, curvature * self.row_weights
        gradient = self.design.T @ residual / len(label) + self.penalties * weights
        hessian = (self.design * curvature[:, None]).T @ self.design / len(label)
        return gradient, hessian + np.diag(self.penalties + 1e-12)


def _exponential(exponent: Vector) -> Vector:
    result: Vector = np.exp(np.minimum(exponent, 700.0))
    return result


def _integral(power: float, score: Vector) -> Vector:
    """The antiderivative of `exp(power score)` in the score."""
    return score if power == 0.0 else _exponential(power * score) / power


def fit(
    task: str,
    values: Vector,
    label: Vector,
    l2: float,
    *,
    power: float = 0.0,
    weight: Vector | None = None,
    offset: Vector | None = None,
    l1: float = 0.0,
) -> Reference:
    """Damped Newton on columns `values` (n, d) and `label` (n,): any task of `learning.links.family`.

    `power` is that of a Tweedie model, `weight` and `offset` (n,) those of rows.
    A constant column gets the coefficient 0.
    """
    rows, columns = values.shape
    centre, scale = values.mean(axis=0), values.std(axis=0)
    scale = np.where(np.ptp(values, axis=0) > 0, scale, 1.0)
    # The optimum of a linear model is proportional to its labels: in units of their size the stop fits all of them.
    unit = max(float(np.abs(label).max()), np.finfo(float).tiny) if task == "linear" else 1.0
    problem = _Problem(
        task=task,
        power=Family(task=task, power=power).variance_power,
        design=np.column_stack([np.ones(rows), (values - centre) / scale]),
        label=label / unit,
        penalties=np.concatenate([[0.0], l2 / scale**2]),
        row_weights=np.ones(rows) if weight is None else weight / weight.mean(),
        offset=np.zeros(rows) if offset is None else offset / unit,
        shrinkage=np.concatenate([[0.0], l1 / unit / scale]),
    )
    weights = np.zeros(columns + 1)
    if task in LOG_LINKS:
        weights[0] = np.log(label.mean())
    converged = False
    for _ in range(ITERATIONS_MAX):
        gradient, hessian = problem.derivatives(weights)
        step = np.linalg.solve(hessian, gradient)
        if l1:
            # A proximal Newton step (Lee, Sun, Saunders 2014): the penalty is kept as it is.
            factor = np.linalg.cholesky(hessian).astype(np.float64)
            step = weights - proximal_point(weights - step, factor, problem.shrinkage)
        decrement = float(step @ hessian @ step)
        if decrement < DECREMENT_MIN * max(1.0, abs(problem.loss(weights))):
            converged = True
            break
        weights = _search(problem, weights, step, decrement)
    weights = weights * unit
    coefficients = weights[1:] / scale
    return Reference(float(weights[0] - centre @ coefficients), coefficients, converged)


def _search(problem: _Problem, weights: Vector, step: NDArray[np.floating], decrement: float) -> Vector:
    before, length = problem.loss(weights), 1.0
    while length > 1e-6:
        after = problem.loss(weights - length * step)
        if after <= before - 1e-4 * length * decrement + 1e-15 * max(1.0, abs(before)):
            break
        length /= 2
    return weights - length * step
