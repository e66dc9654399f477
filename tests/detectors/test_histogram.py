import copy
import json
import multiprocessing
import warnings
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lossnoise import BetaMixtureNoiseDetector, LossHistogram
from lossnoise.detectors._grid import CHUNK, bin_losses
from lossnoise.detectors._scaling import PercentileScaling
from lossnoise.exceptions import (
    InvalidDataError,
    InvalidParameterError,
    LossScaleWarning,
)

finite = st.floats(allow_nan=False, allow_infinity=False)
vectors = arrays(np.float64, st.integers(0, 200), elements=finite)


def noisy_losses(n=20_000):
    rng = np.random.default_rng(0)
    wrong = int(0.3 * n)
    return np.concatenate([rng.gamma(1.0, 0.3, n - wrong), rng.gamma(20.0, 0.2, wrong)])


@given(vectors, st.integers(0, 200), st.randoms(use_true_random=False))
def test_parts_in_any_order_add_up_to_the_whole_exactly(losses, cut, random):
    shuffled = losses.copy()
    random.shuffle(shuffled)
    parts = [LossHistogram().fill(shuffled[:cut]), LossHistogram().fill(shuffled[cut:])]
    before = [part.counts.copy() for part in parts]
    assert sum(parts) == LossHistogram().fill(losses)
    assert all(np.array_equal(part.counts, old) for part, old in zip(parts, before, strict=True))


def test_histograms_filled_in_two_processes_add_up_to_the_whole_exactly():
    losses = noisy_losses(100_000)
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=spawn) as pool:
        parts = list(pool.map(LossHistogram().fill, np.array_split(losses, 7)))
    assert sum(parts) == LossHistogram().fill(losses)
    assert [len(part) for part in parts] == [len(part) for part in np.array_split(losses, 7)]


@pytest.mark.parametrize("n_bins", [10, 1000])
@pytest.mark.parametrize("spread", [0.0, 1.0])
def test_grids_of_parts_in_any_order_add_up_to_the_whole_exactly(n_bins, spread):
    rng = np.random.default_rng(0)
    losses = 1.0 + spread * rng.uniform(-1.5, 1.5, 2 * CHUNK + 7)  # many at both ends of the scale
    scaling = PercentileScaling(0.0, 2.0 if spread else 1.0)  # or all in the last cell, at its end
    whole = bin_losses(losses, None, scaling, n_bins)
    parts = np.split(rng.permutation(losses), [1, CHUNK + 2])
    assert np.array_equal(sum(bin_losses(part, None, scaling, n_bins) for part in parts), whole)
    assert np.array_equal(bin_losses(losses, np.ones(len(losses)), scaling, n_bins), whole)
    assert whole.sum() == len(losses)
    assert whole @ np.linspace(0.0, 1.0, n_bins + 1) == pytest.approx(
        scaling.normalise(losses).sum(), rel=1e-8
    )


@given(vectors)
def test_bins_hold_every_loss_to_their_relative_width(losses):
    values, counts = LossHistogram().fill(losses).bins()
    assert counts.sum() == len(losses)
    assert (np.diff(values) > 0).all()
    expected = np.clip(np.sort(losses), -3.4e38, 3.4e38)
    np.testing.assert_allclose(np.repeat(values, counts), expected, rtol=2**-7, atol=1e-37)


edges = LossHistogram().fill(np.array([*np.geomspace(1e-6, 1e6, 50), 1.0, 4.0])).lower_edges()
beside = np.concatenate([edges, np.nextafter(edges, 0.0), np.nextafter(edges, np.inf)])
near_edges = st.sampled_from([*beside, *-beside, *edges * (1.0 - 1e-8), 0.0])


@given(arrays(np.float64, st.integers(1, 50), elements=near_edges))
def test_losses_lie_above_the_lower_edges_of_their_bins(losses):
    histogram = LossHistogram().fill(losses)
    above = [(losses >= edge).sum() for edge in histogram.lower_edges()]
    np.testing.assert_array_equal(above, histogram.bins()[1][::-1].cumsum()[::-1])


@given(vectors)
def test_a_dict_brings_the_histogram_back_through_json(losses):
    histogram = LossHistogram().fill(losses)
    assert LossHistogram.from_dict(json.loads(json.dumps(histogram.to_dict()))) == histogram


def test_quantiles_are_those_of_the_losses_to_the_width_of_a_bin():
    losses = np.concatenate([noisy_losses(), [-1.0, -30.0]])
    shares = np.linspace(0.0, 1.0, 101)
    found = LossHistogram().fill(losses).quantile(shares)
    np.testing.assert_allclose(found, np.quantile(losses, shares), rtol=0.01, atol=1e-4)


