"""What operators ask of a daemon: start, cancel and look at jobs. The control socket calls nothing else."""

import asyncio
import dataclasses
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import structlog
from sqlalchemy import Connection

from broker.transport import Transport
from messages import unsequenced
from messages.keys import check_name, status_key
from protocol.effects import ApproveDecided, BlobRef, DeclineDecided
from services.engine import jobs, parking
from services.engine.decisions import JobUnknown
from services.engine.envelopes import Envelopes
from services.engine.gate import Gate
from services.engine.jobs import JobView, Status
from services.engine.notices import Question
from services.engine.parking import ParkedView
from services.engine.purging import Purged
from services.engine.relay import Relay
from services.engine.runner import Runner
from services.engine.waiting import Around, Waiting, facts, waits
from services.store.blobs import BlobStore
from services.store.journal import Journal
from services.store.segments import read

log = structlog.get_logger("desk")


STEWARD_DECLINED: Final = "steward_declined"


class DaemonStopped(Exception):
    """The daemon ended before what was waited for."""


class PartnerUnknown(Exception):
    """The daemon has no public identity of this partner."""


class Desk:
    """See the module docstring. All methods belong on the daemon's event loop."""

    def __init__(
        self,
        journal: Journal,
        runner: Runner,
        relay: Relay,
        blobs: BlobStore,
        envelopes: Envelopes,
        transport: Transport,
        expiry_of: Callable[[bytes], float],
        partners_of: Callable[[bytes, str], tuple[str, ...]],
        gate: Gate,
    ) -> None:
        self._journal = journal
        self._runner = runner
        self._relay = relay
        self._blobs = blobs
        self._envelopes = envelopes
        self._transport = transport
        self._expiry_of = expiry_of
        self._partners_of = partners_of
        self._gate = gate
        self.resting_there: dict[tuple[str, str], str] = {}
        self._endings: dict[str, asyncio.Event] = {}
        self._answers: dict[str, asyncio.Future[unsequenced.PeerAnswer]] = {}
        self._over = False
        self.on_end: Callable[[str], None] = lambda job: None
        """Told of every job that ended or was frozen."""

    def close(self) -> None:
        """The daemon is about to end: who waits for a job is told."""
        self._over = True
        for ended in self._endings.values():
            ended.set()

    def ended(self, job: str) -> None:
        """A job ended or was frozen."""
        if job in self._endings:
            self._endings[job].set()
        self.on_end(job)

    def answered(self, question: Question) -> None:
        """A `peer.answer` came."""
        waiter = self._answers.pop(f"{question.sender}/{question.job}", None)
        if waiter is not None and not waiter.done() and isinstance(question.message, unsequenced.PeerAnswer):
            waiter.set_result(question.message)
        else:
            log.info("nobody waits for this answer to a probe", partner=question.sender)

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

        `partner`: the first one; the contract names the others.

        Raises:
            PartnerUnknown: no such peer.
            JobExists: the identifier was used before.
            AddressError: the identifier is no name.
            JournalUnavailable: nothing happened.

        """
        for name in self._partners_of(contract, partner):
            if name not in self._envelopes.peers:
                raise PartnerUnknown(f"{name} is no peer of {self._envelopes.party}")
        check_name(job, "job")
        await self._runner.submit(
            job,
            role,
            partner,
            contract=contract,
            blobs=blobs,
            facts=facts,
            expires_at=self._expiry_of(contract),
        )

    async def cancel(self, job: str, reason: str) -> None:
        """End a job by decision of the operator. Raises JobUnknown, JobOver, JournalUnavailable."""
        await self._runner.cancel(job, reason)

    async def approve(self, job: str) -> None:
        """The steward lets a job begin. Raises JobUnknown, JobOver, NotPending, JournalUnavailable."""
        await self._runner.answer(job, ApproveDecided())

    async def decline(self, job: str, reason: str) -> None:
        """The steward refuses a job that asks. Raises JobUnknown, JobOver, NotPending, JournalUnavailable."""
        await self._runner.answer(job, DeclineDecided(reason_code=STEWARD_DECLINED, reason=reason))

    async def revoke(self, job: str, reason: str) -> None:
        """This provider takes its consent back. Raises JobUnknown, JobOver, NotProvider, JournalUnavailable."""
        await self._runner.revoke(job, reason)

    async def purge(self, job: str) -> Purged:
        """Erase what is kept of a job that has ended. Raises AuditError."""
        return await self._runner.purge(job)

    async def jobs(self) -> list[JobView]:
        """All jobs, oldest first."""
        return await self._journal.read(jobs.views)

    async def done(self) -> list[str]:
        """Jobs that have results in the journal, oldest first."""
        return await self._journal.read(jobs.with_results)

    async def job(self, job: str) -> JobView:
        """One job with its progress. Raises JobUnknown."""
        found = await self._journal.read(lambda connection: jobs.view(connection, job))
        if found is None:
            raise JobUnknown(f"there is no job {job}")
        return found

    async def waits(self, job: str = "") -> dict[str, Waiting]:
        """What each job (or this one) waits for, of those that wait."""
        known = await self._journal.read(lambda connection: facts(connection, job))
        around = Around(
            refusals=self._relay.refusals,
            stuck=self._runner.disk.trouble or ("no commit yet" if self._runner.stuck_since else ""),
            resting=self._gate.resting,
            resting_there=self.resting_there,
        )
        return waits(known, self._transport.state, around)

    async def say_status(self, job: str, body: bytes) -> None:
        """Publish what is told of a job to whoever subscribes. Raises PublishFailed; nothing depends on it."""
        await self._transport.publish(status_key(self._envelopes.party, job), body)

    async def wait(self, job: str) -> JobView:
        """Wait until a job has ended or is frozen. Raises JobUnknown, DaemonStopped."""
        ended = self._endings.setdefault(job, asyncio.Event())
        found = await self.job(job)
        while found.status == Status.RUNNING.value:
            await ended.wait()
            if self._over:
                raise DaemonStopped("the daemon stopped")
            found = await self.job(job)
        self._endings.pop(job, None)
        return found

    async def result(self, job: str, ref: BlobRef) -> bytes:
        """The bytes of a result (or any blob) of a job. Raises BlobMissing, BlobDamaged."""
        return await self._journal.read(lambda connection: self.blob(connection, job, ref))

    def blob(self, connection: Connection, job: str, ref: BlobRef) -> bytes:
        """`result` inside a unit of work."""
        return read(self._blobs.locate(connection, job, ref.sha256))

    async def statistics(self, job: str = "") -> dict[str, int]:
        """Counters of a job, or of the daemon."""
        return await self._journal.read(lambda connection: jobs.statistics(connection, job))

    async def cost(self) -> dict[str, float]:
        """What the journal has cost since the start: see `Cost`; chain entries, and bytes of segments and disk."""
        entries = await self._journal.read(jobs.entries)
        return {
            **dataclasses.asdict(self._journal.cost),
            "entries": entries,
            "segment_bytes": self._blobs.bytes_written,
            "disk_bytes": disk_bytes(),
        }

    async def parked(self, limit: int = 100) -> list[ParkedView]:
        """The newest parked deliveries."""
        return await self._journal.read(lambda connection: parking.parked_rows(connection, limit))

    async def parked_codes(self) -> dict[str, int]:
        """How often each reason for parking came up."""
        return await self._journal.read(parking.parked_codes)

    async def probe(self, partner: str, message: unsequenced.PeerProbe, *, timeout_s: float) -> unsequenced.PeerAnswer:
        """Ask a partner whether it is there. Raises TimeoutError, PartnerUnknown."""
        if partner not in self._envelopes.peers:
            raise PartnerUnknown(f"{partner} is no peer of {self._envelopes.party}")
        name = f"probe-{uuid.uuid4().hex}"
        waiter: asyncio.Future[unsequenced.PeerAnswer] = asyncio.get_running_loop().create_future()
        self._answers[f"{partner}/{name}"] = waiter
        try:
            async with asyncio.timeout(timeout_s):
                await self._transport.connected()
                await self._relay.say(name, partner, message)
                return await waiter
        finally:
            self._answers.pop(f"{partner}/{name}", None)


def disk_bytes() -> int:
    """Bytes that this process had its file systems write, in whole pages; 0 where there is no /proc to read it from."""
    counters = Path("/proc/self/io")
    if not counters.exists():
        return 0
    return sum(int(line.split()[1]) for line in counters.read_text().splitlines() if line.startswith("write_bytes:"))
