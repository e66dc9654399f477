"""What callbacks write of numbers that other callbacks add to a record."""

import csv

import numpy as np
import pytest
import torch

from lossnoise.training import Callback, CSVLogger, TensorBoardLogger


class Adds(Callback):
    def __init__(self, value):
        self.value = value

    def on_epoch_end(self, trainer, record):
        record["own"] = self.value


@pytest.mark.parametrize("value", [torch.tensor(0.5), np.array(0.5), np.float32(0.5)])
def test_numbers_are_written_as_such(build, make_data, tmp_path, value):
    path = tmp_path / "run.csv"
    callbacks = [Adds(value), CSVLogger(path)]
    build(correction="cross-entropy", callbacks=callbacks).fit(make_data())
    with path.open() as file:
        assert [row["own"] for row in csv.DictReader(file)] == ["0.5", "0.5"]


def test_a_tensor_has_a_curve(build, make_data, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    callbacks = [Adds(torch.tensor(0.5)), TensorBoardLogger(tmp_path)]
    build(correction="cross-entropy", callbacks=callbacks).fit(make_data())
    written = EventAccumulator(str(tmp_path)).Reload()
    assert [event.value for event in written.Scalars("own")] == [0.5, 0.5]
