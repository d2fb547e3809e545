"""The study of random problems, short: `python -m bench.robustness` runs the long one."""

import math

import numpy as np
import pytest

from bench import robustness
from bench.robustness import Found, Tally, problem, run

HARD = {"collinear", "heavy", "outlier"}
SEEDS = [seed for seed in range(160) if len(problem(seed).targets.label) >= 800 and not HARD & {*problem(seed).traits}]


@pytest.mark.parametrize("kind", range(len(robustness.TASKS)))
def test_every_task_comes_to_the_optimum_of_columns_without_collinearity_and_heavy_tails(kind):
    seeds = [seed for seed in SEEDS if seed % len(robustness.TASKS) == kind][:4]
    assert len(seeds) >= 3
    for seed in seeds:
        found = run(problem(seed))
        assert found.refused == ("column_constant" if "constant" in found.problem.traits else ""), str(found)
        assert found.refused or found.near, str(found)


def test_a_problem_is_the_same_every_time():
    one, other = problem(5), problem(5)
    assert np.array_equal(one.columns, other.columns)
    assert np.array_equal(one.targets.label, other.targets.label)
    assert str(one) == str(other)


def test_a_model_that_is_far_from_the_optimum_is_not_called_near():
    far = Found(problem(3), by_coefficients=0.5, by_scores=0.03, iterations=3, converged=True)
    tally = Tally()
    tally.add(far)
    tally.add(Found(problem(3), refused="column_constant"))
    assert (tally.problems, tally.refused, tally.near, tally.converged) == (2, 1, 0, 1)
    assert math.isclose(tally.distances[0], 0.03)
