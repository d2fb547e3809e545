"""Table files: `read_table` on a file, CSV or Parquet.

An input is a byte of what kind of file, a byte of what is asked of it, and the file's content.
"""

import csv
import io
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any, Final

import numpy as np
import polars as pl

from learning.columns.preparation import Clip, Impute, Log, OneHot, Ordinal, Standardise
from learning.columns.preparing import apply, fit
from learning.links.family import MULTICLASS
from services.tables import csv_files
from services.tables.files import FILE_BYTES_MAX
from services.tables.row_columns import RowColumns
from services.tables.table import Table, TableError, data_digest, read_table, schema_digest
from tests.fuzz.oracle import bounded_memory, check_text, temporary_folder

MODULES: Final = (
    "services/tables/files.py",
    "services/tables/csv_files.py",
    "services/tables/table.py",
    "services/tables/cells.py",
)
_SPEAKERS: Final = (
    "services/tables/row_columns.py",
    "learning/columns/preparation.py",
    "learning/columns/preparing.py",
)
HELD: Final = True
INPUT_BYTES_MAX: Final = 8192

SUFFIXES: Final = (".csv", ".parquet", ".CSV", ".xlsx")
CONTENT, MISSING, DIRECTORY, HUGE, UNREADABLE = range(5)
CODES: Final = frozenset(re.findall(r"\b[a-z]+_[a-z0-9_]+\b", TableError.__doc__ or ""))
_FOLDER: Final = temporary_folder("fuzz-tables-")
_TYPES: Final = (
    "Boolean Int8 Int16 Int32 Int64 UInt8 UInt16 UInt32 UInt64 Int128 UInt128 Float16 Float32 Float64 Decimal String",
    "Binary Date Time Datetime Duration List Array Struct Categorical Enum Object Null time_unit time_zone precision",
    "scale shape inner categories None us ns ms",
)

_WORDS: Final = ("impute", "one_hot", "ordinal", "clip", "log", "standardise")
_SYSTEM: Final = ("Input/output error", "Permission denied")

_IMPUTED: Final = (Impute(by="median", indicator=True),)
_CODED: Final = (Impute(by="mode"), OneHot(unseen="other"))

QUESTIONS: Final[tuple[dict[str, Any], ...]] = (
    {"identifier": "id"},
    {"identifier": "id", "label": "y", "task": "logistic"},
    {"identifier": "id", "label": "y", "task": "linear"},
    {"identifier": "id", "label": "y", "task": "poisson"},
    {"identifier": "id", "label": "y"},
    {"identifier": "id", "columns": ["a", "b"]},
    {"identifier": "id", "columns": ["b", "b"]},
    {"identifier": "id", "label": "y", "columns": ["a", "y"]},
    {"identifier": "id", "label": "id"},
    {"identifier": "id", "columns": []},
    {"identifier": "uid"},
    {"identifier": "id", "label": "z"},
    {"identifier": "id", "task": "trees"},
    {"identifier": "id", "label": "y", "steps": {"a": _IMPUTED}},
    {"identifier": "id", "label": "y", "steps": {"a": _CODED}},
    {"identifier": "id", "label": "y", "steps": {"a": (Ordinal(categories=("1", "2", "x")),)}},
    {"identifier": "id", "label": "y", "steps": {"a": (Log(),), "b": (Clip(low=0.0), Standardise())}},
    {"identifier": "id", "steps": {"gone": _IMPUTED}},
    {"identifier": "id", "label": "y", "task": "gamma"},
    {"identifier": "id", "label": "y", "task": "tweedie"},
    {"identifier": "id", "label": "y", "task": MULTICLASS},
    {"identifier": "id", "label": "y", "beside": RowColumns(weight="b", offset="b")},
    {"identifier": "id", "label": "y", "beside": RowColumns(weight="a", exposure="b")},
    {"identifier": "id", "label": "y", "beside": RowColumns(weight="gone")},
)
CELLS: Final = (
    b"", b" ", b" 2 ", b"NA", b"null", b"nan", b"inf", b"-inf", b"1e999", b"0", b"1", b"2", b"-1", b"0.5", b"1e-320",
    b"9007199254740993", b"\xff", b"\xef\xbb\xbf", b'"', b'""', b'"x\ny"', b"\r", b"\x00", b"canaryword", b"u", b"7",
    b"\xed\xa0\x80", b"1_000", b"0x10", b"007", b"\xd9\xa3", "３".encode(), b"\x1b[2J", b"id", b"a" * 300,
)  # fmt: skip


