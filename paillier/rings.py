"""Numbers mod n^2 in the compiled kernel (kernel/src/residues.h): a ring, its tables, and the owner's pair of rings."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any, Final

import gmpy2
import numpy as np
from gmpy2 import mpz
from numpy.typing import NDArray

from kernel.library import Library
from paillier.folding import fold_of
from paillier.plans import LANES

Words = NDArray[np.uint64]

POWERS: Final = 5


class KernelMemoryError(MemoryError):
    """The kernel got no memory for what it was asked."""


def words_of(number: int, count: int) -> bytes:
    """A number of [0, 2^(64 count)) as little-endian words."""
    return bytes(mpz(number).to_bytes(8 * count, "little"))


def pair_of(number: int, n: mpz, count: int) -> bytes:
    """A number of [0, n^2) as remainder and quotient by n, `count` words each."""
    quotient, remainder = gmpy2.f_divmod(mpz(number), n)
    return words_of(remainder, count) + words_of(quotient, count)


class Crew:
    """Threads that share a batch in ranges of rows; the kernel's calls hold no interpreter lock.

    Each row's result depends on its inputs alone, so the number of threads never shows in a result.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="paillier") if threads > 1 else None

    def each(self, count: int, work: Callable[[int, int], int], block: int = LANES) -> None:
        """`work(first, last)` over all of `count` rows, cut at multiples of `block`. Raises KernelMemoryError."""
        if self._pool is None or count <= block:
            statuses: Iterator[int] = iter([work(0, count)] if count else [])
        else:
            statuses = self._pool.map(work, *zip(*ranges(count, self.threads, block), strict=True))
        if any(statuses):
            raise KernelMemoryError("no memory for a batch of ciphertexts")


def ranges(count: int, parts: int, block: int) -> list[tuple[int, int]]:
    """At most `parts` ranges of nearly the same length that cover [0, count), cut at multiples of `block`."""
    blocks = -(-count // block)
    cuts = sorted({min(count, block * (blocks * part // parts)) for part in range(parts + 1)})
    return list(pairwise(cuts))


class Ring:
    """Arithmetic mod n^2. `square_words`: words of its numbers as ciphertexts have them.

    Raises ValueError for a modulus longer than the kernel's.
    """

    def __init__(self, library: Library, n: int, square_words: int) -> None:
        self.n = mpz(n)
        self.words = (self.n.bit_length() + 63) // 64
        self.square_words = square_words
        self.prepared = False
        self._library = library
        self.bits = int(library.lib.wk_ring_bits(self.n.bit_length()))
        if not self.bits:
            raise ValueError(f"the kernel has no modulus of {self.n.bit_length()} bits")
        square = self.n**2
        radix = mpz(1) << self.bits
        powers = b"".join(pair_of(gmpy2.powmod(radix, k, square), self.n, self.words) for k in range(1, POWERS + 1))
        above_words = self.bits // 64 + 2
        above = words_of(-(-radix // self.n) * self.n, above_words)
        self.pointer = owned(
            library,
            library.lib.wk_ring_new(
                u64(library, words_of(self.n, self.words)),
                self.words,
                square_words,
                u64(library, powers),
                u64(library, above),
                above_words,
            ),
            library.lib.wk_ring_free,
        )

    def prepare(self) -> None:
        """Make products of two numbers cheap: what a reduction by n^2 needs. Raises KernelMemoryError.

        Nothing is prepared where what is left of a product above n^2 is longer than R^2; the kernel goes on without.
        """
        square, library = self.n**2, self._library
        limb = int(library.lib.wk_ring_limb_bits(self.pointer))
        shift = (square.bit_length() - 1) // limb
        if 2 * square.bit_length() - limb * shift > 2 * self.bits:
            return
        words = -(-2 * self.bits // 64)
        reciprocal = words_of((mpz(1) << 2 * self.bits + limb * shift) // square, words)
        if library.lib.wk_ring_prepare(
            self.pointer, u64(library, words_of(square, words)), u64(library, reciprocal), words, shift
        ):
            raise KernelMemoryError("no memory for the tables of a key")
        self.prepared = True
        fold = fold_of(square, self.bits // limb, limb) if library.lib.wk_ring_folds(self.pointer) else None
        if fold is not None and library.lib.wk_ring_prepare_fold(
            self.pointer,
            u64(library, b"".join(words_of(constant, words) for constant in fold.constants)),
            words,
            fold.at,
            fold.cut,
            fold.head_shift,
            fold.head_reciprocal,
        ):
            raise KernelMemoryError("no memory for the tables of a key")

    @property
    def radix(self) -> mpz:
        """R of Montgomery's method."""
        return mpz(1) << self.bits

    def power(self, numbers: Words, exponent: int, crew: Crew) -> Words:
        """Each number to one exponent, shape (count, square_words). The exponent is secret, its length is not."""
        library, out = self._library, np.empty((len(numbers), self.square_words), dtype="<u8")
        bits = exponent.bit_length()
        words = -(-bits // 64)
        raised = words_of(exponent, words)

        def work(first: int, last: int) -> int:
            return int(
                library.lib.wk_power(
                    self.pointer,
                    u64(library, out[first:last]),
                    u64(library, numbers[first:last]),
                    numbers.shape[1],
                    last - first,
                    u64(library, raised),
                    words,
                    bits,
                )
            )

        crew.each(len(numbers), work)
        return out

    def table(self, bases: list[mpz], inverses: list[mpz] | None, windows: int, window: int) -> Any:
        """A kernel's table of powers of these bases, with their inverses for an owner's."""
        library = self._library

        def joined(numbers: list[mpz]) -> bytes:
            return b"".join(words_of(number, self.square_words) for number in numbers)

        return owned(
            library,
            library.lib.wk_table_new(
                self.pointer,
                u64(library, joined(bases)),
                library.ffi.NULL if inverses is None else u64(library, joined(inverses)),
                len(bases),
                windows,
                window,
            ),
            library.lib.wk_table_free,
        )


def u64(library: Library, data: bytes | Words) -> Any:
    """Memory as the kernel's words. The caller keeps `data` alive."""
    return library.ffi.from_buffer("uint64_t[]", np.ascontiguousarray(data) if isinstance(data, np.ndarray) else data)


def owned(library: Library, pointer: Any, free: Any) -> Any:
    """A pointer that is freed with its last reference. Raises KernelMemoryError for none."""
    if pointer == library.ffi.NULL:
        raise KernelMemoryError("no memory for the tables of a key")
    return library.ffi.gc(pointer, free)
