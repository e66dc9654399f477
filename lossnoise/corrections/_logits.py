"""One way to call any model: with the inputs of a batch, for its logits."""

from __future__ import annotations

import inspect
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from lossnoise._samples import is_mapping
from lossnoise._validation import invalid_parameter
from lossnoise.corrections._nested import iter_tensors, map_tensors
from lossnoise.exceptions import InvalidDataError

CAN_UNCOMPILE = hasattr(torch.compiler, "set_stance")  # from PyTorch 2.6 on
OR_UNCOMPILED = "" if CAN_UNCOMPILE else ", or give the model uncompiled"


class LogitsModel(nn.Module):
    """A user's model, which takes the inputs of a batch as they are and returns its logits.

    A dict of inputs becomes keyword arguments, and a tuple or list positional ones. The logits
    are what the model returns, or else the first of a tuple, the entry ``logits`` of a dict, or
    the attribute ``logits``.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self._writes_inputs = False

    def forward(self, inputs: Any) -> Tensor:
        """Return the logits of a batch, shape (batch, num_classes).

        They are a copy: the next call of a model that was compiled, wholly or in part, with CUDA
        graphs (``mode="reduce-overhead"``) writes into the same memory. A model that writes into
        its inputs, to normalise them say, gets a copy from the second call on: most methods call it
        twice with a batch. The first call is only a look at what it returns.
        """
        given = map_tensors(torch.clone, inputs) if self._writes_inputs else inputs
        before = _versions(given)
        output = _call(self.module, given)
        self._writes_inputs = self._writes_inputs or _versions(given) != before
        return read_logits(output).clone()


def bare(model: nn.Module) -> nn.Module:
    """Return a model without the wrapper that keeps processes in step."""
    return model.module if isinstance(model, DistributedDataParallel) else model


def user_model(model: nn.Module) -> nn.Module:
    """Return the user's own model inside what the engine trains."""
    model = bare(model)
    return model.module if isinstance(model, LogitsModel) else model


def as_written(model: nn.Module) -> nn.Module:
    """Return the user's own model, as it was before `torch.compile` wrapped it."""
    own = user_model(model)
    written: nn.Module = getattr(own, "_orig_mod", own)
    return written


def uncompiled() -> AbstractContextManager[Any]:
    """Return a context in which compiled models run as they were before.

    What their modules are called with is not seen otherwise. PyTorch before 2.6 has none.
    """
    if not CAN_UNCOMPILE:
        return nullcontext()
    eager: AbstractContextManager[Any] = torch.compiler.set_stance("force_eager")
    return eager


def check_mix_at(owner: str, mix_at: object, model: nn.Module) -> None:
    """Raise where `mix_at` is not the name of a module of the user's model."""
    names = [name for name, _ in as_written(model).named_modules() if name]
    if mix_at is not None and mix_at not in names:
        some = ", ".join(map(repr, names[:5])) + (", ..." if len(names) > 5 else "")
        expected = f"the name of a module of the model ({some or 'it has none'})"
        raise invalid_parameter(owner, "mix_at", expected, mix_at)


def read_logits(output: Any, owner: str = "NoisyLabelTrainer") -> Tensor:
    """Return the logits in what a model returned."""
    found = output
    if is_mapping(output) and "logits" in output.keys():  # noqa: SIM118  # mapping-like
        found = output["logits"]
    elif hasattr(output, "logits"):
        found = output.logits
    elif isinstance(output, (tuple, list)) and output:
        found = output[0]
    if isinstance(found, Tensor):
        return found
    raise InvalidDataError(
        f"The 'model' parameter of {owner} must return logits: a tensor, a tuple that "
        "begins with it, or an object or dict with 'logits'. "
        f"Got {_describe(output)} instead."
    )


def _call(module: nn.Module, inputs: Any) -> Any:
    if isinstance(inputs, (tuple, list)):
        return module(*inputs)
    if not is_mapping(inputs):
        return module(inputs)
    (first, *others) = inputs.values()
    if not others and not _takes(module, next(iter(inputs.keys()))):
        return module(first)  # {"image": ...} for a model whose argument is called x
    return module(**inputs)


def _versions(inputs: Any) -> list[int]:
    """Return how often each tensor was written to."""
    return [0 if tensor.is_inference() else tensor._version for tensor in iter_tensors(inputs)]


def _takes(module: nn.Module, name: str) -> bool:
    own = getattr(module, "_orig_mod", module)  # of torch.compile
    parameters = inspect.signature(own.forward).parameters
    return name in parameters or any(
        parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()
    )


def _describe(output: object) -> str:
    if is_mapping(output):
        return f"a {type(output).__name__} with {', '.join(map(repr, output.keys()))}"  # type: ignore[attr-defined]  # mapping-like
    return f"a {type(output).__name__}"
