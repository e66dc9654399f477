"""Do losses show two populations? Clean families, mixtures, and what lies below notice."""

import re

import numpy as np
import pytest

from lossnoise import BetaMixtureNoiseDetector, LossHistogram
from lossnoise.detectors._log_concave import log_concave_fit
from lossnoise.detectors._sample import LossSample
from lossnoise.detectors._separability import Shape, measure_separability, shows_two
from lossnoise.exceptions import NoSeparableNoiseWarning

SCALES = ["cross-entropy", "any"]
N = 2000

CLEAN = {
    "gamma, heavy": lambda rng: rng.gamma(0.5, 0.3, N),
    "gamma, light": lambda rng: rng.gamma(3.0, 0.5, N),
    "exponential": lambda rng: rng.exponential(1.0, N),
    "lognormal": lambda rng: rng.lognormal(0.0, 1.0, N),
    "lognormal, low": lambda rng: rng.lognormal(-3.0, 1.5, N),
    "uniform": lambda rng: rng.uniform(0.0, 1.0, N),
    "uniform, wide": lambda rng: rng.uniform(0.0, 6.0, N),
    "uniform, away from 0": lambda rng: rng.uniform(2.0, 3.0, N),
    "all wrong": lambda rng: np.abs(rng.normal(6.0, 1.5, N)),
    "memorised": lambda rng: rng.gamma(1.0, 1e-6, N),
}


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("name", CLEAN)
def test_one_population_is_no_evidence_of_wrong_labels(name, seed, scale):
    losses = CLEAN[name](np.random.default_rng(seed))
    with pytest.warns(NoSeparableNoiseWarning, match=r"^Cannot tell right from wrong labels"):
        detector = BetaMixtureNoiseDetector(loss_scale=scale).fit(losses)
    assert detector.separable_ is False
    assert detector.noise_rate_ == 0.0  # a lower bound
    low, high = detector.noise_rate_interval_
    assert 0.0 == low < high


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("rate", [0.03, 0.09, 0.18, 0.3, 0.5, 0.72])
@pytest.mark.parametrize("right", ["gamma", "exponential", "lognormal", "half-normal"])
def test_two_populations_that_hardly_overlap_are_told_apart(right, rate, scale):
    rng = np.random.default_rng(0)
    draw = {
        "gamma": lambda n: rng.gamma(0.5, 0.3, n),
        "exponential": lambda n: rng.exponential(0.1, n),
        "lognormal": lambda n: rng.lognormal(-3.0, 1.0, n),
        "half-normal": lambda n: np.abs(rng.normal(0.0, 0.3, n)),
    }[right]
    wrong = np.arange(N) < rate * N
    losses = np.where(wrong, rng.normal(4.5, 0.7, N), draw(N))
    detector = BetaMixtureNoiseDetector(loss_scale=scale).fit(losses)
    assert detector.separable_ is True
    assert detector.noise_rate_ == pytest.approx(wrong.mean(), abs=0.05)
    found = detector.predict(losses)
    assert (found == wrong).mean() >= 0.97
    assert found[wrong].mean() >= 0.8


@pytest.mark.parametrize("rate", [0.2, 0.49, 0.51, 0.8])
@pytest.mark.parametrize("right", ["tiny", "zero"])
@pytest.mark.filterwarnings("ignore::lossnoise.exceptions.LossScaleWarning")  # of 27.6
def test_right_labels_of_tiny_losses_are_told_apart_whatever_their_share(right, rate):
    """Also where the median is a wrong label: a tree's leaves are sure, and so is a large model."""
    rng = np.random.default_rng(0)
    wrong = np.arange(N) < rate * N
    tiny = rng.gamma(1.0, 1e-4, N) if right == "tiny" else np.zeros(N)
    high = rng.normal(5.0, 1.0, N) if right == "tiny" else 27.6
    detector = BetaMixtureNoiseDetector().fit(np.where(wrong, high, tiny))
    assert detector.separable_ is True
    assert detector.noise_rate_ == pytest.approx(rate, abs=0.03)


@pytest.mark.parametrize("size", [30, 200, 2000])
def test_wide_families_have_no_gap(size):
    """A part of the losses is too small to count, and the others go on from there."""
    rng = np.random.default_rng(0)
    for losses in (
        rng.lognormal(-3.0, 3.0, size),
        rng.gamma(0.2, 1.0, size),
        rng.weibull(0.3, size),
        rng.gamma(0.4, 1.0, size),
    ):
        assert not measure_separability(LossSample.of_losses(losses), 0.0, 1.0).separable


