"""A model of several classes of a business and two providers: it is scored, begun from again and proved."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from services.audit.executing import execute
from services.audit.export_file import AUDITOR
from services.audit.exporting import reading
from services.audit.replaying import replay
from services.audit.reporting import report
from services.daemon.control import ControlClient
from services.daemon.local import BUSINESS, connect, embedded, wait_for
from services.daemon.local_job import LocalResult, run_job
from services.models.store import ModelStore
from services.party.configuration import load_party
from services.store.ledger import Ledger, ScoresSpent
from services.tables.table import read_table
from tests.audit.recorded import Recorded, job_of, record_three
from tests.parties import until

ROWS, CLASSES = 60, ["amber_qz", "green_qz", "red_qz"]
FILES = {"business": "business.csv", "provider": "provider.csv", "provider-b": "third.csv"}
JOB: dict[str, Any] = {"release_noise": 0.0, "max_iterations": 6, "tolerance": 0.02}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    return record_three(tmp_path_factory.mktemp("classes"), ROWS, task="multiclass", retention="full", **JOB)


@pytest.fixture(scope="module")
def parties(model: Recorded) -> Iterator[dict[str, ControlClient]]:
    paths = model.paths
    with embedded(tuple(paths.values())):
        clients = {role: connect(load_party(path)) for role, path in paths.items()}
        yield clients
        for client in clients.values():
            client.close()


@pytest.fixture(scope="module")
def scored(model: Recorded, parties: dict[str, ControlClient]) -> tuple[str, pl.DataFrame]:
    """(job, scores.csv) of the rows that the model was trained on."""
    job = parties[BUSINESS].ask("predict", model=model.job)["job"]
    view = wait_for(parties[BUSINESS], job)
    assert view["outcome"] == "done", view["reason"]
    for role, client in parties.items():
        until(lambda client=client: client.ask("job", id=job)["status"] != "running", f"the end at {role}")
    return job, pl.read_csv(Path(view["results"]) / "scores.csv", schema_overrides={"id": pl.String})


@pytest.fixture(scope="module")
def again(model: Recorded, parties: dict[str, ControlClient]) -> LocalResult:
    """The same job once more, from the model."""
    del parties
    job = job_of("multiclass", warm_start=model.job, **JOB | {"max_iterations": 2})
    del job["partner"]
    partners = ["provider-a/features", "provider-b/features"]
    return run_job(tuple(model.paths.values()), {**job, "partners": partners})


def test_every_class_has_the_sum_of_all_parts(model: Recorded, scored: tuple[str, pl.DataFrame]) -> None:
    _, frame = scored
    assert frame.height == ROWS
    expected = np.zeros((ROWS, len(CLASSES)))
    for role, path in model.paths.items():
        version = ModelStore(load_party(path).data_directory).get(model.job).version
        table = read_table(path.parent.parent / FILES[role], identifier="id", columns=version.columns)
        places = [table.identifiers.index(name) for name in frame["id"].to_list()]
        expected += np.column_stack([one.scores(table.values[places]) for one in version.targets])
    found = frame.select(f"score_{name}" for name in CLASSES).to_numpy()
    assert np.abs(found - expected).max() <= 0.00101
    assert frame["prediction"].to_list() == [CLASSES[place] for place in found.argmax(axis=1)]


def test_every_class_of_a_row_is_counted_at_each_provider(model: Recorded, scored: tuple[str, pl.DataFrame]) -> None:
    del scored
    for role in ("provider", "provider-b"):
        ledger = Ledger(model.party(role).data_directory, "business-a")
        with pytest.raises(ScoresSpent):
            ledger.grant_scores("another", "m", 1, quota=len(CLASSES) * ROWS, period_s=1e9, now=2e9)


def test_a_single_row_has_every_class_as_its_file_has(
    model: Recorded, parties: dict[str, ControlClient], scored: tuple[str, pl.DataFrame]
) -> None:
    job = parties[BUSINESS].ask("predict", model=model.job, mode="lookup", expires_in_hours=1)["job"]
    view = wait_for(parties[BUSINESS], job, until_stage="serve")
    assert view["status"] == "running", view["reason"]
    for row in scored[1].to_dicts()[::13]:
        found = parties[BUSINESS].ask("lookup", model=model.job, id=row["id"])
        assert found["prediction"] == row["prediction"]
        for name, one in found["classes"].items():
            assert one["score"] == pytest.approx(row[f"score_{name}"], abs=1e-12)
    parties[BUSINESS].ask("cancel", id=job)


def test_a_warm_start_of_every_class_begins_where_the_former_model_ended(model: Recorded, again: LocalResult) -> None:
    home = model.party(BUSINESS).data_directory / "results" / model.job
    before = json.loads((home / "parameters.json").read_bytes())
    former = json.loads((home / "history.json").read_bytes())["iterations"]
    begun = json.loads(again.history)["iterations"]
    # Where the former job ended, this one begins: with a gradient that is small already.
    assert begun[0]["largest_business"] < 0.1 * former[0]["largest_business"]
    for name, part in json.loads(again.parameters[BUSINESS])["classes"].items():
        ended, found = (
            np.array([one["intercept"], *one["coefficients"].values()]) for one in (before["classes"][name], part)
        )
        assert np.linalg.norm(found - ended) < 0.05 * np.linalg.norm(ended)


def test_all_parties_prove_training_warm_start_and_scores(
    model: Recorded, scored: tuple[str, pl.DataFrame], again: LocalResult, tmp_path: Path
) -> None:
    for job in (model.job, scored[0], again.job):
        for role in model.paths:
            file = Recorded(job, model.paths).export(role, AUDITOR, tmp_path / f"{job}-{role}")
            assert replay(file).same
            assert report(file).within


def test_the_tasks_of_a_party_in_the_middle_of_the_chain_run_again_with_the_same_results(
    model: Recorded, tmp_path: Path
) -> None:
    party = model.party("provider")
    file = model.export("provider", AUDITOR, tmp_path / "file")
    with reading(party) as connection:
        done = execute(file, party, connection, lambda *_: None)
    assert (done.replay.difference, done.differences) == ("", [])
    assert done.tasks > 20
