"""The lines of a job: what has gone between this party and each of its partners, one row for each.

Everything that is counted of messages is counted by line: sequences, receipts, credit. Only the hash chain is one
for all of them, so that the order in which a party took and said things is one order.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, bindparam, insert, update

from services.store.journal_schema import lines
from services.store.limits import CREDIT_WINDOW


@dataclass(slots=True)
class Line:
    """The messages of one job between this party and one partner. See `journal_schema.lines`."""

    partner: str
    place: int
    applied: int = 0
    sent: int = 0
    receipted: int = 0
    bulk_received: int = 0
    bulk_consumed: int = 0
    bulk_sent: int = 0
    credit: int = CREDIT_WINDOW
    unreceipted_bytes: int = 0
    late: int = 0

    @property
    def credit_given(self) -> int:
        """The highest ordinal of the partner's bulk messages that it may send."""
        return self.bulk_consumed + CREDIT_WINDOW


FIELDS: Final = tuple(item.name for item in dataclasses.fields(Line))
Values = tuple[Any, ...]

# Built once: to put a statement together costs more than to run it.
_SAVE: Final = update(lines).where(lines.c.job == bindparam("this_job"), lines.c.partner == bindparam("this_partner"))


def values_of(line: Line) -> Values:
    """A line's row, in the order of `FIELDS`."""
    return (
        line.partner,
        line.place,
        line.applied,
        line.sent,
        line.receipted,
        line.bulk_received,
        line.bulk_consumed,
        line.bulk_sent,
        line.credit,
        line.unreceipted_bytes,
        line.late,
    )


def restore(line: Line, values: Values) -> None:
    """Undo what was done to a line since `values` were taken of it."""
    for name, value in zip(FIELDS, values, strict=True):
        setattr(line, name, value)


def create(connection: Connection, job: str, found: list[Line]) -> None:
    """Insert the lines of a new job."""
    connection.execute(
        insert(lines), [{"job": job, **dict(zip(FIELDS, values_of(line), strict=True))} for line in found]
    )


def save(connection: Connection, job: str, line: Line) -> None:
    """Write a line back."""
    values = dict(zip(FIELDS, values_of(line), strict=True))
    connection.execute(_SAVE, {"this_job": job, "this_partner": line.partner, **values})
