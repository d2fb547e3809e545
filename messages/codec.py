"""Messages to bytes and back: strict, bounded, canonical msgpack.

What `encode` never writes, `decode` never accepts: unknown tags or fields, wrong types, NaN, trailing bytes,
too deep or too large a body, and any second spelling of the same message.
"""

from functools import reduce
from operator import or_
from typing import Any, Final

import msgpack
import msgspec

from messages import schemas
from messages.schemas import Message

BYTES_MAX: Final = 2**21
DEPTH_MAX: Final = 8
ITEMS_MAX: Final = 200_000


class CodecError(ValueError):
    """Bytes that are no message. `code` is one of oversized, malformed, unknown_type, invalid_field, too_deep."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code


def _all_messages() -> tuple[type[Message], ...]:
    found = (value for value in vars(schemas).values() if isinstance(value, type))
    return tuple(kind for kind in found if issubclass(kind, Message) and kind is not Message)


MESSAGES: Final[tuple[type[Message], ...]] = _all_messages()
"""Every message that there is."""

TYPES: Final[dict[str, type[Message]]] = {str(kind.__struct_config__.tag): kind for kind in MESSAGES}
"""Tag -> message type."""

_ANY: Final[Any] = reduce(or_, MESSAGES)


def kind_of(message: Message | type[Message]) -> str:
    """The kind of a message: its tag without the version (`link.terms`)."""
    return str(message.__struct_config__.tag).rsplit(".v", 1)[0]


def pack(value: Any) -> bytes:
    """Canonical msgpack of plain values."""
    data: bytes = msgpack.packb(value, use_bin_type=True)
    return data


def encode(message: Message) -> bytes:
    """The message's bytes. Raises CodecError beyond BYTES_MAX or when a field breaks its schema."""
    plain = msgspec.to_builtins(message, builtin_types=(bytes,))
    try:
        msgspec.convert(plain, type=_ANY, strict=True)
    except msgspec.ValidationError as error:
        raise CodecError("invalid_field", f"{kind_of(message)}: {error}") from None
    data = pack(plain)
    if len(data) > BYTES_MAX:
        raise CodecError("oversized", f"{kind_of(message)} takes {len(data)} bytes, {BYTES_MAX} at most")
    return data


def unpack(data: bytes, *, bytes_max: int = BYTES_MAX) -> Any:
    """Plain values of canonical msgpack, within limits. Raises CodecError."""
    if len(data) > bytes_max:
        raise CodecError("oversized", f"{len(data)} bytes, {bytes_max} at most")
    try:
        value = msgpack.unpackb(
            data,
            raw=False,
            strict_map_key=True,
            max_bin_len=bytes_max,
            max_str_len=bytes_max,
            max_array_len=ITEMS_MAX,
            max_map_len=256,
            max_ext_len=0,
        )
    except (ValueError, TypeError, msgpack.UnpackException, RecursionError) as error:
        raise CodecError("malformed", f"no msgpack: {type(error).__name__}") from None
    _check_depth(value, DEPTH_MAX)
    if pack(value) != data:
        raise CodecError("malformed", "not in canonical form")
    return value


def _check_depth(value: Any, left: int) -> None:
    if left == 0:
        raise CodecError("too_deep", f"nested deeper than {DEPTH_MAX}")
    if isinstance(value, dict):
        for item in value.values():
            _check_depth(item, left - 1)
    elif isinstance(value, list):
        for item in value:
            if isinstance(item, dict | list):
                _check_depth(item, left - 1)


def decode(data: bytes, *, bytes_max: int = BYTES_MAX) -> Message:
    """The message in `data`. Raises CodecError with the code of the first rule that is broken."""
    plain = unpack(data, bytes_max=bytes_max)
    if not isinstance(plain, dict):
        raise CodecError("malformed", "a message is a map")
    if plain.get("type") not in TYPES:
        raise CodecError("unknown_type", "the message has no tag that this version knows")
    try:
        message: Message = msgspec.convert(plain, type=_ANY, strict=True)
    except msgspec.ValidationError as error:
        raise CodecError("invalid_field", f"{plain['type']}: {error}") from None
    return message
