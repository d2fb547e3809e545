"""How a job ends at this party, by its machine, by the engine's own decision or for good, and who is told."""

import re
from collections.abc import Callable, Sequence
from typing import Final

import msgspec
import structlog
from sqlalchemy import Connection, delete, update

from messages import schemas
from protocol.effects import Finish
from services.engine import jobs
from services.engine.jobs import JobRecord, Status
from services.engine.lines import Line
from services.engine.notices import Notices
from services.engine.outbox import Outbox
from services.store import chain
from services.store.blobs import BlobStore
from services.store.journal_schema import progress, tasks

log = structlog.get_logger("jobs")

_NOT_IN_CODE: Final = re.compile(r"[^a-z0-9_]")
_REASON_MAX: Final = 2000
KEYS_CHANGED: Final = "keys_changed"


class Endings:
    """The part of `services.engine.stepping.Stepper` that ends jobs; arguments as there."""

    def __init__(
        self, outbox: Outbox, blobs: BlobStore, clock: Callable[[], float], entropy: Callable[[int], bytes]
    ) -> None:
        self._outbox = outbox
        self._blobs = blobs
        self._clock = clock
        self._entropy = entropy

    def _finish(self, connection: Connection, record: JobRecord, effect: Finish, notices: Notices) -> None:
        """Release everything but results and what partners have given no receipt for yet; a tombstone stays."""
        record.status = Status.FINISHED.value
        record.outcome, record.reason_code, record.reason = effect.outcome, effect.reason_code, effect.reason
        record.results = jobs.encode_refs(effect.results)
        connection.execute(delete(tasks).where(tasks.c.job == record.job))
        self._outbox.drop_unnumbered(connection, record, notices)
        keep = self._outbox.bulk_references(connection, record.job)
        for ref in effect.results:
            self._blobs.locate(connection, record.job, ref.sha256)
            keep[ref.sha256] = keep.get(ref.sha256, 0) + 1
        self._blobs.retain(connection, record.job, keep)
        for line in record.lines.values():
            line.bulk_consumed = line.bulk_received
            if line.applied:
                notices.owe(record.job, line.partner)
        connection.execute(update(progress).where(progress.c.job == record.job).values(waits_for=""))
        notices.tasks = [task for task in notices.tasks if task.job != record.job]
        notices.ended.append(record.job)
        log.info("job ended", job=record.job, outcome=effect.outcome, reason_code=effect.reason_code or None)

    def fail(
        self,
        connection: Connection,
        record: JobRecord,
        code: str,
        reason: str,
        notices: Notices,
        *,
        told: str = "",
    ) -> None:
        """End a job by the engine's own decision and tell every partner that can be told.

        `reason` stays here where there is a text to be `told` instead.
        """
        hear = [name for name in record.partners if self._outbox.knows(name)]
        self._end(connection, record, code, reason, (told or reason)[:_REASON_MAX], hear, notices)

    def desert(self, connection: Connection, record: JobRecord, line: Line, code: str, notices: Notices) -> None:
        """A partner has frozen the job: it takes nothing more, so end ours, tell the others and send it nothing."""
        if record.running:
            reason = f"{line.partner} cannot go on with this job ({code}) and has frozen it"
            hear = [name for name in record.partners if name != line.partner and self._outbox.knows(name)]
            told = reason if hear else ""
            self._end(connection, record, chain.PARTNER_FROZEN, reason, told, hear, notices)
        self._outbox.drop_all(connection, record, line, notices)

    def outdate(self, connection: Connection, record: JobRecord, reason: str, notices: Notices) -> None:
        """The keys that a job was agreed with are no more: end it, and send nothing more of it.

        What was signed with them nobody takes any more. Each partner ends its own when it learns of the new keys.
        """
        if record.running:
            self._end(connection, record, KEYS_CHANGED, reason, "", (), notices)
        for line in record.lines.values():
            self._outbox.drop_all(connection, record, line, notices)

    def _end(
        self,
        connection: Connection,
        record: JobRecord,
        code: str,
        reason: str,
        told: str,
        hear: Sequence[str],
        notices: Notices,
    ) -> None:
        """`hear`: the partners that read `told`."""
        code = _NOT_IN_CODE.sub("_", code)[:64] or "failed"
        self._fault(connection, record, code, reason, told, hear)
        message = schemas.JobFailed(reason_code=code, reason=told)
        for name in hear:
            self._outbox.send(connection, record, record.lines[name], message, self._clock(), notices)
        ending = Finish(outcome="failed", reason_code=code, reason=reason[:_REASON_MAX])
        self._finish(connection, record, ending, notices)

    def _fault(
        self, connection: Connection, record: JobRecord, code: str, reason: str, told: str, hear: Sequence[str]
    ) -> None:
        """Append the engine's own decision to the chain.

        `told` is what the partners in `hear` read of it, empty if nobody does: a replay compares it with what was
        sent. Only where some are left out are they named.
        """
        said = {"code": code, "reason": reason[:_REASON_MAX], "told": told}
        if told and (untold := [name for name in record.partners if name not in hear]):
            said["untold"] = ",".join(untold)
        jobs.append_entry(
            connection,
            record,
            chain.FAULT,
            self._clock(),
            salt=self._entropy(chain.SALT_BYTES),
            event=msgspec.msgpack.encode(said),
        )

    def freeze(self, record: JobRecord, code: str, reason: str, notices: Notices) -> None:
        """Stop a job for good: what is on disk cannot be trusted, so it says nothing more but that it is frozen."""
        record.status = Status.FROZEN.value
        record.reason_code, record.reason = code, reason
        record.updated_at = self._clock()
        notices.ended.append(record.job)
        notices.silenced.append(record.job)
        for name in record.partners:
            if self._outbox.knows(name):
                notices.frozen[record.job, name] = code
        log.error("job frozen", job=record.job, reason=reason)
