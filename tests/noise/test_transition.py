"""Estimated transition matrices: simulated posteriors, the sample that is taken, errors."""

import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lossnoise.exceptions import InvalidDataError, InvalidParameterError
from lossnoise.noise import estimate_transition


def simulate(transition, size, certainty, seed=0):
    """Return what a perfect model of the given labels predicts: p(true | x) times T."""
    rng = np.random.default_rng(seed)
    num_classes = len(transition)
    clean = certainty * np.eye(num_classes)[rng.integers(num_classes, size=size)]
    clean += rng.normal(size=(size, num_classes))
    clean = np.exp(clean) / np.exp(clean).sum(axis=1, keepdims=True)
    return clean @ transition


SYMMETRIC = np.full((4, 4), 0.1) + 0.6 * np.eye(4)
PAIRS = 0.6 * np.eye(4) + 0.4 * np.roll(np.eye(4), 1, axis=1)
UNEVEN = np.array([[1.0, 0, 0, 0], [0.45, 0.55, 0, 0], [0, 0.2, 0.7, 0.1], [0, 0, 0.1, 0.9]])


@pytest.mark.parametrize("transition", [SYMMETRIC, PAIRS, UNEVEN], ids=["all", "pairs", "uneven"])
@pytest.mark.parametrize("percentile", ["auto", 97.0, 100.0])
def test_a_known_matrix_is_recovered(transition, percentile):
    estimate = estimate_transition(simulate(transition, 4000, 12.0), percentile=percentile)
    np.testing.assert_allclose(estimate, transition, atol=0.01)


def test_many_classes_have_samples_of_their_own():
    """Each of 100 classes has one sample in 100: at the 97th percentile none of them."""
    transition = 0.6 * np.eye(100) + 0.004
    table = simulate(transition, 20_000, 12.0)
    np.testing.assert_allclose(estimate_transition(table), transition, atol=0.02)
    assert np.diag(estimate_transition(table, percentile=97.0)).max() < 0.1


@pytest.mark.parametrize(
    ("num_classes", "percentile"), [(2, 97.0), (10, 97.0), (20, 98.5), (100, 99.7)]
)
def test_the_percentile_is_the_papers_unless_classes_are_many(num_classes, percentile):
    table = simulate(0.6 * np.eye(num_classes) + 0.4 / num_classes, 5000, 3.0)
    expected = estimate_transition(table, percentile=percentile)
    assert np.array_equal(estimate_transition(table), expected)


def test_uncertain_predictions_give_an_estimate_that_is_too_noisy():
    """What is known of the method: a sample that is not certain blurs its row."""
    estimate = estimate_transition(simulate(PAIRS, 4000, 2.0))
    assert (np.diag(estimate) < 0.58).all()


def test_a_row_is_the_prediction_of_the_sample_at_the_percentile():
    first = np.linspace(0.0, 1.0, 101)
    table = np.stack([first, 1.0 - first], axis=1)[np.random.default_rng(0).permutation(101)]
    for percentile in (100, 99.6, 97.0, 60, 1.4):
        share = round(percentile) / 100.0
        expected = [[share, 1.0 - share], [1.0 - share, share]]
        np.testing.assert_allclose(
            estimate_transition(table, percentile=percentile), expected, atol=1e-12
        )


def test_the_percentile_passes_over_an_outlier():
    """One sample of another class, of which the model is wrongly certain."""
    table = simulate(SYMMETRIC, 1000, 12.0)
    table[0] = [1.0, 0.0, 0.0, 0.0]
    assert estimate_transition(table, percentile=100.0)[0].tolist() == [1.0, 0.0, 0.0, 0.0]
    np.testing.assert_allclose(estimate_transition(table)[0], SYMMETRIC[0], atol=0.01)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_tensors_are_taken_as_they_are(dtype):
    table = torch.tensor([[0.75, 0.25], [0.25, 0.75]], dtype=dtype)
    expected = [[0.75, 0.25], [0.25, 0.75]]
    estimate = estimate_transition(table, percentile=100.0)
    assert estimate.dtype == np.float64
    np.testing.assert_allclose(estimate, expected)


@given(
    arrays(np.float64, st.tuples(st.integers(1, 20), st.integers(2, 5)), elements=st.floats(0, 50)),
    st.one_of(st.floats(1.0, 100.0, exclude_min=True), st.just("auto")),
)
def test_rows_are_probabilities_and_rows_of_the_table(logits, percentile):
    table = np.exp(logits - logits.max(axis=1, keepdims=True))
    table /= table.sum(axis=1, keepdims=True)
    estimate = estimate_transition(table, percentile=percentile)
    assert estimate.shape == (table.shape[1],) * 2
    np.testing.assert_allclose(estimate.sum(axis=1), 1.0)
    for row in estimate:
        assert np.isclose(table, row, rtol=1e-12, atol=0.0).all(axis=1).any()


@pytest.mark.parametrize("percentile", [0.0, 0.97, -1.0, 100.1, float("nan"), "97", None, True])
def test_a_percentile_out_of_range(percentile):
    alternative = "'auto' or " if isinstance(percentile, str) else ""
    message = (
        f"The 'percentile' parameter of estimate_transition must be {alternative}a float in the "
        f"range (1.0, 100.0]. Got {percentile!r} instead."
    )
    with pytest.raises(InvalidParameterError, match=f"^{re.escape(message)}$"):
        estimate_transition([[0.5, 0.5]], percentile=percentile)


EXPECTED = "The 'pred_probs' parameter of estimate_transition must be "


@pytest.mark.parametrize(
    ("pred_probs", "message"),
    [
        (
            [0.5, 0.5],
            "a 2-D array of probabilities. Got an array of shape (2,) and dtype float64 instead.",
        ),
        (
            [["a", "b"]],
            "a 2-D array of probabilities. Got an array of shape (1, 2) and dtype <U1 instead.",
        ),
        ([[0.5, 0.5], [1.5, -0.5]], "probabilities in [0, 1]. Got 1.5 in row 1 instead."),
        ([[0.5, float("nan")]], "probabilities in [0, 1]. Got nan in row 0 instead."),
        (
            [[0.5, 0.4], [0.5, 0.5]],
            "probabilities whose rows sum to 1. Got a sum of 0.9 in row 0 (1 of 2 rows) instead.",
        ),
        (
            np.empty((0, 3)),
            "probabilities of at least one sample. Got an array of shape (0, 3) instead.",
        ),
        (
            np.ones((4, 1)),
            "probabilities of at least two classes. Got an array of shape (4, 1) instead.",
        ),
    ],
)
def test_what_is_no_table_of_probabilities(pred_probs, message):
    with pytest.raises(InvalidDataError, match=f"^{re.escape(EXPECTED + message)}$"):
        estimate_transition(pred_probs)
