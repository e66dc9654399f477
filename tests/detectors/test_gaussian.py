"""The Gaussian mixture: its pieces by hand, and the whole against scikit-learn's EM."""

import numpy as np
import pytest
from scipy import integrate, stats
from sklearn.mixture import GaussianMixture

from lossnoise import GaussianMixtureNoiseDetector
from lossnoise.detectors._gaussian import (
    GaussianFamily,
    gaussian_log_density,
    gaussian_moments,
    gaussian_rising_range,
)
from lossnoise.detectors._mixture import Mixture, log_joint, two_component_proba


def test_log_density_is_scipys():
    values = np.array([0.0, 0.3, 1.0])
    params = np.array([[0.2, 0.05], [0.7, 0.3]])
    expected = [stats.norm.logpdf(values, mean, deviation) for mean, deviation in params]
    np.testing.assert_allclose(gaussian_log_density(values, params), expected, rtol=1e-12)


def test_moments_by_hand():
    # Row 1: mean 1/2, variance 1/24. Row 2: mean .4, variance .02.
    values = np.array([0.25, 0.5, 0.75, 0.3, 0.6])
    mass = np.array([[1 / 3, 1 / 3, 1 / 3, 0.0, 0.0], [0.0, 0.0, 0.0, 2 / 3, 1 / 3]])
    expected = [[0.5, np.sqrt(1 / 24)], [0.4, np.sqrt(0.02)]]
    np.testing.assert_allclose(gaussian_moments(values, mass, np.ones((2, 2))), expected)


def test_a_heap_has_a_least_width_and_an_empty_one_stays():
    values = np.full(3, 0.2)
    mass = np.array([np.full(3, 1 / 3), np.zeros(3)])
    moments = gaussian_moments(values, mass, np.array([[0.5, 0.5], [0.7, 0.1]]))
    np.testing.assert_allclose(moments, [[0.2, 0.03], [0.7, 0.1]])


@pytest.mark.parametrize(
    ("right", "wrong"),
    [((0.2, 0.05), (0.6, 0.2)), ((0.3, 0.2), (0.6, 0.1)), ((0.2, 0.1), (0.6, 0.1))],
)
def test_the_log_odds_rise_just_where_they_should(right, wrong):
    x = np.linspace(-0.5, 1.5, 2001)
    log_odds = stats.norm.logpdf(x, *wrong) - stats.norm.logpdf(x, *right)
    low, high = gaussian_rising_range(np.array([right, wrong]))
    rising = np.diff(log_odds) > 0.0
    middle = (x[1:] + x[:-1]) / 2.0
    inside = (middle > low) & (middle < high)
    if right[1] == wrong[1]:
        assert rising.all()
    else:
        outside_scale = (middle < 0.0) | (middle > 1.0)  # where only 0 or 1 bounds the range
        assert (rising == inside)[~outside_scale].all()


def test_the_posterior_never_falls():
    mixture = Mixture(np.array([0.7, 0.3]), np.array([[0.3, 0.2], [0.6, 0.1]]))
    values, family = np.linspace(1e-4, 1.0 - 1e-4, 500), GaussianFamily()
    components = log_joint(values, mixture, family).components
    proba = two_component_proba(values, components, mixture, family)
    assert (np.diff(proba) >= -1e-15).all()


def test_the_density_is_that_of_losses_on_the_scale():
    """A normal distribution has values below 0 too, which no loss has."""
    rng = np.random.default_rng(0)
    losses = np.concatenate([rng.gamma(1.0, 0.2, 700), np.abs(rng.normal(5.0, 1.5, 300))])
    detector = GaussianMixtureNoiseDetector().fit(losses)
    params = np.column_stack([detector.locations_, detector.deviations_])
    cut = [stats.norm(*row).cdf(1.0) - stats.norm(*row).cdf(0.0) for row in params]
    np.testing.assert_allclose(GaussianFamily.inside(params), cut, rtol=1e-12)
    assert min(cut) < 0.9
    grid = np.linspace(0.0, 15.0, 100_001)
    mass = integrate.trapezoid(np.exp(detector.score_samples(grid)), grid)
    assert mass == pytest.approx(1.0, abs=0.03)


def test_finds_the_parameters_that_scikit_learn_finds():
    """Without hard examples, on well separated heaps, where monotonicity changes nothing."""
    rng = np.random.default_rng(0)
    losses = np.concatenate([rng.normal(1.0, 0.2, 1400), rng.normal(4.0, 0.3, 600)])
    detector = GaussianMixtureNoiseDetector(
        loss_scale="any", percentiles=(0, 100), hard_fraction=0.0, tol=1e-10, max_iter=200
    ).fit(losses)
    x = detector.scaling_.normalise(losses)
    other = GaussianMixture(2, means_init=[[0.2], [0.8]], tol=1e-8, reg_covar=0.0).fit(x[:, None])
    order = other.means_[:, 0].argsort()
    np.testing.assert_allclose(detector.weights_, other.weights_[order], atol=1e-4)
    np.testing.assert_allclose(detector.locations_, other.means_[order, 0], atol=1e-4)
    deviations = np.sqrt(other.covariances_[order, 0, 0])
    np.testing.assert_allclose(detector.deviations_, deviations, atol=1e-3)
