"""Units of work in transactions of one database: what the journal's thread drives, and what a simulation drives.

A unit of work is a function of a connection. Several go into one transaction, each under a savepoint of its own, so
that one that fails does not take another with it. Nothing of a unit may outlive its rollback: units keep what they
learn in their result, and a result counts after COMMIT only.
"""

import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

import structlog
from sqlalchemy import Connection, Engine, RootTransaction, create_engine, event, insert, inspect, select, text
from sqlalchemy.exc import DataError, DBAPIError, InterfaceError, InternalError, OperationalError, SQLAlchemyError
from sqlalchemy.pool import NullPool, PoolProxiedConnection

from services.store.journal_errors import JournalForeign, JournalUnavailable
from services.store.journal_lock import FileLock, guard_sessions, let_session_go, lock_file, shown
from services.store.journal_schema import SCHEMA_VERSION, meta, metadata
from services.store.migrations import bring_up

T = TypeVar("T")
Work = Callable[[Connection], T]

log = structlog.get_logger("journal")

_PRAGMAS: Final = ("busy_timeout=10000", "journal_size_limit=16777216")
_INCREMENTAL: Final = 2
_NUMBER: Final = text("SELECT CAST(pg_current_xact_id_if_assigned() AS text)")
_STATUS: Final = text("SELECT pg_xact_status(CAST(:number AS xid8))")


_POSTGRESQL_MIN: Final = (13,)
"""The first with `pg_xact_status` of 64-bit numbers."""


class CommitInDoubt(Exception):
    """The server went away while it was told to commit: transaction `number` has happened or not. See `committed`."""

    def __init__(self, number: str) -> None:
        super().__init__(f"transaction {number} has happened or not")
        self.number = number


@dataclass(slots=True)
class Cost:
    """What transactions have cost since the journal was opened.

    Attributes:
        commits: how many there were.
        unit_seconds: inside the units of work.
        commit_seconds: after them: until segments and journal were durable.

    """

    commits: int = 0
    unit_seconds: float = 0.0
    commit_seconds: float = 0.0


@dataclass(slots=True)
class Unit:
    """A unit of work and the future that its caller waits on. `result` is handed over after COMMIT."""

    work: Work[Any]
    done: Future[Any] = field(default_factory=Future)
    result: Any = None


