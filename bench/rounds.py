"""Several ways of doing one thing, timed in turns on one core, and what this machine is.

Round by round every way has its turn, so that whatever else the machine does hits all of them alike. In its turn a
quick way is run again and again, as a job would do it: its tables are in the caches by then. The fastest run is the
time of the turn, the fastest turn the time that counts, since interruptions only ever add; beside it stands the
median, and a ratio is given both as quotient of the fastest and as median of the quotients within one round.
"""

import importlib.metadata
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gmpy2

from services import __version__

Work = Callable[[], object]
Clock = Callable[[], float]

ROUNDS_MIN = 5
ROUNDS_MIN_MEDIAN = 7
TURNS = 20  # in the seconds of a way
DISTRIBUTIONS = ("gmpy2", "phe", "sf-heu", "cryptography", "openmined-psi", "numpy")


@dataclass(frozen=True)
class Timed:
    """One way of doing an operation: `work` does it for `items` items by `call`, the call as its users write it."""

    call: str
    items: int
    work: Work


@dataclass(frozen=True)
class Operation:
    """What is timed, per `per`; `wanted` is the least ratio own column / peer that is promised, if one is.

    `median`: the time is the median of the rounds, not the least: for what takes as long as chance has it.
    `section`: title of the table that it belongs to.
    """

    key: str
    title: str
    per: str
    wanted: float | None = None
    median: bool = False
    section: str = ""


@dataclass(frozen=True)
class Column:
    """A contender: name, version, threads; `absent` says why it was not measured. `peer`: not our own code."""

    key: str
    title: str
    version: str
    peer: bool
    threads: int = 1
    note: str = ""
    absent: str = ""


@dataclass(frozen=True)
class Figure:
    """Microseconds per item: the one that counts, the fastest and the median of the rounds."""

    microseconds: float
    fastest: float
    median: float
    batch: int
    call: str


@dataclass(frozen=True)
class Ratio:
    """How many times faster: of the times that count, and the median of the quotients round by round."""

    ratio: float
    median: float


@dataclass(frozen=True)
class Row:
    """One operation: figures by column, ratios by own column and then by peer.

    `met` is None where nothing is wanted or what is wanted does not hold for this run.
    """

    operation: str
    section: str
    title: str
    per: str
    statistic: str
    rounds: int
    figures: dict[str, Figure]
    ratios: dict[str, dict[str, Ratio]]
    wanted: float | None
    met: bool | None


@dataclass(frozen=True)
class Report:
    """All of one run. `facts` are the benchmark's own settings."""

    benchmark: str
    facts: dict[str, Any]
    machine: dict[str, Any]
    versions: dict[str, str | None]
    kernel: dict[str, Any]
    columns: list[Column]
    rows: list[Row]

    def to_json(self) -> dict[str, Any]:
        """Plain values for `json`, the facts beside the rest (docs/performance.md, "As JSON")."""
        values = asdict(self)
        return {"benchmark": values.pop("benchmark"), **values.pop("facts"), **values}


def race(
    operation: Operation,
    ways: Mapping[str, Timed],
    columns: Sequence[Column],
    *,
    seconds: float,
    wanted_of: tuple[str, str] | None = None,
    clock: Clock = time.perf_counter,
) -> Row:
    """Time `ways` (by key of a column) in turns for about `seconds` each, and no less than five rounds.

    Args:
        operation: what is done.
        ways: at least one.
        columns: all contenders; which of the ways are peers.
        seconds: for each way.
        wanted_of: (own column, peer) whose ratio `operation.wanted` speaks of; None: it does not hold here.
        clock: seconds from any origin.

    """
    least = ROUNDS_MIN_MEDIAN if operation.median else ROUNDS_MIN
    samples: dict[str, list[float]] = {key: [] for key in ways}
    started, rounds = clock(), 0
    while rounds < least or clock() - started < seconds * len(ways):
        for key, way in ways.items():
            # One run if its time is left to chance: the fastest of several would be the luckiest.
            turn = 0.0 if operation.median else seconds / TURNS
            samples[key].append(_turn(way.work, turn, clock) / way.items * 1e6)
        rounds += 1
    figures = {
        key: Figure(
            microseconds=statistics.median(taken) if operation.median else min(taken),
            fastest=min(taken),
            median=statistics.median(taken),
            batch=ways[key].items,
            call=ways[key].call,
        )
        for key, taken in samples.items()
    }
    peers = [column.key for column in columns if column.peer and column.key in ways]
    ratios = {
        column.key: {peer: _ratio(figures, samples, column.key, peer) for peer in peers}
        for column in columns
        if not column.peer and column.key in ways and peers
    }
    met = None
    if operation.wanted is not None and wanted_of is not None:
        own, peer = wanted_of
        met = ratios[own][peer].ratio >= operation.wanted if peer in ratios.get(own, {}) else None
    return Row(
        operation=operation.key,
        section=operation.section,
        title=operation.title,
        per=operation.per,
        statistic="median" if operation.median else "fastest",
        rounds=rounds,
        figures=figures,
        ratios=ratios,
        wanted=operation.wanted,
        met=met,
    )


def _turn(work: Work, seconds: float, clock: Clock) -> float:
    """Seconds of the fastest of the runs that `seconds` have room for, at least one."""
    fastest, started = float("inf"), clock()
    while True:
        before = clock()
        work()
        after = clock()
        fastest = min(fastest, after - before)
        if after - started >= seconds:
            return fastest


def _ratio(figures: Mapping[str, Figure], samples: Mapping[str, list[float]], own: str, peer: str) -> Ratio:
    each = [other / mine for other, mine in zip(samples[peer], samples[own], strict=True)]
    return Ratio(figures[peer].microseconds / figures[own].microseconds, statistics.median(each))


@contextmanager
def one_core() -> Iterator[int | None]:
    """Keep this thread, and all it starts, on one core for the enclosed block; its number, or None."""
    if not hasattr(os, "sched_setaffinity"):
        yield None
        return
    before = os.sched_getaffinity(0)
    core = max(before)
    os.sched_setaffinity(0, {core})
    try:
        yield core
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def output_aside() -> Iterator[None]:
    """Whatever compiled code prints to standard output goes to standard error: ours is for the figures."""
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def cores_allowed() -> int:
    """How many cores this thread may use: what a library that starts a thread for each core will take."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine(core: int | None) -> dict[str, Any]:
    """Processor, cores, and the core that everything ran on (None: not bound to one)."""
    return {
        "processor": _processor(),
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
        "bound_to_core": core,
        "system": platform.system(),
    }


def _processor() -> str:
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8") as lines:
            named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    except OSError:
        named = []
    return named[0] if named else platform.processor() or "unknown"


def version_of(distribution: str) -> str | None:
    """Version of an installed distribution, None if there is none."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def versions() -> dict[str, str | None]:
    """Everything that was or could have been timed."""
    found = {name: version_of(name) for name in DISTRIBUTIONS}
    return {
        "warren": __version__,
        "python": platform.python_version(),
        "gmp": gmpy2.mp_version().removeprefix("GMP "),
        **found,
    }
