"""CSV files in blocks of whole records: a column of numbers is numbers before the next block's text is read.

RFC 4180 in UTF-8, with a header and commas. A small file is held as it was read; a large one stays open, and what
changed while it was read is refused, so that no file is seen in two states.
"""

import codecs
import contextlib
import csv
import io
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

BLOCK_BYTES: Final = 4 * 2**20
HELD_BYTES_MAX: Final = 4 * BLOCK_BYTES
_QUOTE: Final = b'"'
_MISSING_WORDS: Final = ("", "na", "n/a", "null", "none", "?")


class CsvMalformed(Exception):
    """What the parser of the cells refuses; its own words quote cells and stay where they are."""


class HeaderMalformed(Exception):
    """The parser of the cells read other names than the header has."""


@dataclass(frozen=True, slots=True, eq=False)
class Numbers:
    """A column of text as numbers.

    Attributes:
        values: shape (rows,), float64; NaN where there is no number, and where "NaN" is written.
        absent: shape (rows,), whether a cell is empty or one of the words for a missing number; None: none is.
        strange: rows, increasing, whose cell is text and no number.

    """

    values: NDArray[np.float64] = field(repr=False)
    absent: NDArray[np.bool_] | None = field(repr=False)
    strange: NDArray[np.intp] = field(repr=False)


def parse_numbers(text: pl.Series) -> Numbers:
    """Text to numbers. A missing number is an empty cell or one of the words for it (NA, null and the like)."""
    numbers = text.cast(pl.Float64, strict=False)
    nothing = np.empty(0, dtype=np.intp)
    if numbers.null_count() == 0:
        return Numbers(numbers.to_numpy(), None, nothing)
    trimmed = text.str.strip_chars()
    numbers = trimmed.cast(pl.Float64, strict=False)
    absent = (trimmed.is_null() | trimmed.str.to_lowercase().is_in(list(_MISSING_WORDS))).fill_null(value=True)
    strange = np.flatnonzero((numbers.is_null() & ~absent).to_numpy())
    values = numbers.fill_null(np.nan).to_numpy()
    return Numbers(values, absent.to_numpy() if absent.any() else None, strange)


class _Gathered:
    """Numbers of a column, block after block, in one array that is never copied."""

    def __init__(self, capacity: int) -> None:
        self._values = np.empty(capacity)
        self._absent: NDArray[np.bool_] | None = None
        self._strange: list[NDArray[np.intp]] = []
        self._rows = 0

    def add(self, text: pl.Series) -> None:
        found = parse_numbers(text)
        part = slice(self._rows, self._rows + len(text))
        self._values[part] = found.values
        if found.absent is not None:
            if self._absent is None:
                self._absent = np.zeros(len(self._values), dtype=np.bool_)
            self._absent[part] = found.absent
        if len(found.strange):
            self._strange.append(found.strange + self._rows)
        self._rows += len(text)

    def numbers(self, rows: int) -> Numbers:
        absent = None if self._absent is None else self._absent[:rows]
        strange = np.concatenate(self._strange) if self._strange else np.empty(0, dtype=np.intp)
        return Numbers(self._values[:rows], absent, strange)


class CsvSource:
    """A file's bytes, as often as they are wanted."""

    def __init__(self, path: Path) -> None:
        """Raises OSError."""
        self._file = path.open("rb")
        self._state = self._now()
        self.size = self._state[0]
        self._data = self._file.read() if self.size <= HELD_BYTES_MAX else None

    def _now(self) -> tuple[int, int, int]:
        found = os.fstat(self._file.fileno())
        return found.st_size, found.st_mtime_ns, found.st_ctime_ns

    @property
    def whole(self) -> bool:
        """Whether what is read now is what was there when it was opened."""
        return self._data is not None or self._now() == self._state

    @contextlib.contextmanager
    def opened(self) -> Iterator[BinaryIO]:
        """The bytes from their beginning."""
        if self._data is not None:
            yield io.BytesIO(self._data)
            return
        with os.fdopen(os.dup(self._file.fileno()), "rb") as stream:
            stream.seek(0)
            yield stream

    def places_of(self, rows: list[int]) -> dict[int, tuple[int, int]]:
        """The lines that the given data rows (increasing) start in, and their numbers of fields.

        Without those after a malformed record.
        """
        wanted, places = set(rows if self.whole else ()), {}
        with contextlib.suppress(csv.Error, UnicodeDecodeError), self.opened() as stream:
            for row, line, record in data_records(stream):
                if row in wanted:
                    places[row] = (line, len(record))
                if row == rows[-1]:
                    break
        return places


