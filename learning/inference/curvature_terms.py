"""Curvature times a direction, as integers that two parties compute from their own scores.

The inference stage needs `H v = X^T (D * (X v))`: the machinery of an iteration with `D_i u_i` in place of the
residual, where D_i is the curvature of row i's loss in its score and u_i in [-1, 1] the row's score along the
direction, which its owner knows. D as a function of the provider's score is expanded on the same characters as the
residual (`links`), in the same units, so every width is the same:

- the business's direction: its coefficients are those of D times u_i; the provider does what it does in training.
- the provider's direction: coefficients of D, its constant term among them, and the provider's exponents are
  `round(32767 u_i basis) + 32767`. A is the offset alone, `-32767 sum_k c_ik`.

With a log link D is its expected value `mu^(2-p)` (Fisher information; what statsmodels and R take), one character,
and 1 for a Gamma model. Where D is 1, as for linear models, A holds the business's u, the addend the provider's.
"""

import math
from typing import Final, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from learning.links import characters, residual_terms
from learning.links.family import LOG_LINKS, Family, LinkError
from learning.links.log_links import COEFFICIENT_SHARE
from learning.links.residual_terms import Expansion

Vector = NDArray[np.float64]
Integers = NDArray[np.int64]

Owner = Literal["business", "provider"]
"""Whose direction it is."""

WIDENING: Final = 1.5
"""The interval is so much wider than the announced one: clipped scores would bend gradient and curvature."""

SLOPE_TOLERANCE: Final = 0.01
"""Of the expansion at the target parameters, times 1 / sqrt(n): a fraction of a standard error."""

CURVATURE_TOLERANCE: Final = 0.003
"""Of the expansion that curvatures are made of. The same in all of them: what it is off by is off everywhere alike."""


def choose(family: Family, *, bound: float, spread: float, rows: int, slope: bool) -> Expansion:
    """The expansion of the stage for an announced range; `slope`: of the gradient at the target parameters."""
    tolerance = SLOPE_TOLERANCE / math.sqrt(rows) if slope else CURVATURE_TOLERANCE
    if bound == 0.0 or family.task == "linear":
        return residual_terms.choose(family, bound=bound, spread=spread, tolerance=tolerance)
    if family.task in LOG_LINKS:
        wide = min(WIDENING * bound, family.score_bound_max)
        expansion = residual_terms.choose(family, bound=wide, spread=spread, tolerance=tolerance)
        return expansion if slope else msgspec.structs.replace(expansion, terms=1 if _growth(family) else 0)
    wide = min(WIDENING * bound, residual_terms.LOGISTIC_BOUND_MAX)
    harmonics, stretch = characters.smallest(wide, spread, tolerance)
    return Expansion(family=family, terms=2 * harmonics, bound=wide, stretch=stretch, spread=spread)


def _growth(family: Family) -> float:
    """The exponent a of `D = exp(a z)` of a log link: `mu^(2-p)`. 0: D is 1."""
    return 2.0 - family.variance_power if family.task in LOG_LINKS else 0.0


def _constant(family: Family) -> bool:
    """Whether D is the same for all rows, so that it needs no term."""
    return family.task != "logistic" and _growth(family) == 0.0


def terms_sent(expansion: Expansion, owner: Owner) -> int:
    """Ciphertexts of a row besides the constant A: the provider's direction needs the constant of D among them."""
    return expansion.terms + (1 if expansion.family.task == "logistic" and owner == "provider" else 0)


def expansion_terms(family: Family, sent: int, owner: Owner) -> int:
    """The expansion's terms behind `sent` ciphertexts: the inverse of `terms_sent`."""
    return sent - (1 if family.task == "logistic" and owner == "provider" else 0)


def check_terms(expansion: Expansion) -> None:
    """Raises LinkError (code terms_wrong) unless the family's curvature can have so many terms, with a bound."""
    family, terms = expansion.family, expansion.terms
    curved = 0 if _constant(family) else 1
    fits = terms >= 2 and terms % 2 == 0 if family.task == "logistic" else terms == curved
    if not fits or (terms and not 0.0 < expansion.bound < math.inf):
        raise LinkError("terms_wrong", f"{terms} link terms do not suit the curvature of a {family.task} model")


