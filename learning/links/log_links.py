"""Residuals with a log link on characters of the provider's score (docs/protocol.md, section 4).

`r = mu^(2-p) - y mu^(1-p)` with `mu = exp(z_B + s)`: each exponent a of the family gives the character
`v = exp(a s - |a| b)` in [0, 1] with the business's coefficient `exp(a z_B + |a| b)`, times -y for the second one.
An exponent of 0 has no character; its part is in the constant.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from learning.links import characters
from learning.links.family import POISSON_HEADROOM, Family

Vector = NDArray[np.float64]
Integers = NDArray[np.int64]

COEFFICIENT_SHARE: Final = 1 - 1 / POISSON_HEADROOM
"""Coefficients stay below this share of the residual bound, so that sum and rounding stay within it."""


def upper(scores: Vector, family: Family) -> Vector:
    """What is bounded of the scores: they, their negatives or their size, as characters grow with them."""
    signs = {a > 0 for a in family.exponents}
    if len(signs) > 1:
        return np.abs(scores)
    return scores if signs == {True} else -scores


def plain_terms(
    family: Family, bound: float, scores: Vector, labels: Vector, scale: Vector, *, terms: int
) -> tuple[Vector, Vector]:
    """(constant (n,), coefficients (n, terms)) of every row's residual, times its scale; without terms s = 0."""
    most = family.residual_bound * COEFFICIENT_SHARE / len(family.exponents)
    constant, columns = np.zeros(len(scores)), []
    exponents = (2.0 - family.variance_power, 1.0 - family.variance_power)
    for exponent, factor in zip(exponents, (scale, -labels * scale), strict=True):
        if exponent == 0.0:
            constant = constant + factor
            continue
        shift = abs(exponent) * bound if terms else 0.0
        part = np.clip(factor * characters.exponential(exponent * scores + shift), -most, most)
        if terms:
            columns.append(part)
        else:
            constant = constant + part
    return constant, np.array(columns).reshape(terms, len(scores)).T


def values(family: Family, bound: float, scores: Vector) -> Integers:
    """The characters (n, characters) of the provider's scores in units of 1 / (2^value_bits - 1)."""
    most = (1 << family.value_bits) - 1
    columns = []
    for exponent in family.exponents:
        below = np.minimum(exponent * scores, abs(exponent) * bound) - abs(exponent) * bound
        columns.append(np.rint(characters.exponential(below) * most).astype(np.int64))
    return np.stack(columns, axis=1)
