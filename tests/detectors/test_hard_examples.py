"""How many right labels are hard for a model is not known: what is said spans the usual share."""

import numpy as np
import pytest

from lossnoise import BetaMixtureNoiseDetector
from lossnoise.detectors import GaussianMixtureNoiseDetector

DETECTORS = [BetaMixtureNoiseDetector, GaussianMixtureNoiseDetector]


@pytest.fixture
def losses():
    """Return losses of right labels, of hard ones among them, and of wrong ones."""
    rng = np.random.default_rng(0)
    right, wrong = rng.gamma(1.0, 0.1, 900), rng.normal(5.0, 0.7, 60)
    return np.concatenate([right, rng.uniform(0.5, 7.0, 40), wrong])


@pytest.mark.parametrize("kind", DETECTORS)
@pytest.mark.parametrize(("hard", "cautious"), [(0.0, 0.045), (0.02, 0.04), (0.045, 0.09)])
def test_a_cautious_posterior_supposes_more_hard_examples(kind, hard, cautious, losses):
    found = kind(hard_fraction=hard).fit(losses).posterior(losses, cautious=True)
    expected = kind(hard_fraction=cautious).fit(losses).posterior(losses)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("kind", DETECTORS)
@pytest.mark.parametrize("hard", [0.0, 0.02])
def test_the_interval_spans_the_rates_without_and_with_more_of_them(kind, hard, losses):
    detector = kind(hard_fraction=hard).fit(losses)
    low, high = detector.noise_rate_interval_
    for other in (0.0, hard, 2.0 * hard or 0.045):
        assert low <= kind(hard_fraction=other).fit(losses).noise_rate_ <= high


def test_a_precision_is_one_that_usual_hard_examples_leave(losses):
    bold = BetaMixtureNoiseDetector(hard_fraction=0.0).fit(losses)
    usual = BetaMixtureNoiseDetector().fit(losses).posterior(losses)
    lower = np.minimum(bold.predict_proba(losses)[:, 1], usual)
    cut = bold.threshold_for(precision=0.7).threshold
    descending = np.sort(losses)[::-1]
    means = [lower[losses >= loss].mean() for loss in descending]
    assert cut == pytest.approx(descending[np.flatnonzero(np.array(means) >= 0.7)[-1]])
