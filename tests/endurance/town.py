"""Two parties as processes, a broker of their own, and eyes in their journals."""

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import urllib.request
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Self

import psutil

from broker.installation import PROGRAMS
from broker.private import PrivateBroker
from protocol.state import JobState, Phase, decode_state
from services.daemon.control import ControlClient
from services.daemon.local import BUSINESS, NAMES, PROVIDER, connect, serve, wait_for
from services.daemon.verbs import read_results
from services.party.configuration import Party, load_party
from tests.endurance.uplink import Uplink
from tests.parties import NOWHERE, PARTNER, PATIENCE_S, example_tables, make_parties, until

ROWS = 240
MARKS = ("small_sample", "insecure")
JOB: dict[str, Any] = {
    "task": "logistic",
    "dataset": "labels",
    "partner": f"{NAMES[PROVIDER]}/features",
    "l2": 1e-2,
    "max_iterations": 3,
    "key_bits": 512,
    "release_noise": 0.0,
    "marks": list(MARKS),
    "chunk_rows_max": 27,
}


def place_parties(directory: Path, urls: Mapping[str, str] = NOWHERE) -> dict[str, Path]:
    """party.toml of both parties of `JOB`."""
    return make_parties(
        directory, example_tables(directory, ROWS), marks=MARKS, urls=urls, retention=("digests", "full")
    )


