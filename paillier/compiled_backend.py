"""The back end of the compiled kernel: many numbers side by side, several threads, no interpreter lock.

Its results are those of the gmpy2 back end, byte for byte: the same streams give the same bases and the same
exponents, and every number is written as its smallest representative.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

import gmpy2
import numpy as np
from gmpy2 import mpz
from numpy.typing import NDArray

from kernel.library import Library
from paillier.backend import EXPONENT_BITS, Guest, Owner
from paillier.blinding import ManyBases, TableStreams, foreign_residues
from paillier.compiled_owner import MANY_BASES_WINDOW, CompiledOwner
from paillier.gmpy2_backend import Gmpy2Backend
from paillier.keys import PrivateKey, PublicKey
from paillier.plans import LANES, lane_bucket_plan, lane_straus_plan
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
from paillier.rings import Crew, Ring, Words, ranges, u64
from paillier.vector import CiphertextError, CipherVector

SUM_ROWS_MAX: Final = 4096
"""Rows of one call of `power_sum`: entries of 640 bytes each are kept for them at 2048 bits."""


class CompiledBackend:
    """`paillier.backend.Backend` on the compiled kernel. `threads`: how many share a batch."""

    name = "compiled"

    def __init__(self, library: Library, threads: int = 1) -> None:
        self._library = library
        self._crew = Crew(threads)
        self.path = library.path

    def owner(self, private: PrivateKey, stream: RandomStream | None) -> Owner:
        """See `Backend.owner`. A key that the kernel has no lanes for goes to gmpy2."""
        lengths = {int(self._library.lib.wk_ring_bits(prime.bit_length())) for prime in (private.p, private.q)}
        if len(lengths) != 1 or lengths == {0}:
            return Gmpy2Backend().owner(private, stream)
        return CompiledOwner(self._library, self._crew, private, stream)

    def guest(self, public: PublicKey, stream: RandomStream | None) -> Guest:
        """See `Backend.guest`. A key that is too long for the kernel goes to gmpy2."""
        if not self._library.lib.wk_ring_bits(public.bits):
            return Gmpy2Backend().guest(public, stream)
        return _Guest(self._library, self._crew, public, stream)


class _Guest:
    def __init__(self, library: Library, crew: Crew, public: PublicKey, stream: RandomStream | None) -> None:
        self.public = public
        self._library, self._crew = library, crew
        self._tables = TableStreams(stream)
        self._ring = Ring(library, public.modulus, public.words)
        self._ring.prepare()
        self._source: ManyBases | None = None
        self._table: Any = None

    def encrypt(self, values: Sequence[int], stream: RandomStream) -> CipherVector:
        check_values(self.public, len(values), values)
        n, square = self.public.n, self.public.square
        return self.rerandomise(
            CipherVector.from_ints(self.public, [(1 + int(value) * n) % square for value in values]), stream
        )

    def check(self, vector: CipherVector) -> None:
        words, library, ring = self._words(vector), self._library, self._ring
        top, square = words[:, -1], self.public.square
        # Only a number that begins like the square needs a closer look.
        alike = np.flatnonzero(top >= int(square >> 64 * (self.public.words - 1)))
        wrong = [int(at) for at in alike if not vector[at : at + 1].to_ints()[0] < square]
        wrong += np.flatnonzero(~words.any(axis=1)).tolist()
        if wrong:
            raise CiphertextError(f"ciphertext {min(wrong)} is not between 1 and the square of the modulus")
        parts = np.empty((self._crew.threads, ring.words), dtype="<u8")
        cuts = ranges(len(words), self._crew.threads, LANES)

        def work(first: int, last: int) -> int:
            status = 0
            for part in range(first, last):
                start, stop = cuts[part]
                status |= library.lib.wk_common_factor(
                    ring.pointer, u64(library, parts[part]), u64(library, words[start:stop]), stop - start
                )
            return status

        self._crew.each(len(cuts), work, block=1)
        for part in parts[: len(cuts)]:
            if gmpy2.gcd(mpz.from_bytes(part.tobytes(), "little"), self.public.n) != 1:
                raise CiphertextError("a ciphertext has a factor in common with the modulus")

    def rerandomise(self, vector: CipherVector, stream: RandomStream) -> CipherVector:
        words, library, table = self._words(vector), self._library, self._ready()
        assert self._source is not None
        exponents = self._source.exponents(len(vector), stream)
        out = np.empty_like(words)
        self._crew.each(
            len(vector),
            lambda first, last: library.lib.wk_table_powers(
                table,
                u64(library, out[first:last]),
                u64(library, words[first:last]),
                library.ffi.from_buffer("uint8_t[]", exponents[first:last]),
                exponents.shape[1],
                last - first,
            ),
        )
        return CipherVector(self.public, out)

    def add(self, left: CipherVector, right: CipherVector) -> CipherVector:
        check_vectors([left, right])
        library, ring = self._library, self._ring
        if not ring.prepared:
            return self.multiply_all([left, right])
        return self._by_rows(library.lib.wk_multiply_two, self._words(left), self._words(right))

    def add_plain(self, vector: CipherVector, values: Sequence[int]) -> CipherVector:
        check_values(self.public, len(vector), values)
        words, ring = self._words(vector), self._ring
        n, size = self.public.n, 8 * ring.words
        data = b"".join([(mpz(int(value)) % n).to_bytes(size, "little") for value in values])
        plain = np.frombuffer(data, dtype="<u8").reshape(-1, ring.words)
        return self._by_rows(self._library.lib.wk_add_plain, words, plain)

    def invert(self, vector: CipherVector) -> CipherVector:
        # One inversion for a whole batch is a chain of products, which lanes have nothing to give to.
        return Gmpy2Backend().guest(self.public, None).invert(vector)

    def multiply_all(self, vectors: Sequence[CipherVector]) -> CipherVector:
        check_vectors(vectors)
        terms = [self._words(vector) for vector in vectors]
        library, ring = self._library, self._ring
        out = np.empty_like(terms[0])

        def work(first: int, last: int) -> int:
            block = np.concatenate([term[first:last] for term in terms])
            return int(
                library.lib.wk_multiply(
                    ring.pointer, u64(library, out[first:last]), u64(library, block), len(terms), last - first
                )
            )

        self._crew.each(len(out), work)
        return CipherVector(self.public, out)

    def power_rows(
        self,
        vector: CipherVector,
        exponents: NDArray[np.integer],
        bits: int = EXPONENT_BITS,
        plus: CipherVector | None = None,
    ) -> CipherVector:
        check_power_rows(vector, exponents, bits, plus)
        words, library, ring = self._words(vector), self._library, self._ring
        rows, terms = exponents.shape
        group, window = lane_straus_plan(terms, bits)
        raised = np.ascontiguousarray(exponents, dtype=np.uint64)
        added = None if plus is None else self._words(plus)
        out = np.empty((rows, self.public.words), dtype="<u8")
        self._crew.each(
            rows,
            lambda first, last: library.lib.wk_power_rows(
                ring.pointer,
                u64(library, out[first:last]),
                u64(library, words[first * terms : last * terms]),
                library.ffi.NULL if added is None else u64(library, added[first:last]),
                u64(library, raised[first:last]),
                last - first,
                terms,
                bits,
                group,
                window,
            ),
        )
        return CipherVector(self.public, out)

    def power_sum(self, vector: CipherVector, exponents: Sequence[int], bits: int) -> CipherVector:
        check_power_sum(vector, exponents, bits)
        words, library, ring = self._words(vector), self._library, self._ring
        rows = len(exponents)
        columns, size = len(vector) // rows, -(-bits // 64)
        data = b"".join([int(exponent).to_bytes(8 * size, "little") for exponent in exponents])
        raised = np.frombuffer(data, dtype="<u8").reshape(rows, size)
        parts = max(-(-rows // SUM_ROWS_MAX), min(self._crew.threads, rows // 64) or 1)
        cuts = [rows * part // parts for part in range(parts + 1)]
        partial = np.empty((parts, columns, self.public.words), dtype="<u8")

        def work(first: int, last: int) -> int:
            status = 0
            for part in range(first, last):
                start, stop = cuts[part], cuts[part + 1]
                window, segments = lane_bucket_plan(stop - start, columns, bits)
                status |= library.lib.wk_power_sum(
                    ring.pointer,
                    u64(library, partial[part]),
                    u64(library, words[start * columns : stop * columns]),
                    stop - start,
                    columns,
                    u64(library, raised[start:stop]),
                    size,
                    bits,
                    window,
                    segments,
                )
            return status

        self._crew.each(parts, work, block=1)
        return self.multiply_all([CipherVector(self.public, part) for part in partial])

    def pack_rows(self, vector: CipherVector, slot_bits: int, rows_per_ciphertext: int) -> CipherVector:
        check_packing(slot_bits, rows_per_ciphertext)
        words, library, ring, step = self._words(vector), self._library, self._ring, rows_per_ciphertext
        count = -(-len(vector) // step)
        out = np.empty((count, self.public.words), dtype="<u8")
        self._crew.each(
            count,
            lambda first, last: library.lib.wk_pack_rows(
                ring.pointer,
                u64(library, out[first:last]),
                u64(library, words[first * step : last * step]),
                min(last * step, len(vector)) - first * step,
                slot_bits,
                step,
            ),
        )
        return CipherVector(self.public, out)

    def bin_sums(self, vector: CipherVector, bins: NDArray[np.integer], count: int) -> CipherVector:
        check_bins(vector, bins, count)
        words, library, ring = self._words(vector), self._library, self._ring
        columns = bins.shape[1]
        places = np.asarray(bins, dtype=np.uint32)
        out = np.empty((columns, count, self.public.words), dtype="<u8")

        def work(first: int, last: int) -> int:
            chosen = np.ascontiguousarray(places[:, first:last])
            return int(
                library.lib.wk_bin_sums(
                    ring.pointer,
                    u64(library, out[first:last]),
                    u64(library, words),
                    library.ffi.from_buffer("uint32_t[]", chosen),
                    len(words),
                    last - first,
                    count,
                )
            )

        self._crew.each(columns if len(words) and count else 0, work)
        if not len(words):
            out[:] = 0
            out[:, :, 0] = 1
        return CipherVector(self.public, out.reshape(-1, self.public.words))

    def _ready(self) -> Any:
        """The kernel's table, made at the first re-randomisation."""
        if self._table is None:
            source = foreign_residues(self.public, self._tables.stream("paillier.guest"))
            units = CipherVector.from_ints(self.public, source.units)
            bases = CipherVector(self.public, self._ring.power(units.words, int(source.root), self._crew)).to_ints()
            self._table = self._ring.table(bases, None, source.exponent_bits // MANY_BASES_WINDOW, MANY_BASES_WINDOW)
            self._source = source
        return self._table

    def _by_rows(self, call: Callable[..., int], *inputs: Words) -> CipherVector:
        """A function of the kernel that makes one ciphertext of each row of its inputs."""
        library, out = self._library, np.empty((len(inputs[0]), self.public.words), dtype="<u8")
        self._crew.each(
            len(out),
            lambda first, last: call(
                self._ring.pointer,
                u64(library, out[first:last]),
                *(u64(library, each[first:last]) for each in inputs),
                last - first,
            ),
        )
        return CipherVector(self.public, out)

    def _words(self, vector: CipherVector) -> Words:
        check_key(self.public, vector)
        words: Words = np.ascontiguousarray(vector.words)
        return words
