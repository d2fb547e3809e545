"""The back end that is always there: GMP through gmpy2, one core, holding the interpreter lock."""

from collections.abc import Sequence

import gmpy2
import numpy as np
from gmpy2 import mpz
from numpy.typing import NDArray

from paillier import products
from paillier.backend import EXPONENT_BITS, BackendError, Guest, Owner
from paillier.blinding import Residues, foreign_residues, own_residues
from paillier.keys import PrivateKey, PublicKey
from paillier.primes import factors_of_order
from paillier.randomness import Randomness, RandomStream
from paillier.vector import CiphertextError, CipherVector

POWER_ROWS_BITS_MAX = 62  # exponents travel as int64


class Gmpy2Backend:
    """`paillier.backend.Backend` on gmpy2."""

    name = "gmpy2"

    def owner(self, private: PrivateKey, stream: RandomStream | None) -> Owner:
        """See `Backend.owner`."""
        return _Owner(private, stream)

    def guest(self, public: PublicKey, stream: RandomStream | None) -> Guest:
        """See `Backend.guest`."""
        return _Guest(public, stream)


class _Tables:
    """The stream of the tables, drawn from once, when made: later draws of others change nothing."""

    def __init__(self, stream: RandomStream | None) -> None:
        self._source = None if stream is None else Randomness(stream.bytes(32))

    def stream(self, purpose: str) -> RandomStream:
        if self._source is None:
            raise BackendError("made without a stream: it has no tables to hide anything with")
        return self._source.stream(purpose)


class _Owner:
    """Works mod p^2 and mod q^2 and joins by the Chinese remainder theorem."""

    def __init__(self, private: PrivateKey, stream: RandomStream | None) -> None:
        self.public = private.public
        self._private = private
        self._tables = _Tables(stream)
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
        _require_key(self.public, vector)
        numbers = vector.to_ints()
        mod_p = _half_decrypt(numbers, self._p, self._q)
        mod_q = _half_decrypt(numbers, self._q, self._p)
        p, q, inverse = self._p, self._q, self._inverse
        return [int(one + p * ((other - one) * inverse % q)) for one, other in zip(mod_p, mod_q, strict=True)]

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
        self._tables = _Tables(stream)
        self._source: Residues | None = None

    def encrypt(self, values: Sequence[int], stream: RandomStream) -> CipherVector:
        residues = self._residue_source().draw(len(values), stream)
        return CipherVector.from_ints(self.public, _add_plain(residues, values, self.public))

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
        if not vectors:
            raise ValueError("nothing to add")
        sums = self._numbers(vectors[0])
        for vector in vectors[1:]:
            if len(vector) != len(sums):
                raise ValueError("vectors of different lengths cannot be added")
            sums = _times(sums, self._numbers(vector), self.public.square)
        return self._result(sums)

    def power_rows(
        self, vector: CipherVector, exponents: NDArray[np.integer], bits: int = EXPONENT_BITS
    ) -> CipherVector:
        if exponents.ndim != 2 or exponents.shape[1] < 1 or exponents.size != len(vector):
            raise ValueError(f"{len(vector)} ciphertexts do not go with exponents of shape {exponents.shape}")
        if not 1 <= bits <= POWER_ROWS_BITS_MAX:
            raise ValueError(f"exponents have 1 to {POWER_ROWS_BITS_MAX} bits")
        if exponents.size and not 0 <= int(exponents.min()) <= int(exponents.max()) < 1 << bits:
            raise ValueError(f"an exponent is not of {bits} bits")
        narrow = exponents.astype(np.int64)
        return self._result(products.power_rows(self._numbers(vector), narrow, bits, self.public.square))

    def power_sum(self, vector: CipherVector, exponents: Sequence[int], bits: int) -> CipherVector:
        if not exponents or len(vector) % len(exponents):
            raise ValueError(f"{len(vector)} ciphertexts do not go with {len(exponents)} exponents")
        if bits < 1 or not 0 <= min(exponents) <= max(exponents) < 1 << bits:
            raise ValueError(f"an exponent is not of {bits} bits")
        plain = [int(exponent) for exponent in exponents]
        terms = len(vector) // len(plain)
        return self._result(products.power_sum(self._numbers(vector), terms, plain, bits, self.public.square))

    def pack_rows(self, vector: CipherVector, slot_bits: int, rows_per_ciphertext: int) -> CipherVector:
        if slot_bits < 1 or rows_per_ciphertext < 1:
            raise ValueError("slots and rows per ciphertext are at least 1")
        numbers = self._numbers(vector)
        return self._result(products.pack_rows(numbers, slot_bits, rows_per_ciphertext, self.public.square))

    def bin_sums(self, vector: CipherVector, bins: NDArray[np.integer], count: int) -> CipherVector:
        if bins.ndim != 2 or len(bins) != len(vector):
            raise ValueError(f"{len(vector)} ciphertexts do not go with bins of shape {bins.shape}")
        if bins.size and not 0 <= int(bins.min()) <= int(bins.max()) < count:
            raise ValueError(f"a bin is not below {count}")
        return self._result(products.bin_products(self._numbers(vector), bins, count, self.public.square))

    def _residue_source(self) -> Residues:
        if self._source is None:
            self._source = foreign_residues(self.public, self._tables.stream("paillier.guest"))
        return self._source

    def _numbers(self, vector: CipherVector) -> list[mpz]:
        _require_key(self.public, vector)
        return vector.to_ints()

    def _result(self, numbers: list[mpz]) -> CipherVector:
        return CipherVector.from_ints(self.public, numbers)


def _require_key(public: PublicKey, vector: CipherVector) -> None:
    if vector.public != public:
        raise ValueError("the ciphertexts are under another key")


def _times(left: list[mpz], right: list[mpz], modulus: mpz) -> list[mpz]:
    return [one * other % modulus for one, other in zip(left, right, strict=True)]


def _add_plain(numbers: list[mpz], values: Sequence[int], public: PublicKey) -> list[mpz]:
    """c (1 + v N) = c + N (c v mod N), mod N^2."""
    n, square, modulus = public.n, public.square, public.modulus
    if len(values) != len(numbers):
        raise ValueError(f"{len(values)} values do not go with {len(numbers)} ciphertexts")
    if any(not -modulus < value < modulus for value in values):
        raise ValueError("a value is not between -N and N")
    return [
        (number + n * (number * mpz(int(value)) % n)) % square for number, value in zip(numbers, values, strict=True)
    ]
