"""Cross-validation in one job: the path, the folds' fits, and what the held-out differences are."""

import numpy as np
import pytest

from bench.simulate import Job
from bench.solvers import Field
from bench.validation import exact, validate
from learning import release
from learning.columns.quantise import quantise
from learning.solvers import cross_validation, loop, loops, validated
from learning.solvers import history as histories
from tests.learning.test_solvers import ROWS, tables

PENALTIES = (0.1, 0.03, 0.01, 0.003)
FOLDS = (ROWS // 4,) * 4
JOB = Job("synthetic", "logistic", "y", 0.01, small_sample=True, release_noise=0.0)


@pytest.fixture(scope="module")
def found() -> validated.Validated:
    return validate(JOB, Field.of(JOB, tables(), FOLDS), PENALTIES).state


def test_the_choice_and_the_differences_are_those_of_the_optima(found: validated.Validated) -> None:
    losses = exact(JOB, tables(), FOLDS, PENALTIES)
    away = losses - losses[:, :1]
    assert np.array(found.deviances) == pytest.approx(away, abs=2e-3)
    assert found.chosen == int(away.mean(axis=0).argmin())
    assert found.loose == 0


def test_every_fit_takes_one_gradient_and_one_check(found: validated.Validated) -> None:
    counted = validate(JOB, Field.of(JOB, tables(), FOLDS), PENALTIES).turns
    assert (counted["fit"], counted["check"]) == (16, 16)
    assert counted["revise"] == 3
    assert counted["path"] == found.turns


def test_a_path_that_may_not_go_on_says_at_how_many_penalties(found: validated.Validated) -> None:
    assert found.turns > 4
    state, met = validated.begin(1e-9, PENALTIES, FOLDS, 4), 0
    while state.act in ("path", "revise"):
        before = state.vectors
        row = [0.1 * 0.8 ** (i + before) for i in range(before)] + [0.64**before, 0.0]
        state, step = validated.advance(state, row, 1.0)
        assert not step.stop
        met += 1
    assert (state.turns, state.loose) == (4, 4)
    assert met == 4 + 3


def test_a_gradient_under_another_penalty_needs_no_rows() -> None:
    chance = np.random.default_rng(1)
    columns = quantise(chance.normal(size=(200, 3)), ["a", "b", "c"], intercept=True, small_sample=True)
    family = JOB.family(np.array([0.0, 1.0]))
    start = histories.begin(columns, family=family, l2=0.01, release_noise=0.0)
    first, _, _ = histories.append_gradient(start, [10**12, -(10**12), 5 * 10**11, 10**11], 200, 24, 0.0)
    moved = histories.take_step(first, (-1.0,))
    total = [7 * 10**11, 10**12, -(10**11), 3 * 10**11]
    anew, expected, _ = histories.append_gradient(cross_validation.with_penalty(moved, 0.5), total, 200, 24, 0.0)
    last, _, _ = histories.append_gradient(moved, total, 200, 24, 0.0)
    revised, products, _ = cross_validation.revise_gradient(last, 0.5, 0.0)
    assert revised.whitened[-1] == pytest.approx(anew.whitened[-1], rel=1e-12)
    assert products[-2] == pytest.approx(expected[-2], rel=1e-6)
    assert len(products) == 4  # with both before it, with itself, and the noise


def test_a_trapezoid_of_gradients_is_the_difference_of_a_quadratic_loss() -> None:
    chance = np.random.default_rng(2)
    columns = quantise(chance.normal(size=(50, 2)), ["a", "b"], intercept=False, small_sample=True)
    history = histories.begin(columns, family=JOB.family(np.array([0.0, 1.0])), l2=0.01, release_noise=0.0)
    curvature, slope = np.array([[2.0, 0.5], [0.5, 1.0]]), np.array([0.3, -0.7])
    places, kept = (np.array([0.2, -0.4]), np.array([1.1, 0.6])), None
    differences = []
    for place in places:
        there = histories.LocalHistory(
            **{name: getattr(history, name) for name in history.__slots__ if name != "weights"}, weights=place
        )
        difference, kept = cross_validation.held_out_difference(there, curvature @ place + slope, kept)
        differences.append(difference)
    losses = [0.5 * place @ curvature @ place + slope @ place for place in places]
    assert differences == pytest.approx([0.0, losses[1] - losses[0]], rel=1e-6)


@pytest.mark.parametrize("row", [[], [1.0], [float("inf"), 0.0], [-1.0, 0.0]])
def test_products_that_no_gradients_have_are_refused(row: list[float]) -> None:
    plan = loops.Plan(rows=FOLDS, penalties=PENALTIES, iterations=10)
    with pytest.raises(loop.LoopError):
        loops.advance(plan, loops.begin(plan), row, 1.0)


def test_the_release_rules_count_every_fit_check_and_revision() -> None:
    tariff = release.Tariff(fits=30, fit_row=13, revisions=5)
    assert release.entries_released(20, 14, tariff) == 20 * 14 + 25 * 28 // 2 + 30 * (2 * 14 + 13)
    allowed = release.iterations_allowed(
        rows=30_000, own_columns=10, partner_columns=14, max_iterations=30, small_sample=False, tariff=tariff
    )
    assert release.entries_released(allowed, 14, tariff) <= 30_000 // 16
    assert allowed == 20
