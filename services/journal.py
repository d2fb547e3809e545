"""The journal: one writer thread, group commit, and reads that never wait for it.

A unit of work is a function of a connection. The writer takes what is waiting (at most
`TRANSACTION_ITEMS_MAX` units or `TRANSACTION_SECONDS_MAX`) into one transaction, each unit under a savepoint
of its own, so that one that fails does not take another with it. A unit's result is handed back after COMMIT
only. Nothing of a unit may outlive its rollback: units keep what they learn in their result.
"""

import asyncio
import contextvars
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

import structlog
from sqlalchemy import Connection, Engine, create_engine, event, insert, select
from sqlalchemy.exc import DBAPIError, InterfaceError, InternalError, OperationalError
from sqlalchemy.pool import NullPool

from services.journal_schema import SCHEMA_VERSION, meta, metadata
from services.limits import TRANSACTION_ITEMS_MAX, TRANSACTION_SECONDS_MAX

T = TypeVar("T")
Work = Callable[[Connection], T]

log = structlog.get_logger("journal")
_READER: Final = "warren_reader"


class JournalError(Exception):
    """Base of the journal's errors: `JournalUnavailable`, `JournalClosed`, `JournalForeign`."""


class JournalUnavailable(JournalError):
    """Nothing could be committed (disk full, database away). Nothing happened: try the unit again later."""


class JournalClosed(JournalError):
    """The journal is closed, or was ended by a fault."""


class JournalForeign(JournalError):
    """The database belongs to another party or another schema."""


@dataclass(slots=True)
class _Unit:
    work: Work[Any]
    done: Future[Any] = field(default_factory=Future)
    result: Any = None


