"""MD-DYR-SH: dynamic mixup with soft-to-hard bootstrapping (Arazo et al., ICML 2019)."""

from __future__ import annotations

from typing import Literal

from numpy.typing import ArrayLike
from torch import Tensor

from lossnoise.corrections.base import EpochContext, resolve_epochs
from lossnoise.corrections.md_dyr_h import MDDyrH

COLDEST = 0.001


class MDDyrSH(MDDyrH):
    """Dynamic mixup with soft-to-hard bootstrapping; registry name ``"md-dyr-sh"``.

    As `MDDyrH`, but z = softmax(s / T) of the logits s for the unmixed sample, with a temperature
    T that falls linearly from 1 to 0.001: from the network's whole distribution to its first
    choice (Arazo et al., ICML 2019, section 3.3). The paper's choice for 80 % noise and more.

    Parameters
    ----------
    alpha : float, default=32.0
        Parameter of the beta distribution of the mixing weight, positive.
    warmup : int, float or "auto", default=0.25
        Epochs of mixup alone: a number of epochs (int) or a fraction of the run (float). The
        paper has 105 of 300. "auto" ends it when the losses separate right labels from wrong
        ones (`EpochContext.evidence` of at least one half), and after half of the run at the
        latest. 0 is 1: there is no mixture before.
    dynamic_mixup : int or float, default=5 / 300
        Epochs of dynamic mixup without bootstrapping after the warm-up, where the labels count
        by a draw from Beta(alpha, alpha): a number of epochs (int) or a fraction of the run, at
        least one epoch unless it is 0.
    anneal : int or float, default=88 / 300
        Epochs in which T falls from 1, in the first that bootstraps, to 0.001: a number of
        epochs (int) or a fraction of the run (float).
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
    >>> from lossnoise.corrections import MDDyrSH
    >>> MDDyrSH(anneal=20).anneal
    20
    """

    def __init__(
        self,
        *,
        alpha: float = 32.0,
        warmup: float | Literal["auto"] = 0.25,
        dynamic_mixup: float = 5 / 300,
        anneal: float = 88 / 300,
        class_prior: str | ArrayLike = "uniform",
        class_balance: float | Literal["auto"] = "auto",
        sweep: Literal["running", "epoch"] = "running",
        compat: Literal["published"] | None = None,
        mix_at: str | None = None,
    ) -> None:
        self.alpha = alpha
        self.warmup = warmup
        self.dynamic_mixup = dynamic_mixup
        self.anneal = anneal
        self.class_prior = class_prior
        self.class_balance = class_balance
        self.sweep = sweep
        self.compat = compat
        self.mix_at = mix_at

    def setup(self, context: EpochContext) -> None:
        """Check the parameters; warn where batches are too small for the class balance."""
        self._anneal_epochs(context)
        super().setup(context)

    def guess(self, logits: Tensor, context: EpochContext) -> Tensor:
        """Return the sharpened probability of each class, (batch, num_classes)."""
        return (logits.float() / self.temperature(context)).softmax(dim=1)

    def temperature(self, context: EpochContext) -> float:
        """Return T of the present epoch: 1 - 0.999 min(e, n) / n, e from 0."""
        epochs = self._anneal_epochs(context)
        past = max(0, self.bootstrapped_epochs(context) - 1)
        return 1.0 - (1.0 - COLDEST) * min(past, epochs) / epochs if epochs else COLDEST

    def _anneal_epochs(self, context: EpochContext) -> int:
        return resolve_epochs(type(self).__name__, "anneal", self.anneal, context.num_epochs)
