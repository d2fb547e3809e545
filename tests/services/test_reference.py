"""The optimum on the joined table, against scikit-learn's solvers."""

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

from services.results.reference import fit

Vector = NDArray[np.float64]
TASKS = ("logistic", "linear", "poisson", "gamma", "tweedie")
POWERS = {"tweedie": 1.4}
ROWS = 400


def data(task: str, seed: int = 3) -> tuple[Vector, Vector]:
    """Columns (n, 5) of unlike centres and scales, and labels that depend on them."""
    generator = np.random.default_rng(seed)
    values = generator.normal(size=(ROWS, 5)) * [1, 2, 0.5, 1, 3] + [0, 5, 0, -2, 1]
    score = values @ [0.5, -0.2, 0.8, 0.1, 0.05]
    labels = {
        "logistic": (score + generator.logistic(size=ROWS) > 0) * 1.0,
        "linear": score + generator.normal(size=ROWS),
        "poisson": generator.poisson(np.exp(score / 2)) * 1.0,
        "gamma": generator.gamma(2.0, np.exp(score / 2)),
        "tweedie": generator.gamma(2.0, np.exp(score / 2)) * generator.integers(0, 2, ROWS),
    }
    return values, labels[task]


def peer(task: str, values: Vector, label: Vector, l2: float) -> Any:
    """scikit-learn's model of the same loss and penalty."""
    return {
        "logistic": LogisticRegression(C=1 / (l2 * ROWS), tol=1e-10, max_iter=10_000),
        "linear": Ridge(alpha=l2 * ROWS),
        "poisson": PoissonRegressor(alpha=l2, tol=1e-10, max_iter=10_000),
        "gamma": GammaRegressor(alpha=l2, tol=1e-10, max_iter=10_000),
        "tweedie": TweedieRegressor(power=1.4, link="log", alpha=l2, tol=1e-10, max_iter=10_000),
    }[task].fit(values, label)


@pytest.mark.parametrize("l2", [1e-4, 1e-2, 1.0])
@pytest.mark.parametrize("task", TASKS)
def test_the_reference_is_scikit_learn_s_optimum(task: str, l2: float) -> None:
    values, label = data(task)
    expected = peer(task, values, label, l2)
    found = fit(task, values, label, l2, power=POWERS.get(task, 0.0))
    assert found.converged
    assert np.allclose(found.coefficients, np.ravel(expected.coef_), atol=1e-5)
    assert found.intercept == pytest.approx(float(np.ravel(expected.intercept_)[0]), abs=1e-4)


@pytest.mark.parametrize("size", [1e-6, 1e6])
def test_a_linear_reference_does_not_depend_on_the_unit_of_the_labels(size: float) -> None:
    values, label = data("linear")
    plain, scaled = fit("linear", values, label, 1e-2), fit("linear", values, label * size, 1e-2)
    assert scaled.converged
    assert np.allclose(scaled.coefficients / size, plain.coefficients, rtol=1e-9)
    assert scaled.intercept / size == pytest.approx(plain.intercept, rel=1e-9)


@pytest.mark.parametrize("task", TASKS)
def test_the_intercept_is_not_penalised(task: str) -> None:
    values, label = data(task)
    moved = fit(task, values + 100.0, label, 10.0)
    still = fit(task, values, label, 10.0)
    assert np.allclose(moved.coefficients, still.coefficients, atol=1e-8)
    assert moved.intercept == pytest.approx(still.intercept - 100.0 * still.coefficients.sum(), abs=1e-6)


@pytest.mark.parametrize("task", TASKS)
def test_a_constant_column_changes_nothing(task: str) -> None:
    values, label = data(task)
    found = fit(task, np.column_stack([values, np.full(ROWS, 0.1)]), label, 1e-2)
    expected = fit(task, values, label, 1e-2)
    assert found.converged
    assert found.coefficients[-1] == pytest.approx(0.0, abs=1e-9)
    assert np.allclose(found.coefficients[:-1], expected.coefficients, atol=1e-8)


@pytest.mark.parametrize("l1", [1e-3, 1e-2, 0.1])
def test_the_reference_of_an_elastic_net_is_scikit_learn_s(l1: float) -> None:
    values, label = data("logistic")
    expected = LogisticRegression(
        C=1 / ((l1 + 1e-3) * ROWS), l1_ratio=l1 / (l1 + 1e-3), solver="saga", tol=1e-10, max_iter=100_000
    ).fit(values, label)
    found = fit("logistic", values, label, 1e-3, l1=l1)
    assert found.converged
    assert np.allclose(found.coefficients, expected.coef_[0], atol=1e-4)
    assert ((found.coefficients == 0.0) == (expected.coef_[0] == 0.0)).all()


def test_the_reference_of_a_linear_elastic_net_is_scikit_learn_s() -> None:
    values, label = data("linear")
    expected = ElasticNet(alpha=0.3, l1_ratio=2 / 3, tol=1e-12, max_iter=100_000).fit(values, label * 50)
    found = fit("linear", values, label * 50, 0.1, l1=0.2)
    assert np.allclose(found.coefficients, expected.coef_, atol=1e-5)
