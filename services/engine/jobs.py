"""The row of a job: loaded, changed and saved once per unit of work, with its hash chain and its state."""

import dataclasses
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Select, bindparam, func, insert, select, update

from protocol.effects import AnyEvent, BlobRef
from services.engine import lines
from services.engine.lines import Line, Values
from services.engine.roles import Role
from services.store import chain
from services.store.journal_schema import counters, events, jobs, progress
from services.store.journal_schema import lines as lines_table

STATE_SCHEMA: Final = 2


class Status(StrEnum):
    """Whether a job goes on."""

    RUNNING = "running"
    FINISHED = "finished"
    FROZEN = "frozen"
    ARCHIVED = "archived"
    """Over, and in the journal by name only: see `services.engine.archiving`."""


@dataclass(slots=True)
class JobRecord:
    """One job at this party. `partner`: the first one; `lines`: of each partner, in the order of the contract."""

    job: str
    role: str
    partner: str
    head: bytes
    logic_version: int
    created_at: float
    updated_at: float
    state: bytes = field(default=b"", repr=False)
    state_tag: str = ""
    status: str = Status.RUNNING.value
    outcome: str = ""
    reason_code: str = ""
    reason: str = ""
    results: bytes = field(default=b"", repr=False)
    length: int = 0
    expires_at: float = 0.0
    lines: dict[str, Line] = field(default_factory=dict)
    stored: dict[str, Values] = field(default_factory=dict, repr=False)
    counts: dict[str, int] = field(default_factory=dict)

    def count(self, name: str, by: int = 1) -> None:
        """Add to a statistic of the job, with the next `save`."""
        self.counts[name] = self.counts.get(name, 0) + by

    @property
    def running(self) -> bool:
        """Whether the machine still takes events."""
        return self.status == Status.RUNNING.value

    @property
    def partners(self) -> tuple[str, ...]:
        """All partners, the first one first."""
        return tuple(self.lines)

    def line(self, partner: str) -> Line:
        """The line of a partner; "" is the first. Raises KeyError for one that is no party of the job."""
        return self.lines[partner or self.partner]


_NOT_IN_ROW: Final = frozenset({"lines", "stored", "counts"})
_FIELDS: Final = tuple(item.name for item in dataclasses.fields(JobRecord) if item.name not in _NOT_IN_ROW)

# Built once: to put a statement together costs more than to run it.
_LOAD: Final = (
    select(*(jobs.c[name] for name in _FIELDS), *(lines_table.c[name] for name in lines.FIELDS))
    .join(lines_table, lines_table.c.job == jobs.c.job)
    .where(jobs.c.job == bindparam("this_job"))
    .order_by(lines_table.c.place)
)
_SAVE: Final = update(jobs).where(jobs.c.job == bindparam("this_job"))
_APPEND: Final = insert(events)
_COUNT: Final = (
    update(counters)
    .where(counters.c.job == bindparam("this_job"), counters.c.name == bindparam("this_name"))
    .values(value=counters.c.value + bindparam("by"))
)
_COUNT_FIRST: Final = insert(counters)
_COUNTED: Final = select(counters.c.name).where(counters.c.job == bindparam("this_job"))


def load(connection: Connection, job: str) -> JobRecord | None:
    """The record of a job, or None."""
    rows = connection.execute(_LOAD, {"this_job": job}).all()
    if not rows:
        return None
    record = JobRecord(**dict(zip(_FIELDS, rows[0], strict=False)))
    for row in rows:
        values = tuple(row[len(_FIELDS) :])
        line = Line(*values)
        record.lines[line.partner], record.stored[line.partner] = line, values
    return record


def _values(record: JobRecord) -> dict[str, Any]:
    return {name: getattr(record, name) for name in _FIELDS}


def create(connection: Connection, record: JobRecord) -> None:
    """Insert a new job."""
    connection.execute(insert(jobs), _values(record))
    lines.create(connection, record.job, list(record.lines.values()))
    record.stored = {name: lines.values_of(line) for name, line in record.lines.items()}


