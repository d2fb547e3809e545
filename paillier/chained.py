"""Powers with signed exponents, and rows of ciphertexts that are handed from one provider to the next.

A row of link terms is its terms and then one constant (docs/protocol.md, section 4, items 1 and 2). Nothing here is
re-randomised: that is for the caller, before anything leaves the house.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from paillier.backend import Guest
from paillier.vector import CipherVector

Integers = NDArray[np.int64]


def split(vector: CipherVector, terms: int) -> tuple[CipherVector, CipherVector]:
    """(terms, constants) of rows that each have so many terms and, last, a constant."""
    places = np.arange(len(vector))
    last = places % (terms + 1) == terms
    return vector[places[~last]], vector[places[last]]


def join(terms: CipherVector, constants: CipherVector, count: int) -> CipherVector:
    """The inverse of `split`, `count` terms a row."""
    rows, width = len(constants), constants.public.words
    words = np.concatenate([terms.words.reshape(rows, count, width), constants.words.reshape(rows, 1, width)], axis=1)
    return CipherVector(constants.public, np.ascontiguousarray(words.reshape(rows * (count + 1), width)))


def add(guest: Guest, vector: CipherVector, values: Sequence[int]) -> CipherVector:
    """Plain values added, element by element; where all are zero there is nothing to do."""
    return guest.add_plain(vector, values) if any(values) else vector


def power_rows(
    guest: Guest, vector: CipherVector, exponents: Integers, bits: int, plus: CipherVector | None = None
) -> CipherVector:
    """`Guest.power_rows` for signed exponents (n, t), below 2^bits in size: inverses where they are negative.

    All ciphertexts are inverted, whatever the signs, in one batch: which inverses are used shows in no count of
    products. Raises CiphertextError for one that is not prime to the modulus.
    """
    inverted = guest.invert(vector)
    negative = (exponents < 0).reshape(-1, 1)
    chosen = CipherVector(vector.public, np.where(negative, inverted.words, vector.words))
    return guest.power_rows(chosen, np.abs(exponents), bits, plus)


def turn(guest: Guest, terms: CipherVector, places: NDArray[np.intp], factors: Integers, bits: int) -> CipherVector:
    """New terms of each row: new term j is `sum_i factors[row, j, i]` times the term `places[j, i]` of the row.

    `places` (T, i), `factors` (n, T, i), signed, below 2^bits in size; n * T results, row by row.
    """
    if not len(terms):
        return terms
    rows, count, parts = factors.shape
    starts = np.arange(rows, dtype=np.intp)[:, None, None] * count
    bases = terms[(starts + places[None, :, :]).reshape(-1)]
    return power_rows(guest, bases, factors.reshape(rows * count, parts), bits)


def add_up(guest: Guest, terms: CipherVector, values: Integers, constants: CipherVector, bits: int) -> CipherVector:
    """The residual of each row: its constant and `sum_k values[row, k]` times its k-th term."""
    if not len(terms):
        return constants
    return power_rows(guest, terms, values, bits, plus=constants)
