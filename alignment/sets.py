"""Lists of masked points and tokens: sort, check, match (docs/alignment.md, "Messages").

A list travels sorted by its bytes. That hides the owner's row order, and lets the receiver insist on strictly
increasing bytes across chunks, so that duplicates, repeats and reordering are refused at no cost. Both
parties keep the rows whose token is in both lists, ordered by token: this is the common row order of a job.

Arrays all along, no dictionaries: with ten million items on each side a step peaks at about 1.5 GB.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from alignment.curve import POINT_BYTES, Points, check_canonical

Tokens = NDArray[np.uint8]
"""Shape (n, 16): the first 16 bytes of doubly masked points."""

Order = NDArray[np.int64]
"""Shape (n,): the own row behind each place of a sorted list."""

TOKEN_BYTES: Final = 16
"""False matches at 1e7 x 1e7 items: 1e14 / 2^128 = 3e-25."""


class ListError(ValueError):
    """A list that breaks the protocol. `code` says which rule, in words of `job.failed`.

    Codes: align_length (bytes are no whole points), align_order (not strictly increasing), align_duplicate
    (two own identifiers are the same), align_reflected (an own point came back), align_tokens (two tokens of
    one list are the same).
    """

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Match:
    """The intersection.

    Attributes:
        own_rows: own row numbers, shape (count,), int64, in token order: the common row order.
        count: rows in both tables.
        digest: 32 bytes, SHA-256 over the matched tokens in order; the same at both parties.

    """

    own_rows: NDArray[np.int64]
    count: int
    digest: bytes


def sorted_list(points: Points) -> tuple[Points, Order]:
    """The own masked points sorted by their bytes, and the row behind each place.

    Args:
        points: shape (n, 32), uint8, in row order.

    Returns:
        The same points, strictly increasing, and the row numbers, shape (n,), int64.

    Raises:
        ListError: two points are equal (align_duplicate): their identifiers are the same once normalised.

    """
    check_canonical(points)
    leading = np.ascontiguousarray(points[:, :8]).view(">u8")[:, 0].astype(np.uint64)
    order = np.argsort(leading, kind="stable")
    leading = leading[order]
    # Eight bytes tell ten million masked points apart nearly always; where not, all 32 are compared.
    tied = bool((leading[1:] == leading[:-1]).any())
    if tied:
        order = np.lexsort(np.ascontiguousarray(points).view(">u8").astype(np.uint64).T[::-1])
    ordered = np.ascontiguousarray(points[order])
    place = _first_not_increasing(ordered.view(">u8").astype(np.uint64)) if tied else None
    if place is not None:
        rows = sorted((int(order[place - 1]) + 1, int(order[place]) + 1))
        raise ListError("align_duplicate", f"data rows {rows[0]} and {rows[1]} have the same normalised identifier")
    return ordered, order.astype(np.int64)


def commitment(points: Points) -> bytes:
    """SHA-256 of the whole sorted list, 32 bytes; sent before the first chunk of either list."""
    return hashlib.sha256(points.tobytes()).digest()


def check_chunk(points_bytes: bytes, previous_last: bytes | None) -> Points:
    """One chunk of a partner's list: whole, canonical points that increase strictly, across chunks too.

    Args:
        points_bytes: the chunk's points, 32 bytes each; may be empty.
        previous_last: the last point of the chunks before, None before the first point.

    Returns:
        The points, shape (n, 32), uint8.

    Raises:
        ListError: align_length or align_order.
        PointError: a coordinate is not canonical.

    """
    if len(points_bytes) % POINT_BYTES:
        raise ListError("align_length", f"{len(points_bytes)} bytes are no whole number of points of {POINT_BYTES}")
    points = np.frombuffer(points_bytes, dtype=np.uint8).reshape(-1, POINT_BYTES)
    check_canonical(points)
    place = _first_not_increasing(points.view(">u8").astype(np.uint64))
    if place is not None:
        raise ListError("align_order", f"point {place} is not above the one before it")
    if previous_last is not None and points_bytes and points_bytes[:POINT_BYTES] <= previous_last:
        raise ListError("align_order", "the first point is not above the last one of the chunk before")
    return points


def refuse_reflected(points: Points, own_list: Points) -> None:
    """Refuse a partner that sends an own point back as its own: it would make both lists seem to match.

    Args:
        points: a checked chunk of the partner's list, shape (m, 32).
        own_list: the own sorted list, shape (n, 32).

    Raises:
        ListError: align_reflected.

    """
    if not len(points) or not len(own_list):
        return
    # Fixed-width byte strings compare like memcmp: numpy pads with zeros what it strips.
    own, theirs = _byte_strings(own_list), _byte_strings(points)
    places = np.minimum(np.searchsorted(own, theirs), len(own) - 1)
    reflected = own[places] == theirs
    if reflected.any():
        raise ListError("align_reflected", f"point {int(np.argmax(reflected))} is one of this party's own list")


def tokens(points: Points) -> Tokens:
    """The first 16 bytes of each doubly masked point, shape (n, 16), in the same order."""
    return np.ascontiguousarray(points[:, :TOKEN_BYTES])


def match(own_tokens: Tokens, own_order: Order, peer_tokens: Tokens) -> Match:
    """Intersect two token lists.

    Args:
        own_tokens: the partner's answers to the own list, shape (n, 16), in the order of that list.
        own_order: the own row behind each place of that list, shape (n,).
        peer_tokens: the own answers to the partner's list, shape (m, 16), in any order.

    Returns:
        The matched own rows in token order.

    Raises:
        ListError: a token occurs twice in one of the lists (align_tokens); the rows would not be unique.

    """
    if len(own_tokens) != len(own_order):
        raise ValueError(f"{len(own_tokens)} tokens for {len(own_order)} rows")
    own, peer = _byte_strings(own_tokens), _byte_strings(peer_tokens)
    by_token = np.argsort(own, kind="stable")
    own, peer = own[by_token], np.sort(peer)
    for name, ordered in (("own", own), ("partner's", peer)):
        if (ordered[1:] == ordered[:-1]).any():
            raise ListError("align_tokens", f"two points of the {name} list have the same token")
    short, long = (own, peer) if len(own) <= len(peer) else (peer, own)
    places = np.searchsorted(long, short)
    found = np.zeros(len(short), dtype=np.bool_)
    inside = places < len(long)
    found[inside] = long[places[inside]] == short[inside]
    kept = np.flatnonzero(found) if short is own else places[found]
    rows = np.asarray(own_order, dtype=np.int64)[by_token[kept]]
    return Match(own_rows=rows, count=len(rows), digest=_digest(own[kept]))


@dataclass(frozen=True, slots=True)
class Pair:
    """What one party knows of its list and a partner's: tokens of both lists, and the own row behind each place."""

    own_tokens: Tokens
    own_order: Order
    peer_tokens: Tokens


