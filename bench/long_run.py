"""Many real small jobs through the same two daemons and a real broker: what grows with the number of jobs?

The tables are made anew for each job, with identifiers of their own: the release rules judge over all jobs whose rows
overlap. Measured between jobs, when both parties have nothing left to say: resident memory and open files of every
process, size of the journal as it is and as it would be compacted, files of the blob store.
"""

import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from broker.private import PrivateBroker
from services.daemon.control import ControlClient
from services.daemon.local import (
    BUSINESS,
    NAMES,
    PROVIDER,
    LocalTables,
    connect,
    introduce,
    make_party,
    processes,
    wait_for,
)
from services.daemon.local_job import LocalError
from services.party.configuration import load_party
from services.store.data_directory import JOURNAL

MARKS: Final = ("insecure", "small_sample")
ROWS: Final = 60
COLUMNS: Final = 3
JOB: Final[dict[str, Any]] = {
    "task": "logistic",
    "dataset": "labels",
    "partner": f"{NAMES[PROVIDER]}/features",
    "max_iterations": 1,
    "key_bits": 1024,
    "marks": list(MARKS),
}
QUIET_S: Final = 0.1
QUIET_TIMEOUT_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Sample:
    """One party after `jobs` jobs.

    Attributes:
        jobs: how many there were.
        resident: bytes of each process in memory, the daemon first, then its workers.
        files: open file descriptors of each of them.
        journal: bytes of the journal's pages that are in use.
        journal_file: bytes of its file.
        blobs: files of the blob store, and of the directory of job secrets.

    """

    jobs: int
    resident: tuple[int, ...]
    files: tuple[int, ...]
    journal: int
    journal_file: int
    blobs: int


def write_tables(directory: Path, number: int, rows: int = ROWS) -> LocalTables:
    """The tables of one job: people that no other job has."""
    random = np.random.default_rng(number)
    tables = LocalTables(directory / "business.csv", directory / "provider.csv", "id", "y")
    score = np.zeros(rows)
    for role, path in ((BUSINESS, tables.business), (PROVIDER, tables.provider)):
        values = random.normal(size=(rows, COLUMNS))
        score += values.sum(axis=1)
        table = pl.DataFrame({f"{role[0]}{column}": values[:, column] for column in range(COLUMNS)})
        table = table.with_columns(id=pl.format("person-{}-{}", pl.lit(number), pl.int_range(rows)))
        if role == BUSINESS:
            table = table.with_columns(y=pl.Series((random.logistic(size=rows) < score).astype(np.int64)))
        table.write_csv(path)
    return tables


@contextmanager
def daemons(directory: Path, lines: str = "") -> Iterator[dict[str, ControlClient]]:
    """Two processes on a private RabbitMQ; their control sockets. `lines`: more of party.toml, before its data sets."""
    with PrivateBroker(directory / "rabbitmq", list(NAMES.values())) as broker:
        tables = write_tables(directory, 0)
        paths = []
        for role, name in NAMES.items():
            path = make_party(
                directory / role,
                role,
                name,
                tables,
                broker=broker.amqp_url(name),
                marks=MARKS,
                declare=False,
                noise_seed="",
            )
            path.write_text(lines + path.read_text())
            paths.append(path)
        introduce(*paths)
        with (
            processes(paths),
            connect(load_party(paths[0])) as business,
            connect(load_party(paths[1])) as provider,
        ):
            yield {BUSINESS: business, PROVIDER: provider}


def run_one(clients: dict[str, ControlClient], directory: Path, number: int) -> str:
    """One job, until both parties have nothing to say to each other any more. Raises LocalError."""
    write_tables(directory, number)
    job: str = clients[BUSINESS].ask("submit", job=JOB)["job"]
    for client in clients.values():
        view = wait_for(client, job)
        if view["outcome"] != "done":
            raise LocalError(view["reason_code"], view["reason"])
    for client in clients.values():
        deadline = time.monotonic() + QUIET_TIMEOUT_S
        while (view := client.ask("job", id=job))["waiting"] is not None or not view["results"]:
            if time.monotonic() > deadline:
                raise LocalError("not_quiet", f"job {job} still waits: {view['waiting']}")
            time.sleep(QUIET_S)
    return job


def sample(client: ControlClient, jobs: int) -> Sample:
    """What a party takes now."""
    status = client.ask("status")
    pids = (int(status["pid"]), *map(int, status["workers"]))
    used, size = journal_bytes(client.data_directory / JOURNAL)
    return Sample(
        jobs=jobs,
        resident=tuple(map(resident_bytes, pids)),
        files=tuple(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in pids),
        journal=used,
        journal_file=size,
        blobs=sum(1 for place in ("blobs", "secrets") for _ in (client.data_directory / place).rglob("*")),
    )


def resident_bytes(pid: int) -> int:
    """Bytes of a process that are in memory now."""
    (line,) = (each for each in Path(f"/proc/{pid}/status").read_text().splitlines() if each.startswith("VmRSS:"))
    return 1024 * int(line.split()[1])


def journal_bytes(path: Path) -> tuple[int, int]:
    """Bytes of the pages in use, which is what a compacted journal has, and of the file with its write-ahead log."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as journal:
        pages, free, page = (
            journal.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
        )
    log = path.with_name(f"{path.name}-wal")
    return (pages - free) * page, path.stat().st_size + (log.stat().st_size if log.exists() else 0)


def measure_long_run(
    jobs: int, *, every: int = 10, lines: str = "", say: Callable[[str], None] = lambda _: None
) -> dict[str, list[Sample]]:
    """Samples of both parties, by role: after the first job, and then after each `every`.

    `lines`: more of party.toml. Raises LocalError when a job does not end well.
    """
    found: dict[str, list[Sample]] = {role: [] for role in NAMES}
    with tempfile.TemporaryDirectory(prefix="warren-bench-") as name:
        directory = Path(name)
        with daemons(directory, lines) as clients:
            for number in range(1, jobs + 1):
                run_one(clients, directory, number)
                if number % every == 0 or number == 1:
                    for role, client in clients.items():
                        found[role].append(sample(client, number))
                    say(f"{number} of {jobs} jobs: " + "; ".join(_short(role, found[role][-1]) for role in found))
    return found


def _short(role: str, taken: Sample) -> str:
    memory = " + ".join(f"{size / 1e6:.1f}" for size in taken.resident)
    files = " + ".join(map(str, taken.files))
    return f"{role} {memory} MB, {files} files, journal {taken.journal / 1e6:.2f} MB, {taken.blobs} blobs and secrets"


def figures(found: dict[str, list[Sample]], first: int) -> dict[str, Any]:
    """Growth of each party from the first sample at or after `first` jobs to the last one."""
    result: dict[str, Any] = {}
    for role, samples in found.items():
        begin, end = next(each for each in samples if each.jobs >= first), samples[-1]
        result[role] = {
            "from_job": begin.jobs,
            "to_job": end.jobs,
            "resident_bytes": end.resident,
            "resident_growth": [after - before for before, after in zip(begin.resident, end.resident, strict=True)],
            "files": end.files,
            "files_growth": [after - before for before, after in zip(begin.files, end.files, strict=True)],
            "journal_bytes": end.journal,
            "journal_growth": end.journal - begin.journal,
            "journal_file_bytes": end.journal_file,
            "blobs_growth": end.blobs - begin.blobs,
        }
    return result
