"""Deliveries that cannot be applied: kept in a bounded table, acknowledged, counted, never tried again."""

import hashlib
from dataclasses import dataclass

import structlog
from sqlalchemy import Connection, func, insert, select, update

from services.store.journal_schema import parked, parked_counts
from services.store.limits import PARKED_BYTES_MAX, PARKED_EXCERPT_BYTES, PARKED_ROWS_MAX

log = structlog.get_logger("parking")


@dataclass(frozen=True, slots=True)
class ParkedView:
    """One parked delivery for people. `sender` is empty unless its signature was verified."""

    at: float
    sender: str
    claimed: str
    code: str
    routing_key: str
    digest: str
    bytes: int


def park(
    connection: Connection,
    *,
    at: float,
    code: str,
    routing_key: str,
    body: bytes,
    sender: str = "",
    claimed: str = "",
    header: bytes = b"",
) -> None:
    """Park a delivery; beyond the bounds of its sender it is only counted."""
    counted = (parked_counts.c.sender == sender, parked_counts.c.code == code)
    done = connection.execute(update(parked_counts).where(*counted).values(count=parked_counts.c.count + 1))
    if done.rowcount == 0:
        connection.execute(insert(parked_counts).values(sender=sender, code=code, count=1))
    digest = hashlib.sha256(body).digest()
    log.warning("parked", code=code, sender=sender or None, claimed=claimed or None, digest=digest.hex()[:12])
    excerpt, header = body[:PARKED_EXCERPT_BYTES], header[:PARKED_EXCERPT_BYTES]
    rows, size = connection.execute(
        select(func.count(), func.coalesce(func.sum(func.length(parked.c.excerpt)), 0)).where(parked.c.sender == sender)
    ).one()
    if rows >= PARKED_ROWS_MAX or size + len(excerpt) > PARKED_BYTES_MAX:
        return
    connection.execute(
        insert(parked).values(
            at=at,
            sender=sender,
            claimed=claimed[:40],
            code=code,
            routing_key=routing_key[:300],
            header=header,
            digest=digest,
            excerpt=excerpt,
            bytes=len(body),
        )
    )


def parked_rows(connection: Connection, limit: int = 100) -> list[ParkedView]:
    """The newest parked deliveries."""
    rows = connection.execute(select(parked).order_by(parked.c.id.desc()).limit(limit))
    return [
        ParkedView(
            at=row.at,
            sender=row.sender,
            claimed=row.claimed,
            code=row.code,
            routing_key=row.routing_key,
            digest=row.digest.hex(),
            bytes=row.bytes,
        )
        for row in rows
    ]


def parked_codes(connection: Connection) -> dict[str, int]:
    """How often each reason came up, over all senders."""
    rows = connection.execute(
        select(parked_counts.c.code, func.sum(parked_counts.c.count)).group_by(parked_counts.c.code)
    )
    return {code: int(total) for code, total in rows}
