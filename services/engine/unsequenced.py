"""Messages beside the sequence of a job: receipts, questions and answers, and that a job is frozen or rests."""

from collections.abc import Callable

from sqlalchemy import Connection

from messages import schemas, unsequenced
from messages.envelope import Envelope, Header
from services.engine import jobs
from services.engine.envelopes import Envelopes, Unreadable
from services.engine.jobs import JobRecord, Status
from services.engine.lines import Line
from services.engine.notices import Notices, Question
from services.engine.outbox import Outbox, ReceiptAhead
from services.engine.stepping import Stepper
from services.store.limits import CREDIT_WINDOW


class Unsequenced:
    """Takes them inside the unit of work of their delivery."""

    def __init__(self, envelopes: Envelopes, outbox: Outbox, stepper: Stepper, *, clock: Callable[[], float]) -> None:
        self._envelopes = envelopes
        self._outbox = outbox
        self._stepper = stepper
        self._clock = clock

    def take(self, connection: Connection, envelope: Envelope, notices: Notices) -> str:
        """Take one; returns why it is parked, or nothing."""
        header = envelope.header
        if header.sequence != 0:
            return "sequence_unexpected"
        try:
            message, _ = self._envelopes.read(header, envelope.body)
        except Unreadable as error:
            return error.code
        if isinstance(message, unsequenced.PeerProbe | unsequenced.PeerAnswer):
            notices.questions.append(Question(header.sender, header.job, message))
            return ""
        record = jobs.load(connection, header.job)
        if record is None:
            return self._of_no_job(header, message, notices)
        line = record.lines.get(header.sender)
        if line is None:
            return "not_a_party"
        if record.status == Status.FROZEN.value:
            return answer_frozen(record, line, notices)
        return self._about(connection, record, line, message, notices)

    def _about(
        self, connection: Connection, record: JobRecord, line: Line, message: schemas.Message, notices: Notices
    ) -> str:
        """An unsequenced message about a job that is not frozen."""
        refusal = ""
        match message:
            case unsequenced.ScoreAsk() | unsequenced.ScoreAnswer():
                # Those that can be taken never come here: see `services.daemon.lookups`.
                return "lookup_unwanted"
            case unsequenced.JobFrozen():
                self._stepper.desert(connection, record, line, message.reason_code, notices)
            case unsequenced.JobResting():
                if record.running:
                    notices.resting[record.job, line.partner] = message.reason_code
                return ""
            case unsequenced.ReceiptRequest():
                notices.owe(record.job, line.partner, asked=True)
                return ""
            case unsequenced.ReceiptHeld():
                refusal = self._given(record, line, message.receipted, notices)
            case unsequenced.Receipt():
                credit = min(message.credit, line.bulk_sent + CREDIT_WINDOW)
                refusal = self.receipted(connection, record, line, message.applied, credit, notices)
                notices.answered.add((record.job, line.partner))
        jobs.save(connection, record)
        return refusal

    @staticmethod
    def _of_no_job(header: Header, message: schemas.Message, notices: Notices) -> str:
        """An unsequenced message of a job that this journal does not have."""
        if isinstance(message, unsequenced.ReceiptHeld) and message.receipted:
            # It has receipts of ours, so we had this job once. The journal is an old copy, and must not begin anew.
            notices.frozen[header.job, header.sender] = "job_lost"
            return "job_lost"
        if not isinstance(message, unsequenced.ReceiptRequest):
            return "unknown_job"
        # Its proposal never arrived: say so, and it comes again.
        notices.owe(header.job, header.sender, asked=True)
        return ""

    def _given(self, record: JobRecord, line: Line, receipted: int, notices: Notices) -> str:
        """Check that we have all the messages that the partner holds our receipts for."""
        if receipted <= line.applied:
            return ""
        reason = (
            f"{line.partner} has our receipts for {receipted} messages of job {record.job}, this journal has "
            f"{line.applied}: the journal is an old copy; the job is frozen and must not be continued"
        )
        self._stepper.freeze(record, "receipt_lost", reason, notices)
        return "receipt_lost"

    def receipted(
        self, connection: Connection, record: JobRecord, line: Line, applied: int, credit: int, notices: Notices
    ) -> str:
        """Take a receipt, of a message of its own or of a header. Returns why it cannot be right, or nothing."""
        try:
            self._outbox.take_receipt(connection, record, line, applied, credit, self._clock(), notices)
        except ReceiptAhead as error:
            self._stepper.freeze(record, "receipt_ahead", str(error), notices)
            return "receipt_ahead"
        return ""


def answer_frozen(record: JobRecord, line: Line, notices: Notices) -> str:
    """A message of a job that is frozen: the answer is that it is."""
    notices.frozen[record.job, line.partner] = record.reason_code
    return "job_frozen"
