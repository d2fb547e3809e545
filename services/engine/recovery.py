"""What a daemon finds when it starts on a data directory that it left, or that it was torn from."""

from dataclasses import dataclass

from sqlalchemy import Connection, select

from services.engine import jobs, outbox
from services.engine.jobs import JobRecord
from services.engine.notices import ReadyTask
from services.store.blobs import BlobStore
from services.store.journal_schema import jobs as jobs_table
from services.store.journal_schema import tasks as tasks_table


@dataclass(frozen=True, slots=True)
class Found:
    """`sending`: jobs and partners with messages that have no receipt. `tasks`: of running jobs, in their order."""

    records: tuple[JobRecord, ...]
    tasks: tuple[ReadyTask, ...]
    sending: frozenset[tuple[str, str]]
    segments_removed: int


def recover(connection: Connection, blobs: BlobStore) -> Found:
    """Read everything that has to go on, and remove segments that no committed blob names."""
    names = connection.scalars(select(jobs_table.c.job).order_by(jobs_table.c.created_at)).all()
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
    sending = frozenset(outbox.lines_with_outbox(connection))
    return Found(records, tasks, sending, blobs.recover(connection))
