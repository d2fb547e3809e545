"""Many ciphertexts as one block of memory, the same bytes on the wire."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

import gmpy2
import numpy as np
from gmpy2 import mpz
from numpy.typing import NDArray

from paillier.keys import PublicKey


class CiphertextError(ValueError):
    """Something that came as a ciphertext is none."""


@dataclass(frozen=True, slots=True, eq=False)
class CipherVector:
    """n ciphertexts under `public`: `words` has shape (n, public.words), little-endian 64-bit words.

    Bytes of others are to be checked (`check`) before anything is computed with them.
    """

    public: PublicKey
    words: NDArray[np.uint64]

    def __post_init__(self) -> None:
        if self.words.ndim != 2 or self.words.shape[1] != self.public.words:
            raise CiphertextError(f"a ciphertext under this key has {self.public.words} words")
        if self.words.dtype != np.dtype("<u8"):
            raise CiphertextError("ciphertexts are little-endian 64-bit words")

    def __len__(self) -> int:
        return len(self.words)

    def __getitem__(self, which: slice | NDArray[np.integer]) -> Self:
        return type(self)(self.public, self.words[which])

    def __repr__(self) -> str:
        return f"CipherVector({len(self)} of {self.public.bits} bits)"

    def to_bytes(self) -> bytes:
        """All ciphertexts, one after the other, each little-endian in 8 * public.words bytes."""
        return self.words.tobytes()

    @classmethod
    def from_bytes(cls, public: PublicKey, data: bytes) -> Self:
        """Reads `to_bytes`. Raises CiphertextError where the length is no multiple of a ciphertext's."""
        width = 8 * public.words
        if len(data) % width:
            raise CiphertextError(f"{len(data)} bytes are no whole number of ciphertexts of {width} bytes")
        return cls(public, np.frombuffer(data, dtype="<u8").reshape(-1, public.words))

    def to_ints(self) -> list[mpz]:
        """The ciphertexts as integers."""
        width = 8 * self.public.words
        data = self.words.tobytes()
        read = mpz.from_bytes
        return [read(data[at : at + width], "little") for at in range(0, len(data), width)]

    @classmethod
    def from_ints(cls, public: PublicKey, numbers: Iterable[int]) -> Self:
        """Integers in [0, 2^(64 * public.words)) as ciphertexts. Raises OverflowError for others."""
        width = 8 * public.words
        data = b"".join([mpz(number).to_bytes(width, "little") for number in numbers])
        return cls.from_bytes(public, data)

    @classmethod
    def concatenate(cls, vectors: Sequence[Self]) -> Self:
        """At least one vector, all under one key, end to end. Raises CiphertextError."""
        if not vectors or any(vector.public != vectors[0].public for vector in vectors):
            raise CiphertextError("only vectors under one key can be joined")
        return cls(vectors[0].public, np.concatenate([vector.words for vector in vectors]))

    def check(self) -> None:
        """Every ciphertext lies in [1, N^2) and is prime to N. Raises CiphertextError.

        One gcd for all: a product is prime to N exactly when all its factors are.
        """
        n, square = self.public.n, self.public.square
        product = mpz(1)
        for at, number in enumerate(self.to_ints()):
            if not 0 < number < square:
                raise CiphertextError(f"ciphertext {at} is not between 1 and the square of the modulus")
            product = product * (number % n) % n
        if gmpy2.gcd(product, n) != 1:
            raise CiphertextError("a ciphertext has a factor in common with the modulus")
