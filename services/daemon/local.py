"""`warren local`: all parties on this machine, with the same code path as daemons of their own.

A directory is made for each party (identities, peers, policies, party.toml). With the embedded transport the
daemons run in this process, each with worker processes of its own; with a broker URL each is a process,
`warren serve`, and this one talks to their consoles like any operator.
"""

import asyncio
import itertools
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import structlog

from broker.embedded import EmbeddedBroker, EmbeddedTransport
from learning.columns.preparation import Step
from messages.identity import Identity
from protocol.contract import EVALUATIONS_MAX
from services.daemon.control import ControlClient, ControlUnreachable
from services.daemon.job_file import with_class_weights
from services.daemon.party_process import run_party
from services.daemon.waiting import END_TIMEOUT_S, POLL_S, ends, raise_end, wait_for
from services.party.configuration import Party, load_party, read_toml, steps_from, write_private
from services.party.logs import LogBook, remembering, write_into
from services.tables.row_columns import NOTHING_BESIDE, ClassWeight, RowColumns
from services.tables.table import Table, read_table

__all__ = [
    "BUSINESS",
    "NAMES",
    "PROVIDER",
    "SCORE_QUOTA",
    "START_TIMEOUT_S",
    "LocalTables",
    "connect",
    "embedded",
    "introduce",
    "make_party",
    "names_of",
    "processes",
    "serve",
    "wait_for",
]

BUSINESS = "business"
PROVIDER = "provider"
NAMES = {BUSINESS: "business-a", PROVIDER: "provider-a"}
"""Names of two parties by role; further providers are `provider-b` to `provider-h` (`names_of`)."""
SCORE_QUOTA = 10_000_000
"""Rows that the provider on this machine lets be scored in a period."""
START_TIMEOUT_S = 90.0

log = structlog.get_logger("local")


@dataclass(frozen=True, slots=True)
class LocalTables:
    """The input files, and files with the preparation of their columns. `further...`: of providers after the first."""

    business: Path
    provider: Path
    identifier: str
    label: str
    business_preparation: Path | None = None
    provider_preparation: Path | None = None
    beside: RowColumns = NOTHING_BESIDE
    class_weight: ClassWeight = ""
    further: tuple[Path, ...] = ()
    further_preparations: tuple[Path | None, ...] = ()

    @property
    def names(self) -> dict[str, str]:
        """Names of the parties, by role; that of a further provider is its own."""
        return names_of(1 + len(self.further))

    @property
    def sources(self) -> dict[str, Path]:
        """The providers' files, by role."""
        return dict(zip([role for role in self.names if role != BUSINESS], [self.provider, *self.further], strict=True))

    def read_business(self, task: str) -> Table:
        """The business's table. Raises TableError, ConfigError."""
        steps = _steps(self.business_preparation)
        table = read_table(
            self.business, identifier=self.identifier, label=self.label, task=task, steps=steps, beside=self.beside
        )
        return with_class_weights(table, task, self.class_weight)

    def read_provider(self, role: str = PROVIDER) -> Table:
        """A provider's table. Raises TableError, ConfigError."""
        return read_table(self.sources[role], identifier=self.identifier, steps=_steps(self.preparation_of(role)))

    def preparation_of(self, role: str) -> Path | None:
        """The file with the preparation of a party's columns, if there is one."""
        files = dict(zip(self.sources, [self.provider_preparation, *self.further_preparations], strict=False))
        return self.business_preparation if role == BUSINESS else files.get(role)


def names_of(providers: int) -> dict[str, str]:
    """Names of a business and so many providers, by role."""
    further = [f"provider-{letter}" for letter in "bcdefgh"[: providers - 1]]
    return NAMES | dict(zip(further, further, strict=True))


def _steps(path: Path | None) -> dict[str, tuple[Step, ...]] | None:
    return None if path is None else steps_from(read_toml(path), str(path))


def make_party(
    directory: Path,
    role: str,
    name: str,
    tables: LocalTables,
    *,
    broker: str,
    marks: tuple[str, ...],
    declare: bool,
    noise_seed: str,
    workers: int = 1,
    retention: tuple[str, ...] = ("digests",),
    inference: bool = False,
) -> Path:
    """Write identity, policy and party.toml of one party; returns the path of party.toml."""
    directory.mkdir(parents=True, exist_ok=True)
    identity = Identity.generate(name)
    write_private(directory / "identity" / f"{name}.private.json", identity.to_bytes())
    (directory / f"{name}.public.json").write_text(identity.public.to_json(), encoding="utf-8")
    (directory / "peers").mkdir(exist_ok=True)
    policy = (
        f"marks = {_listed(marks)}\nretention = {_listed(retention)}\nscore_quota = {SCORE_QUOTA}\n"
        f"inference = {'true' if inference else 'false'}\nstop_evaluations_max = {EVALUATIONS_MAX}\n"
    )
    (directory / "policy.toml").write_text(policy, encoding="utf-8")
    source, dataset = (tables.business, "labels") if role == BUSINESS else (tables.sources[role], "features")
    label = f"label = {_quoted(tables.label)}\n" if role == BUSINESS else ""
    steps = tables.preparation_of(role)
    preparation = f"preparation = {_quoted(str(steps.resolve()))}\n" if steps else ""
    text = (
        f'name = "{name}"\nbroker = {_quoted(broker)}\npolicy = "policy.toml"\nworkers = {workers}\n'
        f"declare = {'true' if declare else 'false'}\nnoise_seed = {_quoted(noise_seed)}\n\n"
        f'[[dataset]]\nname = "{dataset}"\nsource = {_quoted(str(source.resolve()))}\n'
        f"id = {_quoted(tables.identifier)}\n{label}{preparation}"
    )
    path = directory / "party.toml"
    path.touch(mode=0o600)
    path.write_text(text, encoding="utf-8")
    return path


