"""Plain cross-entropy: the labels as they are."""

from __future__ import annotations

from torch import Tensor, nn

from lossnoise.corrections.base import Batch, Correction, EpochContext
from lossnoise.corrections.losses import cross_entropy


class CrossEntropy(Correction):
    """Learn from the given labels as they are; registry name ``"cross-entropy"``.

    The baseline: on wrong labels a network first learns the right ones, then memorises the rest.

    Examples
    --------
    >>> from lossnoise.corrections import CORRECTIONS
    >>> CORRECTIONS["cross-entropy"]().needs_detector
    False
    """

    def loss(self, model: nn.Module, batch: Batch, context: EpochContext) -> Tensor:
        """Return the cross-entropy of each sample against its given label, shape (batch,)."""
        losses = cross_entropy(model(batch.inputs), batch.labels)
        context.record(batch.indices, losses.detach())
        return losses
