"""Losses that may be transposed, flags, or means over batches."""

import re
import warnings

import numpy as np
import pytest
import torch

from lossnoise import BetaMixtureNoiseDetector, audit
from lossnoise.exceptions import InvalidDataError, LayoutWarning, LossScaleWarning

RNG = np.random.default_rng(0)
LOSSES = np.concatenate([RNG.gamma(1.0, 0.2, 40), np.abs(RNG.normal(4.0, 0.8, 20))])


@pytest.fixture
def layouts():
    """Return what a call says of layout and scale, whatever it says besides."""

    def call(method, history):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            method(history)
        return [w for w in caught if w.category in (LayoutWarning, LossScaleWarning)]

    return call


def test_a_history_of_more_epochs_than_samples_may_be_transposed(layouts):
    epochs = [LOSSES + 0.1 * i for i in range(15)]
    (warned,) = layouts(BetaMixtureNoiseDetector().fit, epochs)
    assert str(warned.message) == (
        "The loss history of BetaMixtureNoiseDetector has 15 rows and 60 columns, which are 15 "
        "samples and 60 epochs: if it is the other way round, pass its transpose, X.T."
    )
    assert warned.filename == __file__


def test_other_histories_are_as_they_should_be(layouts):
    history = LOSSES[:, None] + np.linspace(0.0, 0.1, 60)
    assert layouts(BetaMixtureNoiseDetector().fit, history) == []
    detector = BetaMixtureNoiseDetector().fit(history)
    assert layouts(detector.predict_proba, history[:12]) == []
    assert layouts(BetaMixtureNoiseDetector().partial_fit, history[:12]) == []  # a part of them


def test_booleans_are_no_losses():
    message = (
        "The 'X' parameter of BetaMixtureNoiseDetector must be losses, which are numbers. Got "
        "booleans, as of right and wrong predictions, instead: pass -log p of each given label."
    )
    right = LOSSES < 1.0
    for flags in (right, np.stack([right, ~right], axis=1)):
        with pytest.raises(InvalidDataError) as error:
            BetaMixtureNoiseDetector().fit(flags)
        assert str(error.value) == message
        with pytest.raises(InvalidDataError, match="Got an array of dtype bool"):
            audit(np.zeros(60), losses=flags)


@pytest.mark.parametrize("dtype", [int, np.float32])
@pytest.mark.parametrize("shape", [(60,), (60, 20)])
def test_flags_of_right_predictions_are_told(layouts, dtype, shape):
    flags = RNG.integers(2, size=shape).astype(dtype)
    warned, *_ = layouts(BetaMixtureNoiseDetector().fit, flags)
    assert str(warned.message) == (
        "All losses of BetaMixtureNoiseDetector are 0 or 1, as are flags of right and wrong "
        "predictions, which say little of the labels, and where 1 is right the opposite. Pass -log "
        "p of each given label."
    )
    assert warned.category is LossScaleWarning


@pytest.mark.parametrize("last", [0, 3])
def test_means_over_batches_are_told(layouts, last):
    means = np.repeat(LOSSES[:20], 8)[: 160 - last]
    (warned,) = layouts(BetaMixtureNoiseDetector().fit, means)
    assert str(warned.message) == (
        "The losses of BetaMixtureNoiseDetector come in 20 runs of 8 equal ones, as the mean over "
        "a batch does, repeated for its samples: that says little about a single label. Take the "
        "losses of single samples, such as torch's with reduction='none'."
    )
    history = np.stack([means, means + 0.5], axis=1)
    (warned,) = layouts(BetaMixtureNoiseDetector().fit, history)
    assert warned.category is LayoutWarning


def test_equal_losses_that_are_no_means_over_batches(layouts):
    for losses in (
        np.zeros(60),
        np.ones(60),
        np.repeat([0.1, 3.0], 30),
        np.sort(np.round(LOSSES)),
        np.r_[np.repeat(LOSSES[:10], 4), LOSSES],
        np.repeat(LOSSES, 2),  # each row twice
        np.r_[np.repeat(LOSSES[:10], 4), np.full(8, 5.0)],
    ):
        assert layouts(BetaMixtureNoiseDetector().fit, losses) == []


@pytest.mark.parametrize("convert", [np.asarray, torch.tensor])
def test_a_list_of_batches_is_no_history(convert):
    losses = np.random.default_rng(0).gamma(1.0, 0.3, 4000)
    losses[: 32 * 12] += 4.0
    batches = [convert(batch) for batch in losses.reshape(125, 32)]
    message = (
        "The losses of BetaMixtureNoiseDetector are a list of 125 arrays, which are the losses of "
        "so many samples in 32 epochs: batches are joined by np.concatenate, or torch.cat of "
        "tensors."
    )
    with pytest.warns(LayoutWarning, match=f"^{re.escape(message)}$"):
        BetaMixtureNoiseDetector().fit(batches)
    with pytest.raises(InvalidDataError, match="instead: batches are joined by"):
        BetaMixtureNoiseDetector().fit([*batches, convert(losses[:7])])
    BetaMixtureNoiseDetector().fit(losses.reshape(125, 32).tolist())  # no batches, but rows
