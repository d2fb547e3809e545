"""The partners' messages of a job: which sequences are known, and which wait for their turn."""

import hashlib
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import Connection, bindparam, delete, func, insert, select

from services.store.journal_schema import held, inbox

# Built once: to put a statement together costs more than to run it.
_KNOWN: Final = select(inbox.c.digest).where(
    inbox.c.job == bindparam("this_job"),
    inbox.c.sender == bindparam("this_sender"),
    inbox.c.sequence == bindparam("this_sequence"),
)
_RECORD: Final = insert(inbox)
_HELD: Final = (
    held.c.job == bindparam("this_job"),
    held.c.sender == bindparam("this_sender"),
    held.c.sequence == bindparam("this_sequence"),
)
_TAKE: Final = select(held).where(*_HELD)
_TAKEN: Final = delete(held).where(*_HELD)


@dataclass(frozen=True, slots=True)
class Waiting:
    """A message that was held back. A bulk body is in the blob store under `sha256`."""

    sequence: int
    bulk: bool
    header: bytes
    signature: bytes
    body: bytes = field(repr=False)
    sha256: bytes
    size: int


def digest_of(header: bytes) -> bytes:
    """What makes two deliveries the same message: the signed header binds everything else."""
    return hashlib.sha256(header).digest()


def known(connection: Connection, job: str, sender: str, sequence: int) -> bytes | None:
    """The digest of a message that is already here, applied or held back."""
    which = {"this_job": job, "this_sender": sender, "this_sequence": sequence}
    digest: bytes | None = connection.scalar(_KNOWN, which)
    return digest


def record(connection: Connection, job: str, sender: str, sequence: int, header: bytes) -> None:
    """Remember a message. The primary key refuses a second one of its sequence."""
    connection.execute(_RECORD, {"job": job, "sender": sender, "sequence": sequence, "digest": digest_of(header)})


def hold(connection: Connection, job: str, sender: str, message: Waiting) -> None:
    """Keep a message for its turn."""
    connection.execute(
        insert(held).values(
            job=job,
            sender=sender,
            sequence=message.sequence,
            bulk=message.bulk,
            header=message.header,
            signature=message.signature,
            body=message.body,
            sha256=message.sha256,
            bytes=message.size,
        )
    )


def take(connection: Connection, job: str, sender: str, sequence: int) -> Waiting | None:
    """Remove and return the message of `sequence`, if it is held back."""
    which = {"this_job": job, "this_sender": sender, "this_sequence": sequence}
    row = connection.execute(_TAKE, which).first()
    if row is None:
        return None
    connection.execute(_TAKEN, which)
    return Waiting(
        sequence=row.sequence,
        bulk=row.bulk,
        header=row.header,
        signature=row.signature,
        body=row.body,
        sha256=row.sha256,
        size=row.bytes,
    )


def bulk_held(connection: Connection, job: str, sender: str) -> int:
    """How many bulk messages of a sender in a job are held back."""
    where = (held.c.job == job, held.c.sender == sender, held.c.bulk.is_(True))
    return connection.scalar(select(func.count()).select_from(held).where(*where)) or 0
