"""The owner of a key on the compiled kernel: encrypts and decrypts mod p^2 and mod q^2."""

from collections.abc import Sequence
from typing import Any, Final

import gmpy2
import numpy as np
from gmpy2 import mpz

from kernel.library import Library
from paillier.blinding import Residues, TableStreams, own_residues
from paillier.keys import PrivateKey
from paillier.primes import factors_of_order
from paillier.randomness import RandomStream
from paillier.requests import check_key, check_values
from paillier.rings import Crew, Ring, Words, owned, pair_of, u64, words_of
from paillier.vector import CipherVector

ONE_BASE_WINDOW: Final = 10
"""Bits of an exponent that one entry of a table stands for, where the powers are of one base."""
MANY_BASES_WINDOW: Final = 8
"""The same where they are products of powers of several bases."""


class _Prime:
    """One prime of an owner: its ring, and its table once it is needed."""

    def __init__(self, library: Library, prime: int, words: int) -> None:
        self.prime = mpz(prime)
        self.ring = Ring(library, prime, words)
        self.source: Residues | None = None
        self.table: Any = None

    def fill(self, stream: RandomStream) -> None:
        self.source = own_residues(int(self.prime), factors_of_order(int(self.prime)), stream)
        bases, square = self.source.bases, self.prime**2
        window = ONE_BASE_WINDOW if len(bases) == 1 else MANY_BASES_WINDOW
        windows = -(-self.source.exponent_bits // window)
        self.table = self.ring.table(bases, [gmpy2.invert(base, square) for base in bases], windows, window)

    def plain(self, values: list[mpz], other: mpz) -> Words:
        """v q R mod p for each value."""
        p, words = self.prime, self.ring.words
        factor = other * self.ring.radix % p
        data = b"".join([(value * factor % p).to_bytes(8 * words, "little") for value in values])
        return np.frombuffer(data, dtype="<u8").reshape(-1, words)

    def half(self, powers: Words, other: mpz) -> list[mpz]:
        """Plaintexts mod p of c^(p-1) mod p^2."""
        scale, p, width = gmpy2.invert(-other, self.prime), self.prime, 8 * powers.shape[1]
        data = powers.tobytes()
        return [
            (mpz.from_bytes(data[at : at + width], "little") - 1) // p * scale % p for at in range(0, len(data), width)
        ]


class CompiledOwner:
    """`paillier.backend.Owner`: works mod p^2 and mod q^2 and joins by the Chinese remainder theorem."""

    def __init__(self, library: Library, crew: Crew, private: PrivateKey, stream: RandomStream | None) -> None:
        self.public = private.public
        self._library, self._crew = library, crew
        self._tables = TableStreams(stream)
        self._p = _Prime(library, private.p, self.public.words)
        self._q = _Prime(library, private.q, self.public.words)
        self._pointer: Any = None

    def __repr__(self) -> str:
        return f"Owner(<secret>, {self.public.bits} bits)"

    def encrypt(self, values: Sequence[int], stream: RandomStream) -> CipherVector:
        """See `paillier.backend.Owner.encrypt`."""
        check_values(self.public, len(values), values)
        p, q, library = self._p, self._q, self._library
        pointer = self._ready()
        assert p.source is not None
        assert q.source is not None
        at_p, at_q = p.source.exponents(len(values), stream), q.source.exponents(len(values), stream)
        numbers = [mpz(int(value)) for value in values]
        plain_p, plain_q = p.plain(numbers, q.prime), q.plain(numbers, p.prime)
        out = np.empty((len(values), self.public.words), dtype="<u8")
        byte = library.ffi.from_buffer

        def work(first: int, last: int) -> int:
            return int(
                library.lib.wk_owner_encrypt(
                    pointer,
                    u64(library, out[first:last]),
                    out.shape[1],
                    byte("uint8_t[]", at_p[first:last]),
                    at_p.shape[1],
                    byte("uint8_t[]", at_q[first:last]),
                    at_q.shape[1],
                    u64(library, plain_p[first:last]),
                    u64(library, plain_q[first:last]),
                    last - first,
                )
            )

        self._crew.each(len(values), work)
        return CipherVector(self.public, out)

    def decrypt(self, vector: CipherVector) -> list[int]:
        """See `paillier.backend.Owner.decrypt`."""
        check_key(self.public, vector)
        p, q = self._p.prime, self._q.prime
        words = np.ascontiguousarray(vector.words)
        mod_p = self._p.half(self._p.ring.power(words, int(p - 1), self._crew), q)
        mod_q = self._q.half(self._q.ring.power(words, int(q - 1), self._crew), p)
        inverse = gmpy2.invert(p, q)
        return [int(one + p * ((other - one) * inverse % q)) for one, other in zip(mod_p, mod_q, strict=True)]

    def check(self, vector: CipherVector) -> None:
        """See `paillier.backend.Owner.check`."""
        check_key(self.public, vector)
        vector.check()

    def _ready(self) -> Any:
        """The kernel's owner, made at the first encryption."""
        if self._pointer is None:
            p, q, library = self._p, self._q, self._library
            p.fill(self._tables.stream("paillier.owner.p"))
            q.fill(self._tables.stream("paillier.owner.q"))
            square = q.prime**2
            u, radix = gmpy2.invert(p.prime**2, square), q.ring.radix
            joints = (-u * radix, -u * radix**2, u * radix, q.prime * u * radix)
            squared = words_of(p.prime**2, 2 * p.ring.words)
            self._pointer = owned(
                library,
                library.lib.wk_owner_new(
                    p.ring.pointer,
                    p.table,
                    q.ring.pointer,
                    q.table,
                    u64(library, b"".join(pair_of(joint % square, q.prime, q.ring.words) for joint in joints)),
                    u64(library, squared),
                    2 * p.ring.words,
                ),
                library.lib.wk_owner_free,
            )
        return self._pointer
