"""Frames in: polars as they are, pandas and what looks like it by its columns. pandas itself is not needed."""

import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from services.daemon.control import ControlError

FRAMES: Final = "frames"


class FrameError(ValueError):
    """A frame that cannot be used; the text names the column and shows no cell."""


def polars_frame(frame: Any, identifier: str) -> pl.DataFrame:
    """The rows of a frame: polars (also lazy), pandas, or a mapping of columns. Raises FrameError.

    Where a pandas frame has no column `identifier` but an index of that name, the index is the column.
    """
    if isinstance(frame, pl.LazyFrame):
        return frame.collect()
    if isinstance(frame, pl.DataFrame):
        return frame
    if (
        hasattr(frame, "reset_index")
        and hasattr(frame, "columns")
        and identifier not in frame.columns
        and frame.index.name == identifier
    ):
        frame = frame.reset_index()
    if not isinstance(frame, Mapping) and not (hasattr(frame, "items") and hasattr(frame, "columns")):
        raise FrameError(f"a polars or pandas frame is needed, this is a {type(frame).__name__}")
    columns: dict[str, pl.Series] = {}
    for name, column in frame.items():
        if str(name) in columns:
            raise FrameError(f"there are two columns {str(name)!r}: rename or drop one")
        columns[str(name)] = _series(str(name), column)
    heights = {name: len(column) for name, column in columns.items()}
    for name, height in heights.items():
        first, expected = next(iter(heights.items()))
        if height != expected:
            raise FrameError(f"column {name!r} has {height} rows, column {first!r} {expected}")
    return pl.DataFrame(columns)


def _series(name: str, column: Any) -> pl.Series:
    """A column of pandas, numpy or a list; what is missing is null."""
    if isinstance(column, pl.Series):
        return column
    missing = np.asarray(column.isna(), dtype=bool) if hasattr(column, "isna") else None
    cells = column.to_numpy() if hasattr(column, "to_numpy") else np.asarray(column)
    try:
        if cells.dtype.kind in "biuf":
            # In numbers NaN is what is missing.
            return pl.Series(name, cells, nan_to_null=True)
        listed = list(cells.tolist())
        if missing is not None:
            listed = [None if absent else cell for cell, absent in zip(listed, missing.tolist(), strict=True)]
        if {type(cell) for cell in listed if cell is not None} == {int, float}:
            # Columns that were joined have both; as numbers they are of one kind.
            return pl.Series(name, [None if cell is None else float(cell) for cell in listed], nan_to_null=True)
        found = pl.Series(name, listed)
        if found.dtype != pl.Object:
            return found
        raise TypeError
    except (TypeError, ValueError, OverflowError, pl.exceptions.PolarsError):
        raise FrameError(f"column {name!r} holds cells of several kinds: make them all numbers or all text") from None


@contextmanager
def written(frame: pl.DataFrame, data_directory: Path) -> Iterator[Path]:
    """The frame as a Parquet file that only its owner can read, for as long as the daemon needs to take it over.

    Raises FrameError for a column of Python objects. What the daemon says of the file, it says of the frame.
    """
    for name, kind in frame.schema.items():
        if kind == pl.Object:
            raise FrameError(f"column {name!r} holds Python objects: make them all numbers or all text")
    folder = data_directory / FRAMES
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / f"{uuid.uuid4().hex}.parquet"
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            frame.write_parquet(file)
        yield path
    except ControlError as error:
        # The file is gone when this is read.
        error.args = (str(error).replace(str(path), "the frame"),)
        raise
    finally:
        path.unlink(missing_ok=True)
