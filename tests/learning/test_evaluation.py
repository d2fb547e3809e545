import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2
from sklearn import metrics as oracle
from sklearn.calibration import calibration_curve

from learning.evaluation import calibration, metrics, part_figures, ranking


def classes(seed, rows=80):
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, rows).astype(float)
    labels[:2] = 0.0, 1.0
    return labels, np.round(generator.normal(size=rows) + labels, 1), generator.uniform(0.1, 3.0, rows)


def probability(scores):
    return 1 / (1 + np.exp(-scores))


@given(st.integers(0, 2**32), st.booleans())
def test_figures_of_a_logistic_model_are_scikit_learn_s_with_and_without_weights(seed, weighted):
    labels, scores, weights = classes(seed)
    weights = weights if weighted else None
    found = part_figures.evaluate("logistic", labels, scores, weights).metrics
    chance = probability(scores)
    alarms, hits, _ = oracle.roc_curve(labels, scores, sample_weight=weights)
    assert found["auc"] == pytest.approx(oracle.roc_auc_score(labels, scores, sample_weight=weights), abs=1e-12)
    assert found["gini"] == pytest.approx(2 * found["auc"] - 1, abs=1e-12)
    assert found["ks"] == pytest.approx(np.abs(hits - alarms).max(), abs=1e-12)
    loss = oracle.log_loss(labels, chance, sample_weight=weights)
    assert (found["log_loss"], found["deviance"]) == (pytest.approx(loss), pytest.approx(2 * loss))
    assert found["brier"] == pytest.approx(oracle.brier_score_loss(labels, chance, sample_weight=weights))


@given(st.integers(0, 2**32), st.booleans())
def test_figures_of_counts_and_measurements_are_scikit_learn_s(seed, weighted):
    generator = np.random.default_rng(seed)
    labels, scores = generator.normal(size=(2, 50))
    weights = generator.uniform(0.1, 3.0, 50) if weighted else None
    found = part_figures.evaluate("linear", labels, scores, weights).metrics
    assert found["rmse"] == pytest.approx(oracle.root_mean_squared_error(labels, scores, sample_weight=weights))
    assert found["deviance"] == pytest.approx(oracle.mean_squared_error(labels, scores, sample_weight=weights))
    assert found["r2"] == pytest.approx(oracle.r2_score(labels, scores, sample_weight=weights))
    counts = generator.poisson(0.5, size=50).astype(float)
    found = part_figures.evaluate("poisson", counts, scores, weights).metrics
    expected = oracle.mean_poisson_deviance(counts, np.exp(scores), sample_weight=weights)
    assert found["deviance"] == pytest.approx(expected)


@given(st.integers(0, 2**32), st.booleans(), st.floats(0.05, 0.95))
def test_confusion_at_a_threshold_is_scikit_learn_s(seed, weighted, given_threshold):
    labels, scores, weights = classes(seed)
    weights = weights if weighted else None
    at = part_figures.thresholds(labels, scores, weights, given=given_threshold)
    for table, one in zip(part_figures.evaluate("logistic", labels, scores, weights, at=at).confusion, at, strict=True):
        predicted = scores >= one.score
        matrix = oracle.confusion_matrix(labels, predicted, sample_weight=weights)
        found = [[table.true_negatives, table.false_positives], [table.false_negatives, table.true_positives]]
        assert np.allclose(found, matrix)
        if predicted.any():
            assert table.precision == pytest.approx(oracle.precision_score(labels, predicted, sample_weight=weights))
        assert table.recall == pytest.approx(oracle.recall_score(labels, predicted, sample_weight=weights))
        assert table.f1 == pytest.approx(oracle.f1_score(labels, predicted, sample_weight=weights, zero_division=0))
        assert table.accuracy == pytest.approx(oracle.accuracy_score(labels, predicted, sample_weight=weights))


@given(st.integers(0, 2**32))
def test_the_ks_threshold_is_where_hits_and_alarms_differ_most(seed):
    labels, scores, _ = classes(seed)
    at = {one.choice: one for one in part_figures.thresholds(labels, scores)}
    table = part_figures.evaluate("logistic", labels, scores, at=(at["ks"],)).confusion[0]
    distance = abs(table.recall - (1 - table.specificity))
    assert distance == pytest.approx(metrics.ks(labels, scores), abs=1e-12)
    assert table.threshold == pytest.approx(probability(at["ks"].score))


