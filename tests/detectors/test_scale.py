"""Cross-entropy losses so high that they hardly are."""

import numpy as np
import pytest
from scipy.special import expit, logit

from lossnoise import BetaMixtureNoiseDetector, LossHistogram
from lossnoise.exceptions import LossScaleWarning, NoSeparableNoiseWarning

RNG = np.random.default_rng(0)
LOSSES = np.concatenate([RNG.gamma(1.0, 0.2, 700), RNG.normal(4.0, 0.8, 300)])


@pytest.mark.parametrize("tokens", [10, 20])
@pytest.mark.filterwarnings("ignore::lossnoise.exceptions.NoSeparableNoiseWarning")  # of 20
def test_sums_over_tokens_are_asked_about(tokens):
    with pytest.warns(LossScaleWarning, match="of the losses are above 27.6, a prob"):
        BetaMixtureNoiseDetector().fit(tokens * LOSSES)
    with pytest.warns(LossScaleWarning, match="Of sums over tokens or pixels, pass each of them"):
        BetaMixtureNoiseDetector().fit_histogram(LossHistogram().fill(tokens * LOSSES))
    BetaMixtureNoiseDetector(loss_scale="any").fit(tokens * LOSSES)


@pytest.mark.parametrize("clip", [1e-12, 2.3e-16])
def test_clipped_zeros_are_not(clip):
    """Where a forest gives no vote to a tenth of the given labels."""
    losses = LOSSES.copy()
    losses[-100:] = -np.log(clip)
    BetaMixtureNoiseDetector().fit(losses)  # warnings are errors here


# -- losses that hold more than cross-entropy, or less -------------------------------------------


def smoothed(size, noise, seed=0):
    """Return losses of a model of ten classes with label smoothing of .1, and its probabilities."""
    rng = np.random.default_rng(seed)
    own = 1.0 - 0.5 * rng.beta(1.0, 6.0, size)  # of the class that the model chooses
    wrong = rng.random(size) < noise
    given = np.where(wrong, (1.0 - own) / 9.0, own)
    mean = -(np.log(own) + 9.0 * np.log((1.0 - own) / 9.0)) / 10.0
    return -0.9 * np.log(given) + 0.1 * mean


def test_label_smoothing_is_asked_about():
    losses = smoothed(5000, 0.1)
    with pytest.warns(LossScaleWarning, match=r"99 % of the losses are above 0\.\d+, which is"):
        BetaMixtureNoiseDetector().fit(losses)
    with pytest.warns(LossScaleWarning, match="label smoothing or a regulariser"):
        BetaMixtureNoiseDetector().fit_histogram(LossHistogram().fill(losses))


def test_label_smoothing_is_asked_about_where_the_rate_would_explain_it():
    """Of losses that begin at .5 and crowd there a mixture may take the upper part for wrong."""
    losses = 0.5 + np.random.default_rng(5).lognormal(-2.3, 1.2, 5000)
    with pytest.warns(LossScaleWarning, match="the lowest of them crowd there, which wrong labels"):
        detector = BetaMixtureNoiseDetector().fit(losses)
    assert detector.noise_rate_ > 0.2  # and none is wrong
    with pytest.warns(LossScaleWarning, match="crowd there"):
        BetaMixtureNoiseDetector().fit_histogram(LossHistogram().fill(losses))


def test_perplexities_are_asked_about():
    with pytest.warns(LossScaleWarning, match="perplexities .pass their logarithm"):
        BetaMixtureNoiseDetector().fit(np.exp(0.5 * LOSSES))
    with pytest.warns(LossScaleWarning) as told:
        BetaMixtureNoiseDetector().fit(np.exp(LOSSES))
    assert any("; of perplexities, pass the logarithm" in str(one.message) for one in told)


@pytest.mark.parametrize("noise", [0.2, 0.4, 0.6])
def test_a_model_that_noise_keeps_from_being_sure_is_not(noise):
    """It gives right labels 1 - noise or so, less where they are hard, and all others the same."""
    rng = np.random.default_rng(1)
    sure = expit(logit(1.0 - noise) + rng.normal(0.0, 0.3, 5000) - 2.0 * rng.beta(1.0, 9.0, 5000))
    given = np.where(rng.random(5000) < noise, (1.0 - sure) / 9.0, sure)
    detector = BetaMixtureNoiseDetector().fit(-np.log(given))  # warnings are errors here
    assert detector.noise_rate_ == pytest.approx(noise, abs=0.05)


