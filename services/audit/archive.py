"""The files that the proofs of old jobs go to when they leave the journal: `<data directory>/archive/<job>.partner`.

Each is the export for partners, signed by this party: `warren audit verify` reads it like any other.
"""

import os

from sqlalchemy import Connection

from services.audit.export_file import PARTNER
from services.audit.exporting import Exported, archive_of, export
from services.party.configuration import Party
from services.store.data_directory import sync_directory


def write_archive(connection: Connection, party: Party, job: str) -> Exported:
    """Write the file of a job, durable on return; one of an attempt before is replaced.

    Raises AuditError, ConfigError (a partner is no peer any more), OSError.
    """
    path = archive_of(party, job)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = path.with_name(f".{path.name}")
    fresh.unlink(missing_ok=True)
    done = export(connection, party, job, PARTNER, fresh)
    with fresh.open("rb") as file:
        os.fsync(file.fileno())
    fresh.rename(path)
    sync_directory(path.parent)
    return done
