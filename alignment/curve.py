"""Identifiers as points of curve25519, masked with one secret scalar of the party (docs/alignment.md).

Suite `X25519-ELL2`: an item becomes a point by `curve25519_XMD:SHA-512_ELL2_NU_` of RFC 9380 (u-coordinate
only, cofactor cleared as the RFC does), a point is masked by X25519 (RFC 7748). Both operations commute:
mask(mask(point, a), b) = mask(mask(point, b), a), and whoever lacks a scalar cannot undo it.

Both run in the compiled kernel where it has lanes for them (`alignment.lanes`), and then in constant time. Without it
the multiplication by the secret scalar is `cryptography`'s, which is constant time, and the map is GMP's, which is
not: it handles nothing but the party's own identifiers, on the party's own machine. The bytes are the same.

Why the RFC's map and no shortcut: a digest taken as u-coordinate lands on the quadratic twist half of the
time, and that bit survives masking; `g^digest` can be attacked with a dictionary.
"""

import hashlib
from collections.abc import Sequence
from typing import Final

import gmpy2
import numpy as np
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from gmpy2 import mpz
from numpy.typing import NDArray

from alignment import lanes

Points = NDArray[np.uint8]
"""u-coordinates, shape (n, 32), little-endian as in RFC 7748."""

POINT_BYTES: Final = 32
SCALAR_BYTES: Final = 32
MASTER_BYTES_MIN: Final = 32

DOMAIN: Final = b"WARREN-V01-CS01-with-curve25519_XMD:SHA-512_ELL2_NU_"
"""Domain separation tag, RFC 9380 section 3.1: no other protocol maps the same identifier to the same point."""

LOW_ORDER: Final = "has low order"

_P: Final = mpz(2**255 - 19)
_A: Final = mpz(486662)
_A24: Final = mpz(121666)  # (A + 2) / 4
_UNIFORM_BYTES: Final = 48  # L of the suite, RFC 9380 section 8.5
_SHA512_BLOCK_BYTES: Final = 128


class PointError(ValueError):
    """A coordinate of 32 bytes that this protocol does not accept. `index` counts from 0 in the given points."""

    def __init__(self, index: int, reason: str) -> None:
        super().__init__(f"point {index} {reason}")
        self.index = index
        self.reason = reason


def map_many(items: Sequence[bytes], *, domain: bytes = DOMAIN) -> Points:
    """Map each item to a point of the prime-order group: RFC 9380 `curve25519_XMD:SHA-512_ELL2_NU_`.

    One Jacobi symbol an item; one inversion for all of them (Montgomery's trick).

    Args:
        items: normalised identifiers (`identifiers.normalise`), in row order.
        domain: domain separation tag, at most 255 bytes; only a test against the RFC's vectors gives another.

    Returns:
        Points in the order of the items, shape (n, 32), uint8.

    """
    elements = hash_to_field(items, domain)
    if (kernel := lanes.fast()) is not None:
        return lanes.elligator2(kernel, elements)
    return _to_bytes(_clear_cofactor([_elligator(element) for element in elements]))


def mask_many(points: Points, scalar: bytes) -> Points:
    """Multiply each point by the secret scalar: X25519, RFC 7748 section 5, which clamps the scalar.

    Args:
        points: u-coordinates, shape (n, 32), uint8; own mapped points or a partner's masked ones.
        scalar: 32 bytes, see `derive_scalar`.

    Returns:
        The products in the same order, shape (n, 32), uint8.

    Raises:
        PointError: the point is not canonical, or of low order (all of its multiples are known to everyone).

    """
    check_canonical(points)
    if (kernel := lanes.fast()) is not None:
        masked = lanes.multiply(kernel, points, scalar)
        low_order = np.flatnonzero(~masked.any(axis=1))
        if len(low_order):
            raise PointError(int(low_order[0]), LOW_ORDER)
        return masked
    return _mask_one_by_one(points, scalar)


