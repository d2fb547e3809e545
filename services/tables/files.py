"""Opening CSV and Parquet files: the cells as they are, and the line of a row for an error text.

CSV is RFC 4180 in UTF-8, with a header and commas. What its parser refuses is told with the place, and
without the library's own words, which quote cells.
"""

import contextlib
import csv
import io
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from services.tables.parquet_check import CHECK, ParquetDamaged, ParquetTooLarge

FILE_BYTES_MAX: Final = 8 * 2**30
CELLS_MAX: Final = FILE_BYTES_MAX // 8
"""Rows times columns of a Parquet file: a run of one value takes no bytes in the file, and eight each in memory."""

_ROWS_NAMED_MAX: Final = 5
_NAME_LETTERS_MAX: Final = 60
_PARQUET_MAGIC: Final = b"PAR1"


class TableError(ValueError):
    """A file that cannot be used as it is. The message names file, column and row, and ends with what to do.

    Codes. The file: file_missing, file_format, file_too_large, file_unreadable. Its columns: column_unnamed,
    column_repeated, column_missing, column_reserved, columns_none, rows_none. Identifiers: identifier_missing
    (no such column), identifier_type, identifier_empty, identifier_duplicate. Cells: value_missing,
    value_not_finite, value_not_numeric, value_not_categorical, value_inexact, column_constant. The preparation:
    preparation_unfit, category_unseen, categories_many, log_domain, statistic_none, names_repeated. The label:
    label_missing (no such column), label_invalid, label_constant. Weights, exposures, offsets: row_column_missing
    (no such column), row_column_unfit, class_weight.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class TableFile:
    """An opened file: its cells, and for CSV the bytes in which to look up the line of a row."""

    path: Path
    frame: pl.DataFrame = field(repr=False)
    text: bytes | None = field(repr=False)

    def refusal(self, code: str, what: str, remedy: str, *, column: str = "") -> TableError:
        """The error to raise: where, what is wrong, what to do."""
        place = f"{self.path}, column '{shown(column)}'" if column else str(self.path)
        return TableError(code, f"{place}: {what}; {remedy}")

    def rows(self, indices: NDArray[np.intp]) -> str:
        """Row indices in words: "data row 3 (line 4)", counted from 1, at most five of them."""
        named = [int(index) + 1 for index in indices[:_ROWS_NAMED_MAX]]
        lines = {} if self.text is None else _lines_of(self.text, named)
        words = [f"{row} (line {lines[row]})" if row in lines else str(row) for row in named]
        more = f" and {len(indices) - len(named)} more" if len(indices) > len(named) else ""
        return f"data row{'s' if len(indices) > 1 else ''} {', '.join(words)}{more}"


def shown(name: str) -> str:
    """A column's name for an error text: where a file has no header, it may be anything, of any length."""
    cut = name if len(name) <= _NAME_LETTERS_MAX else f"{name[:_NAME_LETTERS_MAX]}..."
    return "".join(letter if letter.isprintable() else "?" for letter in cut)


def open_table(path: Path) -> TableFile:
    """Read a file that ends in .csv or .parquet; all cells of a CSV file are text.

    Raises:
        TableError: missing, neither CSV nor Parquet, too large, malformed, or with unnamed or repeated columns.

    """
    if not path.is_file():
        raise TableError("file_missing", f"{path}: there is no such file; check the path and what mounts it")
    suffix = path.suffix.lower()
    if suffix not in {".csv", ".parquet"}:
        raise TableError("file_format", f"{path}: is neither CSV nor Parquet; save it as .csv or .parquet")
    if path.stat().st_size > FILE_BYTES_MAX:
        raise TableError(
            "file_too_large", f"{path}: is larger than {FILE_BYTES_MAX} bytes; leave out columns that are not needed"
        )
    try:
        # Read once: a file that is replaced or cut meanwhile must not be seen in two states.
        data = path.read_bytes()
    except OSError as error:
        raise TableError(
            "file_unreadable", f"{path}: cannot be read ({error.strerror}); let the daemon's user read it"
        ) from None
    return _open_parquet(path, data) if suffix == ".parquet" else _open_csv(path, data)


