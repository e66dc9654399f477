"""Static soft bootstrapping (Reed et al., 2015)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lossnoise._validation import check_real, invalid_parameter
from lossnoise.corrections.base import Batch, Correction, EpochContext
from lossnoise.corrections.losses import cross_entropy, soft_bootstrap


class BootstrapSoft(Correction):
    """Trust the network a little, always and everywhere; registry name ``"bootstrap-soft"``.

    The target of every sample is (1 - w) y + w z, with the same w for all and z the
    network's own distribution over the classes (Reed et al., "Training Deep
    Neural Networks on Noisy Labels with Bootstrapping", ICLR 2015 workshop).

    Parameters
    ----------
    weight : float, default=0.05
        Weight w of the guess, in [0, 1].
    detach : bool, default=True
        Whether z is a constant to the gradient. Without it the network also learns to be sure of
        itself (minimum entropy).

    Examples
    --------
    >>> from lossnoise.corrections import BootstrapSoft
    >>> BootstrapSoft().weight
    0.05
    """

    def __init__(self, *, weight: float = 0.05, detach: bool = True) -> None:
        self.weight = weight
        self.detach = detach

    def setup(self, context: EpochContext) -> None:
        """Check the parameters."""
        owner = type(self).__name__
        check_real(owner, "weight", self.weight, 0.0, 1.0)
        if not isinstance(self.detach, bool):
            raise invalid_parameter(owner, "detach", "True or False", self.detach)

    def loss(self, model: nn.Module, batch: Batch, context: EpochContext) -> Tensor:
        """Return the bootstrapping loss of each sample, shape (batch,)."""
        logits = model(batch.inputs)
        context.record(batch.indices, cross_entropy(logits.detach(), batch.labels))
        probs = logits.float().softmax(dim=1)
        guesses = probs.detach() if self.detach else probs
        weights = torch.full((len(logits),), self.weight, dtype=torch.float32, device=logits.device)
        return soft_bootstrap(logits, batch.labels, guesses, weights)
