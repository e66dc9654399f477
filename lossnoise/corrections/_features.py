"""Penultimate features: what the last linear layer of a model is called with."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lossnoise._validation import invalid_parameter
from lossnoise.corrections._logits import (
    OR_UNCOMPILED,
    LogitsModel,
    as_written,
    uncompiled,
    user_model,
)
from lossnoise.corrections._modes import eval_mode
from lossnoise.corrections._nested import iter_tensors, map_tensors
from lossnoise.exceptions import InvalidDataError


class Features(NamedTuple):
    """What one forward pass gave.

    Attributes
    ----------
    logits : Tensor of shape (batch, num_classes)
    features : Tensor of shape (batch, num_features), float32
        With gradient where the logits have one.
    """

    logits: Tensor
    features: Tensor


def forward_features(model: nn.Module, inputs: Any, features_at: str = "") -> Features:
    """Return the logits of a batch, and its features, from one forward pass.

    A compiled model runs as it was before: what its modules are called with is not seen otherwise.
    PyTorch before 2.6 cannot do that, and where it hides the module an error says so.

    Parameters
    ----------
    model : nn.Module
        Called with `inputs`; wrapped or not.
    inputs : Tensor of shape (batch, ...), or a dict, tuple or list of them
    features_at : str, default=""
        Name of the module whose input is meant, as `model.get_submodule` takes it. Empty: the
        last `torch.nn.Linear` that the forward pass meets.

    Returns
    -------
    found : Features

    Raises
    ------
    InvalidDataError
        The model calls no such module, or not with one row a sample.

    Examples
    --------
    >>> import torch
    >>> model = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    >>> found = forward_features(model, torch.zeros(5, 2))
    >>> found.logits.shape, found.features.shape
    (torch.Size([5, 3]), torch.Size([5, 8]))
    """
    met: list[Tensor] = []  # the last alone

    def keep(_module: nn.Module, args: Any, kwargs: Any) -> None:
        met[:] = list(iter_tensors([args, kwargs]))[:1]

    own = as_written(model)
    modules = [own.get_submodule(features_at)] if features_at else _linear_layers(own)
    hooks = [module.register_forward_pre_hook(keep, with_kwargs=True) for module in modules]
    try:
        with uncompiled():
            logits = model(inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return Features(logits, _as_rows(met, len(logits), features_at))


def check_features_at(owner: str, features_at: object, model: nn.Module) -> None:
    """Raise where `features_at` names no module of the user's model, and is needed."""
    own = as_written(model)
    names = [name for name, _ in own.named_modules() if name]
    if features_at in names or (features_at == "" and _linear_layers(own)):
        return
    some = ", ".join(map(repr, names[:5])) + (", ..." if len(names) > 5 else "")
    ending = "" if _linear_layers(own) else ", as it has no torch.nn.Linear"
    expected = f"the name of a module of the model ({some or 'it has none'}){ending}"
    raise invalid_parameter(owner, "features_at", expected, features_at)


@torch.no_grad()
def try_features(model: nn.Module, inputs: Any, features_at: str) -> None:
    """Raise where a batch gives no features, by a forward pass in eval mode that leaves nothing."""
    alone = LogitsModel(user_model(model))  # without waiting for other processes
    with eval_mode(alone):
        forward_features(alone, map_tensors(torch.clone, inputs), features_at)  # it may write


def _linear_layers(module: nn.Module) -> list[nn.Module]:
    return [part for part in module.modules() if isinstance(part, nn.Linear)]


def _as_rows(met: list[Tensor], size: int, features_at: str) -> Tensor:
    """Return features as one float32 row a sample."""
    module = f"the module {features_at!r}" if features_at else "a torch.nn.Linear"
    if not met:
        raise InvalidDataError(
            f"The model of NoisyLabelTrainer must call {module} for its features. It does not: "
            f"name a module that it calls with them, by features_at{OR_UNCOMPILED}."
        )
    (features,) = met
    if features.ndim == 0 or len(features) != size:
        raise InvalidDataError(
            f"The model of NoisyLabelTrainer must call {module} with one row a sample. Got a "
            f"tensor of shape {tuple(features.shape)} for {size} samples instead: name another "
            "module by features_at."
        )
    return features.reshape(size, -1).float()