def slow_gain(counts, split, steps):
    """The same gain by plain formulae, with the fit as given."""

    def fitted(some):
        return log_concave_fit(some).probabilities

    cells = np.arange(len(counts))
    start = np.argmax(np.cumsum(counts) >= split * counts.sum())
    upper = 1.0 / (1.0 + np.exp(start - cells))
    gains = []
    for _ in range(steps):
        right = (counts * (1 - upper)).sum() * fitted(counts * (1 - upper))
        wrong = (counts * upper).sum() * fitted(counts * upper)
        density = (right + wrong) / counts.sum()
        gains.append((counts * (np.log(density) - np.log(fitted(counts)))).sum())
        upper = wrong / (right + wrong)
    return gains


def test_the_gain_is_that_of_two_log_concave_heaps_over_one():
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(10.0, 3.0, 900), rng.normal(28.0, 3.0, 100)])
    counts = np.histogram(values, 48, (0.0, 48.0))[0].astype(float)
    gains = [gain for split in (0.5, 0.8, 0.95) for gain in slow_gain(counts, split, 3)]
    alone = (counts * np.log(log_concave_fit(counts).probabilities)).sum()
    assert shows_two(Shape(counts, counts, False, alone, max(gains) * 0.999))
    assert not shows_two(Shape(counts, counts, False, alone, max(gains) * 1.001))


@pytest.mark.parametrize("name", ["gamma, light", "uniform", "lognormal"])
def test_one_population_gains_little(name):
    rng = np.random.default_rng(1)
    gained = [
        measure_separability(LossSample.of_losses(CLEAN[name](rng)), 0.0, 1.0).separable
        for _ in range(20)
    ]
    assert sum(gained) == 0


def test_what_would_have_been_noticed():
    losses = np.random.default_rng(0).gamma(2.0, 0.3, 2500)
    assert measure_separability(LossSample.of_losses(losses), 0.0, 1.0)[:2] == (False, 0.02)
    equal = LossSample.of_losses(np.full(50, 3.0))
    assert measure_separability(equal, 0.0, 1.0) == (False, 1.0, None)
    memorised = LossSample.of_losses(losses / 1e4)
    assert measure_separability(memorised, 0.0, 1.0) == (False, 1.0, None)


def test_two_heaps_of_memorised_losses_are_no_evidence():
    """Both are far below what a loss can tell: the one labels are as right as the others."""
    rng = np.random.default_rng(0)
    losses = np.concatenate([rng.gamma(9.0, 1e-7, 900), rng.gamma(9.0, 1e-5, 100)])
    with pytest.warns(NoSeparableNoiseWarning):
        detector = BetaMixtureNoiseDetector().fit(losses)
    assert detector.noise_rate_ <= 0.03
    assert not detector.predict(losses).any()


def test_weights_stand_for_repeated_losses():
    rng = np.random.default_rng(0)
    losses = np.concatenate([rng.gamma(1.0, 0.2, 700), rng.normal(4.0, 0.5, 300)])
    once = LossSample.of_losses(losses)
    thrice = LossSample.of_losses(np.repeat(losses, 3))
    weighted = once._replace(counts=np.full(1000, 3.0), weights=np.full(1000, 3.0))
    measured = [measure_separability(sample, 0.0, 1.0) for sample in (weighted, thrice)]
    assert measured[0][:2] == measured[1][:2]


def heaps(wrong, tail=()):
    """Return 1,000 right labels, 200 of another heap, and some losses by themselves."""
    rng = np.random.default_rng(0)
    right = rng.gamma(1.0, 0.05, 1000)
    return np.concatenate([right, rng.normal(wrong, 0.05, 200), np.asarray(tail)])


def test_labels_that_the_model_itself_would_give_are_no_evidence():
    """With more than half of the probability, as by one fold's model that is less sure."""
    tail = [1.1, 1.2, 1.3, 1.5]
    message = (
        "Cannot tell right from wrong labels from these losses: most of those that lie higher are "
        "below log 2, of labels that the model itself would give, which is no proof that the "
        "labels are right. noise_rate_ is a lower bound, and noise_rate_interval_ says what would "
        "have gone unnoticed. A model that is surer of right labels tells more. Of losses that are "
        "no cross-entropy, such as those that somebody normalised, use a detector with "
        "loss_scale='any' (--loss-scale any on the command line)."
    )
    with pytest.warns(NoSeparableNoiseWarning, match=f"^{re.escape(message)}$"):
        agreed = BetaMixtureNoiseDetector().fit(heaps(0.5, tail))
    assert agreed.separable_ is False
    assert agreed.noise_rate_ == 0.0
    assert agreed.posterior([0.5])[0] > 0.5  # two heaps they are
    contradicted = BetaMixtureNoiseDetector().fit(heaps(1.0, tail))
    assert contradicted.noise_rate_ == pytest.approx(1 / 6, abs=0.02)


