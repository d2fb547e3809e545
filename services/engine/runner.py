"""The runner: everything that changes a job goes through here, one unit of work each, and is told after COMMIT.

Delivery -> checks -> transaction -> acknowledgement; results of compute tasks, decisions of operators and
expiries take the same way. The runner keeps nothing in memory that the journal does not have.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, TypeVar

import structlog
from sqlalchemy import Connection, bindparam, delete, select, update

from broker.transport import Delivery, Transport
from protocol.effects import (
    BlobRef,
    Computed,
    ComputeFailed,
    Started,
)
from services.engine import jobs, parking
from services.engine.decisions import Decisions, Tell
from services.engine.disk import DISK_FULL, DiskWatch
from services.engine.jobs import JobRecord, Status
from services.engine.notices import Notices, ReadyTask
from services.engine.purging import Purged, purge
from services.engine.receiving import Receiving
from services.engine.stepping import Stepper
from services.engine.worker import TaskReply
from services.party.logs import speaking_of
from services.store import chain, retention
from services.store.blobs import BlobStore
from services.store.crash import CrashHook
from services.store.job_secrets import JobSecrets
from services.store.journal import Journal, JournalUnavailable, Work
from services.store.journal_schema import jobs as jobs_table
from services.store.journal_schema import tasks as tasks_table
from services.store.limits import DELIVERIES_WAITING_MAX, TASK_FAILURES_MAX, Timing

T = TypeVar("T")

log = structlog.get_logger("runner")


# Built once: to put a statement together costs more than to run it.
_TASK: Final = (tasks_table.c.job == bindparam("this_job"), tasks_table.c.task == bindparam("this_task"))
_START: Final = update(tasks_table).where(*_TASK, tasks_table.c.started.is_(False)).values(started=True)
_FAILURES: Final = select(tasks_table.c.failures).where(*_TASK)
_FAILED: Final = update(tasks_table).where(*_TASK).values(failures=tasks_table.c.failures + 1)
_ENDED: Final = delete(tasks_table).where(*_TASK)


class JobExists(Exception):
    """A job of this identifier is in the journal already."""


class Runner(Decisions):
    """Carries units of work to the journal and their notices to `tell`."""

    def __init__(
        self,
        journal: Journal,
        transport: Transport,
        receiving: Receiving,
        stepper: Stepper,
        blobs: BlobStore,
        secrets: JobSecrets,
        *,
        tell: Tell,
        clock: Callable[[], float],
        timing: Timing,
        crash: CrashHook,
    ) -> None:
        super().__init__(journal, stepper, tell, clock)
        self._transport = transport
        self._receiving = receiving
        self._blobs = blobs
        self._secrets = secrets
        self._timing = timing
        self._crash = crash
        self.disk = DiskWatch()
        self._deliveries: asyncio.Queue[Delivery] = asyncio.Queue(DELIVERIES_WAITING_MAX)
        self._stuck_since = 0.0

    @property
    def stuck_since(self) -> float:
        """Since when the journal cannot commit, seconds since 1970; 0 while it can."""
        return self._stuck_since

    # -- deliveries -----------------------------------------------------------------------------------------

    async def receive(self, delivery: Delivery) -> None:
        """Take a delivery over; it is acknowledged after its commit."""
        await self._deliveries.put(delivery)

    async def run(self) -> None:
        """Commit and acknowledge deliveries until cancelled."""
        while True:
            batch = [await self._deliveries.get()]
            while len(batch) < DELIVERIES_WAITING_MAX and not self._deliveries.empty():
                batch.append(self._deliveries.get_nowait())
            try:
                await self._take(batch)
            except JournalUnavailable as error:
                self._note_stuck(error)
                await self._wait_for_journal()

    async def _take(self, batch: Sequence[Delivery]) -> None:
        taken = await asyncio.gather(*(self._take_one(item) for item in batch), return_exceptions=True)
        failures = [item for item in taken if isinstance(item, BaseException)]
        for failure in failures:
            if not isinstance(failure, JournalUnavailable):
                raise failure
        for delivery, notices in zip(batch, taken, strict=True):
            if isinstance(notices, Notices):
                self._crash(f"{_point(delivery)}.after_commit")
                await delivery.ack()
                self._crash("receive.after_ack")
                self._tell(notices)
        if failures:
            raise failures[0]

    async def _take_one(self, delivery: Delivery) -> Notices:
        def unit(connection: Connection) -> Notices:
            notices = self._receiving.take(connection, delivery)
            self._crash(f"{_point(delivery)}.before_commit")
            return notices

        try:
            return await self._journal.write(unit)
        except JournalUnavailable:
            raise
        except Exception as error:
            if self._journal.closed:
                raise
            # A fault of this program must not become a crash loop: the delivery is parked like a stranger's.
            log.error("delivery failed", error=type(error).__name__, routing_key=delivery.routing_key)
            return await self._journal.write(lambda connection: self._park_fault(connection, delivery))

    def _park_fault(self, connection: Connection, delivery: Delivery) -> Notices:
        parking.park(
            connection,
            at=self._clock(),
            code="engine_fault",
            routing_key=delivery.routing_key,
            body=delivery.body,
        )
        return Notices()

    async def _wait_for_journal(self) -> None:
        """Stop consuming until the journal commits again; what is not acknowledged comes back."""
        self._transport.pause()
        log.error("stopped consuming: the journal cannot commit")
        while not self._deliveries.empty():
            self._deliveries.get_nowait()
        await asyncio.sleep(self._timing.disk)
        await self._write_patiently(lambda connection: jobs.count(connection, "", "journal_stops"))
        self._transport.resume()
        log.info("consuming again")

    def _note_stuck(self, error: JournalUnavailable) -> None:
        self._stuck_since = self._stuck_since or self._clock()
        self.disk.failed(str(error))

    async def _write_patiently(self, unit: Work[T]) -> T:
        """Commit what must not be lost, however long the disk has no room for it."""
        while True:
            try:
                result = await self._journal.write(unit)
            except JournalUnavailable as error:
                self._note_stuck(error)
                await asyncio.sleep(self._timing.disk)
            else:
                self._stuck_since = 0.0
                return result

    # -- decisions ------------------------------------------------------------------------------------------

    async def submit(
        self,
        job: str,
        role: str,
        partner: str,
        *,
        contract: bytes,
        blobs: Sequence[tuple[bytes, int]],
        facts: bytes,
        expires_at: float,
    ) -> None:
        """Start a job of our own. Raises JobExists."""

        def known(connection: Connection) -> bool:
            return jobs.load(connection, job) is not None

        def unit(connection: Connection) -> Notices:
            if known(connection):
                raise JobExists(f"job {job} is in the journal already")
            notices = Notices()
            record = self._stepper.create(connection, job, role, partner, expires_at=expires_at, contract=contract)
            refs = tuple(self._blobs.put(connection, job, "started", data, rows) for data, rows in blobs)
            notices.begun[job] = record.partners
            event = Started(contract=contract, blobs=refs, facts=facts)
            self._stepper.apply(connection, record, event, notices, kind=chain.DECIDED)
            jobs.save(connection, record)
            return notices

        if await self._journal.read(known):
            raise JobExists(f"job {job} is in the journal already")
        await asyncio.to_thread(self._secrets.create, job)
        self._crash("submit.secret_written")
        notices = await self._journal.write(unit)
        self._crash("submit.committed")
        self._tell(notices)

    async def fail(self, job: str, code: str, reason: str, *, told: str) -> None:
        """End a job that runs and cannot go on; the partner reads `told`."""

        def unit(connection: Connection) -> Notices:
            notices = Notices()
            record = jobs.load(connection, job)
            if record is not None and record.running:
                self._stepper.fail(connection, record, code, reason, notices, told=told)
                jobs.save(connection, record)
            return notices

        self._tell(await self._write_patiently(unit))

    def outdate(self, connection: Connection, records: Sequence[JobRecord], misfit: Callable[[bytes], str]) -> bool:
        """Inside a unit of work, before anything runs: end the jobs that were agreed with keys that are no more."""
        ended = False
        for record in records:
            noted = retention.contract_of(connection, record.job)
            why = misfit(noted[0]) if noted is not None else ""
            if why and record.status != Status.FROZEN.value:
                self._stepper.outdate(connection, record, f"{why}: submit the job anew", Notices())
                jobs.save(connection, record)
                ended = True
        return ended

    def freeze_all(self, connection: Connection, code: str, reason: str) -> None:
        """Inside a unit of work, before anything runs: freeze every job that does."""
        running = select(jobs_table.c.job).where(jobs_table.c.status == Status.RUNNING.value)
        for job in connection.scalars(running.order_by(jobs_table.c.job)).all():
            record = jobs.load(connection, job)
            assert record is not None
            self._stepper.freeze(record, code, reason, Notices())
            jobs.save(connection, record)

    async def freeze(self, job: str, code: str, reason: str) -> None:
        """Stop a job whose stored messages cannot be sent; its partner is told only that."""

        def unit(connection: Connection) -> Notices:
            notices = Notices()
            record = jobs.load(connection, job)
            if record is not None and record.status != Status.FROZEN.value:
                self._stepper.freeze(record, code, reason, notices)
                jobs.save(connection, record)
            return notices

        self._tell(await self._write_patiently(unit))

    async def purge(self, job: str) -> Purged:
        """Erase what is kept of a job that has ended. Raises AuditError."""
        done = await self._journal.write(lambda connection: purge(connection, self._blobs, job, self._clock()))
        await asyncio.to_thread(self._secrets.erase, job)
        return done

    # -- compute tasks --------------------------------------------------------------------------------------

    async def task_started(self, task: ReadyTask) -> None:
        """Note that a task is being run; a second time is counted."""

        def unit(connection: Connection) -> None:
            if connection.execute(_START, _which(task)).rowcount:
                jobs.count(connection, task.job, "tasks_run")
            elif connection.scalar(_FAILURES, _which(task)) is not None:
                jobs.count(connection, task.job, "tasks_run_again")

        # Only a statistic: the reply is committed whether this was or not.
        with suppress(JournalUnavailable):
            await self._journal.write(unit)

    async def task_ended(self, task: ReadyTask, reply: TaskReply) -> bool:
        """Commit a task's reply as an event. False: it failed, or found the disk full, and is to be run again."""
        if reply.code == DISK_FULL:
            log.error("a task finds no room on the disk", job=task.job, task=task.task, cause=reply.reason)
            self.disk.failed(reply.reason)
            await asyncio.sleep(self._timing.disk)
            return False

        def unit(connection: Connection) -> tuple[Notices, bool]:
            notices = Notices()
            record = jobs.load(connection, task.job)
            waiting = connection.scalar(_FAILURES, _which(task))
            if record is None or not record.running or waiting is None:
                return notices, True
            if reply.status == "failed" and waiting + 1 < TASK_FAILURES_MAX:
                self._note_failure(connection, task)
                return notices, False
            with speaking_of(job=task.job, task=task.task, function=task.function):
                self._end_task(connection, record, task, reply, notices)
            jobs.save(connection, record)
            self._crash("task.before_commit")
            return notices, True

        # The result costs minutes, the wait nothing: keep it until the disk has room.
        notices, ended = await self._write_patiently(unit)
        self._crash("task.committed")
        self._tell(notices)
        return ended

    @staticmethod
    def _note_failure(connection: Connection, task: ReadyTask) -> None:
        connection.execute(_FAILED, _which(task))
        jobs.count(connection, task.job, "task_failures")

    def _end_task(
        self,
        connection: Connection,
        record: JobRecord,
        task: ReadyTask,
        reply: TaskReply,
        notices: Notices,
    ) -> None:
        connection.execute(_ENDED, _which(task))
        event: Computed | ComputeFailed
        if reply.status == "done":
            refs: tuple[BlobRef, ...] = tuple(
                self._blobs.put(connection, task.job, task.function, data, rows) for data, rows in reply.blobs
            )
            event = Computed(task=task.task, function=task.function, output=reply.output, blobs=refs)
        else:
            record.count("tasks_refused")
            event = ComputeFailed(task=task.task, function=task.function, reason_code=reply.code, reason=reply.reason)
        self._stepper.apply(connection, record, event, notices, kind=chain.COMPUTED)
        if record.running:
            for ref in task.inputs:
                self._blobs.release(connection, task.job, ref.sha256)


def _which(task: ReadyTask) -> dict[str, str]:
    return {"this_job": task.job, "this_task": task.task}


def _point(delivery: Delivery) -> str:
    """Which crash points a delivery passes: those of receipts or those of messages."""
    return "receipt" if delivery.routing_key.endswith((".receipt", ".receipt.request")) else "receive"
