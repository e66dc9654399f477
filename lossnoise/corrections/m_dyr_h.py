"""M-DYR-H: mixup with dynamic hard bootstrapping, the main method of Arazo et al. (ICML 2019)."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from lossnoise._validation import check_real, invalid_parameter
from lossnoise.corrections.base import Batch, EpochContext, resolve_epochs
from lossnoise.corrections.losses import class_prior_divergence, cross_entropy, hard_bootstrap
from lossnoise.corrections.mixing import (
    draw_mixing_weight,
    draw_partners,
    mix_inputs,
    mix_losses,
)
from lossnoise.corrections.mixup import Mixup
from lossnoise.exceptions import SmallBatchWarning


class MDyrH(Mixup):
    """Mixup with dynamic hard bootstrapping; registry name ``"m-dyr-h"``.

    During warm-up this is mixup. After it, each sample's target is (1 - w) y + w z: the given
    label y and the class z that the network believes in, weighted by w = P(label wrong) of the
    mixture that was fitted to the losses of the epoch before (Arazo et al., ICML 2019, equation
    14). z and w come from one gradient-free forward pass of the unmixed batch in train mode.

    Parameters
    ----------
    alpha : float, default=32.0
        Parameter of the beta distribution of the mixing weight, positive.
    warmup : int or float, default=0.2
        Epochs of mixup alone: a number of epochs (int) or a fraction of the run (float). The
        paper has 105 of 300.
    class_balance : float or "auto", default="auto"
        Weight eta of the term that keeps predictions spread over the classes; it assumes that
        all classes are equally frequent. "auto" is 1, and 0 for batches of fewer than 2 C
        samples, where the term is biased.

    Examples
    --------
    >>> from lossnoise.corrections import MDyrH
    >>> MDyrH(warmup=10).needs_detector
    True
    """

    needs_detector = True

    def __init__(
        self,
        *,
        alpha: float = 32.0,
        warmup: float = 0.2,
        class_balance: float | Literal["auto"] = "auto",
    ) -> None:
        super().__init__(alpha=alpha)
        self.warmup = warmup
        self.class_balance = class_balance

    def setup(self, context: EpochContext) -> None:
        """Check the parameters; warn where batches are too small for the class balance."""
        super().setup(context)
        owner = type(self).__name__
        resolve_epochs(owner, "warmup", self.warmup, context.num_epochs)
        if self.class_balance != "auto":
            if isinstance(self.class_balance, str):
                raise invalid_parameter(
                    owner, "class_balance", "'auto' or a float >= 0", self.class_balance
                )
            check_real(owner, "class_balance", self.class_balance, 0.0, math.inf, closed="left")
        elif context.batch_size < 2 * context.num_classes:
            warnings.warn(
                f"Batches of {context.batch_size} samples are too small to balance "
                f"{context.num_classes} classes: the class-balance term of {owner} is off. Use "
                f"batch_size >= {2 * context.num_classes}, or set class_balance=1.0 to have it.",
                SmallBatchWarning,
                stacklevel=2,
            )

    def loss(self, model: nn.Module, batch: Batch, context: EpochContext) -> Tensor:
        """Return the loss of each sample, shape (batch,): mixup's during warm-up."""
        warmup = resolve_epochs("MDyrH", "warmup", self.warmup, context.num_epochs)
        if context.epoch <= warmup or context.noise_proba is None:
            return super().loss(model, batch, context)
        guesses, wrong = _second_opinion(model, batch, context.noise_proba)
        weight = draw_mixing_weight(self.alpha, context.rng)
        partners = draw_partners(len(batch.labels), context.generator)
        logits = model(mix_inputs(batch.inputs, partners, weight))
        own = hard_bootstrap(logits, batch.labels, guesses, wrong)
        partner = hard_bootstrap(logits, batch.labels[partners], guesses[partners], wrong[partners])
        return mix_losses(own, partner, weight) + self._balance(logits)

    def _balance(self, logits: Tensor) -> Tensor | float:
        small = len(logits) < 2 * logits.shape[1]
        eta = (0.0 if small else 1.0) if self.class_balance == "auto" else self.class_balance
        return eta * class_prior_divergence(logits) if eta else 0.0


@torch.no_grad()
def _second_opinion(
    model: nn.Module, batch: Batch, noise_proba: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """Return the class that the network believes in, and P(label wrong), per unmixed sample.

    In train mode on purpose: in warm-up BatchNorm has seen mixed inputs only, and its running
    statistics misjudge unmixed ones. Bootstrapping from such an eval-mode forward collapses.
    """
    logits = model(batch.inputs)
    return logits.argmax(dim=1), noise_proba(cross_entropy(logits, batch.labels))
