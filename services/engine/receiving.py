"""One delivery inside a unit of work: checked, deduplicated, held back or applied, or parked.

Nothing here raises for what a partner or a stranger sent: every refusal has a code in the parked table or
ends the one job whose signed message it was.
"""

from collections.abc import Callable

from sqlalchemy import Connection

from broker.transport import Delivery
from messages import schemas, unsequenced
from messages.envelope import Envelope, EnvelopeError, Header, read_header
from protocol.effects import BlobRef, BulkReceived, ControlReceived, DeclineDecided, RevokeDecided
from services.engine import inbox, jobs, parking
from services.engine.envelopes import Envelopes, Unreadable
from services.engine.inbox import Waiting
from services.engine.jobs import JobRecord, Status
from services.engine.lines import Line
from services.engine.notices import Notices
from services.engine.outbox import Outbox
from services.engine.stepping import Stepper
from services.engine.unsequenced import Unsequenced, answer_frozen
from services.engine.waiting import note_sign
from services.party.logs import speaking_of
from services.store import chain, retention
from services.store.blobs import BlobStore
from services.store.job_secrets import JobSecrets
from services.store.limits import (
    BULK_BODY_BYTES_MAX,
    CONTROL_BODY_BYTES_MAX,
    CREDIT_WINDOW,
    HOLD_AHEAD,
    JOBS_PER_PARTNER_MAX,
    LATE_MESSAGES_MAX,
    SIGN_PERIOD_S,
)

OPENING_KIND = "job.propose"


def no_objection(connection: Connection, record: JobRecord) -> None:
    """For parties that object to nothing."""
    del connection, record


