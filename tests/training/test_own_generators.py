"""Runs that are resumed go on with the generators of the user's dataset, transforms and sampler."""

import random
import re

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, Sampler, Subset

from lossnoise.exceptions import CheckpointWarning
from lossnoise.training import Callback


class StopAfter(Callback):
    def __init__(self, epoch):
        self.epoch = epoch

    def on_epoch_end(self, trainer, record):
        if record["epoch"] == self.epoch:
            trainer.request_stop()


class Shift:
    def __init__(self, rng):
        self.rng = rng

    def __call__(self, inputs):
        return inputs + 0.1 * self.rng.random()


class Transformed(Dataset):
    def __init__(self, data, *transforms):
        self.data, self.transforms = data, list(transforms)

    def __len__(self):
        return len(self.data)

    def __getitem__(self, index):
        inputs, label = self.data[index]
        for transform in self.transforms:
            inputs = transform(inputs)
        return inputs, label


class Shuffled(Sampler):
    """Draws the order by a generator of its own, and keeps a seed for nobody."""

    def __init__(self, size, rng):
        self.size, self.rng = size, rng

    def __len__(self):
        return self.size

    def __iter__(self):
        order = list(range(self.size))
        self.rng.shuffle(order)
        return iter(order)


def shifted(data):
    return Transformed(data, Shift(np.random.RandomState(1)), Shift(np.random.default_rng(2)))


def subset(data):
    return Subset(shifted(data), range(90))


def sampled(data):
    return DataLoader(shifted(data), 16, sampler=Shuffled(len(data), random.Random(3)))


@pytest.mark.parametrize("prepare", [shifted, subset, sampled])
def test_they_go_on_where_they_were(build, make_data, make_net, tmp_path, prepare):
    settings = {"epochs": 4, "correction": "m-dyr-h"}
    unbroken = build(**settings).fit(prepare(make_data()))
    build(**settings, checkpoint_dir=tmp_path, callbacks=[StopAfter(2)]).fit(prepare(make_data()))
    resumed = build(make_net(seed=9), **settings, checkpoint_dir=tmp_path)
    resumed.fit(prepare(make_data()), resume=True)
    np.testing.assert_array_equal(resumed.losses_, unbroken.losses_)
    for name, weights in unbroken.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], weights)


class Lazy(Transformed):
    """Makes its generator when it first needs it, as those that are copied into workers may."""

    rng = None

    def __getitem__(self, index):
        self.rng = self.rng or np.random.default_rng(0)
        inputs, label = super().__getitem__(index)
        return inputs + 0.1 * self.rng.random(), label


def test_one_that_is_not_there_when_a_run_is_resumed_is_told(build, make_data, tmp_path):
    build(epochs=2, checkpoint_dir=tmp_path, callbacks=[StopAfter(1)]).fit(Lazy(make_data()))
    message = (
        "The data of the resumed run drew from a generator, 'dataset.rng', that they lack now: "
        "what they draw will not be what it would have been. It has to be there when fit begins."
    )
    with pytest.warns(CheckpointWarning, match=f"^{re.escape(message)}$"):
        build(epochs=2, checkpoint_dir=tmp_path).fit(make_data(), resume=True)


@pytest.mark.parametrize("same", [True, False])
def test_one_that_is_made_when_it_is_needed_goes_on_too(build, make_data, make_net, tmp_path, same):
    """A sample is looked at before anything is restored; or the data were used before."""
    unbroken = build(epochs=4).fit(Lazy(make_data()))
    data = Lazy(make_data())
    build(epochs=4, checkpoint_dir=tmp_path, callbacks=[StopAfter(2)]).fit(data)
    data = data if same else Lazy(make_data())
    resumed = build(make_net(seed=9), epochs=4, checkpoint_dir=tmp_path).fit(data, resume=True)
    np.testing.assert_array_equal(resumed.losses_, unbroken.losses_)
