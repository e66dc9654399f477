"""Which generators of a user's own are found, and that their states come back."""

import random
import weakref
from dataclasses import dataclass
from functools import partial
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


@dataclass(slots=True)
class Slotted:
    rng: object


def test_found_in_slots_closures_partial_functions_and_bound_methods():
    slotted, closed, given, bound, deep = (np.random.default_rng(i) for i in range(5))

    class Transform:
        def __init__(self, rng):
            self.rng = rng

        def apply(self, inputs):
            return inputs + self.rng.random()

    chain = SimpleNamespace(transforms=[SimpleNamespace(steps=[SimpleNamespace(rng=deep)])])
    data = SimpleNamespace(
        slots=Slotted(slotted),
        closure=lambda inputs: inputs + closed.random(),
        partial=partial(print, rng=given),
        method=Transform(bound).apply,
        dataset=SimpleNamespace(dataset=SimpleNamespace(transform=chain)),
    )
    assert generators_in({"data": data}) == {
        "data.slots.rng": slotted,
        "data.closure.closed": closed,
        "data.partial.keywords['rng']": given,
        "data.method.__self__.rng": bound,
        "data.dataset.dataset.transform.transforms[0].steps[0].rng": deep,
    }


class Odd:
    """Computes what it is asked for, and fails."""

    __slots__ = ("values",)

    def __getattr__(self, name):
        raise KeyError(name)


class Loading(dict):
    def __getitem__(self, key):
        raise AssertionError

    items = __iter__ = __getitem__


def test_what_may_be_data_is_not_looked_through():
    class Costly:
        @property
        def rng(self):
            raise AssertionError

    samples = [random.Random(0) for _ in range(65)]
    gone = weakref.proxy(Costly())
    for value in (samples, Costly(), Odd(), Loading(a=1), gone, np, torch, {object(): samples[0]}):
        assert not generators_in({"dataset": SimpleNamespace(value=value)})
    for rng in (random.SystemRandom(), np.random.mtrand._rand, torch.default_generator):
        assert not generators_in({"dataset": SimpleNamespace(rng=rng)})


def test_a_function_may_know_what_is_not_there_yet():
    def early():
        return later

    assert not generators_in({"dataset": SimpleNamespace(transform=early)})
    later = np.random.default_rng(0)
    assert generators_in({"data": SimpleNamespace(of=early)}) == {"data.of.later": later}


def test_it_ends_soon_whatever_it_walks_through():
    leaves = [[[[object() for _ in range(30)] for _ in range(30)] for _ in range(30)] for _ in "ab"]
    assert not generators_in({"dataset": SimpleNamespace(leaves=leaves)})