def _listed(words: tuple[str, ...]) -> str:
    return f"[{', '.join(map(_quoted, words))}]"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def introduce(*parties: Path) -> None:
    """Exchange the public identity files of all parties, each with each."""
    for one, other in itertools.permutations(parties, 2):
        for public in one.parent.glob("*.public.json"):
            (other.parent / "peers" / public.name).write_bytes(public.read_bytes())


@contextmanager
def embedded(parties: Sequence[Path], broker: EmbeddedBroker | None = None) -> Iterator[None]:
    """All daemons in this process, on a thread with an event loop of its own.

    When one of them ends early, so do the others; `connect`, `wait_for` and `run_job` then raise why.

    `broker`: one with an observer or faults, for tests.
    """
    loaded = [load_party(path) for path in parties]
    for party in loaded:
        party.data_directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    broker = broker or EmbeddedBroker([party.file.name for party in loaded])
    runner, stop = asyncio.Runner(loop_factory=asyncio.new_event_loop), asyncio.Event()
    loop, end = runner.get_loop(), Future[None]()
    ends.update({party.data_directory: end for party in loaded})

    def run() -> None:
        with runner:
            try:
                runner.run(_run_all(loaded, broker, stop, end))
            except BaseException as error:
                _settle(end, error)
            else:
                _settle(end, None)

    thread = threading.Thread(target=run, name="warren-local", daemon=True)
    with remembering():
        thread.start()
        try:
            yield
        finally:
            with suppress(RuntimeError):  # the loop is closed: both have ended by themselves
                loop.call_soon_threadsafe(stop.set)
            thread.join(timeout=END_TIMEOUT_S)
            for party in loaded:
                ends.pop(party.data_directory, None)
            failure = end.exception() if end.done() else None
            if failure not in (None, sys.exc_info()[1]):  # else somebody was told
                log.error("a daemon ended early", error=type(failure).__name__)


async def _run_all(loaded: list[Party], broker: EmbeddedBroker, stop: asyncio.Event, end: "Future[None]") -> None:
    """Run a daemon for each party until `stop`; the first that fails settles `end` and ends the others."""

    async def run_one(party: Party) -> None:
        book = LogBook()
        write_into(book)
        try:
            await run_party(party, book, EmbeddedTransport(broker, party.file.name, list(party.peers)))
        except Exception as error:
            _settle(end, error)
            raise

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(run_one(party)) for party in loaded]
        await stop.wait()
        for task in tasks:
            task.cancel()


def _settle(end: "Future[None]", error: BaseException | None) -> None:
    """Say how it ended, unless it has been said: the first failure is the reason of what follows it."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    if end.done():
        return
    if error is None:
        end.set_result(None)
    else:
        end.set_exception(error)


def serve(path: Path, output: BinaryIO) -> "subprocess.Popen[bytes]":
    """A `warren serve` process for a party.toml."""
    command = [sys.executable, "-m", "services.cli", "serve", str(path)]
    return subprocess.Popen(command, stdout=output, stderr=output, stdin=subprocess.DEVNULL)  # noqa: S603


@contextmanager
def processes(parties: Sequence[Path]) -> Iterator[list["subprocess.Popen[bytes]"]]:
    """`warren serve` processes that share nothing but the broker. Their logs go to `<party>/log`."""
    with ExitStack() as stack:
        running = []
        for path in parties:
            output = stack.enter_context((path.parent / "log").open("ab"))
            running.append(serve(path, output))
        try:
            yield running
        finally:
            for process in running:
                process.terminate()
            for process in running:
                try:
                    process.wait(timeout=20)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


def connect(party: Party, timeout_s: float = START_TIMEOUT_S) -> ControlClient:
    """A console that is there now or within `timeout_s`.

    Raises ControlUnreachable, or what ended the daemon if it ran in this process.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            return ControlClient(party.data_directory)
        except ControlUnreachable:
            raise_end(party.data_directory, 0)
            if time.monotonic() > deadline:
                raise
            time.sleep(POLL_S)
