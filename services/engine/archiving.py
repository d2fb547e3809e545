"""From a job that is over to its name alone: what keeps a journal from growing with every job it ever had.

A purged job still has headers, signatures and digests of every entry. They are written to a file, the export for
partners (`services.audit.archive`), and then leave the journal. What stays is one row for the job and one for each of
its lines: they refuse a proposal that comes a second time, and answer a partner that still asks for receipts.
"""

from typing import Final

from sqlalchemy import Connection, delete, exists, insert, select

from services.engine import jobs
from services.engine.jobs import Status
from services.store import retention
from services.store.journal_schema import (
    blobs,
    contracts,
    counters,
    events,
    held,
    inbox,
    outbox,
    progress,
    purged,
    tasks,
)
from services.store.journal_schema import jobs as jobs_table

PAGES_FREED_AT_ONCE: Final = 1000
"""Pages of the file that one unit of work gives back: 4 MB, in milliseconds."""

_EMPTIED: Final = (events, purged, inbox, held, contracts, counters, progress, tasks, blobs)


def due(connection: Connection, *, before: float, whole_before: float, at_once: int) -> list[str]:
    """Jobs that ended earlier than `before`, those of which everything is kept `whole_before`; oldest first.

    A job whose partner has not confirmed everything yet stays.
    """
    whole = exists().where(contracts.c.job == jobs_table.c.job, contracts.c.retention == retention.FULL)
    said = exists().where(outbox.c.job == jobs_table.c.job)
    where = (
        jobs_table.c.status == Status.FINISHED.value,
        (~whole & (jobs_table.c.updated_at < before)) | (whole & (jobs_table.c.updated_at < whole_before)),
        ~said,
    )
    oldest = select(jobs_table.c.job).where(*where).order_by(jobs_table.c.updated_at).limit(at_once)
    return list(connection.scalars(oldest))


def archive(connection: Connection, job: str, head: str) -> bool:
    """Inside a unit of work: leave the name of a job that was purged and whose proofs lie in a file up to `head`.

    False, with nothing changed: the chain has gone on since, by a late message of the partner.
    """
    record = jobs.load(connection, job)
    if record is None or record.status != Status.FINISHED.value or record.head.hex() != head:
        return False
    for table in _EMPTIED:
        connection.execute(delete(table).where(table.c.job == job))
    # Put in anew, not changed in its place: there it would keep the room that its state had.
    row = connection.execute(select(jobs_table).where(jobs_table.c.job == job)).one()
    connection.execute(delete(jobs_table).where(jobs_table.c.job == job))
    connection.execute(insert(jobs_table), {**row._mapping, "status": Status.ARCHIVED.value})
    return True


def give_back(connection: Connection) -> int:
    """Inside a unit of work: give pages that nothing is on back to the file system; how many are left to give."""
    if connection.dialect.name != "sqlite":
        return 0
    driver = connection.connection.driver_connection
    assert driver is not None
    # A step of this statement gives one page back, and says so in a row without columns: SQLAlchemy would stop there.
    driver.execute(f"PRAGMA incremental_vacuum({PAGES_FREED_AT_ONCE})").fetchall()
    return int(connection.exec_driver_sql("PRAGMA freelist_count").scalar_one())
