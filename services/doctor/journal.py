"""The journal: one daemon on it, this party's, of this schema."""

import contextlib
import fcntl
import os
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, create_engine, inspect, make_url, select
from sqlalchemy.exc import SQLAlchemyError

from services.daemon.control import JOURNAL_AWAY, ControlClient, ControlError
from services.doctor.finding import Finding, Patient, fault, fine, note
from services.store.data_directory import JOURNAL
from services.store.journal import sqlite_url
from services.store.journal_lock import file_owner, session_owner, shown
from services.store.journal_schema import SCHEMA_VERSION, meta
from services.store.transactions import too_old

ANSWER_TIMEOUT_S: Final = 15.0


def ask_daemon(patient: Patient, verb: str, **arguments: Any) -> Any:
    """What the daemon of this data directory answers; None where none runs. Raises ControlError for its refusal."""
    if not patient.data_directory.is_dir():
        return None
    try:
        with ControlClient(patient.data_directory, ANSWER_TIMEOUT_S) as client:
            return client.ask(verb, **arguments)
    except ControlError as error:
        if error.code == "unreachable":
            return None
        raise


def check_journal(patient: Patient) -> list[Finding]:
    """Who works on the journal, and whether it is this party's."""
    status, found = _daemon(patient)
    url = patient.file.journal or sqlite_url(patient.data_directory / JOURNAL)
    where = shown(url)
    try:
        owner, facts, old = _look(url)
    except (SQLAlchemyError, OSError) as error:
        why = getattr(error, "orig", None) or error
        advice = "start the database, or correct the key journal in party.toml; nothing runs without a journal"
        return [*found, fault("journal", "journal_unreachable", f"the journal {where} cannot be read: {why}", advice)]
    if old:
        advice = "bring the server up to date, or name another one with the key journal in party.toml"
        return [*found, fault("journal", "journal_server_old", f"the journal {where} is at {old}", advice)]
    mine = status is not None and f"process {status['pid']}" in owner
    if owner and not mine:
        what = f"another daemon works on the journal {where}: {owner}"
        advice = (
            "stop that daemon, or give this party a journal of its own (the key journal in party.toml): two daemons on "
            "one journal would each undo what the other one does, so the second never starts"
        )
        found.append(fault("journal", "journal_taken", what, advice))
    return [*found, *_contents(patient, where, facts, taken=bool(owner) and not mine)]


def _daemon(patient: Patient) -> tuple[dict[str, Any] | None, list[Finding]]:
    try:
        status = ask_daemon(patient, "status")
    except ControlError as error:
        if error.code != JOURNAL_AWAY:
            raise
        # What is wrong is found at the journal itself.
        return None, [fine("daemon", "a daemon runs here, and waits for its journal")]
    return status, [fine("daemon", f"a daemon runs here, process {status['pid']}")] if status else _no_daemon(patient)


def _no_daemon(patient: Patient) -> list[Finding]:
    lock = patient.data_directory / "lock"
    if lock.exists() and _locked(lock):
        what = f"a process has the lock of {patient.data_directory} and does not answer"
        return [fault("daemon", "daemon_silent", what, "look at its log; kill it if it hangs, and start it again")]
    return [note("daemon", "daemon_not_running", "no daemon runs here", f"start it: `warren serve {patient.path}`")]


def _locked(lock: Path) -> bool:
    file = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(file)
    return False


def _look(url: str) -> tuple[str, dict[str, str], str]:
    """(who works on it, what its table `meta` says, why its server is too old). Raises SQLAlchemyError, OSError."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        path = Path(parsed.database or "")
        if not path.exists():
            return "", {}, ""
        # Immutable or not, a reader must not make the files of a write-ahead log where there is no daemon.
        engine = create_engine(f"sqlite:///file:{path}?mode=ro&uri=true")
    else:
        engine = create_engine(url, connect_args={"connect_timeout": 10})
    with contextlib.closing(_Disposing(engine)), engine.connect() as connection:
        owner = session_owner(connection) if parsed.get_backend_name() == "postgresql" else file_owner(path)
        return owner, _facts(connection), too_old(connection)


class _Disposing:
    """An engine that is let go at the end of a block."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine

    def close(self) -> None:
        """Let it go."""
        self._engine.dispose()


def _facts(connection: Connection) -> dict[str, str]:
    if meta.name not in inspect(connection).get_table_names():
        return {}
    return {key: value for key, value in connection.execute(select(meta.c.key, meta.c.value))}


def _contents(patient: Patient, where: str, facts: dict[str, str], *, taken: bool) -> list[Finding]:
    party, schema = facts.get("party", patient.file.name), facts.get("schema", str(SCHEMA_VERSION))
    found = []
    if party != patient.file.name:
        what = f"the journal {where} is {party}'s, not {patient.file.name}'s"
        found.append(fault("journal", "journal_foreign", what, "give each party a journal of its own in party.toml"))
    if schema != str(SCHEMA_VERSION):
        what = f"the journal {where} has schema {schema}, this version of Warren works with {SCHEMA_VERSION}"
        advice = "`warren serve` brings an older one up to date; a newer one needs the version that wrote it"
        found.append(note("journal", "journal_schema", what, advice))
    if found or taken:
        return found
    return [fine("journal", f"{where}, schema {schema}" if facts else f"{where} is not there yet: `serve` makes it")]
