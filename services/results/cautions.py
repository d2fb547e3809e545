"""What is to be known before a model is believed: where its training ended, and what its data do to it.

The first part follows from the files that every party has of a job; the second needs all tables and is for reports of
`warren local`. What is said has a section in docs/performance.md, "How near the optimum".
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from learning.links.family import LOG_LINKS, Family
from learning.links.residual_terms import LOGISTIC_BOUND_MAX, ROWS_ABOVE_MIN
from learning.links.targets import Targets

Vector = NDArray[np.float64]

VALUE_BITS: Final = 24
"""Of the log links of new jobs."""

CLIPPED_MAX: Final = 0.02
"""Share of rows at the end of the score range from which on coefficients are visibly off."""

TAIL_MAX: Final = 10.0
"""Standard deviations that the largest value of a column is away from its mean."""

VALUES_MIN: Final = 10
"""Distinct values of a column that can have a tail: flags have none."""

NOISE_MAX: Final = 0.02
NAMED_MAX: Final = 5


def of_training(parameters: Mapping[str, Any], history: Mapping[str, Any]) -> tuple[str, ...]:
    """From parameters.json and history.json: how the loop ended, and whether the range of scores was enough."""
    found, facts = [], history["iterations"]
    early = "stopping" in history
    if not parameters["converged"] and not early:
        found.append(
            f"not converged after {parameters['iterations']} iterations: raise max_iterations where the release rules "
            "leave more, or l2; clip or log columns with long tails; leave out what other columns determine"
        )
    bound = float(facts[-1].get("bound", 0.0)) if facts else 0.0
    most = _bound_max(parameters)
    if most and bound >= most:
        found.append(
            f"the providers' scores reach the end of the range that residuals are computed for ({bound:.3g}): clip or "
            "log columns with long tails, or raise l2"
        )
    rows = int(parameters["rows"])
    if bound > 0.0 and parameters["task"] in ("logistic", *LOG_LINKS) and rows * CLIPPED_MAX < ROWS_ABOVE_MIN:
        found.append(
            f"of {rows} rows the {ROWS_ABOVE_MIN} with the largest scores of a provider are computed as if they were "
            "smaller, so that no row shows: coefficients may be several per cent from the optimum"
        )
    return tuple(found)


def _bound_max(parameters: Mapping[str, Any]) -> float:
    """The largest range of scores of a task; 0 where there is none."""
    task = parameters["task"]
    if task == "logistic":
        return LOGISTIC_BOUND_MAX
    if task not in LOG_LINKS:
        return 0.0
    power = float(parameters.get("tweedie_power", 0.0))
    return Family(task=task, power=power, value_bits=VALUE_BITS).score_bound_max


def of_columns(names: Sequence[str], values: Vector) -> tuple[str, ...]:
    """Columns `values` (n, d) with a value far from all others, which the 16 bits and the score range are then for."""
    centred = np.abs(values - values.mean(axis=0))
    far = centred.max(axis=0, initial=0.0) > TAIL_MAX * values.std(axis=0)
    tailed = [name for j, name in enumerate(names) if far[j] and len(np.unique(values[:, j])) > VALUES_MIN]
    if not tailed:
        return ()
    shown = ", ".join(tailed[:NAMED_MAX]) + (", ..." if len(tailed) > NAMED_MAX else "")
    return (f"long tails (over {TAIL_MAX:g} standard deviations): {shown}; clip or log them (docs/preparation.md)",)


def coefficient_noise(
    task: str,
    power: float,
    values: Vector,
    targets: Targets,
    scores: Vector,
    coefficients: Vector,
    *,
    l2: float,
    deviations: Vector,
) -> float:
    """What release noise in one gradient moves the coefficients by: relative root mean square, standardised columns.

    At the optimum an error e of the gradient moves the weights by H^-1 e, H the curvature of the penalised mean loss
    with an intercept. `values` (n, d); `scores` (n,) of the model; `deviations` (d + 1,): of the noise in the
    gradient's entries, the intercept's first (`deviations_of`). NaN where H is singular or all coefficients are 0.
    """
    rows, columns = values.shape
    centred = values - values.mean(axis=0)
    design = np.column_stack([np.ones(rows), centred])
    bent = targets.normalised(rows).weights * _curvature(task, power, targets.label, scores)
    hessian = (design * bent[:, None]).T @ design / rows
    hessian[1:, 1:] += l2 * np.eye(columns)
    scale = values.std(axis=0)
    size = float(np.linalg.norm(coefficients * scale))
    # In standardised columns, so that their units do not make a matrix singular.
    units = np.concatenate([[1.0], np.where(scale > 0.0, scale, 1.0)])
    try:
        moved = np.linalg.solve(hessian / units[:, None] / units, np.diag(deviations / units))[1:]
    except np.linalg.LinAlgError:
        return math.nan
    return float(np.linalg.norm(moved)) / size if size > 0.0 else math.nan


def _curvature(task: str, power: float, label: Vector, scores: Vector) -> Vector:
    if task == "logistic":
        mean: Vector = 1.0 / (1.0 + np.exp(-np.clip(scores, -700.0, 700.0)))
        return mean * (1.0 - mean)
    if task == "linear":
        return np.ones_like(scores)
    p = Family(task=task, power=power).variance_power
    bent: Vector = (2.0 - p) * np.exp((2.0 - p) * scores) + (p - 1.0) * label * np.exp((1.0 - p) * scores)
    return bent


def deviations_of(values: Vector, unit: float, release_noise: float) -> Vector:
    """Standard deviations (d + 1,) of the release noise in a mean gradient; `unit`: what a residual of 1 stands for.

    It is uniform, up to `release_noise` of a record with the column's largest value.
    """
    largest = np.concatenate([[1.0], np.abs(values - values.mean(axis=0)).max(axis=0, initial=0.0)])
    return largest * (release_noise * unit / (len(values) * math.sqrt(3.0)))


def of_noise(noise: float) -> tuple[str, ...]:
    """Of the expected noise of the coefficients, where it is worth a word."""
    if not noise > NOISE_MAX:
        return ()
    return (
        f"the release noise moves the coefficients by about {noise:.1%}, mostly those of columns that nearly determine "
        "each other: leave one of them out, raise l2, align more rows, or agree on less release_noise",
    )
