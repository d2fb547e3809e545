import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from learning.arithmetic import reductions
from learning.arithmetic.factor import cholesky, solve_lower, solve_upper, spread_of_solution


def columns_of(seed, rows, width):
    return np.random.default_rng(seed).integers(-32767, 32768, (rows, width)).astype(np.int16)


@given(
    st.integers(0, 2**32),
    st.integers(1, 5),
    st.lists(st.integers(-(2**200), 2**200), min_size=1, max_size=40),
)
def test_column_sums_are_exact_for_numbers_of_any_size(seed, width, numbers):
    columns = columns_of(seed, len(numbers), width)
    expected = [sum(int(x) * n for x, n in zip(columns[:, j], numbers, strict=True)) for j in range(width)]
    assert reductions.column_sums(columns, numbers) == expected


@given(st.integers(0, 2**32), st.integers(1, 60), st.data())
def test_column_sums_of_chunks_add_up_to_the_whole(seed, rows, data):
    cut = data.draw(st.integers(0, rows))
    columns = columns_of(seed, rows, 3)
    numbers = np.random.default_rng(seed).integers(-(2**40), 2**40, rows).tolist()
    whole = reductions.column_sums(columns, numbers)
    first = reductions.column_sums(columns[:cut], numbers[:cut])
    second = reductions.column_sums(columns[cut:], numbers[cut:])
    assert [a + b for a, b in zip(first, second, strict=True)] == whole


def test_column_sums_are_exact_across_blocks_at_the_largest_values(monkeypatch):
    columns = np.full((reductions.SUM_ROWS + 3, 1), -32767, dtype=np.int16)
    numbers = [2**40 - 1] * len(columns)
    assert reductions.column_sums(columns, numbers) == [-32767 * (2**40 - 1) * len(columns)]


def test_column_sums_refuse_another_number_of_rows():
    with pytest.raises(ValueError, match="3 rows"):
        reductions.column_sums(np.zeros((3, 1), np.int16), [1, 2])


@given(st.integers(0, 2**32), st.integers(1, 50))
def test_weighted_gram_is_exact_and_ignores_row_order(seed, rows):
    columns = columns_of(seed, rows, 3)
    generator = np.random.default_rng(seed)
    weights = generator.integers(0, 4097, rows)
    order = generator.permutation(rows)
    gram = reductions.weighted_gram(columns, weights)
    expected = [
        [float(sum(int(w) * int(r[i]) * int(r[j]) for w, r in zip(weights, columns, strict=True))) for j in range(3)]
        for i in range(3)
    ]
    assert gram.tolist() == expected
    assert reductions.weighted_gram(columns[order], weights[order]).tobytes() == gram.tobytes()


def test_weighted_gram_is_exact_across_blocks():
    rows = 2 * reductions.GRAM_ROWS + 17
    gram = reductions.weighted_gram(np.full((rows, 1), 32767, np.int16), np.full(rows, 4096))
    assert gram[0, 0] == float(32767**2 * 4096 * rows)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50), st.randoms())
def test_the_coarse_mean_ignores_row_order_and_is_close(values, random):
    shuffled = values.copy()
    random.shuffle(shuffled)
    mean = reductions.coarse_mean(np.array(values))
    assert reductions.coarse_mean(np.array(shuffled)) == mean
    assert mean == pytest.approx(np.mean(values), abs=1e-6 * max(1.0, np.abs(values).max()))


def test_the_factor_solves_like_numpy():
    generator = np.random.default_rng(1)
    x = generator.normal(size=(40, 6))
    matrix = x.T @ x
    vector = generator.normal(size=6)
    lower = cholesky(matrix)
    assert np.allclose(lower, np.linalg.cholesky(matrix))
    assert np.allclose(solve_upper(lower, solve_lower(lower, vector)), np.linalg.solve(matrix, vector))


def test_the_spread_of_a_solution_is_that_of_its_covariance():
    generator = np.random.default_rng(2)
    x = generator.normal(size=(40, 5))
    lower = cholesky(x.T @ x)
    deviations = np.array([0.1, 2.0, 0.3, 1.0, 5.0])
    inverse = np.linalg.inv(lower)
    covariance = inverse @ np.diag(deviations**2) @ inverse.T
    assert np.allclose(spread_of_solution(lower, deviations), np.sqrt(np.diag(covariance)))


def test_a_column_that_others_determine_keeps_the_factor_finite():
    lower = cholesky(np.ones((3, 3)))
    assert np.isfinite(lower).all()
    assert (np.diag(lower) > 0).all()
