"""Runs that are resumed go on with the generators of the user's dataset, transforms and sampler."""

import random

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, Sampler, Subset

from lossnoise.exceptions import InvalidDataError
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


def test_data_with_other_ones_are_refused(build, make_data, tmp_path):
    build(checkpoint_dir=tmp_path).fit(shifted(make_data()))
    message = (
        r"made with generators of the data = \['dataset.transforms\[0\].rng', "
        r"'dataset.transforms\[1\].rng'\], and"
    )
    with pytest.raises(InvalidDataError, match=message):
        build(checkpoint_dir=tmp_path).fit(make_data(), resume=True)


def test_one_that_is_made_in_the_run_is_no_error(build, make_data, tmp_path):
    """Nobody knows it yet where the run is resumed."""

    class Lazy(Transformed):
        def __getitem__(self, index):
            self.rng = getattr(self, "rng", None) or np.random.default_rng(0)
            return super().__getitem__(index)

    build(epochs=2, checkpoint_dir=tmp_path, callbacks=[StopAfter(1)]).fit(Lazy(make_data()))
    resumed = build(epochs=2, checkpoint_dir=tmp_path).fit(Lazy(make_data()), resume=True)
    assert len(resumed.history_) == 2
