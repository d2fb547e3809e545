"""How long the stages of a job took, read from the commit times of its journal."""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import Connection, select

from protocol.effects import AnyEvent
from protocol.table import label_of
from services.engine.jobs import decode_event
from services.store import chain
from services.store.journal_schema import events

ALIGNED = ("computed:features.quantise", "computed:keys.generate")
ENCRYPTED = ("computed:score",)
TRAINED = ("computed:curvature.score", "computed:results")
INFERRED = ("computed:results",)


JOBS_REMEMBERED_MAX: Final = 64


@dataclass(slots=True)
class _Seen:
    position: int = 0
    began: float = 0.0
    last: float = 0.0
    marks: dict[str, float] = field(default_factory=dict)


class StageTimes:
    """Reads each event of a job once, however often somebody asks of a few jobs. For one thread."""

    def __init__(self) -> None:
        self._seen: OrderedDict[str, _Seen] = OrderedDict()

    def read(self, connection: Connection, job: str) -> dict[str, float]:
        """Seconds of `align`, `encrypt_features`, `train` and `total` so far; a stage not reached is 0.

        `infer` is there in jobs that come to standard errors.

        A stage ends with the first event of the next one, so waits count where they were spent.
        """
        seen = self._seen.setdefault(job, _Seen())
        self._seen.move_to_end(job)
        if len(self._seen) > JOBS_REMEMBERED_MAX:
            self._seen.popitem(last=False)
        later = select(events.c.position, events.c.at, events.c.event).where(
            events.c.job == job,
            events.c.position > seen.position,
            # The private halves of these are no events of a machine.
            events.c.kind.not_in((chain.FAULT, chain.SENT)),
        )
        for row in connection.execute(later.order_by(events.c.position)):
            if seen.position == 0:
                seen.began = row.at
            seen.position, seen.last = row.position, row.at
            if row.event:
                event: AnyEvent = decode_event(row.event)
                seen.marks.setdefault(label_of(event), row.at)
        if seen.position == 0:
            return {"total": 0.0, "align": 0.0, "encrypt_features": 0.0, "train": 0.0}
        aligned, encrypted, trained, inferred = (
            min((seen.marks[label] for label in labels if label in seen.marks), default=seen.last)
            for labels in (ALIGNED, ENCRYPTED, TRAINED, INFERRED)
        )
        infers = TRAINED[0] in seen.marks
        return {
            "total": seen.last - seen.began,
            "align": aligned - seen.began,
            "encrypt_features": encrypted - aligned,
            "train": trained - encrypted,
            **({"infer": inferred - trained} if infers else {}),
        }
