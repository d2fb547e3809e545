"""Input tables of a party, checked before a job sees them.

A table that cannot be trained on is refused here, with the file, the column and the row, and with what to do
about it; never later, by a number that is quietly wrong. Cells and identifiers are private: no error text
shows one.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from services.table_files import TableError, TableFile, open_table, shown

__all__ = ["Table", "TableError", "data_digest", "read_table", "schema_digest"]

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]

_COLUMNS_NAMED_MAX: Final = 20
_TASKS: Final = ("logistic", "linear", "poisson")
_MISSING_WORDS: Final = ("", "na", "n/a", "null", "none", "?")
_EXACT_INTEGER_MAX: Final = 2**53 - 1

_IMPUTE: Final = "fill in the missing cells or remove these rows"


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """A checked table.

    Attributes:
        identifiers: one per row, unique, as written in the file.
        columns: names of the features.
        values: shape (rows, columns), float64, row-major, finite; no column is constant.
        label: shape (rows,), float64, None without a label column.

    """

    identifiers: list[str] = field(repr=False)
    columns: tuple[str, ...]
    values: Matrix = field(repr=False)
    label: Vector | None = field(default=None, repr=False)


def read_table(
    path: Path,
    *,
    identifier: str,
    label: str | None = None,
    columns: Sequence[str] | None = None,
    task: str | None = None,
) -> Table:
    """Read and check a CSV file (UTF-8, commas, a header line) or a Parquet file.

    Args:
        path: ends in .csv or .parquet.
        identifier: name of the identifier column. Text stays as written: "007" is not 7.
        label: name of the label column, if the table has one.
        columns: names of the feature columns, in the order wanted; None takes all others in the file's order.
        task: "logistic" (labels 0 and 1), "poisson" (counts) or "linear"; None checks only that labels are finite.

    Raises:
        TableError: the file cannot be used as it is.
        ValueError: `task` is none of the three.

    """
    if task is not None and task not in _TASKS:
        raise ValueError(f"task {task!r} is none of {', '.join(_TASKS)}")
    file = open_table(Path(path))
    chosen = _choose_columns(file, identifier, label, columns)
    if not file.frame.height:
        raise file.refusal("rows_none", "there are no data rows", "export the table again")
    identifiers = _identifiers(file, identifier)
    values = np.empty((file.frame.height, len(chosen)), dtype=np.float64)
    for place, name in enumerate(chosen):
        values[:, place] = _numbers(file, name)
        if values[:, place].min() == values[:, place].max():
            raise file.refusal("column_constant", "every row has the same value", "leave this column out", column=name)
    labels = None
    if label is not None:
        labels = _numbers(file, label)
        _check_label(file, label, labels, task)
    return Table(identifiers=identifiers, columns=chosen, values=values, label=labels)


def schema_digest(table: Table, *, salt: bytes = b"") -> bytes:
    """SHA-256 of the columns' names in order and of whether there is a label, 32 bytes.

    Column names can be guessed: give a secret `salt` where a partner may see the digest.
    """
    digest = hashlib.sha256(b"warren table schema v1\x00")
    _feed(digest, [salt, b"label" if table.label is not None else b""])
    _feed(digest, [name.encode() for name in table.columns])
    return digest.digest()


def data_digest(table: Table, *, salt: bytes = b"") -> bytes:
    """SHA-256 of the whole table, row by row as in the file, 32 bytes: equal exactly if the content is.

    Independent of the file's format: the same table as CSV and as Parquet has one digest.
    """
    digest = hashlib.sha256(b"warren table data v1\x00")
    _feed(digest, [schema_digest(table, salt=salt)])
    _feed(digest, [text.encode("utf-8", "surrogatepass") for text in table.identifiers])
    arrays = [table.values] if table.label is None else [table.values, table.label]
    # Adding zero makes one spelling of 0.0 and -0.0, which compare equal.
    _feed(digest, [np.ascontiguousarray(array + 0.0, dtype="<f8").tobytes() for array in arrays])
    return digest.digest()


def _feed(digest: "hashlib._Hash", parts: Sequence[bytes]) -> None:
    digest.update(len(parts).to_bytes(8, "big"))
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)


def _choose_columns(
    file: TableFile, identifier: str, label: str | None, columns: Sequence[str] | None
) -> tuple[str, ...]:
    present = file.frame.columns
    named = ", ".join(map(shown, present[:_COLUMNS_NAMED_MAX])) + (", ..." if len(present) > _COLUMNS_NAMED_MAX else "")
    for name, code in ((identifier, "identifier_missing"), (label, "label_missing")):
        if name is not None and name not in present:
            raise file.refusal(code, "there is no such column", f"choose one of: {named}", column=name)
    if identifier == label:
        raise file.refusal("column_reserved", "cannot be identifier and label", "name another label", column=identifier)
    reserved = {identifier, label}
    chosen = tuple(name for name in present if name not in reserved) if columns is None else tuple(columns)
    for name, count in Counter(chosen).items():
        if name in reserved:
            raise file.refusal(
                "column_reserved", "is the identifier or the label", "leave it out of the features", column=name
            )
        if name not in present:
            raise file.refusal("column_missing", "there is no such column", f"choose from: {named}", column=name)
        if count > 1:
            raise file.refusal("column_repeated", "is chosen twice", "choose it once", column=name)
    if not chosen:
        raise file.refusal("columns_none", "there are no feature columns", "add at least one")
    return chosen


def _identifiers(file: TableFile, name: str) -> list[str]:
    series = file.frame[name]
    if not (series.dtype.is_integer() or series.dtype in (pl.String, pl.Categorical, pl.Enum)):
        raise file.refusal("identifier_type", f"has the type {series.dtype}", "save identifiers as text", column=name)
    text = series.cast(pl.String)
    empty = np.flatnonzero((text.is_null() | (text.str.strip_chars() == "")).fill_null(value=True).to_numpy())
    if len(empty):
        raise file.refusal(
            "identifier_empty", f"{file.rows(empty)} without identifier", "remove these rows", column=name
        )
    repeated = np.flatnonzero(text.is_duplicated().to_numpy())
    if len(repeated):
        same = np.flatnonzero((text == text[int(repeated[0])]).to_numpy())
        others = len(repeated) - len(same)
        also = f" ({others} other rows share identifiers as well)" if others else ""
        raise file.refusal(
            "identifier_duplicate",
            f"{file.rows(same)} have the same identifier{also}",
            "keep one row per identifier",
            column=name,
        )
    return text.to_list()


def _numbers(file: TableFile, name: str) -> Vector:
    """A column as finite float64, shape (rows,)."""
    series = file.frame[name]
    if series.dtype in (pl.String, pl.Categorical, pl.Enum):
        series = _parsed(file, name, series.cast(pl.String))
    elif not (series.dtype.is_numeric() or series.dtype in (pl.Boolean, pl.Null)):
        raise file.refusal(
            "value_not_numeric", f"has the type {series.dtype}", "save it as numbers or leave it out", column=name
        )
    _refuse_rows(file, name, series.is_null(), ("value_missing", "no value", _IMPUTE))
    numbers = series.cast(pl.Float64)
    if series.dtype.is_integer():
        # From 2^53 on, neighbouring integers share one float64.
        inexact = numbers.abs() > _EXACT_INTEGER_MAX
        _refuse_rows(file, name, inexact, ("value_inexact", "an integer of 2^53 or more", "scale the column"))
    _refuse_rows(file, name, ~numbers.is_finite(), ("value_not_finite", "NaN or infinity", _IMPUTE))
    return numbers.to_numpy()


def _parsed(file: TableFile, name: str, text: pl.Series) -> pl.Series:
    """Text to numbers; null where there is none."""
    numbers = text.cast(pl.Float64, strict=False)
    if numbers.null_count() == 0:
        return numbers
    trimmed = text.str.strip_chars()
    numbers = trimmed.cast(pl.Float64, strict=False)
    missing = trimmed.is_null() | trimmed.str.to_lowercase().is_in(list(_MISSING_WORDS))
    _refuse_rows(file, name, missing, ("value_missing", "no value", _IMPUTE))
    remedy = "save it as numbers with decimal points, or leave the column out"
    _refuse_rows(file, name, numbers.is_null(), ("value_not_numeric", "text that is no number", remedy))
    return numbers


def _refuse_rows(file: TableFile, name: str, bad: pl.Series, refusal: tuple[str, str, str]) -> None:
    """Refuse the rows that are marked; `refusal` is code, what they have, remedy."""
    indices = np.flatnonzero(bad.fill_null(value=True).to_numpy())
    if len(indices):
        code, what, remedy = refusal
        verb = "have" if len(indices) > 1 else "has"
        raise file.refusal(code, f"{file.rows(indices)} {verb} {what}", remedy, column=name)


def _check_label(file: TableFile, name: str, labels: Vector, task: str | None) -> None:
    bad = np.zeros(len(labels), dtype=np.bool_)
    what, remedy = "", ""
    if task == "logistic":
        bad = (labels != 0) & (labels != 1)
        what, remedy = "a label other than 0 and 1", "code the two classes as 0 and 1"
    elif task == "poisson":
        bad = (labels < 0) | (labels != np.floor(labels))
        what, remedy = "a label that is no count", "give counts 0, 1, 2, ... or train a linear model"
    if bad.any():
        indices = np.flatnonzero(bad)
        verb = "have" if len(indices) > 1 else "has"
        raise file.refusal("label_invalid", f"{file.rows(indices)} {verb} {what}", remedy, column=name)
    if labels.min() == labels.max():
        what = "has one class only" if task == "logistic" else "has the same value in every row"
        raise file.refusal("label_constant", what, "choose another label or add rows that differ", column=name)
