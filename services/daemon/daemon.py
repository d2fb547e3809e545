"""A party's daemon: wires the engine together, recovers, runs until it is stopped.

It is crash-only: stopping takes the same way as dying, but for the transaction under way, so that the way is
well trodden. Everything it knows is in its data directory.
"""

import asyncio
import os
import signal
from collections.abc import Mapping, Sequence
from typing import Any

import structlog
from sqlalchemy import Connection

from broker.transport import Delivery, QueueDepths, Transport, TransportState
from messages import unsequenced
from protocol.policy import read_policy
from services.daemon.consent import Consent
from services.daemon.daemon_config import DaemonConfig
from services.daemon.desk import DaemonStopped, Desk, PartnerUnknown
from services.daemon.lookups import Lookups
from services.daemon.probes import Probes
from services.engine.decisions import JobOver, JobUnknown
from services.engine.disk import DiskWatch
from services.engine.envelopes import Envelopes
from services.engine.executor import Executor
from services.engine.jobs import JobRecord, Status
from services.engine.lag import LagMeter
from services.engine.lines import Line
from services.engine.notices import Notices, ReadyTask
from services.engine.outbox import Outbox
from services.engine.receiving import Receiving
from services.engine.recovery import Found
from services.engine.relay import Relay, RelayCounts
from services.engine.runner import JobExists, Runner
from services.engine.starting import Starting
from services.engine.stepping import Stepper
from services.engine.worker import Setup
from services.party.former import misfit
from services.store import retention
from services.store.blobs import BlobStore
from services.store.data_directory import DataDirectory
from services.store.job_secrets import JobSecrets
from services.store.journal import Journal, JournalUnavailable, sqlite_url
from services.store.journal_lock import shown
from services.store.journal_mark import JournalMark
from services.store.segments import BlobMissing, Location

log = structlog.get_logger("daemon")

__all__ = ["Daemon", "DaemonConfig", "DaemonStopped", "JobExists", "JobOver", "JobUnknown", "PartnerUnknown"]


