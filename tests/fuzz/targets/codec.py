"""Message bodies: `decode`, `unpack`, and `encode` of messages that nobody has checked.

An input is a byte of options, a byte that says how often the bytes fields are repeated before `encode` gets the
message (so that a small input makes an oversized one), and a message body.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from random import Random
from typing import Any, Final

import msgpack
import msgspec

from messages import codec
from messages.codec import BYTES_MAX, ITEMS_MAX, MESSAGES, TYPES, CodecError, decode, encode, kind_of, pack, unpack
from messages.schemas import AlignList, Message
from tests.fuzz.oracle import MSGPACK_ERRORS, bounded_memory, check_text
from tests.fuzz.samples import sample_messages
from tests.fuzz.values import any_value, changed_map

MODULES: Final = ("messages/codec.py",)
HELD: Final = True
INPUT_BYTES_MAX: Final = 8192

CODES: Final = {"oversized", "malformed", "unknown_type", "invalid_field", "too_deep"}
SMALL_BYTES_MAX: Final = 64
STRETCH: Final = 2**14
_SOURCES: Final = ("messages/codec.py", "messages/schemas.py", "messages/unsequenced.py")


def seeds() -> Iterator[bytes]:
    for message in sample_messages():
        yield b"\x00\x00" + encode(message)
    yield b"\x00\x80" + encode(AlignList(points=bytes(32)))
    yield b"\x00\x00" + b"\x91" * 1100 + b"\x00"
    yield b"\x00\x00" + b"\x91" * 9 + b"\x00"
    yield b"\x02\x00\x90"
    yield b"\x00\x00\xc7\x00\x01"
    yield b"\x01\x00" + bytes(SMALL_BYTES_MAX + 1)


def mutate(data: bytes, size_max: int, chance: Random, plain: Callable[[bytes, int], bytes]) -> bytes:
    options, body = data[:2].ljust(2, b"\x00"), data[2:]
    if chance.randrange(3) == 0:
        return plain(data, size_max)
    try:
        value: Any = msgpack.unpackb(body, strict_map_key=False)
    except (ValueError, TypeError, msgpack.UnpackException):
        return plain(data, size_max)
    if chance.randrange(8) == 0:
        options = bytes([chance.randrange(4), chance.randrange(256)])
    value = changed_map(value, chance) if isinstance(value, dict) else any_value(chance)
    with suppress(ValueError, TypeError, OverflowError):
        changed = options + msgpack.packb(value)
        if len(changed) <= size_max:
            return changed
    return plain(data, size_max)


def fuzz_one(data: bytes) -> None:
    options, stretch, body = data[0] if data else 0, data[1] if len(data) > 1 else 0, data[2:]
    bytes_max = SMALL_BYTES_MAX if options & 1 else BYTES_MAX
    items_max = 0 if options & 2 else ITEMS_MAX
    with bounded_memory():
        message = _decoded(body, bytes_max)
        value = _unpacked(body, bytes_max, items_max)
        if message is not None:
            assert type(message) in MESSAGES
            assert encode(message) == body
            assert decode(body) == message
            assert TYPES[f"{kind_of(message)}.v1"] is kind_of_type(message)
            assert items_max == 0 or value is not None
        if isinstance(value, dict):
            _encode_unchecked(value, stretch)


def kind_of_type(message: Message) -> type[Message]:
    assert kind_of(type(message)) == kind_of(message)
    return type(message)


def _decoded(body: bytes, bytes_max: int) -> Message | None:
    try:
        return decode(body, bytes_max=bytes_max)
    except CodecError as error:
        _check(error, body)
        return None


def _unpacked(body: bytes, bytes_max: int, items_max: int) -> Any:
    try:
        value = unpack(body, bytes_max=bytes_max, items_max=items_max)
    except CodecError as error:
        _check(error, body)
        return None
    assert pack(value) == body
    assert items_max or not _has_list(value)
    return value


def _has_list(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_has_list, value.values()))
    return isinstance(value, list)


def _encode_unchecked(fields: dict[Any, Any], stretch: int) -> None:
    """What `encode` lets out, `decode` takes, whatever was put into the fields of a message."""
    fields = dict(fields)
    tag = fields.pop("type", None)
    kind = TYPES.get(tag) if isinstance(tag, str) else None
    if kind is None or set(fields) != set(kind.__struct_fields__):
        return
    for name, value in fields.items():
        if isinstance(value, bytes):
            fields[name] = value * max(1, stretch * STRETCH // max(1, len(value)))
    message = kind(**fields)
    try:
        written = encode(message)
    except CodecError as error:
        _check(error, b"", names=(kind_of(message),))
        assert error.code in {"invalid_field", "oversized"}
        return
    assert len(written) <= BYTES_MAX
    assert decode(written) == msgspec.convert(
        msgspec.to_builtins(message, builtin_types=(bytes,)), type=codec._ANY, builtin_types=(bytes,)
    )


def _check(error: CodecError, body: bytes, names: tuple[str, ...] = ()) -> None:
    assert error.code in CODES
    check_text(str(error), modules=_SOURCES, names=(*names, *MSGPACK_ERRORS, *_keys(body)), chars_max=300)


def _keys(body: bytes) -> Iterator[str]:
    """The names of fields at every level, which a refusal may show."""
    with suppress(ValueError, TypeError, msgpack.UnpackException, RecursionError):
        waiting: list[Any] = [msgpack.unpackb(body, strict_map_key=False, unicode_errors="replace")]
        while waiting:
            value = waiting.pop()
            if isinstance(value, dict):
                yield from (key for key in value if isinstance(key, str))
                waiting += value.values()
            elif isinstance(value, list):
                waiting += value
