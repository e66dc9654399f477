"""M-DYR-H: mixup with dynamic hard bootstrapping, the main method of Arazo et al. (ICML 2019)."""

from __future__ import annotations

import math
from typing import Literal

from numpy.typing import ArrayLike
from torch import Tensor, nn

from lossnoise._validation import check_real
from lossnoise.corrections._dynamic import DynamicBootstrap, bootstrap_targets
from lossnoise.corrections._logits import check_mix_at
from lossnoise.corrections.base import Batch, EpochContext
from lossnoise.corrections.losses import soft_cross_entropy
from lossnoise.corrections.mixing import (
    draw_mixing_weight,
    draw_partners,
    forward_mixed,
    mix_inputs,
)
from lossnoise.corrections.mixup import mixup_loss


class MDyrH(DynamicBootstrap):
    """Mixup with dynamic hard bootstrapping; registry name ``"m-dyr-h"``.

    During warm-up this is mixup. After it, each sample's target is (1 - w) y + w z: the given
    label y and the class z that the network believes in, weighted by w = P(label wrong) of the
    mixture that was fitted to the losses of the epoch before (Arazo et al., ICML 2019, equation
    14). z and w come from one gradient-free forward pass of the unmixed batch in train mode.

    Where the losses hardly tell right labels from wrong ones, as early in training, w says little
    about a sample, and bootstrapping from it collapses. w is therefore multiplied by the evidence
    of the mixture, which is close to 1 for losses that separate (`EpochContext.evidence`).

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
    >>> from lossnoise.corrections import MDyrH
    >>> MDyrH(warmup=10).needs_detector
    True
    """

    def __init__(
        self,
        *,
        alpha: float = 32.0,
        warmup: float | Literal["auto"] = 0.25,
        class_prior: str | ArrayLike = "uniform",
        class_balance: float | Literal["auto"] = "auto",
        sweep: Literal["running", "epoch"] = "running",
        compat: Literal["published"] | None = None,
        mix_at: str | None = None,
    ) -> None:
        self.alpha = alpha
        self.warmup = warmup
        self.class_prior = class_prior
        self.class_balance = class_balance
        self.sweep = sweep
        self.compat = compat
        self.mix_at = mix_at

    def setup(self, context: EpochContext) -> None:
        """Check the parameters; warn where batches are too small for the class balance."""
        owner = type(self).__name__
        check_real(owner, "alpha", self.alpha, 0.0, math.inf, closed="neither")
        check_mix_at(owner, self.mix_at, context.engine.model)
        super().setup(context)

    def loss(self, model: nn.Module, batch: Batch, context: EpochContext) -> Tensor:
        """Return the loss of each sample, shape (batch,): mixup's during warm-up."""
        if not self._has_warmed_up(context) and not self._is_recording(context):
            return self._plain_loss(model, batch, context)
        opinion = self._second_opinion(model, batch, context)
        self._observe(opinion, batch, context)
        if not self._is_bootstrapping(context):
            return self._plain_loss(model, batch, context)
        guesses, wrong = self.guess(opinion.logits, context), self._wrong(opinion.losses, context)
        return self.corrected_loss(model, batch, guesses, wrong, context)

    def _plain_loss(self, model: nn.Module, batch: Batch, context: EpochContext) -> Tensor:
        return mixup_loss(model, batch, context, alpha=self.alpha, mix_at=self.mix_at)

    def corrected_loss(
        self, model: nn.Module, batch: Batch, guesses: Tensor, wrong: Tensor, context: EpochContext
    ) -> Tensor:
        """Return the mixed bootstrapping loss of each sample, shape (batch,)."""
        weight = draw_mixing_weight(self.alpha, context.rng)
        partners = draw_partners(len(batch.labels), context.generator)
        logits = forward_mixed(model, batch.inputs, partners, weight, self.mix_at)
        targets = bootstrap_targets(batch.labels, guesses, wrong, logits.shape[1])
        losses = soft_cross_entropy(logits, mix_inputs(targets, partners, weight))
        return losses + self.balance(logits, context)
