"""Columns of a business's table that say something of a row besides its features and label.

`weight`: how much a row counts, 0 or more. `exposure`: how long or how much was observed, above 0: its logarithm is
added to the score of a log link. `offset`: a score that every row begins with. Class weights multiply row weights.
"""

import math
from collections.abc import Mapping
from typing import Final, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from learning.links.family import LOG_LINKS
from services.tables.cells import FILL, numbers_of
from services.tables.files import TableError, TableFile

Vector = NDArray[np.float64]
ClassWeight = Literal["", "balanced"] | dict[str, float]


class RowColumns(msgspec.Struct, frozen=True, kw_only=True):
    """Names of columns, empty where there is none."""

    weight: str = ""
    exposure: str = ""
    offset: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """Those that there are."""
        return tuple(name for name in (self.weight, self.exposure, self.offset) if name)

    @property
    def shifts(self) -> "RowColumns":
        """Those that a score begins with: what scoring asks for as training did."""
        return RowColumns(exposure=self.exposure, offset=self.offset)

    def read(self, file: TableFile, task: str | None) -> tuple[Vector | None, Vector | None]:
        """(weights, offsets) of all rows. Raises TableError `row_column_unfit`, or a code of its cells."""
        weight = offset = None
        if self.weight:
            weight = numbers_of(file, self.weight, remedy=FILL)
            _refuse(file, self.weight, weight < 0.0, "a weight below 0", "give weights of 0 or more")
            if not 0.0 < math.fsum(weight.tolist()) < math.inf:
                raise file.refusal("row_column_unfit", "all weights are 0", "leave it out", column=self.weight)
        if self.exposure:
            if task not in LOG_LINKS:
                raise file.refusal(
                    "row_column_unfit", f"task {task} has no exposure", "name it for a log link", column=self.exposure
                )
            exposure = numbers_of(file, self.exposure, remedy=FILL)
            _refuse(file, self.exposure, exposure <= 0.0, "an exposure that is not above 0", "leave these rows out")
            offset = np.log(exposure)
        if self.offset:
            more = numbers_of(file, self.offset, remedy=FILL)
            offset = more if offset is None else offset + more
        return weight, offset


NOTHING_BESIDE: Final = RowColumns()


def _refuse(file: TableFile, column: str, bad: NDArray[np.bool_], what: str, remedy: str) -> None:
    if bad.any():
        indices = np.flatnonzero(bad)
        verb = "have" if len(indices) > 1 else "has"
        raise file.refusal("row_column_unfit", f"{file.rows(indices)} {verb} {what}", remedy, column=column)


def class_weights(label: Vector, wanted: ClassWeight) -> Vector | None:
    """The weight of each row's class (n,), None where none are wanted.

    "balanced": `n / (classes * rows of the class)` over the business's whole table. Raises TableError for a class
    without a weight and for a weight that is not above 0.
    """
    if not wanted:
        return None
    classes, places, counts = np.unique(label, return_inverse=True, return_counts=True)
    if isinstance(wanted, Mapping):
        named = {float(name): weight for name, weight in wanted.items()}
        missing = [f"{value:g}" for value in classes.tolist() if not named.get(value, 0.0) > 0.0]
        if missing:
            raise TableError("class_weight", f"class_weight: classes {', '.join(missing)} need a weight above 0")
        of_class = np.array([named[value] for value in classes.tolist()])
    else:
        of_class = len(label) / (len(classes) * counts)
    found: Vector = of_class[places]
    return found
