"""What a job that runs waits for, and why: what `warren jobs` and `warren job` say of it.

A wait is never an error here and has no end of its own: partner, broker or disk may be away for as long as they like.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from sqlalchemy import Connection, bindparam, func, insert, select, update

from broker.transport import TransportState
from protocol.state import APPROVAL
from services.engine.gate import PAUSED, QUIET
from services.engine.jobs import Status
from services.store.journal_schema import jobs, lines, outbox, partners, progress, tasks
from services.store.limits import BULK_WINDOW_BYTES

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
    STEWARD = "steward"
    PARTNER_STEWARD = "partner_steward"
    PAUSED = "paused"
    QUIET_HOURS = "quiet_hours"
    PARTNER_RESTS = "partner_rests"


@dataclass(frozen=True, slots=True)
class Waiting:
    """What a job waits for.

    Attributes:
        waits_for: the partner's name (or those of several), `broker`, `journal`, `own work` or an approval.
        why: one of `Why`.
        since: commit time of the job's last event, seconds since 1970.
        heard_at: when the last verified message or receipt of the partner was committed here; 0: never. Of several
            partners, the one that was silent for longest.
        detail: the rest of the sentence.

    """

    waits_for: str
    why: Why
    since: float
    heard_at: float
    detail: str


@dataclass(frozen=True, slots=True)
class Side:
    """What the journal knows of one partner of a job. `unconfirmed`: messages sent that have no receipt."""

    partner: str
    heard_at: float
    unconfirmed: int


@dataclass(frozen=True, slots=True)
class Facts:
    """What the journal knows of a job's wait. `turn`: the partners that the machine says it waits for, if any;
    `stage`: in which it does."""

    job: str
    running: bool
    since: float
    sides: tuple[Side, ...]
    turn: frozenset[str]
    tasks: int
    works: bool
    stage: str = ""


def note_sign(connection: Connection, partner: str, at: float) -> None:
    """A verified message of the partner is being committed."""
    if connection.execute(_HEARD, {"this_partner": partner, "at": at}).rowcount == 0:
        connection.execute(_HEARD_FIRST, {"partner": partner, "heard_at": at})


def facts(connection: Connection, job: str = "") -> list[Facts]:
    """Of a job, or of all, in the order of `services.engine.jobs.views`."""
    mine = (jobs.c.job == job) if job else (jobs.c.job != "")
    rows = connection.execute(
        select(
            jobs.c.job,
            jobs.c.status,
            jobs.c.updated_at,
            func.coalesce(progress.c.waits_for, "").label("waits_for"),
            func.coalesce(progress.c.stage, "").label("stage"),
            lines.c.partner,
            lines.c.unreceipted_bytes,
            func.coalesce(partners.c.heard_at, 0.0).label("heard_at"),
            select(func.count())
            .where(outbox.c.job == jobs.c.job, outbox.c.recipient == lines.c.partner, outbox.c.sequence > 0)
            .scalar_subquery()
            .label("unconfirmed"),
        )
        .join(lines, lines.c.job == jobs.c.job)
        .outerjoin(partners, partners.c.partner == lines.c.partner)
        .outerjoin(progress, progress.c.job == jobs.c.job)
        .where(mine)
        .order_by(jobs.c.created_at, jobs.c.job, lines.c.place)
    ).all()
    waiting_tasks = _tasks(connection, job)
    found = []
    for name, group in itertools.groupby(rows, key=lambda row: row.job):
        sides = list(group)
        tasks_of = waiting_tasks.get(name, {})
        # Tasks that would send a partner more bulk than one window do not run until there are receipts of it.
        open_to = {row.partner for row in sides if row.unreceipted_bytes < BULK_WINDOW_BYTES}
        found.append(
            Facts(
                job=name,
                running=sides[0].status == Status.RUNNING.value,
                since=sides[0].updated_at,
                sides=tuple(Side(row.partner, row.heard_at, row.unconfirmed) for row in sides),
                turn=frozenset(row.partner for row in sides) & frozenset(sides[0].waits_for.split(", ")),
                tasks=sum(tasks_of.values()),
                works=any(not bulk or partner in open_to for partner, bulk in tasks_of),
                stage=sides[0].stage,
            )
        )
    return found


def _tasks(connection: Connection, job: str) -> Mapping[str, Mapping[tuple[str, bool], int]]:
    """Tasks that wait, by job: how many for which partner, and whether they make bulk for it."""
    columns = (tasks.c.job, tasks.c.partner, tasks.c.sends_bulk)
    mine = (tasks.c.job == job) if job else (tasks.c.job != "")
    found: dict[str, dict[tuple[str, bool], int]] = {}
    for name, partner, bulk, count in connection.execute(select(*columns, func.count()).where(mine).group_by(*columns)):
        found.setdefault(name, {})[partner, bulk] = count
    return found


def waiting(
    known: Facts,
    transport: TransportState,
    *,
    refused: str,
    stuck: str,
    resting: str = "",
    resting_there: Mapping[str, str] = MappingProxyType({}),
) -> Waiting | None:
    """What a job waits for; None for one that is over and whose partners know it.

    Args:
        known: from `facts`.
        transport: its present state.
        refused: why the broker does not take the job's next message; empty if it does.
        stuck: why nothing can be written here; empty if it can.
        resting: why the job rests here; empty if it does not.
        resting_there: by partner, why it said that the job rests there.

    """
    if not known.running:
        return _over(known, transport)
    here = _here(known, stuck, resting)
    return here or _between(known, transport, refused) or _rests(known, resting_there) or _there(known)


def _answer(known: Facts, waits_for: str, why: Why, detail: str) -> Waiting:
    """Of a wait for what is no partner."""
    return Waiting(waits_for, why, known.since, min(side.heard_at for side in known.sides), detail)


def _of(known: Facts, sides: Sequence[Side], why: Why, detail: str) -> Waiting:
    """Of a wait for partners."""
    return Waiting(
        ", ".join(side.partner for side in sides), why, known.since, min(side.heard_at for side in sides), detail
    )


def _untold(known: Facts) -> list[Side]:
    return [side for side in known.sides if side.unconfirmed]


def _over(known: Facts, transport: TransportState) -> Waiting | None:
    untold = _untold(known)
    if not untold:
        return None
    ended = f"the job is over here; {_unconfirmed(untold)}"
    return _of(known, untold, Why.PARTNER_UNTOLD, ended if transport.up else f"{ended}; {transport.detail}")


def _here(known: Facts, stuck: str, resting: str) -> Waiting | None:
    """What this party itself is waited for."""
    if stuck:
        return _answer(known, "journal", Why.JOURNAL_STUCK, f"it cannot write ({stuck}): is there room on the disk?")
    if resting == PAUSED:
        return _answer(known, "resume", Why.PAUSED, f"paused here: `warren resume {known.job}`, or its partner")
    if known.stage == APPROVAL and not known.turn:
        advice = f"`warren approve {known.job}` or `warren decline {known.job}`"
        return _answer(known, "approval of its steward", Why.STEWARD, advice)
    if resting:
        return _answer(known, "the end of quiet hours", Why.QUIET_HOURS, "nothing is computed or sent here until then")
    if known.works:
        return _answer(known, "own work", Why.OWN_WORK, f"{known.tasks} tasks to compute here")
    return None


def _between(known: Facts, transport: TransportState, refused: str) -> Waiting | None:
    """What lies between the parties, or keeps a partner from answering at all."""
    if not transport.up:
        return _answer(known, "broker", Why.BROKER_AWAY, transport.detail)
    if refused:
        return _answer(known, "broker", Why.BROKER_REFUSES, refused)
    if silent := [side for side in _untold(known) if side.heard_at < known.since]:
        return _of(known, silent, Why.PARTNER_SILENT, f"{_unconfirmed(silent)}, and given no sign since")
    return None


def _rests(known: Facts, resting_there: Mapping[str, str]) -> Waiting | None:
    """Partners that said that they do nothing for the job at present."""
    sides = [side for side in known.sides if resting_there.get(side.partner)]
    if not sides:
        return None
    quiet = all(resting_there[side.partner] == QUIET for side in sides)
    return _of(known, sides, Why.PARTNER_RESTS, "quiet hours there" if quiet else "the job is paused there")


def _there(known: Facts) -> Waiting:
    """Whose turn it is the machine knows best; what is under way to a partner is the next best guess."""
    turn = [side for side in known.sides if side.partner in known.turn] or _untold(known) or list(known.sides)
    waited = [side for side in turn if side.unconfirmed]
    if waited:
        return _of(known, turn, Why.PARTNER_TURN, _unconfirmed(waited))
    if known.stage == APPROVAL:
        names = ", ".join(side.partner for side in turn)
        return _answer(known, f"{names}'s approval", Why.PARTNER_STEWARD, "a steward there has to approve the contract")
    return _of(known, turn, Why.PARTNER_TURN, _turn(turn))


def _turn(sides: Sequence[Side]) -> str:
    return "it has everything; its turn" if len(sides) == 1 else "they have everything; their turn"


def _unconfirmed(sides: Sequence[Side]) -> str:
    who = "it has" if len(sides) == 1 else "they have"
    return f"{who} not confirmed {sum(side.unconfirmed for side in sides)} of our messages"


@dataclass(frozen=True, slots=True)
class Around:
    """What the journal does not know of waits.

    Attributes:
        refusals: why the broker does not take a job's next message, of the jobs of which it does not.
        stuck: why nothing can be written here; empty if it can.
        resting: why jobs rest here, of those that do.
        resting_there: the same of partners, as they said last, by job and partner.

    """

    refusals: Mapping[str, str]
    stuck: str
    resting: Mapping[str, str]
    resting_there: Mapping[tuple[str, str], str]


def waits(known: Sequence[Facts], transport: TransportState, around: Around) -> dict[str, Waiting]:
    """`waiting` of each job that waits, by its identifier."""
    found = {}
    for item in known:
        resting = {side.partner: around.resting_there.get((item.job, side.partner), "") for side in item.sides}
        told = waiting(
            item,
            transport,
            refused=around.refusals.get(item.job, ""),
            stuck=around.stuck,
            resting=around.resting.get(item.job, ""),
            resting_there=resting,
        )
        if told is not None:
            found[item.job] = told
    return found