class Journal:
    """See the module docstring.

    Args:
        url: SQLAlchemy URL; `sqlite_url(path)` makes the default one.
        party: whose journal it is; opening another party's raises JournalForeign.
        before_commit: called on the writer thread before every COMMIT; an OSError rolls back.
        after_commit: called on the writer thread after every COMMIT, with a connection outside of it.

    """

    def __init__(
        self,
        url: str,
        party: str,
        *,
        before_commit: Callable[[], None] = lambda: None,
        after_commit: Callable[[Connection], None] = lambda _: None,
    ) -> None:
        self._engine = _engine(url)
        self._party = party
        self._before_commit = before_commit
        self._after_commit = after_commit
        self._units: queue.SimpleQueue[_Unit | None] = queue.SimpleQueue()
        self._reads: queue.SimpleQueue[_Unit | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._closed = True
        self._gate = threading.Lock()
        self.transactions = 0

    @property
    def closed(self) -> bool:
        """Whether nothing can be handed in any more."""
        return self._closed

    def open(self) -> None:
        """Create the tables where they are missing and start writer and reader."""
        with self._engine.begin() as connection:
            metadata.create_all(connection)
            for key, value in (("party", self._party), ("schema", str(SCHEMA_VERSION))):
                found = connection.scalar(select(meta.c.value).where(meta.c.key == key))
                if found is None:
                    connection.execute(insert(meta).values(key=key, value=value))
                elif found != value:
                    raise JournalForeign(f"the journal's {key} is {found}, not {value}")
        self._closed = False
        for target, name in ((self._write_all, "journal writer"), (self._read_all, "journal reader")):
            # The threads log for the daemon that opened the journal: see `services.logs.write_into`.
            run = contextvars.copy_context().run
            thread = threading.Thread(target=run, args=(target,), name=name, daemon=True)
            thread.start()
            self._threads.append(thread)

    async def write(self, work: Work[T]) -> T:
        """Run a unit in a transaction; its result comes after COMMIT.

        Raises:
            JournalUnavailable: nothing was committed.
            JournalClosed: the journal is closed.

        Any other exception is the unit's own; the unit is rolled back.
        """
        return await self._put(self._units, work)

    async def read(self, work: Work[T]) -> T:
        """Run a unit that only reads, on another thread than the writer's."""
        return await self._put(self._reads, work)

    async def _put(self, units: queue.SimpleQueue[_Unit | None], work: Work[T]) -> T:
        unit = _Unit(work)
        with self._gate:
            if self._closed:
                raise JournalClosed("the journal is closed")
            units.put(unit)
        result: T = await asyncio.wrap_future(unit.done)
        return result

    def close(self) -> None:
        """Finish what was handed in and stop. Blocks for that long; may be called twice."""
        with self._gate:
            self._closed = True
        self._units.put(None)
        self._reads.put(None)
        for thread in self._threads:
            thread.join()
        self._threads.clear()
        self._engine.dispose()

    def _write_all(self) -> None:
        with self._engine.connect() as connection:
            while (unit := self._units.get()) is not None:
                batch: list[_Unit] = []
                try:
                    self._transaction(connection, unit, batch)
                except Exception as error:
                    _roll_back(connection)
                    log.error("journal cannot commit", error=type(error).__name__)
                    _fail(batch, JournalUnavailable(f"{type(error).__name__}: nothing was committed"))
                except BaseException as error:  # a crash point: nothing may go on after it
                    self._abandon(connection, batch, error)
                    return
                else:
                    for done in batch:
                        if not done.done.done():
                            done.done.set_result(done.result)
        self._refuse(self._units)

    def _transaction(self, connection: Connection, first: _Unit, batch: list[_Unit]) -> None:
        started = time.monotonic()
        with connection.begin():
            unit: _Unit | None = first
            while unit is not None:
                if unit.done.set_running_or_notify_cancel():
                    batch.append(unit)
                    _run(connection, unit)
                if len(batch) >= TRANSACTION_ITEMS_MAX or time.monotonic() - started > TRANSACTION_SECONDS_MAX:
                    break
                unit = self._next_waiting()
            self._before_commit()
        self.transactions += 1
        try:
            with connection.begin():
                self._after_commit(connection)
        except Exception as error:
            _roll_back(connection)
            log.warning("tidying after a commit failed, later", error=type(error).__name__)

    def _next_waiting(self) -> _Unit | None:
        try:
            unit = self._units.get_nowait()
        except queue.Empty:
            return None
        if unit is None:
            self._units.put(None)
        return unit

    def _abandon(self, connection: Connection, batch: list[_Unit], error: BaseException) -> None:
        with self._gate:
            self._closed = True
        _roll_back(connection)
        _fail(batch, error)
        self._refuse(self._units)

    def _read_all(self) -> None:
        with self._engine.connect().execution_options(**{_READER: True}) as connection:
            while (unit := self._reads.get()) is not None:
                if not unit.done.set_running_or_notify_cancel():
                    continue
                try:
                    with connection.begin():
                        unit.result = unit.work(connection)
                except BaseException as error:
                    unit.done.set_exception(error)
                else:
                    unit.done.set_result(unit.result)
        self._refuse(self._reads)

    @staticmethod
    def _refuse(units: queue.SimpleQueue[_Unit | None]) -> None:
        while not units.empty():
            unit = units.get()
            if unit is not None and unit.done.set_running_or_notify_cancel():
                unit.done.set_exception(JournalClosed("the journal is closed"))


def sqlite_url(path: Path) -> str:
    """The URL of a journal in a file."""
    return f"sqlite:///{path}"


def _run(connection: Connection, unit: _Unit) -> None:
    """One unit under its savepoint. What the disk or database did wrong is raised, to end the transaction."""
    try:
        with connection.begin_nested():
            unit.result = unit.work(connection)
    except (OperationalError, InternalError, InterfaceError, OSError):
        raise
    except Exception as error:
        unit.done.set_exception(error)


def _fail(batch: list[_Unit], error: BaseException) -> None:
    for unit in batch:
        if not unit.done.done():
            unit.done.set_exception(error)


def _roll_back(connection: Connection) -> None:
    """Leave the connection usable even where SQLite has already ended the transaction by itself."""
    try:
        connection.rollback()
    except DBAPIError:
        connection.invalidate()
        connection.rollback()


def _engine(url: str) -> Engine:
    engine = create_engine(url, poolclass=NullPool)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _set_up_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    return engine


def _set_up_sqlite(connection: sqlite3.Connection, _: object) -> None:
    # The driver's own transaction control would begin late and never IMMEDIATE: see `_begin_sqlite`.
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=10000"):
        connection.execute(f"PRAGMA {pragma}").close()


def _begin_sqlite(connection: Connection) -> None:
    reader = connection.get_execution_options().get(_READER, False)
    connection.exec_driver_sql("BEGIN" if reader else "BEGIN IMMEDIATE")
