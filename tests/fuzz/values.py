"""Values that break readers, for the mutators."""

from collections.abc import Callable
from contextlib import suppress
from random import Random
from typing import Any, Final

import msgpack

NUMBERS: Final = (
    0, 1, -1, 2, 7, 127, 128, 255, 256, 65_535, 65_536, 2**31 - 1, 2**31, 2**32, 2**48, 2**48 + 1,
    2**53, 2**63 - 1, 2**63, 2**64 - 1, -(2**31), -(2**63),
)  # fmt: skip
FLOATS: Final = (0.0, -0.0, 1.0, 0.5, 1e300, 1.1e300, -1e300, float("inf"), float("-inf"), float("nan"), 5e-324)
TEXTS: Final = ("", "a", "job-1", "a\n", "\x1b[2J", "\u202e", "A", "é", "-" * 40, "a" * 41, "x" * 200, "a.b", "#", "*")


def any_value(chance: Random, depth: int = 2) -> Any:
    """A value that msgpack and JSON can say, mostly a hostile one."""
    pick = chance.randrange(11 if depth else 8)
    if pick < 3:
        return chance.choice(NUMBERS)
    if pick < 4:
        return chance.choice(FLOATS)
    if pick < 6:
        return chance.choice(TEXTS)
    if pick < 7:
        return chance.choice((None, True, False))
    if pick < 8:
        return chance.randbytes(chance.choice((0, 1, 8, 31, 32, 33, 64, 300)))
    if pick < 9:
        return {chance.choice(TEXTS): any_value(chance, depth - 1) for _ in range(chance.randrange(3))}
    if pick < 10:
        return [any_value(chance, depth - 1) for _ in range(chance.randrange(4))]
    value: Any = chance.choice(NUMBERS)
    for _ in range(chance.choice((7, 8, 9, 40, 1500))):
        value = [value]
    return value


def changed_map(fields: dict[Any, Any], chance: Random) -> dict[Any, Any]:
    """One field more, less, moved or with another value."""
    fields = dict(fields)
    pick = chance.randrange(10)
    if not fields or pick == 0:
        fields[chance.choice(TEXTS)] = any_value(chance)
        return fields
    name = chance.choice(list(fields))
    if pick == 1:
        del fields[name]
    elif pick == 2:
        fields[name] = fields.pop(name)
    elif pick == 3:
        return dict(reversed(fields.items()))
    elif pick < 7:
        fields[name] = near(fields[name], chance)
    else:
        fields[name] = any_value(chance)
    return fields


def near(value: Any, chance: Random) -> Any:
    """A value of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return chance.choice((value + 1, value - 1, value ^ 1 << chance.randrange(16), chance.choice(NUMBERS)))
    if isinstance(value, float):
        return chance.choice((value / 2, -value, chance.choice(FLOATS)))
    if isinstance(value, str):
        return chance.choice((value + chance.choice(TEXTS), value[:-1], value.upper(), chance.choice(TEXTS)))
    if isinstance(value, bytes):
        if value and chance.randrange(2):
            at = chance.randrange(len(value))
            return value[:at] + bytes([value[at] ^ 1 << chance.randrange(8)]) + value[at + 1 :]
        return chance.choice((value[:-1], value + b"\x00", b"", value * 2, bytes(32)))
    if isinstance(value, list):
        return chance.choice((value + value, value[:-1], [*value, any_value(chance, 1)]))
    return any_value(chance)


def mutate_packed(data: bytes, size_max: int, chance: Random, plain: Callable[[bytes, int], bytes]) -> bytes:
    """Another msgpack map in place of this one, or bytes that `plain` makes of these."""
    if chance.randrange(3) == 0:
        return plain(data, size_max)
    try:
        value: Any = msgpack.unpackb(data)
    except (ValueError, TypeError, msgpack.UnpackException):
        return plain(data, size_max)
    value = changed_map(value, chance) if isinstance(value, dict) else any_value(chance)
    with suppress(ValueError, TypeError, OverflowError):
        changed: bytes = msgpack.packb(value)
        return changed
    return plain(data, size_max)
