"""The relay: publishes each job's outbox in order for each partner, sends receipts, and asks after silence.

Its cursor is memory: after a restart it asks the partner what it has and sends the rest. Silence never makes
it send bulk again by itself; only an answer does. Nothing here is an event of a job.
"""

import asyncio
import functools
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import structlog
from sqlalchemy import Connection

from broker.transport import PublishCode, PublishFailed, Transport
from messages import codec, schemas, unsequenced
from messages.envelope import assemble
from services.engine import jobs, outbox
from services.engine.envelopes import Envelopes
from services.engine.outbox import Outgoing
from services.engine.pace import Pace
from services.engine.relay_line import RelayLine
from services.store.blobs import BlobStore
from services.store.crash import CrashHook
from services.store.journal import Journal
from services.store.limits import CREDIT_WINDOW, Timing
from services.store.segments import BlobDamaged, BlobMissing, read

log = structlog.get_logger("relay")


@dataclass(slots=True)
class RelayCounts:
    """What the relay did since the daemon started."""

    published: int = 0
    published_again: int = 0
    bulk_published_again: int = 0
    questions: int = 0
    receipts: int = 0
    failures: int = 0


class Relay:
    """See the module docstring. `chance` jitters the waits; `broken` is told of a job whose messages are damaged;
    `rests` says why a job rests at present: its messages wait, but for receipts;
    `rate`: bytes of bulk that may leave for a partner in a second, 0 for any number."""

    def __init__(
        self,
        journal: Journal,
        transport: Transport,
        envelopes: Envelopes,
        blobs: BlobStore,
        *,
        timing: Timing,
        chance: random.Random,
        broken: Callable[[str, str, str], Awaitable[None]],
        rests: Callable[[str], str],
        rate: Callable[[str], float],
        crash: CrashHook,
    ) -> None:
        self._journal = journal
        self._transport = transport
        self._envelopes = envelopes
        self._blobs = blobs
        self._timing = timing
        self._chance = chance
        self._broken = broken
        self._rests = rests
        self._pace = Pace(rate)
        self._crash = crash
        self._lines: dict[tuple[str, str], RelayLine] = {}
        self._tasks: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._group: asyncio.TaskGroup | None = None
        self._highest: dict[tuple[str, str], int] = {}
        self._owed: dict[tuple[str, str], bool] = {}
        self._owing = asyncio.Event()
        self._said: dict[tuple[str, str], tuple[int, int]] = {}
        self._frozen: dict[tuple[str, str], str] = {}
        self._freezing = asyncio.Event()
        self.counts = RelayCounts()

    @property
    def refusals(self) -> dict[str, str]:
        """Why the broker does not take a job's next message, of the jobs of which it does not."""
        return {line.job: line.refused for line in self._lines.values() if line.refused}

    # -- called by the daemon, on the loop ------------------------------------------------------------------

    def wake(self, job: str, partner: str, receipted: int) -> None:
        """The outbox of a job has something new for a partner."""
        line = self._lines.get((job, partner))
        if line is None:
            line = self._open(job, partner, cursor=receipted, receipted=receipted)
        line.wake.set()

    def resume(self, job: str, partner: str, *, sent: int, receipted: int) -> None:
        """After a restart: what has been published is unknown, so ask before anything is sent again."""
        line = self._open(job, partner, cursor=sent, receipted=receipted)
        line.ask_now = True

    def receipted(self, job: str, partner: str, applied: int, *, answered: bool) -> None:
        """A receipt came (`answered`: as a message of its own)."""
        line = self._lines.get((job, partner))
        if line is None:
            return
        if applied > line.receipted or answered:
            line.quiet_since = asyncio.get_running_loop().time()
        if applied > line.receipted:
            line.receipted = applied
            line.wait = self._jittered(self._timing.silence_first)
        if answered and line.asked:
            line.asked = False
            if line.asked_up_to > line.receipted:
                # Something is missing and goes out again: the next silence is a new one.
                line.cursor, line.missing_up_to = line.receipted, line.asked_up_to
                line.wait = self._jittered(self._timing.silence_first)
        line.cursor = max(line.cursor, line.receipted)
        line.wake.set()

    def owe(self, job: str, partner: str, *, asked: bool) -> None:
        """A receipt is due; with `asked` even when nothing has changed since the last one."""
        self._owed[job, partner] = asked or self._owed.get((job, partner), False)
        self._owing.set()

    def frozen(self, job: str, partner: str, code: str) -> None:
        """The partner is to be told that a job is frozen here."""
        self._frozen[job, partner] = code
        self._freezing.set()

    def reconnected(self) -> None:
        """The transport has a new connection: what it had confirmed may be gone."""
        for line in self._lines.values():
            line.ask_now = True
            line.wake.set()

    def look_again(self, job: str, partners: Sequence[str]) -> None:
        """A job began to rest, or goes on: the partners are told with a receipt."""
        for partner in partners:
            self.owe(job, partner, asked=True)
            if line := self._lines.get((job, partner)):
                line.wake.set()

    def drop(self, job: str) -> None:
        """Say nothing more of a job."""
        for key in [key for key in self._lines if key[0] == job]:
            del self._lines[key]
            self._highest.pop(key, None)
            task = self._tasks.pop(key, None)
            if task is not None:
                task.cancel()

    # -- running --------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Publish until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            for line in self._lines.values():
                self._tasks[line.key] = group.create_task(self._serve(line))
            group.create_task(self._send_receipts())
            group.create_task(self._say_frozen())

    def _open(self, job: str, partner: str, *, cursor: int, receipted: int) -> RelayLine:
        line = RelayLine(
            job=job,
            partner=partner,
            cursor=cursor,
            receipted=receipted,
            wait=self._jittered(self._timing.silence_first),
            quiet_since=asyncio.get_running_loop().time(),
            reached=cursor,
        )
        self._lines[line.key] = line
        if self._group is not None:
            self._tasks[line.key] = self._group.create_task(self._serve(line))
        return line

    def _jittered(self, seconds: float) -> float:
        return seconds * self._chance.uniform(0.75, 1.25)

    async def _serve(self, line: RelayLine) -> None:
        """Publish what is in order, then wait for a sign, then ask."""
        while True:
            line.wake.clear()
            if line.ask_now:
                await self._ask(line)
            if line.missing_up_to and line.cursor >= line.missing_up_to:
                line.cursor, line.missing_up_to = line.reached, 0
            message, outstanding = await self._journal.read(
                lambda connection: outbox.next_after(connection, line.job, line.partner, line.cursor)
            )
            resting = self._rests(line.job)
            if message is not None and not resting:
                await self._publish_message(line, message)
                continue
            if not outstanding and message is None and not line.wake.is_set():
                # Nothing awaits between the check and here, so no wake-up can be lost.
                del self._lines[line.key]
                self._tasks.pop(line.key, None)
                self._highest.pop(line.key, None)
                return
            await self._listen(line)

    async def _listen(self, line: RelayLine) -> None:
        loop = asyncio.get_running_loop()
        left = line.quiet_since + line.wait - loop.time()
        try:
            async with asyncio.timeout(max(0.0, left)):
                await line.wake.wait()
        except TimeoutError:
            line.ask_now = True
            line.quiet_since = loop.time()
            line.wait = min(self._jittered(self._timing.silence_last), line.wait * 2)

    async def _ask(self, line: RelayLine) -> None:
        await self._transport.connected()
        sent, held = await self._journal.read(lambda connection: _sent(connection, line.job, line.partner))
        line.ask_now = False
        line.asked, line.asked_up_to = True, line.reached
        self.counts.questions += 1
        await self.say(line.job, line.partner, unsequenced.ReceiptRequest(sent=sent))
        if held:
            await self.say(line.job, line.partner, unsequenced.ReceiptHeld(receipted=held))

    async def _publish_message(self, line: RelayLine, message: Outgoing) -> None:
        try:
            data = await self._journal.read(lambda connection: self._assembled(connection, line.job, message))
        except BlobDamaged as error:
            if not await self._journal.read(functools.partial(_contains, line=line, sequence=message.sequence)):
                # A receipt came while the body was being read, and its segment went with it.
                return
            await self._broken(line.job, "blob_damaged", f"message {message.sequence} cannot be sent again: {error}")
            return
        if data is None:
            return
        if message.bulk:
            await self._pace.keep(line.partner, len(data))
        self._crash("relay.before_publish")
        key = self._envelopes.key(line.partner, message.kind, line.job)
        if not await self._publish(key, data, line):
            return
        self._crash("relay.after_publish")
        self._note(line, message)
        line.cursor = max(line.cursor, message.sequence)
        line.reached = max(line.reached, line.cursor)
        line.quiet_since = max(line.quiet_since, asyncio.get_running_loop().time())

    def _note(self, line: RelayLine, message: Outgoing) -> None:
        self.counts.published += 1
        if message.sequence <= self._highest.get(line.key, 0):
            self.counts.published_again += 1
            self.counts.bulk_published_again += message.bulk
        else:
            self._highest[line.key] = message.sequence

    def _assembled(self, connection: Connection, job: str, message: Outgoing) -> bytes | None:
        """The stored envelope; None when a receipt has overtaken it."""
        body = message.body
        if message.bulk:
            try:
                body = read(self._blobs.locate(connection, job, message.sha256))
            except BlobMissing:
                return None
        return assemble(message.header, message.signature, body)

    async def _publish(self, key: str, data: bytes, line: RelayLine) -> bool:
        """Publish with patience; False when the connection was lost on the way."""
        wait = self._timing.retry_first
        while True:
            try:
                await self._transport.publish(key, data)
            except PublishFailed as failure:
                self.counts.failures += 1
                if failure.code is PublishCode.DISCONNECTED:
                    await self._transport.connected()
                    line.ask_now = True
                    return False
                if failure.code is PublishCode.OVERSIZED:
                    reason = f"a message is too large for the broker: {failure.detail}"
                    await self._broken(line.job, "message_oversized", reason)
                    return False
                line.refused = failure.detail
                log.warning(
                    "publish failed", job=line.job, partner=line.partner, code=str(failure.code), wait=round(wait, 1)
                )
                await asyncio.sleep(self._jittered(wait))
                wait = min(self._timing.retry_last, wait * 2)
            else:
                line.refused = ""
                return True

    # -- receipts -------------------------------------------------------------------------------------------

    async def _send_receipts(self) -> None:
        while True:
            await self._owing.wait()
            await asyncio.sleep(self._timing.receipt_delay)
            self._owing.clear()
            owed, self._owed = self._owed, {}
            for (job, partner), asked in owed.items():
                receipt, held, goes_on = await self._journal.read(functools.partial(_receipt, job=job, partner=partner))
                # What was said of a job that is over, or not known here, would be remembered for ever.
                said = self._said.get((job, partner)) if goes_on else self._said.pop((job, partner), None)
                if receipt is None:
                    continue
                state = (receipt.applied, receipt.credit)
                if (asked or said != state) and await self.say(job, partner, receipt):
                    if goes_on and receipt.applied:
                        self._said[job, partner] = state
                    self.counts.receipts += 1
                    if resting := self._rests(job):
                        await self.say(job, partner, unsequenced.JobResting(reason_code=resting))
                    if asked and held:
                        await self.say(job, partner, unsequenced.ReceiptHeld(receipted=held))

    async def _say_frozen(self) -> None:
        """Say of frozen jobs that they are: they have no outbox any more from which it could be sent again."""
        while True:
            await self._freezing.wait()
            await self._transport.connected()
            self._freezing.clear()
            for (job, partner), code in list(self._frozen.items()):
                if await self.say(job, partner, unsequenced.JobFrozen(reason_code=code)):
                    del self._frozen[job, partner]
            if self._frozen:
                await asyncio.sleep(self._jittered(self._timing.retry_first))
                self._freezing.set()

    async def say(self, job: str, partner: str, message: schemas.Message) -> bool:
        """Send an unsequenced message once. If it is lost, somebody will ask."""
        if partner not in self._envelopes.peers:
            return False
        written = self._envelopes.write(job, partner, message)
        key = self._envelopes.key(partner, codec.kind_of(message), job)
        try:
            await self._transport.publish(key, assemble(written.header, written.signature, written.body))
        except PublishFailed as failure:
            self.counts.failures += 1
            log.debug("not sent", job=job, code=str(failure.code))
            return False
        return True


def _sent(connection: Connection, job: str, partner: str) -> tuple[int, int]:
    """Highest sequence sent to a partner, and up to which it gave receipts."""
    record = jobs.load(connection, job)
    line = None if record is None else record.lines.get(partner)
    return (0, 0) if line is None else (line.sent, line.receipted)


def _contains(connection: Connection, line: RelayLine, sequence: int) -> bool:
    return outbox.contains(connection, line.job, line.partner, sequence)


def _receipt(connection: Connection, job: str, partner: str) -> tuple[unsequenced.Receipt | None, int, bool]:
    """What we have of the partner's messages (of a job that we do not know, nothing), what it has of ours, and whether
    the job goes on."""
    record = jobs.load(connection, job)
    if record is None:
        return unsequenced.Receipt(applied=0, credit=CREDIT_WINDOW), 0, False
    line = record.lines.get(partner)
    if record.status == jobs.Status.FROZEN.value or line is None:
        return None, 0, False
    return unsequenced.Receipt(applied=line.applied, credit=line.credit_given), line.receipted, record.running
