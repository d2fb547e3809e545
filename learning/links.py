"""Residuals as integers that two parties compute from their own scores (docs/protocol.md, sections 4 and 6).

The residual of row i is `r_i = (A_i + sum_k u_ik v_ik + addend_i) / unit` with `unit = 2^f_u * 32767`: A and
u are the business's (from its score z_B and label y), v and the addend the provider's (from its score s).

- logistic: `r = logistic(z) - y`, 2K terms. u_i = coefficients of cos 1, sin 1, cos 2, ... in 2^-f_u,
  v = `round(32767 cos) + 32767` and so on; A has 32767 sum_k u_ik subtracted, so that v is never negative.
- poisson: `r = exp(z) - y`, 1 term. u = `exp(z_B + b)`, v = `round(32767 exp(s - b))`, A = -y.
- linear: `r = z - y`, no term. A = z_B - y, the addend is s.

The first iteration has no terms: all provider scores are 0 and A is the residual. A linear model works in
units of the label bound; its parameters are multiplied by the bound at the end.
"""

import math
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from learning import characters
from learning.reductions import root_mean_square

Vector = NDArray[np.float64]
Integers = NDArray[np.int64]

VALUE_MAX: Final = 32767
BOUND_MIN: Final = 0.25
POISSON_BOUND_MAX: Final = 8.0
LOGISTIC_BOUND_MAX: Final = 64.0
ROWS_ABOVE_MIN: Final = 10
SHARE_ABOVE_MAX: Final = 1000  # one row in a thousand
GRID: Final = (1.0, 1.189207115002721, 1.4142135623730951, 1.6817928305074292)  # 2^(k/4)
LINK_TOLERANCE: Final = 0.0115
LINEAR_RESIDUAL_BOUND: Final = 8.0
POISSON_HEADROOM: Final = 32


