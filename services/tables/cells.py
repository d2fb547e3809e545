"""Cells of one column as numbers, or as categories: what is in the file, or the refusal that says where it is not.

Cells are private: no error text shows one.
"""

from typing import Final, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from learning.columns.preparation import category_text
from services.tables.csv_files import Numbers, parse_numbers
from services.tables.files import TableFile

Vector = NDArray[np.float64]

_TEXT: Final = (pl.String, pl.Categorical, pl.Enum)
_EXACT_INTEGER_MAX: Final = 2**53 - 1


class Remedies(NamedTuple):
    """What to do about cells that are missing, about text where numbers are needed, and about infinity."""

    missing: str
    text: str
    endless: str


FEATURE: Final = Remedies(
    'add imputation: { step = "impute", by = "median" } in the preparation of the data set (docs/preparation.md), or '
    "remove these rows",
    'save it as numbers with decimal points, add an encoding: { step = "one_hot" } (docs/preparation.md), or leave the '
    "column out",
    "imputation does not take it, and `clip` comes too late for it: where the table is made, write a number in "
    "its place, or leave the cell empty and add imputation",
)
FILL: Final = Remedies(
    "fill in the missing cells or remove these rows",
    "save it as numbers with decimal points",
    "where the table is made, write a number in its place, or remove these rows",
)
"""For labels, weights and the like: they are not prepared."""


def numbers_of(file: TableFile, name: str, *, missing: bool = False, remedy: Remedies = FEATURE) -> Vector:
    """A column as float64, shape (rows,): finite, or with `missing` also NaN. Raises TableError.

    In a file of text a missing number is an empty cell or one of the words for it (NA, null and the like).
    """
    series = file.take(name)
    if isinstance(series, pl.Series) and series.dtype in _TEXT:
        series = parse_numbers(series.cast(pl.String))
    if isinstance(series, Numbers):
        return _finite(file, name, series, missing=missing, remedy=remedy)
    if not (series.dtype.is_numeric() or series.dtype in (pl.Boolean, pl.Null)):
        raise file.refusal(
            "value_not_numeric", f"has the type {series.dtype}", "save it as numbers or leave it out", column=name
        )
    if missing and series.dtype.is_float():
        series = series.fill_nan(None)
    if not missing:
        _refuse_rows(file, name, series.is_null(), ("value_missing", "no value", remedy.missing))
    numbers = series.cast(pl.Float64)
    if series.dtype.is_integer():
        # From 2^53 on, neighbouring integers share one float64.
        inexact = (numbers.abs() > _EXACT_INTEGER_MAX).fill_null(value=False)
        _refuse_rows(file, name, inexact, ("value_inexact", "an integer of 2^53 or more", "scale the column"))
    for bad, what, mend in (
        (numbers.is_infinite(), "infinity", remedy.endless),
        (numbers.is_nan(), "NaN", remedy.missing),
    ):
        _refuse_rows(file, name, bad.fill_null(value=False), ("value_not_finite", what, mend))
    # A copy: what the library holds of a file's column goes when the next one is read.
    return np.array((numbers.fill_null(np.nan) if missing else numbers).to_numpy())


def _finite(file: TableFile, name: str, numbers: Numbers, *, missing: bool, remedy: Remedies) -> Vector:
    """The numbers of a column of text, with `missing` NaN where there is none. Raises TableError."""
    # First: who has both is to be told of an encoding, not of a median.
    _refuse(file, name, numbers.strange, ("value_not_numeric", "text that is no number", remedy.text))
    if numbers.absent is not None and not missing:
        _refuse(file, name, np.flatnonzero(numbers.absent), ("value_missing", "no value", remedy.missing))
    endless = np.flatnonzero(np.isinf(numbers.values))
    _refuse(file, name, endless, ("value_not_finite", "infinity", remedy.endless))
    if not missing:
        _refuse(file, name, np.flatnonzero(np.isnan(numbers.values)), ("value_not_finite", "NaN", remedy.missing))
    return numbers.values


def texts_of(file: TableFile, name: str) -> pl.Series:
    """The cells of a column that was opened as text, or has a type of its own."""
    cells = file.take(name)
    assert isinstance(cells, pl.Series)
    return cells


def categories_of(file: TableFile, name: str) -> tuple[Vector, tuple[str, ...]]:
    """A column as places in its distinct texts, which are sorted; NaN for an empty or missing cell. Raises TableError.

    Text is compared without the blanks around it; every word is a category. Numbers are written as
    `learning.columns.preparation.category_text` writes them.
    """
    series = texts_of(file, name)
    if series.dtype in _TEXT:
        text = series.cast(pl.String).str.strip_chars()
    elif series.dtype.is_integer():
        text = series.cast(pl.String)
    elif series.dtype.is_numeric() or series.dtype in (pl.Boolean, pl.Null):
        text = _written(series)
    else:
        raise file.refusal(
            "value_not_categorical", f"has the type {series.dtype}", "save it as text or leave it out", column=name
        )
    text = text.replace("", None)
    texts = text.drop_nulls().unique().sort().to_list()
    places = np.full(len(text), np.nan)
    if texts:
        physical = text.cast(pl.Enum(texts)).to_physical().cast(pl.Float64)
        places = physical.fill_null(np.nan).to_numpy()
    return places, tuple(texts)


def _written(series: pl.Series) -> pl.Series:
    """Numbers and truth values as texts."""
    if series.dtype == pl.Boolean:
        return series.cast(pl.Int8).replace_strict({0: "false", 1: "true"}, return_dtype=pl.String)
    numbers = series.cast(pl.Float64).fill_nan(None)
    texts = {number: category_text(number) for number in numbers.drop_nulls().unique().to_list()}
    return numbers.replace_strict(texts, return_dtype=pl.String) if texts else numbers.cast(pl.String)


def _refuse_rows(file: TableFile, name: str, bad: pl.Series, refusal: tuple[str, str, str]) -> None:
    """Refuse the rows that are marked; `refusal` is code, what they have, remedy."""
    if bad.null_count() or bad.any():
        _refuse(file, name, np.flatnonzero(bad.fill_null(value=True).to_numpy()), refusal)


def _refuse(file: TableFile, name: str, indices: NDArray[np.intp], refusal: tuple[str, str, str]) -> None:
    if len(indices):
        code, what, remedy = refusal
        if code == "value_missing" and (short := file.short_row(int(indices[0]))):
            raise file.refusal(code, short, "write every field of the line, an empty one too", column=name)
        verb = "have" if len(indices) > 1 else "has"
        raise file.refusal(code, f"{file.rows(indices)} {verb} {what}", remedy, column=name)
