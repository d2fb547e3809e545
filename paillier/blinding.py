"""Random N-th residues from tables: what hides a plaintext, at about a fifteenth of an exponentiation.

A product of table entries is a product of powers of fixed bases. It hides only if it is (nearly) uniform in
the group of N-th residues, and one random base generates only a part of that group. Two ways out:

`KnownOrder`, mod p^2 for an own key. The N-th residues mod p^2 form the cyclic group T of order p - 1:
raising to N = p q kills the part of order p, and is a bijection on the rest because gcd(q, p - 1) = 1. Where
the prime factors of p - 1 are known, x generates (Z/p)* exactly when x^((p-1)/l) != 1 for each of them, and
then x^p mod p^2 generates T. Its power to an exponent uniform in [0, p - 1) is EXACTLY uniform in T.

`ManyBases`, for a group of unknown order: somebody else's N, or own primes that came from elsewhere. It takes
m >= 64 bases, each uniform in the group and secret, and for each an exponent uniform in [0, 2^b), with
m b >= bits of the group + 128. Averaged over the bases the product is within 2^-60 of uniform, for every
modulus N = p q, also one whose p - 1 and q - 1 were chosen to have much in common. Argument and number:
docs/paillier.md; a test evaluates the bound.
"""

from functools import cached_property
from typing import Protocol

import gmpy2
import numpy as np
from gmpy2 import mpz
from numpy.typing import NDArray

from paillier.backend import BackendError
from paillier.keys import PublicKey
from paillier.primes import is_generator
from paillier.randomness import Randomness, RandomStream

BASES_MIN = 64
EXCESS_BITS = 128
WINDOW_KNOWN = 10  # bits of exponent per table: about 100 000 entries per prime at 2048 bits, 30 MB
WINDOW_MANY = 8


class Residues(Protocol):
    """A source of random N-th residues: fixed secret bases, and the exponents of each residue."""

    @property
    def bases(self) -> list[mpz]:
        """Secret; residue i is the product of their powers to the exponents of row i."""

    @property
    def exponent_bits(self) -> int:
        """Bits of each exponent."""

    def exponents(self, count: int, stream: RandomStream) -> NDArray[np.uint8]:
        """Little-endian bits, the exponents of all bases one after the other: shape (count, bytes)."""

    def draw(self, count: int, stream: RandomStream) -> list[mpz]:
        """`count` independent residues, computed here from tables."""


class TableStreams:
    """The stream of the tables, drawn from once, when made: later draws of others change nothing."""

    def __init__(self, stream: RandomStream | None) -> None:
        self._source = None if stream is None else Randomness(stream.bytes(32))

    def stream(self, purpose: str) -> RandomStream:
        """The stream of one purpose. Raises BackendError where there was none to begin with."""
        if self._source is None:
            raise BackendError("made without a stream: it has no tables to hide anything with")
        return self._source.stream(purpose)


class WindowTables:
    """Products of powers of fixed bases: one table for each window of each exponent.

    `bases` are g_1 .. g_m; each has `windows` tables, the k-th with g^(d 2^(k * window)), d < 2^window.
    """

    def __init__(self, bases: list[mpz], windows: int, window: int, modulus: mpz) -> None:
        self._window = window
        self._modulus = modulus
        self._tables: list[list[mpz]] = []
        for base in bases:
            step = base
            for _ in range(windows):
                # Digit 0 multiplies by modulus + 1, as long as any other entry: a plain 1 would show in time.
                table = [modulus + 1, step]
                for _ in range((1 << window) - 2):
                    table.append(table[-1] * step % modulus)
                self._tables.append(table)
                step = table[-1] * step % modulus

    def powers(self, exponents: NDArray[np.uint8]) -> list[mpz]:
        """Products for exponents given as little-endian bits, shape (n, all windows of all bases)."""
        digits = _digits(exponents, self._window, len(self._tables))
        modulus, tables = self._modulus, self._tables
        first, rest = tables[0], tables[1:]
        products = []
        for row in digits.tolist():
            product = first[row[0]] % modulus
            for table, digit in zip(rest, row[1:], strict=True):
                product = product * table[digit] % modulus
            products.append(product)
        return products


