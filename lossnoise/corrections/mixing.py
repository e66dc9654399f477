"""Mixup and dynamic mixup as pure functions (Zhang et al., ICLR 2018; Arazo et al., ICML 2019)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lossnoise.corrections._logits import OR_UNCOMPILED, as_written, uncompiled
from lossnoise.corrections._nested import iter_tensors, map_tensors
from lossnoise.exceptions import InvalidDataError

SMALLEST_WRONG = 1e-4  # two samples that are surely wrong would divide 0 by 0


def draw_mixing_weight(alpha: float, rng: np.random.Generator) -> float:
    """Return one draw d ~ Beta(alpha, alpha), the weight of the first of two mixed samples.

    Parameters
    ----------
    alpha : float
        Positive; 32 keeps d near one half, below 1 pushes it to the ends.
    rng : numpy.random.Generator
        Source of the draw, on the host: a device would have to be waited for.

    Returns
    -------
    weight : float in [0, 1]

    Examples
    --------
    >>> import numpy as np
    >>> 0 < draw_mixing_weight(32.0, np.random.default_rng(0)) < 1
    True
    """
    return float(rng.beta(alpha, alpha))


def draw_partners(size: int, generator: torch.Generator) -> Tensor:
    """Return a random permutation: the sample that each sample of a batch is mixed with.

    Parameters
    ----------
    size : int
        Number of samples in the batch.
    generator : torch.Generator
        Source of the draw; its device is the device of the result.

    Returns
    -------
    partners : Tensor of shape (size,), int64

    Examples
    --------
    >>> import torch
    >>> draw_partners(4, torch.Generator().manual_seed(0)).sort().values
    tensor([0, 1, 2, 3])
    """
    return torch.randperm(size, generator=generator, device=generator.device)


def dynamic_weights(wrong: Tensor, partners: Tensor) -> Tensor:
    """Return d_p / (d_p + d_q) with d = 1 - w: the share of each sample in its mixed input.

    Of two mixed samples, the one whose label is more probably right has the larger share (Arazo
    et al. 2019, section 3.3). w is clipped to [1e-4, 1 - 1e-4].

    Parameters
    ----------
    wrong : Tensor of shape (batch,), float32
        P(label wrong) of each sample.
    partners : Tensor of shape (batch,), int64
        The sample that each one is mixed with.

    Returns
    -------
    weights : Tensor of shape (batch,), float32

    Examples
    --------
    >>> import torch
    >>> dynamic_weights(torch.tensor([0.25, 0.75]), torch.tensor([1, 0]))
    tensor([0.7500, 0.2500])
    """
    right = 1.0 - wrong.clamp(SMALLEST_WRONG, 1.0 - SMALLEST_WRONG)
    return right / (right + right[partners])


def mix_inputs(inputs: Any, partners: Tensor, weight: float | Tensor) -> Any:
    """Return d x_p + (1 - d) x_q, q the partner of p.

    Parameters
    ----------
    inputs : Tensor of shape (batch, ...), or a dict, tuple or list of them
        Floating point: a mean of two token ids has no meaning.
    partners : Tensor of shape (batch,), int64
        Partner of each sample.
    weight : float or Tensor of shape (batch,)
        Weight d of the sample itself.

    Returns
    -------
    mixed : like `inputs`

    Raises
    ------
    InvalidDataError
        The inputs are not floating point.

    Examples
    --------
    >>> import torch
    >>> mix_inputs(torch.tensor([[0.0], [1.0]]), torch.tensor([1, 0]), 0.75)
    tensor([[0.2500],
            [0.7500]])
    """
    for tensor in iter_tensors(inputs):
        if not tensor.is_floating_point():
            raise InvalidDataError(
                "The 'inputs' parameter of mixup must be floating-point tensors. Got "
                f"{tensor.dtype} instead: inputs such as token ids cannot be averaged. Name the "
                "module whose output can be, such as mix_at='embedding', or use a correction that "
                "does not mix, such as 'dyr-h' or 'cross-entropy'."
            )
    return map_tensors(lambda tensor: _mix(tensor, partners, weight), inputs)


def _mix(tensor: Tensor, partners: Tensor, weight: float | Tensor) -> Tensor:
    if isinstance(weight, Tensor):
        weight = weight.to(tensor.dtype).view(-1, *[1] * (tensor.ndim - 1))
    return torch.lerp(tensor[partners], tensor, weight)


def forward_mixed(
    model: nn.Module,
    inputs: Any,
    partners: Tensor,
    weight: float | Tensor,
    mix_at: str | None = None,
) -> Tensor:
    """Return the logits of mixed inputs, or of mixed features at a module inside the model.

    With `mix_at`, the inputs go into the model as they are, and what the module of that name
    returns is mixed instead, as in manifold mixup (Verma et al., ICML 2019): so token ids can be
    mixed where they have become vectors. A compiled model then runs as it was before; PyTorch
    before 2.6 cannot do that.

    Parameters
    ----------
    model : nn.Module
        Called with `inputs`.
    inputs : Tensor of shape (batch, ...), or a dict, tuple or list of them
    partners : Tensor of shape (batch,), int64
        Partner of each sample.
    weight : float or Tensor of shape (batch,)
        Weight of the sample itself.
    mix_at : str, optional
        Name of a submodule, as `model.get_submodule` takes it, that returns one floating-point
        tensor with one row a sample. Of a model that puts the batch second, as recurrent ones
        may, no module inside will do: where its steps are as many as the samples, they are mixed
        instead, and nothing tells.

    Returns
    -------
    logits : Tensor of shape (batch, num_classes)

    Raises
    ------
    InvalidDataError
        What should be mixed is not floating point, or does not have one row a sample, or the
        model never calls the module.

    Examples
    --------
    >>> import torch
    >>> model = torch.nn.Sequential(torch.nn.Embedding(5, 4), torch.nn.Flatten())
    >>> ids, partners = torch.tensor([[0], [1]]), torch.tensor([1, 0])
    >>> forward_mixed(model, ids, partners, 0.5, mix_at="0").shape
    torch.Size([2, 4])
    """
    if mix_at is None:
        logits: Tensor = model(mix_inputs(inputs, partners, weight))
        return logits
    module = as_written(model).get_submodule(mix_at)
    mixed = False

    def mix(_module: nn.Module, _inputs: Any, output: Any) -> Any:
        nonlocal mixed
        mixed = True
        _check_rows(mix_at, output, len(partners))
        return mix_inputs(output, partners, weight)

    hook = module.register_forward_hook(mix)
    try:
        with uncompiled():
            logits = model(inputs)
    finally:
        hook.remove()
    if not mixed:
        raise InvalidDataError(
            "The 'mix_at' parameter of mixup must name a module that the model calls. Got "
            f"{mix_at!r} instead, which it does not call: nothing was mixed. Name another module"
            f"{OR_UNCOMPILED}."
        )
    return logits


def _check_rows(mix_at: str, output: Any, size: int) -> None:
    """Raise where a module returns something else than one tensor with one row a sample."""
    if isinstance(output, Tensor) and output.shape[:1] == (size,):
        return
    got = f"a tensor of shape {tuple(output.shape)}" if isinstance(output, Tensor) else ""
    raise InvalidDataError(
        "The 'mix_at' parameter of mixup must name a module that returns one tensor with one row "
        f"a sample. Got {mix_at!r} instead, which returns {got or f'a {type(output).__name__}'} "
        f"for a batch of {size} samples."
    )


def mix_losses(own: Tensor, partner: Tensor, weight: float | Tensor) -> Tensor:
    """Return d l_p + (1 - d) l_q, the loss of a mixed input against both labels.

    Parameters
    ----------
    own, partner : Tensor of shape (batch,)
        Losses of the mixed inputs against the sample's own target and against its partner's.
    weight : float or Tensor of shape (batch,)
        Weight d of the sample itself.

    Returns
    -------
    losses : Tensor of shape (batch,)

    Examples
    --------
    >>> import torch
    >>> mix_losses(torch.tensor([1.0]), torch.tensor([3.0]), 0.75)
    tensor([1.5000])
    """
    return weight * own + (1.0 - weight) * partner
