"""The maps to the normalised scale: values, inverses, slopes."""

import numpy as np
import pytest

from lossnoise import BetaMixtureNoiseDetector
from lossnoise.detectors._scaling import CEILING, CrossEntropyScaling, PercentileScaling
from lossnoise.exceptions import NoSeparableNoiseWarning

SCALINGS = [CrossEntropyScaling(2.5), CrossEntropyScaling(1.0), PercentileScaling(-1.0, 3.0)]
INSIDE = np.linspace(0.01, 0.99, 50)


def fit(losses, weights=None):
    values = np.sort(np.asarray(losses, dtype=float))
    return CrossEntropyScaling.fit(
        2.5, values, np.ones(len(values)) if weights is None else weights
    )


def test_cross_entropy_becomes_one_minus_the_root_of_the_probability():
    proba = np.array([0.81, 0.25, 0.01])
    np.testing.assert_allclose(CrossEntropyScaling(2.0).normalise(-np.log(proba)), [0.1, 0.5, 0.9])
    np.testing.assert_allclose(CrossEntropyScaling(1.0).normalise(-np.log(proba)), 1.0 - proba)


@pytest.mark.parametrize("loss", [0.5, np.float64(0.5), np.array(0.5), np.float32(0.5)])
def test_a_single_loss_is_normalised_too(loss):
    assert CrossEntropyScaling(1.0).normalise(loss) == pytest.approx(1.0 - np.exp(-0.5))
    assert loss == 0.5


def test_losses_above_the_resolution_of_float32_are_all_the_same():
    assert pytest.approx(-np.log(np.finfo(np.float32).eps), abs=0.1) == CEILING
    assert np.ptp(CrossEntropyScaling(2.5).normalise(np.array([CEILING, 20.0, 1e30]))) == 0.0


@pytest.mark.parametrize("temperature", [1.0, 2.5, 8.0])
def test_single_precision_never_turns_the_order_of_two_losses(temperature):
    scaling = CrossEntropyScaling(temperature)
    losses = np.arange(0.0, CEILING, 2.0**-17).astype(np.float32)  # all that it tells apart
    values = scaling.normalise(losses, out=np.empty_like(losses))
    assert (np.diff(values) >= 0.0).all()
    np.testing.assert_allclose(values, scaling.normalise(losses), atol=2e-7)
    between = np.nextafter(losses, np.float32(np.inf))
    assert np.isin(scaling.normalise(between, out=np.empty_like(losses)), values).all()


def test_what_lies_far_above_moves_next_to_the_other_losses():
    others = np.linspace(0.0, 3.0, 999)
    assert fit([*others, 27.6]).ceiling == 4.0
    assert fit([*others, *np.full(500, 27.6)]).ceiling == 4.0  # probabilities of 0, clipped
    assert fit([*others, 6.1, 9.0, 12.0]).ceiling == 4.0  # a few, and not one value
    assert fit([*others, 5.9, 9.0, 12.0]).ceiling == CEILING  # a tail
    assert fit([*others, *np.linspace(9.0, 12.0, 50)]).ceiling == CEILING  # a population
    assert fit([*others, *np.linspace(9.0, 10.0, 50), 27.6]).ceiling == 11.0
    assert fit([0.0, 3.0, 27.6], np.array([5.0, 900.0, 95.0])).ceiling == 4.0


def test_losses_without_a_gap_at_the_top_keep_the_ceiling():
    assert fit(np.full(10, 3.0)).ceiling == CEILING  # all equal
    assert fit(np.linspace(0.0, 3.0, 99)).ceiling == CEILING
    assert fit([*np.linspace(0.0, 15.5, 99), 27.6]).ceiling == CEILING
    assert fit([0.0]).ceiling == CEILING


@pytest.mark.parametrize("top", [27.631, 40.0])
@pytest.mark.parametrize("few", [1, 2, 3, 4, 8])
def test_a_few_losses_far_above_do_not_hide_the_other_wrong_labels(few, top):
    rng = np.random.default_rng(0)
    wrong = np.arange(1000) >= 700
    losses = np.where(wrong, np.abs(rng.normal(1.5, 0.3, 1000)), rng.gamma(1.0, 0.25, 1000))
    losses[-few:] = top
    detector = BetaMixtureNoiseDetector().fit(losses)
    assert detector.noise_rate_ == pytest.approx(0.3, abs=0.05)
    assert detector.predict(losses)[wrong].mean() > 0.85


def test_percentiles_become_the_ends():
    scaling = PercentileScaling.fit(np.arange(101.0), np.array([10.0, 90.0]))
    assert scaling == PercentileScaling(10.0, 90.0)
    np.testing.assert_allclose(scaling.normalise(np.array([30.0, 50.0, 70.0])), [0.25, 0.5, 0.75])


def test_percentiles_that_coincide_give_way_to_the_ends():
    losses = np.append(np.full(99, 2.0), 6.0)
    assert PercentileScaling.fit(losses, np.array([2.0, 2.0])) == PercentileScaling(2.0, 6.0)
    detector = BetaMixtureNoiseDetector(loss_scale="any", percentiles=(0, 90))
    with pytest.warns(NoSeparableNoiseWarning):  # one outlier is no population
        detector.fit(losses)
    assert (detector.posterior(losses) > 0.5).tolist() == [False] * 99 + [True]


@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize("loss", [0.0, 1e3, 1e30, np.finfo(float).max / 4])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_values_stay_inside_the_scale(scaling, loss, dtype):
    with np.errstate(over="ignore"):  # in float32 the largest is inf
        values = scaling.normalise(np.array([loss], dtype=dtype))
    assert values.dtype == np.float64
    assert 0.0 <= values[0] <= 1.0


@pytest.mark.parametrize("scaling", SCALINGS)
def test_losses_at_is_the_inverse(scaling):
    np.testing.assert_allclose(scaling.normalise(scaling.losses_at(INSIDE)), INSIDE, rtol=1e-12)


@pytest.mark.parametrize("scaling", SCALINGS)
def test_log_slope_is_the_derivative(scaling):
    losses, step = scaling.losses_at(INSIDE), 1e-6
    slope = (scaling.normalise(losses + step) - scaling.normalise(losses - step)) / (2.0 * step)
    np.testing.assert_allclose(scaling.log_slope(INSIDE), np.log(slope), atol=1e-6)
