"""Solvers and sample sets: all of them come to the optimum, and keep to what they may compare."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.simulate import Job
from bench.solvers import measure
from learning.solvers import blocks, fraction, growing, loop, loops

ROWS = 2400


def tables(seed: int = 7) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    chance = np.random.default_rng(seed)
    common = chance.normal(size=(ROWS, 1))
    business = chance.normal(size=(ROWS, 4)) + common
    provider = chance.normal(size=(ROWS, 4)) + common
    z = business @ [0.5, -0.3, 0.2, 0.0] + provider @ [0.8, -0.5, 0.1, 0.4]
    return business, provider, (chance.uniform(size=ROWS) < 1 / (1 + np.exp(-z))).astype(float)


JOB = Job("synthetic", "logistic", "y", 1e-3, small_sample=True, release_noise=0.0)


@pytest.mark.parametrize(
    ("settings", "within"),
    [
        ({"sample_set": "growing", "blocks": 3}, 0.01),
        ({"sample_set": "fraction", "blocks": 2}, 0.01),
        ({"solver": "block", "share": 0.25}, 0.01),
        ({"solver": "block", "share": 0.25, "draw": "random"}, 0.01),
        ({"solver": "block", "share": 0.25, "draw": "greedy", "iterations": 80}, 0.02),
    ],
    ids=str,
)
def test_every_solver_comes_to_the_optimum(settings: dict[str, Any], within: float) -> None:
    spent = measure(JOB, tables(), settings)
    assert spent[-1].by_scores < within
    assert len(spent) < 81


def test_a_growing_set_makes_no_pair_of_gradients_over_different_rows() -> None:
    plane = loop.Plane(((1.0,), (0.5, 0.8), (0.3, 0.4, 0.6)))
    points: list[loop.Coefficients] = [(0.0, 0.0, 0.0), (-1.0, 0.0, 0.0), (-1.0, -0.5, 0.0)]
    assert len(loop.pairs_of(plane, points, 0.0)) == 2
    assert len(loop.pairs_of(plane, points, 0.0, starts=(1,))) == 1
    assert not loop.pairs_of(plane, points, 0.0, starts=(1, 2))


def test_a_stage_ends_when_its_rows_can_tell_no_more_and_the_last_one_does_not() -> None:
    state = growing.begin(1e-6, (100, 100, 200))
    for stage, rows in enumerate((100, 200)):
        assert state.stage == stage
        state, step = growing.advance(state, _row(len(state.loop.gram)), growing.GOAL / rows**0.5 * 1.01)
        assert state.stage == stage
        state, step = growing.advance(state, _row(len(state.loop.gram)), growing.GOAL / rows**0.5 * 0.99)
        assert not step.stop
    assert state.stage == 2
    _, step = growing.advance(state, _row(len(state.loop.gram)), 0.0)
    assert step.converged


def _row(before: int) -> list[float]:
    """Products of one more gradient that shrinks and turns a little each time."""
    return [0.1 * 0.8 ** (i + before) for i in range(before)] + [0.64**before, 0.0]


def test_batches_take_turns_and_the_gradient_followed_is_of_all_of_them() -> None:
    state, met = fraction.begin(1e-6, (30, 10)), []
    for _ in range(4):
        met.append(state.batch)
        state, step = fraction.advance(state, _row(len(state.gram)), 1.0)
    assert met == [0, 1, 0, 1]
    assert not step.stop


@given(st.integers(1, 60), st.floats(0.01, 1.0), st.sampled_from(["cyclic", "random", "greedy"]), st.binary(min_size=8))
def test_every_code_is_in_one_block(codes: int, share: float, draw: blocks.Draw, seed: bytes) -> None:
    deal = blocks.begin(1e-3, codes, share, draw, seed).deal
    assert sorted(code for block in deal for code in block) == list(range(codes))
    assert max(map(len, deal)) == blocks.size_of(codes, share)
    assert deal == blocks.begin(1e-3, codes, share, draw, seed).deal


def test_a_random_deal_depends_on_the_seed() -> None:
    deals = {blocks.begin(1e-3, 24, 0.25, "random", bytes([seed]) * 32).deal for seed in range(5)}
    assert len(deals) == 5


def test_greedy_takes_the_block_whose_gradient_was_longest_for_the_time_that_passed() -> None:
    state = blocks.begin(1e-6, 4, 0.25, "greedy", b"")
    for length in (1.0, 9.0, 2.0, 3.0):
        assert state.against == ()
        state, _ = blocks.advance(state, [length, 0.0], 1.0)
    assert state.turn == 1  # 9 three iterations ago, against 1, 2 and 3 four, two and one ago
    state, _ = blocks.advance(state, [0.1, 0.0], 1.0)
    assert state.turn == 2  # 2 three ago and 3 two ago are equals: the first of them


def test_blocks_that_overshoot_take_shorter_steps() -> None:
    state = blocks.begin(1e-6, 2, 0.5, "cyclic", b"")
    for length in (1.0, 1.0, 30.0, 30.0):
        row = [0.0] * len(state.against) + [length, 0.0]
        state, _ = blocks.advance(state, row, 1.0)
    assert state.pace == 0.5


@pytest.mark.parametrize("solver", ["lbfgs", "block"])
@pytest.mark.parametrize("row", [[], [1.0], [float("nan"), 0.0], [-1.0, 0.0], [1.0, -1.0], [1.0, 2.0, 3.0]])
def test_products_that_no_gradients_have_are_refused(solver: loops.Solver, row: list[float]) -> None:
    for sample_set in ("full", "growing", "fraction") if solver == "lbfgs" else ("full",):
        plan = loops.Plan(solver=solver, sample_set=sample_set, rows=(10, 10), codes=4)  # type: ignore[arg-type]
        with pytest.raises(loop.LoopError):
            loops.advance(plan, loops.begin(plan), row, 1.0)


def test_the_loop_over_all_rows_keeps_its_bytes() -> None:
    plan = loops.Plan(rows=(100,))
    assert loops.begin(plan) == loop.encode(loop.begin(plan.tolerance))
    assert b"starts" not in loops.begin(plan)
