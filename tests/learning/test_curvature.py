"""The inference stage in the clear, against statsmodels' GLM on the joined columns."""

import dataclasses
import math

import numpy as np
import pytest

from bench.inference import infer, peer
from bench.simulate import Job
from learning.columns.quantise import quantise
from learning.inference import curvature, curvature_terms, standard_errors
from learning.links import residual_terms
from learning.links.family import Family
from learning.solvers import history

ROWS = 3000


def data(seed=7, rows=ROWS):
    generator = np.random.default_rng(seed)
    common = generator.normal(size=(rows, 1))
    business = 0.5 * (generator.normal(size=(rows, 2)) + common) + [0.0, 3.0]
    provider = 0.5 * (generator.normal(size=(rows, 3)) + common)
    provider[:, 2] = provider[:, 2] > 0.3
    z = business @ [0.3, -0.05] + provider @ [0.1, -0.15, 0.1]
    return business, provider, z, generator


def labels_of(task, z, generator):
    if task == "logistic":
        return (generator.uniform(size=len(z)) < 1 / (1 + np.exp(-z))).astype(float)
    if task == "gamma":
        return generator.gamma(2.0, np.exp(z) / 2.0)
    if task == "tweedie":
        return np.array([generator.gamma(2.0, 0.5, count).sum() for count in generator.poisson(np.exp(z))])
    if task == "poisson":
        return generator.poisson(np.exp(z)).clip(0, 16).astype(float)
    return 10 * z + 20 * generator.normal(size=len(z))


def job(task, **more):
    bound = {"poisson": 16.0, "linear": 128.0}.get(task, 1.0)
    power = 1.5 if task == "tweedie" else 0.0
    fields = {"l2": 0.0, "label_bound": bound, "small_sample": True, "release_noise": 0.0, "power": power, **more}
    return Job("synthetic", task, "y", **fields)


@pytest.mark.parametrize("task", ["logistic", "poisson", "linear", "gamma", "tweedie"])
def test_errors_and_p_values_of_both_parties_are_those_of_statsmodels(task):
    business, provider, z, generator = data()
    labels = labels_of(task, z, generator)
    found = infer(job(task), business, provider, labels)
    best = peer(task, np.hstack([business, provider]), labels)
    assert found.dispersion == pytest.approx(best.scale, rel=2e-3)
    for one, value, error, p in zip(found.own, best.params[1:], best.bse[1:], best.pvalues[1:], strict=True):
        assert one.error == pytest.approx(error, rel=5e-3)
        assert abs(one.estimate - value) < 0.01 * error
        assert one.p is None or one.p == pytest.approx(p, rel=0.05)
        assert one.p_at_most >= p
    assert sum(one.p is not None for one in found.own) >= 2


def test_a_training_that_stopped_early_reports_no_p_value_that_its_distance_bends():
    business, provider, z, generator = data()
    labels = labels_of("logistic", 6 * z, generator)
    found = infer(job("logistic", max_iterations=1), business, provider, labels).own
    best = peer("logistic", np.hstack([business, provider]), labels)
    notes = [one.note for one in found if one.p is None]
    assert standard_errors.NOT_CONVERGED in notes
    for one, p in zip(found, best.pvalues[1:], strict=True):
        assert one.p is None or one.p == pytest.approx(p, rel=0.05)
        assert one.p_at_most >= p


def test_the_intercept_is_the_score_of_the_mean_row():
    business, provider, z, generator = data()
    labels = labels_of("logistic", z, generator)
    found = infer(job("logistic"), business, provider, labels)
    joined = np.hstack([business, provider])
    best = peer("logistic", joined - joined.mean(axis=0), labels)
    first = found.estimates[0]
    assert first.name == standard_errors.INTERCEPT
    assert first.error == pytest.approx(best.bse[0], rel=5e-3)
    assert abs(first.estimate - best.params[0]) < 0.01 * best.bse[0]


def test_release_noise_is_within_what_is_said_of_it_and_hides_p_values_that_it_bends():
    business, provider, z, generator = data(rows=1500)
    labels = labels_of("logistic", z, generator)
    exact = infer(job("logistic"), business, provider, labels).own
    pulls, bent = [], []
    for seed in range(5):
        noisy = infer(job("logistic", release_noise=1 / 32), business, provider, labels, seed).own
        for one, true in zip(noisy, exact, strict=True):
            pulls.append((one.estimate - true.estimate) / one.estimate_noise)
            pulls.append((one.error - true.error) / one.error_noise)
            if one.p is not None:
                bent.append(one.p / standard_errors.two_sided(true.z) - 1)
    assert np.sqrt(np.mean(np.square(pulls))) == pytest.approx(1.0, abs=0.6)
    assert max(np.abs(pulls)) < 5
    assert not bent or max(np.abs(bent)) < 0.1
    assert len(bent) < 5 * len(exact)


