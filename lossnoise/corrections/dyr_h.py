"""DYR-H: dynamic hard bootstrapping without mixup (Arazo et al., ICML 2019)."""

from __future__ import annotations

from typing import Literal

from numpy.typing import ArrayLike
from torch import Tensor, nn

from lossnoise.corrections._dynamic import DynamicBootstrap, bootstrap_targets
from lossnoise.corrections.base import Batch, EpochContext
from lossnoise.corrections.losses import cross_entropy, soft_cross_entropy


class DyrH(DynamicBootstrap):
    """Dynamic hard bootstrapping; registry name ``"dyr-h"``.

    After a warm-up with cross-entropy, each sample's target is (1 - w) y + w z: the given label y
    and the class z that the network believes in, weighted by w = P(label wrong) of the mixture
    that was fitted to the losses of the epoch before (Arazo et al., ICML 2019, section 3.2). z
    and w come from the training step's own forward pass, and are constants to the gradient. w is
    multiplied by the evidence of the mixture (`EpochContext.evidence`), and bootstrapping
    suspended where predictions collapse, as in `MDyrH`.

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
    >>> from lossnoise.corrections import DyrH
    >>> DyrH(warmup=10).needs_detector
    True
    """

    def __init__(
        self,
        *,
        warmup: float | Literal["auto"] = "auto",
        class_prior: str | ArrayLike = "uniform",
        class_balance: float | Literal["auto"] = "auto",
        sweep: Literal["running", "epoch"] = "running",
        compat: Literal["published"] | None = None,
    ) -> None:
        self.warmup = warmup
        self.class_prior = class_prior
        self.class_balance = class_balance
        self.sweep = sweep
        self.compat = compat

    def loss(self, model: nn.Module, batch: Batch, context: EpochContext) -> Tensor:
        """Return the loss of each sample, shape (batch,): the cross-entropy during warm-up."""
        logits = model(batch.inputs)
        opinion = self._opinion(logits, model, batch, context)
        self._observe(opinion, batch, context)
        if not self._is_bootstrapping(context):
            return cross_entropy(logits, batch.labels)
        guesses, wrong = self.guess(opinion.logits, context), self._wrong(opinion.losses, context)
        targets = bootstrap_targets(batch.labels, guesses, wrong, logits.shape[1])
        return soft_cross_entropy(logits, targets) + self.balance(logits, context)

    def _is_recording(self, context: EpochContext) -> bool:
        """Tell whether this epoch gives the losses: every one, at no cost."""
        return self.sweep == "running" and self.compat is None
