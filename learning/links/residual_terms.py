"""Residuals as integers that two parties compute from their own scores (docs/protocol.md, sections 4 and 6).

The residual of row i is `r_i = (A_i + sum_k u_ik v_ik + addend_i) / unit` with `unit = 2^f_u (2^f_v - 1)`: A and
u are the business's (from its score z_B, label y and weight), v and the addend the provider's (from its score s).

- logistic: `r = logistic(z) - y`, 2K terms. u_i = coefficients of cos 1, sin 1, cos 2, ... in 2^-f_u,
  v = `round(32767 cos) + 32767` and so on; A has 32767 sum_k u_ik subtracted, so that v is never negative.
- log links: `learning.links.log_links`.
- linear: `r = z - y`, no term. A = z_B - y, the addend is s. With row weights w the provider's score needs a
  term: u = w b, v = `round(32767 s / b) + 32767`, A = w (z_B - y) less the offset.

The first iteration has no terms: all provider scores are 0 and A is the residual. A linear model works in
units of the label bound; its parameters are multiplied by the bound at the end.
"""

import math
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from learning.arithmetic.announced import coarse
from learning.arithmetic.reductions import root_mean_square
from learning.links import characters, log_links
from learning.links.family import LOG_LINKS, VALUE_BITS, Family, LinkError
from learning.links.targets import Targets

Vector = NDArray[np.float64]
Integers = NDArray[np.int64]

VALUE_MAX: Final = 32767
BOUND_MIN: Final = 0.25
LOGISTIC_BOUND_MAX: Final = 64.0
LINEAR_SCORE_MAX: Final = 4.0
ROWS_ABOVE_MIN: Final = 10
SHARE_ABOVE_MAX: Final = 1000  # one row in a thousand
ROOM_ABOVE: Final = 2.0
LINK_TOLERANCE: Final = 0.0115


class Expansion(msgspec.Struct, frozen=True, kw_only=True):
    """How an iteration writes its residuals.

    `terms` is 2K, `bound` b and `stretch` T are told to the provider. `spread` is the one that the provider
    announced; only the business needs it (0 stands for a quarter of the bound).
    """

    family: Family
    terms: int
    bound: float
    stretch: float = 1.0
    spread: float = 0.0

    @property
    def task(self) -> str:
        """The family's."""
        return self.family.task


def check_labels(family: Family, labels: Vector) -> None:
    """Raises LinkError (code label_unfit) when a label does not suit the task or the declared bound."""
    if not np.isfinite(labels).all():
        raise LinkError("label_unfit", "labels are missing or infinite: drop those rows")
    if family.task == "logistic" and not np.isin(labels, (0.0, 1.0)).all():
        raise LinkError("label_unfit", "labels of a logistic model are 0 and 1")
    if family.task == "poisson" and (labels < 0).any():
        raise LinkError("label_unfit", "labels of a Poisson model are counts: 0 or more")
    if family.task == "tweedie" and (labels < 0).any():
        raise LinkError("label_unfit", "labels of a Tweedie model are 0 or more")
    if family.task == "gamma" and (labels <= 0).any():
        raise LinkError("label_unfit", "labels of a Gamma model are larger than 0: drop other rows")
    if family.task in ("linear", "poisson") and (np.abs(labels) > family.label_bound).any():
        raise LinkError("label_unfit", f"a label is beyond the bound {family.label_bound:g}: declare a larger one")


