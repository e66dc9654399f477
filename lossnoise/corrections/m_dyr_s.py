"""M-DYR-S: mixup with dynamic soft bootstrapping (Arazo et al., ICML 2019)."""

from __future__ import annotations

from torch import Tensor

from lossnoise.corrections.base import EpochContext
from lossnoise.corrections.m_dyr_h import MDyrH


class MDyrS(MDyrH):
    """Mixup with dynamic soft bootstrapping; registry name ``"m-dyr-s"``.

    As `MDyrH`, but z is the network's whole distribution over the classes (softmax) for the
    unmixed sample, and not its first choice alone. Takes the same parameters.

    Examples
    --------
    >>> from lossnoise.corrections import MDyrS
    >>> MDyrS(warmup="auto").warmup
    'auto'
    """

    def guess(self, logits: Tensor, context: EpochContext) -> Tensor:
        """Return the probability that the network gives each class, (batch, num_classes)."""
        return logits.float().softmax(dim=1)
