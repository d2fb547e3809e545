"""Opening CSV and Parquet files: the cells of a column, and the line of a row for an error text.

A Parquet file is read column by column, a CSV file block by block (`services.tables.csv_files`): of a large file
never all cells are held as text. What a parser refuses is told with the place, and without the library's own words,
which quote cells.
"""

import csv
import io
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from services.tables.csv_files import (
    Cells,
    CsvMalformed,
    CsvSource,
    HeaderMalformed,
    data_records,
    read_cells,
    records,
    undecodable,
)
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
    (no such column), row_column_unfit, class_weight. A query: source_driver, source_unreachable, credentials_unfit,
    query_failed, column_type.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class TableFile:
    """An opened file.

    Attributes:
        path: where it was read from: a file, or another source, in words.
        columns: names of its columns.
        height: number of data rows.
        take: the cells of a column, once: they are not kept. A column of numbers in a file of text is `Numbers`.
        source: for CSV, in which to look up the line of a row.

    """

    path: object
    columns: list[str]
    height: int
    take: Callable[[str], Cells] = field(repr=False)
    source: CsvSource | None = field(default=None, repr=False)

    def refusal(self, code: str, what: str, remedy: str, *, column: str = "") -> TableError:
        """The error to raise: where, what is wrong, what to do."""
        place = f"{self.path}, column '{shown(column)}'" if column else str(self.path)
        return TableError(code, f"{place}: {what}; {remedy}")

    def rows(self, indices: NDArray[np.intp]) -> str:
        """Row indices in words: "data row 3 (line 4)", counted from 1, at most five of them."""
        named = [int(index) + 1 for index in indices[:_ROWS_NAMED_MAX]]
        places = {} if self.source is None else self.source.places_of(named)
        words = [f"{row} (line {places[row][0]})" if row in places else str(row) for row in named]
        more = f" and {len(indices) - len(named)} more" if len(indices) > len(named) else ""
        return f"data row{'s' if len(indices) > 1 else ''} {', '.join(words)}{more}"

    def short_row(self, index: int) -> str:
        """In words that a row of a CSV file has fewer fields than the header; empty where it has not."""
        row = index + 1
        place = None if self.source is None else self.source.places_of([row]).get(row)
        # A blank line is a record of one column.
        if place is None or max(1, place[1]) >= len(self.columns):
            return ""
        return f"data row {row} (line {place[0]}) has {place[1]} fields, the header {len(self.columns)}"


def shown(name: str) -> str:
    """A column's name for an error text: where a file has no header, it may be anything, of any length."""
    cut = name if len(name) <= _NAME_LETTERS_MAX else f"{name[:_NAME_LETTERS_MAX]}..."
    return "".join(letter if letter.isprintable() else "?" for letter in cut)


class Elsewhere(Protocol):
    """A source of rows that is no file; its text says where it is."""

    def open(self, wanted: Collection[str] | None) -> TableFile:
        """See `open_table`."""


def open_table(
    path: Path | Elsewhere, *, texts: Collection[str] | None = None, wanted: Collection[str] | None = None
) -> TableFile:
    """Open a file that ends in .csv or .parquet, or a source that is no file.

    Args:
        path: of the file, or the source.
        texts: columns of a CSV file whose cells stay text: identifiers and categories. None: all. Others are numbers.
        wanted: columns whose cells will be read; None: any.

    Raises:
        TableError: missing, neither CSV nor Parquet, too large, malformed, changed while it was read, or with
            unnamed or repeated columns.

    """
    if not isinstance(path, Path):
        return path.open(wanted)
    if path.is_dir():
        raise TableError("file_missing", f"{path}: is a directory; name the file in it")
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
        if suffix == ".parquet":
            # Read once: a file that is replaced or cut meanwhile must not be seen in two states.
            return _open_parquet(path, path.read_bytes())
        return open_csv(path, CsvSource(path), texts, wanted)
    except OSError as error:
        raise TableError(
            "file_unreadable", f"{path}: cannot be read ({error.strerror}); let the daemon's user read it"
        ) from None


