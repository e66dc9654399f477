"""Cross-entropy losses so high that they hardly are."""

import warnings

import numpy as np
import pytest

from lossnoise import BetaMixtureNoiseDetector, LossHistogram
from lossnoise.exceptions import LossScaleWarning, NoSeparableNoiseWarning

RNG = np.random.default_rng(0)
LOSSES = np.concatenate([RNG.gamma(1.0, 0.2, 700), RNG.normal(4.0, 0.8, 300)])


@pytest.mark.parametrize("tokens", [10, 20])
def test_sums_over_tokens_are_asked_about(tokens):
    with pytest.warns(LossScaleWarning, match="of the losses are above 27.6, a prob"):
        BetaMixtureNoiseDetector().fit(tokens * LOSSES)
    with pytest.warns(LossScaleWarning, match="Of sums over tokens or pixels, pass the mean"):
        BetaMixtureNoiseDetector().fit_histogram(LossHistogram().fill(tokens * LOSSES))
    BetaMixtureNoiseDetector(loss_scale="any").fit(tokens * LOSSES)


@pytest.mark.parametrize("clip", [1e-12, 2.3e-16])
def test_clipped_zeros_are_not(clip):
    """Where a forest gives no vote to a tenth of the given labels."""
    losses = LOSSES.copy()
    losses[-100:] = -np.log(clip)
    BetaMixtureNoiseDetector().fit(losses)  # warnings are errors here


@pytest.mark.parametrize("histogram", [False, True])
def test_shares_up_to_1_are_told(histogram):
    """1 - p of given labels, or probabilities of a class that is rare: most are low."""
    rng = np.random.default_rng(0)
    shares = np.r_[rng.beta(1.0, 20.0, 1800), rng.beta(20.0, 1.0, 200)]
    detector = BetaMixtureNoiseDetector()
    with pytest.warns(LossScaleWarning, match="^No loss is above 1, and many lie close below it"):
        detector.fit_histogram(LossHistogram().fill(shares)) if histogram else detector.fit(shares)
    detector.fit(-np.log1p(-np.clip(shares, 0.0, 0.999)))


def test_losses_that_happen_to_end_near_1_are_not_told():
    rng = np.random.default_rng(0)
    BetaMixtureNoiseDetector(loss_scale="any").fit(np.clip(rng.gamma(1.0, 0.3, 2000), 0.0, 1.0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NoSeparableNoiseWarning)
        BetaMixtureNoiseDetector().fit(np.minimum(rng.gamma(1.0, 0.15, 2000), 0.999))
