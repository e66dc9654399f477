"""Mixup as pure functions (Zhang et al., ICLR 2018)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from lossnoise.exceptions import InvalidDataError


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


def mix_inputs(inputs: Tensor, partners: Tensor, weight: float) -> Tensor:
    """Return d x_p + (1 - d) x_q, q the partner of p.

    Parameters
    ----------
    inputs : Tensor of shape (batch, ...)
        Floating point: a mean of two token ids has no meaning.
    partners : Tensor of shape (batch,), int64
        Partner of each sample.
    weight : float
        Weight d of the sample itself.

    Returns
    -------
    mixed : Tensor of the shape and type of `inputs`

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
    if not inputs.is_floating_point():
        raise InvalidDataError(
            "The 'inputs' parameter of mixup must be floating-point tensors. Got "
            f"{inputs.dtype} instead: inputs such as token ids cannot be averaged; use "
            "correction='cross-entropy', or a dataset that yields floating-point features."
        )
    return torch.lerp(inputs[partners], inputs, weight)


def mix_losses(own: Tensor, partner: Tensor, weight: float) -> Tensor:
    """Return d l_p + (1 - d) l_q, the loss of a mixed input against both labels.

    Parameters
    ----------
    own, partner : Tensor of shape (batch,)
        Losses of the mixed inputs against the sample's own target and against its partner's.
    weight : float
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
