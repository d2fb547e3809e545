import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.polynomial.chebyshev import chebpts1

from learning.links import characters, residual_terms
from learning.links.family import Family, LinkError, check_family
from learning.links.targets import Targets, check_start, declared_units, start_score
from paillier.budget import bit_budget

UNIT = 2**24 * 32767
LOGISTIC = Family(task="logistic")


def residuals(expansion, own, other, labels, f_u):
    targets = labels if isinstance(labels, Targets) else Targets(labels)
    constant, coefficients = residual_terms.business_terms(expansion, own, targets, f_u)
    values = residual_terms.provider_exponents(expansion, other)
    residual_terms.check_terms(expansion)
    total = residual_terms.combine(
        constant, coefficients, values, residual_terms.provider_addend(expansion, other, f_u)
    )
    exact = [
        int(a) + sum(int(u) * int(v) for u, v in zip(us, vs, strict=True))
        for a, us, vs in zip(constant, coefficients, values, strict=True)
    ]
    if expansion.family.task != "linear":
        assert total.tolist() == exact
    return total / (2.0**f_u * ((1 << expansion.family.value_bits) - 1)), values


def rows(seed, count=200, spread=3.0):
    return np.random.default_rng(seed).normal(size=count) * spread


@given(st.floats(-745, 745))
def test_the_portable_exponential_is_the_exponential(x):
    found = float(characters.exponential(np.array([x]))[0])
    assert found == pytest.approx(math.exp(min(700.0, max(-700.0, x))), rel=1e-14)


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 2**32),
    st.sampled_from([(0.25, 0.1), (1.0, 0.3), (2.0, 0.5), (4.0, 0.84), (4.76, 1.0), (9.5, 4.0)]),
    st.floats(-30, 30),
)
def test_logistic_residuals_are_right_to_the_tolerance_for_any_business_score(seed, announced, shift):
    bound, spread = announced
    tolerance = 0.005
    expansion = residual_terms.choose(LOGISTIC, bound=bound, spread=spread, tolerance=tolerance)
    own = np.full(2000, shift) + rows(seed, 2000, 0.1)
    other = np.clip(rows(seed + 1, 2000, spread), -bound, bound)
    labels = (rows(seed + 2, 2000) > 0).astype(float)
    found, values = residuals(expansion, own, other, labels, 24)
    error = found - (1 / (1 + np.exp(-(own + other))) - labels)
    floor = residual_terms.LINK_TOLERANCE / (1 + math.pi / 8 * spread**2)
    assert math.sqrt(float(np.mean(error**2))) < 2.0 * max(tolerance, floor)
    assert np.abs(error).max() < 0.6
    assert np.abs(found).max() <= Family(task="logistic", label_bound=1.0).residual_bound
    assert values.min() >= 0
    assert values.max() <= 65534


@settings(max_examples=20, deadline=None)
@given(st.floats(0.3, 20.0), st.floats(0.05, 0.5), st.floats(-15, 15))
def test_no_point_of_the_interval_reaches_the_residual_bound(bound, share, own):
    expansion = residual_terms.choose(LOGISTIC, bound=bound, spread=bound * share, tolerance=0.03)
    other = bound * chebpts1(301)
    found, _ = residuals(expansion, np.full(301, own), other, np.ones(301), 24)
    assert np.abs(found).max() < Family(task="logistic", label_bound=1.0).residual_bound


def test_wider_scores_and_smaller_tolerances_take_more_terms():
    def terms(bound, spread, tolerance):
        return residual_terms.choose(LOGISTIC, bound=bound, spread=spread, tolerance=tolerance).terms

    assert terms(4.0, 0.84, 0.03) == 2
    assert terms(4.0, 0.84, 0.0) == 4
    assert terms(9.5, 4.0, 0.0) > terms(9.5, 4.0, 0.03)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.floats(0.3, 3.0))
def test_poisson_residuals_are_right_to_the_provider_s_rounding(seed, bound):
    label_bound = 16.0
    f_u = bit_budget(1000, 2048, Family(task="poisson", label_bound=label_bound).residual_bound).f_u
    expansion = residual_terms.choose(
        Family(task="poisson", label_bound=label_bound), bound=bound, spread=0.0, tolerance=0.01
    )
    own = rows(seed, 200, 0.5) - 1.0
    other = np.minimum(rows(seed + 1, 200, bound / 3), bound)
    labels = np.random.default_rng(seed).poisson(0.4, 200).clip(0, 16).astype(float)
    found, values = residuals(expansion, own, other, labels, f_u)
    allowed = np.exp(own + bound) * 0.5 / 32767 + 2.0**-f_u + 1e-9
    assert (np.abs(found - (np.exp(own + other) - labels)) <= allowed).all()
    assert values.min() >= 0
    assert values.max() <= 32767


