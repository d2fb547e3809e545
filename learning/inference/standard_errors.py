"""Standard errors and p-values of a party's own coefficients, and how much of them release noise leaves.

Normal approximation (Wald): `z = estimate / error`, `p = 2 Phi(-|z|)`, as generalised linear models have it
(McCullagh, Nelder: Generalized Linear Models, 2nd ed., 1989; statsmodels' GLM). The error is the root of the diagonal
of `dispersion H^-1 / n` with H the joint curvature of the mean penalised loss at the estimate; with a penalty that is
the posterior covariance under the Gaussian prior that it stands for.

A p-value is reported when release noise and the expansions' errors leave it within 5 % (two standard deviations).
`p_at_most` is given always: the p-value with error and estimate two deviations against it.
"""

import math
from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from learning.inference.curvature import Block, Summary
from learning.solvers.history import LocalHistory

Vector = NDArray[np.float64]

P_ERROR_MAX: Final = 0.05
DEVIATIONS: Final = 2.0
LINK_DEVIATION: Final = 0.002
"""Of z: what the expansion of the gradient at the target parameters is off by."""
CURVATURE_DEVIATION: Final = 0.0005
"""Of a standard error, relative: what the expansion of the curvature is off by."""
CONFIDENCE_95: Final = 1.959963984540054
SECOND_ORDER: Final = 2.0
NOT_REPORTED: Final = "not reported (release noise)"
NOT_CONVERGED: Final = "not reported (not converged)"
INTERCEPT: Final = "intercept at the mean of all columns"


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """One coefficient of the table, on the raw column's scale.

    `estimate`: the target parameter after the stage's Newton step. `estimate_noise` and `error_noise`: standard
    deviations that release noise and expansions put on estimate and `error`. `p` is None where these leave it worse
    than 5 %, `note` says so; `error` and all that needs it are None where noise leaves nothing of it.
    """

    name: str
    estimate: float
    estimate_noise: float | None
    error: float | None
    error_noise: float | None
    z: float | None
    p: float | None
    p_at_most: float | None
    lower: float | None
    upper: float | None
    note: str = ""


def two_sided(z: float) -> float:
    """P(|Z| >= |z|) of a standard normal Z."""
    return math.erfc(abs(z) / math.sqrt(2.0))


def p_value_error(z: float, deviation: float) -> float:
    """Relative change of the p-value when |z| is `deviation` smaller or larger, whichever is more."""
    here = two_sided(z)
    if here == 0.0:
        return math.inf
    return max(two_sided(max(0.0, abs(z) - deviation)) / here - 1.0, 1.0 - two_sided(abs(z) + deviation) / here)


def table(
    names: Sequence[str], history: LocalHistory, block: Block, rows: int, *, dispersion: float = 1.0
) -> tuple[Estimate, ...]:
    """The party's table; `names` of its columns without the intercept, which comes first where there is one.

    `dispersion` in units of `label_unit` squared. A Newton step of `decrement` errors leaves some of second order: the
    change of curvature along it, about the mean of what it does to scores, `decrement / sqrt(n)`, times the step. After
    a training that stopped far from the optimum this hides p-values as release noise does.
    """
    every = [INTERCEPT, *names] if history.intercept else list(names)
    unit = history.label_unit
    weights = (history.weights + block.change) * unit
    decrement = block.decrement / math.sqrt(max(dispersion, np.finfo(float).tiny))
    left = SECOND_ORDER * decrement * decrement / math.sqrt(rows)
    found = []
    for j, name in enumerate(every):
        variance = float(block.covariance[j, j]) * dispersion
        noise = float(block.covariance_noise[j]) * dispersion
        noise_here = float(block.change_noise[j]) * unit
        found.append(_estimate(name, float(weights[j]), variance * unit**2, noise * unit**2, noise_here, left))
    return tuple(found)


def _estimate(name: str, value: float, variance: float, variance_noise: float, noise: float, left: float) -> Estimate:
    """`left`: how far the optimum may still be away, in errors."""
    usable = variance > 0.0 and math.isfinite(variance) and DEVIATIONS * variance_noise < variance
    if not usable:
        nothing = {key: None for key in ("error", "error_noise", "z", "p", "p_at_most", "lower", "upper")}
        return Estimate(
            name=name,
            estimate=value,
            estimate_noise=noise if math.isfinite(noise) else None,
            note=NOT_REPORTED,
            **nothing,
        )
    error = math.sqrt(variance)
    relative = math.hypot(variance_noise / (2.0 * variance), CURVATURE_DEVIATION)
    z = value / error
    deviation = DEVIATIONS * math.hypot(noise / error, LINK_DEVIATION, z * relative) + left
    reported = p_value_error(z, deviation) <= P_ERROR_MAX
    return Estimate(
        name=name,
        estimate=value,
        estimate_noise=noise,
        error=error,
        error_noise=error * relative,
        z=z,
        p=two_sided(z) if reported else None,
        p_at_most=two_sided(max(0.0, abs(z) - deviation)),
        lower=value - CONFIDENCE_95 * error,
        upper=value + CONFIDENCE_95 * error,
        note="" if reported else NOT_CONVERGED if left > deviation / 2.0 else NOT_REPORTED,
    )


def dispersion(task: str, own: Summary, other: Summary, rows: int) -> float:
    """The scale of the variance: 1 for labels that are classes or counts, else the deviance by degrees of freedom.

    For a linear model that is the mean square residual, in units of `label_unit` squared.
    """
    if task in ("logistic", "poisson"):
        return 1.0
    columns = len(own.gradient) + len(other.gradient)
    return max(0.0, rows * (own.unexplained + other.unexplained) / max(1, rows - columns))
