"""What every back end refuses, in the same words."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from paillier.keys import PublicKey
from paillier.vector import CipherVector

POWER_ROWS_BITS_MAX = 62  # exponents travel as int64


def check_key(public: PublicKey, vector: CipherVector) -> None:
    """Raises ValueError for ciphertexts under another key."""
    if vector.public != public:
        raise ValueError("the ciphertexts are under another key")


def check_values(public: PublicKey, count: int, values: Sequence[int]) -> None:
    """Raises ValueError where the plain values are not `count`, or one is not between -N and N."""
    if len(values) != count:
        raise ValueError(f"{len(values)} values do not go with {count} ciphertexts")
    modulus = public.modulus
    if any(not -modulus < value < modulus for value in values):
        raise ValueError("a value is not between -N and N")


def check_vectors(vectors: Sequence[CipherVector]) -> None:
    """Raises ValueError for no vectors at all, or some of different lengths."""
    if not vectors:
        raise ValueError("nothing to add")
    if any(len(vector) != len(vectors[0]) for vector in vectors):
        raise ValueError("vectors of different lengths cannot be added")


def check_power_rows(
    vector: CipherVector, exponents: NDArray[np.integer], bits: int, plus: CipherVector | None
) -> None:
    """Raises ValueError for exponents of another shape or length; they are (rows, terms) in [0, 2^bits)."""
    if exponents.ndim != 2 or exponents.shape[1] < 1 or exponents.size != len(vector):
        raise ValueError(f"{len(vector)} ciphertexts do not go with exponents of shape {exponents.shape}")
    if not 1 <= bits <= POWER_ROWS_BITS_MAX:
        raise ValueError(f"exponents have 1 to {POWER_ROWS_BITS_MAX} bits")
    if exponents.size and not 0 <= int(exponents.min()) <= int(exponents.max()) < 1 << bits:
        raise ValueError(f"an exponent is not of {bits} bits")
    if plus is not None and len(plus) != len(exponents):
        raise ValueError(f"{len(plus)} ciphertexts cannot be added to {len(exponents)} rows")


def check_power_sum(vector: CipherVector, exponents: Sequence[int], bits: int) -> None:
    """Raises ValueError where rows and exponents do not agree, or an exponent is not in [0, 2^bits)."""
    if not exponents or len(vector) % len(exponents):
        raise ValueError(f"{len(vector)} ciphertexts do not go with {len(exponents)} exponents")
    if bits < 1 or not 0 <= min(exponents) <= max(exponents) < 1 << bits:
        raise ValueError(f"an exponent is not of {bits} bits")


def check_packing(slot_bits: int, rows_per_ciphertext: int) -> None:
    """Raises ValueError for a slot or a block of nothing."""
    if slot_bits < 1 or rows_per_ciphertext < 1:
        raise ValueError("slots and rows per ciphertext are at least 1")


def check_bins(vector: CipherVector, bins: NDArray[np.integer], count: int) -> None:
    """Raises ValueError for bins of another shape than (n, columns) or not below `count`."""
    if bins.ndim != 2 or len(bins) != len(vector):
        raise ValueError(f"{len(vector)} ciphertexts do not go with bins of shape {bins.shape}")
    if bins.size and not 0 <= int(bins.min()) <= int(bins.max()) < count:
        raise ValueError(f"a bin is not below {count}")
