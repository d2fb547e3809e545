"""The journal: one writer thread, group commit, and reads that never wait for it.

The writer takes what is waiting (at most `TRANSACTION_ITEMS_MAX` units or `TRANSACTION_SECONDS_MAX`) into one
transaction (`services.store.transactions`). A unit's result is handed back after COMMIT only.
"""

import asyncio
import contextvars
import math
import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar

import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from services.store.journal_errors import JournalClosed, JournalError, JournalForeign, JournalUnavailable
from services.store.limits import TRANSACTION_ITEMS_MAX, TRANSACTION_SECONDS_MAX
from services.store.transactions import (
    CommitInDoubt,
    Cost,
    Transactions,
    Unit,
    Work,
    cause_of,
    roll_back,
    settle,
    sqlite_url,
)

__all__ = [
    "Away",
    "Journal",
    "JournalClosed",
    "JournalError",
    "JournalForeign",
    "JournalUnavailable",
    "ThreadedJournal",
    "Work",
    "sqlite_url",
]

T = TypeVar("T")

log = structlog.get_logger("journal")

AWAY_FIRST_S: Final = 0.02
AWAY_LAST_S: Final = 0.5
"""First and longest pause between two questions to a server that is away, seconds: most have only hung up."""
SLOW_S: Final = 10.0
"""A server that not answered a question that only reads for so long counts as away, seconds."""


@dataclass(frozen=True, slots=True)
class Away:
    """A server that does not answer. `since`: by the monotonic clock, seconds; `cause`: why, without any value."""

    since: float
    cause: str


class Journal(Protocol):
    """Where units of work go."""

    @property
    def closed(self) -> bool:
        """Whether nothing can be handed in any more."""

    @property
    def away(self) -> Away | None:
        """Whether it does not answer questions at present."""

    @property
    def cost(self) -> Cost:
        """What was committed since it was opened, and how long that took."""

    def open(self) -> None:
        """Create the tables where they are missing and start.

        Raises what `Transactions.prepare` does.
        """

    async def write(self, work: Work[T]) -> T:
        """Run a unit in a transaction; its result comes after COMMIT.

        Raises:
            JournalUnavailable: nothing was committed.
            JournalClosed: the journal is closed.

        Any other exception is the unit's own; the unit is rolled back.
        """

    async def read(self, work: Work[T]) -> T:
        """Run a unit that only reads, on another connection than the writer's."""

    def close(self) -> None:
        """Finish what was handed in and stop. Blocks for that long; may be called twice."""


