"""Random generators of a user's own, in a dataset, its transforms, a loader or a sampler."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch

Generator = torch.Generator | np.random.Generator | np.random.RandomState | random.Random

DEEPEST = 6  # as in subset.dataset.transform.transforms[0].steps[0].rng
LONGEST = 64  # of a list of transforms or datasets; longer ones are data

# Objects that hold no generators, and may hold much else; the system's source has no state.
DATA = (str, bytes, type, torch.Tensor, np.ndarray, random.SystemRandom)


def generators_in(owners: dict[str, Any]) -> dict[str, Generator]:
    """Return the generators in the attributes of objects, each once, by where it was found.

    Attributes of attributes too, and items of short lists, tuples and dicts: a dataset has
    transforms, which have generators. Nothing is computed to look at it: no properties.
    """
    found: dict[str, Generator] = {}
    seen: dict[int, Any] = {}  # objects are kept, so that no other one gets the id of one
    places = list(owners.items())
    for _ in range(DEEPEST + 1):
        deeper = []
        for place, value in places:
            if isinstance(value, DATA) or id(value) in seen:
                continue
            seen[id(value)] = value
            if isinstance(value, Generator):
                found[place] = value
            else:
                deeper += [(place + name, part) for name, part in _parts(value)]
        places = deeper
    return found


def _parts(value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, (list, tuple)):
        return [(f"[{i}]", part) for i, part in enumerate(value)] if len(value) <= LONGEST else []
    if isinstance(value, dict):
        return [(f"[{key!r}]", value[key]) for key in value] if len(value) <= LONGEST else []
    return [(f".{name}", part) for name, part in getattr(value, "__dict__", {}).items()]


def state_of(generator: Generator) -> Any:
    """Return the state of a generator as tensors and plain data."""
    if isinstance(generator, torch.Generator):
        return generator.get_state()
    if isinstance(generator, random.Random):
        return _plain(generator.getstate())
    if isinstance(generator, np.random.Generator):
        return _plain(generator.bit_generator.state)
    return _plain(generator.get_state(legacy=False))


def restore(generator: Generator, state: Any) -> None:
    """Give a generator the state that `state_of` returned."""
    if isinstance(generator, torch.Generator):
        generator.set_state(state)
    elif isinstance(generator, random.Random):
        generator.setstate(_tuples(state))
    elif isinstance(generator, np.random.Generator):
        generator.bit_generator.state = state
    else:
        generator.set_state(state)


def _plain(state: Any) -> Any:
    """Return a state whose arrays and tuples are lists."""
    if isinstance(state, dict):
        return {name: _plain(part) for name, part in state.items()}
    if isinstance(state, (tuple, list, np.ndarray)):
        return [_plain(part) for part in (state.tolist() if hasattr(state, "tolist") else state)]
    return state


def _tuples(state: Any) -> Any:
    return tuple(map(_tuples, state)) if isinstance(state, list) else state
