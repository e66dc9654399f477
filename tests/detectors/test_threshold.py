"""Thresholds chosen by precision, recall or budget: what is promised is what is expected."""

import re
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lossnoise import BetaMixtureNoiseDetector, LossHistogram
from lossnoise.exceptions import (
    InvalidParameterError,
    NoSeparableNoiseWarning,
    UnattainableThresholdWarning,
)

RNG = np.random.default_rng(0)
N = 4000
WRONG = np.arange(N) < 0.2 * N
LOSSES = np.where(WRONG, np.abs(RNG.normal(3.0, 1.2, N)), RNG.gamma(1.0, 0.4, N))
DETECTOR = BetaMixtureNoiseDetector().fit(LOSSES)
PROBA = DETECTOR.predict_proba(LOSSES)[:, 1]


def expected_of(cut):
    """What the probabilities say of a cut, summed plainly."""
    above = cut.threshold <= LOSSES
    return PROBA[above].mean(), PROBA[above].sum() / PROBA.sum(), above.sum()


def lowest_cut(proba, precision):
    """The lowest loss from which on the mean probability is at least the precision, or None."""
    highest_first = np.argsort(-LOSSES)
    means = np.cumsum(proba[highest_first]) / np.arange(1, N + 1)
    good = np.flatnonzero(means >= precision)
    return LOSSES[highest_first][good[-1]] if len(good) else None


HARD = 2.0 * DETECTOR.hard_fraction
CAUTIOUS = np.minimum(
    PROBA, BetaMixtureNoiseDetector(hard_fraction=HARD).fit(LOSSES).predict_proba(LOSSES)[:, 1]
)


@given(st.floats(0.3, 0.8))
def test_precision_is_met_by_the_lowest_threshold_even_with_more_hard_examples(precision):
    cut = DETECTOR.threshold_for(precision=precision)
    assert cut[1:] == pytest.approx(expected_of(cut))
    assert cut.precision >= precision
    assert cut.threshold == lowest_cut(CAUTIOUS, precision)


def test_who_asks_for_more_precision_gets_no_lower_threshold():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnattainableThresholdWarning)
        cuts = [DETECTOR.threshold_for(precision=p) for p in np.linspace(0.05, 1.0, 96)]
    reached = [cut for cut in cuts if cut.count]
    assert (np.diff([cut.threshold for cut in reached]) >= 0.0).all()
    assert (np.diff([cut.precision for cut in reached]) >= 0.0).all()


@given(st.floats(0.01, 1.0))
def test_recall_is_met_by_the_highest_threshold(recall):
    cut = DETECTOR.threshold_for(recall=recall)
    assert cut[1:] == pytest.approx(expected_of(cut))
    assert cut.recall >= recall * (1.0 - 1e-12)
    higher = np.sort(LOSSES)[-cut.count :][1:]
    if len(higher):
        assert PROBA[higher[0] <= LOSSES].sum() / PROBA.sum() < recall


@given(st.integers(1, 2 * N))
def test_a_budget_is_used_up(budget):
    cut = DETECTOR.threshold_for(budget=budget)
    assert cut[1:] == pytest.approx(expected_of(cut))
    assert cut.count == min(budget, N)


def test_what_is_expected_really_comes():
    cut = DETECTOR.threshold_for(precision=0.9)
    assert WRONG[cut.threshold <= LOSSES].mean() >= 0.85


def test_losses_of_one_value_stay_together():
    losses = np.repeat([0.1, 0.2, 5.0], [50, 50, 20])
    detector = BetaMixtureNoiseDetector().fit(losses)
    assert detector.threshold_for(budget=100).count == 70
    message = (
        r"^No threshold of BetaMixtureNoiseDetector gives budget=19 on what was fitted: 20 tie for "
        r"the highest, and it takes all or none\. The threshold is inf and calls no label wrong\. "
        r"Take some of them by what else is known\.$"
    )
    with pytest.warns(UnattainableThresholdWarning, match=message):
        cut = detector.threshold_for(budget=19)
    assert cut.threshold == np.inf
    assert np.isnan(cut.precision)
    assert (cut.recall, cut.count) == (0.0, 0)


@pytest.mark.parametrize("need", [{"precision": 0.9}, {"recall": 0.9}])
def test_without_evidence_no_threshold_is_precise(need):
    with pytest.warns(NoSeparableNoiseWarning):
        detector = BetaMixtureNoiseDetector().fit(RNG.exponential(1.0, 500))
    with pytest.warns(UnattainableThresholdWarning) as warned:
        cut = detector.threshold_for(**need)
    assert cut.threshold == np.inf
    assert warned[0].filename == __file__
    assert str(warned[0].message) == (
        f"No threshold of BetaMixtureNoiseDetector gives {next(iter(need))}=0.9 on what was "
        "fitted: the losses cannot tell right from wrong labels. The threshold is inf and calls "
        "no label wrong. Look at separable_ and at the noise rate; to look at some of the highest "
        "tells more."
    )


def test_where_less_would_do_the_warning_says_so():
    with pytest.warns(UnattainableThresholdWarning) as warned:
        BetaMixtureNoiseDetector().fit(LOSSES).threshold_for(precision=1.0)
    assert str(warned[0].message) == (
        "No threshold of BetaMixtureNoiseDetector gives precision=1.0 on what was fitted: none is "
        "so good. The threshold is inf and calls no label wrong. Ask for less, or look at "
        "separable_ and at the noise rate; to look at some of the highest tells more."
    )


