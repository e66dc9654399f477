"""Cross-entropy losses so high that they hardly are."""

import numpy as np
import pytest

from lossnoise import BetaMixtureNoiseDetector, LossHistogram
from lossnoise.exceptions import LossScaleWarning

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
