"""The proximal operator of l1 in a metric, and the loop of mixtures, against scipy and laws."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learning.solvers import loop, proximal_loop
from learning.solvers.proximal import proximal_point


def problem(seed, size, condition=30.0):
    generator = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(generator.normal(size=(size, size)))
    curvature = rotation @ np.diag(np.geomspace(1.0, condition, size)) @ rotation.T
    return generator, np.linalg.cholesky(curvature), curvature


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 8), st.sampled_from([0.0, 0.1, 1.0, 5.0]))
def test_the_proximal_point_satisfies_the_conditions_of_optimality(seed, size, limit):
    generator, factor, curvature = problem(seed, size)
    point, penalties = generator.normal(size=size), np.full(size, limit)
    penalties[0] = 0.0
    found = proximal_point(point, factor, penalties)
    slope = curvature @ (found - point)
    zero = found == 0.0
    assert np.allclose(slope[~zero], -penalties[~zero] * np.sign(found[~zero]), atol=1e-8)
    assert (np.abs(slope[zero]) <= penalties[zero] + 1e-8).all()


def test_without_a_penalty_the_proximal_point_is_the_point():
    generator, factor, _ = problem(1, 5)
    point = generator.normal(size=5)
    assert proximal_point(point, factor, np.zeros(5)).tolist() == point.tolist()


def descend(seed, size, parties, l1, tolerance=1e-8, condition=30.0):
    """Quadratic losses split over parties, each of which knows its own block only."""
    generator, _, curvature = problem(seed, size, condition)
    linear = generator.normal(size=size) * 3.0
    blocks = np.array_split(np.arange(size), parties)
    factors = [np.linalg.cholesky(curvature[np.ix_(block, block)]) for block in blocks]
    state, weights, pull = loop.begin(tolerance), np.zeros(size), np.zeros(size)
    places, directions, whitened = [], [], []
    for _ in range(80):
        gradient = curvature @ weights - linear
        direction, white = np.zeros(size), np.zeros(size)
        for block, factor in zip(blocks, factors, strict=True):
            inner = np.linalg.solve(factor, gradient[block])
            direction[block] = np.linalg.solve(factor.T, inner)
            white[block] = inner + factor.T @ pull[block]
        places, directions, whitened = [*places, weights], [*directions, direction], [*whitened, white]
        row = [float(white @ other) for other in whitened]
        state, step = proximal_loop.advance(state, [*row, 0.0], float(np.abs(white).max()))
        *shares, length = step.combination
        assert sum(shares) == pytest.approx(1.0)
        if step.stop:
            break
        mixed = sum(
            share * (place - length * direct) for share, place, direct in zip(shares, places, directions, strict=True)
        )
        weights, pull = np.zeros(size), np.zeros(size)
        for block, factor in zip(blocks, factors, strict=True):
            weights[block] = proximal_point(mixed[block], factor, np.full(len(block), length * l1))
            pull[block] = (mixed[block] - weights[block]) / length
    return step, weights, curvature @ weights - linear


@pytest.mark.parametrize("parties", [1, 2, 3])
@pytest.mark.parametrize("l1", [0.5, 2.0])
@pytest.mark.parametrize("seed", range(4))
def test_mixtures_end_where_all_parties_together_are_optimal(seed, parties, l1):
    step, weights, gradient = descend(seed, 9, parties, l1)
    assert step.converged
    zero = weights == 0.0
    assert np.allclose(gradient[~zero], -l1 * np.sign(weights[~zero]), atol=1e-5)
    assert (np.abs(gradient[zero]) <= l1 + 1e-5).all()


def test_a_row_of_no_residuals_is_refused():
    with pytest.raises(loop.LoopError):
        proximal_loop.advance(loop.begin(), [float("nan"), 0.0], 1.0)
    with pytest.raises(loop.LoopError):
        proximal_loop.advance(loop.begin(), [1.0], 1.0)
