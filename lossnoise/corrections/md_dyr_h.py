"""MD-DYR-H: dynamic mixup with dynamic hard bootstrapping (Arazo et al., ICML 2019)."""

from __future__ import annotations

from typing import Literal

from numpy.typing import ArrayLike
from torch import Tensor, nn

from lossnoise.corrections._dynamic import bootstrap_targets
from lossnoise.corrections.base import Batch, EpochContext, resolve_epochs
from lossnoise.corrections.losses import cross_entropy, soft_cross_entropy
from lossnoise.corrections.m_dyr_h import MDyrH
from lossnoise.corrections.mixing import (
    draw_mixing_weight,
    draw_partners,
    dynamic_weights,
    forward_mixed,
    mix_inputs,
    mix_losses,
)


class MDDyrH(MDyrH):
    """Dynamic mixup with dynamic hard bootstrapping; registry name ``"md-dyr-h"``.

    Two samples are mixed by how probably their labels are right: the shares of the inputs are
    d_p / (d_p + d_q) and d_q / (d_p + d_q) with d = 1 - w, and both corrected targets count one
    half (Arazo et al., ICML 2019, section 3.3). Warm-up with mixup, then some epochs of dynamic
    mixup without bootstrapping, then both. Evidence and suspension are as in `MDyrH`.

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
    >>> from lossnoise.corrections import MDDyrH
    >>> MDDyrH(dynamic_mixup=2).dynamic_mixup
    2
    """

    def __init__(
        self,
        *,
        alpha: float = 32.0,
        warmup: float | Literal["auto"] = 0.25,
        dynamic_mixup: float = 5 / 300,
        class_prior: str | ArrayLike = "uniform",
        class_balance: float | Literal["auto"] = "auto",
        sweep: Literal["running", "epoch"] = "running",
        compat: Literal["published"] | None = None,
        mix_at: str | None = None,
    ) -> None:
        self.alpha = alpha
        self.warmup = warmup
        self.dynamic_mixup = dynamic_mixup
        self.class_prior = class_prior
        self.class_balance = class_balance
        self.sweep = sweep
        self.compat = compat
        self.mix_at = mix_at

    def setup(self, context: EpochContext) -> None:
        """Check the parameters; warn where batches are too small for the class balance."""
        self._dynamic_epochs(context)
        super().setup(context)

    def corrected_loss(
        self, model: nn.Module, batch: Batch, guesses: Tensor, wrong: Tensor, context: EpochContext
    ) -> Tensor:
        """Return the loss of dynamically mixed samples, shape (batch,)."""
        partners = draw_partners(len(batch.labels), context.generator)
        share = dynamic_weights(wrong, partners)
        if self.bootstrapped_epochs(context) < 1:
            weight = draw_mixing_weight(self.alpha, context.rng)
            logits = forward_mixed(model, batch.inputs, partners, share, self.mix_at)
            own = cross_entropy(logits, batch.labels)
            return mix_losses(own, cross_entropy(logits, batch.labels[partners]), weight)
        logits = forward_mixed(model, batch.inputs, partners, share, self.mix_at)
        targets = bootstrap_targets(batch.labels, guesses, wrong, logits.shape[1])
        losses = soft_cross_entropy(logits, mix_inputs(targets, partners, 0.5))
        return losses + self.balance(logits, context)

    def bootstrapped_epochs(self, context: EpochContext) -> int:
        """Return the number of the present epoch from the first that bootstraps; below 1 before."""
        return context.epoch - self.warmup_epochs(context) - self._dynamic_epochs(context)

    def _dynamic_epochs(self, context: EpochContext) -> int:
        owner, n = type(self).__name__, context.num_epochs
        epochs = resolve_epochs(owner, "dynamic_mixup", self.dynamic_mixup, n)
        return max(epochs, 1) if self.dynamic_mixup > 0 else 0  # a short run keeps the stage
