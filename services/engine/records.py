"""What the journal holds of a job, for those who look at it afterwards."""

from sqlalchemy import Connection, select

from protocol.effects import ControlReceived, Started
from protocol.machines import contract_of
from services.engine import jobs
from services.engine.jobs import JobRecord
from services.store import retention
from services.store.journal_schema import events


class AuditError(Exception):
    """What cannot be exported, replayed or purged, and why: a sentence for the operator."""


def record_of(connection: Connection, job: str) -> JobRecord:
    """The row of a job. Raises AuditError."""
    record = jobs.load(connection, job)
    if record is None:
        raise AuditError(f"there is no job {job}; `warren jobs` lists them")
    return record


def contract_of_job(connection: Connection, job: str) -> tuple[bytes, float]:
    """(contract, time of the purge or 0) of a job."""
    found = retention.contract_of(connection, job)
    if found is not None:
        return found
    # A job of a version that did not note contracts: its first event has it.
    first = connection.scalar(select(events.c.event).where(events.c.job == job).order_by(events.c.position).limit(1))
    event = jobs.decode_event(first) if first else None
    return (contract_of(event) if isinstance(event, Started | ControlReceived) else b""), 0.0