class Daemon(Desk):
    """One party. Construct it, then `await run()` in a task; `started()` waits until it has recovered.

    Raises:
        DirectoryLocked: another daemon works on the data directory.

    """

    def __init__(self, config: DaemonConfig, transport: Transport) -> None:
        self._config = config
        self._directory = DataDirectory(config.data_directory)
        blobs = BlobStore(self._directory.blobs, crash=config.crash)
        around = config.surroundings
        url = config.journal_url or sqlite_url(self._directory.journal)
        journal = around.journal(
            url,
            config.identity.name,
            before_commit=blobs.sync,
            after_commit=blobs.sweep,
        )
        self._secrets = JobSecrets(self._directory.secrets, around.entropy)
        envelopes = Envelopes(config.identity, config.peers)
        outbox = Outbox(envelopes, blobs, around.entropy)
        stepper = Stepper(
            config.identity.name,
            config.roles,
            outbox,
            blobs,
            around.clock,
            around.entropy,
            terms_of=config.terms_of,
            parties_of=config.parties_of,
            earlier=config.earlier_roles,
        )
        self.consent = Consent(config.identity.name, config.data_directory, journal, config.settings, around.clock)
        gate = self.consent.gate
        receiving = Receiving(
            envelopes,
            blobs,
            outbox,
            stepper,
            self._secrets,
            answering_role=config.answering_role,
            expiry_of=config.expiry_of,
            clock=around.clock,
            objection=self.consent.objection,
        )
        runner = Runner(
            journal,
            transport,
            receiving,
            stepper,
            blobs,
            self._secrets,
            tell=self._tell,
            clock=around.clock,
            timing=config.timing,
            crash=config.crash,
        )
        self._starting = Starting(
            journal,
            JournalMark(self._directory.mark, shown(url), around.entropy),
            runner,
            self._secrets,
            blobs,
            accept_restored=config.accept_restored,
            retry=config.timing.disk,
            misfit=lambda contract: misfit(config.identity.name, config.identity.public, dict(config.peers), contract),
        )
        relay = Relay(
            journal,
            transport,
            envelopes,
            blobs,
            timing=config.timing,
            chance=around.chance,
            broken=runner.freeze,
            rests=gate.rests,
            rate=self.consent.rate,
            crash=config.crash,
        )
        super().__init__(
            journal, runner, relay, blobs, envelopes, transport, config.expiry_of, stepper.partners_of, gate
        )
        self.settings: Mapping[str, Any] = config.settings
        self._executor = self._make_executor(config)
        self.consent.attach(runner, self._look_again)
        self.lookups = Lookups(journal, blobs, envelopes, relay, config.data_directory, around.entropy, gate.rests)
        self.lag = LagMeter(config.timing.lag)
        self._stop = asyncio.Event()
        self._started = asyncio.Event()
        self._finished: asyncio.Queue[str] = asyncio.Queue()
        self.probes = Probes(config.answer_probe, relay, around.clock)

    def _make_executor(self, config: DaemonConfig) -> Executor:
        setup = Setup(
            parent=os.getpid(),
            functions=config.functions,
            identity=config.identity.to_bytes(),
            peers={name: peer.to_json() for name, peer in config.peers.items()},
            data_directory=config.data_directory,
            settings=dict(config.settings),
        )
        return Executor(
            config.surroundings.slots(setup, config.workers),
            started=self._runner.task_started,
            ended=self._runner.task_ended,
            locate=self._locate,
            secret_of=self._secrets.path,
            rests=self._gate.rests,
            crash=config.crash,
        )

    # -- life -----------------------------------------------------------------------------------------------

    async def run(self, *, handle_signals: bool = False) -> None:
        """Recover and run until `stop`, or SIGTERM or SIGINT with `handle_signals`.

        Raises:
            JournalTaken: another daemon works on the journal.
            JournalForeign: the journal is another party's.
            JournalRestored: the journal, or the data directory, was restored from a backup.
            ExceptionGroup: a fault of this program; what was committed is safe.

        """
        loop = asyncio.get_running_loop()
        if handle_signals:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, self.stop)
        try:
            await asyncio.to_thread(self._journal.open)
            found = await self._starting.begin(self._stop)
            if found is not None:
                await self._go_on(found)
                await self._run_parts()
                await self._starting.leave()
        finally:
            self.close()
            self._started.set()
            self._executor.kill()
            # Not awaited: a cancelled daemon must not let its lock go before its last transaction has ended.
            self._journal.close()
            self._blobs.close()
            self._directory.close()
            log.info("stopped")

    async def _run_parts(self) -> None:
        parts = (
            self._transport.run(self._take),
            self._runner.run(),
            self._relay.run(),
            self._executor.run(),
            self.lag.run(),
            self._watch(),
            self._clear_finished(),
            self.probes.run(),
        )
        async with asyncio.TaskGroup() as group:
            running = [group.create_task(part) for part in parts]
            self._started.set()
            await self._stop.wait()
            log.info("stopping")
            for part in running:
                part.cancel()

    async def _take(self, delivery: Delivery) -> None:
        if not await self.lookups.take(delivery):
            await self._runner.receive(delivery)

    def renew(self, settings: Mapping[str, Any]) -> None:
        """Decide by another policy from now on; a task that runs ends by the former one. Raises PolicyError."""
        self.consent.renew(read_policy(dict(settings.get("policy", {}))))
        self.settings = settings
        self._executor.renew(settings)

    def stop(self) -> None:
        """Finish the transaction under way and leave."""
        self._stop.set()

    async def started(self) -> None:
        """Wait until the daemon has recovered and runs. Raises DaemonStopped if it never does."""
        await self._started.wait()
        if self._over:
            raise DaemonStopped("the daemon stopped")

    async def _go_on(self, found: Found) -> None:
        kept = [record.job for record in found.records if record.status in (Status.RUNNING.value, Status.FROZEN.value)]
        whole = await self._journal.read(retention.jobs_kept)
        await asyncio.to_thread(self._secrets.sweep, {*kept, *whole})
        for record in found.records:
            if record.running:
                self._gate.begin(record.job, record.partners)
        for task in found.tasks:
            self._executor.put(task)
        for record in found.records:
            for line in record.lines.values():
                self._resume(record, line, sending=(record.job, line.partner) in found.sending)
        await self.consent.enforce_before(self._stop, self._config.timing.disk)
        log.info(
            "recovered",
            jobs=len(kept),
            tasks=len(found.tasks),
            outboxes=len(found.sending),
            segments_removed=found.segments_removed,
        )

    def _resume(self, record: JobRecord, line: Line, *, sending: bool) -> None:
        if line.partner not in self._config.peers:
            log.warning("a partner of a job is no peer any more", job=record.job, partner=line.partner)
        elif record.status == Status.FROZEN.value:
            self._relay.frozen(record.job, line.partner, record.reason_code)
        else:
            if record.running:
                self._executor.unreceipted(record.job, line.partner, line.unreceipted_bytes)
            if record.running or sending:
                # Also where nothing waits to be sent: the answer says whether this journal has lost anything.
                self._relay.resume(record.job, line.partner, sent=line.sent, receipted=line.receipted)

    async def _watch(self) -> None:
        seen = self._transport.state.changes
        while True:
            await asyncio.sleep(self._config.timing.watch)
            changes = self._transport.state.changes
            if changes != seen:
                if seen:
                    self._relay.reconnected()
                seen = changes
            self.consent.look()
            try:
                await self._runner.expire()
                await self.consent.enforce()
                await self.lookups.note_counts()
            except JournalUnavailable:
                log.warning("expiries are looked for later")

    def _look_again(self, jobs: Sequence[str]) -> None:
        """Jobs began to rest, or go on."""
        for job in jobs:
            self._relay.look_again(job, self._gate.partners_of(job))
        self._executor.look_again()

    # -- notices --------------------------------------------------------------------------------------------

    def _tell(self, notices: Notices) -> None:
        """Act on what a committed unit reported."""
        for job, partners in notices.begun.items():
            self._gate.begin(job, partners)
        for (job, partner), receipted in notices.outbox.items():
            self._relay.wake(job, partner, receipted)
        for (job, partner), applied in notices.receipted.items():
            self._relay.receipted(job, partner, applied, answered=(job, partner) in notices.answered)
        for line in notices.answered:
            self.resting_there.pop(line, None)
        self.resting_there.update(notices.resting)
        for (job, partner), asked in notices.receipts.items():
            self._relay.owe(job, partner, asked=asked)
        for (job, partner), size in notices.unreceipted.items():
            self._executor.unreceipted(job, partner, size)
        for task in notices.tasks:
            self._executor.put(task)
        self._tell_of_ends(notices)
        for question in notices.questions:
            if isinstance(question.message, unsequenced.PeerAnswer):
                self.answered(question)
            else:
                self.probes.take(question)

    def _tell_of_ends(self, notices: Notices) -> None:
        for job in notices.silenced:
            self._relay.drop(job)
        for (job, partner), code in notices.frozen.items():
            self._relay.frozen(job, partner, code)
        for job in notices.ended:
            for partner in self._gate.partners_of(job):
                self.resting_there.pop((job, partner), None)
            self._gate.end(job)
            self._executor.drop(job)
            self.lookups.ended(job)
            if job in notices.silenced:
                self.ended(job)
            else:
                self._finished.put_nowait(job)

    async def _clear_finished(self) -> None:
        """Erase the secrets of finished jobs. A frozen job keeps its own: the right journal may come back.

        So does a job of which everything is kept, until it is purged.
        """
        while True:
            job = await self._finished.get()
            self._config.crash("finish.committed")
            if not await self._kept(job):
                await asyncio.to_thread(self._secrets.erase, job)
            self.ended(job)

    async def _kept(self, job: str) -> bool:
        return await self._journal.read(lambda connection: retention.keeps_all(connection, job))

    async def _locate(self, task: ReadyTask) -> tuple[Location, ...]:
        def unit(connection: Connection) -> tuple[Location, ...]:
            return tuple(self._blobs.locate(connection, task.job, ref.sha256) for ref in task.inputs)

        try:
            return await self._journal.read(unit)
        except BlobMissing as error:
            raise LookupError(str(error)) from None

    # -- for the console and tests ----------------------------------------------------------------------------

    @property
    def relay_counts(self) -> RelayCounts:
        """What the relay did since the start."""
        return self._relay.counts

    @property
    def worker_processes(self) -> tuple[int, ...]:
        """Process ids of the workers."""
        return self._executor.processes

    @property
    def tasks_waiting(self) -> Mapping[str, int]:
        """How many tasks of each job wait for a worker."""
        return self._executor.waiting

    @property
    def transport_state(self) -> TransportState:
        """Whether the broker is there, and what is missing."""
        return self._transport.state

    def clock(self) -> float:
        """This daemon's time, seconds since 1970."""
        return self._config.surroundings.clock()

    async def queue_depths(self) -> dict[str, int]:
        """Messages that wait for this party at the broker, by queue; empty where the transport cannot tell."""
        return await self._transport.depths() if isinstance(self._transport, QueueDepths) else {}

    @property
    def disk(self) -> DiskWatch:
        """Whether a full disk holds the daemon up."""
        return self._runner.disk

    @property
    def journal(self) -> Journal:
        """The journal, for reads by console and audit."""
        return self._journal
