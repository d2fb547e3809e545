import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as oracle
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier

from learning.evaluation import multiclass


@given(st.integers(0, 2**32), st.booleans())
def test_figures_are_scikit_learn_s_with_and_without_weights(seed, weighted):
    generator = np.random.default_rng(seed)
    classes = np.concatenate([[0, 1, 2], generator.integers(0, 3, 57)])
    scores = generator.normal(size=(60, 3)) + 2.0 * (classes[:, None] == np.arange(3))
    weights = generator.uniform(0.1, 3.0, 60) if weighted else None
    found = multiclass.evaluate(classes, scores, weights)
    chances = multiclass.probabilities(scores)
    assert found.log_loss == pytest.approx(oracle.log_loss(classes, chances, sample_weight=weights))
    assert found.macro_auc == pytest.approx(
        oracle.roc_auc_score(classes, chances, multi_class="ovr", average="macro", sample_weight=weights)
    )
    predicted = scores.argmax(axis=1)
    assert found.accuracy == pytest.approx(oracle.accuracy_score(classes, predicted, sample_weight=weights))
    assert np.allclose(found.confusion, oracle.confusion_matrix(classes, predicted, sample_weight=weights))


def test_probabilities_are_those_of_one_classifier_against_the_rest():
    iris = load_iris()
    model = OneVsRestClassifier(LogisticRegression()).fit(iris.data, iris.target)
    assert np.allclose(multiclass.probabilities(model.decision_function(iris.data)), model.predict_proba(iris.data))


def test_a_class_without_rows_has_no_ranking():
    found = multiclass.evaluate(np.array([0, 1, 0, 1]), np.eye(4)[:, :3])
    assert math.isnan(found.macro_auc)
    assert found.confusion[2] == (0.0, 0.0, 0.0)