class ThreadedJournal:
    """The journal of every daemon. Args: see `Transactions`; the hooks are called on the writer thread."""

    def __init__(
        self,
        url: str,
        party: str,
        *,
        before_commit: Callable[[], None] = lambda: None,
        after_commit: Callable[[Connection], None] = lambda _: None,
    ) -> None:
        self._transactions = Transactions(url, party, before_commit=before_commit, after_commit=after_commit)
        self._units: queue.SimpleQueue[Unit | None] = queue.SimpleQueue()
        self._reads: queue.SimpleQueue[Unit | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._closed = True
        self._away: Away | None = None
        self._in_doubt: Away | None = None
        self._asked_at = math.inf
        self._gate = threading.Lock()
        self._ending = threading.Event()

    @property
    def cost(self) -> Cost:
        """See `Journal.cost`."""
        return self._transactions.cost

    @property
    def closed(self) -> bool:
        """See `Journal.closed`."""
        return self._closed

    @property
    def away(self) -> Away | None:
        """See `Journal.away`."""
        found, asked_at = self._away or self._in_doubt, self._asked_at
        if found is None and self._transactions.at_server and time.monotonic() - asked_at > SLOW_S:
            return Away(since=asked_at, cause="it does not answer")
        return found

    def open(self) -> None:
        """See `Journal.open`: starts writer and reader."""
        # Connected here and not on their threads: a server that goes away just now is the caller's matter.
        writing, reading = self._transactions.prepare()
        self._closed = False
        self._ending.clear()
        for target, connection, name in (
            (self._write_all, writing, "journal writer"),
            (self._read_all, reading, "journal reader"),
        ):
            # The threads log for the daemon that opened the journal: see `services.party.logs.write_into`.
            run = contextvars.copy_context().run
            thread = threading.Thread(target=run, args=(target, connection), name=name, daemon=True)
            thread.start()
            self._threads.append(thread)

    async def write(self, work: Work[T]) -> T:
        """See `Journal.write`."""
        return await self._put(self._units, work)

    async def read(self, work: Work[T]) -> T:
        """See `Journal.read`: on another thread than the writer's."""
        return await self._put(self._reads, work)

    async def _put(self, units: "queue.SimpleQueue[Unit | None]", work: Work[T]) -> T:
        unit = Unit(work)
        with self._gate:
            if self._closed:
                raise JournalClosed("the journal is closed")
            units.put(unit)
        result: T = await asyncio.wrap_future(unit.done)
        return result

    def close(self) -> None:
        """See `Journal.close`."""
        with self._gate:
            self._closed = True
        self._units.put(None)
        self._reads.put(None)
        self._ending.set()
        for thread in self._threads:
            thread.join()
        self._threads.clear()
        self._transactions.dispose()

    def _write_all(self, writing: Connection) -> None:
        with writing as connection:
            while (unit := self._units.get()) is not None:
                taken: list[Unit] = []
                try:
                    self._transactions.commit(connection, self._waiting(unit), taken)
                except CommitInDoubt as doubt:
                    roll_back(connection)
                    self._clear_up(doubt, taken)
                except Exception as error:
                    roll_back(connection)
                    log.error("journal cannot commit", error=type(error).__name__, cause=cause_of(error))
                    settle(taken, JournalUnavailable(cause_of(error)))
                except BaseException as error:  # a crash point: nothing may go on after it
                    with self._gate:
                        self._closed = True
                    roll_back(connection)
                    settle(taken, error)
                    break
                else:
                    settle(taken)
            self._transactions.let_go(connection)
        self._refuse(self._units)

    def _clear_up(self, doubt: CommitInDoubt, taken: list[Unit]) -> None:
        """Tell the callers what the server says of their transaction, once it can be asked.

        Until then they wait: told that nothing was committed, they would do again what has happened, and never learn
        what it has led to.
        """
        cause = cause_of(doubt)
        log.error("journal lost its server at a commit: it is asked whether it has happened", cause=cause)
        self._in_doubt = Away(since=time.monotonic(), cause=cause)
        happened: bool | None = None
        for pause in _pauses():
            try:
                happened = self._transactions.committed(doubt.number)
            except DBAPIError:
                log.debug("the server cannot be asked yet")
            if happened is not None or self._ending.wait(pause):
                break
        self._in_doubt = None
        log.info("journal knows what became of the commit", happened=happened)
        settle(taken, None if happened else JournalUnavailable(cause))

    def _waiting(self, first: Unit) -> Iterator[Unit]:
        """`first` and what waits behind it, as far as one transaction goes."""
        started = time.monotonic()
        yield first
        for _ in range(TRANSACTION_ITEMS_MAX - 1):
            if time.monotonic() - started > TRANSACTION_SECONDS_MAX:
                return
            try:
                unit = self._units.get_nowait()
            except queue.Empty:
                return
            if unit is None:
                self._units.put(None)
                return
            yield unit

    def _read_all(self, reading: Connection) -> None:
        with reading as connection:
            while (unit := self._reads.get()) is not None:
                if not unit.done.set_running_or_notify_cancel():
                    continue
                self._asked_at = time.monotonic()
                try:
                    unit.result = self._read_patiently(connection, unit)
                except BaseException as error:
                    unit.done.set_exception(error)
                else:
                    unit.done.set_result(unit.result)
                finally:
                    self._away, self._asked_at = None, math.inf
        self._refuse(self._reads)

    def _read_patiently(self, connection: Connection, unit: Unit) -> Any:
        """Read, again and again while a server is away: nothing of a daemon can go on without what it asks for."""
        for pause in _pauses():
            try:
                return self._transactions.read(connection, unit.work)
            except DBAPIError as error:
                if not self._transactions.away(error):
                    raise
                if self._away is None:
                    log.error("journal cannot be read", error=type(error).__name__, cause=cause_of(error))
                    self._away = Away(since=self._asked_at, cause=cause_of(error))
                roll_back(connection)
            if self._ending.wait(pause):
                break
        raise JournalClosed("the journal is closed")

    @staticmethod
    def _refuse(units: "queue.SimpleQueue[Unit | None]") -> None:
        while not units.empty():
            unit = units.get()
            if unit is not None and unit.done.set_running_or_notify_cancel():
                unit.done.set_exception(JournalClosed("the journal is closed"))


def _pauses() -> Iterator[float]:
    """Seconds until a server that is away is asked again, without end."""
    pause = AWAY_FIRST_S
    while True:
        yield pause
        pause = min(2 * pause, AWAY_LAST_S)
