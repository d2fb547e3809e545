"""A job that starts from the model of a former one, between the same daemons."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.daemon.local import BUSINESS, NAMES, PROVIDER, LocalError, embedded, run_job
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
    # The first expansion of the residuals is a coarse one: it takes some iterations to see that nothing is left to do.
    assert len(begun) <= len(history) / 2
    for role in (BUSINESS, PROVIDER):
        before, after = (json.loads(one.parameters[role])["classes"] for one in (cold, warm))
        assert list(before) == list(after)
        for name, ended in before.items():
            found, expected = (
                np.array([one.get("intercept", 0.0), *one["coefficients"].values()]) for one in (after[name], ended)
            )
            assert np.linalg.norm(found - expected) < 1e-2 * np.linalg.norm(expected)
