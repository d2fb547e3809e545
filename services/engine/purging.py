"""Erasing what is kept of a job that has ended. What stays proves as much as before to a partner.

The chain keeps headers, signatures and the salted digest of every event; with the events their salts go, so that
nobody can find out by trying what an event was.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, delete, func, insert, select, update

from services.engine.jobs import Status
from services.engine.records import AuditError, contract_of_job, record_of
from services.store import chain, retention
from services.store.blobs import BlobStore
from services.store.journal_schema import blobs, contracts, events, held, purged
from services.store.journal_schema import jobs as jobs_table
from services.store.journal_schema import outbox as outbox_table


@dataclass(frozen=True, slots=True)
class Purged:
    """What was erased, and what is left."""

    job: str
    events: int
    blobs: int
    bytes: int
    entries: int
    unreceipted: int
    head: str
    results: str = ""
    model: str = ""
    copies: str = ""

    def sentences(self) -> Sequence[str]:
        """For the operator."""
        found = [
            f"erased of job {self.job}: {self.events} events, {self.blobs} blobs ({self.bytes:,} bytes), state, secret",
            f"still provable: {self.entries} entries with headers, signatures and digests up to head {self.head[:16]}; "
            "`warren audit export --for partner` and `verify` work as before, replay does not",
            "the ledger keeps hashes of the job's rows, because the release rules count over all jobs",
        ]
        if self.unreceipted:
            found.append(
                f"{self.unreceipted} sealed messages stay until the partner has confirmed them; only it can open them"
            )
        if kept := " and ".join(place for place in (self.results, self.model) if place):
            found.append(f"the model in {kept} is yours and stays; remove it yourself if it must go")
        if self.copies:
            found.append(f"{self.copies}: the journal as it was before an upgrade holds it still; remove it as well")
        return found


def purge(connection: Connection, store: BlobStore, job: str, now: float) -> Purged:
    """Inside a unit of work: erase. Purging again erases nothing more. Raises AuditError for a job that runs."""
    record = record_of(connection, job)
    if record.status == Status.RUNNING.value:
        raise AuditError(f"job {job} still runs: `warren cancel {job}` first, or wait for its end")
    if record.status == Status.ARCHIVED.value:
        raise AuditError(f"job {job} was purged and archived already: only its name is left in the journal")
    if connection.dialect.name == "sqlite":
        # What is deleted is overwritten, not only forgotten.
        connection.exec_driver_sql("PRAGMA secure_delete=ON")
    _note_contract(connection, job, now)
    erased = _erase_events(connection, job)
    count, size = _blobs_of(connection, job)
    store.retain(connection, job, _still_to_send(connection, job))
    left, left_size = _blobs_of(connection, job)
    connection.execute(delete(held).where(held.c.job == job))
    connection.execute(
        update(jobs_table).where(jobs_table.c.job == job).values(state=b"", state_tag="", results=b"", reason="")
    )
    unreceipted = select(func.count()).select_from(outbox_table).where(outbox_table.c.job == job)
    return Purged(
        job=job,
        events=erased,
        blobs=count - left,
        bytes=size - left_size,
        entries=record.length,
        unreceipted=connection.scalar(unreceipted) or 0,
        head=record.head.hex(),
    )


def _note_contract(connection: Connection, job: str, now: float) -> None:
    """The contract stays: the parties signed it to each other, and a partner's export is checked with it."""
    if retention.contract_of(connection, job) is None:
        retention.note(connection, job, contract_of_job(connection, job)[0], retention.DIGESTS)
    connection.execute(
        update(contracts).where(contracts.c.job == job, contracts.c.purged_at == 0.0).values(purged_at=now)
    )


def _erase_events(connection: Connection, job: str) -> int:
    where = (events.c.job == job, func.length(events.c.event) > 0)
    count = 0
    while rows := connection.execute(
        select(events.c.position, events.c.salt, events.c.event).where(*where).order_by(events.c.position).limit(500)
    ).all():
        connection.execute(
            insert(purged),
            [{"job": job, "position": row.position, "digest": chain.event_digest(row.salt, row.event)} for row in rows],
        )
        last = rows[-1].position
        connection.execute(
            update(events).where(events.c.job == job, events.c.position <= last).values(salt=b"", event=b"")
        )
        count += len(rows)
    return count


def _blobs_of(connection: Connection, job: str) -> tuple[int, int]:
    row = connection.execute(select(func.count(), func.sum(blobs.c.bytes)).where(blobs.c.job == job)).one()
    return row[0], row[1] or 0


def _still_to_send(connection: Connection, job: str) -> dict[bytes, int]:
    """How often messages without a receipt refer to each blob."""
    where = (outbox_table.c.job == job, outbox_table.c.bulk.is_(True))
    return dict(Counter(connection.scalars(select(outbox_table.c.sha256).where(*where))))
