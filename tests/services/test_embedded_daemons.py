"""Both daemons within one process: a failure reaches whoever waits, and each party's log lines its own book."""

import asyncio
import fcntl
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import structlog

from broker.embedded import EmbeddedBroker
from services.daemon.control import ControlClient, ControlSocket, ControlUnreachable
from services.daemon.local import BUSINESS, NAMES, PROVIDER, connect, embedded, wait_for
from services.daemon.local_job import run_job
from services.party.configuration import load_party
from services.party.logs import LogBook, remembering, write_into
from services.store.data_directory import DirectoryLocked
from services.store.journal import ThreadedJournal, sqlite_url
from tests.services.test_local import JOB, parties

PROPOSAL = {**JOB, "partner": f"{NAMES[PROVIDER]}/features"}
NOTICED_S = 60.0


class Broken(Exception):
    """What ends a daemon in these tests."""


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """party.toml of two fresh parties."""
    return parties(tmp_path / "parties")


@contextmanager
def soon() -> Iterator[None]:
    """What stands in the block takes less than `NOTICED_S`."""
    started = time.monotonic()
    yield
    assert time.monotonic() - started < NOTICED_S


@pytest.mark.parametrize("role", [BUSINESS, PROVIDER])
def test_connect_raises_why_a_daemon_could_not_start_whichever_of_both_is_asked(
    pair: tuple[Path, Path], role: str
) -> None:
    provider = load_party(pair[1]).data_directory
    provider.mkdir(parents=True)
    with (provider / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with soon(), pytest.raises(DirectoryLocked, match=str(provider)), embedded(pair):
            connect(load_party(pair[list(NAMES).index(role)]))


class Fuse:
    """An observer of the broker that breaks the daemon of a party, when it is told to, at its next message."""

    def __init__(self, party: str) -> None:
        self.start = f"from.{party}."
        self.lit = False

    def __call__(self, routing_key: str, body: bytes) -> None:
        del body
        if self.lit and routing_key.startswith(self.start):
            raise Broken("the spring is broken")

    def light(self, _: object = None) -> None:
        self.lit = True


@pytest.mark.parametrize("role", [BUSINESS, PROVIDER])
def test_waiting_for_a_job_raises_why_a_daemon_ended_whichever_of_both_it_was(
    pair: tuple[Path, Path], role: str
) -> None:
    fuse = Fuse(NAMES[role])
    broker = EmbeddedBroker(list(NAMES.values()), observer=fuse)
    wanted = pytest.raises(Broken, match="the spring is broken")
    with soon(), wanted, embedded(pair, broker), connect(load_party(pair[0])) as client:
        job = client.ask("submit", job=PROPOSAL)["job"]
        wait_for(client, job, watch=fuse.light)


def test_a_job_within_this_process_raises_what_ended_its_daemon(pair: tuple[Path, Path]) -> None:
    fuse = Fuse(NAMES[PROVIDER])
    with soon(), pytest.raises(Broken), embedded(pair, EmbeddedBroker(list(NAMES.values()), observer=fuse)):
        run_job(pair, PROPOSAL, watch=fuse.light)


def test_a_daemon_that_stops_hangs_up_on_open_consoles(tmp_path: Path) -> None:
    async def story() -> None:
        async def answer(_: object) -> str:
            return "here"

        console = asyncio.create_task(ControlSocket(tmp_path, {"where": answer}).run())
        while not (tmp_path / "control.sock").exists():
            await asyncio.sleep(0)
        client = await asyncio.to_thread(ControlClient, tmp_path)
        assert await asyncio.to_thread(client.ask, "where") == "here"
        console.cancel()
        await asyncio.wait([console])
        with pytest.raises(ControlUnreachable, match="went away"):
            await asyncio.to_thread(client.ask, "where")
        client.close()

    asyncio.run(asyncio.wait_for(story(), NOTICED_S))


def test_a_question_that_meets_a_journal_just_closed_was_asked_of_a_daemon_that_went_away(tmp_path: Path) -> None:
    async def story() -> None:
        journal = ThreadedJournal(sqlite_url(tmp_path / "journal"), "shop")
        journal.open()
        journal.close()

        async def answer(_: object) -> object:
            return await journal.read(lambda connection: None)

        control = asyncio.create_task(ControlSocket(tmp_path, {"where": answer}).run())
        while not (tmp_path / "control.sock").exists():
            await asyncio.sleep(0)
        client = await asyncio.to_thread(ControlClient, tmp_path)
        with pytest.raises(ControlUnreachable, match="stopped while it was asked"):
            await asyncio.to_thread(client.ask, "where")
        client.close()
        control.cancel()
        await asyncio.wait([control])

    asyncio.run(asyncio.wait_for(story(), NOTICED_S))


# -- log lines ---------------------------------------------------------------------------------------------------


def test_each_party_keeps_its_own_lines_of_a_job(pair: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    quiet = structlog.get_config()
    try:
        with embedded(pair):
            result = run_job(pair, PROPOSAL)
            lines = {role: lines_of(path, result.job) for role, path in zip(NAMES, pair, strict=True)}
        assert structlog.get_config() == quiet
    finally:
        structlog.configure(**before)
    for role in NAMES:
        said = sorted(line["event"] for line in lines[role] if line["event"] != "stage")
        assert said == ["job ended", "model kept", "results written"], role
        assert {line["level"] for line in lines[role]} == {"info"}
        assert all(line["timestamp"].endswith("Z") for line in lines[role])
    assert "job ended" not in "".join(capsys.readouterr())


def lines_of(path: Path, job: str) -> list[dict[str, str]]:
    """What `warren logs` prints at a party."""
    with connect(load_party(path)) as client:
        lines: list[dict[str, str]] = client.ask("logs", id=job)
    return lines


def test_lines_go_to_the_book_of_the_task_that_writes_them_and_are_printed_as_before() -> None:
    books, printed = {name: LogBook() for name in NAMES}, []

    def show(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        printed.append(event["event"])
        raise structlog.DropEvent

    async def speak(name: str, turns: asyncio.Barrier) -> None:
        write_into(books[name])
        log = structlog.get_logger()
        for number in range(3):
            await turns.wait()
            log.debug("silence", job="job-1")
            log.info(f"{name} {number}", job="job-1")
            await asyncio.to_thread(log.error, f"{name} {number} aloud", job="job-1")

    async def story() -> None:
        turns = asyncio.Barrier(len(books))
        await asyncio.gather(*(speak(name, turns) for name in books))
        structlog.get_logger().error("nobody's", job="job-1")

    before = structlog.get_config()
    structlog.configure(processors=[show], wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    try:
        with remembering():
            asyncio.run(story())
    finally:
        structlog.configure(**before)
    for name, book in books.items():
        expected = [text for number in range(3) for text in (f"{name} {number}", f"{name} {number} aloud")]
        assert [line["event"] for line in book.lines("job-1")] == expected
    aloud = [f"{name} {number} aloud" for name in NAMES for number in range(3)]
    assert sorted(printed) == sorted([*aloud, "nobody's"])