class KnownOrder:
    """Exactly uniform N-th residues mod p^2, given the distinct prime factors of p - 1."""

    def __init__(self, prime: int, factors: tuple[int, ...], stream: RandomStream) -> None:
        self._order = prime - 1
        while True:
            start = 2 + stream.below(prime - 3)
            if is_generator(start, prime, factors):
                break
        self._square = mpz(prime) ** 2
        self.bases = [gmpy2.powmod(start, prime, self._square)]
        self.exponent_bits = self._order.bit_length()

    @cached_property
    def _tables(self) -> WindowTables:
        windows = -(-self.exponent_bits // WINDOW_KNOWN)
        return WindowTables(self.bases, windows, WINDOW_KNOWN, self._square)

    def exponents(self, count: int, stream: RandomStream) -> NDArray[np.uint8]:
        """Uniform in [0, p - 1)."""
        return stream.many_below_bytes(self._order, count)

    def draw(self, count: int, stream: RandomStream) -> list[mpz]:
        """`count` independent residues of [1, p^2)."""
        return self._tables.powers(self.exponents(count, stream))


class ManyBases:
    """N-th residues mod `modulus` within 2^-60 of uniform; `root` is the exponent that makes residues.

    `modulus` and `root` are N^2 and N, or p^2 and p; `root` also tells how large the group is. `units` are the
    numbers whose powers to the root are the bases, for whoever raises them faster.
    """

    def __init__(self, modulus: mpz, root: mpz, stream: RandomStream) -> None:
        count, self._windows = base_count(root.bit_length())
        self._modulus = modulus
        self.root = root
        self.units = [_unit(root, stream) for _ in range(count)]
        self.exponent_bits = self._windows * WINDOW_MANY

    @cached_property
    def bases(self) -> list[mpz]:
        """`units` to the root."""
        return list(gmpy2.powmod_base_list(self.units, self.root, self._modulus))

    @cached_property
    def _tables(self) -> WindowTables:
        return WindowTables(self.bases, self._windows, WINDOW_MANY, self._modulus)

    def exponents(self, count: int, stream: RandomStream) -> NDArray[np.uint8]:
        """Uniform in [0, 2^b) for each base."""
        width = len(self.units) * self.exponent_bits // 8
        return np.frombuffer(stream.bytes(count * width), dtype=np.uint8).reshape(count, width)

    def draw(self, count: int, stream: RandomStream) -> list[mpz]:
        """`count` independent residues."""
        return self._tables.powers(self.exponents(count, stream))


def base_count(group_bits: int) -> tuple[int, int]:
    """How many bases, and how many windows of 8 bits for each, hide in a group of `group_bits` bits."""
    bits = group_bits + EXCESS_BITS
    windows = max(1, bits // (BASES_MIN * WINDOW_MANY))
    return max(BASES_MIN, -(-bits // (windows * WINDOW_MANY))), windows


def own_residues(prime: int, factors: tuple[int, ...] | None, stream: RandomStream) -> Residues:
    """Residues mod prime^2: exactly uniform where the factors of prime - 1 are known."""
    if factors is not None:
        return KnownOrder(prime, factors, stream)
    return ManyBases(mpz(prime) ** 2, mpz(prime), stream)


def foreign_residues(public: PublicKey, stream: RandomStream) -> ManyBases:
    """Residues mod N^2 for whoever does not know the primes of N."""
    return ManyBases(public.square, public.n, stream)


def _unit(root: mpz, stream: RandomStream) -> mpz:
    """Uniform among the numbers prime to `root`; x mod root already decides x^root mod root^2."""
    while True:
        start = mpz(stream.below(int(root)))
        if gmpy2.gcd(start, root) == 1:
            return start


def _digits(exponents: NDArray[np.uint8], window: int, count: int) -> NDArray[np.uint16]:
    if window == 8:
        return exponents.astype(np.uint16)
    bits = np.unpackbits(exponents, axis=1, bitorder="little")
    missing = window * count - bits.shape[1]
    bits = np.pad(bits, ((0, 0), (0, missing))) if missing > 0 else bits[:, : window * count]
    weights = (1 << np.arange(window)).astype(np.uint16)
    digits: NDArray[np.uint16] = bits.reshape(len(bits), count, window).astype(np.uint16) @ weights
    return digits
