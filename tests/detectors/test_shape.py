"""Has a mixture found the two populations that the losses show, or two others?"""

import numpy as np
import pytest

from lossnoise import (
    BetaMixtureNoiseDetector,
    GaussianMixtureNoiseDetector,
    LossHistogram,
    audit,
)
from lossnoise.detectors._interval import rate_interval
from lossnoise.detectors._log_concave import log_concave_fit
from lossnoise.detectors._separability import Shape
from lossnoise.exceptions import NoSeparableNoiseWarning

N = 5000
RIGHT = {  # losses that are no betas on the scale of the mixture
    "3 Beta(2, 8)": lambda rng, n: 3.0 * rng.beta(2.0, 8.0, n),
    "2 Beta(2, 5)": lambda rng, n: 2.0 * rng.beta(2.0, 5.0, n),
    "half-normal": lambda rng, n: np.abs(rng.normal(0.0, 0.5, n)),
    "normal": lambda rng, n: np.abs(rng.normal(0.6, 0.15, n)),
}
WRONG = {
    "normal": lambda rng, n: np.abs(rng.normal(2.5, 0.5, n)),
    "uniform": lambda rng, n: rng.uniform(2.0, 6.0, n),
}
OTHERS = "they look like two populations, but not the two that the mixture found"


def mixed(right, wrong, rate, seed):
    rng = np.random.default_rng(seed)
    few = round(rate * N)
    return np.concatenate([RIGHT[right](rng, N - few), WRONG[wrong](rng, few)])


@pytest.mark.filterwarnings("ignore::lossnoise.exceptions.LossScaleWarning")  # few are sure
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("rate", [0.03, 0.06, 0.09, 0.3])
@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("right", RIGHT)
def test_few_wrong_labels_are_found_whatever_the_shape_of_the_right_ones(right, wrong, rate, seed):
    """Of the most likely mixture a component may be a part of the right ones instead."""
    detector = BetaMixtureNoiseDetector().fit(mixed(right, wrong, rate, seed))
    assert detector.separable_
    assert detector.noise_rate_ == pytest.approx(rate, abs=0.05)
    assert detector.predict([0.3, 3.5]).tolist() == [0, 1]


def test_an_interval_is_of_the_mixture_that_was_found():
    """Its bootstrap samples would else be divided as the most likely mixture divides them."""
    detector = BetaMixtureNoiseDetector().fit(mixed("2 Beta(2, 5)", "normal", 0.03, 0))
    low, high = rate_interval(detector._sample_fit._replace(probabilities=False), detector._family)
    assert low < 0.03 < high < 0.1
    assert high < detector.noise_rate_interval_[1]  # the model doubts more of the labels
    assert detector.threshold_for(recall=0.5).threshold > 1.5


@pytest.mark.parametrize("wrong", WRONG)
def test_a_family_that_does_not_find_them_claims_nothing(wrong):
    losses = mixed("3 Beta(2, 8)", wrong, 0.03, 1)
    with pytest.warns(NoSeparableNoiseWarning, match=OTHERS):
        detector = GaussianMixtureNoiseDetector().fit(losses)
    assert detector.separable_ is False
    assert detector.noise_rate_ == 0.0
    assert detector.noise_rate_interval_[1] > 0.03
    with pytest.warns(NoSeparableNoiseWarning, match=OTHERS):
        GaussianMixtureNoiseDetector().fit_histogram(LossHistogram().fill(losses))


def test_an_audit_says_so():
    losses = mixed("3 Beta(2, 8)", "normal", 0.03, 1)
    with pytest.warns(NoSeparableNoiseWarning, match=OTHERS):
        report = audit(np.arange(N) % 5, losses=losses, detector="gaussian")
    assert OTHERS in report.summary["verdict"]
    assert report.summary["num_issues"] == 0


