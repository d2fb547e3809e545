"""The back end that is always there: GMP through gmpy2, one core, holding the interpreter lock."""

from collections.abc import Sequence

import gmpy2
import numpy as np
from gmpy2 import mpz
from numpy.typing import NDArray

from paillier import products
from paillier.backend import EXPONENT_BITS, Guest, Owner
from paillier.blinding import Residues, TableStreams, foreign_residues, own_residues
from paillier.keys import PrivateKey, PublicKey
from paillier.primes import factors_of_order
from paillier.randomness import RandomStream
from paillier.requests import (
    check_bins,
    check_key,
    check_packing,
    check_power_rows,
    check_power_sum,
    check_values,
    check_vectors,
)
from paillier.vector import CiphertextError, CipherVector


class Gmpy2Backend:
    """`paillier.backend.Backend` on gmpy2."""

    name = "gmpy2"

    def owner(self, private: PrivateKey, stream: RandomStream | None) -> Owner:
        """See `Backend.owner`."""
        return _Owner(private, stream)

    def guest(self, public: PublicKey, stream: RandomStream | None) -> Guest:
        """See `Backend.guest`."""
        return _Guest(public, stream)


class _Owner:
    """Works mod p^2 and mod q^2 and joins by the Chinese remainder theorem."""

    def __init__(self, private: PrivateKey, stream: RandomStream | None) -> None:
        self.public = private.public
        self._private = private
        self._tables = TableStreams(stream)
        self._sources: tuple[Residues, Residues] | None = None
        self._p, self._q = mpz(private.p), mpz(private.q)
        self._p_square, self._q_square = self._p**2, self._q**2
        self._square_inverse = gmpy2.invert(self._p_square, self._q_square)
        self._inverse = gmpy2.invert(self._p, self._q)

    def __repr__(self) -> str:
        return f"Owner(<secret>, {self.public.bits} bits)"

    def encrypt(self, values: Sequence[int], stream: RandomStream) -> CipherVector:
        at_p, at_q = self._residue_sources()
        mod_p = at_p.draw(len(values), stream)
        mod_q = at_q.draw(len(values), stream)
        p_square, q_square, inverse = self._p_square, self._q_square, self._square_inverse
        residues = [
            one + p_square * ((other - one) * inverse % q_square) for one, other in zip(mod_p, mod_q, strict=True)
        ]
        return CipherVector.from_ints(self.public, _add_plain(residues, values, self.public))

    def decrypt(self, vector: CipherVector) -> list[int]:
        check_key(self.public, vector)
        numbers = vector.to_ints()
        mod_p = _half_decrypt(numbers, self._p, self._q)
        mod_q = _half_decrypt(numbers, self._q, self._p)
        p, q, inverse = self._p, self._q, self._inverse
        return [int(one + p * ((other - one) * inverse % q)) for one, other in zip(mod_p, mod_q, strict=True)]

    def check(self, vector: CipherVector) -> None:
        check_key(self.public, vector)
        vector.check()

    def _residue_sources(self) -> tuple[Residues, Residues]:
        if self._sources is None:
            p, q = self._private.p, self._private.q
            self._sources = (
                own_residues(p, factors_of_order(p), self._tables.stream("paillier.owner.p")),
                own_residues(q, factors_of_order(q), self._tables.stream("paillier.owner.q")),
            )
        return self._sources


