"""Paillier keys (Paillier, EUROCRYPT 1999, with g = 1 + N), in and out of `phe`."""

from dataclasses import dataclass
from functools import cached_property
from math import gcd
from typing import Self

import gmpy2
import phe
from gmpy2 import mpz

from paillier.primes import draw_factored_prime
from paillier.randomness import RandomStream

KEY_BITS_MIN = 2048
KEY_BITS_MIN_INSECURE = 256


class InvalidKeyError(ValueError):
    """The numbers given are no Paillier key, or one of a size that is refused."""


@dataclass(frozen=True)
class PublicKey:
    """The modulus N. Plaintexts are integers mod N, ciphertexts units mod N^2.

    Only the shape is checked here; a modulus of somebody else is worth nothing before
    `paillier.proof.verify` has accepted it. Raises InvalidKeyError for an even or tiny number.
    """

    modulus: int

    def __post_init__(self) -> None:
        if self.modulus < 15 or self.modulus % 2 == 0:
            raise InvalidKeyError("a Paillier modulus is odd and positive")

    @property
    def bits(self) -> int:
        """Length of the modulus."""
        return self.modulus.bit_length()

    @property
    def words(self) -> int:
        """Length of a ciphertext in 64-bit words."""
        return (2 * self.bits + 63) // 64

    @cached_property
    def n(self) -> mpz:
        """N, for arithmetic."""
        return mpz(self.modulus)

    @cached_property
    def square(self) -> mpz:
        """N^2, for arithmetic."""
        return self.n * self.n

    def to_bytes(self) -> bytes:
        """N, big-endian, without leading zeros."""
        return self.modulus.to_bytes((self.bits + 7) // 8, "big")

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Reads `to_bytes`. Raises InvalidKeyError."""
        if data[:1] == b"\x00":
            raise InvalidKeyError("a modulus is written without leading zeros")
        return cls(int.from_bytes(data, "big"))

    def to_phe(self) -> phe.PaillierPublicKey:
        """The same key for `phe`."""
        return phe.PaillierPublicKey(self.modulus)

    @classmethod
    def from_phe(cls, key: phe.PaillierPublicKey) -> Self:
        """The same key from `phe`."""
        return cls(int(key.n))


@dataclass(frozen=True, repr=False)
class PrivateKey:
    """The primes p and q of N = p q, with gcd(N, phi(N)) = 1. Raises InvalidKeyError for anything else."""

    p: int
    q: int

    def __post_init__(self) -> None:
        if self.p == self.q or min(self.p, self.q) < 3:
            raise InvalidKeyError("a private key has two different odd primes")
        if not (gmpy2.is_prime(mpz(self.p)) and gmpy2.is_prime(mpz(self.q))):
            raise InvalidKeyError("a private key has two primes")
        if gcd(self.p * self.q, (self.p - 1) * (self.q - 1)) != 1:
            raise InvalidKeyError("N and phi(N) have a common factor")

    def __repr__(self) -> str:
        return f"PrivateKey(<secret>, {self.public.bits} bits)"

    @cached_property
    def public(self) -> PublicKey:
        """The public half."""
        return PublicKey(self.p * self.q)

    def to_bytes(self) -> bytes:
        """p and then q, each big-endian in as many bytes as the longer of them takes. Secret."""
        width = (max(self.p, self.q).bit_length() + 7) // 8
        return self.p.to_bytes(width, "big") + self.q.to_bytes(width, "big")

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Reads `to_bytes`. Raises InvalidKeyError."""
        half = len(data) // 2
        return cls(int.from_bytes(data[:half], "big"), int.from_bytes(data[half:], "big"))

    def to_phe(self) -> phe.PaillierPrivateKey:
        """The same key for `phe` (which orders the primes by size)."""
        return phe.PaillierPrivateKey(self.public.to_phe(), self.p, self.q)

    @classmethod
    def from_phe(cls, key: phe.PaillierPrivateKey) -> Self:
        """The same key from `phe`. Its p - 1 is not factored, so encryption is about a third slower."""
        return cls(int(key.p), int(key.q))


def require_key_bits(bits: int, *, insecure: bool) -> None:
    """Raises InvalidKeyError for an odd length, under 2048 bits, or under 256 where `insecure` is set."""
    least = KEY_BITS_MIN_INSECURE if insecure else KEY_BITS_MIN
    if bits < least or bits % 2:
        raise InvalidKeyError(f"a Paillier key has an even number of bits, at least {least}, not {bits}")


def generate(bits: int, stream: RandomStream, *, insecure: bool = False) -> PrivateKey:
    """A key whose modulus has exactly `bits` bits; the same stream gives the same key.

    `insecure` allows keys from 256 bits, for tests and demonstrations. Raises InvalidKeyError.
    """
    require_key_bits(bits, insecure=insecure)
    half = bits // 2
    while True:
        p, q = draw_factored_prime(half, stream), draw_factored_prime(half, stream)
        # FIPS 186-5 A.1.3: primes that agree in their first 100 bits are found by Fermat's method.
        apart = abs(p - q).bit_length() > max(half - 100, half // 2)
        if apart and gcd(p * q, (p - 1) * (q - 1)) == 1:
            return PrivateKey(p, q)