def test_poisson_residuals_stay_in_their_bound_for_absurd_scores():
    expansion = residual_terms.choose(Family(task="poisson", label_bound=4.0), bound=8.0, spread=0.0, tolerance=0.01)
    found, _ = residuals(expansion, np.full(3, 500.0), np.full(3, 900.0), np.array([0.0, 1.0, 4.0]), 17)
    assert np.abs(found).max() <= Family(task="poisson", label_bound=4.0).residual_bound


@given(st.integers(0, 2**32), st.sampled_from([1.0, 4.0, 2.0**20]))
def test_linear_residuals_are_exact_in_units_of_the_label_bound(seed, label_bound):
    expansion = residual_terms.choose(
        Family(task="linear", label_bound=label_bound), bound=0.0, spread=0.0, tolerance=0.01
    )
    own, other = rows(seed, 50, 0.5), rows(seed + 1, 50, 0.5)
    labels = np.random.default_rng(seed).uniform(-1, 1, 50) * label_bound
    found, values = residuals(expansion, own, other, labels, 22)
    assert values.shape == (50, 0)
    assert np.abs(found - (own + other - labels / label_bound)).max() < 2.0**-36


@pytest.mark.parametrize("task", ["logistic", "poisson", "linear"])
def test_the_first_iteration_needs_no_terms(task):
    scores = np.zeros(50)
    family = Family(task=task, label_bound=2.0)
    bound, spread = residual_terms.score_range(scores, family, 1)
    expansion = residual_terms.choose(family, bound=bound, spread=spread, tolerance=0.03)
    labels = np.tile([0.0, 1.0], 25)
    constant, coefficients = residual_terms.business_terms(expansion, scores, Targets(labels), 20)
    mean = {"logistic": 0.5, "poisson": 1.0, "linear": 0.0}[task]
    unit = 2.0 if task == "linear" else 1.0
    assert coefficients.shape == (50, 0)
    assert constant.tolist() == np.rint((mean - labels / unit) * 2**20 * 32767).astype(int).tolist()