def records(stream: BinaryIO) -> Iterator[tuple[int, list[str]]]:
    """Each record of a CSV file with the line it starts in; a blank line is an empty record."""
    # Only a line feed ends a line, as in the parser of the cells.
    reader = csv.reader(io.TextIOWrapper(stream, encoding="utf-8-sig", newline="\n"), strict=True)
    line = 1
    for record in reader:
        yield line, record
        line = reader.line_num + 1


def data_records(stream: BinaryIO) -> Iterator[tuple[int, int, list[str]]]:
    """Data row, line and fields of each record after the header."""
    found = records(stream)
    for _, record in found:
        if record:
            break
    for row, (line, record) in enumerate(found, start=1):
        yield row, line, record


def undecodable(stream: BinaryIO) -> int:
    """The first line that is not UTF-8, 0 when all are."""
    decoder, line = codecs.getincrementaldecoder("utf-8")(), 1
    while True:
        block = stream.read(BLOCK_BYTES)
        held = decoder.getstate()[0]
        try:
            decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            return line + (held + block).count(b"\n", 0, error.start)
        if not block:
            return 0
        line += block.count(b"\n")


def _blocks(source: CsvSource) -> Iterator[bytes]:
    """The file in pieces that end where a record ends and a line begins that is not blank, each with the header.

    Quotes come in pairs, within fields and around them: a line feed after an even number of them ends a record. A
    file of other quotes becomes one block from there on, and is judged as a whole.
    """
    header, rest = b"", b""
    with source.opened() as stream:
        # Twice as much at a time while no record ends.
        while more := stream.read(max(BLOCK_BYTES, len(rest))):
            rest += more
            if len(rest) < BLOCK_BYTES or not (end := _last_end(rest)):
                continue
            block = rest[:end]
            if begins := header or _header_of(block):
                rest = rest[end:]
                yield header + block
                header = begins
    if rest:
        yield header + rest


def _last_end(data: bytes) -> int:
    """Where the last record ends that is followed by a line that is not blank; 0: nowhere."""
    end, quotes = len(data), data.count(_QUOTE)
    while (before := data.rfind(b"\n", 0, end)) >= 0:
        quotes -= data.count(_QUOTE, before, end)
        end = before
        after = data[end + 1 : end + 2]
        if quotes % 2 == 0 and after and after not in b"\r\n":
            return end + 1
    return 0


def _header_of(block: bytes) -> bytes:
    """The bytes up to the end of the header, with blank lines before it; empty when it is not in there."""
    end = 0
    while (end := block.find(b"\n", end) + 1) > 0:
        if block[:end].strip(b"\xef\xbb\xbf\r\n") and block.count(_QUOTE, 0, end) % 2 == 0:
            return block[:end]
    return b""


Cells = pl.Series | Numbers


def read_cells(
    source: CsvSource, names: list[str], texts: Collection[str] | None, wanted: Collection[str] | None
) -> tuple[dict[str, Cells], int]:
    """(columns, rows) of a file with the header `names`: those in `texts` as text (None: all), others as numbers.

    Columns that are not in `wanted` (None: all are) are not kept.
    Blank lines at the end of a file are no rows. Raises CsvMalformed, HeaderMalformed.
    """
    chosen = [name for name in names if wanted is None or name in wanted]
    kept: dict[str, list[pl.Series]] = {name: [] for name in chosen if texts is None or name in texts}
    with source.opened() as stream:
        capacity = 1 + sum(block.count(b"\n") for block in iter(lambda: stream.read(BLOCK_BYTES), b""))
    gathered = {name: _Gathered(capacity) for name in chosen if name not in kept}
    height = filled = 0
    for block in _blocks(source):
        try:
            # Everything as text: numbers are parsed column by column, identifiers never.
            frame = pl.read_csv(io.BytesIO(block), infer_schema=False)
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
            raise CsvMalformed from None
        if frame.columns != names or height + frame.height > capacity:  # or the file has other lines by now
            raise HeaderMalformed
        some = frame.select(pl.any_horizontal(pl.all().is_not_null()).arg_true()).to_series()
        filled = height + int(some[-1]) + 1 if len(some) else filled
        for name, column in gathered.items():
            column.add(frame[name])
        for name, parts in kept.items():
            parts.append(frame[name])
        height += frame.height
    columns: dict[str, Cells] = {name: column.numbers(filled) for name, column in gathered.items()}
    for name, parts in kept.items():
        columns[name] = pl.concat(parts, rechunk=True).head(filled)
        parts.clear()
    return columns, filled