class Town:
    """A broker, two party directories, and the processes that run at the moment. `mqtt`: roles that speak it."""

    def __init__(self, directory: Path, programs: Path = PROGRAMS, *, mqtt: Collection[str] = ()) -> None:
        speakers = [NAMES[role] for role in mqtt] if mqtt else None
        self.broker = PrivateBroker(directory / "rabbitmq", list(NAMES.values()), mqtt=speakers, programs=programs)
        self.broker.start()
        ports = {role: self.broker.mqtt_port if role in mqtt else self.broker.amqp_port for role in NAMES}
        self.uplinks = {role: Uplink(port) for role, port in ports.items()}
        urls = {
            role: (self.broker.mqtt_url if role in mqtt else self.broker.amqp_url)(name, port=self.uplinks[role].port)
            for role, name in NAMES.items()
        }
        self.paths = place_parties(directory, urls)
        self.parties: dict[str, Party] = {role: load_party(path) for role, path in self.paths.items()}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.job = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes.values():
            # Workers die with their daemon, stopped ones too.
            process.kill()
            process.wait()
        for line in self.uplinks.values():
            line.close()
        self.broker.discard()

    # -- processes ----------------------------------------------------------------------------------------

    def start(self, role: str) -> None:
        """Start a party's daemon."""
        with (self.paths[role].parent / "log").open("ab") as output:
            self.processes[role] = serve(self.paths[role], output)

    def run_only(self, *roles: str) -> None:
        """Have these daemons run and no others."""
        for role in NAMES:
            if role in roles and role not in self.processes:
                self.start(role)
            elif role not in roles and role in self.processes:
                self.kill(role)

    def console(self, role: str) -> ControlClient:
        """A party's console, as soon as it is there."""
        return connect(self.parties[role], PATIENCE_S)

    def kill(self, role: str) -> list[int]:
        """SIGKILL the daemon; returns the processes that were its own."""
        process = self.processes.pop(role)
        own = [process.pid, *(child.pid for child in psutil.Process(process.pid).children(recursive=True))]
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        return own

    def freeze(self, role: str) -> None:
        """Stop a party's workers where they are: its daemon goes on, its tasks do not."""
        self._signal_workers(role, signal.SIGSTOP)

    def thaw(self, role: str) -> None:
        """Let a party's workers go on."""
        self._signal_workers(role, signal.SIGCONT)

    def _signal_workers(self, role: str, number: signal.Signals) -> None:
        for worker in self.workers(role):
            with contextlib.suppress(psutil.NoSuchProcess):
                worker.send_signal(number)

    def workers(self, role: str) -> list[psutil.Process]:
        """A party's worker processes; none while its daemon does not run."""
        found = []
        if role in self.processes:
            for child in psutil.Process(self.processes[role].pid).children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    if "spawn_main" in " ".join(child.cmdline()):
                        found.append(child)
        return found

    def suspend(self, role: str) -> None:
        """Stop the daemon itself where it is (SIGSTOP); its workers go on."""
        self.processes[role].send_signal(signal.SIGSTOP)

    def resume(self, role: str) -> None:
        """Let a suspended daemon go on."""
        self.processes[role].send_signal(signal.SIGCONT)

    def submit(self, **changes: Any) -> str:
        """Submit the job at the business."""
        with self.console(BUSINESS) as client:
            self.job = str(client.ask("submit", job={**JOB, **changes})["job"])
        return self.job

    def result(self) -> dict[str, bytes]:
        """Both parties' parameters.json, once the job is done."""
        found = {}
        for role in NAMES:
            with self.console(role) as client:
                view = wait_for(client, self.job)
                assert view["outcome"] == "done", (role, view["reason_code"], view["reason"])
                found[role] = read_results(Path(view["results"]))[0]
        return found

    def statistics(self) -> dict[str, int]:
        """Counters of the job, both parties together."""
        total: dict[str, int] = {}
        for role in NAMES:
            with self.console(role) as client:
                for name, value in client.ask("job", id=self.job)["statistics"].items():
                    total[name] = total.get(name, 0) + int(value)
        return total

    # -- journals -----------------------------------------------------------------------------------------

    def query(self, role: str, statement: str, *values: Any) -> list[Any]:
        """Read a party's journal while its daemon runs, or has died."""
        path = self.parties[role].data_directory / "journal.sqlite"
        if not path.exists():
            return []
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=60)) as connection:
            made = connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'counters'").fetchone()[0]
            return connection.execute(statement, values).fetchall() if made else []

    def state(self, role: str) -> tuple[JobState, int] | None:
        """(state, sequences applied) of the job in a party's journal."""
        rows = self.query(role, "SELECT state, applied FROM jobs JOIN lines USING (job) WHERE job = ?", self.job)
        return (decode_state(rows[0][0]), rows[0][1]) if rows and rows[0][0] else None

    def applied(self, role: str) -> int:
        """Sequences of the partner that the party's journal has applied."""
        found = self.state(role)
        return 0 if found is None else found[1]

    def on_the_way(self, role: str) -> int:
        """Messages of the job that a party has numbered and its partner has not confirmed to have."""
        statement = "SELECT count(*) FROM outbox WHERE job = ? AND sequence > 0"
        rows = self.query(role, statement, self.job)
        return int(rows[0][0]) if rows else 0

    def in_the_middle(self, role: str) -> bool:
        """Whether the journal says: iteration 2 or later, between the first and the last chunk of link.terms, and
        the partner has computed something that it has not computed all of."""
        own, partner = self.state(role), self.state(PARTNER[role])
        if own is None or partner is None or not all(state.iteration >= 2 for state, _ in (own, partner)):
            return False
        (state, _), (other, _) = own, partner
        if not (state.phase is other.phase is Phase.LINKING and state.iteration == other.iteration):
            return False
        computed = other.round.chunks_computed if role == PROVIDER else other.round.evaluated
        return 0 < state.round.evaluated < state.round.chunks - 1 and 0 < computed < other.round.chunks - 1

    def stop_in_the_middle(self, role: str) -> None:
        """Stop both parties' workers in the middle of an iteration: nothing can leave it then, however fast the
        machine is. If the job was over first, another one is submitted."""
        while True:
            until(
                lambda: self.in_the_middle(role) or self.over(BUSINESS), f"{role} is in the middle, or the job is over"
            )
            if self.over(BUSINESS):
                self.submit()
                continue
            for each in NAMES:
                self.freeze(each)
            if self.in_the_middle(role):
                return
            for each in NAMES:
                self.thaw(each)

    def over(self, role: str) -> bool:
        """Whether the job has ended at a party."""
        rows = self.query(role, "SELECT status FROM jobs WHERE job = ?", self.job)
        return bool(rows) and rows[0][0] != "running"

    def waits(self, role: str) -> bool:
        """Whether a party has nothing to compute, and its partner has applied all that it has ever said."""
        if self.query(role, "SELECT count(*) FROM tasks WHERE job = ?", self.job)[0][0]:
            return False
        (said,) = self.query(role, "SELECT sent FROM lines WHERE job = ?", self.job)
        return bool(said[0] == self.applied(PARTNER[role]))

    def works(self, role: str) -> bool:
        """Whether a task of the job has been started and has not ended."""
        return bool(self.query(role, "SELECT count(*) FROM tasks WHERE job = ? AND started", self.job)[0][0])

    def held_bytes(self) -> int:
        """Bulk that waits: unreceipted in both outboxes, and in the broker's queues while it runs."""
        total = 0
        for role in NAMES:
            rows = self.query(role, "SELECT coalesce(sum(bytes), 0) FROM outbox WHERE job = ?", self.job)
            total += int(rows[0][0]) if rows else 0
        return total + (self._queued_bytes() if self.broker.running else 0)

    def _queued_bytes(self) -> int:
        parts = urllib.request.urlparse(self.broker.admin_url)  # type: ignore[attr-defined]
        manager = urllib.request.HTTPPasswordMgrWithDefaultRealm()
        plain = f"http://{parts.hostname}:{parts.port}"
        manager.add_password(None, plain, parts.username, parts.password)
        opener = urllib.request.build_opener(urllib.request.HTTPBasicAuthHandler(manager))
        with opener.open(f"{plain}/api/queues/warren?columns=name,message_bytes", timeout=60) as answer:
            return sum(int(queue.get("message_bytes", 0)) for queue in json.load(answer))


def nothing_left(pids: list[int]) -> bool:
    """Whether none of these processes lives (zombies do not)."""
    for pid in pids:
        try:
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                return False
        except psutil.NoSuchProcess:
            continue
    return True