@pytest.mark.parametrize("highest", [2.0, 4.0])
def test_clipped_losses_are_asked_about(highest):
    message = f"of the losses are the highest, {highest:.4g}, and few others are equal"
    with pytest.warns(LossScaleWarning, match=message):
        BetaMixtureNoiseDetector().fit(np.minimum(LOSSES, highest))
    BetaMixtureNoiseDetector(loss_scale="any").fit(np.minimum(LOSSES, highest))


def test_many_clipped_losses_are_asked_about():
    losses = np.random.default_rng(2).permutation(np.tile(LOSSES, 200))
    losses += np.random.default_rng(3).random(len(losses)) * 1e-3
    with pytest.warns(LossScaleWarning, match="they look clipped"):
        BetaMixtureNoiseDetector().fit(np.minimum(losses, 4.0))


def test_votes_that_agree_are_not_clipped():
    """The highest loss of a forest is that of many samples, and so are those below it."""
    votes = np.random.default_rng(4).integers(1, 20, 400) / 20.0
    BetaMixtureNoiseDetector().fit(np.concatenate([LOSSES[:700], -np.log(votes / 10.0)]))


# -- other losses ---------------------------------------------------------------------------------


def errors(wrong=0.1, seed=5):
    rng = np.random.default_rng(seed)
    scale = np.where(rng.random(2000) < wrong, 5.0, 1.0)
    return scale * rng.normal(size=2000)


def test_errors_with_a_sign_are_asked_about():
    detector = BetaMixtureNoiseDetector(loss_scale="any")
    message = (
        "The losses are as far below 0 as above it, as signed errors are: of such, pass the size, "
        "np.abs of them. A loss is high where the label is suspicious."
    )
    for fit in (detector.fit, lambda e: detector.fit_histogram(LossHistogram().fill(e))):
        with pytest.warns(LossScaleWarning) as told:
            fit(errors())
        assert [str(one.message) for one in told if one.category is LossScaleWarning] == [message]


@pytest.mark.parametrize("scores", [-np.abs(errors()), -LOSSES])
@pytest.mark.filterwarnings("ignore:Cannot tell right from wrong")
def test_scores_of_which_higher_ones_are_better_are_asked_about(scores):
    with pytest.warns(LossScaleWarning, match="^No loss is above 0, and the lowest are far below"):
        BetaMixtureNoiseDetector(loss_scale="any").fit(scores)


@pytest.mark.parametrize(
    "losses",
    [
        np.abs(errors()),
        -np.exp(-LOSSES),  # the probability of the label with a minus sign
        1.0 - 2.0 * np.exp(-LOSSES),  # a margin
        np.log(LOSSES) - np.log(LOSSES).mean(),
        np.where(np.arange(2000) % 5 > 2, 2.0, -1.5) + errors(wrong=0.0),  # of scores
        LOSSES - 1.5,  # such as of densities, which may be above 1
        np.where(np.arange(2000) % 3 > 0, -0.1, -2.0) + 0.01 * errors(),  # two heaps, below 0
    ],
)
@pytest.mark.filterwarnings("ignore:Cannot tell right from wrong")
def test_losses_that_rise_with_the_suspicion_are_not(losses):
    BetaMixtureNoiseDetector(loss_scale="any").fit(losses)


def test_of_losses_on_no_known_scale_anything_may_go_unnoticed():
    with pytest.warns(NoSeparableNoiseWarning):
        detector = BetaMixtureNoiseDetector(loss_scale="any").fit(np.abs(errors(0.2)))
    assert detector.noise_rate_interval_ == (0.0, 1.0)


def test_zeros_clipped_far_above_other_losses_are_asked_about_on_any_scale():
    rng = np.random.default_rng(0)
    right, wrong, zeros = rng.gamma(1.0, 0.2, 3528), np.abs(rng.normal(4.0, 0.8, 400)), [27.6] * 72
    losses = np.concatenate([right, wrong, zeros])
    message = (
        r"^1.8% of the losses are the highest, 27.\d+, and no other is above 6.\d+: they press the "
        r"others together, .* use loss_scale='cross-entropy'; else bring them nearer"
    )
    with pytest.warns(LossScaleWarning, match=message):
        BetaMixtureNoiseDetector(loss_scale="any").fit(losses)
    with pytest.warns(LossScaleWarning, match=message):
        BetaMixtureNoiseDetector(loss_scale="any").fit_histogram(LossHistogram().fill(losses))
    for quiet in (np.minimum(losses, 6.6), np.append(right, zeros), np.append(right, wrong)):
        detector = BetaMixtureNoiseDetector(loss_scale="any").fit(quiet)  # warnings are errors here
        assert detector.noise_rate_ == pytest.approx(1.0 - len(right) / len(quiet), abs=0.03)
