"""A Parquet file is read by a process that may die, before one reads it that may not.

The library's reader trusts counts inside the file: a damaged one can make it panic, or ask for more memory than there
is, at which Rust ends the process, whoever's it is. So the bytes go to a child first, and only what it could read is
read here. The child ends with its parent, or when nobody has asked it for a minute.

Run as a script it is that child: it imports nothing of ours.
"""

import contextlib
import io
import resource
import select
import subprocess
import sys
import threading
from typing import BinaryIO, Final

import polars as pl

GOOD: Final = b"g"
DAMAGED: Final = b"d"
LARGE: Final = b"l"
IDLE_S: Final = 60.0
SPARE_BYTES: Final = 8 * 2**30
CELL_BYTES: Final = 64
_LENGTH_BYTES: Final = 8
_TRIES: Final = 2  # a child that has just gone to rest is no verdict on a file


class ParquetDamaged(Exception):
    """A file that the library cannot read, or dies of."""


class ParquetTooLarge(Exception):
    """A file of more cells than were allowed; `cells` are rows times columns, by its footer."""

    def __init__(self, cells: int) -> None:
        super().__init__(f"{cells} cells")
        self.cells = cells


class ParquetCheck:
    """One child at a time, for any thread."""

    def __init__(self) -> None:
        self._gate = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None

    def check(self, data: bytes, *, cells_max: int) -> None:
        """Have `data` read. Raises ParquetDamaged, ParquetTooLarge."""
        with self._gate:
            for _ in range(_TRIES):
                verdict, cells = self._ask(data, cells_max)
                if verdict:
                    break
        if verdict == LARGE:
            raise ParquetTooLarge(cells)
        if verdict != GOOD:
            raise ParquetDamaged

    def _ask(self, data: bytes, cells_max: int) -> tuple[bytes, int]:
        """The child's verdict and count of cells; an empty verdict when it died, and then there is no child."""
        child = self._child or self._start()
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            child.stdin.write(_number(cells_max) + _number(len(data)))
            child.stdin.write(data)
            child.stdin.flush()
            answer = child.stdout.read(1 + _LENGTH_BYTES)
        except OSError:
            answer = b""
        if len(answer) < 1 + _LENGTH_BYTES:
            self.close()
            return b"", 0
        return answer[:1], int.from_bytes(answer[1:], "big")

    def _start(self) -> subprocess.Popen[bytes]:
        # Not its words: a panic quotes what it stumbled over, and cells are private.
        self._child = subprocess.Popen(  # noqa: S603 - this very file
            [sys.executable, "-P", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        return self._child

    def close(self) -> None:
        """End the child, if there is one."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            child.communicate()


CHECK: Final = ParquetCheck()
"""The one of this process."""


def _number(value: int) -> bytes:
    return value.to_bytes(_LENGTH_BYTES, "big")


def _verdict(data: bytes, cells_max: int) -> tuple[bytes, int]:
    """Read it all. What it holds, nobody looks at."""
    try:
        # From the footer alone, before anything is unpacked.
        rows = pl.scan_parquet(io.BytesIO(data), hive_partitioning=False).select(pl.len()).collect().item()
        cells = rows * len(pl.read_parquet_schema(io.BytesIO(data)))
        if cells > cells_max:
            return LARGE, cells
        _limit_memory(SPARE_BYTES + 4 * len(data) + CELL_BYTES * cells)
        pl.read_parquet(io.BytesIO(data), hive_partitioning=False)
    except (Exception, pl.exceptions.PanicException):
        # A panic of the library's own code is no Exception.
        return DAMAGED, 0
    return GOOD, cells


def _limit_memory(size: int) -> None:
    """Address space from here on: what a file asks for beyond it is not what it says it holds."""
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (size if most == resource.RLIM_INFINITY else min(size, most), most))


def _exactly(source: BinaryIO, size: int) -> bytes:
    data = source.read(size)
    if len(data) < size:
        raise EOFError
    return data


def main() -> None:
    """Answer until the parent hangs up or has nothing to ask."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    while select.select([source], [], [], IDLE_S)[0]:
        try:
            cells_max, size = (int.from_bytes(_exactly(source, _LENGTH_BYTES), "big") for _ in range(2))
            verdict, cells = _verdict(_exactly(source, size), cells_max)
        except EOFError:
            return
        sink.write(verdict + _number(cells))
        sink.flush()


if __name__ == "__main__":
    main()
