"""One event of one job inside a unit of work: the machine's step, its effects, and how a job ends.

A job can fail here, a daemon cannot: whatever a machine raises ends its own job, with the partner told.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

import structlog
from sqlalchemy import Connection, and_, bindparam, case, func, insert, select, update
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from protocol.effects import (
    STATE_BYTES_MAX,
    AnyEffect,
    AnyEvent,
    Compute,
    Consumed,
    Finish,
    Progress,
    Release,
    RemoteProtocolError,
    Send,
    SendBulk,
    UnexpectedEventError,
)
from services.engine import jobs
from services.engine.endings import Endings
from services.engine.envelopes import Unsendable
from services.engine.jobs import JobRecord
from services.engine.lines import Line
from services.engine.notices import Notices, ReadyTask
from services.engine.outbox import Outbox
from services.engine.roles import Role
from services.party.logs import note, speaking_of
from services.store import chain, retention
from services.store.blobs import BlobStore
from services.store.journal_schema import progress, tasks
from services.store.limits import PARTNERS_PER_JOB_MAX, TASKS_PER_JOB_MAX
from services.store.segments import BlobMissing
from services.store.transactions import savepoint

log = structlog.get_logger("jobs")

_INTERNAL: Final = "this party's software refused its own step"
_TOLD: Final = f"{_INTERNAL}; its log says more"

# Built once: to put a statement together costs more than to run it.
_OF_JOB: Final = tasks.c.job == bindparam("this_job")
_WAITING: Final = select(func.count()).select_from(tasks).where(_OF_JOB)
_ADD: Final = insert(tasks)
_SAME_PLACE: Final = and_(
    progress.c.stage == bindparam("this_stage"), progress.c.waits_for == bindparam("this_waits_for")
)
_NOTE: Final = (
    update(progress)
    .where(progress.c.job == bindparam("this_job"))
    .values(since=case((_SAME_PLACE, progress.c.since), else_=bindparam("now")))
)


class _Impossible(Exception):
    """An effect that cannot be carried out."""


class _LogicUnknown(Exception):
    """A job whose rules this software no longer has."""


class _PeerUnknown(Exception):
    """A job with a party that this one has no public identity of."""


def one_partner(contract: bytes) -> tuple[str, ...]:
    """For machines whose jobs have two parties only."""
    del contract
    return ()


class Stepper(Endings):
    """Applies events to jobs.

    Args:
        party: this party's name.
        roles: the machines, by name of role.
        outbox: takes what machines send.
        blobs: the store that effects refer to.
        clock: seconds since 1970, for people and for the chain's commit times.
        entropy: gives so many random bytes, for the salts of the chain.
        terms_of: what a contract says of retention and rules; must not raise.
        parties_of: all parties of a contract, the one that proposes it first; () for one that cannot be read or
            that does not name them. Must not raise.
        earlier: the machines of former rules, by logic version and role.

    """

    def __init__(
        self,
        party: str,
        roles: Mapping[str, Role],
        outbox: Outbox,
        blobs: BlobStore,
        clock: Callable[[], float],
        entropy: Callable[[int], bytes],
        *,
        terms_of: Callable[[bytes], retention.Terms] = retention.no_terms,
        parties_of: Callable[[bytes], tuple[str, ...]] = one_partner,
        earlier: Mapping[int, Mapping[str, Role]] = MappingProxyType({}),
    ) -> None:
        super().__init__(outbox, blobs, clock, entropy)
        self._party = party
        self._roles = roles
        self._terms_of = terms_of
        self._parties_of = parties_of
        self._earlier = earlier
        # For log and statistics alone: stage, iteration and rows done of each running job, as told last.
        self._told: dict[str, tuple[str, int, int]] = {}

    def create(
        self, connection: Connection, job: str, role: str, partner: str, *, expires_at: float, contract: bytes = b""
    ) -> JobRecord:
        """A new job in its initial state, run by the rules that its contract names.

        `partner`: the first one, who proposed it or to whom it is submitted; the contract names the others.
        """
        terms = self._terms_of(contract)
        partners = self.partners_of(contract, partner)
        machine = self._role(role, terms.logic_version)
        now = self._clock()
        record = JobRecord(
            job=job,
            role=role,
            partner=partner,
            head=chain.genesis(job, self._party),
            logic_version=machine.logic_version,
            created_at=now,
            updated_at=now,
            state=machine.encode(machine.initial(job, self._party, partners)),
            state_tag=jobs.state_tag(machine),
            expires_at=expires_at,
            lines={name: Line(name, place) for place, name in enumerate(partners)},
        )
        jobs.create(connection, record)
        retention.note(connection, job, contract, terms.retention)
        return record

    def partners_of(self, contract: bytes, partner: str) -> tuple[str, ...]:
        """All partners of a job, in the order of its contract.

        A contract that does not name this party, or another first partner, is for the machine to refuse: nobody
        but `partner` is drawn into that.
        """
        parties = self._parties_of(contract)
        others = tuple(name for name in dict.fromkeys(parties) if name != self._party)
        fits = self._party in parties and others[:1] == (partner,) and len(others) <= PARTNERS_PER_JOB_MAX
        return others if fits else (partner,)

    def _role(self, name: str, logic_version: int) -> Role:
        role = self._roles[name]
        if logic_version in (0, role.logic_version):
            return role
        earlier = self._earlier.get(logic_version, {}).get(name)
        if earlier is None:
            raise _LogicUnknown(
                f"the job runs by rules of logic version {logic_version}, which this party's software does not have"
            )
        return earlier

    def apply(
        self,
        connection: Connection,
        record: JobRecord,
        event: AnyEvent,
        notices: Notices,
        *,
        kind: str,
        header: bytes = b"",
        signature: bytes = b"",
    ) -> None:
        """Append the event to the chain and let the machine take it."""
        jobs.append_entry(
            connection,
            record,
            kind,
            self._clock(),
            header=header,
            signature=signature,
            salt=self._entropy(chain.SALT_BYTES),
            event=jobs.encode_event(event),
        )
        record.count("events")
        with speaking_of(job=record.job, iteration=None):
            self._take(connection, record, event, notices)

    def _take(self, connection: Connection, record: JobRecord, event: AnyEvent, notices: Notices) -> None:
        earlier, collected = jobs.copy(record), Notices()
        try:
            with savepoint(connection, "step"):
                self._step(connection, record, event, collected)
        except (SQLAlchemyError, OSError):
            raise
        except Exception as error:
            jobs.restore(record, earlier)
            self._fail_by(connection, record, error, notices)
        else:
            notices.merge(collected)

    def _step(self, connection: Connection, record: JobRecord, event: AnyEvent, notices: Notices) -> None:
        role = self._role(record.role, record.logic_version)
        if record.length == 1:
            self._expect_peers(record)
        # The event is in the chain already, and not in the state.
        before = jobs.state_of(connection, record, role, self._party, taken=record.length - 1)
        state, effects = role.step(before, event)
        # Whatever this unit logs from here on; `apply` forgets it.
        note(iteration=getattr(state, "iteration", 0) or None)
        record.state = role.encode(state)
        record.state_tag = jobs.state_tag(role)
        if len(record.state) > STATE_BYTES_MAX:
            raise _Impossible(f"the state has {len(record.state)} bytes, {STATE_BYTES_MAX} at most")
        ending: Finish | None = None
        for effect in effects:
            if isinstance(effect, Finish):
                ending = effect
            else:
                self._carry_out(connection, record, effect, notices)
        if ending is not None:
            self._finish(connection, record, ending, notices)

    def _finish(self, connection: Connection, record: JobRecord, effect: Finish, notices: Notices) -> None:
        self._told.pop(record.job, None)
        super()._finish(connection, record, effect, notices)

    def freeze(self, record: JobRecord, code: str, reason: str, notices: Notices) -> None:
        """See `Endings.freeze`."""
        self._told.pop(record.job, None)
        super().freeze(record, code, reason, notices)

    def _expect_peers(self, record: JobRecord) -> None:
        missing = [name for name in record.partners if not self._outbox.knows(name)]
        if missing:
            raise _PeerUnknown(
                f"the contract names {', '.join(missing)}, no peer of {self._party}: add the public identity there "
                "with `warren peer add FILE`, start the daemon anew and submit the job again"
            )

    def _carry_out(self, connection: Connection, record: JobRecord, effect: AnyEffect, notices: Notices) -> None:
        match effect:
            case Send():
                line = _line(record, effect.recipient)
                self._outbox.send(connection, record, line, effect.message, self._clock(), notices)
            case SendBulk():
                line = _line(record, effect.recipient)
                self._outbox.send_bulk(connection, record, line, effect, self._clock(), notices)
            case Compute():
                self._compute(connection, record, effect, notices)
            case Consumed():
                self._consumed(connection, record, effect, notices)
            case Release():
                self._blobs.release(connection, record.job, effect.body.sha256)
            case Progress():
                self._progress(connection, record, effect)
            case Finish():
                self._finish(connection, record, effect, notices)

    def _compute(self, connection: Connection, record: JobRecord, effect: Compute, notices: Notices) -> None:
        partner = _line(record, effect.partner).partner
        waiting = connection.scalar(_WAITING, {"this_job": record.job})
        if (waiting or 0) >= TASKS_PER_JOB_MAX:
            raise _Impossible(f"more than {TASKS_PER_JOB_MAX} tasks wait")
        for ref in effect.inputs:
            self._blobs.refer(connection, record.job, ref.sha256)
        row = {
            "job": record.job,
            "task": effect.task,
            "function": effect.function,
            "arguments": effect.arguments,
            "inputs": jobs.encode_refs(effect.inputs),
            "sends_bulk": effect.sends_bulk,
            "partner": partner,
            "started": False,
            "failures": 0,
        }
        try:
            added = connection.execute(_ADD, row)
        except IntegrityError:
            raise _Impossible(f"task {effect.task} is waiting already") from None
        assert added.inserted_primary_key is not None
        notices.tasks.append(
            ReadyTask(
                order=added.inserted_primary_key[0],
                job=record.job,
                partner=partner,
                task=effect.task,
                function=effect.function,
                arguments=effect.arguments,
                inputs=effect.inputs,
                sends_bulk=effect.sends_bulk,
                logic_version=record.logic_version,
            )
        )

    def _consumed(self, connection: Connection, record: JobRecord, effect: Consumed, notices: Notices) -> None:
        line = _line(record, effect.sender)
        if line.bulk_consumed >= line.bulk_received:
            raise _Impossible("more bulk is consumed than was received")
        self._blobs.release(connection, record.job, effect.body.sha256)
        line.bulk_consumed += 1
        notices.owe(record.job, line.partner)

    def _progress(self, connection: Connection, record: JobRecord, effect: Progress) -> None:
        values = {
            "stage": effect.stage,
            "iteration": effect.iteration,
            "iterations": effect.iterations,
            "done": effect.done,
            "total": effect.total,
            "waits_for": effect.waits_for,
        }
        now = self._clock()
        place = {"this_stage": effect.stage, "this_waits_for": effect.waits_for, "now": now}
        if connection.execute(_NOTE, {"this_job": record.job, **place, **values}).rowcount == 0:
            connection.execute(insert(progress), {"job": record.job, "since": now, **values})
        self._tell_progress(record, effect)

    def _tell_progress(self, record: JobRecord, effect: Progress) -> None:
        """A line for each new stage and iteration; how many rows were done since the last time is counted."""
        here = (effect.stage, effect.iteration)
        stage, iteration, done = self._told.get(record.job, ("", 0, effect.done))
        if here != (stage, iteration):
            log.info("stage", stage=effect.stage, iteration=effect.iteration or None, of=effect.iterations or None)
            done = 0 if stage else done
        if effect.done > done:
            record.count("rows", effect.done - done)
        self._told[record.job] = (*here, effect.done)

    def _fail_by(self, connection: Connection, record: JobRecord, error: Exception, notices: Notices) -> None:
        match error:
            case RemoteProtocolError():
                self.fail(connection, record, error.code, error.reason, notices)
            case _LogicUnknown():
                self.fail(connection, record, "logic_unknown", str(error), notices)
            case _PeerUnknown():
                self.fail(connection, record, "peer_unknown", str(error), notices)
            case UnexpectedEventError():
                log.error("machine met an unexpected event", job=record.job, reason=str(error))
                self.fail(connection, record, "unexpected_event", f"{_INTERNAL}: {error}", notices, told=_TOLD)
            case _Impossible() | Unsendable() | BlobMissing():
                log.error("effect cannot be carried out", job=record.job, reason=str(error))
                self.fail(connection, record, "effect_impossible", f"{_INTERNAL}: {error}", notices, told=_TOLD)
            case _:
                # The text of an unforeseen exception may hold private values: type and place have to do.
                name, place = type(error).__name__, _place(error)
                log.error("machine failed", job=record.job, error=name, at=place)
                self.fail(connection, record, "machine_fault", f"{_INTERNAL}: {name} at {place}", notices, told=_TOLD)


def _line(record: JobRecord, partner: str) -> Line:
    """The line that an effect speaks of."""
    try:
        return record.line(partner)
    except KeyError:
        raise _Impossible(f"{partner} is no party of the job") from None


def _place(error: BaseException) -> str:
    """File and line where an exception was raised."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "" if trace is None else f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