def join(pairs: Sequence[Pair], rows: int) -> tuple[Order, list[Order]]:
    """The own rows (of `rows`) that every partner has, in the token order of the first pair.

    Returns:
        The own rows, and for each partner the places of the same rows in that partner's list.

    Raises:
        ListError: a token occurs twice in one of the lists (align_tokens).

    """
    places = np.full((len(pairs), rows), -1, dtype=np.int64)
    for number, pair in enumerate(pairs):
        found = match(pair.own_tokens, pair.own_order, pair.peer_tokens)
        peer = _byte_strings(pair.peer_tokens)
        by_token = np.argsort(peer, kind="stable")
        own = np.empty(rows, dtype=_byte_strings(pair.own_tokens).dtype)
        own[np.asarray(pair.own_order, dtype=np.int64)] = _byte_strings(pair.own_tokens)
        places[number, found.own_rows] = by_token[np.searchsorted(peer[by_token], own[found.own_rows])]
        if number == 0:
            ordered = found.own_rows
    common = ordered[(places[:, ordered] >= 0).all(axis=0)]
    return common, [places[number, common] for number in range(len(pairs))]


def _digest(matched: NDArray[np.bytes_]) -> bytes:
    head = b"warren matched tokens v1\x00" + len(matched).to_bytes(8, "big")
    return hashlib.sha256(head + matched.tobytes()).digest()


def _byte_strings(rows: NDArray[np.uint8]) -> NDArray[np.bytes_]:
    """Rows of k bytes as a vector of fixed-width byte strings."""
    return np.ascontiguousarray(rows).view(f"S{rows.shape[1]}").reshape(-1)


def _first_not_increasing(keys: NDArray[np.uint64]) -> int | None:
    """Index of the first row of big-endian words that is not above the row before it; None if all are."""
    above = np.zeros(max(len(keys) - 1, 0), dtype=np.bool_)
    equal = ~above
    for word in keys.T:
        above |= equal & (word[1:] > word[:-1])
        equal &= word[1:] == word[:-1]
    return None if above.all() else int(np.argmin(above)) + 1