def test_one_huge_loss_costs_one_bin():
    values, counts = LossHistogram().fill([1e30, 0.0, -0.0]).bins()
    assert counts.tolist() == [2, 1]
    assert values[1] == pytest.approx(1e30, rel=2**-7)


@pytest.mark.parametrize("kind", ["list", "float16", "int32", "torch"])
def test_losses_of_any_type(kind):
    torch = pytest.importorskip("torch")
    losses = {
        "list": [1.0, 2.0],
        "float16": np.array([1, 2], np.float16),
        "int32": np.array([1, 2], np.int32),
        "torch": torch.tensor([1.0, 2.0], dtype=torch.bfloat16, requires_grad=True),
    }[kind]
    assert LossHistogram().fill(losses) == LossHistogram().fill(np.array([1.0, 2.0]))


@pytest.mark.parametrize("scale", ["cross-entropy", "any"])
def test_the_detector_fits_counts_as_it_fits_losses(scale):
    losses = noisy_losses()
    raw = BetaMixtureNoiseDetector(loss_scale=scale).fit(losses)
    histogram = LossHistogram().fill(losses)
    counted = BetaMixtureNoiseDetector(loss_scale=scale).fit_histogram(histogram)
    assert counted.noise_rate_ == pytest.approx(raw.noise_rate_, abs=1e-3)
    np.testing.assert_allclose(counted.alphas_, raw.alphas_, rtol=5e-3)
    np.testing.assert_allclose(
        counted.predict_proba(losses), raw.predict_proba(losses), atol=2e-3, rtol=0
    )


@pytest.mark.parametrize("offset", [0.0, 10.0, 1000.0, -1000.0])
def test_losses_far_from_0_are_too_coarse(offset):
    """Bins have a relative width: 8 at 1000, where the losses themselves are fine."""
    rng = np.random.default_rng(0)
    losses = offset + np.concatenate([rng.gamma(1.0, 0.2, 800), rng.normal(4.0, 0.5, 200)])
    detector = BetaMixtureNoiseDetector(loss_scale="any")
    assert detector.fit(losses).noise_rate_ == pytest.approx(0.2, abs=0.02)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        detector.fit_histogram(LossHistogram().fill(losses))
    assert [w.category for w in told][:1] == [LossScaleWarning] * (abs(offset) > 100.0)
    if not told:
        assert detector.noise_rate_ == pytest.approx(0.2, abs=0.02)


def test_a_count_stands_for_as_many_samples():
    losses = np.tile(LossHistogram().fill(noisy_losses(300)).bins()[0], 3)
    counted = BetaMixtureNoiseDetector().fit_histogram(LossHistogram().fill(losses))
    raw = BetaMixtureNoiseDetector().fit(losses)
    assert counted.noise_rate_ == pytest.approx(raw.noise_rate_, abs=1e-9)
    assert counted.lower_bound_ == pytest.approx(raw.lower_bound_, abs=1e-9)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: LossHistogram().fill([0.0, np.nan]),
            "The 'losses' parameter of LossHistogram must be finite. Got nan in row 1 instead.",
        ),
        (
            lambda: LossHistogram().fill([[0.0]]),
            "The 'losses' parameter of LossHistogram must be a vector. Got shape (1, 1) instead.",
        ),
        (
            lambda: LossHistogram().fill(["a"]),
            "The 'losses' parameter of LossHistogram must be losses, which are numbers. Got dtype "
            "<U1 instead.",
        ),
        (
            lambda: LossHistogram().quantile(0.5),
            "The 'self' parameter of LossHistogram.quantile must be filled. Got 0 losses instead.",
        ),
        (
            lambda: LossHistogram.from_dict({"format": 1, "keys": [70_000], "counts": [1]}),
            "The 'data' parameter of LossHistogram.from_dict must be keys of bins with their "
            "counts. Got others instead.",
        ),
        (
            lambda: LossHistogram.from_dict({"format": 1, "keys": [7], "counts": [1.5]}),
            "The 'data' parameter of LossHistogram.from_dict must be keys of bins with their "
            "counts. Got others instead.",
        ),
        (
            lambda: LossHistogram.from_dict({"format": 1, "keys": [7, 8], "counts": [1]}),
            "The 'data' parameter of LossHistogram.from_dict must be keys of bins with their "
            "counts. Got others instead.",
        ),
        (
            lambda: LossHistogram.from_dict({"format": 1, "keys": [0x7F80], "counts": [1]}),
            "The 'data' parameter of LossHistogram.from_dict must be keys of bins with their "
            "counts. Got others instead.",
        ),
        (
            lambda: LossHistogram.from_dict({"format": 1, "keys": [7, 7], "counts": [1, 2]}),
            "The 'data' parameter of LossHistogram.from_dict must be keys of bins with their "
            "counts. Got others instead.",
        ),
        (
            lambda: LossHistogram.from_dict({"format": 1, "keys": "7", "counts": [2**70]}),
            "The 'data' parameter of LossHistogram.from_dict must be keys of bins with their "
            "counts. Got others instead.",
        ),
        (
            lambda: LossHistogram.from_dict({"format": 2, "keys": [], "counts": []}),
            "The 'data' parameter of LossHistogram.from_dict must be of format 1. Got format 2 "
            "instead.",
        ),
        (
            lambda: LossHistogram.from_dict({"format": 1, "keys": [], "counters": []}),
            "The 'data' parameter of LossHistogram.from_dict must be what to_dict returned. Got "
            "something else instead.",
        ),
        (
            lambda: LossHistogram().fill([0.5, 1.0], counts=[1.0, 2.0]),
            "The 'counts' parameter of LossHistogram must be 2 integers of at least 0, one for "
            "each loss. Got float64 of shape (2,) instead.",
        ),
        (
            lambda: BetaMixtureNoiseDetector().fit_histogram(LossHistogram().fill([1.0, 2.0])),
            "The 'histogram' parameter of BetaMixtureNoiseDetector.fit_histogram must be of at "
            "least 10 losses. Got 2 instead.",
        ),
    ],
)
def test_what_cannot_be_counted_is_one_clear_error(call, message):
    with pytest.raises(InvalidDataError) as error:
        call()
    assert str(error.value) == message


