"""What leaves a party of a row at scoring: its partial score, rounded, as an integer that masks can hide.

Rounding to 3 decimals bounds what one projection tells (docs/protocol.md, section 5). Integers modulo 2^64 in units of
1/1000, so that the sum over providers is exact and a mask is uniform. A linear model's scores are in the units of its
label, so its unit is 1/1000 of the declared bound on labels.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
Units = NDArray[np.uint64]

PER_ONE: Final = 1000
UNITS_MAX: Final = 2.0**53
"""Beyond, neighbouring integers share one float64."""


class ProjectionError(ValueError):
    """Scores that cannot be sent: too large for their unit."""


def unit_of(task: str, label_bound: float) -> float:
    """The step in which scores travel."""
    return (label_bound if task == "linear" else 1.0) / PER_ONE


def to_units(scores: Vector, unit: float) -> Units:
    """Scores (n,) rounded to units, modulo 2^64. Raises ProjectionError for one beyond 2^53 units or not finite."""
    rounded = np.rint(scores / unit)
    if not (np.abs(rounded) < UNITS_MAX).all():
        raise ProjectionError("a score is too large to be sent: is a column of another scale than in training?")
    return rounded.astype(np.int64).view(np.uint64)


def from_units(values: Units, unit: float) -> Vector:
    """The inverse of `to_units`, of sums as well: integers modulo 2^64, read as signed."""
    scores: Vector = values.view(np.int64) * np.float64(unit)
    return scores


def to_bytes(values: Units) -> bytes:
    """8 bytes a row, little-endian."""
    return values.astype("<u8").tobytes()


def from_bytes(data: bytes) -> Units:
    """The inverse of `to_bytes`."""
    return np.frombuffer(data, dtype="<u8").astype(np.uint64)