def score_range(scores: Vector, family: Family, iteration: int) -> tuple[float, float]:
    """(bound, spread) that the provider announces, rounded up to powers of 2^(1/4).

    The bound is the largest score that at least 10 rows and a thousandth of all rows lie beyond (in size for
    logistic, on the side where characters grow for a log link), never below 1/4; twice that where clipping costs more
    than width (values of more than 15 bits, weighted linear). (0, 0) where nothing needs it: linear, first iteration.
    """
    if iteration == 1 or (family.task == "linear" and not family.weighted):
        return 0.0, 0.0
    logs = family.task in LOG_LINKS
    ordered = np.sort(log_links.upper(scores, family) if logs else np.abs(scores))
    beyond = max(ROWS_ABOVE_MIN, len(scores) // SHARE_ABOVE_MAX)
    quantile = float(ordered[max(0, len(scores) - 1 - beyond)])
    if family.value_bits > VALUE_BITS or family.task == "linear":
        # Values have bits to spare, and the rows that would be clipped are those with the largest residuals.
        quantile *= ROOM_ABOVE
    bound = coarse(max(BOUND_MIN, quantile))
    if logs:
        return min(bound, family.score_bound_max), 0.0
    if family.task == "linear":
        return min(bound, LINEAR_SCORE_MAX), 0.0
    bound = min(bound, LOGISTIC_BOUND_MAX)
    spread = min(root_mean_square(scores), LOGISTIC_BOUND_MAX)
    return bound, coarse(max(spread, bound / 64))


def choose(family: Family, *, bound: float, spread: float, tolerance: float) -> Expansion:
    """The cheapest expansion that is good enough for an announced range.

    `tolerance` follows the gradient (`LoopState.link_tolerance`). Accuracy beyond it is wasted, and so is that
    beyond LINK_TOLERANCE / (1 + pi/8 spread^2): the wider the scores, the smaller are residuals and curvature
    (both shrink like `1 / sqrt(1 + pi/8 spread^2)`, MacKay 1992), and an error weighs by both.
    """
    if bound == 0.0 or (family.task == "linear" and not family.weighted):
        return Expansion(family=family, terms=0, bound=bound)
    if family.task == "linear":
        return Expansion(family=family, terms=1, bound=bound)
    if family.task in LOG_LINKS:
        return Expansion(family=family, terms=len(family.exponents), bound=bound)
    floor = LINK_TOLERANCE / (1.0 + math.pi / 8.0 * spread * spread)
    harmonics, stretch = characters.smallest(bound, spread, max(floor, tolerance))
    return Expansion(family=family, terms=2 * harmonics, bound=bound, stretch=stretch, spread=spread)


def business_terms(expansion: Expansion, scores: Vector, targets: Targets, f_u: int) -> tuple[Integers, Integers]:
    """(A (n,), u (n, terms)): the plaintexts that the business encrypts. Raises LinkError on unfit labels.

    A row's weight multiplies both and its offset is added to the score, so that the provider does with them what it
    does without.
    """
    family = expansion.family
    check_labels(family, targets.label)
    scale = targets.weights / family.residual_unit
    if targets.offset is not None:
        scores = scores + targets.offset / (family.label_bound if family.task == "linear" else 1.0)
    constant, coefficients, offset = _plain_terms(expansion, scores, targets.label, scale)
    whole = np.rint(coefficients * 2.0**f_u).astype(np.int64)
    values_max = (1 << family.value_bits) - 1
    return _units(constant, f_u, values_max) - offset * values_max * whole.sum(axis=1), whole


def _plain_terms(expansion: Expansion, scores: Vector, labels: Vector, scale: Vector) -> tuple[Vector, Vector, int]:
    """(constant (n,), coefficients (n, terms), 1 where values have an offset or 0), each row times its scale."""
    family, terms = expansion.family, expansion.terms
    if family.task in LOG_LINKS:
        return *log_links.plain_terms(family, expansion.bound, scores, labels, scale, terms=terms), 0
    if family.task == "linear":
        residual = np.clip(scores - labels / family.label_bound, -LINEAR_SCORE_MAX, LINEAR_SCORE_MAX)
        return residual * scale, np.tile(expansion.bound * scale, (terms, 1)).T, 1
    if not terms:
        return (characters.logistic(scores) - labels) * scale, np.zeros((len(scores), 0)), 1
    fitted = _fit(expansion, scores)
    return (fitted[0] - labels) * scale, (fitted[1:] * scale).T.copy(), 1


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


def _units(values: Vector, f_u: int, values_max: int = VALUE_MAX) -> Integers:
    """Values in units of 1 / (2^f_u * values_max)."""
    return np.rint(values * (2.0**f_u * values_max)).astype(np.int64)


def check_terms(expansion: Expansion) -> None:
    """Raises LinkError (code terms_wrong) unless the model can have so many terms, with a bound where there are any."""
    family, terms = expansion.family, expansion.terms
    if family.task == "logistic":
        fits = terms % 2 == 0
    else:
        fits = terms in (0, 1 if family.task == "linear" and family.weighted else len(family.exponents))
    if not fits or terms < 0 or (terms and not 0.0 < expansion.bound < math.inf):
        raise LinkError("terms_wrong", f"{terms} link terms do not suit a {family.task} model")


def provider_exponents(expansion: Expansion, scores: Vector) -> Integers:
    """v (n, terms), in [0, 2^value_bits) (log links) or [0, 65534]. Scores beyond the bound are clipped."""
    family, bound = expansion.family, expansion.bound
    if family.task in LOG_LINKS and expansion.terms:
        return log_links.values(family, bound, scores)
    values = np.zeros((len(scores), expansion.terms), dtype=np.int64)
    clipped = np.clip(scores, -bound, bound)
    if family.task == "linear" and expansion.terms:
        values[:, 0] = np.rint(clipped / bound * VALUE_MAX).astype(np.int64) + VALUE_MAX
        return values
    for k in range(1, expansion.terms // 2 + 1):
        angle = clipped * (math.pi * k / (expansion.stretch * bound))
        values[:, 2 * k - 2] = np.rint(np.cos(angle) * VALUE_MAX).astype(np.int64) + VALUE_MAX
        values[:, 2 * k - 1] = np.rint(np.sin(angle) * VALUE_MAX).astype(np.int64) + VALUE_MAX
    return values


def provider_addend(expansion: Expansion, scores: Vector, f_u: int) -> Integers:
    """What the provider adds in the clear, (n,): its clipped score for an unweighted linear model, else zeros."""
    if expansion.family.task != "linear" or expansion.family.weighted:
        return np.zeros(len(scores), dtype=np.int64)
    return _units(np.clip(scores, -LINEAR_SCORE_MAX, LINEAR_SCORE_MAX), f_u)


def combine(constant: Integers, coefficients: Integers, values: Integers, addend: Integers) -> Integers:
    """The residuals in units, as the encrypted computation gives them: (n,)."""
    total: Integers = constant + (coefficients * values).sum(axis=1) + addend
    return total
