"""Jobs of two whole daemons, run once for several tests, and what each party exports of them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from services.audit.export_file import AUDITOR, PARTNER, Audience
from services.audit.exporting import export, reading
from services.local import BUSINESS, NAMES, PROVIDER, LocalTables, connect, embedded, wait_for
from services.party import Party, load_party
from tests.parties import make_parties

MARKS = ("small_sample", "insecure")
COLUMNS = {
    BUSINESS: ("monthly_salary_qz", "days_overdue_qz", "open_loans_qz"),
    PROVIDER: ("prepaid_topups_qz", "roaming_minutes_qz", "night_calls_qz"),
}


@dataclass(frozen=True)
class Recorded:
    """One job that has ended at both parties. The daemons have stopped."""

    job: str
    paths: dict[str, Path]

    def party(self, role: str) -> Party:
        return load_party(self.paths[role])

    def export(self, role: str, audience: Audience, out: Path) -> Path:
        party = self.party(role)
        with reading(party) as connection:
            export(connection, party, self.job, audience, out)
        return out


def write_tables(directory: Path, rows: int, task: str) -> LocalTables:
    """Tables of the same people, whose label follows from the columns of both and some noise."""
    import numpy as np

    random = np.random.default_rng(11)
    values = {role: random.normal(size=(rows, 3)) * [1.0, 20.5, 0.25] + [0.0, 100.0, 1.0] for role in NAMES}
    score = sum((table[:, 0] + (table[:, 1] - 100) / 20.5) / 4 for table in values.values())
    label = {
        "logistic": (score + random.logistic(size=rows) > 0).astype(int),
        "linear": score + random.normal(size=rows) / 4,
        "poisson": random.poisson(np.exp(score / 2)),
    }[task]
    for role, table in values.items():
        columns = dict(zip(COLUMNS[role], table.T.tolist(), strict=True))
        own = {"label_qz": label.tolist()} if role == BUSINESS else {}
        identifiers = [f"customer-{row * 7919 % 100_003:06d}-qz" for row in range(rows)]
        pl.DataFrame({"id": identifiers, **own, **columns}).write_csv(directory / f"{role}.csv")
    return LocalTables(
        business=directory / "business.csv", provider=directory / "provider.csv", identifier="id", label="label_qz"
    )


def job_of(task: str, **changes: Any) -> dict[str, Any]:
    """A small job."""
    return {
        "task": task,
        "dataset": "labels",
        "partner": f"{NAMES[PROVIDER]}/features",
        "l2": 1e-2,
        "max_iterations": 3,
        "key_bits": 512,
        "marks": list(MARKS),
        "chunk_rows_max": 30,
        **changes,
    }


Meddle = Callable[[Any, str], None]


def record(
    directory: Path,
    task: str = "logistic",
    rows: int = 120,
    *,
    retention: str = "digests",
    allowed: tuple[str, ...] = ("digests", "full"),
    meddle: Meddle | None = None,
    **changes: Any,
) -> Recorded:
    """Run a job to its end, whatever it is; `meddle` gets the business's console and the job when it has begun."""
    directory.mkdir(parents=True, exist_ok=True)
    paths = make_parties(directory, write_tables(directory, rows, task), marks=MARKS, retention=allowed)
    with (
        embedded((paths[BUSINESS], paths[PROVIDER])),
        connect(load_party(paths[BUSINESS])) as business,
        connect(load_party(paths[PROVIDER])) as provider,
    ):
        job = business.ask("submit", job=job_of(task, retention=retention, **changes))["job"]
        if meddle is not None:
            meddle(business, job)
        wait_for(business, job)
        wait_for(provider, job)
    return Recorded(job, paths)


__all__ = ["AUDITOR", "BUSINESS", "COLUMNS", "MARKS", "PARTNER", "PROVIDER", "Recorded", "job_of", "record"]