def _half_decrypt(numbers: list[mpz], prime: mpz, other: mpz) -> list[mpz]:
    """Plaintexts mod `prime`: L(c^(p-1) mod p^2) / L(g^(p-1) mod p^2), the latter being -q mod p."""
    square = prime**2
    scale = gmpy2.invert(-other, prime)
    powers = gmpy2.powmod_base_list([number % square for number in numbers], prime - 1, square)
    return [(power - 1) // prime * scale % prime for power in powers]


class _Guest:
    def __init__(self, public: PublicKey, stream: RandomStream | None) -> None:
        self.public = public
        self._tables = TableStreams(stream)
        self._source: Residues | None = None

    def encrypt(self, values: Sequence[int], stream: RandomStream) -> CipherVector:
        residues = self._residue_source().draw(len(values), stream)
        return CipherVector.from_ints(self.public, _add_plain(residues, values, self.public))

    def check(self, vector: CipherVector) -> None:
        check_key(self.public, vector)
        vector.check()

    def rerandomise(self, vector: CipherVector, stream: RandomStream) -> CipherVector:
        return self._result(
            _times(self._numbers(vector), self._residue_source().draw(len(vector), stream), self.public.square)
        )

    def add(self, left: CipherVector, right: CipherVector) -> CipherVector:
        return self.multiply_all([left, right])

    def add_plain(self, vector: CipherVector, values: Sequence[int]) -> CipherVector:
        return self._result(_add_plain(self._numbers(vector), values, self.public))

    def invert(self, vector: CipherVector) -> CipherVector:
        try:
            return self._result(products.invert_all(self._numbers(vector), self.public.square))
        except ZeroDivisionError:
            raise CiphertextError("a ciphertext has a factor in common with the modulus") from None

    def multiply_all(self, vectors: Sequence[CipherVector]) -> CipherVector:
        check_vectors(vectors)
        sums = self._numbers(vectors[0])
        for vector in vectors[1:]:
            sums = _times(sums, self._numbers(vector), self.public.square)
        return self._result(sums)

    def power_rows(
        self,
        vector: CipherVector,
        exponents: NDArray[np.integer],
        bits: int = EXPONENT_BITS,
        plus: CipherVector | None = None,
    ) -> CipherVector:
        check_power_rows(vector, exponents, bits, plus)
        narrow = exponents.astype(np.int64)
        rows = products.power_rows(self._numbers(vector), narrow, bits, self.public.square)
        return self._result(rows if plus is None else _times(rows, self._numbers(plus), self.public.square))

    def power_sum(self, vector: CipherVector, exponents: Sequence[int], bits: int) -> CipherVector:
        check_power_sum(vector, exponents, bits)
        plain = [int(exponent) for exponent in exponents]
        terms = len(vector) // len(plain)
        return self._result(products.power_sum(self._numbers(vector), terms, plain, bits, self.public.square))

    def pack_rows(self, vector: CipherVector, slot_bits: int, rows_per_ciphertext: int) -> CipherVector:
        check_packing(slot_bits, rows_per_ciphertext)
        numbers = self._numbers(vector)
        return self._result(products.pack_rows(numbers, slot_bits, rows_per_ciphertext, self.public.square))

    def bin_sums(self, vector: CipherVector, bins: NDArray[np.integer], count: int) -> CipherVector:
        check_bins(vector, bins, count)
        return self._result(products.bin_products(self._numbers(vector), bins, count, self.public.square))

    def _residue_source(self) -> Residues:
        if self._source is None:
            self._source = foreign_residues(self.public, self._tables.stream("paillier.guest"))
        return self._source

    def _numbers(self, vector: CipherVector) -> list[mpz]:
        check_key(self.public, vector)
        return vector.to_ints()

    def _result(self, numbers: list[mpz]) -> CipherVector:
        return CipherVector.from_ints(self.public, numbers)


def _times(left: list[mpz], right: list[mpz], modulus: mpz) -> list[mpz]:
    return [one * other % modulus for one, other in zip(left, right, strict=True)]


def _add_plain(numbers: list[mpz], values: Sequence[int], public: PublicKey) -> list[mpz]:
    """c (1 + v N) = c + N (c v mod N), mod N^2."""
    n, square = public.n, public.square
    check_values(public, len(numbers), values)
    return [
        (number + n * (number * mpz(int(value)) % n)) % square for number, value in zip(numbers, values, strict=True)
    ]
