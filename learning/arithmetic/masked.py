"""Numbers that only a sum may tell: fixed point modulo 2^256, under masks that cancel between parties.

Every pair of parties shares a stream of masks; the one that comes first in the contract adds them, the other subtracts
them (Bonawitz et al. 2017, without their recovery of parties that drop out: here a job waits for all). A number is in
units of 2^-80, so that sums are exact and all parties that add the same rows get the same bits.
"""

import math
from collections.abc import Sequence
from typing import Final

WIDTH: Final = 32
PERIOD: Final = 1 << (8 * WIDTH)
FRACTION_BITS: Final = 80
LARGEST: Final = 2.0**160
"""No number that is masked is larger: far from half the period, whatever number of parties is added."""


class MaskedError(ValueError):
    """A number that does not fit the fixed point."""


def fixed(value: float) -> int:
    """`value` in units of 2^-80, modulo 2^256. Raises MaskedError beyond `LARGEST`."""
    if not math.isfinite(value) or abs(value) > LARGEST:
        raise MaskedError("a number is too large to be masked")
    numerator, denominator = value.as_integer_ratio()
    # Denominators are powers of two: rounding halves up, in integers.
    return ((numerator << (FRACTION_BITS + 1)) // denominator + 1 >> 1) % PERIOD


def masked(values: Sequence[float], masks: Sequence[Sequence[int]]) -> list[bytes]:
    """Values (m,) with masks (any number of them, each of m numbers, of either sign) added: 32 bytes each."""
    sums = [fixed(value) for value in values]
    for mask in masks:
        sums = [(one + other) % PERIOD for one, other in zip(sums, mask, strict=True)]
    return [one.to_bytes(WIDTH, "little") for one in sums]


def unmasked(rows: Sequence[Sequence[bytes]]) -> tuple[float, ...]:
    """The sums over all parties' rows, in which the masks cancel, as floats (correctly rounded)."""
    sums = []
    for column in zip(*rows, strict=True):
        total = sum(int.from_bytes(entry, "little") for entry in column) % PERIOD
        centred = total - PERIOD if total >= PERIOD // 2 else total
        sums.append(centred / (1 << FRACTION_BITS))
    return tuple(sums)
