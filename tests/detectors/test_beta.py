"""The beta mixture: against an independent EM, by hand, and what must always hold."""

import itertools
import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats
from scipy.optimize import brentq

from lossnoise import BetaMixtureNoiseDetector, LossHistogram
from lossnoise.detectors._beta import (
    BetaFamily,
    beta_features,
    beta_log_density,
    beta_moments,
    beta_rising_range,
    one_sided,
)
from lossnoise.detectors._mixture import Mixture, wrong_proba
from lossnoise.exceptions import NoSeparableNoiseWarning

TEMPERATURE = 2.5
CEILING = 15.9
HARD = 0.045
SCALES = ["cross-entropy", "any"]


def two_groups(seed=0, right=700, wrong=300):
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.gamma(1.0, 0.2, right), np.abs(rng.normal(4.0, 0.8, wrong))])


DATA = {
    "two groups": two_groups(),
    "mostly wrong": two_groups(1, right=150, wrong=650),
    "overlapping": np.concatenate(
        [
            np.random.default_rng(2).gamma(1.0, 0.5, 300),
            np.random.default_rng(3).gamma(4.0, 0.6, 300),
        ]
    ),
    "few wrong": two_groups(4, right=400, wrong=15),
    "a spike": np.repeat([0.0, 0.01, 0.5, 2.0, 27.6], [40, 30, 5, 10, 20]),
    "an outlier": np.append(two_groups(5, 560, 240), 1e30),
}


# -- an independent fit: plain loops and scipy's densities, from the formulae ---------------------


def slow_normalise(losses, scale):
    if scale == "cross-entropy":
        ceiling, ordered = CEILING, sorted(losses)
        for below, loss in itertools.pairwise(ordered):
            few = sum(other >= loss for other in losses) <= 0.005 * len(losses)
            far = loss > 2.0 * below if few else loss == ordered[-1]
            if loss - below > 1.0 and far:
                ceiling = min(CEILING, below + 1.0)
                break
        return [1.0 - math.exp(-min(loss, ceiling) / TEMPERATURE) for loss in losses]
    low, high = np.quantile(losses, 0.0), np.quantile(losses, 0.99)
    return [min(max((loss - low) / (high - low), 0.0), 1.0) for loss in losses]


def slow_places(values, n_bins):
    """The node below each value, and how much of it belongs to the node above."""
    below = [min(math.floor(x * n_bins), n_bins - 1) for x in values]
    return [(k, x * n_bins - k) for k, x in zip(below, values, strict=True)]


def slow_shares(places, n_bins):
    shares = [0.0] * (n_bins + 1)
    for node, upper in places:
        shares[node] += (1.0 - upper) / len(places)
        shares[node + 1] += upper / len(places)
    return np.array(shares)


def slow_hard_fraction(x, shares, low, high):
    """At most HARD, and no more than the lowest density of a tenth of the scale."""
    densities = [
        sum(share for value, share in zip(x, shares, strict=True) if left <= value <= left + 0.1)
        for left in x
        if low <= left <= high - 0.1
    ]
    return min([HARD, *(density / 0.1 for density in densities)])


def slow_densities(x, weights, shapes, hard):
    return [
        (1.0 - hard) * weight * stats.beta.pdf(x, a, b)
        for weight, (a, b) in zip(weights, shapes, strict=True)
    ]


def slow_odds_proba(x, weights, shapes):
    """P(wrong) among the two components, held where its log-odds turn."""
    (a0, b0), (a1, b1) = shapes
    if (a1 < a0 and b1 < b0) or (a1 > a0 and b1 > b0):
        turn = (a1 - a0) / ((a1 - a0) + (b1 - b0))
        x = np.maximum(x, turn) if a1 < a0 else np.minimum(x, turn)
    right, wrong = (
        math.log(weight) + stats.beta.logpdf(x, a, b)
        for weight, (a, b) in zip(weights, shapes, strict=True)
    )
    return 1.0 / (1.0 + np.exp(np.minimum(right - wrong, 700.0)))


def slow_shape(x, mass):
    mean = (mass * x).sum() / mass.sum()
    variance = (mass * (x - mean) ** 2).sum() / mass.sum()
    variance = max(variance, 1e-6 * mean * (1.0 - mean))
    a = mean * (mean * (1.0 - mean) / variance - 1.0)
    return a, a * (1.0 - mean) / mean


