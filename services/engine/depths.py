"""How much waits where at this moment, read from the journal: for metrics. Counts and sizes only, no value of a job."""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from services.engine import parking
from services.engine.jobs import Status
from services.store.journal_schema import blobs, counters, held, jobs, lines, outbox, partners, progress, tasks


@dataclass(frozen=True, slots=True)
class RunningJob:
    """Where a running job stands. Times are seconds since 1970; `done` of `total` rows of the present stage."""

    job: str
    role: str
    stage: str
    iteration: int
    iterations: int
    done: int
    total: int
    created_at: float
    updated_at: float
    rows: int


@dataclass(frozen=True, slots=True)
class Depths:
    """What waits in a journal.

    Attributes:
        jobs: how many there are by status and outcome (empty while it runs).
        running: those that run, oldest first.
        outbox: (messages, bytes) by partner and traffic class that have no receipt yet or wait for credit.
        outstanding: messages by partner that were given a sequence and have no receipt.
        held: messages by partner that wait for their turn.
        heard: by partner, when its last verified message was committed.
        tasks: compute tasks that wait or run.
        blob_bytes: bulk that is kept.
        parked: how often each reason for parking came up.
        counters: statistics by name, over all jobs and the daemon.

    """

    jobs: Mapping[tuple[str, str], int]
    running: tuple[RunningJob, ...]
    outbox: Mapping[tuple[str, str], tuple[int, int]]
    outstanding: Mapping[str, int]
    held: Mapping[str, int]
    heard: Mapping[str, float]
    tasks: int
    blob_bytes: int
    parked: Mapping[str, int]
    counters: Mapping[str, int]


def depths(connection: Connection) -> Depths:
    """What waits in this journal."""
    waiting = connection.execute(
        select(outbox.c.recipient, outbox.c.bulk, func.count(), func.coalesce(func.sum(outbox.c.bytes), 0)).group_by(
            outbox.c.recipient, outbox.c.bulk
        )
    )
    states = connection.execute(
        select(jobs.c.status, jobs.c.outcome, func.count()).group_by(jobs.c.status, jobs.c.outcome)
    )
    unconfirmed = connection.execute(
        select(lines.c.partner, func.sum(lines.c.sent - lines.c.receipted))
        .join(jobs, jobs.c.job == lines.c.job)
        .where(jobs.c.status != Status.FROZEN.value)
        .group_by(lines.c.partner)
    )
    early = connection.execute(select(held.c.sender, func.count()).group_by(held.c.sender))
    signs = connection.execute(select(partners.c.partner, partners.c.heard_at))
    counted = connection.execute(select(counters.c.name, func.sum(counters.c.value)).group_by(counters.c.name))
    return Depths(
        jobs={(status, outcome): count for status, outcome, count in states},
        running=_running(connection),
        outbox={(partner, "bulk" if bulk else "control"): (count, int(size)) for partner, bulk, count, size in waiting},
        outstanding={partner: int(count or 0) for partner, count in unconfirmed},
        held={sender: count for sender, count in early},
        heard={partner: at for partner, at in signs},
        tasks=connection.scalar(select(func.count()).select_from(tasks)) or 0,
        blob_bytes=int(connection.scalar(select(func.coalesce(func.sum(blobs.c.bytes), 0))) or 0),
        parked=parking.parked_codes(connection),
        counters={name: int(value) for name, value in counted},
    )


def _running(connection: Connection) -> tuple[RunningJob, ...]:
    place = [func.coalesce(column, empty) for column, empty in ((progress.c.stage, ""), (progress.c.iteration, 0))]
    amount = [func.coalesce(column, 0) for column in (progress.c.iterations, progress.c.done, progress.c.total)]
    rows = (
        select(func.coalesce(func.sum(counters.c.value), 0))
        .where(counters.c.job == jobs.c.job, counters.c.name == "rows")
        .scalar_subquery()
    )
    found = connection.execute(
        select(jobs.c.job, jobs.c.role, *place, *amount, jobs.c.created_at, jobs.c.updated_at, rows)
        .outerjoin(progress, progress.c.job == jobs.c.job)
        .where(jobs.c.status == Status.RUNNING.value)
        .order_by(jobs.c.created_at, jobs.c.job)
    )
    return tuple(RunningJob(*cells) for cells in map(tuple, found))