@pytest.mark.parametrize("scale", ["cross-entropy", "any"])
@pytest.mark.parametrize("size", [1000, 20_000])
def test_right_labels_of_two_kinds_are_no_other_two_populations(size, scale):
    """Easy and hard classes: dividing them gains more than dividing few wrong labels off."""
    rng = np.random.default_rng(1)
    few = round(0.03 * size)
    easy, hard = rng.exponential(0.02, size // 2), rng.gamma(4.0, 0.15, size // 2 - few)
    losses = np.concatenate([easy, hard, rng.normal(5.0, 0.8, few)])
    detector = BetaMixtureNoiseDetector(loss_scale=scale).fit(losses)
    assert detector.noise_rate_ == pytest.approx(0.03, abs=0.01)


def test_nor_are_the_classes_of_one_fit_by_groups():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(5), 1000)
    one = [np.append(rng.exponential(0.02, 900), rng.normal(4.0, 0.8, 100)) for _ in range(4)]
    losses = np.concatenate([*one, rng.gamma(4.0, 0.2, 1000)])
    detector = BetaMixtureNoiseDetector().fit(losses, groups=groups)
    assert detector.noise_rate_ == pytest.approx(0.08, abs=0.01)


@pytest.mark.parametrize("scale", ["cross-entropy", "any"])
def test_right_losses_too_low_to_have_a_shape_are_right_all_the_same(scale):
    rng = np.random.default_rng(0)
    for right in (rng.exponential(1e-5, 500), rng.lognormal(-10.0, 2.0, 500)):
        losses = np.append(right, rng.normal(4.0, 0.5, 700))
        detector = BetaMixtureNoiseDetector(loss_scale=scale).fit(losses)
        assert detector.noise_rate_ == pytest.approx(7 / 12, abs=0.02)
        counted = BetaMixtureNoiseDetector(loss_scale=scale)
        counted.fit_histogram(LossHistogram().fill(losses))
        assert counted.noise_rate_ == pytest.approx(7 / 12, abs=0.02)


def slow_gain(counts, upper):
    """The gain of a division by plain formulae, with the fit as given."""
    fits = [log_concave_fit(mass).probabilities for mass in (counts * (1 - upper), counts * upper)]
    share = (counts @ upper) / counts.sum()
    both = (1 - share) * fits[0] + share * fits[1]
    return counts @ (np.log(both) - np.log(log_concave_fit(counts).probabilities))


@pytest.fixture
def two_heaps():
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(12.0, 4.0, 1900), rng.normal(34.0, 4.0, 100)])
    counts = np.histogram(values, 48, (0.0, 48.0))[0] + 0.1
    alone = counts @ np.log(log_concave_fit(counts).probabilities)
    return Shape(counts, np.arange(48.0), False, alone, 12.0)


CELLS = np.arange(48.0)
INSIDE = 16.0


@pytest.mark.parametrize("middle", [12.0, 18.0, 24.0])
def test_the_gain_of_a_division_is_nearly_that_of_exact_fits(two_heaps, middle):
    upper = 1.0 / (1.0 + np.exp(middle - CELLS))
    expected = slow_gain(two_heaps.counts, upper)
    assert two_heaps.gain(upper) == pytest.approx(expected, abs=0.05 * abs(expected) + 3.0)


def test_the_division_has_to_be_that_of_the_two_heaps(two_heaps):
    between = (CELLS > 23.0).astype(float)
    assert two_heaps.is_shown_by(between)
    assert two_heaps.is_best_shown_by(between)
    gain = two_heaps.gain(between)
    inside = (CELLS > INSIDE).astype(float)  # some right ones too
    assert 6.0 < two_heaps.gain(inside) < gain / 2.0
    assert two_heaps.is_shown_by(inside)
    assert not two_heaps.is_best_shown_by(inside)
    assert not two_heaps.is_shown_by((CELLS > 10.0).astype(float))
    assert not two_heaps.is_shown_by(np.zeros(48))


def test_the_steps_of_votes_are_no_other_populations(two_heaps):
    inside = (CELLS > INSIDE).astype(float)
    assert two_heaps._replace(are_votes=True).is_best_shown_by(inside)
    rng = np.random.default_rng(0)
    votes = np.concatenate([rng.binomial(15, 0.9, 1000), rng.binomial(15, 0.1, 600)]) / 15
    detector = BetaMixtureNoiseDetector().fit(-np.log(np.maximum(votes, 1e-12)))
    assert detector.noise_rate_ == pytest.approx(0.375, abs=0.03)