@given(st.integers(0, 2**32), st.integers(30, 5000))
def test_at_least_10_scores_lie_beyond_the_announced_bound_or_it_is_rounded_up_past_them(seed, count):
    scores = rows(seed, count)
    bound, spread = residual_terms.score_range(scores, LOGISTIC, 2)
    ordered = np.sort(np.abs(scores))
    quantile = ordered[-1 - max(10, count // 1000)]
    assert max(0.25, quantile) <= bound <= max(0.25, quantile) * 1.2
    assert np.sqrt(np.mean(scores**2)) <= spread * (1 + 1e-12)
    assert math.log2(bound) * 4 == pytest.approx(round(math.log2(bound) * 4), abs=1e-9)
    assert residual_terms.score_range(scores[::-1], LOGISTIC, 2) == (bound, spread)


@given(st.integers(0, 2**32), st.integers(1, 29))
def test_a_row_s_integers_do_not_depend_on_other_rows(seed, cut):
    own, other = rows(seed, 30), rows(seed + 1, 30, 0.8)
    labels = (own > 0).astype(float)
    expansion = residual_terms.choose(LOGISTIC, bound=2.0, spread=0.84, tolerance=0.01)
    constant, coefficients = residual_terms.business_terms(expansion, own, Targets(labels), 24)
    values = residual_terms.provider_exponents(expansion, other)
    for part in (slice(0, cut), slice(cut, None)):
        a, u = residual_terms.business_terms(expansion, own[part], Targets(labels[part]), 24)
        assert a.tobytes() == constant[part].tobytes()
        assert u.tobytes() == coefficients[part].tobytes()
        assert residual_terms.provider_exponents(expansion, other[part]).tobytes() == values[part].tobytes()


@pytest.mark.parametrize("label_bound", [0.5, 1.0, 3.0, 16.0, 1000.0])
@pytest.mark.parametrize("task", ["logistic", "poisson", "linear"])
def test_every_residual_bound_leaves_the_same_residual_width(task, label_bound):
    bound = Family(task=task, label_bound=label_bound).residual_bound
    budget = bit_budget(10_000, 2048, bound)
    assert math.log2(bound).is_integer()
    assert budget.f_u + math.log2(bound) == 25
    assert budget.unit == 2**budget.f_u * 32767


@pytest.mark.parametrize(
    ("task", "labels"),
    [
        ("logistic", [0.0, 2.0]),
        ("poisson", [-1.0]),
        ("poisson", [9.0]),
        ("linear", [-9.0]),
        ("linear", [np.nan]),
        ("gamma", [0.0]),
        ("tweedie", [-0.1]),
    ],
)
def test_unfit_labels_are_refused(task, labels):
    with pytest.raises(LinkError) as caught:
        residual_terms.check_labels(Family(task=task, label_bound=8.0), np.array(labels))
    assert caught.value.code == "label_unfit"


def test_an_unknown_task_is_refused():
    with pytest.raises(LinkError):
        _ = Family(task="negative_binomial").residual_bound


def log_family(power, labels, value_bits=24):
    task = "gamma" if power == 2.0 else "tweedie"
    own = 0.0 if task == "gamma" else power
    unit, curvature = declared_units(task, own, Targets(labels))
    return Family(task=task, power=own, value_bits=value_bits, residual_unit=unit, curvature=curvature)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**32),
    st.sampled_from([1.0, 1.2, 1.5, 1.9, 2.0]),
    st.floats(0.3, 4.0),
    st.sampled_from([1e-4, 1.0, 1e6]),
)
def test_gamma_and_tweedie_residuals_are_the_score_of_the_deviance(seed, power, bound, size):
    labels = size * np.random.default_rng(seed).gamma(1.0, size=200) + 1e-9 * size
    family = log_family(power, labels)
    f_u = bit_budget(1000, 2048, family.residual_bound, value_bits=24).f_u
    expansion = residual_terms.choose(family, bound=bound, spread=0.0, tolerance=0.01)
    own = start_score(family, Targets(labels)) + rows(seed, 200, 0.3)
    other = np.clip(rows(seed + 1, 200, bound / 3), -bound, bound)
    found, values = residuals(expansion, own, other, labels, f_u)
    mean = np.exp(own + other)
    exact = (mean ** (2 - power) - labels * mean ** (1 - power)) / family.residual_unit
    # Rounding of coefficients by half a unit, of values by half a unit times coefficients of exp(|a| 2 b) at most.
    allowed = 2.0**-f_u + 2.0**-24 * np.exp(2 * bound) * np.abs(exact).max() * 4 + 1e-9
    assert (np.abs(found - exact) <= allowed).all()
    assert values.min() >= 0
    assert values.max() < 2**24
    assert np.abs(found).max() <= family.residual_bound


def test_a_tweedie_model_of_power_1_has_the_residuals_of_a_poisson_model():
    labels = np.random.default_rng(1).poisson(2.0, 100).astype(float)
    family = log_family(1.0, labels)
    own, other = rows(2, 100, 0.3), rows(3, 100, 0.3)
    f_u = bit_budget(1000, 2048, family.residual_bound, value_bits=24).f_u
    found, _ = residuals(residual_terms.choose(family, bound=2.0, spread=0.0, tolerance=0.01), own, other, labels, f_u)
    poisson = Family(task="poisson", label_bound=16.0)
    f_u = bit_budget(1000, 2048, poisson.residual_bound).f_u
    expected, _ = residuals(
        residual_terms.choose(poisson, bound=2.0, spread=0.0, tolerance=0.01), own, other, labels, f_u
    )
    assert np.allclose(found * family.residual_unit, expected, atol=2e-3)


@pytest.mark.parametrize("power", [1.0, 1.5, 2.0])
def test_residuals_of_log_links_stay_in_their_bound_for_absurd_scores(power):
    labels = np.array([1e-6, 1.0, 50.0])
    family = log_family(power, labels)
    f_u = bit_budget(1000, 2048, family.residual_bound, value_bits=24).f_u
    for own in (-900.0, -30.0, 30.0, 900.0):
        for other in (-900.0, 900.0):
            expansion = residual_terms.choose(family, bound=family.score_bound_max, spread=0.0, tolerance=0.01)
            found, _ = residuals(expansion, np.full(3, own), np.full(3, other), labels, f_u)
            assert np.abs(found).max() <= family.residual_bound


