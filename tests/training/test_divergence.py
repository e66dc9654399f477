"""Losses that are not finite though all inputs are: the error says where they began."""

import re

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, WeightedRandomSampler

from lossnoise.corrections import CORRECTIONS, MDyrH
from lossnoise.cross_val import cross_val_losses
from lossnoise.exceptions import NonFiniteLossError
from lossnoise.training._divergence import TrainingLosses

BLAME = "The learning rate may be too high; all inputs are finite."


class Overflowing(nn.Linear):
    """A model that has no answer for inputs beyond 1e6, finite as they are."""

    def forward(self, inputs):
        logits = super().forward(inputs.clamp(-10.0, 10.0))
        return logits + torch.log((inputs.abs().amax(dim=1, keepdim=True) < 1e6).float() - 0.5)


@pytest.fixture
def data(make_data):
    data = make_data()
    data.tensors[0][[11, 70]] = 1e9
    return data


def fit(trainer, data):
    with pytest.raises(NonFiniteLossError) as caught:
        trainer.fit(data)
    return str(caught.value)


def test_samples_for_which_a_model_has_no_answer_are_named(build, data):
    message = fit(build(Overflowing(2, 3), correction="cross-entropy", batch_size=96), data)
    assert message == (
        "The losses of 2 of 96 samples (such as [11, 70]) are not finite in epoch 1. It began in "
        "batch 1 with samples [11, 70], 2 of 96 there: look at what the model makes of these. "
        f"{BLAME}"
    )


@pytest.mark.parametrize("correction", ["cross-entropy", "mixup", "forward", MDyrH(sweep="epoch")])
def test_they_are_named_where_all_that_follows_is_nan(build, data, correction):
    """In batches of eight, the weights are NaN before the epoch ends."""
    if correction == "forward":
        correction = CORRECTIONS["forward"](transition=np.full((3, 3), 0.1) + 0.7 * np.eye(3))
    message = fit(build(Overflowing(2, 3), correction=correction, batch_size=8), data)
    begun = re.search(r"It began in batch (\d+) with samples \[(.*?)\], (\d) of 8 there", message)
    named = {int(n) for n in begun[2].split(", ")}
    assert named & {11, 70}
    assert len(named) == int(begun[3]) <= (4 if correction == "mixup" else 2)  # with what they met
    assert 1 <= int(begun[1]) <= 12


def test_a_batch_as_a_whole_says_nothing_of_its_samples(build, data):
    net = nn.Sequential(Overflowing(2, 3), nn.BatchNorm1d(3))  # which spreads it over the batch
    message = fit(build(net, batch_size=32), data)
    assert re.search(r"It began with all 32 samples of batch \d, such as \[", message)
    assert message.endswith(BLAME)


def test_mixed_samples_are_looked_at_alone_in_the_first_epoch(build, make_data):
    """An input of zeros has no direction, and a mixture with another one has."""

    class Directions(nn.Linear):
        def forward(self, inputs):
            return super().forward(inputs / inputs.norm(dim=1, keepdim=True))

    data = make_data()
    data.tensors[0][71] = 0.0
    message = fit(build(Directions(2, 3), correction="mixup", epochs=8), data)
    assert "1 of 96 samples (such as [71]) are not finite in epoch 1." in message


def test_the_rows_of_a_fold_are_said_to_be_its_own(build, data):
    trainer = build(Overflowing(2, 3), batch_size=8)
    with pytest.raises(NonFiniteLossError, match=r"Samples are counted within what this fold "):
        cross_val_losses(trainer, data, cv=2)


def test_samples_that_come_again_do_not_hide_where_it_began(build, data):
    sampler = WeightedRandomSampler(torch.ones(96), 192, generator=torch.Generator().manual_seed(0))
    order = list(sampler)
    sampler.generator.manual_seed(0)
    first = next(place for place, sample in enumerate(order) if sample in (11, 70))
    loader = DataLoader(data, 8, sampler=sampler)
    message = fit(build(Overflowing(2, 3), correction="cross-entropy"), loader)
    assert f"It began in batch {first // 8 + 1} with samples [{order[first]}], 1 of " in message


def test_a_batch_of_one_is_its_sample(build, data):
    message = fit(build(Overflowing(2, 3), correction="cross-entropy", batch_size=1), data)
    assert re.search(r"It began in batch \d+ with samples \[(11|70)\], 1 of 1 there: look", message)


def test_the_first_batch_counts_and_every_epoch_begins_anew():
    seen = TrainingLosses(6, torch.device("cpu"))
    seen.record(torch.tensor([4, 0]), torch.tensor([1.0, 2.0]), 1)
    assert seen.first_broken() is None
    seen.record(torch.tensor([5, 2]), torch.tensor([torch.inf, 2.0]), 2)
    seen.record(torch.tensor([5, 3]), torch.tensor([torch.nan, torch.nan]), 3)
    assert seen.first_broken() == (2, [5], 2)
    seen.reset()
    assert seen.first_broken() is None
