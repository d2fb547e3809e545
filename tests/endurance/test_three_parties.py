"""Three daemons on a real RabbitMQ, each killed in turn, then the broker: the model is that of a quiet run."""

import contextlib
import os
import signal
import sqlite3
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from broker.installation import PROGRAMS
from broker.private import PrivateBroker
from protocol.state import JobState, decode_state
from services.daemon.local import BUSINESS, LocalTables, connect, embedded, introduce, make_party, serve, wait_for
from services.daemon.local_job import run_job
from services.daemon.verbs import read_results
from services.party.configuration import load_party
from tests.parties import EXAMPLES, until

ROWS = 120
MARKS = ("small_sample", "insecure")
JOB: dict[str, Any] = {
    "task": "logistic",
    "dataset": "labels",
    "partners": ["provider-a/features", "provider-b/features"],
    "l2": 1e-2,
    "max_iterations": 2,
    "key_bits": 512,
    "release_noise": 0.0,
    "marks": list(MARKS),
    "chunk_rows_max": 20,
}


def _tables(directory: Path, providers: int) -> LocalTables:
    """The credit-default example with the provider's columns split between so many."""
    business = pl.read_parquet(EXAMPLES / "default_credit" / "business.parquet").head(ROWS)
    provider = pl.read_parquet(EXAMPLES / "default_credit" / "provider.parquet").head(ROWS)
    columns = [name for name in provider.columns if name != "id"]
    business.write_parquet(directory / "business.parquet")
    files = [directory / f"{place}.parquet" for place in range(providers)]
    for place, file in enumerate(files):
        share = columns[place * len(columns) // providers : (place + 1) * len(columns) // providers]
        provider.select("id", *share).write_parquet(file)
    return LocalTables(
        business=directory / "business.parquet",
        provider=files[0],
        further=tuple(files[1:]),
        identifier="id",
        label="y",
    )


def parties(directory: Path, urls: Mapping[str, str], providers: int = 2) -> dict[str, Path]:
    directory.mkdir(parents=True, exist_ok=True)
    tables = _tables(directory, providers)
    paths = {
        role: make_party(
            directory / role,
            role,
            name,
            tables,
            broker=urls.get(role, "amqp://localhost/warren"),
            marks=MARKS,
            declare=False,
            noise_seed="",
        )
        for role, name in tables.names.items()
    }
    introduce(*paths.values())
    return paths


class Daemons:
    """The processes that run at the moment."""

    def __init__(self, paths: Mapping[str, Path]) -> None:
        self._paths = paths
        self.parties = {role: load_party(path) for role, path in paths.items()}
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, role: str) -> None:
        with (self._paths[role].parent / "log").open("ab") as output:
            self._running[role] = serve(self._paths[role], output)

    def kill(self, role: str) -> None:
        process = self._running.pop(role)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()

    def end(self) -> None:
        for role in list(self._running):
            self.kill(role)

    def state(self, role: str, job: str) -> JobState | None:
        """The job's state in a party's journal, whether its daemon runs or not."""
        path = self.parties[role].data_directory / "journal.sqlite"
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=60)) as connection:
            rows = connection.execute("SELECT state FROM jobs WHERE job = ?", (job,)).fetchall()
        return decode_state(rows[0][0]) if rows and rows[0][0] else None

    def view(self, role: str, job: str) -> dict[str, Any]:
        with connect(self.parties[role]) as client:
            found: dict[str, Any] = client.ask("job", id=job)
        return found


@contextlib.contextmanager
def private_broker(directory: Path, names: list[str], programs: Path = PROGRAMS) -> Iterator[PrivateBroker]:
    broker = PrivateBroker(directory, names, programs=programs)
    broker.start()
    try:
        yield broker
    finally:
        broker.discard()


def test_three_daemons_and_the_broker_are_killed_in_turn_and_the_model_is_the_same(tmp_path: Path) -> None:
    quiet = parties(tmp_path / "quiet", {})
    with embedded(list(quiet.values())):
        expected = run_job(list(quiet.values()), JOB).parameters
    names = {role: load_party(path).file.name for role, path in quiet.items()}
    with private_broker(tmp_path / "rabbitmq", list(names.values())) as broker:
        paths = parties(tmp_path / "loud", {role: broker.amqp_url(name) for role, name in names.items()})
        daemons = Daemons(paths)
        try:
            for role in names:
                daemons.start(role)
            with connect(daemons.parties[BUSINESS]) as client:
                job = str(client.ask("submit", job=JOB)["job"])
            for number, role in enumerate(names):
                length = 25 * (number + 1)
                until(lambda role=role, length=length: is_at(daemons, role, job, length), f"{role} is so far")
                assert daemons.view(role, job)["status"] == "running"
                daemons.kill(role)
                others = [other for other in names if other != role]
                assert all(daemons.view(other, job)["outcome"] in ("", "done") for other in others)
                daemons.start(role)
            until(lambda: is_at(daemons, BUSINESS, job, 100), "the business is so far")
            assert daemons.view(BUSINESS, job)["status"] == "running"
            broker.kill()
            broker.start()
            found = {}
            for role in names:
                with connect(daemons.parties[role]) as client:
                    view = wait_for(client, job)
                assert view["outcome"] == "done", (role, view["reason_code"], view["reason"])
                found[role] = read_results(Path(view["results"]))[0]
        finally:
            daemons.end()
    assert found == expected


def is_at(daemons: Daemons, role: str, job: str, length: int) -> bool:
    with connect(daemons.parties[role]) as client:
        known = {view["job"]: view for view in client.ask("jobs")}
    return job in known and known[job]["length"] >= length
