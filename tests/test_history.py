"""Loss histories: the mean of the columns."""

import numpy as np

from lossnoise._history import reduce_history


def test_the_columns_are_averaged():
    history = np.arange(14.0).reshape(2, 7)
    assert reduce_history(history).tolist() == [3.0, 10.0]
    assert reduce_history(history, 2).tolist() == [5.5, 12.5]
    assert reduce_history(history[:, :1]).tolist() == [0.0, 7.0]


def test_float32_is_averaged_in_float64():
    history = np.array([[1.0, 2.0**-24]], dtype=np.float32)
    assert reduce_history(history)[0] == (1.0 + 2.0**-24) / 2.0


def test_single_losses_stay_as_they_are():
    losses = np.array([3.0, 1.0])
    assert reduce_history(losses) is losses
