import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learning.arithmetic.reductions import rounded
from learning.solvers import loop


def quadratic(seed, size, condition=50.0):
    """A convex quadratic in whitened coordinates: matrix and optimum."""
    generator = np.random.default_rng(seed)
    q, _ = np.linalg.qr(generator.normal(size=(size, size)))
    matrix = q @ np.diag(np.geomspace(1.0 / condition, 1.5, size)) @ q.T
    return matrix, generator.normal(size=size)


def minimise(gradient_of, size, iterations, *, tolerance=1e-7, noise=0.0, announced=None, generator=None):
    """The loop with explicit vectors: points, steps and state; two parties halve every vector between them."""
    state, gradients, weights, steps = loop.begin(tolerance), [], np.zeros(size), []
    for m in range(iterations):
        g = gradient_of(weights)
        if noise:
            g = g + generator.normal(size=size) * noise
        gradients.append(g)
        half = size // 2
        rows = [[rounded(float(o[p] @ g[p])) for o in gradients] for p in (slice(0, half), slice(half, None))]
        row = [a + b for a, b in zip(*rows, strict=True)]
        largest = max(0.0, float(np.abs(g).max()) - 4 * noise)
        state, step = loop.advance(
            state, [*row, (noise if announced is None else announced) ** 2 * size], largest, last=m == iterations - 1
        )
        weights = sum(a * o for a, o in zip(step.combination, gradients, strict=True))
        steps.append(step)
        if step.stop:
            break
    return weights, steps, state


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.integers(2, 8))
def test_a_quadratic_is_solved_in_little_more_iterations_than_it_has_dimensions(seed, size):
    matrix, optimum = quadratic(seed, size, 20.0)
    weights, steps, _ = minimise(lambda w: matrix @ (w - optimum), size, 30, tolerance=1e-4)
    assert steps[-1].converged
    assert len(steps) <= 2 * size + 8
    assert np.linalg.norm(weights - optimum) < 2e-2 * np.linalg.norm(optimum)


@given(st.integers(0, 2**32))
def test_both_parties_derive_the_same_bits(seed):
    matrix, optimum = quadratic(seed, 5)
    _, _, state = minimise(lambda w: matrix @ (w - optimum), 5, 6)
    copy = loop.decode(loop.encode(state))
    row = [0.01] * (len(state.gram) + 1) + [0.0]
    first, second = loop.advance(state, row, 0.5), loop.advance(copy, tuple(row), 0.5)
    assert first == second
    assert loop.encode(first[0]) == loop.encode(second[0])


def test_an_exploding_step_is_taken_back():
    def gradient(w):
        return np.array([math.exp(min(6 * w[0], 50.0)) - 2.0, 0.01 * w[1]])

    weights, steps, _ = minimise(gradient, 2, 30, tolerance=1e-4)
    assert steps[-1].converged
    assert weights[0] == pytest.approx(math.log(2.0) / 6, abs=1e-3)


def test_no_step_is_much_longer_than_the_ones_before():
    matrix, optimum = quadratic(3, 12, 5000.0)
    _, steps, _ = minimise(lambda w: matrix @ (w - optimum), 12, 25)
    lengths = [step.scale for step in steps]
    assert all(b <= 4.001 * max(lengths[max(0, i - 1) : i + 1]) for i, b in enumerate(lengths[1:]))


def test_knowing_the_release_noise_brings_the_model_closer_to_the_optimum():
    matrix, optimum = quadratic(4, 10, 20.0)

    def error(seed, announced):
        generator = np.random.default_rng(seed)
        more = {"noise": 0.003, "announced": announced, "generator": generator, "tolerance": 1e-9}
        weights, _, _ = minimise(lambda w: matrix @ (w - optimum), 10, 20, **more)
        return np.linalg.norm(weights - optimum)

    assert np.mean([error(seed, None) for seed in range(20)]) < 0.85 * np.mean([error(seed, 0.0) for seed in range(20)])


def test_noise_never_blows_the_model_up():
    matrix, optimum = quadratic(5, 10, 200.0)
    for seed in range(10):
        weights, _, _ = minimise(
            lambda w: matrix @ (w - optimum), 10, 40, noise=0.01, generator=np.random.default_rng(seed), tolerance=1e-9
        )
        assert np.linalg.norm(weights - optimum) < np.linalg.norm(optimum)


def test_a_loop_that_starts_elsewhere_sees_at_once_whether_anything_is_left():
    elsewhere = loop.begin(7e-4, first=0.2).link_tolerance
    assert elsewhere == pytest.approx(0.1 * 7e-4 * 0.4)
    assert elsewhere < loop.begin(7e-4).link_tolerance


def test_the_link_tolerance_follows_the_gradient():
    state = loop.begin()
    assert state.link_tolerance == 0.03
    state, _ = loop.advance(state, [0.5, 0.0], 0.5)
    assert state.link_tolerance == 0.03
    state, step = loop.advance(state, [0.01, 0.01, 0.0], 0.1)
    assert step.gradient == 0.1
    assert state.link_tolerance == pytest.approx(0.01)


def test_the_loop_stops_converged_or_at_the_last_iteration():
    state, step = loop.advance(loop.begin(0.1), [4.0, 0.0], 0.5)
    assert (step.stop, step.converged, step.reason) == (False, False, "")
    _, step = loop.advance(state, [0.1, 4.0, 0.0], 0.5, last=True)
    assert (step.stop, step.converged, step.reason) == (True, False, "iterations")
    _, step = loop.advance(state, [0.1, 4.0, 0.0], 0.09)
    assert (step.stop, step.converged, step.reason) == (True, True, "converged")


def test_a_gradient_of_zero_is_converged():
    _, step = loop.advance(loop.begin(), [0.0, 0.0], 0.0)
    assert step.converged


@pytest.mark.parametrize("row", [[], [1.0], [1.0, 0.0, 0.0], [math.nan, 0.0], [-1.0, 0.0], [1.0, -1.0]])
def test_impossible_products_are_refused(row):
    with pytest.raises(loop.LoopError):
        loop.advance(loop.begin(), row, 1.0)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.floats(-1e6, 1e6), min_size=7, max_size=7), min_size=6, max_size=6))
def test_any_products_of_a_hostile_partner_give_finite_steps_or_a_refusal(rows):
    state = loop.begin()
    for m, row in enumerate(rows, start=1):
        said = [*row[: m - 1], abs(row[m - 1]), abs(row[6])]
        try:
            state, step = loop.advance(state, said, 1.0, last=m == 6)
        except loop.LoopError:
            return
        assert all(math.isfinite(value) for value in step.combination)


def test_the_state_of_60_iterations_fits_40_kib():
    matrix, optimum = quadratic(6, 70, 1e4)
    _, steps, state = minimise(lambda w: matrix @ (w - optimum), 70, 60, tolerance=1e-12)
    assert len(steps) == 60
    assert len(loop.encode(state)) <= 40 * 1024