class Receiving:
    """Takes deliveries.

    Args:
        answering_role: the role of this party in a job whose contract a partner proposes; empty: it is parked.
        expiry_of: the expiry in a contract, seconds since 1970, 0 for none; must not raise.
        objection: what stands against a job that was just proposed, over all jobs of this party; must not raise.

    """

    def __init__(
        self,
        envelopes: Envelopes,
        blobs: BlobStore,
        outbox: Outbox,
        stepper: Stepper,
        secrets: JobSecrets,
        *,
        answering_role: Callable[[bytes], str],
        expiry_of: Callable[[bytes], float],
        clock: Callable[[], float],
        objection: Callable[[Connection, JobRecord], DeclineDecided | RevokeDecided | None] = no_objection,
    ) -> None:
        self._envelopes = envelopes
        self._blobs = blobs
        self._unsequenced = Unsequenced(envelopes, outbox, stepper, clock=clock)
        self._stepper = stepper
        self._secrets = secrets
        self._answering_role = answering_role
        self._expiry_of = expiry_of
        self._clock = clock
        self._objection = objection
        # Survives a rollback: then the next sign is noted a second later, and nothing depends on it.
        self._heard: dict[str, float] = {}

    def take(self, connection: Connection, delivery: Delivery) -> Notices:
        """Take one delivery; after the commit it may be acknowledged, whatever it was."""
        notices = Notices()
        try:
            envelope = self._envelopes.open(delivery.body, delivery.routing_key)
        except EnvelopeError as error:
            parking.park(
                connection,
                at=self._clock(),
                code=error.code,
                routing_key=delivery.routing_key,
                body=delivery.body,
                claimed=error.sender or "",
                header=error.header_bytes or b"",
            )
            return notices
        header = envelope.header
        with speaking_of(job=header.job, partner=header.sender, kind=header.kind, sequence=header.sequence):
            self._note_sign(connection, header.sender)
            refusal = (
                self._unsequenced.take(connection, envelope, notices)
                if header.kind in unsequenced.UNSEQUENCED
                else self._sequenced(connection, envelope, notices)
            )
            if refusal:
                self._park(connection, delivery, envelope, refusal)
        return notices

    def _note_sign(self, connection: Connection, sender: str) -> None:
        """Remember when a partner was last heard of, to the second: a row for every delivery would cost too much."""
        now = self._clock()
        if not 0.0 <= now - self._heard.get(sender, -SIGN_PERIOD_S) < SIGN_PERIOD_S:
            note_sign(connection, sender, now)
            self._heard[sender] = now

    def _park(self, connection: Connection, delivery: Delivery, envelope: Envelope, code: str) -> None:
        parking.park(
            connection,
            at=self._clock(),
            code=code,
            routing_key=delivery.routing_key,
            body=delivery.body,
            sender=envelope.header.sender,
            header=envelope.header_bytes,
        )

    # -- messages of a job ----------------------------------------------------------------------------------

    def _sequenced(self, connection: Connection, envelope: Envelope, notices: Notices) -> str:
        header = envelope.header
        if header.sequence < 1:
            return "sequence_missing"
        bulk = header.kind in schemas.BULK
        if len(envelope.body) > (BULK_BODY_BYTES_MAX if bulk else CONTROL_BODY_BYTES_MAX):
            return "body_oversized"
        record = jobs.load(connection, header.job)
        opened = record is None
        if record is None:
            record, refusal = self._open_job(connection, envelope)
            if record is None:
                return refusal
            notices.begun[record.job] = record.partners
        line = record.lines.get(header.sender)
        if line is None:
            return "not_a_party"
        if record.status == Status.FROZEN.value:
            return answer_frozen(record, line, notices)
        if record.status == Status.ARCHIVED.value:
            return self._archived(connection, record, line, header, notices)
        refusal = self._in_turn(connection, record, line, envelope, notices)
        objection = self._objection(connection, record) if opened and record.running else None
        if objection is not None:
            self._stepper.apply(connection, record, objection, notices, kind=chain.DECIDED)
        jobs.save(connection, record)
        return refusal

    @staticmethod
    def _archived(connection: Connection, record: JobRecord, line: Line, header: Header, notices: Notices) -> str:
        """A message of a job of which only the name is left: counted, receipted, and nothing else.

        The partner may have lost our receipt, or was away when the job left the journal. Without a receipt its outbox
        would never empty, and it would ask for ever. What is out of turn comes again.
        """
        if header.sequence > line.applied + 1:
            return ""
        if header.sequence == line.applied + 1:
            line.applied += 1
            line.late += 1
            line.bulk_received += header.kind in schemas.BULK
            line.bulk_consumed = line.bulk_received
            jobs.save(connection, record)
        notices.owe(record.job, line.partner, asked=True)
        return ""

    def _open_job(self, connection: Connection, envelope: Envelope) -> tuple[JobRecord | None, str]:
        """A job proposed to this party; None and a code when it is not."""
        header = envelope.header
        if header.kind != OPENING_KIND or header.sequence != 1:
            return None, "unknown_job"
        try:
            message, _ = self._envelopes.read(header, envelope.body)
        except Unreadable as error:
            return None, error.code
        assert isinstance(message, schemas.JobPropose)
        role = self._answering_role(message.contract)
        if not role:
            return None, "proposal_unwanted"
        if jobs.running_jobs_of(connection, header.sender, role) >= JOBS_PER_PARTNER_MAX:
            return None, "too_many_jobs"
        self._secrets.create(header.job)
        record = self._stepper.create(
            connection,
            header.job,
            role,
            header.sender,
            expires_at=self._expiry_of(message.contract),
            contract=message.contract,
        )
        return record, ""

    def _in_turn(
        self, connection: Connection, record: JobRecord, line: Line, envelope: Envelope, notices: Notices
    ) -> str:
        header = envelope.header
        refusal = self._unsequenced.receipted(connection, record, line, header.received, 0, notices)
        if refusal:
            return refusal
        if header.sequence <= line.applied + HOLD_AHEAD:
            found = inbox.known(connection, record.job, header.sender, header.sequence)
            if found is not None:
                return self._repeated(record, envelope, found, notices)
        if header.sequence > line.applied + 1:
            return self._ahead(connection, record, line, envelope)
        if not record.running and line.late >= LATE_MESSAGES_MAX:
            return "job_finished"
        inbox.record(connection, record.job, header.sender, header.sequence, envelope.header_bytes)
        bulk = header.kind in schemas.BULK
        if bulk and record.running:
            self._blobs.put(connection, record.job, header.kind, envelope.body)
        self._count(record, len(envelope.body))
        self._apply(connection, record, line, self._waiting(envelope), header, notices)
        while True:
            waiting = inbox.take(connection, record.job, line.partner, line.applied + 1)
            if waiting is None:
                break
            self._apply(connection, record, line, waiting, read_header(waiting.header), notices)
        notices.owe(record.job, line.partner)
        return ""

    def _repeated(
        self,
        record: JobRecord,
        envelope: Envelope,
        found: bytes,
        notices: Notices,
    ) -> str:
        if found != inbox.digest_of(envelope.header_bytes):
            return "sequence_conflict"
        record.count("duplicates")
        notices.owe(record.job, envelope.header.sender)
        return ""

    def _ahead(self, connection: Connection, record: JobRecord, line: Line, envelope: Envelope) -> str:
        """Hold a message back for its turn, as far as there is room; otherwise it comes again."""
        header = envelope.header
        bulk = header.kind in schemas.BULK
        unconsumed = line.bulk_received - line.bulk_consumed
        full = bulk and unconsumed + inbox.bulk_held(connection, record.job, line.partner) >= CREDIT_WINDOW
        if full or not record.running or header.sequence >= line.applied + HOLD_AHEAD:
            record.count("dropped_ahead")
            return ""
        inbox.record(connection, record.job, header.sender, header.sequence, envelope.header_bytes)
        if bulk:
            self._blobs.put(connection, record.job, header.kind, envelope.body)
        inbox.hold(connection, record.job, line.partner, self._waiting(envelope))
        record.count("held_back")
        self._count(record, len(envelope.body))
        return ""

    @staticmethod
    def _waiting(envelope: Envelope) -> Waiting:
        header = envelope.header
        bulk = header.kind in schemas.BULK
        return Waiting(
            sequence=header.sequence,
            bulk=bulk,
            header=envelope.header_bytes,
            signature=envelope.signature,
            body=b"" if bulk else envelope.body,
            sha256=header.body_sha256,
            size=len(envelope.body),
        )

    @staticmethod
    def _count(record: JobRecord, size: int) -> None:
        record.count("messages_received")
        record.count("bytes_received", size)

    def _apply(
        self,
        connection: Connection,
        record: JobRecord,
        line: Line,
        message: Waiting,
        header: Header,
        notices: Notices,
    ) -> None:
        """Apply the message whose turn it is."""
        line.applied += 1
        line.bulk_received += message.bulk
        if not record.running:
            self._late(connection, record, line, message)
            return
        if not message.bulk and retention.keeps_all(connection, record.job):
            self._blobs.put(connection, record.job, "control", message.body)
        event: BulkReceived | ControlReceived
        try:
            if message.bulk:
                event = self._bulk_event(line, message, header)
            else:
                _, plain = self._envelopes.read(header, message.body)
                event = ControlReceived(kind=header.kind, message=plain, sender=header.sender)
        except Unreadable as error:
            self._entry(connection, record, message)
            self._stepper.fail(connection, record, error.code, error.reason, notices)
            return
        self._stepper.apply(
            connection,
            record,
            event,
            notices,
            kind=chain.RECEIVED,
            header=message.header,
            signature=message.signature,
        )

    @staticmethod
    def _bulk_event(line: Line, message: Waiting, header: Header) -> BulkReceived:
        if line.bulk_received > line.credit_given:
            raise Unreadable(
                "credit_exceeded",
                f"{header.kind} chunk {header.chunk} from {header.sender} is bulk message {line.bulk_received}, "
                f"credit was given up to {line.credit_given}",
            )
        return BulkReceived(
            kind=header.kind,
            chunk=header.chunk,
            chunks=header.chunks,
            body=BlobRef(sha256=message.sha256, rows=0, bytes=message.size),
            sender=header.sender,
        )

    def _late(self, connection: Connection, record: JobRecord, line: Line, message: Waiting) -> None:
        """The job is over here: the message is recorded and receipted, and nothing else happens."""
        line.late += 1
        line.bulk_consumed = line.bulk_received
        record.count("late")
        self._entry(connection, record, message)

    def _entry(self, connection: Connection, record: JobRecord, message: Waiting) -> None:
        jobs.append_entry(
            connection,
            record,
            chain.RECEIVED,
            self._clock(),
            header=message.header,
            signature=message.signature,
        )