def save(connection: Connection, record: JobRecord) -> None:
    """Write a record back, and what was counted on the way."""
    connection.execute(_SAVE, {"this_job": record.job, **_values(record)})
    for name, line in record.lines.items():
        values = lines.values_of(line)
        if values != record.stored[name]:
            lines.save(connection, record.job, line)
            record.stored[name] = values
    if not record.counts:
        return
    # One statement for all that are there already, as they nearly always are.
    counted = [{"this_job": record.job, "this_name": name, "by": by} for name, by in record.counts.items()]
    if connection.execute(_COUNT, counted).rowcount < len(counted):
        known = set(connection.scalars(_COUNTED, {"this_job": record.job}))
        new = [
            {"job": record.job, "name": name, "value": by} for name, by in record.counts.items() if name not in known
        ]
        connection.execute(_COUNT_FIRST, new)
    record.counts.clear()


def restore(record: JobRecord, earlier: JobRecord) -> None:
    """Undo what was done to `record` since `earlier` was copied from it: goes with a savepoint's rollback."""
    for name in _FIELDS:
        setattr(record, name, getattr(earlier, name))
    for name, line in record.lines.items():
        # In place: whoever has the line in hand goes on with it.
        lines.restore(line, lines.values_of(earlier.lines[name]))
    record.counts = earlier.counts


def copy(record: JobRecord) -> JobRecord:
    """A record to `restore` from."""
    copies = {name: dataclasses.replace(line) for name, line in record.lines.items()}
    return dataclasses.replace(record, lines=copies, counts=dict(record.counts))


def append_entry(
    connection: Connection,
    record: JobRecord,
    kind: str,
    at: float,
    *,
    header: bytes = b"",
    signature: bytes = b"",
    salt: bytes = b"",
    event: bytes = b"",
) -> None:
    """Append an entry to the job's hash chain and move its head."""
    salted = chain.event_digest(salt, event)
    record.head = chain.next_head(record.head, chain.entry_digest(kind, header, signature, salted))
    record.length += 1
    record.updated_at = at
    entry = {
        "job": record.job,
        "position": record.length,
        "kind": kind,
        "header": header,
        "signature": signature,
        "salt": salt,
        "event": event,
        "head": record.head,
        "at": at,
    }
    connection.execute(_APPEND, entry)


class SentBody(msgspec.Struct, frozen=True, kw_only=True):
    """The private half of a sent control message in the chain.

    Its body is sealed to the partner and cannot be opened here: the digest of the plaintext lets a replay
    compare what the machine says with what was said. `bytes` is the size of the sealed body.
    """

    plain_sha256: bytes
    bytes: int


# -- state ------------------------------------------------------------------------------------------------


def encode_event(event: AnyEvent) -> bytes:
    """The bytes of an event in the chain."""
    return msgspec.msgpack.encode(event)


def decode_event(data: bytes) -> AnyEvent:
    """The inverse of `encode_event`."""
    event: AnyEvent = msgspec.msgpack.decode(data, type=AnyEvent)
    return event


def state_tag(role: Role) -> str:
    """What a stored state must be tagged with to be used as it is."""
    return f"{STATE_SCHEMA}.{role.logic_version}"


def state_of(connection: Connection, record: JobRecord, role: Role, party: str, *, taken: int = -1) -> Any:
    """The state of a job: from its row when the tag fits, else folded again from the job's events.

    `taken`: how many entries of the chain the machine has taken; all by default.
    """
    if record.state and record.state_tag == state_tag(role):
        return role.decode(record.state)
    return fold(connection, record, role, party, record.length if taken < 0 else taken)


def fold(connection: Connection, record: JobRecord, role: Role, party: str, taken: int) -> Any:
    """Fold `taken` entries through the machine. Effects are ignored: they were carried out at their time."""
    state = role.initial(record.job, party, record.partners)
    rows = connection.scalars(
        select(events.c.event)
        .where(
            events.c.job == record.job,
            events.c.position <= taken,
            events.c.kind.not_in((chain.FAULT, chain.SENT)),
        )
        .order_by(events.c.position)
    )
    for data in rows:
        if data:
            try:
                state, _ = role.step(state, decode_event(data))
            except Exception:
                # The event that ended the job: the chain's next entry is the fault.
                break
    return state


# -- counters -----------------------------------------------------------------------------------------------


def count(connection: Connection, job: str, name: str, by: int = 1) -> None:
    """Add to a statistic. Job `""` is the daemon. Where there is a record at hand, `JobRecord.count` is cheaper."""
    done = connection.execute(_COUNT, {"this_job": job, "this_name": name, "by": by})
    if done.rowcount == 0:
        connection.execute(_COUNT_FIRST, {"job": job, "name": name, "value": by})


def statistics(connection: Connection, job: str) -> dict[str, int]:
    """All statistics of a job, by name."""
    rows = connection.execute(
        select(counters.c.name, counters.c.value).where(counters.c.job == job).order_by(counters.c.name)
    )
    return {name: value for name, value in rows}


