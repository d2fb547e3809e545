"""Our messages of a job, from the transaction that made them to the receipt of the partner they are for.

A message gets its sequence, header and signature once. Control gets them at once; bulk when there is credit,
in the order in which the machine sent it, so that a cancel waits for one window at most.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import msgspec
from sqlalchemy import Connection, bindparam, delete, insert, select, update

from messages import codec, schemas
from protocol.effects import SendBulk
from services.engine import jobs
from services.engine.envelopes import Envelopes, Unsendable
from services.engine.jobs import JobRecord
from services.engine.lines import Line
from services.engine.notices import Notices
from services.store import chain, retention
from services.store.blobs import BlobStore
from services.store.journal_schema import outbox
from services.store.limits import BULK_BODY_BYTES_MAX

# Built once: to put a statement together costs more than to run it.
_OF_LINE: Final = (outbox.c.job == bindparam("this_job"), outbox.c.recipient == bindparam("this_recipient"))
_PUT: Final = insert(outbox)
_WAITING: Final = select(outbox).where(*_OF_LINE, outbox.c.sequence == 0).order_by(outbox.c.id).limit(bindparam("most"))
_NUMBER: Final = update(outbox).where(outbox.c.id == bindparam("this_id"))
_RECEIPTED: Final = (*_OF_LINE, outbox.c.sequence > 0, outbox.c.sequence <= bindparam("applied"))
_TAKEN: Final = select(outbox.c.sha256, outbox.c.bytes, outbox.c.bulk).where(*_RECEIPTED)
_FORGET: Final = delete(outbox).where(*_RECEIPTED)
_NEXT: Final = (
    select(outbox).where(*_OF_LINE, outbox.c.sequence > bindparam("cursor")).order_by(outbox.c.sequence).limit(1)
)
_ANY: Final = select(outbox.c.id).where(*_OF_LINE).limit(1)


class ReceiptAhead(Exception):
    """The partner has more of us than our journal: the journal is an old copy."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message that may be published. A bulk body is in the blob store under `sha256`."""

    sequence: int
    kind: str
    bulk: bool
    header: bytes
    signature: bytes
    body: bytes = field(repr=False)
    sha256: bytes
    size: int