GOOD: Final = b"id,y,a,b\nu,0,1.5,-2\nv,1,2.5,3\nw,0,0.5,4\n"


def seeds() -> Iterator[bytes]:
    yield from prepared_seeds()
    good = GOOD
    for place in range(len(QUESTIONS)):
        yield bytes([0, place]) + good
    for kind in (1, 3, *(where << 4 for where in range(1, 5))):
        yield bytes([kind, 0]) + good
    for cell in CELLS:
        yield b"\x00\x02" + good.replace(b"2.5", cell)
        yield b"\x00\x02" + good.replace(b"v,1", cell + b",1")
        yield b"\x00\x01" + good.replace(b"v,1", b"v," + cell)
    for text in (b"", b"\n\n", b"id", b"id,a\n", b"id,\nu,1\n", b"id,a,a\nu,1,2\n", b"id;a\nu;1\n", b"\nid,a\nu,1\n\n"):
        yield b"\x00\x00" + text
    yield b"\x00\x00id,a\n" + b"u,1\n" * 8
    yield b"\x00\x00" + b",".join(b"c%d" % place for place in range(30)) + b"\n"
    for frame in frames():
        for compression in ("uncompressed", "zstd", "snappy"):
            yield b"\x01\x02" + parquet(frame, compression)
            yield b"\x01\x00" + parquet(frame, compression)
    whole = parquet(frames()[0], "uncompressed")
    yield b"\x00\x00" + whole
    # The number of rows, 3, stands in the footer as 6 (zigzag): for each 6 there, a file with 2^30 in its place.
    footer = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    for at in range(footer, len(whole) - 8):
        if whole[at] == 6:
            yield b"\x01\x00" + grown(whole, at)


def prepared_seeds() -> Iterator[bytes]:
    """What a preparation takes and what it does not."""
    for place in range(13, len(QUESTIONS)):
        for cell in CELLS:
            yield bytes([0, place]) + GOOD.replace(b"2.5", cell)
        for frame in frames():
            yield bytes([1, place]) + parquet(frame, "uncompressed")
    for place in range(13, len(QUESTIONS)):
        for label in (b"red", b"-1", b"0", b"0.5", b""):
            yield bytes([0, place]) + b"id,y,a,b\nu,0.5,1.5,2\nv,1,2.5,3\nw," + label + b",0.5,4\nx,2,0.25,1\n"
    yield b"\x00\x0fid,y,a,b\nu,0,1,1\nv,1,2,2\nw,0,x,3\n"
    yield b"\x00\x0fid,y,a,b\nu,0,1,1\nv,1,2,2\n"
    yield b"\x00\x10id,y,a,b\nu,0,1,-2\nv,1,2,-3\nw,0,3,-4\n"


def frames() -> list[pl.DataFrame]:
    names = ["u", "v", "w"]
    columns: list[pl.Series] = [
        pl.Series([1.5, 2.5, 0.5]),
        pl.Series([1.5, None, 0.5]),
        pl.Series([float("nan"), 1.0, float("inf")]),
        pl.Series([1, 2, 2**53 + 1]),
        pl.Series([True, False, None]),
        pl.Series(["1", "x", ""]),
        pl.Series(["1", "2", "3"], dtype=pl.Categorical),
        pl.Series([b"1", b"2", b"3"]),
        pl.Series([[1], [2], []]),
        pl.Series([{"p": 1}, {"p": 2}, None]),
        pl.Series([None, None, None]),
        pl.Series([1, 2, 3], dtype=pl.Int128),
        pl.Series([1, 2, 3], dtype=pl.Decimal(10, 2)),
        pl.Series([1, 2, 3], dtype=pl.Datetime("us")),
        pl.Series(["p", "q", "p"], dtype=pl.Enum(["p", "q"])),
        pl.Series([2**40, 1, 2], dtype=pl.Duration("ms")),
    ]
    made = [pl.DataFrame({"id": names, "y": [0, 1, 0], "a": values}) for values in columns]
    made += [pl.DataFrame({"id": values, "y": [0, 1, 0], "a": [1.0, 2.0, 3.0]}) for values in columns]
    return [*made, pl.DataFrame({"id": [], "a": []}), pl.DataFrame()]


def parquet(frame: pl.DataFrame, compression: str) -> bytes:
    data = io.BytesIO()
    frame.write_parquet(data, compression=compression, statistics=False)  # type: ignore[arg-type]
    return data.getvalue()