def business_terms(
    expansion: Expansion, scores: Vector, direction: Vector | None, f_u: int, weights: Vector | None = None
) -> tuple[Integers, Integers]:
    """(A (n,), coefficients (n, terms_sent)) that the business encrypts; `direction` (n,): u if it is its own.

    `scores` (n,) with what rows begin with; `weights` (n,) of the rows, if there are any.
    """
    family = expansion.family
    along = (np.ones(len(scores)) if direction is None else direction) / family.residual_unit
    if weights is not None:
        along = along * weights
    values_max = (1 << family.value_bits) - 1
    if _constant(family):
        return (
            np.zeros(len(scores), dtype=np.int64) if direction is None else _units(along, f_u, values_max),
            np.zeros((len(scores), 0), dtype=np.int64),
        )
    if family.task == "logistic":
        fitted = _fit(expansion, scores) * along[None, :]
        first = 0 if direction is None else 1
        constant, curves = fitted[0] if first else np.zeros(len(scores)), fitted[first:]
    else:
        growth = _growth(family)
        most = family.residual_bound * COEFFICIENT_SHARE
        curve = np.minimum(characters.exponential(growth * scores + abs(growth) * expansion.bound), most)
        constant, curves = np.zeros(len(scores)), (curve * along)[None, :]
    coefficients = np.rint(curves * 2.0**f_u).astype(np.int64).T.copy()
    offset = values_max if family.task == "logistic" or direction is None else 0
    return _units(constant, f_u, values_max) - offset * coefficients.sum(axis=1), coefficients


def _fit(expansion: Expansion, scores: Vector) -> Vector:
    """Coefficients (terms + 1, n) of every row's logistic curvature p (1 - p), node by node so that rows do not mix."""
    spread = expansion.spread or expansion.bound / 4
    fit = characters.projection(expansion.terms // 2, expansion.stretch, expansion.bound, spread)
    fitted = np.zeros((expansion.terms + 1, len(scores)))
    for j, node in enumerate(fit.nodes):
        chance = characters.logistic(scores + node)
        curve = chance * (1.0 - chance)
        for k, row in enumerate(fit.rows):
            fitted[k] += row[j] * curve
    return fitted


def _units(values: Vector, f_u: int, values_max: int) -> Integers:
    """Values in units of 1 / (2^f_u * values_max)."""
    return np.rint(values * (2.0**f_u * values_max)).astype(np.int64)


def provider_exponents(expansion: Expansion, scores: Vector, direction: Vector | None) -> Integers:
    """v (n, terms_sent), below 2^(value_bits + 1); `direction` (n,): u if it is the provider's own."""
    family, bound = expansion.family, expansion.bound
    values_max = (1 << family.value_bits) - 1
    if _constant(family):
        return np.zeros((len(scores), 0), dtype=np.int64)
    if family.task == "logistic":
        if direction is None:
            return residual_terms.provider_exponents(expansion, scores)
        clipped = np.clip(scores, -bound, bound)
        basis = [np.ones_like(scores)]
        for k in range(1, expansion.terms // 2 + 1):
            angle = clipped * (math.pi * k / (expansion.stretch * bound))
            basis += [np.cos(angle), np.sin(angle)]
    else:
        growth = _growth(family)
        below = np.minimum(growth * scores, abs(growth) * bound) - abs(growth) * bound
        basis = [characters.exponential(below)]
    if direction is None:
        return np.rint(np.column_stack(basis) * values_max).astype(np.int64)
    values: Integers = np.rint(np.column_stack(basis) * direction[:, None] * values_max).astype(np.int64) + values_max
    return values


def provider_addend(expansion: Expansion, rows: int, direction: Vector | None, f_u: int) -> Integers:
    """What the provider adds in the clear, (n,): its u where D is constant, zeros otherwise."""
    family = expansion.family
    if not _constant(family) or direction is None:
        return np.zeros(rows, dtype=np.int64)
    return _units(direction / family.residual_unit, f_u, (1 << family.value_bits) - 1)
