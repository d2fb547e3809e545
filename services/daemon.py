"""A party's daemon: wires the engine together, recovers, runs until it is stopped.

It is crash-only: stopping takes the same way as dying, but for the transaction under way, so that the way is
well trodden. Everything it knows is in its data directory.
"""

import asyncio
import random
import signal
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy import Connection, select

from broker.transport import Transport
from messages import schemas
from messages.identity import Identity, PublicIdentity
from protocol.effects import BlobRef
from services import jobs, outbox, parking
from services.blobs import BlobStore
from services.crash import CrashHook, no_crash
from services.data_directory import DataDirectory
from services.envelopes import Envelopes
from services.executor import Executor
from services.job_secrets import JobSecrets
from services.jobs import JobView, Status
from services.journal import Journal, sqlite_url
from services.journal_schema import jobs as jobs_table
from services.journal_schema import tasks as tasks_table
from services.lag import LagMeter
from services.limits import Timing
from services.notices import Notices, Question, ReadyTask
from services.outbox import Outbox
from services.parking import ParkedView
from services.receiving import Receiving
from services.relay import Relay, RelayCounts
from services.roles import Role
from services.runner import JobExists, JobUnknown, Runner
from services.segments import BlobMissing, Location, read
from services.stepping import Stepper
from services.worker import Setup

log = structlog.get_logger("daemon")

Prober = Callable[[str, schemas.PeerProbe], Awaitable[schemas.PeerAnswer]]

__all__ = ["Daemon", "DaemonConfig", "JobExists", "JobUnknown", "PartnerUnknown"]


class PartnerUnknown(Exception):
    """The daemon has no public identity of this partner."""


def no_expiry(contract: bytes) -> float:
    """For machines whose contracts do not expire."""
    del contract
    return 0.0


@dataclass(frozen=True, slots=True)
class DaemonConfig:
    """What a daemon has to be told.

    Attributes:
        identity: this party's keys; its name is the party's.
        peers: the partners' public identities, by name.
        data_directory: everything the daemon knows; one daemon each.
        roles: the machines, by name of role.
        answering_role: the role taken in jobs that a partner proposes; empty: none are taken.
        functions: dotted name of the module whose `FUNCTIONS` maps names to compute functions.
        workers: worker processes; 0 runs tasks on a thread of the daemon, for simulations.
        settings: for compute functions; travels to the workers only.
        journal_url: SQLAlchemy URL; empty: SQLite in the data directory.
        expiry_of: the expiry in a contract's bytes, seconds since 1970, 0 for none; must not raise.
        answer_probe: answers `peer.probe`; None: probes stay unanswered.
        timing: see `Timing`.
        clock: seconds since 1970.
        crash: see `services.crash`.

    """

    identity: Identity
    peers: Mapping[str, PublicIdentity]
    data_directory: Path
    roles: Mapping[str, Role]
    answering_role: str = "provider"
    functions: str = "services.tasks"
    workers: int = 1
    settings: Mapping[str, Any] = field(default_factory=dict, repr=False)
    journal_url: str = field(default="", repr=False)
    expiry_of: Callable[[bytes], float] = no_expiry
    answer_probe: Prober | None = None
    timing: Timing = field(default_factory=Timing)
    clock: Callable[[], float] = time.time
    crash: CrashHook = no_crash


