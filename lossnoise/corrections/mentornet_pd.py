"""MentorNet with a predefined curriculum: learn from the samples of small loss (Jiang et al.)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from lossnoise._validation import check_real
from lossnoise.corrections._mentor import MentorNet
from lossnoise.corrections.base import EpochContext, resolve_epochs


def predefined_curriculum(diffs: Tensor, gamma: float | None = None) -> Tensor:
    """Return v: 1 where a loss is below the moving percentile, and what lies above it.

    v = 1[diff <= 0], or with gamma clip(1 - diff / gamma, 0, 1): self-paced learning with a hard
    and with a linear threshold (Jiang et al., ICML 2018, section 3).

    Parameters
    ----------
    diffs : Tensor of shape (batch,)
        Losses less the moving percentile.
    gamma : float, optional
        How far above it a sample still has a part. Default: none has.

    Returns
    -------
    weights : Tensor of shape (batch,), float32

    Examples
    --------
    >>> import torch
    >>> diffs = torch.tensor([-1.0, 0.0, 0.5, 3.0])
    >>> predefined_curriculum(diffs)
    tensor([1., 1., 0., 0.])
    >>> predefined_curriculum(diffs, gamma=2.0)
    tensor([1.0000, 1.0000, 0.7500, 0.0000])
    """
    if gamma is None:
        return (diffs <= 0.0).float()
    return (1.0 - diffs / gamma).clamp(0.0, 1.0)


class MentorNetPD(MentorNet):
    """Learn from samples of small loss; registry name ``"mentornet-pd"``.

    The predefined curriculum of MentorNet (Jiang et al., ICML 2018): the student's loss is the
    mean of v_i l_i, where v tells how far the loss l is from a moving percentile of the losses
    (`predefined_curriculum`). First v is 1 everywhere, then only up to that percentile, and at
    the end it falls off above it linearly.

    Parameters
    ----------
    percentile : float, default=75.0
        Of the losses of a batch, in (1, 100]: about so many percent of the samples are learnt
        from.
    decay : float, default=0.5
        Of its moving average, in [0, 1): how much a batch leaves of what was before.
    warmup : int or float, default=0.18
        Epochs with v = 1: a number of epochs (int) or a fraction of the run (float).
    hard_until : int or float, default=0.9
        The last epoch in which samples above the percentile have no part at all, in the same way.
    gamma : float, default=1.0
        After that, how far above the percentile a loss may be for v to be positive, in nats.
    dropout : pair of floats, default=(0.5, 0.05)
        Share of the samples that have no part in a step, by chance: early, and later.
    dropout_until : int or float, default=0.17
        The last epoch that is early, as for `warmup`.

    Attributes
    ----------
    sample_weights_ : Tensor of shape (num_samples,), float32, or None
        v of each training sample in the last epoch. None before the end of an epoch.

    Examples
    --------
    >>> from lossnoise.corrections import MentorNetPD
    >>> MentorNetPD(percentile=50.0).gamma
    1.0
    """

    def __init__(
        self,
        *,
        percentile: float = 75.0,
        decay: float = 0.5,
        warmup: float = 0.18,
        hard_until: float = 0.9,
        gamma: float = 1.0,
        dropout: Sequence[float] = (0.5, 0.05),
        dropout_until: float = 0.17,
    ) -> None:
        self.percentile = percentile
        self.decay = decay
        self.warmup = warmup
        self.hard_until = hard_until
        self.gamma = gamma
        self.dropout = dropout
        self.dropout_until = dropout_until

    def setup(self, context: EpochContext) -> None:
        """Check the parameters."""
        super().setup(context)
        owner = type(self).__name__
        check_real(owner, "gamma", self.gamma, 0.0, math.inf, closed="neither")
        resolve_epochs(owner, "hard_until", self.hard_until, context.num_epochs)

    def weigh(self, losses: Tensor, diffs: Tensor, labels: Tensor, context: EpochContext) -> Tensor:
        """Return v of each sample, shape (batch,)."""
        hard = context.epoch <= self._epochs("hard_until", context)
        return predefined_curriculum(diffs, None if hard else self.gamma)
