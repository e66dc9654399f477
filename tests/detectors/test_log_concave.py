"""The most likely log-concave distribution on cells: against a general optimiser."""

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from scipy import optimize

from lossnoise.detectors._log_concave import ROUGH, log_concave_fit


def slow_fit(counts):
    """The same by a general optimiser: a line, minus hinges with weights of at least 0."""
    size = len(counts)
    x = (np.arange(size) + 0.5) / size
    design = np.column_stack([x, *(-np.maximum(x - knot, 0.0) for knot in x[1:-1])])

    def loss(weights):
        logs = design @ weights
        return np.logaddexp.reduce(logs) - counts @ logs / counts.sum()

    bounds = [(None, None)] + [(0.0, None)] * (size - 2)
    start = np.zeros(size - 1)
    found = optimize.minimize(loss, start, method="L-BFGS-B", bounds=bounds, tol=1e-14)
    logs = design @ found.x
    return np.exp(logs - np.logaddexp.reduce(logs)), -found.fun


def log_likelihood(counts, probabilities):
    return counts @ np.log(probabilities) / counts.sum()


CASES = {
    "one heap": [1.0, 4.0, 9.0, 7.0, 2.0, 1.0],
    "two heaps": [9.0, 3.0, 0.0, 0.0, 2.0, 8.0, 1.0],
    "a line": [1.0, 2.0, 4.0, 8.0, 16.0],
    "one cell": [0.0, 0.0, 5.0, 0.0],
    "gamma": np.histogram(np.log(np.random.default_rng(0).gamma(2.0, size=3000)), 24)[0] * 1.0,
}


@pytest.mark.parametrize("name", CASES)
def test_as_likely_as_a_general_optimiser_finds(name):
    counts = np.array(CASES[name])
    probabilities = log_concave_fit(counts).probabilities
    _, best = slow_fit(counts)
    assert log_likelihood(counts, probabilities) >= best - 1e-6


def test_log_concave_counts_are_their_own_fit():
    counts = np.array([1.0, 5.0, 10.0, 10.0, 5.0, 1.0])
    np.testing.assert_allclose(
        log_concave_fit(counts).probabilities, counts / counts.sum(), atol=1e-6
    )


@given(st.lists(st.integers(0, 50), min_size=3, max_size=40).filter(any))
def test_always_a_log_concave_distribution(counts):
    probabilities = log_concave_fit(np.array(counts, dtype=float)).probabilities
    assert probabilities.sum() == pytest.approx(1.0)
    inside = probabilities > 1e-200
    assert np.diff(np.log(probabilities[inside]), 2).max(initial=0.0) <= 1e-6


def test_a_start_from_far_away_changes_nothing():
    """Newton's method does not come back from some of these."""
    rng = np.random.default_rng(0)
    samples = [
        np.histogram(rng.normal(rng.uniform(5, 43), rng.uniform(1, 6), 2000), 48, (0, 48))[0] * 1.0
        for _ in range(12)
    ]
    for counts in samples:
        expected = log_likelihood(counts + 1e-300, log_concave_fit(counts).probabilities + 1e-300)
        for other in samples:
            found = log_concave_fit(counts, log_concave_fit(other)).probabilities
            assert log_likelihood(counts, found + 1e-300) == pytest.approx(expected, abs=3e-4)


@given(st.lists(st.tuples(st.integers(0, 50), st.floats(0.0, 1.0)), min_size=3, max_size=40))
def test_another_fit_to_start_from_changes_nothing(cells):
    counts, shares = np.array(cells, dtype=float).T
    assume((counts * shares).sum() > 1.0)  # the fit ends within 1 / sqrt(samples) of the best
    start = log_concave_fit(counts)
    once = log_concave_fit(counts * shares)
    again = log_concave_fit(counts * shares, start)
    expected = log_likelihood(counts * shares + 1e-300, once.probabilities + 1e-300)
    found = log_likelihood(counts * shares + 1e-300, again.probabilities + 1e-300)
    assert found == pytest.approx(expected, abs=1e-4)


def best_line(counts):
    """The largest log-likelihood of a straight line in the place of the log-probability."""
    places = np.arange(len(counts)) / len(counts)

    def lack(slope):
        weights = np.exp(slope * places - max(slope, 0.0))
        return -log_likelihood(counts, weights / weights.sum())

    return -optimize.minimize_scalar(lack, bounds=(-50.0, 50.0), method="bounded").fun


@given(st.lists(st.integers(0, 50), min_size=3, max_size=40).filter(any))
@example([0] * 26 + [50] * 9 + [0] * 3)
def test_a_rough_fit_is_log_concave_and_between_a_line_and_the_exact_one(counts):
    counts = np.array(counts, dtype=float)
    exact, rough = log_concave_fit(counts), log_concave_fit(counts, gradient=ROUGH)
    inside = rough.probabilities > 1e-200
    assert np.diff(np.log(rough.probabilities[inside]), 2).max(initial=0.0) <= 1e-6
    best, found, again = (
        log_likelihood(counts + 1e-300, fit.probabilities + 1e-300)
        for fit in (exact, rough, log_concave_fit(counts, rough))
    )
    assert best_line(counts) - 1e-4 < found < best + 1e-3
    assert again == pytest.approx(best, abs=1e-3)
