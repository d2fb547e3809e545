"""Frames whose words are a publisher's own: read, whatever he wrote.

RabbitMQ carries the routing key and the properties of a message unread. pamqp raises for a text that is no UTF-8 and
for a date beyond the calendar, and aiormq then drops the connection, with the message back at the head of its queue:
one such message would keep its reader from every other, for ever. So a key that is no text is read with its bytes
written out, for the checks above to refuse, and properties that cannot be read are none: nothing here asks for them.
"""

import struct
from typing import Any, Final

import pamqp.decode
import pamqp.header
from pamqp import commands

_strict_unmarshal: Final = pamqp.header.ContentHeader.unmarshal
_FIXED_BYTES: Final = 12


def _short_text(value: bytes) -> tuple[int, str]:
    """A short string of AMQP 0-9-1 (section 4.2.5.3) with the bytes it takes; what is no UTF-8 is written out."""
    if not value or len(value) <= value[0]:
        raise ValueError("a short string is cut off")
    size = 1 + value[0]
    return size, value[1:size].decode("utf-8", "backslashreplace")


def _lenient_unmarshal(header: pamqp.header.ContentHeader, data: bytes) -> None:
    """The size of the body always; the properties if they can be read."""
    try:
        _strict_unmarshal(header, data)
        expiration: Any = header.properties.expiration
        float(expiration or 0)  # as the library above will
    except (ValueError, TypeError, OverflowError, OSError, LookupError, struct.error):
        header.class_id, header.weight, header.body_size = struct.unpack(">HHQ", data[:_FIXED_BYTES])
        header.properties = commands.Basic.Properties()


def read_leniently() -> None:
    """Have every connection of this process read such frames. May be called again."""
    pamqp.decode.METHODS["shortstr"] = _short_text
    pamqp.header.ContentHeader.unmarshal = _lenient_unmarshal  # type: ignore[method-assign, assignment]
