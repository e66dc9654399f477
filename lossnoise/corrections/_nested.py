"""Inputs that are several tensors: a dict as from a tokenizer, or a tuple."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor

from lossnoise._samples import is_mapping


def map_tensors(function: Callable[[Tensor], Tensor], inputs: Any) -> Any:
    """Return inputs with `function` applied to each tensor; what is no tensor stays."""
    if isinstance(inputs, Tensor):
        return function(inputs)
    if is_mapping(inputs):
        return {key: map_tensors(function, inputs[key]) for key in inputs.keys()}  # noqa: SIM118  # mapping-like
    if isinstance(inputs, tuple) and hasattr(inputs, "_fields"):
        return type(inputs)(*(map_tensors(function, part) for part in inputs))
    if isinstance(inputs, (list, tuple)):
        return type(inputs)(map_tensors(function, part) for part in inputs)
    return inputs


def iter_tensors(inputs: Any) -> Iterator[Tensor]:
    """Yield each tensor of the inputs."""
    if isinstance(inputs, Tensor):
        yield inputs
    elif is_mapping(inputs):
        for key in inputs.keys():  # noqa: SIM118  # mapping-like
            yield from iter_tensors(inputs[key])
    elif isinstance(inputs, (list, tuple)):
        for part in inputs:
            yield from iter_tensors(part)
