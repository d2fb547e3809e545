"""Messages to bytes and back: strict, bounded, canonical msgpack.

What `encode` never writes, `decode` never accepts: unknown tags or fields, wrong types, NaN, trailing bytes,
too deep or too large a body, and any second spelling of the same message (`encode(decode(data)) == data`).
Integers over 64 bits travel as bytes: msgpack has no others.
"""

from functools import reduce
from operator import or_
from typing import Any, Final

import msgpack
import msgspec

from messages import schemas, unsequenced
from messages.schemas import Message

BYTES_MAX: Final = 2**21
DEPTH_MAX: Final = 8
"""Maps and lists inside one another, the outermost included."""

ITEMS_MAX: Final = 200_000
"""Items of one list."""

_FIELDS_MAX: Final = 256
_REASON_MAX: Final = 300


class CodecError(ValueError):
    """Bytes that are no message. `code` is one of oversized, malformed, unknown_type, invalid_field, too_deep."""

    def __init__(self, code: str, reason: str) -> None:
        # The text of a foreign message must not write on an operator's terminal, nor fill the log.
        super().__init__("".join(letter if letter.isprintable() else "?" for letter in reason[:_REASON_MAX]))
        self.code = code


def _all_messages() -> tuple[type[Message], ...]:
    found = (value for module in (schemas, unsequenced) for value in vars(module).values() if isinstance(value, type))
    return tuple(kind for kind in found if issubclass(kind, Message) and kind is not Message)


MESSAGES: Final[tuple[type[Message], ...]] = _all_messages()
"""Every message that there is."""

TYPES: Final[dict[str, type[Message]]] = {str(kind.__struct_config__.tag): kind for kind in MESSAGES}
"""Tag -> message type."""

# Converted with `builtin_types=(bytes,)` always: without it msgspec takes text for bytes, as base64.
_ANY: Final[Any] = reduce(or_, MESSAGES)


def kind_of(message: Message | type[Message]) -> str:
    """The kind of a message: its tag without the version (`link.terms`)."""
    return str(message.__struct_config__.tag).rsplit(".v", 1)[0]


def pack(value: Any) -> bytes:
    """Canonical msgpack of plain values; a map keeps the order of its keys.

    Raises TypeError, ValueError or OverflowError for what msgpack cannot say.
    """
    data: bytes = msgpack.packb(value, use_bin_type=True)
    return data


def encode(message: Message) -> bytes:
    """The message's bytes. Raises CodecError beyond BYTES_MAX or when a field breaks its schema."""
    try:
        plain = msgspec.to_builtins(message, builtin_types=(bytes,))
        # What was checked is what is written: a 0 in a field of floats becomes the 0.0 that the reader wants.
        data = _bytes_of(msgspec.convert(plain, type=_ANY, strict=True, builtin_types=(bytes,)))
    except (TypeError, ValueError, OverflowError) as error:
        raise CodecError("invalid_field", f"{kind_of(message)}: {error}") from None
    if len(data) > BYTES_MAX:
        raise CodecError("oversized", f"{kind_of(message)} takes {len(data)} bytes, {BYTES_MAX} at most")
    return data


def unpack(data: bytes, *, bytes_max: int = BYTES_MAX, items_max: int = ITEMS_MAX) -> Any:
    """Plain values of canonical msgpack, within limits. Raises CodecError.

    `items_max` limits each list; with 0 not even an empty one gets in, which bounds what a stranger's bytes
    can make of our memory.
    """
    value = _parse(data, bytes_max, items_max)
    if pack(value) != data:
        raise CodecError("malformed", "not in canonical form")
    return value


def decode(data: bytes, *, bytes_max: int = BYTES_MAX) -> Message:
    """The message in `data`. Raises CodecError with the code of the first rule that is broken."""
    plain = _parse(data, bytes_max, ITEMS_MAX)
    if not isinstance(plain, dict):
        raise CodecError("malformed", "a message is a map")
    tag = plain.get("type")
    if not isinstance(tag, str) or tag not in TYPES:
        raise CodecError("unknown_type", "the message has no tag that this version knows")
    try:
        message: Message = msgspec.convert(plain, type=_ANY, strict=True, builtin_types=(bytes,))
    except msgspec.ValidationError as error:
        raise CodecError("invalid_field", f"{tag}: {error}") from None
    # The schema's own bytes, not only msgpack's: fields in another order, or 1 for 1.0, are second spellings.
    if _bytes_of(message) != data:
        raise CodecError("malformed", f"{tag}: not in canonical form")
    return message


def _bytes_of(message: Message) -> bytes:
    return pack(msgspec.to_builtins(message, builtin_types=(bytes,)))


def _parse(data: bytes, bytes_max: int, items_max: int) -> Any:
    """Plain values of msgpack within limits, in any spelling."""
    if len(data) > bytes_max:
        raise CodecError("oversized", f"{len(data)} bytes, {bytes_max} at most")
    try:
        value = msgpack.unpackb(
            data,
            raw=False,
            strict_map_key=True,
            max_bin_len=bytes_max,
            max_str_len=bytes_max,
            max_array_len=items_max,
            max_map_len=_FIELDS_MAX,
            max_ext_len=0,
            ext_hook=_no_extension,
            list_hook=None if items_max else _no_list,
        )
    except (msgpack.StackError, RecursionError):
        raise CodecError("too_deep", f"nested deeper than {DEPTH_MAX}") from None
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise CodecError("malformed", f"no msgpack: {type(error).__name__}") from None
    _check_depth(value, DEPTH_MAX)
    return value


def _no_extension(code: int, data: bytes) -> Any:
    raise ValueError("no extension types")


def _no_list(items: list[Any]) -> Any:
    raise ValueError("no lists")


def _check_depth(value: Any, left: int) -> None:
    if not isinstance(value, dict | list):
        return
    if left == 0:
        raise CodecError("too_deep", f"nested deeper than {DEPTH_MAX}")
    for item in value.values() if isinstance(value, dict) else value:
        if isinstance(item, dict | list):
            _check_depth(item, left - 1)
