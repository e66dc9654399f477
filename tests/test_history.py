"""Loss histories: the mean of the last columns."""

import numpy as np

from lossnoise import BetaMixtureNoiseDetector
from lossnoise._history import HISTORY_REDUCTION, reduce_history


def test_the_last_columns_are_averaged():
    history = np.arange(14.0).reshape(2, 7)
    assert reduce_history(history).tolist() == [4.0, 11.0]
    assert reduce_history(history, 2).tolist() == [5.5, 12.5]
    assert reduce_history(history[:, :1]).tolist() == [0.0, 7.0]


def test_single_losses_stay_as_they_are():
    losses = np.array([3.0, 1.0])
    assert reduce_history(losses) is losses


def test_the_detector_averages_as_many_columns_by_default():
    assert BetaMixtureNoiseDetector().history_reduction == HISTORY_REDUCTION
