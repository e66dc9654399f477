"""Random state of a run: our own generators, and the global ones that user code draws from."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


class RunGenerators:
    """The generators that the library itself draws from during a run.

    Attributes
    ----------
    numpy : numpy.random.Generator
        Mixing weights, on the host.
    order : torch.Generator
        Order of the samples, on the host.
    sweeps : torch.Generator
        Seeds of the worker processes of passes in order.
    device : torch.Generator
        Permutations of a batch, on the training device: of each process its own.
    """

    def __init__(self, seed: int, device: torch.device, rank: int = 0) -> None:
        # Not the seed itself: the global generators are seeded with it.
        order, mixing, weights, sweeps = np.random.SeedSequence(seed).spawn(4)
        self.numpy = np.random.default_rng(weights)
        self.sweeps = torch.Generator().manual_seed(int(sweeps.generate_state(1)[0]))
        self.order = torch.Generator().manual_seed(int(order.generate_state(1)[0]))
        self.device = torch.Generator(device).manual_seed(
            int(mixing.generate_state(rank + 1)[rank])
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the state of these generators and of the global ones."""
        return {
            "numpy": self.numpy.bit_generator.state,
            "order": self.order.get_state(),
            "sweeps": self.sweeps.get_state(),
            "device": self.device.get_state(),
            "globals": global_random_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` returned."""
        self.numpy.bit_generator.state = state["numpy"]
        self.order.set_state(state["order"])
        self.sweeps.set_state(state["sweeps"])
        self.device.set_state(state["device"])
        set_global_random_state(state["globals"])


def global_random_state() -> dict[str, Any]:
    """Return the state of torch's, numpy's and Python's global generators, as plain data."""
    name, keys, *rest = np.random.get_state(legacy=True)
    version, internal, gauss = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": [name, [int(key) for key in keys], *rest],
        "python": [version, list(internal), gauss],
    }


def set_global_random_state(state: dict[str, Any]) -> None:
    """Take back what `global_random_state` returned."""
    torch.set_rng_state(state["torch"])
    if state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"])
    np.random.set_state(tuple(state["numpy"]))
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))


@contextmanager
def kept_globals() -> Iterator[None]:
    """Give the global generators their state back at the end."""
    before = global_random_state()
    try:
        yield
    finally:
        set_global_random_state(before)


@contextmanager
def seeded_globals(seed: int) -> Iterator[None]:
    """Seed the global generators, and give the caller's state back at the end.

    Dropout, and most transforms that users bring, draw from them.
    """
    with kept_globals():
        torch.manual_seed(seed)  # also seeds every CUDA device
        np.random.seed(seed % 2**32)
        random.seed(seed)
        yield
