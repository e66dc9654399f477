"""DYR-S: dynamic soft bootstrapping without mixup (Arazo et al., ICML 2019)."""

from __future__ import annotations

from torch import Tensor

from lossnoise.corrections.base import EpochContext
from lossnoise.corrections.dyr_h import DyrH


class DyrS(DyrH):
    """Dynamic soft bootstrapping; registry name ``"dyr-s"``.

    As `DyrH`, but z is the network's whole distribution over the classes (softmax), and not its
    first choice alone (Arazo et al., ICML 2019, section 3.2).

    Parameters
    ----------
    warmup : int, float or "auto", default="auto"
        Epochs of cross-entropy alone: a number of epochs (int) or a fraction of the run (float).
        "auto" ends it when the losses separate right labels from wrong ones
        (`EpochContext.evidence` of at least one half), and after half of the run at the latest:
        without mixup a network soon memorises wrong labels. The paper has 30 of 120.
        0 is 1: there is no mixture before.
    class_prior : {"uniform", "labels"} or array-like (num_classes,), default="uniform"
        How frequent the classes are thought to be, in the term that keeps predictions spread over
        them: all alike, as the paper has it; as in the given labels; or as given.
    class_balance : float or "auto", default="auto"
        Weight eta of that term. "auto" is 1, and 0 for batches of fewer than 2 C samples, where
        the term is biased.
    sweep : {"running", "epoch"}, default="running"
        Which losses the mixture is fitted to. "running": those of the training step itself.
        "epoch": those of a pass of its own after each epoch, in eval mode, which costs one forward
        pass more.
    compat : {"published"}, optional
        With "published", w is made as in the paper's code, to measure what the differences are
        worth: from a second forward pass in eval mode, by a mixture that is fitted to the 5th to
        95th percentile of swept losses and read from a table of 100 cells; not multiplied by the
        evidence, and nothing is suspended.

    Examples
    --------
    >>> from lossnoise.corrections import DyrS
    >>> DyrS(sweep="epoch")  # doctest: +ELLIPSIS
    DyrS(warmup='auto', ..., sweep='epoch', compat=None)
    """

    def guess(self, logits: Tensor, context: EpochContext) -> Tensor:
        """Return the probability that the network gives each class, (batch, num_classes)."""
        return logits.float().softmax(dim=1)
