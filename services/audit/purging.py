"""Purging while no daemon runs, and what every purge has to do besides the journal."""

import asyncio
import dataclasses
import sqlite3
import time
from pathlib import Path
from typing import Final

from sqlalchemy import create_engine, make_url, text
from sqlalchemy.pool import NullPool

from services.engine.purging import Purged, purge
from services.engine.records import AuditError
from services.models.store import MODELS
from services.party.configuration import Party
from services.store.blobs import BlobStore
from services.store.data_directory import JOURNAL, DataDirectory
from services.store.job_secrets import JobSecrets
from services.store.journal import ThreadedJournal, sqlite_url
from services.store.journal_schema import events, held, jobs, outbox, tasks
from services.store.migrations import copies_of


def forget_pages(party: Party) -> None:
    """After a purge: what was deleted is not to be found in the database's files either. Blocks.

    SQLite has overwritten the pages, and its write-ahead log still has the old ones: it is emptied. PostgreSQL keeps
    deleted rows in its files: the tables that had any are written anew.
    """
    url = make_url(party.file.journal or sqlite_url(party.data_directory / JOURNAL))
    if url.get_backend_name() == "sqlite":
        truncate_log(Path(url.database or ""))
        return
    engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            for table in HAD_PRIVATE:
                connection.execute(text(f"VACUUM FULL {table.name}"))
    finally:
        engine.dispose()


HAD_PRIVATE: Final = (events, held, outbox, tasks, jobs)
"""Tables whose rows may have held private values of a job that was purged."""


def truncate_log(journal: Path) -> None:
    """Empty SQLite's write-ahead log, where the old pages are still to be read."""
    connection = sqlite3.connect(journal, timeout=10)
    try:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").close()
    finally:
        connection.close()


def purge_stopped(party: Party, job: str) -> Purged:
    """Purge while no daemon runs. Raises AuditError, DirectoryLocked."""
    if not party.data_directory.exists():
        raise AuditError(f"{party.data_directory}: there is no such data directory")
    with DataDirectory(party.data_directory) as directory:
        store = BlobStore(directory.blobs)
        journal = ThreadedJournal(
            party.file.journal or sqlite_url(directory.journal),
            party.file.name,
            before_commit=store.sync,
            after_commit=store.sweep,
        )
        journal.open()
        try:
            done = asyncio.run(journal.write(lambda connection: purge(connection, store, job, time.time())))
        finally:
            journal.close()
            store.close()
        JobSecrets(directory.secrets).erase(job)
        forget_pages(party)
    return with_results(party, done)


def with_results(party: Party, done: Purged) -> Purged:
    """Say where the model still lies, if it does, and what else there is of the job."""
    copies = [] if party.file.journal else copies_of(party.data_directory / JOURNAL)
    results, model = (party.data_directory / place / done.job for place in ("results", MODELS))
    return dataclasses.replace(
        done,
        results=str(results) if results.exists() else "",
        model=str(model) if model.exists() else "",
        copies=", ".join(map(str, copies)),
    )
