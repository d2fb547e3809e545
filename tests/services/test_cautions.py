"""What a report says before a model is believed, and how large the noise of its coefficients is."""

import numpy as np
import pytest
from scipy.optimize import minimize

from learning.links.targets import Targets
from services.results import cautions

CONVERGED = {"task": "logistic", "rows": 5000, "iterations": 7, "converged": True}


def history(bound: float = 2.0, **more: object) -> dict[str, object]:
    return {"iterations": [{"iteration": 1, "bound": 0.0}, {"iteration": 2, "bound": bound}], **more}


def test_nothing_is_said_of_a_job_that_went_well() -> None:
    assert cautions.of_training(CONVERGED, history()) == ()


def test_a_job_that_has_not_converged_says_so_but_not_one_that_stopped_early() -> None:
    ended = {**CONVERGED, "converged": False}
    (said,) = cautions.of_training(ended, history())
    assert said.startswith("not converged after 7 iterations")
    assert cautions.of_training(ended, history(stopping={"best": 2})) == ()


@pytest.mark.parametrize(
    ("task", "power", "bound", "reached"),
    [
        ("logistic", 0.0, 64.0, True),
        ("logistic", 0.0, 45.3, False),
        ("gamma", 0.0, 6.12, True),
        ("tweedie", 1.5, 8.0, True),
        ("tweedie", 1.5, 6.2, False),
        ("linear", 0.0, 0.0, False),
    ],
)
def test_the_end_of_the_score_range_is_told(task: str, power: float, bound: float, reached: bool) -> None:
    found = cautions.of_training({**CONVERGED, "task": task, "tweedie_power": power}, history(bound))
    assert any("end of the range" in one for one in found) is reached


def test_few_rows_are_told_where_ten_of_them_are_clipped() -> None:
    for rows, told in ((499, True), (501, False)):
        found = cautions.of_training({**CONVERGED, "rows": rows}, history())
        assert any("computed as if they were smaller" in one for one in found) is told


def test_columns_with_long_tails_are_named_and_flags_are_not() -> None:
    generator = np.random.default_rng(3)
    normal, amount = generator.normal(size=4000), np.exp(2 * generator.normal(size=4000))
    flag = (np.arange(4000) < 20).astype(float)
    (said,) = cautions.of_columns(["age", "amount", "flag"], np.column_stack([normal, amount, flag]))
    assert "amount" in said
    assert "age" not in said
    assert "flag" not in said
    assert cautions.of_columns(["age"], normal[:, None]) == ()


@pytest.mark.parametrize("task", ["logistic", "poisson"])
def test_the_noise_of_coefficients_is_what_optima_under_noisy_gradients_scatter_by(task: str) -> None:
    generator = np.random.default_rng(11)
    rows, l2, power = 2000, 1e-3, 0.0
    values = generator.normal(size=(rows, 3)) * [1.0, 10.0, 0.1]
    values[:, 2] = values[:, 0] / 10 + 0.02 * generator.normal(size=rows)  # nearly determined by the first one
    design = np.column_stack([np.ones(rows), values])
    score = design @ [0.2, 0.3, 0.05, 1.0]
    mean = 1 / (1 + np.exp(-score)) if task == "logistic" else np.exp(score / 2)
    label = (generator.uniform(size=rows) < mean).astype(float) if task == "logistic" else generator.poisson(mean) * 1.0
    deviations = cautions.deviations_of(values, 1.0, 1 / 32)
    centre = values.mean(axis=0)

    def optimum(error: np.ndarray) -> np.ndarray:
        def loss(weights: np.ndarray) -> float:
            z = weights[0] + (values - centre) @ weights[1:]
            each = np.logaddexp(0, z) - label * z if task == "logistic" else np.exp(z) - label * z
            return float(each.mean() + l2 / 2 * weights[1:] @ weights[1:] + error @ weights)

        return minimize(loss, np.zeros(4), method="BFGS", options={"gtol": 1e-8}).x

    best = optimum(np.zeros(4))
    scale = values.std(axis=0)
    errors = (optimum(deviations * np.sqrt(3) * generator.uniform(-1, 1, 4)) - best for _ in range(60))
    scattered = np.sqrt(np.mean([np.sum((error[1:] * scale) ** 2) for error in errors]))
    z = best[0] + (values - centre) @ best[1:]
    noise = cautions.coefficient_noise(task, power, values, Targets(label), z, best[1:], l2=l2, deviations=deviations)
    assert noise == pytest.approx(scattered / np.linalg.norm(best[1:] * scale), rel=0.3)


def test_noise_is_told_from_two_per_cent_on() -> None:
    assert cautions.of_noise(0.019) == ()
    assert cautions.of_noise(float("nan")) == ()
    assert "about 6.5%" in cautions.of_noise(0.065)[0]