def grown(content: bytes, at: int) -> bytes:
    """A Parquet file with a much larger number where there was a small one, in a footer that is as long as it says."""
    tail = b"\xff\xff\xff\x07"
    footer = int.from_bytes(content[-8:-4], "little") + len(tail)
    return (
        content[:at]
        + bytes([content[at] | 0x80])
        + tail
        + content[at + 1 : -8]
        + footer.to_bytes(4, "little")
        + b"PAR1"
    )


def mutate(data: bytes, size_max: int, chance: Random, plain: Callable[[bytes, int], bytes]) -> bytes:
    kind, question, content = data[:1] or b"\x00", data[1:2] or b"\x00", data[2:]
    if chance.randrange(12) == 0:
        kind = bytes([chance.choice((0, 0, 0, 1, 2, 3, 16, 32, 48, 64))])
    if chance.randrange(8) == 0:
        question = bytes([chance.randrange(len(QUESTIONS))])
    if content.startswith(b"PAR1"):
        if chance.randrange(3) == 0:
            content = parquet(_random_frame(chance), chance.choice(("uncompressed", "zstd", "snappy", "gzip", "lz4")))
        else:
            content = _damaged(content, chance, plain)
    elif chance.randrange(3):
        content = _other_cell(content, chance)
    else:
        content = plain(content, max(1, size_max - 2))
    return (kind + question + content)[:size_max]


def _other_cell(content: bytes, chance: Random) -> bytes:
    lines = content.split(b"\n")
    row = chance.randrange(len(lines))
    cells = lines[row].split(b",")
    pick = chance.randrange(8)
    if pick == 0:
        lines.insert(row, lines[row])
    elif pick == 1:
        del lines[row]
    elif pick == 2:
        lines[row] += b"," + chance.choice(CELLS)
    elif pick == 3:
        lines[row] = b",".join(cells[:-1])
    else:
        cells[chance.randrange(len(cells))] = chance.choice(CELLS)
        lines[row] = b",".join(cells)
    return b"\n".join(lines)


