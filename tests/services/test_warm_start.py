"""A job that starts from the model of a former one, between the same daemons."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier

from services.daemon.local import BUSINESS, NAMES, PROVIDER, embedded
from services.daemon.local_job import LocalError, run_job
from services.models.store import ModelStore
from services.party.configuration import load_party
from tests.audit.recorded import MARKS, job_of, write_tables
from tests.parties import make_parties

ROWS = 150


def coefficients(result: Any) -> np.ndarray:
    """(intercept, business's, provider's) of a finished job."""
    own, other = (json.loads(result.parameters[role]) for role in (BUSINESS, PROVIDER))
    return np.array([own["intercept"], *own["coefficients"].values(), *other["coefficients"].values()])


@pytest.mark.parametrize(("task", "l1"), [("poisson", 0.0), ("linear", 0.0), ("linear", 0.05)])
def test_a_warm_start_begins_where_the_former_model_ended(tmp_path: Path, task: str, l1: float) -> None:
    made = make_parties(tmp_path, write_tables(tmp_path, ROWS, task), marks=MARKS)
    paths = (made[BUSINESS], made[PROVIDER])
    job = job_of(task, release_noise=0.0, max_iterations=20, l1=l1)
    with embedded(paths):
        cold = run_job(paths, job)
        warm = run_job(paths, {**job, "warm_start": cold.job})
        again = run_job(paths, {**job, "warm_start": warm.job, "max_iterations": 1})
        store = ModelStore(load_party(made[PROVIDER]).data_directory)
        store.retire(cold.job, "for the test")
        with pytest.raises(LocalError) as retired:
            run_job(paths, {**job, "warm_start": cold.job})
        with pytest.raises(LocalError) as unknown:
            run_job(paths, {**job, "warm_start": "0" * 16})
    history = json.loads(cold.history)["iterations"]
    assert len(history) > 3
    begun = json.loads(warm.history)["iterations"]
    assert len(begun) <= 2
    # Where the cold job ended, the warm one begins: with a gradient that is small already.
    assert max(begun[0]["largest_business"], begun[0]["largest_provider"]) < 0.05 * history[0]["largest_business"]
    difference = np.linalg.norm(coefficients(warm) - coefficients(cold))
    assert difference < 5e-3 * np.linalg.norm(coefficients(cold))
    assert json.loads(again.parameters[BUSINESS])["iterations"] == 1
    assert retired.value.code == "warm_start"
    assert unknown.value.code == "bad_input"
    assert NAMES[PROVIDER] in str(retired.value)


@pytest.mark.parametrize("l1", [0.0, 0.02])
def test_every_class_begins_where_the_former_model_of_it_ended(tmp_path: Path, l1: float) -> None:
    made = make_parties(tmp_path, write_tables(tmp_path, ROWS, "multiclass"), marks=MARKS)
    paths = (made[BUSINESS], made[PROVIDER])
    job = job_of("multiclass", release_noise=0.0, max_iterations=20, l1=l1)
    with embedded(paths):
        cold = run_job(paths, job)
        warm = run_job(paths, {**job, "warm_start": cold.job})
    history, begun = (json.loads(one.history)["iterations"] for one in (cold, warm))
    assert len(history) >= 8
    # As many as for one score: a look, and with l1 a step that tells the penalty's part of zero coefficients.
    assert len(begun) == (2 if l1 else 1)
    for role in (BUSINESS, PROVIDER):
        before, after = (json.loads(one.parameters[role])["classes"] for one in (cold, warm))
        assert list(before) == list(after)
        for name, ended in before.items():
            found, expected = (
                np.array([one.get("intercept", 0.0), *one["coefficients"].values()]) for one in (after[name], ended)
            )
            assert np.linalg.norm(found - expected) < 1e-2 * np.linalg.norm(expected)
    if not l1:
        tables = [pl.read_csv(tmp_path / f"{role}.csv") for role in (BUSINESS, PROVIDER)]
        values = np.hstack([table.drop("id", "label_qz", strict=False).to_numpy() for table in tables])
        oracle = OneVsRestClassifier(LogisticRegression(C=1 / (job["l2"] * ROWS), tol=1e-10, max_iter=10_000))
        oracle.fit(values - values.mean(axis=0), tables[0]["label_qz"].to_numpy())
        optimum = np.vstack([one.coef_[0] for one in oracle.estimators_])
        assert np.linalg.norm(slopes_of(warm) - optimum) < 0.02 * np.linalg.norm(optimum)


def slopes_of(result: Any) -> np.ndarray:
    """Coefficients (classes, columns) of a finished job of several classes."""
    parts = [json.loads(result.parameters[role])["classes"].values() for role in (BUSINESS, PROVIDER)]
    return np.array(
        [[*own["coefficients"].values(), *other["coefficients"].values()] for own, other in zip(*parts, strict=True)]
    )