def _open_parquet(path: Path, data: bytes) -> TableFile:
    if not data.startswith(_PARQUET_MAGIC):
        raise TableError("file_format", f"{path}: is no Parquet file, whatever its name; save it as Parquet again")
    try:
        CHECK.check(data, cells_max=CELLS_MAX)
        frame = pl.read_parquet(io.BytesIO(data), hive_partitioning=False)
    except ParquetTooLarge as error:
        raise TableError(
            "file_too_large", f"{path}: has {error.cells} cells, {CELLS_MAX} at most; leave out columns or rows"
        ) from None
    except ParquetDamaged:
        raise TableError("file_unreadable", f"{path}: is a damaged Parquet file; export it again") from None
    return TableFile(path, frame, None)


def _open_csv(path: Path, data: bytes) -> TableFile:
    if data.startswith(_PARQUET_MAGIC):
        raise TableError("file_format", f"{path}: is a Parquet file; let its name end in .parquet")
    names = _header(path, data)
    try:
        # Everything as text: numbers are parsed column by column, identifiers never.
        frame = pl.read_csv(io.BytesIO(data), infer_schema=False)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
        # The library's own text quotes cells.
        raise _malformed(path, data, len(names)) from None
    if frame.columns != names:
        raise TableError("file_unreadable", f"{path}: the header line is malformed; export the file again")
    return TableFile(path, _without_blank_end(frame), data)


def _header(path: Path, data: bytes) -> list[str]:
    """The names in the first line that is not blank; polars would rename repeated ones in silence."""
    try:
        names = next((record for _, record in _records(data) if record), None)
    except (csv.Error, UnicodeDecodeError):
        raise _malformed(path, data, 0) from None
    if names is None:
        raise TableError("file_format", f"{path}: is empty; export it with a header line")
    for place, name in enumerate(names, start=1):
        if not name.strip():
            raise TableError("column_unnamed", f"{path}: column {place} has no name; name it in the header line")
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise TableError(
            "column_repeated",
            f"{path}: the header names column '{shown(repeated[0])}' {names.count(repeated[0])} times; "
            "rename all but one",
        )
    if len(names) == 1 and any(mark in names[0] for mark in ";\t|"):
        raise TableError("file_format", f"{path}: the header has no commas; save the file with commas between fields")
    return names


def _records(data: bytes) -> Iterator[tuple[int, list[str]]]:
    """Each record of a CSV file with the line it starts in; a blank line is an empty record."""
    # Only a line feed ends a line, as in the parser of the cells.
    reader = csv.reader(io.TextIOWrapper(io.BytesIO(data), encoding="utf-8-sig", newline="\n"), strict=True)
    line = 1
    for record in reader:
        yield line, record
        line = reader.line_num + 1


def _data_records(data: bytes) -> Iterator[tuple[int, int, list[str]]]:
    """Data row, line and fields of each record after the header."""
    records = _records(data)
    for _, record in records:
        if record:
            break
    for row, (line, record) in enumerate(records, start=1):
        yield row, line, record


def _lines_of(data: bytes, rows: list[int]) -> dict[int, int]:
    """The lines that the given data rows (increasing) start in; without those after a malformed record."""
    wanted, lines = set(rows), {}
    with contextlib.suppress(csv.Error, UnicodeDecodeError):
        for row, line, _ in _data_records(data):
            if row in wanted:
                lines[row] = line
            if row == rows[-1]:
                break
    return lines


def _malformed(path: Path, data: bytes, width: int) -> TableError:
    """The refusal of a CSV file that could not be parsed, with the place if it can be found."""
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return TableError("file_unreadable", f"{path}: line {line} is not UTF-8; save the file as UTF-8")
    line = 0
    try:
        for row, line, record in _data_records(data):
            if len(record) > width:
                return TableError(
                    "file_unreadable",
                    f"{path}: data row {row} (line {line}) has {len(record)} fields, the header {width}; "
                    "put fields with commas in quotes",
                )
    except csv.Error:
        return TableError(
            "file_unreadable", f"{path}: quotes or line ends are malformed from line {line + 1} on; export it again"
        )
    return TableError("file_unreadable", f"{path}: quotes are malformed; export the file again")


def _without_blank_end(frame: pl.DataFrame) -> pl.DataFrame:
    """Blank lines at the end of a file are no rows."""
    filled = frame.select(pl.any_horizontal(pl.all().is_not_null()).arg_true()).to_series()
    return frame.head(int(filled[-1]) + 1 if len(filled) else 0)
