"""The control socket's verbs of a steward: which contracts wait, what they say, yes or no."""

from typing import Any

from sqlalchemy import Connection, select

from protocol.consenting import asked_about
from protocol.machines import role_of
from protocol.plain import plain_contract
from protocol.state import APPROVAL
from services.daemon.arguments import job_of, text_of
from services.daemon.control import ControlError, Verb
from services.daemon.daemon import Daemon, JobOver, JobUnknown
from services.engine import jobs
from services.engine.jobs import Status
from services.engine.runner import NotPending
from services.party.configuration import Party
from services.store import retention
from services.store.journal_schema import jobs as jobs_table
from services.store.journal_schema import progress


class ConsentVerbs:
    """The verbs of one daemon that a steward uses."""

    def __init__(self, party: Party, daemon: Daemon) -> None:
        self._party = party
        self._daemon = daemon

    def table(self) -> dict[str, Verb]:
        """Verb names and what answers them."""
        return {"pending": self.pending, "approve": self.approve, "decline": self.decline}

    async def pending(self, request: dict[str, Any]) -> list[dict[str, Any]]:
        """Contracts that wait for this party's steward, oldest first: in plain words, and why it is asked."""
        del request
        return await self._daemon.journal.read(self._pending)

    def _pending(self, connection: Connection) -> list[dict[str, Any]]:
        rows = connection.execute(
            select(jobs_table.c.job, progress.c.since)
            .join(progress, progress.c.job == jobs_table.c.job)
            .where(
                jobs_table.c.status == Status.RUNNING.value, progress.c.stage == APPROVAL, progress.c.waits_for == ""
            )
            .order_by(progress.c.since, jobs_table.c.job)
        )
        return [self._asked(connection, row.job, row.since) for row in rows.all()]

    def _asked(self, connection: Connection, job: str, since: float) -> dict[str, Any]:
        record = jobs.load(connection, job)
        assert record is not None
        role = role_of(record.logic_version, record.role)
        state = jobs.state_of(connection, record, role, self._party.file.name)
        return {
            "job": job,
            "partner": record.partner,
            "contract": words_of(connection, job),
            "exceeded": list(asked_about(state)),
            "since": since,
        }

    async def approve(self, request: dict[str, Any]) -> dict[str, Any]:
        """Let a job that waits begin."""
        job = job_of(request)
        try:
            await self._daemon.approve(job)
        except (JobUnknown, JobOver, NotPending) as error:
            raise refusal(error) from None
        return {"job": job}

    async def decline(self, request: dict[str, Any]) -> dict[str, Any]:
        """Refuse a job that waits; the partner reads the reason."""
        job = job_of(request)
        reason = text_of(request, "reason", "") or "the steward gave no reason"
        try:
            await self._daemon.decline(job, reason)
        except (JobUnknown, JobOver, NotPending) as error:
            raise refusal(error) from None
        return {"job": job}


def words_of(connection: Connection, job: str) -> list[str]:
    """The contract of a job in plain words; nothing where none is noted."""
    noted = retention.contract_of(connection, job)
    return list(plain_contract(noted[0])) if noted is not None and noted[0] else []


def refusal(error: JobUnknown | JobOver | NotPending) -> ControlError:
    """What the command says of a job that cannot be decided about."""
    match error:
        case JobUnknown():
            return ControlError("unknown_job", f"{error}; `warren pending` lists those that wait")
        case JobOver():
            return ControlError("job_over", f"{error}; nothing was changed")
        case _:
            return ControlError("not_pending", f"{error}; `warren pending` lists those that do")
