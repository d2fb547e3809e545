"""Link terms along a chain of providers, in the clear: what the ciphertexts compute, exactly."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learning.arithmetic import announced, masked
from learning.links import chain, residual_terms
from learning.links.family import Family
from learning.links.targets import Targets
from paillier.budget import bit_budget

ROWS = 60
FAMILIES = {
    "logistic": Family(task="logistic"),
    "linear": Family(task="linear", label_bound=4.0),
    "weighted": Family(task="linear", label_bound=4.0, weighted=True, residual_unit=4.0),
    "poisson": Family(task="poisson", label_bound=8.0),
    "gamma": Family(task="gamma", value_bits=24, curvature=1.0),
}


def rotated(expansion, coefficients, values):
    """The next link's terms from those of one before, exactly: what the ciphertexts do."""
    where, by = chain.places(expansion).tolist(), chain.factors(expansion, values).tolist()
    return [
        [
            sum(row[place] * factor for place, factor in zip(of, turn, strict=True))
            for of, turn in zip(where, turns, strict=True)
        ]
        for row, turns in zip(coefficients, by, strict=True)
    ]


def handed_on(family, own, scores, labels, weights=None, tolerance=0.005):
    """Residuals (n,) by a chain, with its budget: terms of the business, turned by every provider but the last."""
    providers = len(scores)
    budget = bit_budget(ROWS, 2048, family.residual_bound, providers=providers, value_bits=family.value_bits)
    bounds = [max(0.25, float(np.abs(one).max())) for one in scores]
    spread = sum(float(one.std()) for one in scores)
    expansion = residual_terms.choose(family, bound=sum(bounds), spread=spread, tolerance=tolerance)
    constant, terms = chain.business_terms(expansion, own, Targets(labels, weights, None), budget.f_u, providers)
    coefficients = terms
    for one, bound in zip(scores[:-1], bounds, strict=False):
        constant = [a + b for a, b in zip(constant, chain.addend(expansion, one, budget.f_u, providers), strict=True)]
        values = chain.values(expansion, one, bound)
        if chain.weighs(expansion):
            constant = [a + u[0] * int(v[0]) for a, u, v in zip(constant, coefficients, values, strict=True)]
        else:
            coefficients = rotated(expansion, coefficients, values)
    last = chain.values(expansion, scores[-1], bounds[-1]).tolist()
    added = chain.addend(expansion, scores[-1], budget.f_u, providers)
    total = [
        a + b + sum(int(u) * v for u, v in zip(us, vs, strict=True))
        for a, b, us, vs in zip(constant, added, coefficients, last, strict=True)
    ]
    return np.array([value / budget.unit for value in total]), total, budget


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from(sorted(FAMILIES)), st.integers(2, 5))
def test_a_chain_computes_the_residual_of_the_sum_of_all_scores(seed, task, providers):
    family, generator = FAMILIES[task], np.random.default_rng(seed)
    own = generator.normal(size=ROWS) * 0.4
    scores = [generator.normal(size=ROWS).clip(-2, 2) * 0.2 for _ in range(providers)]
    labels = (
        (generator.uniform(size=ROWS) < 0.5).astype(float) if task == "logistic" else generator.uniform(0.1, 3, ROWS)
    )
    weights = generator.uniform(0.0, 2.0, ROWS) if family.weighted else None
    found, total, budget = handed_on(family, own, scores, labels, weights)
    z = own + sum(scores)
    expected = {
        "logistic": lambda: 1 / (1 + np.exp(-z)) - labels,
        "linear": lambda: z - labels / 4.0,
        "weighted": lambda: weights * (z - labels / 4.0) / 4.0,
        "poisson": lambda: np.exp(z) - labels,
        "gamma": lambda: 1 - labels * np.exp(-z),
    }[task]()
    tolerance = {"logistic": 0.05, "linear": 1e-6, "weighted": 2e-4, "poisson": 2e-3, "gamma": 2e-3}[task]
    assert np.abs(found - expected).max() < tolerance * max(1.0, np.abs(expected).max())
    assert max(abs(value) for value in total) < 1 << budget.residual_bits


@pytest.mark.parametrize("providers", range(1, 9))
def test_every_chain_has_room_in_a_key_of_2048_bits(providers):
    budget = bit_budget(2**17, 2048, 2.0, providers=providers)
    assert budget.share_bits == 73 + 15 * (providers - 1)
    assert budget.unit == 2**24 * 32767**providers
    assert budget.rows_per_ciphertext * budget.columns_per_ciphertext > 0
    assert (budget.rows_per_ciphertext - 1) * budget.row_slot + budget.residual_bits <= 2048 - 65


@given(
    st.lists(st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=3), min_size=2, max_size=5),
    st.integers(0, 2**32),
)
def test_masks_cancel_in_the_sum_and_hide_every_row(rows, seed):
    generator = np.random.default_rng(seed)
    masks = [[[] for _ in rows] for _ in rows]
    for i in range(len(rows)):
        for j in range(i + 1, len(rows)):
            shared = [int.from_bytes(generator.bytes(32), "little") for _ in range(3)]
            masks[i][j], masks[j][i] = shared, [-value for value in shared]
    sent = [masked.masked(row, [mask for mask in masks[i] if mask]) for i, row in enumerate(rows)]
    total = masked.unmasked(sent)
    for found, column in zip(total, zip(*rows, strict=True), strict=True):
        assert found == pytest.approx(math.fsum(column), abs=len(rows) * 2.0**-80, rel=1e-12)
    assert all(sent[i] != masked.masked(row, []) for i, row in enumerate(rows))


@given(st.floats(1e-12, 1e6))
def test_a_coarse_number_is_never_smaller_and_at_most_a_fifth_larger(value):
    assert value <= announced.coarse(value) <= 1.1893 * value


@pytest.mark.parametrize("value", [math.inf, math.nan, 2.0**200])
def test_what_does_not_fit_the_fixed_point_is_refused(value):
    with pytest.raises(masked.MaskedError):
        masked.fixed(value)
