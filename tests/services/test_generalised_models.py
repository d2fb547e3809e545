"""Every task over both machines and their real compute functions, against scikit-learn on the joined table."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import (
    ElasticNet,
    GammaRegressor,
    LogisticRegression,
    PoissonRegressor,
    Ridge,
    TweedieRegressor,
)

from protocol.contract import encode_contract, job_id
from services.daemon.job_file import family_fields, job_from, label_bound, with_class_weights
from services.tables.snapshot import pack_snapshot
from services.tables.table import Table
from tests.protocol.test_contract import contract
from tests.services.pair import Pair, two_sides

Vector = NDArray[np.float64]

ROWS, MARKS, L2 = 120, ("insecure", "small_sample"), 1e-2


def data(seed: int = 4) -> tuple[Vector, Vector, Vector]:
    """(business columns, provider columns, scores) of the same people."""
    generator = np.random.default_rng(seed)
    business, provider = generator.normal(size=(ROWS, 2)), generator.normal(size=(ROWS, 3))
    return business, provider, business @ [0.4, -0.2] + provider @ [0.3, -0.4, 0.1]


def train(
    directory: Path,
    label: Vector,
    *,
    weight: Vector | None = None,
    offset: Vector | None = None,
    **fields: Any,
) -> tuple[Vector, list[dict[str, Any]]]:
    """((intercept, business's, provider's coefficients), both parameter files) of a job on small keys."""
    business, provider, _ = data()
    names = [f"person-{number:05d}" for number in range(ROWS)]
    table = Table(identifiers=names, columns=("b0", "b1"), values=business, label=label, weight=weight, offset=offset)
    lines = [
        "id,p0,p1,p2",
        *(",".join([name, *map(repr, row)]) for name, row in zip(names, provider.tolist(), strict=True)),
    ]
    (directory / "provider.csv").write_text("\n".join(lines) + "\n")
    settings = {
        "policy": {"marks": list(MARKS)},
        "datasets": {"customers": {"source": str(directory / "provider.csv"), "id": "id"}},
        "noise_seed": "",
    }
    sides = two_sides(directory, settings, "0")
    job = job_from({"dataset": "d", "partner": "p/q", "l2": L2, **fields}, "job")
    table = with_class_weights(table, job.task, job.class_weight)
    agreed = contract(
        business_key=sides[0].identity.public.digest(),
        provider_key=sides[1].identity.public.digest(),
        business_rows=ROWS,
        business_columns=2,
        task=job.task,
        l2=job.l2,
        max_iterations=30,
        tolerance=1e-4,
        key_bits=512,
        marks=MARKS,
        release_noise=0.0,
        chunk_rows_max=60,
        label_bound=label_bound(job, table),
        tweedie_power=job.tweedie_power,
        l1=job.l1,
        **family_fields(job, table),
    )
    encoded = encode_contract(agreed)
    pair = Pair(sides[0], sides[1])
    pair.start(job_id(encoded), encoded, pack_snapshot(table), ROWS)
    pair.run()
    files = parameter_files(pair)
    found = [files[0]["intercept"], *files[0]["coefficients"].values(), *files[1]["coefficients"].values()]
    return np.array(found), files


def parameter_files(pair: Pair) -> list[dict[str, Any]]:
    """parameters.json of both parties of a job that is done."""
    files = []
    for side in pair.sides:
        assert side.finish is not None
        assert side.finish.outcome == "done", side.finish
        files.append(json.loads(side.blobs[side.finish.results[0].sha256]))
    return files


def distance(found: Vector, intercept: float, coefficients: Sequence[float]) -> float:
    """Relative L2 distance from an oracle's parameters."""
    best = np.array([intercept, *coefficients])
    return float(np.linalg.norm(found - best) / np.linalg.norm(best))


def test_a_gamma_job_ends_at_the_optimum_of_scikit_learn(tmp_path: Path) -> None:
    business, provider, score = data()
    label = 500 * np.exp(score) * np.random.default_rng(1).gamma(2.0, 0.5, ROWS)
    found, files = train(tmp_path, label, task="gamma")
    oracle = GammaRegressor(alpha=L2, tol=1e-10, max_iter=1000).fit(np.hstack([business, provider]), label)
    assert files[0]["converged"]
    assert distance(found, oracle.intercept_, oracle.coef_) < 1e-3


def test_a_tweedie_job_ends_at_the_optimum_of_scikit_learn(tmp_path: Path) -> None:
    business, provider, score = data()
    generator = np.random.default_rng(1)
    label = 20 * np.exp(score) * generator.gamma(2.0, 0.5, ROWS) * generator.integers(0, 2, ROWS)
    found, files = train(tmp_path, label, task="tweedie", tweedie_power=1.6)
    oracle = TweedieRegressor(power=1.6, link="log", alpha=L2, tol=1e-10, max_iter=1000)
    oracle.fit(np.hstack([business, provider]), label)
    assert files[0]["converged"]
    assert files[1]["tweedie_power"] == 1.6
    assert distance(found, oracle.intercept_, oracle.coef_) < 1e-3


