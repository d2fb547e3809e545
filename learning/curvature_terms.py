"""Curvature times a direction, as integers that two parties compute from their own scores.

The inference stage needs `H v = X^T (D * (X v))`: the machinery of an iteration with `D_i u_i` in place of the
residual, where D_i is the curvature of row i's loss in its score and u_i in [-1, 1] the row's score along the
direction, which its owner knows. D as a function of the provider's score is expanded on the same characters as the
residual (`links`), so every width is the same:

- the business's direction: its coefficients are those of D times u_i; the provider does what it does in training.
- the provider's direction: coefficients of D, its constant term among them, and the provider's exponents are
  `round(32767 u_i basis) + 32767`. A is the offset alone, `-32767 sum_k c_ik`.

Linear models have D = 1: A holds the business's u, the addend the provider's.
"""

import math
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from learning import characters, links
from learning.family import Family
from learning.links import VALUE_MAX, Expansion
from learning.log_links import COEFFICIENT_SHARE

Vector = NDArray[np.float64]
Integers = NDArray[np.int64]

Owner = Literal["business", "provider"]
"""Whose direction it is."""

TASKS: Final = frozenset({"logistic", "linear", "poisson"})
"""Tasks that have an inference stage."""

WIDENING: Final = 1.5
"""The interval is so much wider than the announced one: clipped scores would bend gradient and curvature."""

SLOPE_TOLERANCE: Final = 0.01
"""Of the expansion at the target parameters, times 1 / sqrt(n): a fraction of a standard error."""

CURVATURE_TOLERANCE: Final = 0.003
"""Of the expansion that curvatures are made of. The same in all of them: what it is off by is off everywhere alike."""


def choose(family: Family, *, bound: float, spread: float, rows: int, slope: bool) -> Expansion:
    """The expansion of the stage for an announced range; `slope`: of the gradient at the target parameters."""
    tolerance = SLOPE_TOLERANCE / math.sqrt(rows) if slope else CURVATURE_TOLERANCE
    if family.task == "linear" or bound == 0.0:
        return links.choose(family, bound=bound, spread=spread, tolerance=tolerance)
    wide = WIDENING * bound
    if family.task == "poisson":
        wide = min(wide, family.score_bound_max)
        return links.choose(family, bound=wide, spread=spread, tolerance=tolerance)
    wide = min(wide, links.LOGISTIC_BOUND_MAX)
    harmonics, stretch = characters.smallest(wide, spread, tolerance)
    return Expansion(family=family, terms=2 * harmonics, bound=wide, stretch=stretch, spread=spread)


def terms_sent(expansion: Expansion, owner: Owner) -> int:
    """Ciphertexts of a row besides the constant A: the provider's direction needs the constant of D among them."""
    return expansion.terms + (1 if expansion.task == "logistic" and owner == "provider" else 0)


def expansion_terms(task: str, sent: int, owner: Owner) -> int:
    """The expansion's terms behind `sent` ciphertexts: the inverse of `terms_sent`."""
    return sent - (1 if task == "logistic" and owner == "provider" else 0)


def business_terms(
    expansion: Expansion, scores: Vector, direction: Vector | None, f_u: int
) -> tuple[Integers, Integers]:
    """(A (n,), coefficients (n, terms_sent)) that the business encrypts; `direction` (n,): u if it is its own."""
    rows, scale = len(scores), 2.0**f_u
    if expansion.task == "linear":
        nothing = np.zeros((rows, 0), dtype=np.int64)
        return np.zeros(rows, dtype=np.int64) if direction is None else _units(direction, f_u), nothing
    along = np.ones(rows) if direction is None else direction
    if expansion.task == "poisson":
        cap = expansion.family.residual_bound * COEFFICIENT_SHARE
        rate = np.minimum(characters.exponential(scores + expansion.bound), cap)
        coefficients = np.rint(rate * along * scale).astype(np.int64)[:, None]
        constant = np.zeros(rows, dtype=np.int64)
    else:
        fitted = _fit(expansion, scores) * along[None, :]
        first = 0 if direction is None else 1
        coefficients = np.rint(fitted[first:] * scale).astype(np.int64).T.copy()
        constant = _units(fitted[0], f_u) if first else np.zeros(rows, dtype=np.int64)
    if expansion.task == "logistic" or direction is None:
        constant = constant - VALUE_MAX * coefficients.sum(axis=1)
    return constant, coefficients


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


def _units(values: Vector, f_u: int) -> Integers:
    """Values in units of 1 / (2^f_u * 32767)."""
    return np.rint(values * (2.0**f_u * VALUE_MAX)).astype(np.int64)


def provider_exponents(expansion: Expansion, scores: Vector, direction: Vector | None) -> Integers:
    """v (n, terms_sent), in [0, 65534]; `direction` (n,): u if it is the provider's own."""
    if direction is None or expansion.task == "linear":
        return links.provider_exponents(expansion, scores)
    if expansion.task == "poisson":
        below = np.minimum(scores, expansion.bound) - expansion.bound
        basis = [characters.exponential(below)]
    else:
        clipped = np.clip(scores, -expansion.bound, expansion.bound)
        basis = [np.ones_like(scores)]
        for k in range(1, expansion.terms // 2 + 1):
            angle = clipped * (math.pi * k / (expansion.stretch * expansion.bound))
            basis += [np.cos(angle), np.sin(angle)]
    values: Integers = np.rint(np.column_stack(basis) * direction[:, None] * VALUE_MAX).astype(np.int64) + VALUE_MAX
    return values


def provider_addend(expansion: Expansion, rows: int, direction: Vector | None, f_u: int) -> Integers:
    """What the provider adds in the clear, (n,): its u for a linear model, zeros otherwise."""
    if expansion.task != "linear" or direction is None:
        return np.zeros(rows, dtype=np.int64)
    return _units(direction, f_u)
