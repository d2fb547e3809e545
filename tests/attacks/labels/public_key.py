"""What the public key alone reads out of ciphertexts `g^m rho^N mod N^2`, g = 1 + N, if they are badly blinded.

Modulo N a ciphertext is `rho^N`: nothing of the plaintext is in it. Who knows rho^N, or that two ciphertexts share it,
divides it out and has `1 + m N`, in the clear. That is how labels were read from ciphertexts that a federated learner
had sent unblinded: no key was broken.
"""

from collections import Counter
from collections.abc import Iterator, Sequence

import gmpy2
from gmpy2 import mpz

SMALL = 64  # blinding factors tried: 1 to 64, and their products with those of other ciphertexts
ORDERS = 16  # orders of blinding tried


class PublicKeyReader:
    """An attacker with a public key and ciphertexts under it."""

    def __init__(self, modulus: int) -> None:
        self.n = mpz(modulus)
        self.square = self.n**2
        self._powers = [gmpy2.powmod(rho, self.n, self.square) for rho in range(1, SMALL + 1)]
        self._known = {power % self.n: power for power in self._powers}

    def equal(self, numbers: Sequence[mpz]) -> int:
        """How many ciphertexts occur more than once."""
        return sum(times for times in Counter(numbers).values() if times > 1)

    def alone(self, number: mpz) -> int | None:
        """The plaintext of a ciphertext whose blinding is none, small, or of small order: signed; else None."""
        residue = number % self.n
        if residue in self._known:
            return self._plain(number * gmpy2.invert(self._known[residue], self.square))
        power = mpz(1)
        for order in range(1, ORDERS + 1):
            power = power * residue % self.n
            if power == 1:
                return self._plain(gmpy2.powmod(number, order, self.square), order)
        return None

    def reencrypted(self, number: mpz, candidates: Sequence[int]) -> int | None:
        """The candidate that gives this very ciphertext under a small blinding factor, if one does."""
        for candidate in candidates:
            bare = (1 + candidate * self.n) % self.square
            if any(bare * power % self.square == number for power in self._powers):
                return candidate
        return None

    def quotients(self, numbers: Sequence[mpz]) -> Iterator[tuple[int, int, int]]:
        """(i, j, m_i - m_j) of ciphertexts whose blinding factors are equal, or one a small multiple of the other."""
        places: dict[mpz, int] = {}
        for i, number in enumerate(numbers):
            for power in self._powers:
                j = places.get(number * gmpy2.invert(power, self.n) % self.n)
                if j is not None:
                    over = gmpy2.invert(numbers[j] * power % self.square, self.square)
                    yield i, j, self._plain(number * over)
                    break
            places[number % self.n] = i

    def inverses(self, numbers: Sequence[mpz]) -> Iterator[tuple[int, int, int]]:
        """(i, j, m_i + m_j) of ciphertexts whose blinding factors cancel."""
        places = {number % self.n: i for i, number in enumerate(numbers)}
        for i, number in enumerate(numbers):
            j = places.get(gmpy2.invert(number, self.n))
            if j is not None:
                yield i, j, self._plain(number * numbers[j])

    def _plain(self, bare: mpz, order: int = 1) -> int:
        plain = (bare % self.square - 1) // self.n * gmpy2.invert(order, self.n) % self.n
        return int(plain if plain <= self.n // 2 else plain - self.n)