@pytest.mark.parametrize(
    ("losses", "scale"),
    [
        (heaps(0.5, [1.0]), "cross-entropy"),
        (heaps(0.5, [1.0, 1.1, 1.5]), "cross-entropy"),
        (heaps(0.5, [1.1, 1.2, 1.3, 1.5]), "any"),
        (np.tile(heaps(0.5, [1.0]), 200), "cross-entropy"),
    ],
    ids=["normalised by somebody", "but for outliers", "of no known scale", "in bins"],
)
def test_other_losses_are_no_probabilities(losses, scale):
    detector = BetaMixtureNoiseDetector(loss_scale=scale).fit(losses)
    assert detector.separable_ is True
    assert detector.noise_rate_ == pytest.approx(1 / 6, abs=0.03)


@pytest.mark.parametrize("tail", [[], [1.1, 1.5]])
def test_losses_that_stay_below_one_are_of_a_model_that_is_not_sure(tail):
    """Of two classes, say: its highest loss is where it happens to be, and not at 1."""
    with pytest.warns(NoSeparableNoiseWarning, match="below log 2"):
        BetaMixtureNoiseDetector().fit(heaps(0.5, tail))


def test_labels_of_one_group_that_the_model_itself_would_give_are_no_evidence():
    """The group alone has no loss above 1, but all of them together are no normalised ones."""
    rng = np.random.default_rng(0)
    others = np.concatenate([rng.gamma(1.0, 0.05, 940), rng.normal(4.0, 0.3, 60)])
    one = np.concatenate([rng.gamma(1.0, 0.05, 300), rng.normal(0.5, 0.05, 100)])
    groups = np.repeat(["others", "one"], [1000, 400])
    detector = BetaMixtureNoiseDetector().fit(np.concatenate([others, one]), groups=groups)
    rates = {part["group"]: part["noise_rate"] for part in detector.group_report_}
    assert rates["others"] == pytest.approx(0.06, abs=0.02)
    assert rates["one"] < 0.05


@pytest.mark.parametrize("sure", [9, 40], ids=["a third agree", "most agree"])
@pytest.mark.parametrize("trees", [20, 100])
def test_right_labels_with_few_values_are_no_alarm(trees, sure):
    """A forest's share of votes: a heap on each value is no population, nor is one vote less."""
    rng = np.random.default_rng(0)
    votes = rng.binomial(trees, rng.beta(sure, 1, 5000)) / trees
    with pytest.warns(NoSeparableNoiseWarning):
        BetaMixtureNoiseDetector().fit(-np.log(np.maximum(votes, 1e-12)))


@pytest.mark.parametrize("deviation", [0.02, 0.1])
def test_bins_are_no_populations(deviation):
    losses = np.random.default_rng(0).normal(2.303, deviation, 200_000)
    with pytest.warns(NoSeparableNoiseWarning):
        many = BetaMixtureNoiseDetector().fit(losses)
    histogram = LossHistogram().fill(losses[:2000])
    with pytest.warns(NoSeparableNoiseWarning):
        few = BetaMixtureNoiseDetector().fit_histogram(histogram)
    assert (many.noise_rate_, few.noise_rate_) == (0.0, 0.0)


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("between", [1e-5, 2e-4, 7e-4, 3e-3])
@pytest.mark.parametrize("scale", ["cross-entropy", "any"])
def test_few_losses_in_a_gap_do_not_close_it(scale, between, number):
    """Below them lies a heap of zeros, which has no shape of its own."""
    few, wrong = (
        between * np.linspace(0.5, 1.5, number),
        np.random.default_rng(1).normal(5.0, 0.7, 400),
    )
    detector = BetaMixtureNoiseDetector(loss_scale=scale).fit(np.r_[np.zeros(3600), few, wrong])
    assert detector.separable_
    assert detector.noise_rate_ == pytest.approx(0.1, abs=0.005)
