"""Link terms that are handed from provider to provider (docs/protocol.md, section 4, item 2).

The residual of row i is `r_i = (A_i + sum_k u_ik v_ik) / unit` with `unit = 2^f_u 32767^P` for P providers. The
business scales A for the whole chain and subtracts no offset. A provider that is not the last turns the terms into
those of what the later ones' scores still have to add to: each pair (u_c, u_s) is rotated by its own angle, so

    u_c' = u_c C + u_s S,    u_s' = u_s C - u_c S,    C, S = round(32767 cos), round(32767 sin),

and the term of an exponential is multiplied by its own value; a linear score is added to A. The last one adds up.
With row weights w a linear score must be multiplied by what only the business knows: the one term u = w b, b the sum of
all bounds, goes along as it is, and every provider adds `u v` to A, `v = round(32767 s / b)`. So u is in units of
1 / (2^f_u 32767^(P-1)) there, whoever multiplies.
"""

import numpy as np
from numpy.typing import NDArray

from learning.links import residual_terms
from learning.links.targets import Targets

Vector = NDArray[np.float64]
Integers = NDArray[np.int64]


def business_terms(
    expansion: residual_terms.Expansion, scores: Vector, targets: Targets, f_u: int, providers: int
) -> tuple[list[int], list[list[int]]]:
    """(A (n,), u (n, terms)) for a chain of several providers. Raises LinkError on unfit labels."""
    constant, coefficients = residual_terms.business_terms(expansion, scores, targets, f_u)
    if rotates(expansion) or weighs(expansion):
        # For one provider the constant has the offset of values that are made non-negative.
        constant = constant + residual_terms.VALUE_MAX * coefficients.sum(axis=1)
    scale = _unit(expansion) ** (providers - 1)
    of_terms = scale if weighs(expansion) else 1
    terms = [[value * of_terms for value in row] for row in coefficients.tolist()]
    return [value * scale for value in constant.tolist()], terms


def _unit(expansion: residual_terms.Expansion) -> int:
    """What basis values are in units of the inverse of."""
    return (1 << expansion.family.value_bits) - 1


def rotates(expansion: residual_terms.Expansion) -> bool:
    """Whether the terms are pairs of cosine and sine."""
    return expansion.family.task == "logistic" and expansion.terms > 0


def weighs(expansion: residual_terms.Expansion) -> bool:
    """Whether the one term is a row's weight, by which every provider multiplies its score of a linear model."""
    return expansion.task == "linear" and expansion.terms > 0


def values(expansion: residual_terms.Expansion, scores: Vector, bound: float) -> Integers:
    """A provider's signed basis values (n, terms) in 32767ths: cos, sin, ...; or exponentials; or a linear score.

    `expansion.bound` is the whole chain's, which fixes the frequencies and a linear score's unit; `bound` is this
    provider's own, to which its scores are clipped and from which an exponential is measured.
    """
    if rotates(expansion) or weighs(expansion):
        return residual_terms.provider_exponents(expansion, np.clip(scores, -bound, bound)) - residual_terms.VALUE_MAX
    own = residual_terms.Expansion(family=expansion.family, terms=expansion.terms, bound=bound)
    return residual_terms.provider_exponents(own, scores)


def addend(expansion: residual_terms.Expansion, scores: Vector, f_u: int, providers: int) -> list[int]:
    """What a provider adds to A in the clear: its score of a linear model without weights, zeros otherwise."""
    scale = _unit(expansion) ** (providers - 1)
    return [value * scale for value in residual_terms.provider_addend(expansion, scores, f_u).tolist()]


def places(expansion: residual_terms.Expansion) -> NDArray[np.intp]:
    """Which terms of a row make each new term: (terms, 2) for pairs, (terms, 1) otherwise."""
    if not rotates(expansion):
        return np.arange(expansion.terms, dtype=np.intp).reshape(-1, 1)
    first = np.arange(0, expansion.terms, 2, dtype=np.intp)
    return np.repeat(np.stack([first, first + 1], axis=1), 2, axis=0)


def factors(expansion: residual_terms.Expansion, values: Integers) -> Integers:
    """What they are multiplied by, (n, terms, 2) or (n, terms, 1), for `values` (n, terms)."""
    if not rotates(expansion):
        return values[:, :, None]
    cosine, sine = values[:, 0::2], values[:, 1::2]
    turned = np.stack([np.stack([cosine, sine], axis=2), np.stack([-sine, cosine], axis=2)], axis=2)
    return turned.reshape(len(values), expansion.terms, 2)