class Transactions:
    """Transactions of one journal's database.

    Args:
        url: SQLAlchemy URL; `sqlite_url(path)` makes the default one.
        party: whose journal it is; preparing another party's raises JournalForeign.
        before_commit: called before every COMMIT; an OSError rolls back.
        after_commit: called after every COMMIT, with a connection that is in no transaction.
        synchronous: SQLite's pragma; anything but FULL loses commits in a power cut, which only a simulation may.

    """

    def __init__(
        self,
        url: str,
        party: str,
        *,
        before_commit: Callable[[], None],
        after_commit: Callable[[Connection], None],
        synchronous: str = "FULL",
    ) -> None:
        self._engine = _engine(url, synchronous, "BEGIN IMMEDIATE")
        self._reading = _engine(url, synchronous, "BEGIN")
        guard_sessions(self._engine, party)
        self._party = party
        self._lock: FileLock | None = None
        self._before_commit = before_commit
        self._after_commit = after_commit
        self.cost = Cost()

    def prepare(self) -> tuple[Connection, Connection]:
        """Take the journal for this process and create the tables where they are missing.

        Returns a connection for `commit` and one for `read`; the caller closes them.

        Raises:
            JournalTaken: another daemon works on it.
            JournalForeign: it is another party's, or of a schema that nothing leads here from.
            JournalUnavailable: it cannot be opened, not be copied before its schema is changed, or is at a server of
                a version that is too old.

        """
        try:
            self._lock = lock_file(self._engine, self._party)
            self._make_tables()
            self._settle_free_pages()
            return self._engine.connect(), self._reading.connect()
        except (DBAPIError, OSError) as error:
            self.dispose()
            where = shown(self._engine.url)
            raise JournalUnavailable(f"the journal {where} cannot be opened: {cause_of(error)}") from None
        except BaseException:
            self.dispose()
            raise

    def _make_tables(self) -> None:
        with self._engine.connect() as connection:
            if old := too_old(connection):
                raise JournalUnavailable(f"the journal {shown(self._engine.url)} is at {old}")
            with connection.begin():
                self._bring_tables(connection)
            let_session_go(connection)

    def _bring_tables(self, connection: Connection) -> None:
        # One question in place of one for each table: most starts find them all.
        there = set(inspect(connection).get_table_names())
        if meta.name in there:
            known = {row.key: row.value for row in connection.execute(select(meta))}
            if known.get("party", self._party) != self._party:
                raise JournalForeign(f"the journal is {known['party']}'s, not {self._party}'s")
            bring_up(connection, known.get("schema", str(SCHEMA_VERSION)))
        if not metadata.tables.keys() <= there:
            metadata.create_all(connection)
        if meta.name not in there:
            first = [{"key": "party", "value": self._party}, {"key": "schema", "value": str(SCHEMA_VERSION)}]
            connection.execute(insert(meta), first)

    def _settle_free_pages(self) -> None:
        """A file from before free pages were given back is written anew once, if there is room for that."""
        if self._lock is None or self._engine.url.database is None:
            return
        try:
            with closing(sqlite3.connect(self._engine.url.database, timeout=10, isolation_level=None)) as connection:
                (mode,) = connection.execute("PRAGMA auto_vacuum").fetchone()
                if mode != _INCREMENTAL:
                    connection.execute(f"PRAGMA auto_vacuum={_INCREMENTAL}").close()
                    connection.execute("VACUUM").close()
        except sqlite3.Error as error:
            log.warning("the journal's file keeps its size", cause=str(error))

    def commit(self, connection: Connection, units: Iterator[Unit], taken: list[Unit]) -> None:
        """Run units in one transaction and COMMIT. `taken` gets those whose callers still wait.

        Raises:
            CommitInDoubt: for `taken`, `committed` says what has become of it.

        Otherwise what the database or the disk did wrong: then nothing happened, and `taken` says to whom.
        """
        began = time.perf_counter()
        try:
            transaction = connection.begin()
        except BaseException:
            # Nobody has been asked yet, and all of them wait for an answer.
            taken += [unit for unit in units if unit.done.set_running_or_notify_cancel()]
            raise
        with transaction:
            for unit in units:
                if unit.done.set_running_or_notify_cancel():
                    taken.append(unit)
                    _run(connection, unit)
            ran = time.perf_counter()
            self._before_commit()
            self._commit(connection, transaction)
        self.cost.commits += 1
        self.cost.unit_seconds += ran - began
        self.cost.commit_seconds += time.perf_counter() - ran
        try:
            self._after_commit(connection)
        except Exception as error:
            roll_back(connection)
            log.warning("tidying after a commit failed, later", error=type(error).__name__)

    def _commit(self, connection: Connection, transaction: RootTransaction) -> None:
        number = connection.scalar(_NUMBER) if connection.dialect.name == "postgresql" else None
        try:
            transaction.commit()
        except DBAPIError as error:
            if number is None or not connection.invalidated:
                raise
            raise CommitInDoubt(number) from error

    def committed(self, number: str) -> bool | None:
        """Whether a transaction whose COMMIT got no answer has happened; None: it has not ended yet.

        Raises DBAPIError: the server cannot be asked.
        """
        # On a connection of its own, without the lock: to ask is free to everybody.
        with self._reading.connect() as connection:
            try:
                status = connection.scalar(_STATUS, {"number": number})
            except DataError:
                return False  # a server that never heard of it: another one has taken over
        return None if status == "in progress" else status == "committed"

    @staticmethod
    def let_go(connection: Connection) -> None:
        """Before the writer's connection is closed: who opens the journal next finds it free."""
        with suppress(DBAPIError):  # a server that went away has let it go itself
            let_session_go(connection)

    @staticmethod
    def read(connection: Connection, work: Work[T]) -> T:
        """Run a unit that only reads, on a reader's connection."""
        with connection.begin():
            return work(connection)

    @property
    def at_server(self) -> bool:
        """Whether the database is a server's, which may be away, and no file."""
        return self._reading.dialect.name != "sqlite"

    def away(self, error: DBAPIError) -> bool:
        """Whether an error means that a server is away, and may come back."""
        if not self.at_server:
            return False
        return error.connection_invalidated or isinstance(error, OperationalError | InterfaceError)

    def dispose(self) -> None:
        """Let the database go. May be called twice."""
        self._engine.dispose()
        self._reading.dispose()
        if self._lock is not None:
            self._lock.close()


