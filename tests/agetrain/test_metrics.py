import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from agetrain.evaluation.metrics import measure

years = st.floats(0, 100, allow_nan=False)


@st.composite
def comparisons(draw):
    n = draw(st.integers(1, 30))
    estimates, labels = (draw(arrays(np.float64, n, elements=years)) for _ in range(2))
    return estimates, labels, draw(arrays(bool, n))


def test_known_values():
    m = measure(np.array([20.0, 31, 50, 70]), np.array([22.0, 30, 44, 65]), np.ones(4, bool), 37)
    # Errors -2, 1, 6, 5: an error of exactly 5 years counts as within 5.
    assert m.n == 4
    assert m.mae == 3.5
    assert m.rmse == pytest.approx(math.sqrt((4 + 1 + 36 + 25) / 4))
    assert m.cs5_percent == 75
    assert m.bias == 2.5
    assert m.detection_rate_percent == 100
    assert m.mae_found == 3.5
    assert m.mae_of_train_median == (15 + 7 + 7 + 28) / 4


def test_a_missing_face_is_answered_with_the_training_median():
    # The estimate where no face was found is NaN in practice, and must not be read.
    m = measure(np.array([20.0, np.nan, np.nan]), np.array([21.0, 30, 80]), np.array([True, False, False]), 34)
    assert m.mae == pytest.approx((1 + 4 + 46) / 3)
    assert m.bias == pytest.approx((-1 + 4 - 46) / 3)
    assert m.cs5_percent == pytest.approx(200 / 3)
    assert m.detection_rate_percent == pytest.approx(100 / 3)
    assert m.mae_found == 1


def test_without_any_face_the_median_is_the_score():
    m = measure(np.full(3, np.nan), np.array([10.0, 20, 60]), np.zeros(3, bool), 20)
    assert m.mae == m.mae_of_train_median == pytest.approx(50 / 3)
    assert m.detection_rate_percent == 0
    assert math.isnan(m.mae_found)


def test_float32_labels_lose_nothing():
    # float32 sums over a whole part would be off in the fourth decimal.
    labels = np.full(100_000, 33.3, np.float32)
    m = measure(labels.astype(np.float64) + 0.1, labels, np.ones(100_000, bool), 33)
    assert m.mae == pytest.approx(0.1, abs=1e-9)


@given(comparisons(), years)
def test_mae_is_at_most_rmse_and_at_least_the_bias(comparison, median):
    m = measure(*comparison, median)
    assert abs(m.bias) <= m.mae + 1e-9
    assert m.mae <= m.rmse + 1e-9
    assert 0 <= m.cs5_percent <= 100


@given(comparisons(), years)
def test_all_figures_follow_their_definition(comparison, median):
    estimates, labels, found = comparison
    m = measure(estimates, labels, found, median)
    answers = [e if f else median for e, f in zip(estimates, found, strict=True)]
    errors = [a - label for a, label in zip(answers, labels, strict=True)]
    assert m.mae == pytest.approx(sum(map(abs, errors)) / len(errors))
    assert m.cs5_percent == pytest.approx(100 * sum(abs(e) <= 5 for e in errors) / len(errors))
    assert m.mae_of_train_median == pytest.approx(sum(abs(median - label) for label in labels) / len(labels))


@given(arrays(np.float64, st.integers(1, 30), elements=years), years)
def test_perfect_estimates_have_no_error(labels, median):
    m = measure(labels.copy(), labels, np.ones(len(labels), bool), median)
    assert (m.mae, m.rmse, m.bias, m.mae_found, m.cs5_percent) == (0, 0, 0, 0, 100)


@pytest.mark.parametrize("lengths", [(3, 2, 3), (2, 3, 3), (3, 3, 2), (3, 3, 1), (0, 0, 0)])
def test_lengths_must_agree_and_not_be_zero(lengths):
    estimates, labels, found = lengths
    with pytest.raises(ValueError, match=r", ".join(map(str, lengths))):
        measure(np.zeros(estimates), np.zeros(labels), np.ones(found, bool), 30)


def test_figures_are_rounded_for_json():
    m = measure(np.array([20.00004, 21.0]), np.array([20.0, 21]), np.ones(2, bool), 30)
    assert m.to_dict()["mae"] == 0.0
    assert m.mae > 0


def test_figures_without_any_face_are_still_json():
    m = measure(np.full(3, np.nan), np.array([10.0, 20, 60]), np.zeros(3, bool), 20)
    # NaN is not JSON: metrics.json and the model file's metadata could be read by Python alone.
    assert json.loads(json.dumps(m.to_dict(), allow_nan=False))["mae_found"] is None
