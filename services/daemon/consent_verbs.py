"""The control socket's verbs of a steward: contracts that wait, yes or no; taking a yes back; pauses."""

from typing import Any

import msgspec
from sqlalchemy import Connection, select

from protocol.consenting import asked_about
from protocol.machines import role_of
from protocol.plain import plain_contract
from protocol.state import APPROVAL
from services.daemon.arguments import job_of, text_of
from services.daemon.consent import OrderUnknown
from services.daemon.control import ControlError, Verb
from services.daemon.daemon import Daemon, JobOver, JobUnknown
from services.engine import jobs
from services.engine.decisions import NotPending, NotProvider
from services.engine.jobs import Status
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
        return {
            "pending": self.pending,
            "approve": self.approve,
            "decline": self.decline,
            "revoke": self.revoke,
            "allow": self.allow,
            "pause": self.pause,
            "resume": self.resume,
            "orders": self.orders,
        }

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

    async def revoke(self, request: dict[str, Any]) -> dict[str, Any]:
        """Take a consent back: to one job, or to all with a partner, that run and that are yet to come."""
        reason = text_of(request, "reason", "") or "no reason given"
        job, partner = self._whom(request)
        if job:
            try:
                await self._daemon.revoke(job, reason)
            except (JobUnknown, JobOver, NotProvider) as error:
                raise refusal(error) from None
            return {"jobs": [job]}
        dataset = text_of(request, "dataset", "")
        if dataset and dataset not in self._party.datasets:
            raise ControlError("bad_input", f"party.toml has no data set {dataset!r}")
        return {"jobs": await self._daemon.consent.revoke(partner, dataset, reason)}

    async def allow(self, request: dict[str, Any]) -> dict[str, Any]:
        """Take back what was revoked of a partner; jobs that ended by it stay so."""
        partner, dataset = text_of(request, "partner"), text_of(request, "dataset", "")
        try:
            await self._daemon.consent.allow(partner, dataset)
        except OrderUnknown as error:
            raise ControlError("bad_input", f"{error}; `warren orders` shows what is") from None
        return {"partner": partner, "dataset": dataset}

    async def pause(self, request: dict[str, Any]) -> dict[str, Any]:
        """Let a job, or all with a partner, rest: nothing is computed or sent for it until `resume`."""
        job, partner = self._whom(request)
        try:
            return {"jobs": await self._daemon.consent.pause(job, partner)}
        except JobUnknown as error:
            raise ControlError("unknown_job", f"{error}; `warren jobs` lists them") from None

    async def resume(self, request: dict[str, Any]) -> dict[str, Any]:
        """Let what was paused go on."""
        job, partner = self._whom(request)
        try:
            return {"jobs": await self._daemon.consent.resume(job, partner)}
        except OrderUnknown as error:
            raise ControlError("bad_input", f"{error}; `warren orders` shows what is") from None

    async def orders(self, request: dict[str, Any]) -> dict[str, Any]:
        """What stands over jobs: revocations and pauses."""
        del request
        found: dict[str, Any] = msgspec.to_builtins(self._daemon.consent.orders)
        return found

    def _whom(self, request: dict[str, Any]) -> tuple[str, str]:
        """(job, partner), of which one is empty. Raises ControlError."""
        partner = text_of(request, "partner", "")
        if not partner:
            return job_of(request), ""
        if "id" in request:
            raise ControlError("bad_request", "name a job or a partner, not both")
        if partner not in self._party.peers:
            raise ControlError("bad_input", f"{partner!r} is no peer of {self._party.file.name}")
        return "", partner


def words_of(connection: Connection, job: str) -> list[str]:
    """The contract of a job in plain words; nothing where none is noted."""
    noted = retention.contract_of(connection, job)
    return list(plain_contract(noted[0])) if noted is not None and noted[0] else []


def refusal(error: JobUnknown | JobOver | NotPending | NotProvider) -> ControlError:
    """What the command says of a job that cannot be decided about."""
    match error:
        case JobUnknown():
            return ControlError("unknown_job", f"{error}; `warren pending` lists those that wait")
        case JobOver():
            return ControlError("job_over", f"{error}; nothing was changed")
        case NotProvider():
            return ControlError("not_provider", str(error))
        case _:
            return ControlError("not_pending", f"{error}; `warren pending` lists those that do")
