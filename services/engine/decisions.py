"""What operators decide of jobs, and what their contracts' expiry decides: an event of the job's chain each."""

from collections.abc import Callable
from typing import Final

from sqlalchemy import Connection, bindparam, select

from protocol.effects import AnyDecision, ApproveDecided, CancelDecided, DeclineDecided, Expired, RevokeDecided
from protocol.state import APPROVAL, PROVIDER, SIDES
from services.engine import jobs
from services.engine.jobs import JobRecord, Status
from services.engine.notices import Notices
from services.engine.stepping import Stepper
from services.store import chain
from services.store.journal import Journal
from services.store.journal_schema import jobs as jobs_table
from services.store.journal_schema import progress as progress_table

Tell = Callable[[Notices], None]

_ASKS: Final = select(progress_table.c.job).where(
    progress_table.c.job == bindparam("this_job"),
    progress_table.c.stage == APPROVAL,
    progress_table.c.waits_for == "",
)


class JobUnknown(Exception):
    """The journal has no such job."""


class JobOver(Exception):
    """The job has ended already. The text says how."""


class NotPending(Exception):
    """The job does not wait for this party's steward."""


class NotProvider(Exception):
    """The job uses no data of this party that it could take back: it is the business of it."""


class Decisions:
    """The part of `services.engine.runner.Runner` that decides; arguments as there."""

    def __init__(self, journal: Journal, stepper: Stepper, tell: Tell, clock: Callable[[], float]) -> None:
        self._journal = journal
        self._stepper = stepper
        self._tell = tell
        self._clock = clock

    async def cancel(self, job: str, reason: str) -> None:
        """The operator ends a job. Raises JobUnknown, JobOver."""
        await self._decide(job, CancelDecided(reason=reason))

    async def answer(self, job: str, event: ApproveDecided | DeclineDecided) -> None:
        """The steward answers a job that waits for it. Raises JobUnknown, JobOver, NotPending."""
        await self._decide(job, event)

    async def revoke(self, job: str, reason: str) -> None:
        """This provider takes its consent to a job back. Raises JobUnknown, JobOver, NotProvider."""
        await self._decide(job, RevokeDecided(reason=reason))

    async def _decide(self, job: str, event: AnyDecision) -> None:
        if over := await self._apply(job, event, chain.DECIDED):
            raise JobOver(over)

    async def expire(self) -> None:
        """Deliver `Expired` to every job whose contract has run out."""
        now = self._clock()

        def due(connection: Connection) -> list[str]:
            table = jobs_table
            where = (table.c.status == Status.RUNNING.value, table.c.expires_at > 0, table.c.expires_at <= now)
            return list(connection.scalars(select(table.c.job).where(*where).order_by(table.c.job)))

        for job in await self._journal.read(due):
            await self._apply(job, Expired(), chain.DEADLINE)

    async def _apply(self, job: str, event: AnyDecision | Expired, kind: str) -> str:
        """Apply a decision; of a job that is over, only say how it ended."""

        def unit(connection: Connection) -> tuple[Notices, str]:
            record = jobs.load(connection, job)
            if record is None:
                raise JobUnknown(f"there is no job {job}")
            notices = Notices()
            if not record.running:
                return notices, f"job {job} is over already: {_ending(record)}"
            _expect_fit(connection, record, event)
            self._stepper.apply(connection, record, event, notices, kind=kind)
            if isinstance(event, Expired):
                record.expires_at = 0.0
            jobs.save(connection, record)
            return notices, ""

        notices, over = await self._journal.write(unit)
        self._tell(notices)
        return over


def _expect_fit(connection: Connection, record: JobRecord, event: AnyDecision | Expired) -> None:
    """A decision that the machine has no row for would be a fault of this program: say so before it gets there."""
    match event:
        case ApproveDecided() | DeclineDecided() if not asks_steward(connection, record.job):
            raise NotPending(f"job {record.job} does not wait for its steward")
        case RevokeDecided() if SIDES.get(record.role) != PROVIDER:
            raise NotProvider(f"job {record.job} is this party's own: `warren cancel` ends it")
        case _:
            return


def asks_steward(connection: Connection, job: str) -> bool:
    """Whether a job waits for this party's own steward."""
    return connection.scalar(_ASKS, {"this_job": job}) is not None


def _ending(record: JobRecord) -> str:
    how = record.outcome or record.status
    return f"{how} ({record.reason})" if record.reason else how