@pytest.mark.parametrize("task", ["gamma", "tweedie"])
def test_the_contract_says_nothing_of_the_labels_but_powers_of_two(task: str) -> None:
    label = np.random.default_rng(2).gamma(2.0, 300.0, ROWS)
    table = Table(identifiers=["a"] * ROWS, columns=("b0",), values=np.zeros((ROWS, 1)), label=label)
    power = {"tweedie_power": 1.5} if task == "tweedie" else {}
    fields = family_fields(job_from({"dataset": "d", "partner": "p/q", "task": task, **power}, "job"), table)
    for name in ("residual_unit", "curvature"):
        assert np.log2(fields[name]).is_integer()


def test_a_weighted_linear_job_ends_at_the_optimum_of_scikit_learn(tmp_path: Path) -> None:
    business, provider, score = data()
    generator = np.random.default_rng(1)
    label, weight = 30 * score + generator.normal(size=ROWS) * 10, generator.integers(0, 5, ROWS) * 1.0
    found, files = train(tmp_path, label, weight=weight, task="linear")
    oracle = Ridge(alpha=L2 * weight.sum()).fit(np.hstack([business, provider]), label, sample_weight=weight)
    assert files[0]["converged"]
    assert distance(found, oracle.intercept_, oracle.coef_) < 2e-3


def test_a_job_with_balanced_classes_ends_at_the_optimum_of_scikit_learn(tmp_path: Path) -> None:
    business, provider, score = data()
    label = (score - 1.0 + np.random.default_rng(1).logistic(size=ROWS) / 3 > 0).astype(float)
    found, files = train(tmp_path, label, task="logistic", class_weight="balanced")
    oracle = LogisticRegression(C=1 / (L2 * ROWS), class_weight="balanced", tol=1e-10, max_iter=1000)
    oracle.fit(np.hstack([business, provider]), label)
    assert files[0]["converged"]
    assert distance(found, oracle.intercept_[0], oracle.coef_[0]) < 0.02


def test_exposure_of_a_poisson_job_is_a_rate_of_scikit_learn_with_weights(tmp_path: Path) -> None:
    business, provider, score = data()
    generator = np.random.default_rng(1)
    exposure = generator.uniform(0.2, 3.0, ROWS)
    label = generator.poisson(exposure * np.exp(score)).astype(float)
    found, files = train(tmp_path, label, offset=np.log(exposure), task="poisson")
    # Counts with exposures are rates weighted by exposure; the penalty is of the sum over rows.
    oracle = PoissonRegressor(alpha=L2 * ROWS / exposure.sum(), tol=1e-10, max_iter=1000)
    oracle.fit(np.hstack([business, provider]), label / exposure, sample_weight=exposure)
    assert files[0]["converged"]
    assert distance(found, oracle.intercept_, oracle.coef_) < 2e-3


def test_a_weighted_gamma_job_with_offsets_ends_at_the_optimum_of_statsmodels(tmp_path: Path) -> None:
    from statsmodels import api

    business, provider, score = data()
    generator = np.random.default_rng(1)
    offset, weight = generator.normal(size=ROWS), generator.integers(1, 4, ROWS) * 1.0
    label = np.exp(score + offset) * generator.gamma(2.0, 0.5, ROWS)
    found, files = train(tmp_path, label, weight=weight, offset=offset, task="gamma", l2=0.0)
    design = api.add_constant(np.hstack([business, provider]))
    model = api.GLM(
        label, design, family=api.families.Gamma(api.families.links.Log()), offset=offset, var_weights=weight
    )
    best = model.fit(tol=1e-12).params
    assert files[0]["converged"]
    assert distance(found, best[0], best[1:]) < 2e-3


def test_an_elastic_net_job_ends_at_the_optimum_of_scikit_learn_with_exact_zeros(tmp_path: Path) -> None:
    business, provider, score = data()
    label = 20 * score + np.random.default_rng(1).normal(size=ROWS)
    found, files = train(tmp_path, label, task="linear", l1=3.0)
    oracle = ElasticNet(alpha=3.0 + L2, l1_ratio=3.0 / (3.0 + L2), tol=1e-12, max_iter=100_000)
    oracle.fit(np.hstack([business, provider]), label)
    assert files[0]["converged"]
    assert files[1]["l1"] == 3.0
    assert distance(found, oracle.intercept_, oracle.coef_) < 1e-3
    assert 0 < (found == 0.0).sum() < 5
    assert ((found[1:] == 0.0) == (oracle.coef_ == 0.0)).all()