def test_a_column_that_noise_leaves_nothing_of_has_no_error():
    business, provider, z, generator = data(rows=1500)
    provider = np.column_stack([provider, provider[:, 0] + 1e-3 * generator.normal(size=1500)])
    labels = labels_of("logistic", z, generator)
    found = infer(job("logistic", release_noise=1 / 32), business, provider, labels).own
    hidden = [one for one in found if one.error is None]
    assert {one.name for one in hidden} >= {"p0", "p3"}
    assert all(one.note == standard_errors.NOT_REPORTED and one.p_at_most is None for one in hidden)


def test_columns_that_determine_each_other_have_no_error_even_without_noise():
    business, provider, z, generator = data(rows=1500)
    provider = np.column_stack([provider, provider[:, 0]])
    found = infer(job("logistic"), business, provider, labels_of("logistic", z, generator)).own
    assert {one.name for one in found if one.error is None} == {"p0", "p3"}


def test_directions_hide_the_columns_and_span_them():
    """Whitened by own columns and turned: orthonormal in the metric of the preconditioner but for their lengths."""
    generator = np.random.default_rng(3)
    side = quantise(generator.normal(size=(400, 4)), list("abcd"), intercept=False, small_sample=True)
    local = history.begin(side, family=Family(task="linear"), l2=0.0, release_noise=0.0)
    entropy = generator.integers(0, 2**32, curvature.entropy_needed(4)).tolist()
    found = curvature.begin(local, side.values, entropy, 0.0)
    product = found.directions @ (local.factor @ local.factor.T) @ found.directions.T
    assert np.allclose(product, np.diag(np.diag(product)))
    largest = [
        np.abs(history.scores(dataclasses.replace(local, weights=v), side.values)).max() for v in found.directions
    ]
    assert largest == pytest.approx([1.0] * 4)
    others = curvature.begin(local, side.values, entropy[::-1], 0.0)
    assert not np.allclose(others.directions, found.directions)


@pytest.mark.parametrize("task", ["logistic", "poisson", "linear", "gamma", "tweedie"])
@pytest.mark.parametrize("owner", ["business", "provider"])
def test_curvature_terms_are_the_curvature_times_the_direction(task, owner):
    generator = np.random.default_rng(5)
    business, provider = 0.5 * generator.normal(size=(2, 500))
    along = generator.uniform(-1, 1, 500)
    family = job(task, label_bound=64.0).family(np.linspace(0.1, 4.0, 500))
    bound, spread = residual_terms.score_range(provider, family, 2)
    expansion = curvature_terms.choose(family, bound=bound, spread=spread, rows=500, slope=False)
    mine, theirs = (along, None) if owner == "business" else (None, along)
    constant, coefficients = curvature_terms.business_terms(expansion, business, mine, 24)
    exponents = curvature_terms.provider_exponents(expansion, provider, theirs)
    assert coefficients.shape == exponents.shape == (500, curvature_terms.terms_sent(expansion, owner))
    assert exponents.min(initial=0) >= 0
    assert exponents.max(initial=0) < 2 << family.value_bits
    addend = curvature_terms.provider_addend(expansion, 500, theirs, 24)
    unit = 2.0**24 * (2**family.value_bits - 1) / family.residual_unit
    found = residual_terms.combine(constant, coefficients, exponents, addend) / unit
    score = business + np.minimum(provider, expansion.bound or np.inf)
    chance = 1 / (1 + np.exp(-score))
    curves = {"logistic": chance * (1 - chance), "poisson": np.exp(score), "tweedie": np.exp(score / 2)}
    true = curves.get(task, np.ones(500)) * along
    assert np.sqrt(np.mean((found - true) ** 2)) < 2 * curvature_terms.CURVATURE_TOLERANCE


def test_numbers_of_another_size_are_refused():
    generator = np.random.default_rng(3)
    side = quantise(generator.normal(size=(400, 3)), list("abc"), intercept=False, small_sample=True)
    local = history.begin(side, family=Family(task="linear"), l2=0.0, release_noise=0.0)
    found = curvature.begin(local, side.values, [7 * k % 2**32 for k in range(curvature.entropy_needed(3))], 0.0)
    with pytest.raises(history.HistoryError):
        curvature.append(found, local, [1, 2], 400, 24, direction=None)
    for k in range(6):
        found = curvature.append(found, local, [k, 1, 2], 400, 24, direction=None)
    other = curvature.Summary(gram=(1.0,) * 6, gradient=(0.0,) * 3, noise=0.0)
    with pytest.raises(history.HistoryError, match="6 curvatures and 3 slopes for 2 directions"):
        curvature.solve(found, other, 400, business=True)
    for gram in ((1.0, 0.0, -1.0), (1.0, 0.0, math.inf)):
        other = curvature.Summary(gram=gram, gradient=(0.0,) * 2, noise=0.0)
        with pytest.raises(history.HistoryError, match="curvature"):
            curvature.solve(found, other, 400, business=True)
