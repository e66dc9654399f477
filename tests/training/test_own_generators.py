"""Runs that are resumed go on with the state of the user's dataset, transforms, sampler, model."""

import multiprocessing
import random
import re
from contextlib import suppress

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler, Subset

from lossnoise.corrections import D2L
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


class Counting(Sampler):
    """Shuffles by a count of its own, and says where it is, as torchdata's samplers do."""

    def __init__(self, size):
        self.size, self.passes = size, 0

    def __len__(self):
        return self.size

    def __iter__(self):
        self.passes += 1
        return iter(np.random.default_rng(self.passes).permutation(self.size).tolist())

    def state_dict(self):
        return {"passes": self.passes}

    def load_state_dict(self, state):
        self.passes = state["passes"]


def counted(data):
    return DataLoader(data, 16, sampler=Counting(len(data)))


def batched(data):
    return DataLoader(data, batch_sampler=BatchSampler(Counting(len(data)), 16, drop_last=False))


@pytest.mark.parametrize("prepare", [counted, batched])
def test_samplers_that_know_their_state_go_on(build, make_data, make_net, tmp_path, prepare):
    test_they_go_on_where_they_were(build, make_data, make_net, tmp_path, prepare)


class Warming(nn.Linear):
    """Counts its passes in a buffer that is no part of its state."""

    def __init__(self):
        super().__init__(2, 3)
        self.register_buffer("passes", torch.zeros(()), persistent=False)
        self.register_buffer("last", None, persistent=False)

    def forward(self, inputs):
        if self.training:
            self.passes += 1
            self.last = inputs.mean(dim=0)
        return super().forward(inputs) * (1.0 + 1.0 / (1.0 + self.passes))


def test_buffers_that_are_no_part_of_the_state_go_on(build, make_data, tmp_path):
    def net():
        torch.manual_seed(0)
        return Warming()

    settings = {"epochs": 4, "correction": "m-dyr-h"}
    unbroken = build(net(), **settings).fit(make_data())
    folder = tmp_path / "run"
    build(net(), **settings, checkpoint_dir=folder, callbacks=[StopAfter(2)]).fit(make_data())
    resumed = build(net(), **settings, checkpoint_dir=folder).fit(make_data(), resume=True)
    np.testing.assert_array_equal(resumed.losses_, unbroken.losses_)
    assert resumed.model.passes == unbroken.model.passes
    assert torch.equal(resumed.model.last, unbroken.model.last)


class Drawing(Dataset):
    """Draws by a generator of its own, which a worker has a copy of."""

    def __init__(self):
        self.rng = np.random.default_rng(0)

    def __len__(self):
        return 30

    def __getitem__(self, index):
        return torch.tensor([self.rng.random(), index], dtype=torch.float32), index % 3


class Noting(nn.Linear):
    def __init__(self):
        super().__init__(2, 3)
        self.firsts = []

    def forward(self, inputs):
        if self.training:
            self.firsts.append(inputs[:, 0].max().item())
        return super().forward(inputs)


@pytest.mark.parametrize("stay", [True, False])
def test_workers_stay_alive_where_the_loader_says_so(build, tmp_path, stay):
    def loader():
        return DataLoader(Drawing(), 30, num_workers=1, persistent_workers=stay)

    plain, settings = loader(), {"epochs": 3, "correction": "cross-entropy"}
    expected = [next(iter(plain))[0][:, 0].max().item() for _ in range(3)]
    net = Noting()
    build(net, **settings, checkpoint_dir=tmp_path, callbacks=[StopAfter(2)]).fit(loader())
    assert net.firsts[-2:] == expected[:2]
    assert (expected[0] == expected[1]) is not stay
    resumed = build(Noting(), **settings, checkpoint_dir=tmp_path)
    if not stay:
        resumed.fit(loader(), resume=True)
        return
    with pytest.warns(CheckpointWarning, match=r"^The worker processes of the resumed run begin "):
        resumed.fit(loader(), resume=True)


class Impatient(Callback):
    def on_batch_end(self, trainer, batch, num_batches):
        raise RuntimeError("enough")


@pytest.mark.parametrize("callbacks", [[], [Impatient()]], ids=["to the end", "broken off"])
def test_workers_that_stay_alive_end_with_the_run(build, callbacks):
    loader = DataLoader(Drawing(), 10, num_workers=2, persistent_workers=True)
    trainer = build(nn.Linear(2, 3), epochs=2, callbacks=callbacks)
    before = multiprocessing.active_children()
    with suppress(RuntimeError):
        trainer.fit(loader, val=loader)
    assert set(multiprocessing.active_children()) <= set(before)


class Numbered(Counting):
    """Shuffles by the number of the epoch; its state says that all was yielded."""

    def set_epoch(self, epoch):
        self.passes = epoch

    def load_state_dict(self, state):
        raise AssertionError("not needed")


def numbered(data):
    return DataLoader(data, 16, sampler=Numbered(len(data)))


def test_samplers_that_are_told_the_epoch_need_no_state(build, make_data, make_net, tmp_path):
    test_they_go_on_where_they_were(build, make_data, make_net, tmp_path, numbered)


class Opaque(Counting):
    def state_dict(self):
        return {"passes": self.passes, "rng": np.random.default_rng(0)}


class Asking(Counting):
    def state_dict(self, yielded):
        return {"passes": self.passes, "yielded": yielded}


@pytest.mark.parametrize("kind", [Opaque, Asking])
def test_a_state_that_cannot_be_kept_is_told(build, make_data, tmp_path, kind):
    loader = DataLoader(make_data(), 16, sampler=kind(96))
    words = f"^The state of the sampler, a {kind.__name__}, is in no checkpoint: "
    with pytest.warns(CheckpointWarning, match=words) as told:
        build(epochs=3, checkpoint_dir=tmp_path).fit(loader)
    assert len(told) == 1


class Odd(nn.Linear):
    """Has buffers that cannot be written in place, and one that cannot be copied so."""

    def __init__(self):
        super().__init__(2, 3)
        self.register_buffer("wide", torch.ones(1).expand(3), persistent=False)
        self.register_buffer("learned", torch.ones(3, requires_grad=True), persistent=False)
        self.register_buffer("sparse", torch.eye(3).to_sparse(), persistent=False)
        with torch.inference_mode():
            self.register_buffer("made", torch.ones(3), persistent=False)

    def forward(self, inputs):
        return super().forward(inputs) * self.wide + self.made.clone()


@pytest.mark.parametrize("correction", ["joint-optimization", D2L(startup=1, window=2), "m-dyr-h"])
def test_odd_buffers_are_no_obstacle(build, make_data, tmp_path, correction):
    settings = {"epochs": 6, "correction": correction, "checkpoint_dir": tmp_path}
    torch.manual_seed(0)
    build(Odd(), **settings, callbacks=[StopAfter(4)]).fit(make_data())
    resumed = build(Odd(), **settings).fit(make_data(), resume=True)
    assert len(resumed.history_) == 6
    assert torch.equal(resumed.model.wide, torch.ones(3))
