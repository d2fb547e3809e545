import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learning.columns.quantise import quantise
from learning.links.family import Family
from learning.solvers import history as histories

F_U = 24
UNIT = 2**F_U * 32767


def start(seed=1, *, rows=300, task="logistic", intercept=True, label_bound=1.0, l2=0.01, order=None):
    matrix = np.random.default_rng(seed).normal(size=(rows, 3)) * [1.0, 100.0, 0.01] + [0.0, 500.0, 0.0]
    matrix = matrix if order is None else matrix[order]
    quantised = quantise(matrix, ["a", "b", "c"], intercept=intercept, small_sample=False)
    family = Family(task=task, label_bound=label_bound)
    return matrix, quantised, histories.begin(quantised, family=family, l2=l2, release_noise=0.0)


def totals(quantised, residuals):
    integers = np.rint(residuals * UNIT).astype(np.int64)
    return [sum(int(x) * int(r) for x, r in zip(c, integers, strict=True)) for c in quantised.values.T]


def test_products_are_the_gram_matrix_of_the_preconditioned_gradients():
    _, quantised, history = start()
    generator = np.random.default_rng(2)
    seen, rows = [], []
    for _ in range(3):
        sums = totals(quantised, generator.uniform(-1, 1, 300))
        history, row, _ = histories.append_gradient(history, sums, 300, F_U, 0.0)
        seen.append(np.array([float(s) for s in sums]) / UNIT / 300 * quantised.scales)
        rows.append(row)
    x = quantised.values * quantised.scales
    inverse = np.linalg.inv(history.factor @ history.factor.T)
    for m, row in enumerate(rows):
        assert row[-1] == 0.0
        assert row[:-1] == pytest.approx([g @ inverse @ seen[m] for g in seen[: m + 1]], rel=1e-5)
    bound = x.T @ x / 300 / 4 + np.diag([0, 0.01, 0.01, 0.01])
    whitener = np.linalg.inv(np.linalg.cholesky(bound))
    share = np.linalg.eigvalsh(whitener @ history.factor @ history.factor.T @ whitener.T)
    assert share.min() > 0.5
    assert share.max() <= 1.0 + 1e-9


def test_the_curvature_of_other_tasks_is_that_of_the_columns():
    _, quantised, history = start(task="linear")
    x = quantised.values * quantised.scales
    expected = x.T @ x / 300 + np.diag([0, 0.01, 0.01, 0.01])
    assert np.allclose(history.factor @ history.factor.T, expected, rtol=1e-9)


def test_the_intercept_is_not_penalised():
    _, quantised, history = start(l2=100.0)
    history, _, _ = histories.append_gradient(history, totals(quantised, np.ones(300)), 300, F_U)
    history = histories.take_step(history, (1.0,))
    with_penalty, _, _ = histories.append_gradient(history, [0] * 4, 300, F_U)
    gradient = with_penalty.factor @ with_penalty.whitened[-1]
    assert np.allclose(gradient, [0.0, *(100.0 * history.weights[1:])], atol=1e-12)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32))
def test_row_order_changes_no_byte_of_a_history(seed):
    generator = np.random.default_rng(seed)
    order = generator.permutation(300)
    residuals = generator.uniform(-1, 1, 300)
    _, first, left = start(seed)
    _, second, right = start(seed, order=order)
    left, row, largest = histories.append_gradient(left, totals(first, residuals), 300, F_U)
    right, same, equal = histories.append_gradient(right, totals(second, residuals[order]), 300, F_U)
    assert (row, largest) == (same, equal)
    left, right = histories.take_step(left, (-0.7,)), histories.take_step(right, (-0.7,))
    assert histories.encode(left) == histories.encode(right)
    scores = histories.scores(left, first.values)
    assert histories.scores(right, second.values).tobytes() == scores[order].tobytes()
    assert histories.scores(left, first.values[:7]).tobytes() == scores[:7].tobytes()


def test_the_announced_noise_is_that_of_the_gradient():
    _, _, history = start(intercept=False)
    reach = 2**F_U * 32767 * 32767 / 32
    generator = np.random.default_rng(4)
    squares = []
    for _ in range(300):
        noise = [int(v) for v in generator.uniform(-reach, reach, 3)]
        _, row, largest = histories.append_gradient(history, noise, 300, F_U, 1 / 32)
        squares.append(row[0])
        assert largest == 0.0
    assert np.mean(squares) == pytest.approx(row[-1], rel=0.15)


def test_scalars_have_24_significant_bits():
    _, quantised, history = start()
    _, row, largest = histories.append_gradient(history, totals(quantised, np.ones(300) / 3), 300, F_U)
    for value in (*row, largest):
        mantissa, _ = np.frexp(value)
        assert float(mantissa * 2**24).is_integer()


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("task", ["logistic", "linear"])
def test_target_parameters_score_raw_columns_as_training_did(task, intercept):
    matrix, quantised, history = start(task=task, intercept=intercept, label_bound=8.0)
    history, _, _ = histories.append_gradient(history, totals(quantised, np.sign(matrix[:, 0])), 300, F_U)
    history = histories.take_step(history, (-1.0,))
    unit = 8.0 if task == "linear" else 1.0
    expected = histories.scores(history, quantised.values) * unit
    target = histories.target(history)
    assert np.allclose(target.scores(matrix), expected, atol=1e-9)
    raw = target.constant + matrix @ np.array(target.coefficients)
    assert np.allclose(raw, expected, atol=1e-3)
    weights = histories.weights(history).tolist()
    assert weights == [*([target.constant] if intercept else []), *target.coefficients]


def test_a_history_survives_its_bytes():
    _, quantised, history = start()
    history, _, _ = histories.append_gradient(history, totals(quantised, np.ones(300)), 300, F_U)
    data = histories.encode(history)
    assert histories.encode(histories.decode(data)) == data


def test_foreign_combinations_and_gradients_are_refused():
    _, _, history = start()
    with pytest.raises(histories.HistoryError):
        histories.take_step(history, (1.0,))
    with pytest.raises(histories.HistoryError):
        histories.append_gradient(history, [1, 2], 300, F_U)
