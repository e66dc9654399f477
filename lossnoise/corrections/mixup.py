"""Mixup: learn from averages of two samples."""

from __future__ import annotations

import math

from torch import Tensor, nn

from lossnoise._validation import check_real
from lossnoise.corrections._logits import check_mix_at
from lossnoise.corrections.base import Batch, Correction, EpochContext
from lossnoise.corrections.losses import cross_entropy
from lossnoise.corrections.mixing import (
    draw_mixing_weight,
    draw_partners,
    forward_mixed,
    mix_losses,
)


def mixup_loss(
    model: nn.Module, batch: Batch, context: EpochContext, *, alpha: float, mix_at: str | None
) -> Tensor:
    """Return d l_p + (1 - d) l_q of each sample of a batch, shape (batch,)."""
    weight = draw_mixing_weight(alpha, context.rng)
    partners = draw_partners(len(batch.labels), context.generator)
    logits = forward_mixed(model, batch.inputs, partners, weight, mix_at)
    own = cross_entropy(logits, batch.labels)
    partner = cross_entropy(logits, batch.labels[partners])
    return mix_losses(own, partner, weight)


class Mixup(Correction):
    """Learn from averages of two inputs and of their labels; registry name ``"mixup"``.

    x = d x_p + (1 - d) x_q with the loss d l_p + (1 - d) l_q, and one d ~ Beta(alpha, alpha) a
    batch (Zhang et al. 2018). With alpha = 32 (Arazo et al. 2019) d stays near one half, which
    makes wrong labels hard to memorise.

    Parameters
    ----------
    alpha : float, default=32.0
        Parameter of the beta distribution, positive.
    mix_at : str, optional
        Mix what this module of the model returns, instead of the inputs: the name of an
        embedding, for token ids (`forward_mixed`).

    Examples
    --------
    >>> from lossnoise.corrections import Mixup
    >>> Mixup(alpha=8.0).alpha
    8.0
    """

    def __init__(self, *, alpha: float = 32.0, mix_at: str | None = None) -> None:
        self.alpha = alpha
        self.mix_at = mix_at

    def setup(self, context: EpochContext) -> None:
        """Check the parameters."""
        owner = type(self).__name__
        check_real(owner, "alpha", self.alpha, 0.0, math.inf, closed="neither")
        check_mix_at(owner, self.mix_at, context.engine.model)

    def loss(self, model: nn.Module, batch: Batch, context: EpochContext) -> Tensor:
        """Return the mixed cross-entropy of each sample, shape (batch,)."""
        return mixup_loss(model, batch, context, alpha=self.alpha, mix_at=self.mix_at)