class LinkError(ValueError):
    """Labels or a task that cannot be used; `code` may travel, and nothing in the text is private."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class Expansion(msgspec.Struct, frozen=True, kw_only=True):
    """How an iteration writes its residuals.

    `terms` is 2K, `bound` b and `stretch` T are told to the provider. `spread` is the one that the provider
    announced; only the business needs it (0 stands for a quarter of the bound).
    """

    task: str
    terms: int
    bound: float
    stretch: float = 1.0
    label_bound: float = 1.0
    spread: float = 0.0


def residual_bound(task: str, label_bound: float) -> float:
    """Largest |r|, a power of two: fixes f_u through `paillier.budget.bit_budget`."""
    if task == "logistic":
        return 2.0
    if task == "linear":
        return LINEAR_RESIDUAL_BOUND
    if task == "poisson":
        return 2.0 ** math.ceil(math.log2(POISSON_HEADROOM * max(1.0, label_bound)))
    raise LinkError("task_unknown", f"no task {task!r}: logistic, linear or poisson")


def check_labels(task: str, labels: Vector, label_bound: float) -> None:
    """Raises LinkError (code label_unfit) when a label does not suit the task or the declared bound."""
    if not np.isfinite(labels).all():
        raise LinkError("label_unfit", "labels are missing or infinite: drop those rows")
    if task == "logistic" and not np.isin(labels, (0.0, 1.0)).all():
        raise LinkError("label_unfit", "labels of a logistic model are 0 and 1")
    if task == "poisson" and (labels < 0).any():
        raise LinkError("label_unfit", "labels of a Poisson model are counts: 0 or more")
    if task != "logistic" and (np.abs(labels) > label_bound).any():
        raise LinkError("label_unfit", f"a label is beyond the bound {label_bound:g}: declare a larger one")


def _grid_up(value: float) -> float:
    """The smallest 2^(k/4) that is not below `value` > 0."""
    power = math.frexp(value)[1] - 1
    for exponent in (power, power + 1):
        for root in GRID:
            step = math.ldexp(root, exponent)
            if step >= value:
                return step
    return math.ldexp(1.0, power + 2)


def score_range(scores: Vector, task: str, iteration: int) -> tuple[float, float]:
    """(bound, spread) that the provider announces, rounded up to powers of 2^(1/4).

    The bound is the largest score that at least 10 rows and a thousandth of all rows lie beyond (in size for
    logistic, above for Poisson), never below 1/4. (0, 0) where nothing needs it: linear, first iteration.
    """
    if task == "linear" or iteration == 1:
        return 0.0, 0.0
    ordered = np.sort(np.abs(scores) if task == "logistic" else scores)
    beyond = max(ROWS_ABOVE_MIN, len(scores) // SHARE_ABOVE_MAX)
    quantile = float(ordered[max(0, len(scores) - 1 - beyond)])
    bound = _grid_up(max(BOUND_MIN, quantile))
    if task == "poisson":
        return min(bound, POISSON_BOUND_MAX), 0.0
    bound = min(bound, LOGISTIC_BOUND_MAX)
    spread = min(root_mean_square(scores), LOGISTIC_BOUND_MAX)
    return bound, _grid_up(max(spread, bound / 64))


def choose(task: str, *, bound: float, spread: float, tolerance: float, label_bound: float) -> Expansion:
    """The cheapest expansion that is good enough for an announced range.

    `tolerance` follows the gradient (`LoopState.link_tolerance`). Accuracy beyond it is wasted, and so is that
    beyond LINK_TOLERANCE / (1 + pi/8 spread^2): the wider the scores, the smaller are residuals and curvature
    (both shrink like `1 / sqrt(1 + pi/8 spread^2)`, MacKay 1992), and an error weighs by both.
    """
    if task == "linear" or bound == 0.0:
        return Expansion(task=task, terms=0, bound=bound, label_bound=label_bound)
    if task == "poisson":
        return Expansion(task=task, terms=1, bound=bound, label_bound=label_bound)
    floor = LINK_TOLERANCE / (1.0 + math.pi / 8.0 * spread * spread)
    harmonics, stretch = characters.smallest(bound, spread, max(floor, tolerance))
    return Expansion(
        task=task, terms=2 * harmonics, bound=bound, stretch=stretch, label_bound=label_bound, spread=spread
    )


def business_terms(expansion: Expansion, scores: Vector, labels: Vector, f_u: int) -> tuple[Integers, Integers]:
    """(A (n,), u (n, terms)): the plaintexts that the business encrypts. Raises LinkError on unfit labels."""
    check_labels(expansion.task, labels, expansion.label_bound)
    scale = 2.0**f_u
    rows = len(scores)
    coefficients = np.zeros((rows, expansion.terms), dtype=np.int64)
    if expansion.task == "linear":
        residual = np.clip(scores - labels / expansion.label_bound, -4.0, 4.0)
        return _units(residual, f_u), coefficients
    if expansion.task == "poisson":
        cap = residual_bound("poisson", expansion.label_bound) * (1 - 1 / POISSON_HEADROOM)
        shift = expansion.bound if expansion.terms else 0.0
        rate = np.minimum(characters.exponential(scores + shift), cap)
        if not expansion.terms:
            return _units(rate - labels, f_u), coefficients
        coefficients[:, 0] = np.rint(rate * scale).astype(np.int64)
        return _units(-labels, f_u), coefficients
    if not expansion.terms:
        return _units(characters.logistic(scores) - labels, f_u), coefficients
    fitted = _fit(expansion, scores)
    coefficients = np.rint(fitted[1:] * scale).astype(np.int64).T.copy()
    constant = _units(fitted[0] - labels, f_u) - VALUE_MAX * coefficients.sum(axis=1)
    return constant, coefficients


def _fit(expansion: Expansion, scores: Vector) -> Vector:
    """Coefficients (terms + 1, n) of every row's logistic curve, node by node so that rows do not mix."""
    spread = expansion.spread or expansion.bound / 4
    fit = characters.projection(expansion.terms // 2, expansion.stretch, expansion.bound, spread)
    fitted = np.zeros((expansion.terms + 1, len(scores)))
    for j, node in enumerate(fit.nodes):
        curve = characters.logistic(scores + node)
        for k, row in enumerate(fit.rows):
            fitted[k] += row[j] * curve
    return fitted


def _units(values: Vector, f_u: int) -> Integers:
    """Values in units of 1 / (2^f_u * 32767)."""
    return np.rint(values * (2.0**f_u * VALUE_MAX)).astype(np.int64)


def provider_exponents(expansion: Expansion, scores: Vector) -> Integers:
    """v (n, terms), in [0, 65534] (logistic) or [0, 32767] (Poisson). Scores beyond the bound are clipped."""
    values = np.zeros((len(scores), expansion.terms), dtype=np.int64)
    if expansion.task == "poisson" and expansion.terms:
        below = np.minimum(scores, expansion.bound) - expansion.bound
        values[:, 0] = np.rint(characters.exponential(below) * VALUE_MAX).astype(np.int64)
    elif expansion.terms:
        clipped = np.clip(scores, -expansion.bound, expansion.bound)
        for k in range(1, expansion.terms // 2 + 1):
            angle = clipped * (math.pi * k / (expansion.stretch * expansion.bound))
            values[:, 2 * k - 2] = np.rint(np.cos(angle) * VALUE_MAX).astype(np.int64) + VALUE_MAX
            values[:, 2 * k - 1] = np.rint(np.sin(angle) * VALUE_MAX).astype(np.int64) + VALUE_MAX
    return values


def provider_addend(expansion: Expansion, scores: Vector, f_u: int) -> Integers:
    """What the provider adds in the clear, (n,): its clipped score for a linear model, zeros otherwise."""
    if expansion.task != "linear":
        return np.zeros(len(scores), dtype=np.int64)
    return _units(np.clip(scores, -4.0, 4.0), f_u)


def combine(constant: Integers, coefficients: Integers, values: Integers, addend: Integers) -> Integers:
    """The residuals in units, as the encrypted computation gives them: (n,)."""
    total: Integers = constant + (coefficients * values).sum(axis=1) + addend
    return total