# -- views --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ProgressView:
    """Where a job stands. `since`: when stage or the party waited for changed last, seconds since 1970."""

    stage: str
    iteration: int
    iterations: int
    done: int
    total: int
    waits_for: str
    since: float


@dataclass(frozen=True, slots=True)
class JobView:
    """A job for people. `updated_at` is the commit time of its last event.

    `applied`, `sent` and `receipted` count the messages of all partners together.
    """

    job: str
    role: str
    partner: str
    partners: tuple[str, ...]
    status: str
    outcome: str
    reason_code: str
    reason: str
    results: tuple[BlobRef, ...]
    head: str
    length: int
    applied: int
    sent: int
    receipted: int
    created_at: float
    updated_at: float
    expires_at: float
    progress: ProgressView | None


def encode_refs(refs: tuple[BlobRef, ...]) -> bytes:
    """Blob names as bytes, for a row."""
    return msgspec.msgpack.encode(refs)


def decode_refs(data: bytes) -> tuple[BlobRef, ...]:
    """The inverse of `encode_refs`; nothing is no blobs."""
    return msgspec.msgpack.decode(data, type=tuple[BlobRef, ...]) if data else ()


_SHOWN: Final = tuple(name for name in _FIELDS if name != "state")
"""Fields of a record that a view is made of: the state is the largest by far."""
_VIEWS: Final = (
    select(*(jobs.c[name] for name in _SHOWN), *(lines_table.c[name] for name in lines.FIELDS))
    .join(lines_table, lines_table.c.job == jobs.c.job)
    .order_by(jobs.c.created_at, jobs.c.job, lines_table.c.place)
)
_PROGRESS: Final = select(*(column for column in progress.c))


def view(connection: Connection, job: str) -> JobView | None:
    """One job, or None."""
    found = _views(connection, _VIEWS.where(jobs.c.job == job), _PROGRESS.where(progress.c.job == job))
    return found[0] if found else None


def views(connection: Connection) -> list[JobView]:
    """All jobs, oldest first: in two statements, however many there are."""
    return _views(connection, _VIEWS, _PROGRESS)


def _views(connection: Connection, of_jobs: Select[Any], of_progress: Select[Any]) -> list[JobView]:
    stands = {
        row.job: ProgressView(**{name: value for name, value in row._mapping.items() if name != "job"})
        for row in connection.execute(of_progress)
    }
    records: dict[str, JobRecord] = {}
    for row in connection.execute(of_jobs):
        record = records.get(row[0])
        if record is None:
            record = records[row[0]] = JobRecord(**dict(zip(_SHOWN, row, strict=False)))
        line = Line(*row[len(_SHOWN) :])
        record.lines[line.partner] = line
    return [_view_of(record, stands.get(job)) for job, record in records.items()]


def _view_of(record: JobRecord, progress: ProgressView | None) -> JobView:
    return JobView(
        job=record.job,
        role=record.role,
        partner=record.partner,
        partners=record.partners,
        status=record.status,
        outcome=record.outcome,
        reason_code=record.reason_code,
        reason=record.reason,
        results=decode_refs(record.results),
        head=record.head.hex(),
        length=record.length,
        applied=sum(line.applied for line in record.lines.values()),
        sent=sum(line.sent for line in record.lines.values()),
        receipted=sum(line.receipted for line in record.lines.values()),
        created_at=record.created_at,
        updated_at=record.updated_at,
        expires_at=record.expires_at,
        progress=progress,
    )


def with_results(connection: Connection) -> list[str]:
    """Jobs that are done and whose results are named here, oldest first."""
    where = (jobs.c.outcome == "done", func.length(jobs.c.results) > 0)
    return list(connection.scalars(select(jobs.c.job).where(*where).order_by(jobs.c.created_at, jobs.c.job)))


def entries(connection: Connection) -> int:
    """Entries of all hash chains."""
    return connection.scalar(select(func.coalesce(func.sum(jobs.c.length), 0))) or 0


def running_jobs_of(connection: Connection, partner: str, role: str) -> int:
    """How many jobs that `partner` proposed, and in which this party has `role`, are running."""
    where = (jobs.c.partner == partner, jobs.c.role == role, jobs.c.status == Status.RUNNING.value)
    return connection.scalar(select(func.count()).select_from(jobs).where(*where)) or 0