def test_without_evidence_nothing_is_promised_of_a_budget():
    with pytest.warns(NoSeparableNoiseWarning):
        detector = BetaMixtureNoiseDetector().fit(RNG.exponential(1.0, 500))
    cut = detector.threshold_for(budget=50)
    assert cut.count == 50
    assert np.isnan(cut.precision)
    assert np.isnan(cut.recall)


def test_a_cut_between_bins_counts_what_lies_above_it():
    losses = np.concatenate([np.resize(LOSSES[~WRONG], 160_000), np.full(40_000, 27.631)])
    cut = BetaMixtureNoiseDetector().fit(losses).threshold_for(recall=0.9)
    assert cut.count == (cut.threshold <= losses).sum() == 40_000


def test_many_losses_are_cut_between_bins():
    losses = np.resize(LOSSES, 200_000) * np.linspace(0.99, 1.01, 200_000)
    cut = BetaMixtureNoiseDetector().fit(losses).threshold_for(budget=1000)
    assert 500 <= cut.count <= 1000
    assert (cut.threshold <= losses).sum() == cut.count


NEEDS = [{"recall": share} for share in (0.1, 0.3, 0.5, 0.7, 0.9)] + [{"budget": 30_000}]


@pytest.mark.filterwarnings("ignore:99 % of the losses are above 0.93")
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("lowest", [0.05, 0.3, 0.93])
def test_many_losses_reach_a_cut_among_equal_ones(dtype, lowest):
    """The lowest loss is subtracted before they are counted, which rounds."""
    rng = np.random.default_rng(0)
    tops = rng.choice([1.0, 1.125, 1.25, 1.375, 1.5], 25_000)  # where bins begin
    losses = np.concatenate([np.zeros(100_000), rng.uniform(0.0, 0.1, 20_000).round(2), tops])
    losses = (lowest + losses).round(4).astype(dtype)
    detector = BetaMixtureNoiseDetector().fit(losses)
    for need in NEEDS:
        cut = detector.threshold_for(**need)
        assert cut.count == (losses >= cut.threshold).sum() > 0


@pytest.mark.parametrize("number", [4.0 - 1e-8, 2**25 - 1, 2**40 - 1, -4.0, -(4.0 - 1e-8)])
def test_counted_losses_reach_a_cut(number):
    """float32 has 4 and 2^25, where bins begin, but not the numbers just below them."""
    right = number - np.random.default_rng(0).gamma(1.0, 0.2, 800).clip(0.0, 1.5) - 1.5
    losses = np.append(right, np.full(200, number))
    losses = losses if number < 5.0 else np.repeat([0, number], [800, 200])
    histogram = LossHistogram().fill(losses)
    detector = BetaMixtureNoiseDetector(loss_scale="any").fit_histogram(histogram)
    cut = detector.threshold_for(recall=0.9)
    assert cut.count == (losses >= cut.threshold).sum() == 200


@pytest.mark.parametrize(
    ("needs", "message"),
    [
        (
            {},
            "The 'precision' parameter of BetaMixtureNoiseDetector.threshold_for must be given, "
            "or else 'recall' or 'budget'. Got None instead.",
        ),
        (
            {"precision": 0.9, "budget": 3},
            "The 'budget' parameter of BetaMixtureNoiseDetector.threshold_for must be left out "
            "where 'precision' is given: a threshold meets one need. Got 3 instead.",
        ),
        (
            {"precision": 0.0},
            "The 'precision' parameter of BetaMixtureNoiseDetector.threshold_for must be a float "
            "in the range (0.0, 1.0]. Got 0.0 instead.",
        ),
        (
            {"recall": 1.5},
            "The 'recall' parameter of BetaMixtureNoiseDetector.threshold_for must be a float in "
            "the range (0.0, 1.0]. Got 1.5 instead.",
        ),
        (
            {"budget": 0},
            "The 'budget' parameter of BetaMixtureNoiseDetector.threshold_for must be an int in "
            "the range [1, inf). Got 0 instead.",
        ),
    ],
)
def test_needs_out_of_range(needs, message):
    with pytest.raises(InvalidParameterError, match=f"^{re.escape(message)}$"):
        DETECTOR.threshold_for(**needs)


def test_rounding_does_not_choose_among_losses_of_one_probability():
    """The highest losses often have one P(wrong), from which no cut is better than another."""
    detectors = [
        BetaMixtureNoiseDetector().fit(LOSSES.astype(kind)) for kind in (np.float64, np.float32)
    ]
    for precision in (0.87, 0.9):
        first, second = (detector.threshold_for(precision=precision) for detector in detectors)
        assert first.count == pytest.approx(second.count, rel=0.01)
        assert first.count > 100


@pytest.mark.parametrize("seed", range(6))
def test_more_precision_is_never_had_by_a_lower_cut(seed):
    """Also from what the cautious probabilities give to what the reported ones do."""
    rng = np.random.default_rng(seed)
    losses = np.where(rng.random(3000) < 0.3, rng.gamma(6, 0.6, 3000), rng.gamma(0.5, 0.3, 3000))
    detector = BetaMixtureNoiseDetector().fit(losses)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnattainableThresholdWarning)
        cuts = [(p, detector.threshold_for(precision=p)) for p in np.arange(0.8, 1.0, 1e-3)]
    assert all(cut.precision >= p for p, cut in cuts if cut.count)
    assert (np.diff([cut.threshold for _, cut in cuts if cut.count]) >= 0.0).all()