def _damaged(content: bytes, chance: Random, plain: Callable[[bytes, int], bytes]) -> bytes:
    """A Parquet file with a few other bytes, mostly in its footer, and still Parquet by its marks."""
    changed = bytearray(content)
    if chance.randrange(4) == 0:
        middle = plain(bytes(content[4:-8]), INPUT_BYTES_MAX - 64)
        return content[:4] + middle + content[-8:]
    if chance.randrange(4) == 0 and len(content) > 24:
        return grown(content, chance.randrange(len(content) // 2, len(content) - 8))
    footer = max(8, len(changed) - 8 - int.from_bytes(content[-8:-4], "little"))
    low = 4 if chance.randrange(3) == 0 or footer >= len(changed) - 8 else footer
    for _ in range(chance.choice((1, 1, 2, 4))):
        at = chance.randrange(low, max(low + 1, len(changed) - 8))
        if at < len(changed):
            changed[at] = chance.choice((changed[at] ^ 1 << chance.randrange(8), 0xFF, 0x80, 0, chance.randrange(256)))
    return bytes(changed)


def _random_frame(chance: Random) -> pl.DataFrame:
    picked = chance.sample(frames()[:-2], 2)
    frame = picked[0].with_columns(picked[1][chance.choice(("id", "a"))].alias(chance.choice(("b", "id", "a", "y"))))
    return frame.head(chance.randrange(4))


def fuzz_one(data: bytes) -> None:
    kind, question = data[0] if data else 0, data[1] if len(data) > 1 else 0
    where, suffix = (kind >> 4) % 5, SUFFIXES[kind & 3]
    arguments = QUESTIONS[question % len(QUESTIONS)]
    content = data[2:]
    path = _placed(where, suffix, content)
    try:
        with bounded_memory():
            _read(path, arguments, content if where == CONTENT else b"")
            if where == CONTENT and suffix.lower() == ".csv":
                _in_pieces(path, arguments)
    finally:
        if path.is_dir():
            path.rmdir()
        else:
            path.unlink(missing_ok=True)


def _placed(where: int, suffix: str, content: bytes) -> Path:
    path = Path(_FOLDER.name) / f"table{suffix}"
    if where == DIRECTORY:
        path.mkdir()
    elif where == UNREADABLE:
        path.symlink_to("/proc/self/mem")  # a file for whoever looks; its first page cannot be read
    elif where != MISSING:
        path.write_bytes(content)
        if where == HUGE:
            with path.open("r+b") as sparse:
                sparse.truncate(FILE_BYTES_MAX + 1)
    return path


def _read(path: Path, arguments: dict[str, Any], content: bytes) -> None:
    try:
        table = read_table(path, **arguments)
    except TableError as error:
        assert error.code in CODES, error.code
        assert error.message == str(error)
        assert error.message.startswith(f"{path}"), error.message
        assert ";" in error.message
        _check_text(error, path, arguments, content)
        return
    except ValueError as error:
        # The one argument that is a fault of the program, and no table's.
        assert str(error).startswith("task 'trees'"), repr(error)
        return
    _check(table, arguments)


def _in_pieces(path: Path, arguments: dict[str, Any]) -> None:
    """A file that is read block by block is what it is as a whole."""
    limits = {name: getattr(csv_files, name) for name in ("BLOCK_BYTES", "HELD_BYTES_MAX")}
    whole = _told(path, arguments)
    try:
        for size in (1, 16):
            vars(csv_files).update(BLOCK_BYTES=size, HELD_BYTES_MAX=0)
            assert _told(path, arguments) == whole
    finally:
        vars(csv_files).update(limits)


def _told(path: Path, arguments: dict[str, Any]) -> str | bytes:
    try:
        return data_digest(read_table(path, **arguments))
    except ValueError as error:
        return str(error)


def _check_text(error: TableError, path: Path, arguments: dict[str, Any], content: bytes) -> None:
    asked = [arguments.get("identifier"), arguments.get("label"), *(arguments.get("columns") or ())]
    asked += [*arguments.get("steps", {}), *arguments.get("beside", RowColumns()).names]
    names = [str(path), *_WORDS, *(name for name in asked if name), *_column_names(content), *_TYPES, *_SYSTEM]
    # A list of twenty columns may have to be told, so the bound follows what the header holds.
    check_text(error.message, modules=(*MODULES, *_SPEAKERS), names=names, chars_max=600 + 20 * 90)


def _column_names(content: bytes) -> list[str]:
    if content.startswith(b"PAR1"):
        with suppress(BaseException):
            return list(pl.read_parquet_schema(io.BytesIO(content)))
        return []
    text = content.decode("utf-8-sig", "replace")
    with suppress(csv.Error, StopIteration):
        return next(record for record in csv.reader(io.StringIO(text, newline="\n")) if record)
    return text.split("\n", 1)[0].split(",")


def _check(table: Table, arguments: dict[str, Any]) -> None:
    """What is taken is a table that can be trained on."""
    rows = len(table.identifiers)
    assert rows
    assert len(set(table.identifiers)) == rows
    assert all(name.strip() for name in table.identifiers)
    assert table.values.shape == (rows, len(table.columns))
    assert table.values.dtype == np.float64
    matrix = table.values
    if table.preparation is not None:
        matrix = apply(fit(table.preparation, table.source), table.source)
    assert matrix.shape == (rows, len(table.prepared_columns))
    assert np.isfinite(matrix).all()
    assert (matrix.min(axis=0) < matrix.max(axis=0)).all()
    assert len(set(table.columns)) == len(table.columns) > 0
    assert (table.label is None) == (arguments.get("label") is None)
    if table.label is not None:
        assert np.isfinite(table.label).all()
        assert arguments.get("task") != "logistic" or set(table.label) == {0.0, 1.0}
    assert len(data_digest(table)) == len(schema_digest(table, salt=b"s")) == 32
    if "beside" not in arguments:  # an exposure is not kept as it was
        _check_survives(table, arguments)


def _check_survives(table: Table, arguments: dict[str, Any]) -> None:
    """Written again as Parquet, it is read as the same table."""
    label = arguments.get("label")
    frame = pl.DataFrame({arguments["identifier"]: pl.Series(table.identifiers, dtype=pl.String)})
    frame = frame.with_columns(
        *(_column(table, place) for place in range(len(table.columns))),
        *([_labels(label, table)] if label else []),
    )
    path = Path(_FOLDER.name) / "again.parquet"
    frame.write_parquet(path)
    again = read_table(path, **{**arguments, "columns": list(table.columns)})
    assert data_digest(again) == data_digest(table)


def _labels(name: str, table: Table) -> pl.Series:
    assert table.label is not None
    cells = [table.classes[int(place)] for place in table.label] if table.classes else table.label
    return pl.Series(name, cells)


def _column(table: Table, place: int) -> pl.Series:
    """A source column as it may have been written."""
    values, texts = table.values[:, place], table.source.categories[place]
    if texts is None:
        return pl.Series(table.columns[place], values)
    cells = [None if np.isnan(value) else texts[int(value)] for value in values]
    return pl.Series(table.columns[place], cells, dtype=pl.String)
