"""The beta mixture: against an independent EM, by hand, and what must always hold."""

import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats
from scipy.optimize import brentq

from lossnoise import BetaMixtureNoiseDetector
from lossnoise.detectors._base import Mixture, wrong_proba
from lossnoise.detectors._beta import (
    BetaFamily,
    beta_log_density,
    beta_moments,
    beta_rising_range,
    one_sided,
)

TEMPERATURE = 2.0
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
    "one group": np.random.default_rng(4).gamma(2.0, 0.3, 400),
    "few values": np.repeat([0.0, 0.01, 0.5, 2.0, 30.0], [40, 30, 5, 10, 2]),
    "an outlier": np.append(two_groups(5, 60, 40), 1e30),
}


# -- an independent EM: plain loops and scipy, from the formulae ----------------------------------


def slow_normalise(losses, scale):
    if scale == "cross-entropy":
        values = [1.0 - math.exp(-loss / TEMPERATURE) for loss in losses]
    else:
        low, high = np.quantile(losses, 0.0), np.quantile(losses, 0.99)
        values = [(loss - low) / (high - low) for loss in losses]
    values = [min(max(value, 1e-4), 1.0 - 1e-4) for value in values]
    if scale == "cross-entropy":  # x = 1 - exp(-l / T), so dx / dl = (1 - x) / T
        return values, [math.log((1.0 - x) / TEMPERATURE) for x in values]
    return values, [-math.log(high - low)] * len(losses)


def slow_posterior(values, weights, shapes):
    (a0, b0), (a1, b1) = shapes
    if (a1 < a0 and b1 < b0) or (a1 > a0 and b1 > b0):
        turn = (a1 - a0) / ((a1 - a0) + (b1 - b0))
        values = [max(x, turn) if a1 < a0 else min(x, turn) for x in values]
    right = math.log(weights[0]) + stats.beta.logpdf(values, a0, b0)
    wrong = math.log(weights[1]) + stats.beta.logpdf(values, a1, b1)
    return [1.0 / (1.0 + math.exp(min(r - w, 700.0))) for r, w in zip(right, wrong, strict=True)]


def slow_log_likelihood(values, weights, shapes):
    density = weights[0] * stats.beta.pdf(values, *shapes[0])
    density += weights[1] * stats.beta.pdf(values, *shapes[1])
    return math.fsum(np.log(density)) / len(values)


def slow_shape(values, mass):
    total = math.fsum(mass)
    mean = math.fsum(m * x for m, x in zip(mass, values, strict=True)) / total
    variance = math.fsum(m * (x - mean) ** 2 for m, x in zip(mass, values, strict=True)) / total
    variance = max(variance, 1e-6 * mean * (1.0 - mean))
    a = mean * (mean * (1.0 - mean) / variance - 1.0)
    return a, a * (1.0 - mean) / mean


def slow_m_step(values, wrong):
    right = [1.0 - w for w in wrong]
    (a0, b0), (a1, b1) = slow_shape(values, right), slow_shape(values, wrong)
    assert a0 / (a0 + b0) < a1 / (a1 + b1)
    weights = (math.fsum(right) / len(values), math.fsum(wrong) / len(values))
    return weights, ((a0, max(b0, 2.0)), (max(a1, 2.0), b1))


def slow_first_guess(values):
    ranked = sorted(values)  # the lowest value that 1 or 99 % of the values do not exceed
    low, high = (ranked[math.ceil(q * len(values)) - 1] for q in (0.01, 0.99))
    if low == high:
        return values
    return [min(max((x - low) / (high - low), 0.0), 1.0) for x in values]


def slow_em(losses, scale, max_iter=10, tol=1e-4):
    values, slopes = slow_normalise(losses, scale)
    weights, shapes = slow_m_step(values, slow_first_guess(values))
    likelihoods = [slow_log_likelihood(values, weights, shapes)]
    for _ in range(max_iter):
        weights, shapes = slow_m_step(values, slow_posterior(values, weights, shapes))
        likelihoods.append(slow_log_likelihood(values, weights, shapes))
        if abs(likelihoods[-1] - likelihoods[-2]) < tol:
            break
    posterior = slow_posterior(values, weights, shapes)
    return {
        "weights_": weights,
        "alphas_": [a for a, _ in shapes],
        "betas_": [b for _, b in shapes],
        "n_iter_": len(likelihoods) - 1,
        "lower_bound_": likelihoods[-1] + math.fsum(slopes) / len(slopes),
        "noise_rate_": sum(posterior) / len(posterior),
    }, posterior


@pytest.mark.parametrize("max_iter", [1, 10, 40])
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", DATA)
def test_agrees_with_an_independent_em(name, scale, max_iter):
    detector = BetaMixtureNoiseDetector(loss_scale=scale, max_iter=max_iter).fit(DATA[name])
    expected, posterior = slow_em(DATA[name], scale, max_iter)
    for attribute, value in expected.items():
        np.testing.assert_allclose(getattr(detector, attribute), value, rtol=1e-8, err_msg=name)
    np.testing.assert_allclose(detector.predict_proba(DATA[name])[:, 1], posterior, atol=1e-8)


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
    np.testing.assert_allclose(beta_log_density(values, params), expected, rtol=1e-12)


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

