"""M-DYR-S: mixup with dynamic soft bootstrapping (Arazo et al., ICML 2019)."""

from __future__ import annotations

from torch import Tensor

from lossnoise.corrections.base import EpochContext
from lossnoise.corrections.m_dyr_h import MDyrH


class MDyrS(MDyrH):
    """Mixup with dynamic soft bootstrapping; registry name ``"m-dyr-s"``.

    As `MDyrH`, but z is the network's whole distribution over the classes (softmax) for the
    unmixed sample, and not its first choice alone.

    Parameters
    ----------
    alpha : float, default=32.0
        Parameter of the beta distribution of the mixing weight, positive.
    warmup : int, float or "auto", default=0.25
        Epochs of mixup alone: a number of epochs (int) or a fraction of the run (float). The
        paper has 105 of 300. "auto" ends it when the losses separate right labels from wrong
        ones (`EpochContext.evidence` of at least one half), and after half of the run at the
        latest. 0 is 1: there is no mixture before.
    class_prior : {"uniform", "labels"} or array-like (num_classes,), default="uniform"
        How frequent the classes are thought to be, in the term that keeps predictions spread over
        them: all alike, as the paper has it; as in the given labels; or as given.
    class_balance : float or "auto", default="auto"
        Weight eta of that term. "auto" is 1, and 0 for batches of fewer than 2 C samples, where
        the term is biased.
    sweep : {"running", "epoch"}, default="running"
        Which losses the mixture is fitted to from the last warm-up epoch on. "running": those of
        the gradient-free forward passes that the epochs make anyway, in train mode like the
        losses that the mixture then weights. "epoch": those of a pass of its own after each epoch,
        in eval mode, which costs one forward pass more.
    compat : {"published"}, optional
        With "published", w is made as in the paper's code, to measure what the differences are
        worth: from a second forward pass in eval mode, by a mixture that is fitted to the 5th to
        95th percentile of swept losses and read from a table of 100 cells; not multiplied by the
        evidence, and nothing is suspended.
    mix_at : str, optional
        Mix what this module of the model returns, instead of the inputs: the name of an
        embedding, for token ids (`forward_mixed`).

    Examples
    --------
    >>> from lossnoise.corrections import MDyrS
    >>> MDyrS(warmup="auto").warmup
    'auto'
    """

    def guess(self, logits: Tensor, context: EpochContext) -> Tensor:
        """Return the probability that the network gives each class, (batch, num_classes)."""
        return logits.float().softmax(dim=1)