def test_parameters_that_are_no_histogram_and_no_share():
    with pytest.raises(InvalidParameterError, match=r"must be a LossHistogram\. Got <class 'list'"):
        BetaMixtureNoiseDetector().fit_histogram([1.0] * 10)
    with pytest.raises(InvalidParameterError, match=r"in the range \[0\.0, 1\.0\]\. Got 2"):
        LossHistogram().fill([1.0]).quantile(2)


def test_an_error_counts_nothing():
    histogram = LossHistogram()
    losses = np.ones(3_000_000)
    losses[-1] = np.inf
    with pytest.raises(InvalidDataError, match="Got inf in row 2999999"):
        histogram.fill(losses)
    assert len(histogram) == 0


def test_cross_entropies_that_rounding_put_below_0_are_0():
    rng = np.random.default_rng(0)
    losses = np.concatenate([rng.gamma(1.0, 0.2, 800), rng.normal(4.0, 0.8, 200), np.zeros(50)])
    rounded = losses - np.where(losses == 0.0, 1e-12, 0.0)
    detector = BetaMixtureNoiseDetector().fit_histogram(LossHistogram().fill(rounded))
    expected = BetaMixtureNoiseDetector().fit_histogram(LossHistogram().fill(losses))
    assert detector.noise_rate_ == pytest.approx(expected.noise_rate_, abs=1e-12)
    with pytest.raises(InvalidDataError, match=r"at least 0\. Got -0\.001"):
        BetaMixtureNoiseDetector().fit_histogram(LossHistogram().fill(losses - 1e-3))


def test_counts_that_somebody_made_negative_are_refused():
    histogram = LossHistogram().fill(np.linspace(0.1, 1.0, 100))
    histogram.counts[20_000] = -3
    with pytest.raises(InvalidDataError, match=r"from 0 to below 2\^47 in each bin. Got -3 to "):
        BetaMixtureNoiseDetector().fit_histogram(histogram)


def test_a_shallow_copy_has_counts_of_its_own():
    histogram = LossHistogram().fill([1.0])
    copy.copy(histogram).fill([2.0])
    assert len(histogram) == 1


@pytest.mark.filterwarnings("ignore::lossnoise.exceptions.NoSeparableNoiseWarning")
@pytest.mark.parametrize("offset", [100.0, 1e4, 1e6])
def test_bins_far_from_zero_are_said_to_be_too_wide(offset):
    """From 10,000 on, all losses lie in one bin."""
    rng = np.random.default_rng(1)
    losses = np.r_[rng.gamma(1.0, 0.3, 800), rng.gamma(20.0, 0.2, 200)] + offset
    detector = BetaMixtureNoiseDetector(loss_scale="any")
    with pytest.warns(LossScaleWarning, match="too wide to tell them apart"):
        detector.fit_histogram(LossHistogram().fill(losses))