def _open_parquet(path: Path, data: bytes) -> TableFile:
    if not data.startswith(_PARQUET_MAGIC):
        raise TableError("file_format", f"{path}: is no Parquet file, whatever its name; save it as Parquet again")
    try:
        CHECK.check(data, cells_max=CELLS_MAX)
    except ParquetTooLarge as error:
        raise TableError(
            "file_too_large", f"{path}: has {error.cells} cells, {CELLS_MAX} at most; leave out columns or rows"
        ) from None
    except ParquetDamaged:
        raise TableError("file_unreadable", f"{path}: is a damaged Parquet file; export it again") from None
    columns = list(pl.read_parquet_schema(io.BytesIO(data)))
    height = pl.scan_parquet(io.BytesIO(data), hive_partitioning=False).select(pl.len()).collect().item()

    def take(name: str) -> pl.Series:
        return pl.read_parquet(io.BytesIO(data), columns=[name], hive_partitioning=False)[name]

    return TableFile(path, columns, height, take)


def open_csv(path: Path, source: CsvSource, texts: Collection[str] | None, wanted: Collection[str] | None) -> TableFile:
    """`open_table` of a CSV file that is opened already."""
    with source.opened() as stream:
        if stream.read(len(_PARQUET_MAGIC)) == _PARQUET_MAGIC:
            raise TableError("file_format", f"{path}: is a Parquet file; let its name end in .parquet")
    names = _header(path, source)
    refusal: TableError | None = None
    cells: dict[str, Cells] = {}
    height = 0
    try:
        cells, height = read_cells(source, names, texts, wanted)
    except CsvMalformed:
        refusal = _malformed(path, source, len(names))
    except HeaderMalformed:
        refusal = TableError("file_unreadable", f"{path}: the header line is malformed; export the file again")
    changed = TableError("file_unreadable", f"{path}: was changed while it was read; let it be complete first")
    if refusal is not None or not source.whole:
        raise refusal if refusal is not None and source.whole else changed
    return TableFile(path, names, height, cells.pop, source)


def _header(path: Path, source: CsvSource) -> list[str]:
    """The names in the first line that is not blank; polars would rename repeated ones in silence."""
    try:
        with source.opened() as stream:
            names = next((record for _, record in records(stream) if record), None)
    except (csv.Error, UnicodeDecodeError):
        raise _malformed(path, source, 0) from None
    if names is None:
        raise TableError("file_format", f"{path}: is empty; export it with a header line")
    refuse_names(path, names)
    if len(names) == 1 and any(mark in names[0] for mark in ";\t|"):
        raise TableError("file_format", f"{path}: the header has no commas; save the file with commas between fields")
    return names


def refuse_names(path: object, names: list[str]) -> None:
    """Refuse columns without a name, or with that of another one. Raises TableError."""
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


def _malformed(path: Path, source: CsvSource, width: int) -> TableError:
    """The refusal of a CSV file that could not be parsed, with the place if it can be found."""
    with source.opened() as stream:
        if line := undecodable(stream):
            return TableError("file_unreadable", f"{path}: line {line} is not UTF-8; save the file as UTF-8")
    line = 0
    try:
        with source.opened() as stream:
            for row, line, record in data_records(stream):
                if len(record) > width:
                    return TableError(
                        "file_unreadable",
                        f"{path}: data row {row} (line {line}) has {len(record)} fields, the header {width}; "
                        "put fields with commas in quotes",
                    )
    except (csv.Error, UnicodeDecodeError):  # the latter where the file has changed since
        return TableError(
            "file_unreadable", f"{path}: quotes or line ends are malformed from line {line + 1} on; export it again"
        )
    return TableError("file_unreadable", f"{path}: quotes are malformed; export the file again")
