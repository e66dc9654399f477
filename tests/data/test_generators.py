"""Which generators of a user's own are found, and that their states come back."""

import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lossnoise.data._generators import generators_in, restore, state_of
from lossnoise.training.checkpoint import read_state, write_state

BITS = [np.random.PCG64, np.random.MT19937, np.random.SFC64, np.random.Philox]


def drawn(generator):
    if isinstance(generator, torch.Generator):
        return torch.rand(3, generator=generator).tolist()
    return [generator.normal() if hasattr(generator, "normal") else generator.gauss(0, 1)] * 3


@pytest.mark.parametrize(
    "generator",
    [
        torch.Generator().manual_seed(0),
        random.Random(0),
        *[np.random.Generator(bits(0)) for bits in BITS],
        *[np.random.RandomState(bits(0)) for bits in BITS],
    ],
)
def test_a_state_comes_back_from_a_file(generator, tmp_path):
    drawn(generator)  # of two normal deviates, some keep the second one
    write_state(tmp_path / "state.pt", {"state": state_of(generator)})
    first = drawn(generator)
    assert drawn(generator) != first
    restore(generator, read_state(tmp_path / "state.pt")["state"])
    assert drawn(generator) == first


def test_found_by_their_places_each_once():
    own, other, third = np.random.default_rng(0), random.Random(0), torch.Generator()
    inner = SimpleNamespace(transform=SimpleNamespace(steps=[print, (other,)]), own=own)
    data = SimpleNamespace(dataset=inner, by_name={"a": third}, again=own)
    data.itself = data
    assert generators_in({"loader": None, "dataset": data}) == {
        "dataset.again": own,
        "dataset.by_name['a']": third,
        "dataset.dataset.transform.steps[1][0]": other,
    }


def test_what_may_be_data_is_not_looked_through():
    class Costly:
        @property
        def rng(self):
            raise AssertionError

    samples = [random.Random(0) for _ in range(65)]
    assert not generators_in({"dataset": SimpleNamespace(samples=samples, source=Costly())})
    assert not generators_in({"dataset": SimpleNamespace(rng=random.SystemRandom())})