class Daemon:
    """One party. Construct it, then `await run()` in a task; `started()` waits until it has recovered.

    Raises:
        DirectoryLocked: another daemon works on the data directory.

    """

    def __init__(self, config: DaemonConfig, transport: Transport) -> None:
        self._config = config
        self._transport = transport
        self._directory = DataDirectory(config.data_directory)
        self._blobs = BlobStore(self._directory.blobs, crash=config.crash)
        self._journal = Journal(
            config.journal_url or sqlite_url(self._directory.journal),
            config.identity.name,
            before_commit=self._blobs.sync,
            after_commit=self._blobs.sweep,
        )
        self._secrets = JobSecrets(self._directory.secrets)
        self._envelopes = Envelopes(config.identity, config.peers)
        box = Outbox(self._envelopes, self._blobs)
        stepper = Stepper(config.identity.name, config.roles, box, self._blobs, config.clock)
        receiving = Receiving(
            self._envelopes,
            self._blobs,
            box,
            stepper,
            self._secrets,
            answering_role=config.answering_role,
            expiry_of=config.expiry_of,
            clock=config.clock,
        )
        self._runner = Runner(
            self._journal,
            transport,
            receiving,
            stepper,
            self._blobs,
            self._secrets,
            tell=self._tell,
            clock=config.clock,
            timing=config.timing,
            crash=config.crash,
        )
        self._relay = Relay(
            self._journal,
            transport,
            self._envelopes,
            self._blobs,
            timing=config.timing,
            chance=random.Random(),  # noqa: S311 - it only spreads waits
            broken=self._runner.freeze,
            crash=config.crash,
        )
        self._executor = self._make_executor(config)
        self.lag = LagMeter()
        self._stop = asyncio.Event()
        self._started = asyncio.Event()
        self._ended: asyncio.Queue[str] = asyncio.Queue()
        self._waiters: dict[str, list[asyncio.Future[None]]] = {}
        self._answers: dict[str, asyncio.Future[schemas.PeerAnswer]] = {}
        self._questions: asyncio.Queue[Question] = asyncio.Queue(16)

    def _make_executor(self, config: DaemonConfig) -> Executor:
        import os

        setup = Setup(
            parent=os.getpid(),
            functions=config.functions,
            identity=config.identity.to_bytes(),
            peers={name: peer.to_json() for name, peer in config.peers.items()},
            data_directory=config.data_directory,
            settings=dict(config.settings),
        )
        return Executor(
            setup,
            workers=config.workers,
            started=self._runner.task_started,
            ended=self._runner.task_ended,
            locate=self._locate,
            secret_of=self._secrets.path,
            crash=config.crash,
        )

    # -- life -----------------------------------------------------------------------------------------------

    async def run(self, *, handle_signals: bool = False) -> None:
        """Recover and run until `stop`, or SIGTERM or SIGINT with `handle_signals`.

        Raises:
            JournalForeign: the journal is another party's.
            ExceptionGroup: a fault of this program; what was committed is safe.

        """
        loop = asyncio.get_running_loop()
        if handle_signals:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, self.stop)
        try:
            await asyncio.to_thread(self._journal.open)
            await self._recover()
            await self._run_parts()
        finally:
            self._executor.kill()
            await asyncio.to_thread(self._journal.close)
            self._blobs.close()
            self._directory.close()
            log.info("stopped")

    async def _run_parts(self) -> None:
        parts = (
            self._transport.run(self._runner.receive),
            self._runner.run(),
            self._relay.run(),
            self._executor.run(),
            self.lag.run(),
            self._watch(),
            self._clear_ended(),
            self._answer_questions(),
        )
        async with asyncio.TaskGroup() as group:
            running = [group.create_task(part) for part in parts]
            self._started.set()
            await self._stop.wait()
            log.info("stopping")
            for part in running:
                part.cancel()

    def stop(self) -> None:
        """Finish the transaction under way and leave."""
        self._stop.set()

    async def started(self) -> None:
        """Wait until the daemon has recovered and runs."""
        await self._started.wait()

    async def _recover(self) -> None:
        def unit(connection: Connection) -> tuple[list[jobs.JobRecord], list[ReadyTask], list[str], int]:
            names = connection.scalars(select(jobs_table.c.job).order_by(jobs_table.c.created_at)).all()
            records = [found for name in names if (found := jobs.load(connection, name)) is not None]
            running = {record.job: record for record in records if record.running}
            rows = connection.execute(select(tasks_table).order_by(tasks_table.c.id)).all()
            ready = [
                ReadyTask(
                    order=row.id,
                    job=row.job,
                    partner=running[row.job].partner,
                    task=row.task,
                    function=row.function,
                    arguments=row.arguments,
                    inputs=jobs.decode_refs(row.inputs),
                    sends_bulk=row.sends_bulk,
                )
                for row in rows
                if row.job in running
            ]
            return records, ready, outbox.jobs_with_outbox(connection), self._blobs.recover(connection)

        records, ready, sending, stray = await self._journal.write(unit)
        by_name = {record.job: record for record in records}
        running = [record.job for record in records if record.running]
        await asyncio.to_thread(self._secrets.sweep, running)
        for task in ready:
            self._executor.put(task)
        for record in records:
            if record.running:
                self._executor.unreceipted(record.job, record.unreceipted_bytes)
        for job in sending:
            record = by_name[job]
            if record.status != Status.FROZEN.value:
                self._relay.resume(job, record.partner, sent=record.sent, receipted=record.receipted)
        log.info("recovered", jobs=len(running), tasks=len(ready), outboxes=len(sending), segments_removed=stray)

    async def _watch(self) -> None:
        seen = self._transport.state.changes
        while True:
            await asyncio.sleep(self._config.timing.watch)
            changes = self._transport.state.changes
            if changes != seen:
                if seen:
                    self._relay.reconnected()
                seen = changes
            await self._runner.expire()

    # -- notices --------------------------------------------------------------------------------------------

    def _tell(self, notices: Notices) -> None:
        """Act on what a committed unit reported."""
        for job, (partner, receipted) in notices.outbox.items():
            self._relay.wake(job, partner, receipted)
        for job, applied in notices.receipted.items():
            self._relay.receipted(job, applied, answered=job in notices.answered)
        for (job, partner), asked in notices.receipts.items():
            self._relay.owe(job, partner, asked=asked)
        for job, size in notices.unreceipted.items():
            self._executor.unreceipted(job, size)
        for task in notices.tasks:
            self._executor.put(task)
        for job in notices.silenced:
            self._relay.drop(job)
        for job in notices.ended:
            self._ended.put_nowait(job)
            self._executor.drop(job)
        for question in notices.questions:
            self._take_question(question)

    async def _clear_ended(self) -> None:
        while True:
            job = await self._ended.get()
            self._config.crash("finish.committed")
            await asyncio.to_thread(self._secrets.erase, job)
            for waiter in self._waiters.pop(job, ()):
                if not waiter.done():
                    waiter.set_result(None)

    def _take_question(self, question: Question) -> None:
        if isinstance(question.message, schemas.PeerAnswer):
            waiter = self._answers.pop(f"{question.sender}/{question.job}", None)
            if waiter is not None and not waiter.done():
                waiter.set_result(question.message)
        elif not self._questions.full():
            # A partner that floods gets some of its answers, which is all a probe is worth.
            self._questions.put_nowait(question)

    async def _answer_questions(self) -> None:
        while True:
            question = await self._questions.get()
            if self._config.answer_probe is not None and isinstance(question.message, schemas.PeerProbe):
                answer = await self._config.answer_probe(question.sender, question.message)
                await self._relay.say(question.job, question.sender, answer)

    async def _locate(self, task: ReadyTask) -> tuple[Location, ...]:
        def unit(connection: Connection) -> tuple[Location, ...]:
            return tuple(self._blobs.locate(connection, task.job, ref.sha256) for ref in task.inputs)

        try:
            return await self._journal.read(unit)
        except BlobMissing as error:
            raise LookupError(str(error)) from None

    # -- for operators --------------------------------------------------------------------------------------

    async def submit(
        self,
        job: str,
        partner: str,
        *,
        contract: bytes,
        blobs: Sequence[tuple[bytes, int]] = (),
        facts: bytes = b"",
        role: str = "business",
    ) -> None:
        """Start a job: the machine of `role` gets `Started(contract, refs of blobs, facts)`.

        Raises:
            PartnerUnknown: no such peer.
            JobExists: the identifier was used before.
            JournalUnavailable: nothing happened.

        """
        if partner not in self._config.peers:
            raise PartnerUnknown(f"{partner} is no peer of {self._config.identity.name}")
        await self._runner.submit(
            job,
            role,
            partner,
            contract=contract,
            blobs=blobs,
            facts=facts,
            expires_at=self._config.expiry_of(contract),
        )

    async def cancel(self, job: str, reason: str) -> None:
        """End a job by decision of the operator. Raises JobUnknown."""
        await self._runner.cancel(job, reason)

    async def jobs(self) -> list[JobView]:
        """All jobs, oldest first."""
        return await self._journal.read(jobs.views)

    async def job(self, job: str) -> JobView:
        """One job with its progress. Raises JobUnknown."""
        found = await self._journal.read(lambda connection: jobs.view(connection, job))
        if found is None:
            raise JobUnknown(f"there is no job {job}")
        return found

    async def wait(self, job: str) -> JobView:
        """Wait until a job has ended or is frozen. Raises JobUnknown."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.setdefault(job, []).append(waiter)
        found = await self.job(job)
        if found.status == Status.RUNNING.value:
            await waiter
            return await self.job(job)
        return found

    async def result(self, job: str, ref: BlobRef) -> bytes:
        """The bytes of a result (or any blob) of a job. Raises BlobMissing, BlobDamaged."""
        return await self._journal.read(lambda connection: read(self._blobs.locate(connection, job, ref.sha256)))

    async def statistics(self, job: str = "") -> dict[str, int]:
        """Counters of a job, or of the daemon."""
        return await self._journal.read(lambda connection: jobs.statistics(connection, job))

    async def parked(self, limit: int = 100) -> list[ParkedView]:
        """The newest parked deliveries."""
        return await self._journal.read(lambda connection: parking.parked_rows(connection, limit))

    async def parked_codes(self) -> dict[str, int]:
        """How often each reason for parking came up."""
        return await self._journal.read(parking.parked_codes)

    async def probe(self, partner: str, message: schemas.PeerProbe, *, timeout_s: float) -> schemas.PeerAnswer:
        """Ask a partner whether it is there. Raises TimeoutError, PartnerUnknown."""
        if partner not in self._config.peers:
            raise PartnerUnknown(f"{partner} is no peer of {self._config.identity.name}")
        name = f"probe-{uuid.uuid4().hex}"
        waiter: asyncio.Future[schemas.PeerAnswer] = asyncio.get_running_loop().create_future()
        self._answers[f"{partner}/{name}"] = waiter
        try:
            async with asyncio.timeout(timeout_s):
                await self._transport.connected()
                await self._relay.say(name, partner, message)
                return await waiter
        finally:
            self._answers.pop(f"{partner}/{name}", None)

    @property
    def relay_counts(self) -> RelayCounts:
        """What the relay did since the start."""
        return self._relay.counts

    @property
    def worker_processes(self) -> tuple[int, ...]:
        """Process ids of the workers."""
        return self._executor.processes

    @property
    def journal(self) -> Journal:
        """The journal, for reads by the console, audit and tests."""
        return self._journal