@given(st.integers(0, 2**32), st.floats(0.02, 0.98))
def test_the_rate_threshold_predicts_as_many_as_it_may_and_no_more(seed, rate):
    labels, scores, _ = classes(seed)
    found = next(one for one in part_figures.thresholds(labels, scores, rate=rate) if one.choice == "rate").score
    assert (scores >= found).mean() <= rate + 1e-9
    lower = scores[scores < found]
    assert not len(lower) or (scores >= lower.max()).mean() > rate


@pytest.mark.parametrize("bad", [0.0, 1.0, -0.5, math.nan])
def test_a_rate_or_threshold_beyond_its_range_is_refused(bad):
    labels, scores, _ = classes(1)
    with pytest.raises(ValueError, match="between 0 and 1"):
        part_figures.thresholds(labels, scores, rate=bad)
    with pytest.raises(ValueError, match="between 0 and 1"):
        part_figures.thresholds(labels, scores, given=bad)


def test_calibration_bins_are_scikit_learn_s_quantile_bins():
    generator = np.random.default_rng(3)
    predictions = generator.permutation(np.linspace(0.01, 0.99, 1000))
    labels = (generator.uniform(size=1000) < predictions).astype(float)
    table = calibration.table(labels, predictions)
    observed, expected = calibration_curve(labels, predictions, n_bins=10, strategy="quantile")
    assert [row.observed for row in table] == pytest.approx(observed)
    assert [row.expected for row in table] == pytest.approx(expected)
    assert [row.rows for row in table] == [100] * 10


@given(st.integers(0, 2**32))
def test_a_whole_weight_is_the_row_so_many_times(seed):
    labels, scores, _ = classes(seed, 40)
    counts = np.random.default_rng(seed + 1).integers(1, 4, 40)
    one = part_figures.evaluate("logistic", labels, scores, counts.astype(float))
    many = part_figures.evaluate("logistic", np.repeat(labels, counts), np.repeat(scores, counts))
    assert one.metrics == pytest.approx(many.metrics, abs=1e-12)
    for name in ("expected", "observed", "weight"):
        assert [getattr(row, name) for row in one.calibration] == pytest.approx(
            [getattr(row, name) for row in many.calibration]
        )
    for name in ("gain", "lift", "share"):
        assert [getattr(row, name) for row in one.lift] == pytest.approx([getattr(row, name) for row in many.lift])


@given(st.integers(0, 2**32))
def test_lift_and_gain_follow_from_the_labels_of_the_highest_scores(seed):
    labels, scores, _ = classes(seed, 200)
    rows = part_figures.evaluate("logistic", labels, scores).lift
    assert (rows[-1].share, rows[-1].gain) == (pytest.approx(1.0), pytest.approx(1.0))
    assert rows[-1].cumulative_lift == pytest.approx(1.0)
    taken = 0
    ordered = labels[np.argsort(-scores, kind="stable")]
    for row in rows:
        taken += row.rows
        assert row.gain == pytest.approx(ordered[:taken].sum() / labels.sum())
        assert row.cumulative_lift == pytest.approx(ordered[:taken].mean() / labels.mean())


@given(st.integers(0, 2**32), st.sampled_from(["logistic", "poisson"]))
def test_no_figure_depends_on_the_order_of_the_rows(seed, task):
    labels, scores, weights = classes(seed)
    order = np.random.default_rng(seed + 1).permutation(len(labels))
    at = part_figures.thresholds(labels, scores, weights, rate=0.3)
    first = part_figures.evaluate(task, labels, scores, weights, at=at)
    assert first == part_figures.evaluate(task, labels[order], scores[order], weights[order], at=at)


