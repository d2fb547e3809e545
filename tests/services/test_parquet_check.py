"""What a Parquet file does to its reader, it does to a child."""

import io
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl
import pytest

from services.tables.parquet_check import ParquetCheck, ParquetDamaged, ParquetTooLarge
from tests.parties import PATIENCE_S

ROWS = 50


@pytest.fixture
def check():
    made = ParquetCheck()
    yield made
    made.close()


def parquet(rows: int = ROWS) -> bytes:
    content = io.BytesIO()
    pl.DataFrame({"id": [f"p{row}" for row in range(rows)], "a": list(range(rows))}).write_parquet(content)
    return content.getvalue()


def test_a_good_file_is_good_and_one_child_reads_many(check):
    check.check(parquet(), cells_max=2 * ROWS)
    child = check._child.pid
    for rows in (1, 2, 3):
        check.check(parquet(rows), cells_max=2 * ROWS)
    assert check._child.pid == child


def test_a_damaged_file_is_damaged_and_the_next_is_read(check):
    for data in (b"", b"PAR1", parquet()[:-20], b"PAR1" * 100):
        with pytest.raises(ParquetDamaged):
            check.check(data, cells_max=1000)
    check.check(parquet(), cells_max=1000)


def test_the_cells_are_counted_before_they_are_read(check):
    with pytest.raises(ParquetTooLarge) as caught:
        check.check(parquet(), cells_max=2 * ROWS - 1)
    assert caught.value.cells == 2 * ROWS


def test_a_child_that_was_gone_before_the_file_came_says_nothing_of_the_file(check):
    check.check(parquet(), cells_max=1000)
    check._child.kill()
    check._child.wait()
    check.check(parquet(), cells_max=1000)


def test_a_file_at_which_every_child_dies_is_damaged_and_the_next_is_read(check):
    over = threading.Event()
    large = parquet(300_000)

    def strike():
        # What an abort of the library does to the child, done from outside, as long as the file is being read.
        while not over.is_set():
            if (child := check._child) is not None:
                child.kill()

    with ThreadPoolExecutor(1) as pool:
        striking = pool.submit(strike)
        try:
            with pytest.raises(ParquetDamaged):
                check.check(large, cells_max=10**6)
        finally:
            over.set()
        striking.result()
    check.check(large, cells_max=10**6)


def test_threads_take_turns(check):
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda rows: check.check(parquet(rows), cells_max=1000), range(1, 20)))


def test_the_child_goes_when_its_parent_does(check):
    check.check(parquet(), cells_max=1000)
    child = check._child
    child.stdin.close()
    assert child.wait(timeout=PATIENCE_S) == 0
    child.stdout.close()
    check._child = None


def test_a_file_for_which_no_memory_is_enough_ends_the_child_and_nobody_else(check):
    kept = Path(__file__).parents[1] / "fuzz" / "regressions" / "tables" / "parquet-for-which-no-memory-is-enough"
    data = kept.read_bytes()[2:]
    assert len(data) < 1000
    check.check(parquet(), cells_max=1000)
    child = check._child
    with pytest.raises(ParquetDamaged):
        check.check(data, cells_max=1000)
    assert child.returncode == -signal.SIGABRT
    check.check(parquet(), cells_max=1000)
