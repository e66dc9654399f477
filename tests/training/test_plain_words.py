"""What a trainer, its files and its displays refuse, and how it says so."""

import re

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, Sampler

from lossnoise import LossHistoryDisplay
from lossnoise.exceptions import InterruptedWarning, InvalidDataError, InvalidParameterError
from lossnoise.training import Callback


class Stream(IterableDataset):
    def __init__(self, make):
        self.make = make

    def __len__(self):
        return 96

    def __iter__(self):
        return (self.make(i) for i in range(96))


class Keys(Sampler):
    def __init__(self, keys, length):
        self.keys, self.length = keys, length

    def __len__(self):
        return self.length

    def __iter__(self):
        return iter(self.keys)


def parts_of_three(data):
    return Stream(lambda i: (i, data[i][0], int(data[i][1])))


def tensors_for_positions(data):
    return Stream(lambda i: (torch.tensor(i), data[i]))


def sampled(keys, length):
    return lambda data: DataLoader(data, 16, sampler=Keys(keys, length))


@pytest.mark.parametrize(
    ("prepare", "got"),
    [
        (parts_of_three, "Got a tuple of 3 parts instead."),
        (tensors_for_positions, "Got a tuple that begins with a Tensor, not with an int instead."),
        (sampled([], 50), "must yield batches. Got none instead: a sampler must yield positions"),
        (
            sampled([], 0),
            "Got one without a batch: 96 samples, and a sampler without pos",
        ),
        (sampled(list("abcdefgh"), 8), "must yield positions in the dataset, which are integers."),
    ],
    ids=["three parts", "tensors", "no positions", "no length", "names"],
)
def test_data_that_do_not_say_which_sample_is_which(build, make_data, prepare, got):
    with pytest.raises(InvalidDataError, match=re.escape(got)):
        build(nn.Linear(2, 3)).fit(prepare(make_data()))


@pytest.mark.parametrize(
    ("settings", "got"),
    [
        ({"checkpoint_dir": ""}, "must be the path of a folder. Got '' instead."),
        ({"device": "meta"}, "must be a device that computes. Got 'meta' instead."),
    ],
)
def test_settings_that_lead_nowhere(build, make_data, settings, got):
    with pytest.raises(InvalidParameterError, match=re.escape(got)):
        build(**settings).fit(make_data())


@pytest.mark.parametrize("path", [None, ".", "", 3])
def test_paths_that_are_no_files(build, make_data, path):
    trainer = build().fit(make_data())
    for method in ("save", "load"):
        words = f"'path' parameter of NoisyLabelTrainer.{method} must be the path of a file. Got "
        with pytest.raises(InvalidParameterError, match=re.escape(words)):
            getattr(trainer, method)(path)


def test_what_is_no_trainer_cannot_be_drawn(build, make_data):
    for odd in ([build().fit(make_data())], {}, {"a": None}, None):
        with pytest.raises(InvalidParameterError, match="'trainer' parameter of LossHistoryDis"):
            LossHistoryDisplay.from_trainer(odd)


def test_inputs_alone(build, make_data):
    data = make_data()
    trainer = build().fit(data)
    inputs = data.tensors[0]
    expected = trainer.predict_proba(data)
    np.testing.assert_array_equal(trainer.predict_proba(inputs.double()), expected)
    np.testing.assert_array_equal(trainer.predict_proba(inputs.double().numpy()), expected)
    with pytest.raises(InvalidDataError, match=r"'X' parameter of .* numbers\. Got dtype object"):
        trainer.predict(inputs.numpy().astype(object))


@pytest.mark.parametrize(
    ("folder", "further"),
    [("run", "No checkpoint was written yet"), (None, "A run with checkpoint_")],
)
def test_an_interruption_promises_no_checkpoint_that_is_not_there(
    build, make_data, tmp_path, folder, further
):
    class Hasty(Callback):
        def on_batch_end(self, trainer, batch, num_batches):
            raise KeyboardInterrupt

    folder = folder and tmp_path / folder
    with pytest.warns(InterruptedWarning, match=rf"as it was left\. {further}"):
        build(callbacks=[Hasty()], checkpoint_dir=folder).fit(make_data())
