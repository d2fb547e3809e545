"""Large CSV files: read in pieces, they are what they are as a whole, and never lie in memory as text."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learning.columns.preparation import Impute
from services.tables import csv_files
from services.tables.csv_files import CsvSource
from services.tables.files import open_csv
from services.tables.table import TableError, read_table

CELLS = (
    "1",
    "2.5",
    "-3",
    "1e9",
    "",
    "NA",
    " 4 ",
    "nan",
    "x",
    '"1"',
    '"a,b"',
    '"x\ny"',
    '"q""q"',
    '"',
    '5"',
    '""',
    "\r",
)


@st.composite
def files(draw: st.DrawFn) -> bytes:
    """Files of three columns; some have blank lines, quotes where none belong, too many fields or bytes of no text."""
    end = draw(st.sampled_from(["\n", "\r\n"]))
    usual = st.integers(0, 99).map(str)
    lines = ["id,a,b"]
    for row in range(draw(st.integers(0, 8))):
        fields = [f"r{row}", *(draw(st.one_of(usual, usual, st.sampled_from(CELLS))) for _ in range(2))]
        lines.append(draw(st.sampled_from([",".join(fields)] * 9 + ["", ",".join([*fields, "1"]), f'"r{row}",1,2'])))
    text = draw(st.sampled_from(["", "\n", "\ufeff"])) + end.join(lines) + draw(st.sampled_from(["", end, end + end]))
    return text.encode() + draw(st.sampled_from([b""] * 9 + [b"\xff,1,2\n"]))


def told(path: Path) -> list[object]:
    """What is read of a file, or what it is refused with: without and with a preparation."""
    found: list[object] = []
    for steps in ({}, {"a": (Impute(by="median"),)}):
        try:
            table = read_table(path, identifier="id", steps=steps)
            found.append((table.identifiers, table.values.tobytes()))
        except TableError as error:
            found.append((error.code, error.message))
    return found


@given(content=files(), block=st.sampled_from([1, 8, 20, 40]))
@settings(max_examples=120, deadline=None)
def test_a_file_in_pieces_is_read_or_refused_in_the_words_of_the_whole(tmp_path_factory, content, block):
    path = tmp_path_factory.mktemp("pieces") / "table.csv"
    path.write_bytes(content)
    whole = told(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_files, "BLOCK_BYTES", block)
        patch.setattr(csv_files, "HELD_BYTES_MAX", 0)
        assert told(path) == whole


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(csv_files, "HELD_BYTES_MAX", 0)
    path = tmp_path / "table.csv"
    path.write_text("id,a,b\nu,1,2\nv,2,3\n")
    source = CsvSource(path)
    assert source.whole
    assert source.places_of([2]) == {2: (3, 3)}
    with path.open("a") as more:
        more.write("w,3,4\n")
    assert source.places_of([2]) == {}
    with pytest.raises(TableError, match="was changed while it was read") as caught:
        open_csv(path, source, None, None)
    assert caught.value.code == "file_unreadable"


PROBE = """
import resource, sys
from pathlib import Path
from services.tables.table import read_table
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
table = read_table(Path(sys.argv[1]), identifier="id")
print(len(table.identifiers), 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before))
"""


def test_a_large_file_takes_little_more_memory_than_its_numbers(tmp_path):
    rows, columns = 250_000, 10
    random = np.random.default_rng(3)
    frame = pl.DataFrame({f"c{place}": random.normal(size=rows) for place in range(columns)})
    path = tmp_path / "large.csv"
    frame.with_columns(id=pl.format("person-{}", pl.int_range(rows))).write_csv(path)
    said = subprocess.run([sys.executable, "-c", PROBE, str(path)], capture_output=True, text=True, check=True).stdout
    read, grown = map(int, said.split())
    assert read == rows
    # All cells as text and the file beside them were more than four times its size.
    assert grown < 3 * path.stat().st_size
