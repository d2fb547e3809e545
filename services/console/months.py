"""What was released in a calendar month, to each partner, over all jobs: from the ledgers and the list of jobs."""

import calendar
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

from services.engine.jobs import JobView
from services.store.grants import Grant

_NAME: Final = re.compile(r"(\d{4})-(0[1-9]|1[0-2])")


@dataclass(frozen=True, slots=True)
class Month:
    """A calendar month in UTC. `begin` and `end`: seconds since 1970, the second of them outside."""

    name: str
    begin: float
    end: float

    @classmethod
    def of(cls, at: float) -> Self:
        """The month of a time."""
        return cls.named(time.strftime("%Y-%m", time.gmtime(at)))

    @classmethod
    def named(cls, name: str) -> Self:
        """`2026-11`. Raises ValueError for what is no month."""
        found = _NAME.fullmatch(name)
        if found is None or not 1970 <= int(found[1]) <= 9998:
            raise ValueError("argument month: a year and a month are needed, as in 2026-11")
        year, month = int(found[1]), int(found[2])
        after = (year + 1, 1) if month == 12 else (year, month + 1)
        return cls(name, calendar.timegm((year, month, 1, 0, 0, 0)), calendar.timegm((*after, 1, 0, 0, 0)))

    def __contains__(self, at: float) -> bool:
        return self.begin <= at < self.end


def month_of(month: Month, granted: Iterable[Grant], jobs: Sequence[JobView], *, now: float) -> dict[str, Any]:
    """Partner by partner. A job belongs to the month in which it began; scores to that in which they were granted."""
    begun = {view.job: view.created_at for view in jobs}
    partners: dict[str, dict[str, Any]] = {}

    def of(name: str) -> dict[str, Any]:
        empty = {"partner": name, "jobs": 0, "done": 0, "entries": 0, "rows": 0, "rows_scored": 0}
        return partners.setdefault(name, empty)

    for view in jobs:
        if view.created_at in month:
            for name in view.partners:
                of(name)["jobs"] += 1
                of(name)["done"] += view.outcome == "done"
    for grant in granted:
        at = grant.written_at if grant.scores else begun.get(grant.job, grant.written_at)
        if at not in month:
            continue
        if grant.scores:
            of(grant.partner)["rows_scored"] += grant.rows
        else:
            of(grant.partner)["entries"] += grant.entries
            of(grant.partner)["rows"] += grant.rows
    return {
        "month": month.name,
        "current": now in month,
        "partners": [partners[name] for name in sorted(partners)],
    }
