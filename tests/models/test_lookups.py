"""Single rows between two daemons: the batch's score of a row, without a commit, and only while it is allowed."""

from pathlib import Path

import polars as pl
import pytest

from services.daemon.control import ControlClient, ControlError
from services.daemon.local import wait_for
from services.models.store import ModelStore
from tests.audit.recorded import BUSINESS, PROVIDER, Recorded
from tests.models.test_scoring import daemons, expected_of, policy, with_strangers
from tests.parties import until


def open_lookups(business: ControlClient, model: str, file: Path) -> str:
    """A job that answers lookups, at the stage where it does."""
    job: str = business.ask("predict", model=model, business=str(file), mode="lookup")["job"]
    view = wait_for(business, job, until_stage="serve")
    assert view["status"] == "running", view["reason"]
    return job


def commits(console: ControlClient) -> float:
    return float(console.ask("status")["journal"]["entries"])


def test_every_common_row_is_looked_up_to_the_score_of_both_halves_without_an_entry(
    model: Recorded, tmp_path: Path
) -> None:
    file = with_strangers(model, tmp_path)
    _, expected = expected_of(model, file)
    with daemons(model) as (business, provider):
        job = open_lookups(business, model.job, file)
        before = [commits(console) for console in (business, provider)]
        for name, score in expected.items():
            found = business.ask("lookup", model=model.job, id=name)
            assert found["score"] == pytest.approx(score, abs=1e-12)
            assert found["job"] == job
        assert [commits(console) for console in (business, provider)] == before
        counted = until(
            lambda: provider.ask("job", id=job)["statistics"].get("lookups") == len(expected), "lookups are counted"
        )
        assert counted


def test_a_row_that_was_not_aligned_is_not_asked_for(model: Recorded, tmp_path: Path) -> None:
    file = with_strangers(model, tmp_path)
    with daemons(model) as (business, _):
        job = open_lookups(business, model.job, file)
        sent = business.ask("job", id=job)["statistics"]["messages_received"]
        for name in ("stranger-3", "customer-999999-qz", " "):
            with pytest.raises(ControlError, match="not among the rows") as refused:
                business.ask("lookup", model=model.job, id=name)
            assert refused.value.code == "row_unknown"
        assert business.ask("job", id=job)["statistics"]["messages_received"] == sent


def test_nothing_is_looked_up_without_a_job_after_its_end_or_with_a_retired_model(
    model: Recorded, tmp_path: Path
) -> None:
    file = with_strangers(model, tmp_path)
    _, expected = expected_of(model, file)
    name = next(iter(expected))
    with daemons(model) as (business, provider):
        with pytest.raises(ControlError, match="no job answers lookups"):
            business.ask("lookup", model=model.job, id=name)
        first = open_lookups(business, model.job, file)
        business.ask("lookup", model=model.job, id=name)
        business.ask("cancel", id=first)
        with pytest.raises(ControlError, match="no job answers lookups"):
            business.ask("lookup", model=model.job, id=name)
        assert wait_for(provider, first)["outcome"] == "cancelled"
        open_lookups(business, model.job, file)
        business.ask("lookup", model=model.job, id=name)
        ModelStore(model.party(PROVIDER).data_directory).retire(model.job, "")
        with pytest.raises(ControlError, match="model_retired"):
            business.ask("lookup", model=model.job, id=name)


def test_all_rows_of_a_lookup_job_are_counted_before_the_first_answer(model: Recorded, tmp_path: Path) -> None:
    policy(model, score_quota=100)
    file = with_strangers(model, tmp_path)
    with daemons(model) as (business, _):
        open_lookups(business, model.job, file)
        batch = business.ask("predict", model=model.job, business=str(file))["job"]
        assert wait_for(business, batch)["reason_code"] == "score_quota"


def test_both_daemons_go_on_answering_after_a_restart(model: Recorded, tmp_path: Path) -> None:
    file = with_strangers(model, tmp_path)
    _, expected = expected_of(model, file)
    name, score = next(iter(expected.items()))
    with daemons(model) as (business, _):
        job = open_lookups(business, model.job, file)
    with daemons(model) as (business, _):
        found = business.ask("lookup", model=model.job, id=name)
        assert (found["job"], found["score"]) == (job, pytest.approx(score))


def test_an_identifier_that_looks_like_a_number_keeps_its_zeros(model: Recorded, tmp_path: Path) -> None:
    paths = {role: tmp_path / f"{role}.csv" for role in (BUSINESS, PROVIDER)}
    for path in paths.values():
        table = pl.read_csv(path, schema_overrides={"id": pl.String})
        table.with_columns(id=pl.format("00{}", pl.int_range(table.height))).write_csv(path)
    with daemons(model) as (business, _):
        open_lookups(business, model.job, paths[BUSINESS])
        assert business.ask("lookup", model=model.job, id="007")["score"]
        with pytest.raises(ControlError):
            business.ask("lookup", model=model.job, id="7")