def test_the_range_of_a_log_link_is_of_the_side_where_its_characters_grow():
    scores = np.concatenate([np.full(50, -2.0), np.full(50, 0.3)])
    labels = np.arange(1.0, 101.0)
    gamma, tweedie = log_family(2.0, labels, value_bits=15), log_family(1.5, labels, value_bits=15)
    poisson = Family(task="poisson", label_bound=1.0)
    assert residual_terms.score_range(scores, gamma, 2) == (2.0, 0.0)
    assert residual_terms.score_range(scores, tweedie, 2) == (2.0, 0.0)
    assert residual_terms.score_range(scores, poisson, 2)[0] < 0.4


@pytest.mark.parametrize(
    ("task", "terms", "bound"),
    [
        ("logistic", 3, 1.0),
        ("logistic", 2, 0.0),
        ("poisson", 2, 1.0),
        ("gamma", 2, 1.0),
        ("tweedie", 1, 1.0),
        ("linear", 1, 1.0),
        ("logistic", 2, math.inf),
    ],
)
def test_terms_that_the_model_cannot_have_are_refused(task, terms, bound):
    family = Family(task=task, power=1.5 if task == "tweedie" else 0.0)
    with pytest.raises(LinkError) as caught:
        residual_terms.check_terms(residual_terms.Expansion(family=family, terms=terms, bound=bound))
    assert caught.value.code == "terms_wrong"


@pytest.mark.parametrize(
    "fields",
    [
        {"task": "tweedie", "power": 0.5, "curvature": 1.0},
        {"task": "tweedie", "power": 2.0, "curvature": 1.0},
        {"task": "gamma", "power": 1.5, "curvature": 1.0},
        {"task": "gamma"},
        {"task": "logistic", "value_bits": 24},
        {"task": "linear", "curvature": 1.0},
        {"task": "gamma", "curvature": 1.0, "residual_unit": 3.0},
    ],
)
def test_declarations_that_do_not_go_together_are_refused(fields):
    with pytest.raises(LinkError) as caught:
        check_family(Family(**fields))
    assert caught.value.code == "family"


def test_labels_that_outgrow_the_declared_unit_are_refused_at_the_start():
    labels = np.array([1.0, 1.0, 1.0, 5.0])
    family = log_family(2.0, labels)
    check_start(family, start_score(family, Targets(labels)), Targets(labels))
    grown = np.array([1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 50.0])
    with pytest.raises(LinkError) as caught:
        check_start(family, start_score(family, Targets(grown)), Targets(grown))
    assert caught.value.code == "label_unfit"


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from(["logistic", "linear", "poisson", "gamma", "tweedie"]))
def test_weights_multiply_residuals_and_offsets_add_to_scores(seed, task):
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, 200).astype(float) + (task == "gamma")
    weights, offset = generator.exponential(size=200), generator.normal(size=200) * 0.3
    targets = Targets(labels, weights, offset).normalised(200)
    power = 1.4 if task == "tweedie" else 0.0
    unit, curvature = declared_units(task, power, targets)
    family = Family(
        task=task,
        label_bound=2.0 if task in ("linear", "poisson") else 1.0,
        power=power,
        residual_unit=unit,
        curvature=curvature,
        weighted=True,
        shifted=True,
    )
    check_family(family)
    check_start(family, start_score(family, targets), targets)
    budget = bit_budget(1000, 2048, family.residual_bound)
    own, other = rows(seed, 200, 0.3), np.clip(rows(seed + 1, 200, 0.3), -1.0, 1.0)
    base = start_score(family, targets)
    expansion = residual_terms.choose(family, bound=1.0, spread=0.4, tolerance=0.0)
    found, _ = residuals(expansion, own + base, other, targets, budget.f_u)
    z = own + base + other + offset / (2.0 if task == "linear" else 1.0)
    exact = {
        "logistic": 1 / (1 + np.exp(-z)) - labels,
        "linear": z - labels / 2.0,
        "poisson": np.exp(z) - labels,
        "gamma": 1 - labels * np.exp(-z),
        "tweedie": np.exp(0.6 * z) - labels * np.exp(-0.4 * z),
    }[task]
    assert np.abs(found * unit - targets.weights * exact).max() < 0.02 * max(1.0, targets.weights.max())
    assert np.abs(found).max() <= family.residual_bound


@pytest.mark.parametrize("weight", [[0.0, 0.0], [1.0, -1.0], [np.inf, 1.0]])
def test_weights_that_no_mean_can_be_taken_of_are_refused(weight):
    with pytest.raises(LinkError) as caught:
        Targets(np.zeros(2), np.array(weight)).normalised(2)
    assert caught.value.code == "weight_unfit"
