"""One daemon on one journal, whichever data directory it comes from.

SQLite: an exclusive lock on `<journal>.lock` beside the file, held as long as the journal is open; the kernel lets it
go when the process dies. PostgreSQL: an advisory lock of the very session that writes. A session that was lost took
its lock with it, so the next one has to get it before its first transaction: nothing is ever written without it.
"""

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from sqlalchemy import URL, Connection, Engine, event, make_url, text

_KEY: Final = int.from_bytes(b"warren", "big")
"""The advisory lock's number: one journal a database."""
_INFO: Final = "warren_journal_lock"
_NAME_BYTES_MAX: Final = 63


class JournalTaken(Exception):
    """Another daemon works on this journal. The text names both."""


def shown(name: str | URL) -> str:
    """The journal of an SQLAlchemy URL as operators know it: its file, or the URL without the password."""
    url = make_url(name)
    if url.get_backend_name() == "sqlite" and url.database:
        return str(Path(url.database).absolute())
    return url.render_as_string(hide_password=True)


class FileLock:
    """The lock beside a journal in a file, from construction until `close`.

    Raises:
        JournalTaken: another process (or daemon of this one) has it.
        OSError: there can be no such file.

    """

    def __init__(self, journal: Path, owner: str) -> None:
        # The file itself, whatever links lead to it: two names of one journal have one lock.
        path = journal.resolve()
        path = path.with_name(f"{path.name}.lock")
        self._file = -1
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            other = os.pread(self._file, 1000, 0).decode(errors="replace").strip()
            self.close()
            raise JournalTaken(_sentence(str(journal), other)) from None
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, f"{owner}\n".encode(), 0)

    def close(self) -> None:
        """Let the lock go. May be called twice."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        # A daemon that was torn off in a simulation never closed anything; a process that dies closes everything.
        self.close()


def owner_of(party: str) -> str:
    """How a lock names its owner."""
    return f"{party}, process {os.getpid()}"


def lock_file(engine: Engine, party: str) -> FileLock | None:
    """The lock of a journal that is a file; None for other databases. Raises JournalTaken."""
    url = engine.url
    if url.get_backend_name() != "sqlite" or url.database in (None, "", ":memory:"):
        return None
    assert url.database is not None
    return FileLock(Path(url.database), owner_of(party))


def guard_sessions(engine: Engine, party: str) -> None:
    """At PostgreSQL: no session of this engine, which writes, begins a transaction without the lock."""
    if engine.dialect.name == "postgresql":
        event.listen(engine, "begin", lambda connection: lock_session(connection, party))


def lock_session(connection: Connection, party: str) -> None:
    """Before a transaction that writes: have the advisory lock of a PostgreSQL session. Raises JournalTaken."""
    if _INFO in connection.info:
        return
    name = owner_of(party).encode()[:_NAME_BYTES_MAX].decode(errors="ignore")
    connection.execute(text("SELECT set_config('application_name', :name, false)"), {"name": name})
    # A server may be told to answer before a commit is durable; whatever we say after it would be said too early.
    connection.execute(
        text("SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'")
    )
    if not connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": _KEY}):
        raise JournalTaken(_sentence(shown(connection.engine.url), session_owner(connection)))
    connection.info[_INFO] = True


def let_session_go(connection: Connection) -> None:
    """Give the lock of a PostgreSQL session back before it is closed: the server notices the end of one only later."""
    if _INFO in connection.info:
        with connection.begin():
            connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _KEY})
        del connection.info[_INFO]


def file_owner(journal: Path) -> str:
    """Who works on a journal in a file, without taking it; empty for nobody. Raises OSError."""
    path = journal.resolve()
    path = path.with_name(f"{path.name}.lock")
    if not path.exists():
        return ""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        # Shared, and for an instant: who has it for itself is seen, and nobody is kept out for long.
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return os.pread(file, 1000, 0).decode(errors="replace").strip() or "it does not say who"
    finally:
        os.close(file)
    return ""


def session_owner(connection: Connection) -> str:
    """Who works on a journal at PostgreSQL; empty for nobody."""
    row = connection.execute(
        text(
            "SELECT a.application_name, a.client_addr FROM pg_locks l JOIN pg_stat_activity a USING (pid) "
            "WHERE l.locktype = 'advisory' AND l.granted AND l.classid = :high AND l.objid = :low "
            "AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        ),
        {"high": _KEY >> 32, "low": _KEY & 0xFFFFFFFF},
    ).first()
    if row is None:
        return ""
    return row.application_name if row.client_addr is None else f"{row.application_name} at {row.client_addr}"


def _sentence(journal: str, other: str) -> str:
    return (
        f"another daemon works on the journal {journal} ({other or 'it does not say who'}): two daemons on one journal "
        "would each undo what the other one does. Stop that one, or give this party a journal of its own"
    )
