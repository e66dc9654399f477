"""DYR-S: dynamic soft bootstrapping without mixup (Arazo et al., ICML 2019)."""

from __future__ import annotations

from torch import Tensor

from lossnoise.corrections.base import EpochContext
from lossnoise.corrections.dyr_h import DyrH


class DyrS(DyrH):
    """Dynamic soft bootstrapping; registry name ``"dyr-s"``.

    As `DyrH`, but z is the network's whole distribution over the classes (softmax), and not its
    first choice alone (Arazo et al., ICML 2019, section 3.2). Takes the same parameters.

    Examples
    --------
    >>> from lossnoise.corrections import DyrS
    >>> DyrS(sweep="epoch")  # doctest: +ELLIPSIS
    DyrS(warmup=0.25, ..., sweep='epoch', compat=None)
    """

    def guess(self, logits: Tensor, context: EpochContext) -> Tensor:
        """Return the probability that the network gives each class, (batch, num_classes)."""
        return logits.float().softmax(dim=1)
