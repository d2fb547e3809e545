"""How long the stages of a job took, read from the commit times of its journal."""

from sqlalchemy import Connection, select

from protocol.effects import AnyEvent
from protocol.table import label_of
from services.jobs import decode_event
from services.journal_schema import events

ALIGNED = ("computed:features.quantise", "computed:keys.generate")
ENCRYPTED = ("computed:score",)
TRAINED = ("computed:results",)


def stage_seconds(connection: Connection, job: str) -> dict[str, float]:
    """Seconds of `align`, `encrypt_features`, `train` and `total` so far; a stage not reached is 0.

    A stage ends with the first event of the next one, so waits count where they were spent.
    """
    rows = connection.execute(
        select(events.c.at, events.c.event).where(events.c.job == job).order_by(events.c.position)
    ).all()
    if not rows:
        return {"total": 0.0, "align": 0.0, "encrypt_features": 0.0, "train": 0.0}
    began, last = rows[0].at, rows[-1].at
    marks: dict[str, float] = {}
    for row in rows:
        if row.event:
            event: AnyEvent = decode_event(row.event)
            marks.setdefault(label_of(event), row.at)
    aligned = min((marks[label] for label in ALIGNED if label in marks), default=last)
    encrypted = min((marks[label] for label in ENCRYPTED if label in marks), default=last)
    trained = min((marks[label] for label in TRAINED if label in marks), default=last)
    return {
        "total": last - began,
        "align": aligned - began,
        "encrypt_features": encrypted - aligned,
        "train": trained - encrypted,
    }