def slow_m_step(x, shares, wrong, hard):
    masses = [shares * (1.0 - hard) * (1.0 - wrong), shares * (1.0 - hard) * wrong]
    (a0, b0), (a1, b1) = (slow_shape(x, mass) for mass in masses)
    total = masses[0].sum() + masses[1].sum()
    return [mass.sum() / total for mass in masses], [(a0, max(b0, 2.0)), (max(a1, 2.0), b1)]


def slow_em(x, shares, guess, hard, max_iter, tol):
    weights, shapes = slow_m_step(x, shares, guess, 0.0)
    for _ in range(max_iter):
        density = sum(slow_densities(x, weights, shapes, hard)) + hard
        before = (shares * np.log(density)).sum()
        wrong = slow_odds_proba(x, weights, shapes)
        weights, shapes = slow_m_step(x, shares, wrong, hard / density)
        density = sum(slow_densities(x, weights, shapes, hard)) + hard
        after = (shares * np.log(density)).sum()
        if abs(after - before) < tol:
            break
    return weights, shapes, after


def slow_fit(losses, scale, max_iter, tol=1e-6, n_bins=1000):
    """Return weights, shapes, and P(wrong) of each loss."""
    places = slow_places(slow_normalise(losses, scale), n_bins)
    shares = slow_shares(places, n_bins)
    x = np.array([min(max(k / n_bins, 1e-4), 1.0 - 1e-4) for k in range(n_bins + 1)])
    low, high = (x[np.argmax(np.cumsum(shares) >= q)] for q in (0.01, 0.999))
    guess = np.array([min(max((value - low) / (high - low), 0.0), 1.0) for value in x])
    hard = slow_hard_fraction(x, shares, low, high)
    first = slow_em(x, shares, guess, hard, max_iter, tol)
    second = slow_em(x, shares, guess**3, hard, max_iter, tol)
    weights, shapes, _ = second if second[2] > first[2] + 5.0 / len(losses) else first
    density = sum(slow_densities(x, weights, shapes, hard)) + hard
    table, highest = [], 0.0
    for value in slow_odds_proba(x, weights, shapes) * (1.0 - hard / density):
        highest = max(highest, value)
        table.append(highest)
    return weights, shapes, [(1.0 - u) * table[k] + u * table[k + 1] for k, u in places]


@pytest.mark.parametrize("max_iter", [1, 20, 60])
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", DATA)
@pytest.mark.filterwarnings("ignore::lossnoise.exceptions.LossNoiseWarning")
def test_agrees_with_an_independent_fit(name, scale, max_iter):
    losses = DATA[name]
    detector = BetaMixtureNoiseDetector(loss_scale=scale, max_iter=max_iter).fit(losses)
    weights, shapes, proba = slow_fit(losses, scale, max_iter)
    np.testing.assert_allclose(detector.weights_, weights, rtol=1e-4, atol=1e-7)
    found = np.column_stack([detector.alphas_, detector.betas_])
    np.testing.assert_allclose(found, shapes, rtol=1e-3)
    np.testing.assert_allclose(detector.posterior(losses), proba, atol=1e-5)
    if detector.separable_:
        np.testing.assert_allclose(detector.predict_proba(losses)[:, 1], proba, atol=1e-5)


# -- the pieces, by hand --------------------------------------------------------------------------


def test_moments_by_hand():
    # Row 1: mean 1/2, variance 1/24: 1/4 / (1/24) - 1 = 5, so a = b = 5/2.
    # Row 2: mean .4, variance .02: .24 / .02 - 1 = 11, so a = 4.4, b = 6.6.
    values = np.array([0.25, 0.5, 0.75, 0.3, 0.6])
    mass = np.array([[1 / 3, 1 / 3, 1 / 3, 0.0, 0.0], [0.0, 0.0, 0.0, 2 / 3, 1 / 3]])
    np.testing.assert_allclose(
        beta_moments(values, mass, np.ones((2, 2))), [[2.5, 2.5], [4.4, 6.6]], rtol=1e-12
    )


def test_moments_of_one_value_have_the_least_variance():
    # concentration m (1 - m) / (1e-6 m (1 - m)) - 1 = 999 999
    (shape,) = beta_moments(np.full(5, 0.2), np.full((1, 5), 0.2), np.ones((1, 2)))
    np.testing.assert_allclose(shape, [0.2 * 999_999, 0.8 * 999_999], rtol=1e-9)


