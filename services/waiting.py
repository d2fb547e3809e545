"""What a job that runs waits for, and why: what `warren jobs` and `warren job` say of it.

A wait is never an error here and has no end of its own: partner, broker or disk may be away for as long as they like.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from sqlalchemy import Connection, bindparam, func, insert, select, update

from broker.transport import TransportState
from services.jobs import Status
from services.journal_schema import jobs, outbox, partners, tasks
from services.limits import BULK_WINDOW_BYTES

_HEARD: Final = update(partners).where(partners.c.partner == bindparam("this_partner")).values(heard_at=bindparam("at"))
_HEARD_FIRST: Final = insert(partners)


class Why(StrEnum):
    """Why a job does not go on at this moment."""

    OWN_WORK = "own_work"
    PARTNER_TURN = "partner_turn"
    PARTNER_SILENT = "partner_silent"
    BROKER_AWAY = "broker_away"
    BROKER_REFUSES = "broker_refuses"
    JOURNAL_STUCK = "journal_stuck"
    PARTNER_UNTOLD = "partner_untold"


@dataclass(frozen=True, slots=True)
class Waiting:
    """What a job waits for.

    Attributes:
        waits_for: the partner's name, `broker`, `journal` or `own work`.
        why: one of `Why`.
        since: commit time of the job's last event, seconds since 1970.
        heard_at: when the last verified message or receipt of the partner was committed here; 0: never.
        detail: the rest of the sentence.

    """

    waits_for: str
    why: Why
    since: float
    heard_at: float
    detail: str


@dataclass(frozen=True, slots=True)
class Facts:
    """What the journal knows of a job's wait. `unconfirmed`: messages sent that have no receipt."""

    job: str
    partner: str
    running: bool
    since: float
    heard_at: float
    unconfirmed: int
    tasks: int
    works: bool


def note_sign(connection: Connection, partner: str, at: float) -> None:
    """A verified message of the partner is being committed."""
    if connection.execute(_HEARD, {"this_partner": partner, "at": at}).rowcount == 0:
        connection.execute(_HEARD_FIRST, {"partner": partner, "heard_at": at})


def facts(connection: Connection, job: str = "") -> list[Facts]:
    """Of a job, or of all, in the order of `services.jobs.views`."""
    mine = select(func.count()).where(tasks.c.job == jobs.c.job)
    rows = connection.execute(
        select(
            jobs.c.job,
            jobs.c.partner,
            jobs.c.status,
            jobs.c.updated_at,
            jobs.c.unreceipted_bytes,
            func.coalesce(partners.c.heard_at, 0.0).label("heard_at"),
            mine.scalar_subquery().label("tasks"),
            mine.where(tasks.c.sends_bulk.is_(False)).scalar_subquery().label("free"),
            select(func.count())
            .where(outbox.c.job == jobs.c.job, outbox.c.sequence > 0)
            .scalar_subquery()
            .label("unconfirmed"),
        )
        .outerjoin(partners, partners.c.partner == jobs.c.partner)
        .where(jobs.c.job == job if job else jobs.c.job != "")
        .order_by(jobs.c.created_at, jobs.c.job)
    )
    return [
        Facts(
            job=row.job,
            partner=row.partner,
            running=row.status == Status.RUNNING.value,
            since=row.updated_at,
            heard_at=row.heard_at,
            unconfirmed=row.unconfirmed,
            tasks=row.tasks,
            # Tasks that would send more bulk than one window do not run until there are receipts.
            works=row.free > 0 or (row.tasks > 0 and row.unreceipted_bytes < BULK_WINDOW_BYTES),
        )
        for row in rows
    ]


def waiting(known: Facts, transport: TransportState, *, refused: str, stuck: str) -> Waiting | None:
    """What a job waits for; None for one that is over and whose partner knows it.

    Args:
        known: from `facts`.
        transport: its present state.
        refused: why the broker does not take the job's next message; empty if it does.
        stuck: why nothing can be written here; empty if it can.

    """

    def answer(waits_for: str, why: Why, detail: str) -> Waiting:
        return Waiting(waits_for, why, known.since, known.heard_at, detail)

    untold = f"it has not confirmed {known.unconfirmed} of our messages"
    if not known.running:
        if not known.unconfirmed:
            return None
        ended = "the job is over here; " + (untold if transport.up else f"{untold}; {transport.detail}")
        return answer(known.partner, Why.PARTNER_UNTOLD, ended)
    if stuck:
        return answer("journal", Why.JOURNAL_STUCK, f"it cannot write ({stuck}): is there room on the disk?")
    if known.works:
        return answer("own work", Why.OWN_WORK, f"{known.tasks} tasks to compute here")
    if not transport.up:
        return answer("broker", Why.BROKER_AWAY, transport.detail)
    if refused:
        return answer("broker", Why.BROKER_REFUSES, refused)
    if known.unconfirmed and known.heard_at < known.since:
        return answer(known.partner, Why.PARTNER_SILENT, f"{untold}, and given no sign since")
    return answer(known.partner, Why.PARTNER_TURN, untold if known.unconfirmed else "it has everything; its turn")


def waits(
    known: Sequence[Facts], transport: TransportState, refusals: dict[str, str], stuck: str
) -> dict[str, Waiting]:
    """`waiting` of each job that waits, by its identifier."""
    found = {item.job: waiting(item, transport, refused=refusals.get(item.job, ""), stuck=stuck) for item in known}
    return {job: item for job, item in found.items() if item is not None}
