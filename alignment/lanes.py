"""Curve25519 in the compiled kernel: eight points side by side (docs/alignment.md)."""

from collections.abc import Sequence

import gmpy2
import numpy as np
from numpy.typing import NDArray

from kernel import library
from kernel.library import Library

FAST_PATH = "avx512ifma"
"""On any other path OpenSSL and GMP are faster than the kernel."""


def fast() -> Library | None:
    """The kernel where it is the fastest way, else None."""
    found = library.load()
    return found if found is not None and found.path == FAST_PATH else None


def multiply(kernel: Library, points: NDArray[np.uint8], scalar: bytes) -> NDArray[np.uint8]:
    """X25519 of one scalar and many points, shape (n, 32): RFC 7748 section 5. Zero for a point of low order."""
    taken = np.ascontiguousarray(points)
    out = np.empty_like(taken)
    memory = kernel.ffi.from_buffer
    kernel.lib.wk_x25519_many(
        memory("uint8_t[]", out), memory("uint8_t[]", taken), len(taken), memory("uint8_t[]", scalar)
    )
    return out


def elligator2(kernel: Library, elements: Sequence[gmpy2.mpz]) -> NDArray[np.uint8]:
    """Field elements to points, the cofactor cleared, shape (n, 32): RFC 9380 section 6.7.1."""
    data = b"".join([element.to_bytes(32, "little") for element in elements])
    out = np.empty((len(elements), 32), dtype=np.uint8)
    memory = kernel.ffi.from_buffer
    kernel.lib.wk_elligator2_many(memory("uint8_t[]", out), memory("uint8_t[]", data), len(elements))
    return out