def test_a_component_without_mass_keeps_its_parameters():
    values = np.array([0.25, 0.5, 0.75])
    mass = np.array([np.full(3, 1 / 3), np.zeros(3)])
    moments = beta_moments(values, mass, np.array([[9.0, 9.0], [3.0, 4.0]]))
    np.testing.assert_allclose(moments, [[2.5, 2.5], [3.0, 4.0]])


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ([[0.5, 0.6], [0.9, 0.1]], [[0.5, 2.0], [2.0, 0.1]]),
        ([[1.0, 3.0], [4.0, 1.0]], [[1.0, 3.0], [4.0, 1.0]]),
    ],
)
def test_components_are_one_sided(params, expected):
    given_params = np.array(params)
    assert one_sided(given_params).tolist() == expected
    assert given_params.tolist() == params


def test_log_density_is_scipys():
    values = np.array([1e-4, 0.3, 1.0 - 1e-4])
    params = np.array([[0.3, 7.0], [400.0, 90.0]])
    expected = [stats.beta.logpdf(values, a, b) for a, b in params]
    found = beta_log_density(beta_features(values), params)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("right", "wrong", "rising"),
    [
        ((3.0, 4.0), (2.0, 1.0), "after"),
        ((2.0, 2.0), (5.0, 3.0), "before"),
        ((1.0, 2.0), (2.0, 1.0), "everywhere"),
        ((2.0, 3.0), (2.0, 1.0), "everywhere"),
        ((2.0, 2.0), (2.0, 2.0), "everywhere"),
    ],
)
def test_turning_point_is_where_the_slope_of_the_log_odds_is_zero(right, wrong, rising):
    def log_odds(x):
        return stats.beta.logpdf(x, *wrong) - stats.beta.logpdf(x, *right)

    def slope(x):
        return (log_odds(x + 1e-6) - log_odds(x - 1e-6)) / 2e-6

    low, high = beta_rising_range(np.array([right, wrong]))
    if rising == "everywhere":
        assert (low, high) == (0.0, 1.0)
        assert min(slope(x) for x in np.linspace(0.01, 0.99, 99)) >= 0.0
    else:
        turn = brentq(slope, 0.01, 0.99)
        expected = (turn, 1.0) if rising == "after" else (0.0, turn)
        assert (low, high) == pytest.approx(expected, abs=1e-5)
        assert slope((low + high) / 2.0) > 0.0


@pytest.mark.parametrize(
    "params",
    [
        [[3.0, 2.0], [2.0, 2.0 - 1e-16 * 4]],  # rounds to a turn at 1
        [[2.0 + 1e-320, 3.0], [2.0, 2.0]],
        [[2.0, 2.0], [3.0, 2.0 + 1e-15]],
    ],
)
def test_a_turn_at_the_end_of_the_scale_is_no_infinity(params):
    mixture = Mixture(np.array([0.5, 0.5]), np.array(params))
    proba = wrong_proba(np.array([1e-4, 0.5, 1.0 - 1e-4]), mixture, BetaFamily())
    assert np.isfinite(proba).all()
    assert (np.diff(proba) >= 0.0).all()


# -- what must always hold ------------------------------------------------------------------------

quietly = pytest.mark.filterwarnings("ignore::lossnoise.exceptions.LossNoiseWarning")


@quietly
@pytest.mark.parametrize("scale", SCALES)
def test_fit_starts_afresh(scale):
    once = BetaMixtureNoiseDetector(loss_scale=scale).fit(DATA["overlapping"])
    twice = BetaMixtureNoiseDetector(loss_scale=scale).fit(DATA["two groups"])
    twice.fit(DATA["overlapping"])
    for name in ("weights_", "alphas_", "betas_", "noise_rate_", "threshold_", "lower_bound_"):
        np.testing.assert_array_equal(getattr(twice, name), getattr(once, name), err_msg=name)


@quietly
@given(st.lists(st.floats(0.0, 40.0), min_size=10, max_size=60).filter(lambda x: min(x) < max(x)))
def test_the_wrong_component_is_the_higher_one(losses):
    detector = BetaMixtureNoiseDetector().fit(losses)
    assert detector.means_[0] <= detector.means_[1] * (1.0 + 1e-9)


def test_cross_entropy_has_a_scale():
    losses = DATA["two groups"]
    whole = BetaMixtureNoiseDetector().fit(losses).posterior(losses)
    with pytest.warns(NoSeparableNoiseWarning, match="below log 2, of labels that the model"):
        tenth = BetaMixtureNoiseDetector().fit(losses / 10.0).posterior(losses / 10.0)
    assert np.abs(whole - tenth).max() > 0.05


