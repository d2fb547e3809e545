"""A job of a business and three providers by whole daemons: policies, peers, journals, results."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from bench.providers import divided, kinds_not_granted
from services.audit.exporting import reading
from services.daemon.local import BUSINESS, LocalTables, embedded, introduce, make_party
from services.daemon.local_job import LocalError, run_job
from services.party.configuration import load_party
from services.store.journal_schema import events
from tests.parties import NOWHERE, example_tables

ROWS = 60
MARKS = ("small_sample", "insecure")
JOB: dict[str, Any] = {
    "task": "logistic",
    "dataset": "labels",
    "l2": 1e-2,
    "max_iterations": 1,
    "release_noise": 0.0,
    "key_bits": 512,
    "marks": list(MARKS),
    "chunk_rows_max": 24,
}


def parties(directory: Path, tables: LocalTables, *, strangers: bool = False) -> tuple[Path, ...]:
    """party.toml of all parties, the business first; as strangers, providers do not know each other."""
    paths = tuple(
        make_party(
            directory / role,
            role,
            name,
            tables,
            broker=NOWHERE[BUSINESS],
            marks=MARKS,
            declare=False,
            noise_seed="",
        )
        for role, name in tables.names.items()
    )
    if strangers:
        for path in paths[1:]:
            introduce(paths[0], path)
    else:
        introduce(*paths)
    return paths


def partners(tables: LocalTables) -> list[str]:
    """What the job names as its providers."""
    return [f"{name}/features" for role, name in tables.names.items() if role != BUSINESS]


@pytest.fixture
def tables(tmp_path: Path) -> LocalTables:
    return divided(example_tables(tmp_path, ROWS), tmp_path, (4, 3, 3))


def test_three_providers_train_and_receive_what_the_contract_grants_them(tmp_path: Path, tables: LocalTables) -> None:
    paths = parties(tmp_path, tables)
    with embedded(paths):
        result = run_job(paths, {**JOB, "partners": partners(tables)})
    found = {role: msgspec.json.decode(data) for role, data in result.parameters.items()}
    assert [len(one["coefficients"]) for one in found.values()] == [13, 4, 3, 3]
    assert {one["rows"] for one in found.values()} == {ROWS}
    assert np.isfinite(found[BUSINESS]["intercept"])
    for path in paths:
        assert kinds_not_granted(path, result.job) == set()
        with reading(load_party(path)) as connection:
            assert connection.execute(events.select().where(events.c.job == result.job)).first() is not None


def test_providers_that_do_not_know_each_other_decline(tmp_path: Path, tables: LocalTables) -> None:
    paths = parties(tmp_path, tables, strangers=True)
    with embedded(paths), pytest.raises(LocalError) as caught:
        run_job(paths, {**JOB, "partners": partners(tables)})
    assert "peer" in str(caught.value)
