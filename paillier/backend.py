"""What a back end can do.

All operations work on whole vectors. An `Owner` has the private key, a `Guest` only the public one; each
builds its tables at the first operation that needs them (encrypt, rerandomise), from the stream it was given,
and is worth keeping for a job: once per worker process.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from paillier.keys import PrivateKey, PublicKey
from paillier.randomness import RandomStream
from paillier.vector import CipherVector

EXPONENT_BITS = 16


class BackendError(ValueError):
    """No such back end, or one asked for what it was not made for."""


class Owner(Protocol):
    """Encrypts and decrypts under an own key."""

    @property
    def public(self) -> PublicKey:
        """The public half of the key."""

    def encrypt(self, values: Sequence[int], stream: RandomStream) -> CipherVector:
        """Integers in (-N, N), taken mod N. Raises ValueError for others, BackendError without tables."""

    def decrypt(self, vector: CipherVector) -> list[int]:
        """Plaintexts in [0, N). A ciphertext that is not prime to N gives garbage: check first."""

    def check(self, vector: CipherVector) -> None:
        """Raises CiphertextError unless every ciphertext lies in [1, N^2) and is prime to N."""


class Guest(Protocol):
    """Computes on ciphertexts under somebody else's key.

    Results are NOT re-randomised by themselves; none may leave the house before `rerandomise`. Vectors of
    another key or another length raise ValueError.
    """

    @property
    def public(self) -> PublicKey:
        """The key."""

    def encrypt(self, values: Sequence[int], stream: RandomStream) -> CipherVector:
        """Integers in (-N, N), taken mod N, with fresh randomness. Raises BackendError without tables."""

    def check(self, vector: CipherVector) -> None:
        """Raises CiphertextError unless every ciphertext lies in [1, N^2) and is prime to N."""

    def rerandomise(self, vector: CipherVector, stream: RandomStream) -> CipherVector:
        """The same plaintexts in ciphertexts that tell nothing of their history."""

    def add(self, left: CipherVector, right: CipherVector) -> CipherVector:
        """Sums, element by element."""

    def add_plain(self, vector: CipherVector, values: Sequence[int]) -> CipherVector:
        """Sums with integers in (-N, N), element by element."""

    def invert(self, vector: CipherVector) -> CipherVector:
        """Negatives, element by element. Raises CiphertextError for one that is not prime to N."""

    def multiply_all(self, vectors: Sequence[CipherVector]) -> CipherVector:
        """Sums of several vectors of one length, element by element; at least one vector."""

    def power_rows(
        self,
        vector: CipherVector,
        exponents: NDArray[np.integer],
        bits: int = EXPONENT_BITS,
        plus: CipherVector | None = None,
    ) -> CipherVector:
        """sum_k e_ik v_ik for each row i: n * t ciphertexts row by row, exponents (n, t) in [0, 2^bits).

        n results, `plus` (n ciphertexts) added to them. `bits` is public (at most 62); the exponents are not.
        Raises ValueError for one outside.
        """

    def power_sum(self, vector: CipherVector, exponents: Sequence[int], bits: int) -> CipherVector:
        """sum_i e_i v_ij for each column j: n * t ciphertexts row by row, n exponents in [0, 2^bits).

        t results. Raises ValueError for an exponent outside or lengths that do not agree.
        """

    def pack_rows(self, vector: CipherVector, slot_bits: int, rows_per_ciphertext: int) -> CipherVector:
        """sum_i v_i 2^(slot_bits i) over each `rows_per_ciphertext` neighbours; the last may be fewer."""

    def bin_sums(self, vector: CipherVector, bins: NDArray[np.integer], count: int) -> CipherVector:
        """Sums per column and bin: `bins` of shape (n, columns) with entries in [0, count).

        columns * count results, column by column; an empty bin is the encryption 1 of zero.
        """


class Backend(Protocol):
    """A way to compute."""

    name: str

    def owner(self, private: PrivateKey, stream: RandomStream | None) -> Owner:
        """`stream` makes the tables of encryption and is used for nothing else; None: decrypt only."""

    def guest(self, public: PublicKey, stream: RandomStream | None) -> Guest:
        """`stream` makes the secret tables of re-randomisation; None: no encrypt and no rerandomise."""