def _mask_one_by_one(points: Points, scalar: bytes) -> Points:
    key = X25519PrivateKey.from_private_bytes(scalar)
    data = np.ascontiguousarray(points).tobytes()
    masked = bytearray(len(data))
    load, multiply = X25519PublicKey.from_public_bytes, key.exchange
    for start in range(0, len(data), POINT_BYTES):
        stop = start + POINT_BYTES
        try:
            masked[start:stop] = multiply(load(data[start:stop]))
        except ValueError:
            # RFC 7748 section 6.1: an all-zero result means that the input has low order.
            raise PointError(start // POINT_BYTES, LOW_ORDER) from None
    return np.frombuffer(bytes(masked), dtype=np.uint8).reshape(-1, POINT_BYTES)


def check_canonical(points: Points) -> None:
    """Refuse every spelling but one of each coordinate.

    X25519 takes u and u + p, and ignores the top bit: without this check one point would pass the
    increasing-order check of a list several times.

    Raises:
        PointError: u >= 2^255 - 19, or the top bit is set.
        ValueError: `points` does not have shape (n, 32) and type uint8.

    """
    if points.ndim != 2 or points.shape[1] != POINT_BYTES or points.dtype != np.uint8:
        raise ValueError(f"points have shape (n, {POINT_BYTES}) and type uint8, not {points.shape} {points.dtype}")
    top = points[:, 31]
    too_large = top >= 0x80
    suspects = np.flatnonzero(top == 0x7F)
    # p is 0xED, then thirty times 0xFF, then 0x7F; only 19 coordinates of 255 bits are as large.
    full = (points[suspects, 1:31] == 0xFF).all(axis=1) & (points[suspects, 0] >= 0xED)
    too_large[suspects[full]] = True
    if too_large.any():
        raise PointError(int(np.argmax(too_large)), "is not canonical: u >= 2^255 - 19")


def derive_scalar(master: bytes, job: str, peer: str, role: str, snapshot_digest: bytes) -> bytes:
    """The party's secret scalar for one job, peer, role and state of its own identifiers.

    HKDF-SHA256 (RFC 5869) with every part length-prefixed. The same after a crash; another one as soon as
    the identifiers change, so that lists of two states of a data set cannot be compared point by point.

    Args:
        master: the party's secret, at least 32 bytes.
        job: the job's identifier.
        peer: the partner's name.
        role: of this party, "business" or "provider".
        snapshot_digest: SHA-256 of the party's snapshot.

    Returns:
        32 secret bytes; X25519 clamps them.

    Raises:
        ValueError: the master secret is too short.

    """
    if len(master) < MASTER_BYTES_MIN:
        raise ValueError(f"the master secret has {len(master)} bytes, at least {MASTER_BYTES_MIN} are needed")
    parts = (job.encode(), peer.encode(), role.encode(), snapshot_digest)
    info = b"warren alignment scalar v1" + b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    return HKDF(algorithm=hashes.SHA256(), length=SCALAR_BYTES, salt=None, info=info).derive(master)


def hash_to_field(items: Sequence[bytes], domain: bytes) -> list[mpz]:
    """RFC 9380 section 5.2 with count = 1, over `expand_message_xmd` with SHA-512 (section 5.3.1).

    Returns:
        One field element in [0, p) per item.

    """
    if not 0 < len(domain) <= 255:
        raise ValueError(f"a domain separation tag has 1 to 255 bytes, not {len(domain)}")
    tag = domain + bytes([len(domain)])
    first = hashlib.sha512(bytes(_SHA512_BLOCK_BYTES))
    tail = _UNIFORM_BYTES.to_bytes(2, "big") + b"\x00" + tag
    second_tail = b"\x01" + tag
    elements = []
    for item in items:
        state = first.copy()
        state.update(item + tail)
        # 48 bytes are less than one digest of 64: b_1 is all that is needed.
        uniform = hashlib.sha512(state.digest() + second_tail).digest()[:_UNIFORM_BYTES]
        elements.append(mpz(int.from_bytes(uniform, "big")) % _P)
    return elements


def _elligator(element: mpz) -> tuple[mpz, mpz]:
    """Elligator 2 of RFC 9380 section 6.7.1 (J = A, K = 1, Z = 2): u-coordinate as a fraction X / Z.

    x1 = -A / (1 + 2 e^2), x2 = -x1 - A; x1 if x1^3 + A x1^2 + x1 is a square, else x2. With x1 = n / d that
    number equals n (n^2 + A n d + d^2) / d^3, a square exactly if n (n^2 + A n d + d^2) d is one: no
    inversion here. d is never 0: -1/2 is no square modulo p, so the RFC's exceptional case cannot occur.
    """
    n, d = -_A, (1 + 2 * element * element) % _P
    right = n * d * (n * n + _A * n * d + d * d) % _P
    if gmpy2.jacobi(right, _P) >= 0:
        return n % _P, d
    return (-n - _A * d) % _P, d


def _clear_cofactor(fractions: list[tuple[mpz, mpz]]) -> list[tuple[mpz, mpz]]:
    """Multiply by h_eff = 8: three doublings in X / Z coordinates (RFC 7748 section 5, the ladder's AA, BB, E)."""
    return [_double(*_double(*_double(x, z))) for x, z in fractions]


def _double(x: mpz, z: mpz) -> tuple[mpz, mpz]:
    plus, minus = (x + z) ** 2 % _P, (x - z) ** 2 % _P
    difference = plus - minus
    return plus * minus % _P, difference * (minus + _A24 * difference) % _P


def _to_bytes(fractions: list[tuple[mpz, mpz]]) -> Points:
    """X / Z of each fraction, little-endian; 0 where Z is 0, as RFC 7748 has it for the neutral element.

    One inversion for all: Montgomery, "Speeding the Pollard and elliptic curve methods", 1987, section 10.3.1.
    """
    denominators = [z if z else mpz(1) for _, z in fractions]
    before, product = [], mpz(1)
    for z in denominators:
        before.append(product)
        product = product * z % _P
    inverse = gmpy2.invert(product, _P)
    coordinates = bytearray(POINT_BYTES * len(fractions))
    for place in range(len(fractions) - 1, -1, -1):
        x, z = fractions[place]
        u = x * before[place] * inverse % _P if z else mpz(0)
        inverse = inverse * denominators[place] % _P
        coordinates[POINT_BYTES * place : POINT_BYTES * (place + 1)] = int(u).to_bytes(POINT_BYTES, "little")
    return np.frombuffer(bytes(coordinates), dtype=np.uint8).reshape(-1, POINT_BYTES)
