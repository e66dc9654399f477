"""Mixup: learn from averages of two samples."""

from __future__ import annotations

import math

from torch import Tensor, nn

from lossnoise._validation import check_real
from lossnoise.corrections.base import Batch, Correction, EpochContext
from lossnoise.corrections.losses import cross_entropy
from lossnoise.corrections.mixing import (
    draw_mixing_weight,
    draw_partners,
    mix_inputs,
    mix_losses,
)


class Mixup(Correction):
    """Learn from averages of two inputs and of their labels; registry name ``"mixup"``.

    x = d x_p + (1 - d) x_q with the loss d l_p + (1 - d) l_q, and one d ~ Beta(alpha, alpha) a
    batch (Zhang et al. 2018). With alpha = 32 (Arazo et al. 2019) d stays near one half, which
    makes wrong labels hard to memorise.

    Parameters
    ----------
    alpha : float, default=32.0
        Parameter of the beta distribution, positive.

    Examples
    --------
    >>> from lossnoise.corrections import Mixup
    >>> Mixup(alpha=8.0).alpha
    8.0
    """

    def __init__(self, *, alpha: float = 32.0) -> None:
        self.alpha = alpha

    def setup(self, context: EpochContext) -> None:
        """Check the parameters."""
        check_real(type(self).__name__, "alpha", self.alpha, 0.0, math.inf, closed="neither")

    def loss(self, model: nn.Module, batch: Batch, context: EpochContext) -> Tensor:
        """Return the mixed cross-entropy of each sample, shape (batch,)."""
        weight = draw_mixing_weight(self.alpha, context.rng)
        partners = draw_partners(len(batch.labels), context.generator)
        logits = model(mix_inputs(batch.inputs, partners, weight))
        own = cross_entropy(logits, batch.labels)
        partner = cross_entropy(logits, batch.labels[partners])
        return mix_losses(own, partner, weight)
