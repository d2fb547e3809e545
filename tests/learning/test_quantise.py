import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from learning.columns.quantise import ColumnRefused, quantise


def one(column, *, small_sample=False):
    matrix = np.asarray(column, dtype=float).reshape(-1, 1)
    return quantise(matrix, ["secret-name"], intercept=False, small_sample=small_sample)


def refusal(column, **marks):
    with pytest.raises(ColumnRefused) as caught:
        one(column, **marks)
    return caught.value.code


@given(st.integers(0, 2**32), st.floats(1e-200, 1e200), st.floats(-1e3, 1e3))
def test_values_come_back_to_half_a_step(seed, scale, shift):
    column = (np.random.default_rng(seed).normal(size=200) + shift) * scale
    quantised = one(column)
    back = quantised.values[:, 0] * quantised.scales[0] + quantised.centres[0]
    assert np.abs(back - column).max() <= quantised.scales[0] * 0.5001
    assert np.abs(quantised.values.astype(int)).max() == 32767


@given(st.integers(0, 2**32))
def test_row_order_changes_no_byte(seed):
    generator = np.random.default_rng(seed)
    matrix = generator.lognormal(size=(100, 3))
    order = generator.permutation(100)
    first = quantise(matrix, ["a", "b", "c"], intercept=True, small_sample=False)
    second = quantise(matrix[order], ["a", "b", "c"], intercept=True, small_sample=False)
    assert first.scales.tobytes() == second.scales.tobytes()
    assert first.centres.tobytes() == second.centres.tobytes()
    assert first.values[order].tobytes() == second.values.tobytes()


def test_the_intercept_is_a_first_column_of_exact_ones():
    quantised = quantise(np.arange(100.0).reshape(-1, 1), ["x"], intercept=True, small_sample=False)
    assert quantised.values.shape == (100, 2)
    assert set((quantised.values[:, 0] * quantised.scales[0] + quantised.centres[0]).tolist()) == {1.0}


def test_a_flag_with_enough_support_is_allowed():
    flag = np.zeros(1000)
    flag[:60] = 1.0
    low, high = sorted(set(one(flag).values[:, 0].tolist()))
    assert (round(low / 10), high) == (-209, 32767)


def test_counts_with_many_zeros_are_allowed():
    one(np.repeat([0.0, 1.0, 2.0, 14.0], [800, 100, 60, 3]))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_missing_and_infinite_values_are_refused(bad):
    assert refusal([*range(100), bad], small_sample=True) == "column_not_finite"


def test_a_constant_column_is_refused_even_in_a_small_sample():
    assert refusal([3.0] * 100, small_sample=True) == "column_constant"


def test_one_outlier_that_eats_the_bits_is_refused():
    column = np.random.default_rng(3).normal(size=1000)
    column[17] = 1e6
    assert refusal(column) == "column_outlier"


def test_an_outlier_among_mostly_zeros_is_refused():
    assert refusal(np.repeat([0.0, 1.0, 1e6], [800, 199, 1])) == "column_outlier"


def test_thin_support_is_refused_unless_the_sample_is_small():
    flag = np.zeros(1000)
    flag[:49] = 1.0
    assert refusal(flag) == "column_support"
    one(flag, small_sample=True)
