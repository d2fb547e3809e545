"""Looks for private values in bytes, in every spelling they could have left the house in."""

import base64
import re
import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence

INFLATED_BYTES_MAX = 4_000_000
TEXT_DIGITS = 11
RUN = 24  # rows of a run: less than any chunk has
_COMPRESSED = re.compile(rb"\x78[\x01\x5e\x9c\xda]|\x1f\x8b\x08", re.DOTALL)


def spellings(value: bytes) -> set[bytes]:
    """A value raw, as hex, and as base64 at each of the three alignments."""
    found = {value, value.hex().encode(), value.hex().upper().encode()}
    for shift in range(3):
        text = base64.b64encode(b"\x00" * shift + value)
        # The letters at both ends depend on neighbours too.
        inner = text[(shift * 8 + 5) // 6 : (shift + len(value)) * 8 // 6]
        found |= {inner, inner.replace(b"+", b"-").replace(b"/", b"_")}
    return found


def doubles(value: float) -> set[bytes]:
    """A number as 8 bytes in both orders (msgpack has the big-endian one), and as text, however far it goes."""
    return {struct.pack("<d", value), struct.pack(">d", value), repr(value)[:TEXT_DIGITS].encode()}


def sequences(values: Sequence[int]) -> set[bytes]:
    """Small numbers, row after row: as bytes, wider integers, doubles, msgpack, bits and text."""
    start = list(values[:RUN])
    found = {bytes(start)}
    for order in "<>":
        found |= {struct.pack(f"{order}{RUN}{code}", *start) for code in "hiqfd"}
    found.add(b"".join(b"\xcb" + struct.pack(">d", value) for value in start))
    for order in ("little", "big"):
        number = sum(value << at for at, value in enumerate(values if order == "little" else reversed(values)))
        found.add(number.to_bytes(-(-len(values) // 8), order))  # type: ignore[arg-type]
    for kind in (int, float):
        found |= {gap.join(str(kind(value)) for value in start).encode() for gap in (",", ", ", "\n", " ")}
    return found


def inflated(data: bytes) -> Iterable[bytes]:
    """Everything in `data` that can be decompressed."""
    for match in _COMPRESSED.finditer(data):
        try:
            yield zlib.decompressobj(wbits=47).decompress(data[match.start() :], INFLATED_BYTES_MAX)
        except zlib.error:
            continue


def find(canaries: Mapping[str, set[bytes]], haystacks: Iterable[bytes]) -> set[str]:
    """Names of the canaries that are in one of the haystacks, in some spelling."""
    needles = {name: {text for value in values for text in spellings(value)} for name, values in canaries.items()}
    found: set[str] = set()
    for haystack in haystacks:
        for data in (haystack, *inflated(haystack)):
            found |= {
                name for name, texts in needles.items() if name not in found and any(text in data for text in texts)
            }
    return found
