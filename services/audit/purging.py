"""Purging while no daemon runs, and what every purge has to do besides the journal."""

import asyncio
import dataclasses
import sqlite3
import time
from pathlib import Path

from services.engine.purging import Purged, purge
from services.engine.records import AuditError
from services.models.store import MODELS
from services.party.configuration import Party
from services.store.blobs import BlobStore
from services.store.data_directory import DataDirectory
from services.store.job_secrets import JobSecrets
from services.store.journal import ThreadedJournal, sqlite_url


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
        if not party.file.journal:
            truncate_log(directory.journal)
    return with_results(party, done)


def with_results(party: Party, done: Purged) -> Purged:
    """Say where the model still lies, if it does."""
    results, model = (party.data_directory / place / done.job for place in ("results", MODELS))
    return dataclasses.replace(
        done, results=str(results) if results.exists() else "", model=str(model) if model.exists() else ""
    )