def too_old(connection: Connection) -> str:
    """Why the server of a connection is none for a journal, in words that fit after "is at"; empty if it is one."""
    version = connection.dialect.server_version_info if connection.dialect.name == "postgresql" else None
    if version is None or version >= _POSTGRESQL_MIN:
        return ""
    return f"PostgreSQL {'.'.join(map(str, version))}: {_POSTGRESQL_MIN[0]} or later is needed"


def settle(taken: list[Unit], error: BaseException | None = None) -> None:
    """Hand results, or one error for all, to the callers that have no answer yet."""
    for unit in taken:
        if unit.done.done():
            continue
        if error is None:
            unit.done.set_result(unit.result)
        else:
            unit.done.set_exception(error)


def cause_of(error: Exception) -> str:
    """Why nothing could be committed, in the words of disk or database: no statement and no value of it.

    The first error counts: a full disk ends the transaction, and then there is no savepoint to go back to.
    """
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, DBAPIError | OSError):
            error = seen
        seen = seen.__context__
    if isinstance(error, DBAPIError) and error.orig is not None:
        return " ".join(str(error.orig).split())  # what libpq says has lines of its own
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return type(error).__name__


def sqlite_url(path: Path) -> str:
    """The URL of a journal in a file."""
    return f"sqlite:///{path}"


def _run(connection: Connection, unit: Unit) -> None:
    """One unit under its savepoint. What the disk or database did wrong is raised, to end the transaction."""
    try:
        with savepoint(connection, "unit"):
            unit.result = unit.work(connection)
    except Exception as error:
        # Whatever the unit made of it: where the connection is gone, so is the transaction.
        if connection.invalidated or isinstance(error, OperationalError | InternalError | InterfaceError | OSError):
            raise
        unit.done.set_exception(error)


def roll_back(connection: Connection) -> None:
    """Leave the connection usable even where SQLite has already ended the transaction by itself."""
    try:
        connection.rollback()
    except SQLAlchemyError:
        connection.invalidate()
        connection.rollback()


@contextmanager
def savepoint(connection: Connection, name: str) -> Iterator[None]:
    """What happens inside the block happens, or none of it. `name`: of this program, not of anybody's input.

    In two words to the driver: SQLAlchemy's own would be put together and compiled anew each time.
    """
    connection.exec_driver_sql(f"SAVEPOINT {name}")
    try:
        yield
    except BaseException:
        # Where the database has ended the transaction by itself, or a server went away, there is no savepoint to go
        # back to. Whatever comes of trying, what was raised first is what happened.
        with suppress(SQLAlchemyError):
            connection.exec_driver_sql(f"ROLLBACK TO SAVEPOINT {name}")
            connection.exec_driver_sql(f"RELEASE SAVEPOINT {name}")
        raise
    connection.exec_driver_sql(f"RELEASE SAVEPOINT {name}")


def _engine(url: str, synchronous: str, begin: str) -> Engine:
    engine = create_engine(url, poolclass=NullPool)
    if engine.dialect.name == "sqlite":

        def set_up(connection: sqlite3.Connection, _: object) -> None:
            # How free pages are given back is settled by the first page that is written: it comes first.
            # The driver's own transaction control would begin late and never IMMEDIATE.
            connection.isolation_level = None
            for pragma in ("auto_vacuum=INCREMENTAL", "journal_mode=WAL", f"synchronous={synchronous}", *_PRAGMAS):
                connection.execute(f"PRAGMA {pragma}").close()

        def do_begin(dbapi_connection: PoolProxiedConnection) -> None:
            dbapi_connection.cursor().execute(begin).close()

        # Of the pool and the dialect, not of the engine: an engine with listeners asks them at every statement.
        event.listen(engine.pool, "connect", set_up)
        engine.dialect.do_begin = do_begin  # type: ignore[method-assign]
    return engine
