"""Several jobs at once through the same two daemons: what becomes of one is nothing to the others."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import polars as pl
import pytest

from services.daemon.local import NAMES, PROVIDER, embedded
from tests.attacks.stage import Stage, two_processes
from tests.parties import until
from tests.rabbitmq import fresh_parties


def add_flat_dataset(stage: Stage) -> None:
    """A second data set of the provider, `flat`: fit as a table, but a column is constant in the aligned rows."""
    path = stage.paths[PROVIDER]
    table = pl.read_parquet(path.parent.parent / "provider.parquet").with_columns(pl.lit(1.0).alias("flat"))
    strangers = table.head(20).with_columns(pl.format("stranger-{}", pl.col("id")).alias("id"), flat=pl.lit(2.0))
    pl.concat([table.with_columns(pl.col("id").cast(pl.String)), strangers]).write_parquet(path.parent / "flat.parquet")
    with path.open("a", encoding="utf-8") as file:
        file.write('\n[[dataset]]\nname = "flat"\nsource = "flat.parquet"\nid = "id"\n')


@pytest.fixture(params=["embedded", "amqp"])
def stage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stage]:
    """Both daemons, running."""
    amqp = request.param == "amqp"
    names = fresh_parties("business", "provider") if amqp else list(NAMES.values())
    stage = Stage(tmp_path, names, amqp=amqp)
    add_flat_dataset(stage)
    daemons: AbstractContextManager[object] = two_processes(stage) if amqp else embedded(stage.pair)
    with daemons:
        yield stage


def in_iteration(stage: Stage, role: str, job: str, iteration: int) -> bool:
    """Whether a party works on this iteration, or a later one, of a job."""
    for view in stage.ask(role, "jobs"):
        if view["job"] == job and view["progress"]:
            assert view["status"] == "running", view
            return bool(view["progress"]["iteration"] >= iteration)
    return False


def overlapped(stage: Stage, role: str, jobs: set[str]) -> bool:
    """Whether a party had all of these jobs before the first of them ended."""
    views = [view for view in stage.ask(role, "jobs") if view["job"] in jobs]
    assert len(views) == len(jobs)
    return bool(max(view["created_at"] for view in views) < min(view["updated_at"] for view in views))


def test_a_job_that_fails_and_one_that_is_cancelled_change_nothing_for_the_third(stage: Stage) -> None:
    alone = stage.result(stage.submit())

    cancelled = stage.submit(max_iterations=50, tolerance=1e-12)
    third = stage.submit()
    failed = stage.submit(dataset="flat")
    until(lambda: in_iteration(stage, PROVIDER, cancelled, 2), "the provider sees iteration 2")
    stage.ask(PROVIDER, "cancel", id=cancelled, reason="the data owner changed its mind")
    ends = {job: {role: stage.end_of(role, job) for role in NAMES} for job in (cancelled, failed)}
    assert {view["outcome"] for view in ends[cancelled].values()} == {"cancelled"}
    assert {view["outcome"] for view in ends[failed].values()} == {"failed"}
    assert {view["reason_code"] for view in ends[failed].values()} == {"column_constant"}
    assert stage.result(third) == alone
    for role in NAMES:
        assert overlapped(stage, role, {cancelled, third, failed})

    for role in NAMES:
        status = stage.ask(role, "status")
        assert status["transport"]["up"]
        assert status["workers"]
        assert stage.parked(role) == {}
        assert not [view for view in stage.ask(role, "jobs") if view["status"] == "running"]
    assert stage.result(stage.submit()) == alone
