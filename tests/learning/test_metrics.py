import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as oracle

from learning.evaluation import metrics


def classes(seed):
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, 60).astype(float)
    labels[:2] = 0.0, 1.0
    return labels, np.round(generator.normal(size=60) + labels, 1)


@given(st.integers(0, 2**32))
def test_classification_metrics_agree_with_scikit_learn(seed):
    labels, scores = classes(seed)
    probability = 1 / (1 + np.exp(-scores))
    false, true, _ = oracle.roc_curve(labels, scores)
    found = metrics.evaluate("logistic", labels, scores)
    assert found["auc"] == pytest.approx(oracle.roc_auc_score(labels, scores), abs=1e-12)
    assert found["ks"] == pytest.approx(np.max(true - false).clip(0), abs=1e-12) or found["ks"] == pytest.approx(
        np.abs(true - false).max(), abs=1e-12
    )
    assert found["log_loss"] == pytest.approx(oracle.log_loss(labels, probability), abs=1e-12)
    assert found["accuracy"] == oracle.accuracy_score(labels, scores > 0)


@given(st.integers(0, 2**32))
def test_regression_metrics_agree_with_scikit_learn(seed):
    generator = np.random.default_rng(seed)
    labels, scores = generator.normal(size=(2, 50))
    found = metrics.evaluate("linear", labels, scores)
    assert found["rmse"] == pytest.approx(oracle.root_mean_squared_error(labels, scores))
    assert found["r2"] == pytest.approx(oracle.r2_score(labels, scores))
    counts = generator.poisson(0.5, size=50).astype(float)
    deviance = metrics.evaluate("poisson", counts, scores)["poisson_deviance"]
    assert deviance == pytest.approx(oracle.mean_poisson_deviance(counts, np.exp(scores)))


def test_metrics_ignore_row_order():
    labels, scores = classes(5)
    order = np.random.default_rng(6).permutation(len(labels))
    assert metrics.evaluate("logistic", labels, scores) == metrics.evaluate("logistic", labels[order], scores[order])


def test_one_class_has_no_ranking():
    ones = np.ones(5)
    assert math.isnan(metrics.auc(ones, ones))
    assert math.isnan(metrics.ks(ones, ones))
    assert math.isnan(metrics.r2(ones, ones))


def test_metrics_of_weighted_rows_are_scikit_learn_s():
    generator = np.random.default_rng(4)
    scores = np.round(generator.normal(size=500), 1)  # with ties
    labels = (generator.uniform(size=500) < 1 / (1 + np.exp(-scores))).astype(float)
    weights = generator.integers(0, 4, 500).astype(float)
    found = metrics.evaluate("logistic", labels, scores, weights=weights)
    alarms, hits, _ = oracle.roc_curve(labels, scores, sample_weight=weights)
    assert found == pytest.approx(
        {
            "auc": oracle.roc_auc_score(labels, scores, sample_weight=weights),
            "ks": np.abs(hits - alarms).max(),
            "log_loss": oracle.log_loss(labels, 1 / (1 + np.exp(-scores)), sample_weight=weights),
            "accuracy": oracle.accuracy_score(labels, scores > 0, sample_weight=weights),
        }
    )
