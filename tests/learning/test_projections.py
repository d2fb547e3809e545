"""Partial scores as integers: exact in sums, uniform under masks, refused when they do not fit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from learning.links.projections import ProjectionError, from_bytes, from_units, to_bytes, to_units, unit_of

SCORES = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20)


@given(SCORES)
def test_a_score_travels_to_half_a_unit(scores: list[float]) -> None:
    values = np.array(scores)
    back = from_units(from_bytes(to_bytes(to_units(values, 1e-3))), 1e-3)
    assert np.abs(back - values).max() <= 0.5e-3 + 1e-9


@given(SCORES, SCORES, st.integers(0, 2**64 - 1))
def test_masks_cancel_in_a_sum_exactly(first: list[float], second: list[float], mask: int) -> None:
    size = min(len(first), len(second))
    one, other = (to_units(np.array(part[:size]), 1e-3) for part in (first, second))
    masked = (one + np.uint64(mask)) + (other - np.uint64(mask))
    assert (masked == one + other).all()
    assert (from_units(masked, 1.0) == from_units(one, 1.0) + from_units(other, 1.0)).all()


@pytest.mark.parametrize("score", [np.nan, np.inf, -np.inf, 1e17])
def test_what_does_not_fit_is_refused(score: float) -> None:
    with pytest.raises(ProjectionError):
        to_units(np.array([0.0, score]), 1e-3)


def test_a_linear_model_is_rounded_in_units_of_its_labels() -> None:
    assert unit_of("logistic", 8.0) == 1e-3
    assert unit_of("linear", 4096.0) == pytest.approx(4.096)
