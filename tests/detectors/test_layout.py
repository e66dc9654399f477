"""Loss histories that may be transposed."""

import warnings

import numpy as np
import pytest

from lossnoise import BetaMixtureNoiseDetector
from lossnoise.exceptions import LayoutWarning

RNG = np.random.default_rng(0)
LOSSES = np.concatenate([RNG.gamma(1.0, 0.2, 40), np.abs(RNG.normal(4.0, 0.8, 20))])


@pytest.fixture
def layouts():
    """Return what a call says of the layout, whatever it says besides."""

    def call(method, history):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            method(history)
        return [w for w in caught if w.category is LayoutWarning]

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