loss_vectors = st.lists(
    st.floats(0.0, 1e6, allow_subnormal=False), min_size=10, max_size=60, unique=True
).map(np.array)


@pytest.mark.parametrize("scale", SCALES)
@given(losses=loss_vectors)
def test_posterior_is_a_monotone_probability(scale, losses):
    detector = BetaMixtureNoiseDetector(loss_scale=scale).fit(losses)
    grid = np.sort(np.concatenate([losses, np.linspace(0.0, 2.0 * losses.max(), 200)]))
    proba = detector.predict_proba(grid)
    assert np.isfinite(proba).all()
    assert proba.min() >= 0.0
    assert proba.max() <= 1.0
    np.testing.assert_allclose(proba.sum(axis=1), 1.0, atol=1e-15)
    assert np.diff(proba[:, 1]).min() >= -1e-9  # rounding, where a shape is very large
    assert detector.noise_rate_ == detector.predict_proba(losses)[:, 1].mean()
    assert detector.score(losses) == pytest.approx(detector.lower_bound_, rel=1e-9, abs=1e-9)
    assert detector.means_[0] <= detector.means_[1] * (1.0 + 1e-9)  # equal up to rounding


@given(losses=loss_vectors, seed=st.integers(0, 1000))
def test_order_of_the_losses_does_not_matter(losses, seed):
    detector = BetaMixtureNoiseDetector(tol=0.0)  # rounding may move the stop by one iteration
    order = np.random.default_rng(seed).permutation(len(losses))
    straight = detector.fit(losses).predict_proba(losses)[order]
    shuffled = detector.fit(losses[order]).predict_proba(losses[order])
    np.testing.assert_allclose(shuffled, straight, atol=1e-6)


@given(losses=loss_vectors, power=st.integers(-30, 30))
def test_any_other_loss_has_no_scale(losses, power):
    detector = BetaMixtureNoiseDetector(loss_scale="any")
    before = detector.fit(losses).predict_proba(losses)
    after = detector.fit(losses * 2.0**power).predict_proba(losses * 2.0**power)
    np.testing.assert_array_equal(after, before)


def test_cross_entropy_has_a_scale():
    detector = BetaMixtureNoiseDetector()
    losses = DATA["one group"]
    assert detector.fit(losses).noise_rate_ != detector.fit(losses / 4.0).noise_rate_


@pytest.mark.parametrize("scale", SCALES)
def test_fit_starts_afresh(scale):
    once = BetaMixtureNoiseDetector(loss_scale=scale).fit(DATA["overlapping"])
    twice = BetaMixtureNoiseDetector(loss_scale=scale).fit(DATA["two groups"])
    twice.fit(DATA["overlapping"])
    for name, value in vars(once).items():
        np.testing.assert_array_equal(getattr(twice, name), value, err_msg=name)


@given(st.lists(st.floats(0.0, 40.0), min_size=10, max_size=60).filter(lambda x: min(x) < max(x)))
def test_the_wrong_component_is_the_higher_one(losses):
    detector = BetaMixtureNoiseDetector().fit(losses)
    assert detector.means_[0] <= detector.means_[1] * (1.0 + 1e-9)


@pytest.mark.parametrize("seed", range(20))
def test_memorised_losses_are_never_taken_for_wrong_ones(seed):
    """All of them are clipped to one value, so that only rounding orders the components."""
    losses = np.random.default_rng(seed).gamma(1.0, 1e-6, 300)
    assert BetaMixtureNoiseDetector().fit(losses).noise_rate_ < 0.01


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", ["two groups", "overlapping", "mostly wrong"])
def test_density_integrates_to_one_on_the_scale_of_the_losses(name, scale):
    detector = BetaMixtureNoiseDetector(loss_scale=scale).fit(DATA[name])
    values = 1e-4 + (1.0 - 2e-4) * np.sin(np.linspace(0.0, np.pi / 2.0, 20_001)) ** 2
    grid = detector.scaling_.losses_at(values)  # dense at both ends, where it may be steep
    mass = integrate.trapezoid(np.exp(detector.score_samples(grid)), grid)
    shapes = detector.alphas_, detector.betas_
    inside = stats.beta.cdf(1.0 - 1e-4, *shapes) - stats.beta.cdf(1e-4, *shapes)
    assert mass == pytest.approx(detector.weights_ @ inside, abs=1e-3)
    assert mass == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize(("max_iter", "tol", "converged"), [(2, 1e-12, False), (50, 1e-2, True)])
def test_both_ends_of_em_are_regular(max_iter, tol, converged):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        detector = BetaMixtureNoiseDetector(max_iter=max_iter, tol=tol).fit(DATA["overlapping"])
    assert detector.converged_ is converged
    assert (detector.n_iter_ < max_iter) is converged


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("rate", [0.1, 0.3, 0.6])
def test_two_drawn_populations_are_told_apart(rate, scale):
    rng = np.random.default_rng(0)
    wrong = np.arange(3000) < 3000 * rate
    losses = np.where(wrong, rng.normal(4.0, 0.7, 3000), rng.gamma(1.0, 0.2, 3000))
    detector = BetaMixtureNoiseDetector(loss_scale=scale).fit(losses)
    assert (detector.predict(losses) == wrong).mean() > 0.97
    assert detector.noise_rate_ == pytest.approx(rate, abs=0.03)
