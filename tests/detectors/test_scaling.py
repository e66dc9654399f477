"""The maps to the normalised scale: values, inverses, slopes."""

import numpy as np
import pytest

from lossnoise import BetaMixtureNoiseDetector
from lossnoise.detectors._scaling import EDGE, CrossEntropyScaling, PercentileScaling

SCALINGS = [CrossEntropyScaling(), CrossEntropyScaling(1.0), PercentileScaling(-1.0, 3.0)]
INSIDE = np.linspace(0.01, 0.99, 50)


def test_cross_entropy_becomes_one_minus_the_root_of_the_probability():
    proba = np.array([0.81, 0.25, 0.01])
    np.testing.assert_allclose(CrossEntropyScaling(2.0).normalise(-np.log(proba)), [0.1, 0.5, 0.9])
    np.testing.assert_allclose(CrossEntropyScaling(1.0).normalise(-np.log(proba)), 1.0 - proba)


def test_percentiles_become_the_ends():
    scaling = PercentileScaling.fit(np.arange(101.0), np.array([10.0, 90.0]))
    assert scaling == PercentileScaling(10.0, 90.0)
    np.testing.assert_allclose(scaling.normalise(np.array([30.0, 50.0, 70.0])), [0.25, 0.5, 0.75])


def test_percentiles_that_coincide_give_way_to_the_ends():
    losses = np.append(np.full(99, 2.0), 6.0)
    assert PercentileScaling.fit(losses, np.array([2.0, 2.0])) == PercentileScaling(2.0, 6.0)
    detector = BetaMixtureNoiseDetector(loss_scale="any", percentiles=(0, 90)).fit(losses)
    assert detector.predict(losses).tolist() == [0] * 99 + [1]


@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize("loss", [-np.finfo(float).max / 4, -1e3, 0.0, 1e3, 1e30])
def test_values_stay_inside_the_open_interval(scaling, loss):
    with np.errstate(over="ignore"):  # of exp, for a loss that no cross-entropy has
        assert EDGE <= scaling.normalise(np.array([loss]))[0] <= 1.0 - EDGE


@pytest.mark.parametrize("scaling", SCALINGS)
def test_losses_at_is_the_inverse(scaling):
    np.testing.assert_allclose(scaling.normalise(scaling.losses_at(INSIDE)), INSIDE, rtol=1e-12)


@pytest.mark.parametrize("scaling", SCALINGS)
def test_log_slope_is_the_derivative(scaling):
    losses, step = scaling.losses_at(INSIDE), 1e-6
    slope = (scaling.normalise(losses + step) - scaling.normalise(losses - step)) / (2.0 * step)
    np.testing.assert_allclose(scaling.log_slope(INSIDE), np.log(slope), atol=1e-6)