class Outbox:
    """The table `outbox`, for units of work. `entropy` gives so many random bytes, for salts."""

    def __init__(self, envelopes: Envelopes, blobs: BlobStore, entropy: Callable[[int], bytes]) -> None:
        self._envelopes = envelopes
        self._blobs = blobs
        self._entropy = entropy

    def knows(self, partner: str) -> bool:
        """Whether there are keys to seal to this partner."""
        return partner in self._envelopes.peers

    def send(
        self,
        connection: Connection,
        record: JobRecord,
        line: Line,
        message: schemas.Message,
        at: float,
        notices: Notices,
    ) -> None:
        """Seal, sign and number a control message. Raises Unsendable."""
        written = self._envelopes.write(
            record.job,
            line.partner,
            message,
            sequence=line.sent + 1,
            received=line.applied,
            previous=record.head,
        )
        line.sent += 1
        jobs.append_entry(
            connection,
            record,
            chain.SENT,
            at,
            header=written.header,
            signature=written.signature,
            salt=self._entropy(chain.SALT_BYTES),
            event=msgspec.msgpack.encode(jobs.SentBody(plain_sha256=written.plain_sha256, bytes=len(written.body))),
        )
        if retention.keeps_all(connection, record.job):
            self._blobs.put(connection, record.job, "control", written.body)
        row = {
            "job": record.job,
            "recipient": line.partner,
            "sequence": line.sent,
            "bulk": False,
            "kind": codec.kind_of(message),
            "chunk": 0,
            "chunks": 1,
            "header": written.header,
            "signature": written.signature,
            "body": written.body,
            "sha256": written.sha256,
            "bytes": len(written.body),
        }
        connection.execute(_PUT, row)
        record.count("messages_sent")
        record.count("bytes_sent", len(written.body))
        self._tell(record, line, notices)

    def send_bulk(
        self, connection: Connection, record: JobRecord, line: Line, effect: SendBulk, at: float, notices: Notices
    ) -> None:
        """Take over the reference to a stored chunk; number it if there is credit. Raises Unsendable."""
        if effect.kind not in schemas.BULK:
            raise Unsendable(f"{effect.kind} is not bulk")
        size = self._blobs.locate(connection, record.job, effect.body.sha256).size
        if size > BULK_BODY_BYTES_MAX:
            raise Unsendable(f"chunk {effect.chunk} of {effect.kind} has {size} bytes, {BULK_BODY_BYTES_MAX} at most")
        row = {
            "job": record.job,
            "recipient": line.partner,
            "sequence": 0,
            "bulk": True,
            "kind": effect.kind,
            "chunk": effect.chunk,
            "chunks": effect.chunks,
            "header": b"",
            "signature": b"",
            "body": b"",
            "sha256": effect.body.sha256,
            "bytes": size,
        }
        connection.execute(_PUT, row)
        line.unreceipted_bytes += size
        _gauge(record, line, notices)
        self.number_bulk(connection, record, line, at, notices)
        self._tell(record, line, notices)

    def number_bulk(self, connection: Connection, record: JobRecord, line: Line, at: float, notices: Notices) -> None:
        """Number and sign waiting bulk as far as the credit goes."""
        count = line.credit - line.bulk_sent
        if count <= 0:
            return
        rows = connection.execute(_WAITING, {**_which(record, line), "most": count}).all()
        for row in rows:
            header, signature = self._envelopes.sign(
                record.job,
                line.partner,
                row.kind,
                body_sha256=row.sha256,
                sequence=line.sent + 1,
                received=line.applied,
                previous=record.head,
                chunk=row.chunk,
                chunks=row.chunks,
            )
            line.sent += 1
            line.bulk_sent += 1
            jobs.append_entry(connection, record, chain.SENT, at, header=header, signature=signature)
            numbered = {"sequence": line.sent, "header": header, "signature": signature}
            connection.execute(_NUMBER, {"this_id": row.id, **numbered})
            record.count("bulk_sent")
            record.count("bytes_sent", row.bytes)
        if rows:
            self._tell(record, line, notices)

    def take_receipt(
        self,
        connection: Connection,
        record: JobRecord,
        line: Line,
        applied: int,
        credit: int,
        at: float,
        notices: Notices,
    ) -> bool:
        """Forget what the partner has, use the credit it gives; returns whether anything changed.

        Raises:
            ReceiptAhead: it has more than we have sent.

        """
        if applied > line.sent:
            raise ReceiptAhead(
                f"{line.partner} has {applied} messages of job {record.job}, this journal {line.sent}: "
                "the journal is an old copy; the job is frozen and must not be continued"
            )
        changed = False
        if applied > line.receipted:
            changed = True
            self._forget(connection, record, line, applied, notices)
        if credit > line.credit:
            changed = True
            line.credit = credit
            self.number_bulk(connection, record, line, at, notices)
        notices.receipted[record.job, line.partner] = line.receipted
        return changed

    def _forget(self, connection: Connection, record: JobRecord, line: Line, applied: int, notices: Notices) -> None:
        which = {**_which(record, line), "applied": applied}
        rows = connection.execute(_TAKEN, which).all()
        for row in rows:
            if row.bulk:
                self._blobs.release(connection, record.job, row.sha256)
                line.unreceipted_bytes -= row.bytes
        connection.execute(_FORGET, which)
        line.receipted = applied
        _gauge(record, line, notices)

    def drop_unnumbered(self, connection: Connection, record: JobRecord, notices: Notices) -> None:
        """Forget bulk that never got a sequence: the job is over."""
        where = (outbox.c.job == record.job, outbox.c.sequence == 0)
        for row in connection.execute(select(outbox.c.recipient, outbox.c.bytes).where(*where)).all():
            record.lines[row.recipient].unreceipted_bytes -= row.bytes
        connection.execute(delete(outbox).where(*where))
        for line in record.lines.values():
            _gauge(record, line, notices)

    def drop_all(self, connection: Connection, record: JobRecord, line: Line, notices: Notices) -> None:
        """Forget everything without a receipt: the partner will take nothing more of this job."""
        where = (outbox.c.job == record.job, outbox.c.recipient == line.partner)
        for row in connection.execute(select(outbox.c.sha256).where(*where, outbox.c.bulk.is_(True))).all():
            self._blobs.release(connection, record.job, row.sha256)
        connection.execute(delete(outbox).where(*where))
        line.unreceipted_bytes = 0
        _gauge(record, line, notices)
        self._tell(record, line, notices)

    def bulk_references(self, connection: Connection, job: str) -> dict[bytes, int]:
        """How often the outbox refers to each blob."""
        found: dict[bytes, int] = {}
        for sha256 in connection.scalars(select(outbox.c.sha256).where(outbox.c.job == job, outbox.c.bulk.is_(True))):
            found[sha256] = found.get(sha256, 0) + 1
        return found

    @staticmethod
    def _tell(record: JobRecord, line: Line, notices: Notices) -> None:
        notices.outbox.setdefault((record.job, line.partner), line.receipted)


def next_after(connection: Connection, job: str, recipient: str, cursor: int) -> tuple[Outgoing | None, bool]:
    """The message after `cursor` that may be published, and whether anything is without a receipt."""
    which = {"this_job": job, "this_recipient": recipient}
    row = connection.execute(_NEXT, {**which, "cursor": cursor}).first()
    if row is None:
        return None, connection.scalar(_ANY, which) is not None
    return (
        Outgoing(
            sequence=row.sequence,
            kind=row.kind,
            bulk=row.bulk,
            header=row.header,
            signature=row.signature,
            body=row.body,
            sha256=row.sha256,
            size=row.bytes,
        ),
        True,
    )


def contains(connection: Connection, job: str, recipient: str, sequence: int) -> bool:
    """Whether a message is still without a receipt."""
    where = (outbox.c.job == job, outbox.c.recipient == recipient, outbox.c.sequence == sequence)
    return connection.scalar(select(outbox.c.id).where(*where)) is not None


def lines_with_outbox(connection: Connection) -> list[tuple[str, str]]:
    """Jobs and partners for whom there are messages without a receipt."""
    columns = (outbox.c.job, outbox.c.recipient)
    return [(job, partner) for job, partner in connection.execute(select(*columns).distinct().order_by(*columns))]


def _which(record: JobRecord, line: Line) -> dict[str, str]:
    return {"this_job": record.job, "this_recipient": line.partner}


def _gauge(record: JobRecord, line: Line, notices: Notices) -> None:
    """Tell the executor how much bulk is without a receipt; of a job that is over it has forgotten everything."""
    if record.running:
        notices.unreceipted[record.job, line.partner] = line.unreceipted_bytes
