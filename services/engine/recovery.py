"""What a daemon finds when it starts on a data directory that it left, or that it was torn from."""

from collections.abc import Set
from dataclasses import dataclass

from sqlalchemy import Connection, select

from services.engine import jobs, outbox
from services.engine.jobs import JobRecord, Status
from services.engine.notices import ReadyTask
from services.store.blobs import BlobStore
from services.store.journal_schema import jobs as jobs_table
from services.store.journal_schema import tasks as tasks_table


@dataclass(frozen=True, slots=True)
class Found:
    """What has to go on.

    Attributes:
        records: of jobs that are not over, or have something to send.
        tasks: of running jobs, in their order.
        sending: jobs and partners with messages that have no receipt.
        segments_removed: segments that no blob named.

    """

    records: tuple[JobRecord, ...]
    tasks: tuple[ReadyTask, ...]
    sending: frozenset[tuple[str, str]]
    segments_removed: int


def recover(connection: Connection, blobs: BlobStore) -> Found:
    """Read everything that has to go on, and remove segments that no committed blob names."""
    sending = frozenset(outbox.lines_with_outbox(connection))
    over = (Status.FINISHED.value, Status.ARCHIVED.value)
    going_on = connection.scalars(select(jobs_table.c.job).where(jobs_table.c.status.not_in(over)))
    names = _in_order(connection, {*going_on, *(job for job, _ in sending)})
    records = tuple(found for name in names if (found := jobs.load(connection, name)) is not None)
    running = {record.job: record for record in records if record.running}
    rows = connection.execute(select(tasks_table).order_by(tasks_table.c.id)).all()
    tasks = tuple(
        ReadyTask(
            order=row.id,
            job=row.job,
            partner=row.partner,
            task=row.task,
            function=row.function,
            arguments=row.arguments,
            inputs=jobs.decode_refs(row.inputs),
            sends_bulk=row.sends_bulk,
            logic_version=running[row.job].logic_version,
        )
        for row in rows
        if row.job in running
    )
    return Found(records, tasks, sending, blobs.recover(connection))


def _in_order(connection: Connection, names: Set[str]) -> list[str]:
    """Jobs in the order in which they were created."""
    found = connection.execute(select(jobs_table.c.job, jobs_table.c.created_at).where(jobs_table.c.job.in_(names)))
    return [name for _, name in sorted((row.created_at, row.job) for row in found)]
