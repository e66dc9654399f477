"""Static hard bootstrapping (Reed et al., 2015)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lossnoise._validation import check_real
from lossnoise.corrections.base import Batch, Correction, EpochContext
from lossnoise.corrections.losses import cross_entropy, hard_bootstrap


class BootstrapHard(Correction):
    """Trust the network a little, always and everywhere; registry name ``"bootstrap-hard"``.

    The target of every sample is (1 - w) y + w z, with the same w for all and z the
    class that the network prefers, one-hot (Reed et al., "Training Deep
    Neural Networks on Noisy Labels with Bootstrapping", ICLR 2015 workshop).

    Parameters
    ----------
    weight : float, default=0.2
        Weight w of the guess, in [0, 1].

    Examples
    --------
    >>> from lossnoise.corrections import BootstrapHard
    >>> BootstrapHard().weight
    0.2
    """

    def __init__(self, *, weight: float = 0.2) -> None:
        self.weight = weight

    def setup(self, context: EpochContext) -> None:
        """Check the parameters."""
        check_real(type(self).__name__, "weight", self.weight, 0.0, 1.0)

    def loss(self, model: nn.Module, batch: Batch, context: EpochContext) -> Tensor:
        """Return the bootstrapping loss of each sample, shape (batch,)."""
        logits = model(batch.inputs)
        context.record(batch.indices, cross_entropy(logits.detach(), batch.labels))
        guesses = logits.detach().argmax(dim=1)
        weights = torch.full((len(logits),), self.weight, dtype=torch.float32, device=logits.device)
        return hard_bootstrap(logits, batch.labels, guesses, weights)