def test_thresholds_of_the_training_part_are_kept_on_the_others():
    labels, scores, _ = classes(5, 300)
    parts = {"training": np.arange(200), "validation": np.arange(200, 300), "test": np.arange(0)}
    found = part_figures.by_part("logistic", labels, scores, parts, rate=0.2)
    assert list(found) == ["training", "validation"]
    assert [t.threshold for t in found["training"].confusion] == [t.threshold for t in found["validation"].confusion]
    assert [t.choice for t in found["training"].confusion] == ["even", "ks", "rate"]
    degrees = [part.hosmer_lemeshow.degrees for part in found.values()]
    assert degrees == [8, 10]


@given(st.floats(0.01, 60), st.integers(1, 30))
def test_the_tail_of_chi_square_is_scipy_s(statistic, degrees):
    assert calibration.upper_tail(statistic, degrees) == pytest.approx(chi2.sf(statistic, degrees), abs=1e-12)


def test_hosmer_and_lemeshow_find_a_model_that_is_wrong_and_none_in_a_right_one():
    generator = np.random.default_rng(8)
    scores = generator.normal(size=5000)
    labels = (generator.uniform(size=5000) < probability(scores)).astype(float)
    right = part_figures.evaluate("logistic", labels, scores, part="test").hosmer_lemeshow
    wrong = part_figures.evaluate("logistic", labels, 2 * scores, part="test").hosmer_lemeshow
    assert right.p > 0.05
    assert wrong.p < 1e-6


def test_the_size_of_all_weights_is_no_evidence_against_a_model():
    generator = np.random.default_rng(9)
    scores, weights = generator.normal(size=3000), generator.integers(0, 4, 3000).astype(float)
    labels = (generator.uniform(size=3000) < probability(scores)).astype(float)
    tests = [
        part_figures.evaluate("logistic", labels, scores, size * weights, part="test").hosmer_lemeshow
        for size in (1.0, 1000.0)
    ]
    assert tests[0].statistic == pytest.approx(tests[1].statistic)
    assert tests[0].p > 0.01
    plain = part_figures.evaluate("logistic", labels, scores, part="test").hosmer_lemeshow
    alike = part_figures.evaluate("logistic", labels, scores, np.full(3000, 7.0), part="test").hosmer_lemeshow
    assert alike.statistic == pytest.approx(plain.statistic)


def test_the_test_of_weighted_rows_is_as_often_wrong_as_it_says():
    generator = np.random.default_rng(10)
    found = []
    for _ in range(300):
        scores, weights = generator.normal(size=1000), generator.integers(0, 4, 1000).astype(float)
        labels = (generator.uniform(size=1000) < probability(scores)).astype(float)
        found.append(part_figures.evaluate("logistic", labels, scores, weights, part="test").hosmer_lemeshow.p)
    assert 0.02 < np.mean(np.array(found) < 0.05) < 0.09


def test_rows_of_weight_zero_alone_in_a_bin_leave_no_bin():
    weights = np.concatenate([np.zeros(5), [10.0], np.ones(4)])
    found = part_figures.evaluate("logistic", np.tile([0.0, 1.0], 5), np.arange(10.0), weights)
    assert min(row.weight for row in (*found.calibration, *found.lift)) > 0
    assert found.lift[-1].share == pytest.approx(1.0)


def test_the_gini_index_of_amounts_is_that_of_the_lorenz_curve():
    labels, scores = np.array([0.0, 0.0, 1.0, 3.0]), np.array([1.0, 2.0, 3.0, 4.0])
    # Gain after each quarter, best first: 3/4, 1, 1, 1; trapezoids.
    expected = 2 * (0.25 * (0.375 + 0.875 + 1 + 1)) - 1
    assert ranking.gini_of_amounts(ranking.ranking_of_amounts(labels, scores)) == pytest.approx(expected)


def test_one_class_has_no_ranking_and_no_test_but_a_loss():
    ones = np.ones(20)
    found = part_figures.evaluate("logistic", ones, np.linspace(-1, 1, 20))
    assert math.isnan(found.metrics["auc"])
    assert math.isnan(found.metrics["ks"])
    assert found.metrics["log_loss"] == pytest.approx(
        oracle.log_loss(ones, probability(np.linspace(-1, 1, 20)), labels=[0, 1])
    )
    assert [one.choice for one in part_figures.thresholds(ones, ones)] == ["even"]
