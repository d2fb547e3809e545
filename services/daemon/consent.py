"""What stands over all jobs of a party: consents taken back, pauses, and what a policy says of jobs together.

Decisions that stand are in `orders.json`, written before anybody acts on them. What they do to a job is an event of
that job, so an audit needs nothing but its chain.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import structlog
from sqlalchemy import ColumnElement, Connection, func, select

from protocol.consenting import REVOKED
from protocol.contract import ContractError
from protocol.effects import DeclineDecided, RevokeDecided
from protocol.policy import PolicyBook, read_policy
from protocol.scoring_contract import AnyContract, read_any
from protocol.state import PROVIDER, SIDES
from services.engine.decisions import Decisions, JobOver, JobUnknown
from services.engine.gate import Gate
from services.engine.jobs import JobRecord, Status
from services.engine.starting import rest
from services.party.quiet_hours import QuietHours
from services.store import retention
from services.store.journal import Journal, JournalUnavailable
from services.store.journal_schema import jobs as jobs_table
from services.store.ledger import DAY_S
from services.store.orders import Orders, Revocation, read_orders, write_orders

log = structlog.get_logger("consent")

_RUNNING: Final = (
    select(jobs_table.c.job, jobs_table.c.role)
    .where(jobs_table.c.status == Status.RUNNING.value)
    .order_by(jobs_table.c.job)
)


class OrderUnknown(Exception):
    """There is nothing of this to take back."""


class Consent:
    """See the module docstring. All methods but `objection` belong on the daemon's event loop.

    Raises OrdersDamaged.
    """

    def __init__(
        self,
        party: str,
        data_directory: Path,
        journal: Journal,
        settings: Mapping[str, Any],
        clock: Callable[[], float],
    ) -> None:
        self._party = party
        self._directory = data_directory
        self._journal = journal
        self._clock = clock
        self._orders = read_orders(data_directory)
        self._turn = asyncio.Lock()
        self._policies = read_policy(dict(settings.get("policy", {})))
        self._hours: dict[str, QuietHours] = {}
        self.gate = Gate(self._quiet)
        self.gate.pause(self._orders.paused_jobs, self._orders.paused_partners)
        self._enforced = False

    def attach(self, decisions: Decisions, look_again: Callable[[Sequence[str]], None]) -> None:
        """`decisions` takes what is decided of a job to the journal; `look_again` hears of jobs that rest or go on."""
        self._decisions = decisions
        self._look_again = look_again

    def renew(self, policies: PolicyBook) -> None:
        """Judge jobs together by other policies from now on."""
        self._policies = policies
        self.look()

    @property
    def orders(self) -> Orders:
        """What stands."""
        return self._orders

    # -- proposals, inside a unit of work ---------------------------------------------------------------------

    def objection(self, connection: Connection, record: JobRecord) -> DeclineDecided | RevokeDecided | None:
        """What stands against a job that was just proposed."""
        contract = _contract_of(connection, record.job)
        if contract is None:
            return None
        revocation = self._revocation_of(contract)
        if revocation is not None:
            return RevokeDecided(reason=revocation.reason)
        return self._quota(connection, record.partner, record.job)

    def _quota(self, connection: Connection, partner: str, job: str = "") -> DeclineDecided | None:
        """What the policy says of jobs of one partner together; those that were declined do not count."""
        policy = self._policies.of(partner)
        if policy.jobs_max is not None:
            running = _jobs_of(connection, partner, job, jobs_table.c.status == Status.RUNNING.value)
            if running >= policy.jobs_max:
                reason = f"{running} jobs of {partner} are running: the policy has jobs_max = {policy.jobs_max}"
                return DeclineDecided(reason_code="jobs_max", reason=reason)
        if policy.jobs_per_period is not None:
            begun = _jobs_of(
                connection, partner, job, jobs_table.c.created_at > self._clock() - policy.period_days * DAY_S
            )
            if begun >= policy.jobs_per_period:
                reason = (
                    f"{partner} has begun {begun} jobs within {policy.period_days:g} days: the policy has "
                    f"jobs_per_period = {policy.jobs_per_period}"
                )
                return DeclineDecided(reason_code="jobs_per_period", reason=reason)
        return None

    async def against(self, partner: str, contract: bytes) -> tuple[str, str]:
        """(code, reason) of what would stand against a contract that a partner asks about; empty: nothing."""
        try:
            revocation = self._revocation_of(read_any(contract))
        except ContractError:
            return "", ""
        if revocation is not None:
            return REVOKED, f"{self._party} revoked its consent: {revocation.reason}"
        found = await self._journal.read(lambda connection: self._quota(connection, partner))
        return (found.reason_code, found.reason) if found is not None else ("", "")

    # -- pace -------------------------------------------------------------------------------------------------

    def rate(self, partner: str) -> float:
        """Bytes of bulk a second that may leave for a partner; 0: any number."""
        return self._policies.of(partner).max_rate

    def _quiet(self, partner: str) -> bool:
        text = self._policies.of(partner).quiet_hours
        if not text:
            return False
        if text not in self._hours:
            self._hours[text] = QuietHours.parse(text)
        return self._hours[text].hold(self._clock())

    # -- orders -----------------------------------------------------------------------------------------------

    def _revocation_of(self, contract: AnyContract) -> Revocation | None:
        try:
            dataset = contract.entry_of(self._party).dataset
        except KeyError:
            return None
        covering = (one for one in self._orders.revoked if one.covers(contract.parties, dataset))
        return next(covering, None)

    # -- revocation -------------------------------------------------------------------------------------------

    async def revoke(self, partner: str, dataset: str, reason: str) -> list[str]:
        """Take back every consent to a partner, for all jobs that run and all to come. Returns the jobs that ended."""
        order = Revocation(partner=partner, dataset=dataset, reason=reason, at=self._clock())
        async with self._turn:
            others = tuple(one for one in self._orders.revoked if (one.partner, one.dataset) != (partner, dataset))
            await self._write(msgspec.structs.replace(self._orders, revoked=(*others, order)))
        self._enforced = False
        return await self.enforce()

    async def allow(self, partner: str, dataset: str) -> None:
        """Take such an order back; jobs that it ended stay so. Raises OrderUnknown."""
        async with self._turn:
            kept = tuple(one for one in self._orders.revoked if (one.partner, one.dataset) != (partner, dataset))
            if len(kept) == len(self._orders.revoked):
                what = f"{partner} and data set {dataset}" if dataset else partner
                raise OrderUnknown(f"nothing is revoked of {what}")
            await self._write(msgspec.structs.replace(self._orders, revoked=kept))

    async def enforce(self) -> list[str]:
        """End what runs against an order: what a crash after the order left running. Returns the jobs that ended."""
        if self._enforced or not self._orders.revoked:
            return []
        ended = []
        for job, order in await self._journal.read(self._revoked_and_running):
            try:
                await self._decisions.revoke(job, order.reason)
            except (JobOver, JobUnknown):
                continue
            ended.append(job)
            log.info("consent revoked", job=job, partner=order.partner)
        # New jobs meet the order when they are proposed.
        self._enforced = True
        return ended

    async def enforce_before(self, stop: asyncio.Event, retry_s: float) -> None:
        """`enforce` before anything runs, however long the journal cannot commit; not after `stop`."""
        while not stop.is_set():
            try:
                await self.enforce()
            except JournalUnavailable:
                log.error("no job goes on yet: the journal cannot commit what orders end")
            else:
                return
            await rest(stop, retry_s)

    def _revoked_and_running(self, connection: Connection) -> list[tuple[str, Revocation]]:
        found = []
        for row in connection.execute(_RUNNING).all():
            contract = _contract_of(connection, row.job) if SIDES.get(row.role) == PROVIDER else None
            order = self._revocation_of(contract) if contract is not None else None
            if order is not None:
                found.append((row.job, order))
        return found

    # -- pauses -----------------------------------------------------------------------------------------------

    async def pause(self, job: str = "", partner: str = "") -> list[str]:
        """Let a job, or all with a partner, rest until `resume`. Returns the jobs that began to. Raises JobUnknown."""
        if job and not self.gate.partners_of(job):
            raise JobUnknown(f"no job {job} is running")
        async with self._turn:
            orders = self._orders
            jobs, partners = {*orders.paused_jobs, job} - {""}, {*orders.paused_partners, partner} - {""}
            return await self._pause(jobs, partners)

    async def resume(self, job: str = "", partner: str = "") -> list[str]:
        """Let it go on. Returns the jobs that do. Raises OrderUnknown."""
        async with self._turn:
            orders = self._orders
            if job not in orders.paused_jobs and partner not in orders.paused_partners:
                why = self.gate.rests(job)
                rests = "" if not why else ": it rests because its partner is paused, or because of quiet hours"
                raise OrderUnknown(f"{job or partner} is not paused{rests}")
            return await self._pause({*orders.paused_jobs} - {job}, {*orders.paused_partners} - {partner})

    async def _pause(self, jobs: set[str], partners: set[str]) -> list[str]:
        kept = tuple(sorted(name for name in jobs if self.gate.partners_of(name)))
        named = tuple(sorted(partners))
        await self._write(msgspec.structs.replace(self._orders, paused_jobs=kept, paused_partners=named))
        self.gate.pause(kept, named)
        return self.look()

    def look(self) -> list[str]:
        """See which jobs began to rest or go on, by pauses or by the time of day."""
        changed = self.gate.look()
        if changed:
            self._look_again(changed)
        return changed

    async def _write(self, orders: Orders) -> None:
        await asyncio.to_thread(write_orders, self._directory, orders)
        self._orders = orders


def _jobs_of(connection: Connection, partner: str, job: str, where: ColumnElement[bool]) -> int:
    """Jobs beside this one that the partner proposed to this party, and that were not declined."""
    answering = [role for role, side in SIDES.items() if side == PROVIDER]
    found = select(func.count()).where(
        jobs_table.c.partner == partner,
        jobs_table.c.role.in_(answering),
        jobs_table.c.job != job,
        jobs_table.c.outcome != "declined",
        where,
    )
    return connection.scalar(found) or 0


def _contract_of(connection: Connection, job: str) -> AnyContract | None:
    noted = retention.contract_of(connection, job)
    try:
        return read_any(noted[0]) if noted is not None else None
    except ContractError:
        return None
