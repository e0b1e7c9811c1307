"""Metrics against scikit-learn and arithmetic done by hand."""

from __future__ import annotations

import numpy as np
import pytest

from edgekit.base.errors import DataError
from edgekit.verify.metrics import classification_metrics, top1


def test_accuracy_of_classes() -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    random = np.random.default_rng(0)
    outputs, y = random.random((100, 5)), random.integers(0, 5, 100)
    wanted = sklearn.accuracy_score(y, outputs.argmax(1))
    assert classification_metrics(outputs, y)["accuracy"] == pytest.approx(wanted)
    assert classification_metrics(outputs, y[:, None])["accuracy"] == pytest.approx(wanted)


def test_one_output_is_a_probability() -> None:
    outputs = np.array([[0.9], [0.2], [0.51], [0.5]])
    np.testing.assert_array_equal(top1(outputs), [1, 0, 1, 0])
    assert classification_metrics(outputs, np.array([1, 0, 0, 0])) == {"accuracy": 0.75}


def test_real_targets_give_the_mean_squared_error() -> None:
    outputs = np.array([[1.0, 2.0], [3.0, 4.0]])
    assert classification_metrics(outputs, outputs + 2) == {"mse": 4.0}


def test_targets_of_another_size_are_refused() -> None:
    with pytest.raises(DataError, match="do not fit"):
        classification_metrics(np.zeros((4, 3)), np.zeros((4, 2)))
