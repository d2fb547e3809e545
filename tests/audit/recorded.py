"""Jobs of two whole daemons, run once for several tests, and what each party exports of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import polars as pl
from sqlalchemy import func, select

from services.audit.export_file import AUDITOR, PARTNER, Audience
from services.audit.exporting import export, reading
from services.daemon.local import (
    BUSINESS,
    NAMES,
    PROVIDER,
    LocalTables,
    connect,
    embedded,
    introduce,
    make_party,
    wait_for,
)
from services.daemon.local_job import run_job
from services.party.configuration import Party, load_party
from services.store.journal_schema import outbox
from tests.parties import make_parties, until

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
    random = np.random.default_rng(11)
    values = {role: random.normal(size=(rows, 3)) * [1.0, 20.5, 0.25] + [0.0, 100.0, 1.0] for role in NAMES}
    score = sum((table[:, 0] + (table[:, 1] - 100) / 20.5) / 4 for table in values.values())
    label = {
        "logistic": (score + random.logistic(size=rows) > 0).astype(int),
        "linear": score + random.normal(size=rows) / 4,
        "poisson": random.poisson(np.exp(score / 2)),
        "gamma": np.exp(score / 2) * random.gamma(2.0, 0.5, rows),
        "multiclass": np.array(["amber_qz", "green_qz", "red_qz"])[np.digitize(score, [-0.4, 0.4])],
    }[task]
    for role, table in values.items():
        columns = dict(zip(COLUMNS[role], table.T.tolist(), strict=True))
        own = {"label_qz": label.tolist()} if role == BUSINESS else {}
        identifiers = [f"customer-{row * 7919 % 100_003:06d}-qz" for row in range(rows)]
        pl.DataFrame({"id": identifiers, **own, **columns}).write_csv(directory / f"{role}.csv")
    return LocalTables(
        business=directory / "business.csv", provider=directory / "provider.csv", identifier="id", label="label_qz"
    )


def made_raw(directory: Path, tables: LocalTables) -> LocalTables:
    """The same tables with missing cells and a column in words, and what is to be done with them."""
    for role, path in ((BUSINESS, tables.business), (PROVIDER, tables.provider)):
        number, _, word = COLUMNS[role]
        frame = pl.read_csv(path, schema_overrides={"id": pl.String})
        absent = pl.int_range(pl.len()) % 9 == 4
        frame.with_columns(
            pl.when(absent).then(None).otherwise(pl.col(number)).alias(number),
            pl.when(pl.col(word) > 1).then(pl.lit("many")).otherwise(pl.lit("few")).alias(word),
        ).write_csv(path)
        (directory / f"{role}.toml").write_text(
            f'{number} = [{{ step = "impute", by = "median", indicator = true }}, {{ step = "standardise" }}]\n'
            f'{word} = [{{ step = "one_hot", unseen = "ignore", drop_first = true }}]\n'
        )
    return replace(
        tables,
        business_preparation=directory / f"{BUSINESS}.toml",
        provider_preparation=directory / f"{PROVIDER}.toml",
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
    steward: Meddle | None = None,
    policy: str = "",
    prepared: bool = False,
    journals: Mapping[str, str] = MappingProxyType({}),
    **changes: Any,
) -> Recorded:
    """Run a job to its end, whatever it is, with `prepared` on raw tables. `journals`: URLs by role.

    `meddle` gets the business's control socket and the job when it has begun, `steward` the provider's; `policy`: what
    the provider's says besides.
    """
    directory.mkdir(parents=True, exist_ok=True)
    tables = write_tables(directory, rows, task)
    if prepared:
        tables = made_raw(directory, tables)
    paths = make_parties(directory, tables, marks=MARKS, retention=allowed)
    if policy:
        file = paths[PROVIDER].parent / "policy.toml"
        file.write_text(policy + file.read_text())
    for role, url in journals.items():
        paths[role].write_text(f'journal = "{url}"\n{paths[role].read_text()}')
    with (
        embedded((paths[BUSINESS], paths[PROVIDER])),
        connect(load_party(paths[BUSINESS])) as business,
        connect(load_party(paths[PROVIDER])) as provider,
    ):
        job = business.ask("submit", job=job_of(task, retention=retention, **changes))["job"]
        if meddle is not None:
            meddle(business, job)
        if steward is not None:
            steward(provider, job)
        wait_for(business, job)
        wait_for(provider, job)
        # The last receipt comes after both ends, and a purge leaves what has none.
        until(lambda: all(map(receipted, paths.values())), "a receipt for every message")
    return Recorded(job, paths)


def receipted(path: Path) -> bool:
    """Whether the partner has confirmed everything that the party of `path` sent."""
    with reading(load_party(path)) as connection:
        return not connection.scalar(select(func.count()).select_from(outbox))


OVER_FOLDS: Final[dict[str, Any]] = {
    "folds": 2,
    "penalties": [0.1, 0.03],
    "l2": 0.03,
    "max_iterations": 3,
    "validation": 0.2,
    "evaluate": ["validation"],
}
"""A job that divides its rows in every way there is: for `record_three`."""


def record_three(
    directory: Path, rows: int = 90, *, task: str = "logistic", retention: str = "digests", **fields: Any
) -> Recorded:
    """Run a job of a business and two providers to its end; `fields`: of the job."""
    directory.mkdir(parents=True, exist_ok=True)
    pair = write_tables(directory, rows, task)
    values = np.random.default_rng(5).normal(size=(rows, 3)).T.tolist()
    columns = dict(zip(("steps_qz", "sleep_qz", "pulse_qz"), values, strict=True))
    pl.DataFrame({"id": pl.read_csv(pair.provider)["id"], **columns}).write_csv(directory / "third.csv")
    tables = LocalTables(pair.business, pair.provider, pair.identifier, pair.label, further=(directory / "third.csv",))
    paths = {
        role: make_party(
            directory / role,
            role,
            name,
            tables,
            broker="amqp://localhost/warren",
            marks=MARKS,
            declare=False,
            noise_seed="",
            retention=("digests", "full"),
        )
        for role, name in tables.names.items()
    }
    introduce(*paths.values())
    job = job_of(task, retention=retention, **{"max_iterations": 2, **fields})
    del job["partner"]
    job["partners"] = [f"{name}/features" for role, name in tables.names.items() if role != BUSINESS]
    with embedded(list(paths.values())):
        return Recorded(run_job(list(paths.values()), job).job, paths)


__all__ = [
    "AUDITOR",
    "BUSINESS",
    "COLUMNS",
    "MARKS",
    "PARTNER",
    "PROVIDER",
    "Recorded",
    "job_of",
    "record",
    "record_three",
]
