"""The aligned rows of a snapshot as the columns that are trained on, and the owner's rules for them."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np
from numpy.typing import NDArray

from learning.columns import quantise as quantising
from learning.columns.preparation import FittedPreparation
from learning.columns.preparing import PreparationRefused, apply, fit
from services.tables.snapshot import Snapshot
from services.tasks.compute import TaskRefused

_ROWS_NAMED_MAX = 5


@dataclass(frozen=True, slots=True, eq=False)
class PreparedColumns:
    """Columns of the aligned rows: `matrix` (rows, columns); `origins` say of each where it comes from."""

    matrix: NDArray[np.float64] = field(repr=False)
    names: tuple[str, ...]
    origins: tuple[str, ...]
    fitted: FittedPreparation | None

    def quantise(self, blocks: Sequence[int], *, intercept: bool, small_sample: bool) -> quantising.Quantised:
        """Quantise them; `blocks` are the training rows of each part.

        Raises ColumnRefused, which names source column and step of a prepared one.
        """
        try:
            found = quantising.quantise(self.matrix, self.names, intercept=intercept, small_sample=small_sample)
            quantising.check_support(found, self.names, blocks, small_sample=small_sample)
            return found
        except quantising.ColumnRefused as error:
            if self.fitted is None:
                raise
            origin = self.origins[self.names.index(error.column)]
            raise quantising.ColumnRefused(error.code, error.column, error.reason, place=origin) from None


def prepare(snapshot: Snapshot, rows: NDArray[np.int64], training: int) -> PreparedColumns:
    """Fit the snapshot's preparation on the first `training` of `rows`, the aligned rows, and apply it to all of them.

    Raises TaskRefused.
    """
    if snapshot.preparation is None:
        names = tuple(snapshot.columns)
        return PreparedColumns(snapshot.matrix()[rows], names, names, None)
    source = snapshot.source().take(rows)
    try:
        fitted = fit(snapshot.preparation, source.take(np.arange(training)))
        matrix = apply(fitted, source)
    except PreparationRefused as error:
        raise TaskRefused(error.code, f"{error}{_named(error.rows, rows)}") from None
    return PreparedColumns(matrix, fitted.names, snapshot.preparation.origins, fitted)


def _named(refused: tuple[int, ...], rows: NDArray[np.int64]) -> str:
    """The data rows of the file that are meant, counted from 1; the order of the aligned rows is nobody's business."""
    numbers = sorted(int(rows[row]) + 1 for row in refused)
    if not numbers:
        return ""
    more = f" and {len(numbers) - _ROWS_NAMED_MAX} more" if len(numbers) > _ROWS_NAMED_MAX else ""
    return f" (data row{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers[:_ROWS_NAMED_MAX]))}{more})"


def prepared_names(snapshot: Snapshot) -> tuple[str, ...]:
    """Names of the columns that are trained on, in the order of the model."""
    return tuple(snapshot.columns) if snapshot.preparation is None else snapshot.preparation.names


def decode_fitted(data: bytes) -> FittedPreparation:
    """Read what the task `features.quantise` stored. Raises msgspec.MsgspecError on anything else."""
    return msgspec.msgpack.decode(data, type=FittedPreparation)