@quietly
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", ["two groups", "overlapping", "mostly wrong"])
def test_density_integrates_to_one_on_the_scale_of_the_losses(name, scale):
    detector = BetaMixtureNoiseDetector(loss_scale=scale).fit(DATA[name])
    values = 1e-4 + (1.0 - 2e-4) * np.sin(np.linspace(0.0, np.pi / 2.0, 20_001)) ** 2
    grid = detector.scaling_.losses_at(values)  # dense at both ends, where it may be steep
    grid = grid[grid <= getattr(detector.scaling_, "ceiling", CEILING)]
    mass = integrate.trapezoid(np.exp(detector.score_samples(grid)), grid)
    shapes = detector.alphas_, detector.betas_
    top = detector.scaling_.normalise(grid[-1:])
    inside = stats.beta.cdf(top, *shapes) - stats.beta.cdf(1e-4, *shapes)
    hard = detector._sample_fit.result.mixture.hard_fraction
    expected = (1.0 - hard) * detector.weights_ @ inside + hard * (top[0] - 1e-4)
    assert mass == pytest.approx(expected, abs=1e-3)
    assert mass == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize(("max_iter", "tol", "converged"), [(2, 1e-12, False), (60, 1e-2, True)])
def test_both_ends_of_em_are_regular(max_iter, tol, converged):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        detector = BetaMixtureNoiseDetector(max_iter=max_iter, tol=tol).fit(DATA["two groups"])
    assert detector.converged_ is converged
    assert (detector.n_iter_ < max_iter) is converged


def test_without_hard_examples_the_model_is_two_betas():
    detector = BetaMixtureNoiseDetector(hard_fraction=0.0).fit(DATA["two groups"])
    grid = np.array([0.1, 1.0, 4.0])
    x = 1.0 - np.exp(-grid / TEMPERATURE)
    shapes = np.column_stack([detector.alphas_, detector.betas_])
    weights = detector.weights_
    parts = [w * stats.beta.pdf(x, a, b) for w, (a, b) in zip(weights, shapes, strict=True)]
    slope = np.exp(-grid / TEMPERATURE) / TEMPERATURE
    np.testing.assert_allclose(detector.score_samples(grid), np.log(sum(parts) * slope), rtol=1e-9)
    np.testing.assert_allclose(detector.posterior(grid), parts[1] / sum(parts), atol=1e-3)


def test_confident_mistakes_are_not_all_taken_for_wrong_labels():
    rng = np.random.default_rng(0)
    losses = np.concatenate(
        [rng.gamma(0.5, 0.2, 9500), rng.uniform(0.0, 6.0, 300), rng.normal(7.0, 1.0, 2000)]
    )
    plain = BetaMixtureNoiseDetector(hard_fraction=0.0).fit(losses).noise_rate_
    ours = BetaMixtureNoiseDetector().fit(losses).noise_rate_
    true = 2000 / len(losses)
    assert abs(ours - true) < abs(plain - true)


# -- labels that the model itself gives ------------------------------------------------------------


@pytest.mark.parametrize("streamed", [False, True])
def test_no_label_is_called_wrong_to_which_the_model_gives_most(streamed):
    """Right labels of which it is less sure look like a part of the upper heap."""
    rng = np.random.default_rng(0)
    parts = [rng.gamma(1.0, 0.01, 3000), rng.uniform(0.35, 0.69, 500), rng.uniform(0.7, 1.6, 1500)]
    losses = np.concatenate(parts)
    detector = BetaMixtureNoiseDetector()
    if streamed:
        detector.fit_histogram(LossHistogram().fill(losses))
    else:
        detector.fit(losses)
    own = losses < np.log(2.0)
    proba = detector.predict_proba(losses)[:, 1]
    assert (detector.posterior(losses)[own] > 0.5).sum() > 400
    assert proba[own].max() <= 0.5
    assert detector.threshold_ >= np.log(2.0) - 0.01
    assert detector.predict(losses)[~own].all()
    assert detector.noise_rate_ == pytest.approx(proba.mean(), abs=2e-3)
    low, high = detector.noise_rate_interval_
    assert low < detector.noise_rate_ < high < detector.posterior(losses).mean()
    other = BetaMixtureNoiseDetector(loss_scale="any").fit(losses)  # no probabilities
    assert (other.predict_proba(losses)[own, 1] > 0.5).any()


def test_what_cannot_be_told_may_be_all_that_the_model_doubts():
    losses = np.random.default_rng(0).exponential(0.5, 3000)
    with pytest.warns(NoSeparableNoiseWarning):
        detector = BetaMixtureNoiseDetector().fit(losses)
    doubted = (losses > np.log(2.0)).mean()
    assert detector.noise_rate_interval_[0] == 0.0
    assert detector.noise_rate_interval_[1] >= doubted - 1e-3
