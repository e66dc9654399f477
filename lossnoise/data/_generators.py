"""Random generators of a user's own, in a dataset, its transforms, a loader or a sampler."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator
from functools import partial
from types import FunctionType, MemberDescriptorType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch

Generator = torch.Generator | np.random.Generator | np.random.RandomState | random.Random

DEEPEST = 8  # as in subset.dataset.transform.transforms[0].steps[0].rng, and a bit
LONGEST = 64  # of a list of transforms or datasets; longer ones are data
MOST = 10_000  # objects that are looked at

# Objects that hold no generators, and may hold much else; the system's source has no state.
DATA = (str, bytes, type, torch.Tensor, np.ndarray, ModuleType, random.SystemRandom)


def generators_in(owners: dict[str, Any]) -> dict[str, Generator]:
    """Return the generators in the attributes of objects, each once, by where it was found.

    Attributes of attributes too, items of short lists, tuples and dicts, and what partial functions
    and closures hold: a dataset has transforms, which have generators. Nothing is computed to look
    at it: no properties, and no items of containers of another kind. Global generators are not
    theirs.
    """
    found: dict[str, Generator] = {}
    seen = {id(generator): generator for generator in _global_generators()}
    places = deque((place, value, 0) for place, value in owners.items())
    while places and len(seen) < MOST:
        place, value, depth = places.popleft()
        if id(value) in seen or issubclass(type(value), DATA):
            continue
        seen[id(value)] = value  # kept, so that no other object gets its id
        if issubclass(type(value), Generator):
            found[place] = value
        elif depth < DEEPEST:
            places.extend((place + name, part, depth + 1) for name, part in _parts(value))
    return found


def _global_generators() -> list[Any]:
    return [torch.default_generator, np.random.mtrand._rand, getattr(random, "_inst", None)]


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield what an object holds, by how one gets there."""
    kind = type(value)
    if kind in (list, tuple):
        yield from ((f"[{i}]", part) for i, part in enumerate(_short(value)))
    elif kind is dict:
        items = _short(value.items())
        yield from ((f"[{key!r}]", part) for key, part in items if type(key) in (str, int))
    elif kind is partial:
        yield from ((".args", value.args), (".keywords", value.keywords), (".func", value.func))
    elif kind is MethodType:
        yield ".__self__", value.__self__
    elif kind is FunctionType:
        yield from _closed_over(value)
    else:
        yield from _attributes(value)


def _closed_over(function: FunctionType) -> Iterator[tuple[str, Any]]:
    """Yield what a function has from where it was made."""
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield f".{name}", cell.cell_contents
        except ValueError:  # it is empty
            continue


def _short(items: Any) -> list[Any]:
    return list(items) if len(items) <= LONGEST else []


def _attributes(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield attributes and slots, past all that a class does when it is asked for one."""
    slots = [
        (name, slot)
        for kind in type(value).__mro__
        for name, slot in vars(kind).items()
        if type(slot) is MemberDescriptorType
    ]
    for name, slot in slots:
        try:
            yield f".{name}", slot.__get__(value)
        except AttributeError:  # not set
            continue
    try:
        held = object.__getattribute__(value, "__dict__")
    except AttributeError:  # there are slots only
        return
    if type(held) is dict:
        yield from ((f".{name}", part) for name, part in list(held.items()))


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
