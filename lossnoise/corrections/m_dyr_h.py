"""M-DYR-H: mixup with dynamic hard bootstrapping, the main method of Arazo et al. (ICML 2019)."""

from __future__ import annotations

import math
import warnings
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lossnoise._validation import check_choice, check_real, invalid_parameter
from lossnoise.corrections.base import Batch, EpochContext, resolve_epochs
from lossnoise.corrections.losses import class_prior_divergence, cross_entropy, hard_bootstrap
from lossnoise.corrections.mixing import (
    draw_mixing_weight,
    draw_partners,
    mix_inputs,
    mix_losses,
)
from lossnoise.corrections.mixup import Mixup
from lossnoise.exceptions import CollapseWarning, SmallBatchWarning


class MDyrH(Mixup):
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
    warmup : int or float, default=0.25
        Epochs of mixup alone: a number of epochs (int) or a fraction of the run (float). The
        paper has 105 of 300.
    class_balance : float or "auto", default="auto"
        Weight eta of the term that keeps predictions spread over the classes; it assumes that
        all classes are equally frequent. "auto" is 1, and 0 for batches of fewer than 2 C
        samples, where the term is biased.
    sweep : {"running", "epoch"}, default="running"
        Which losses the mixture is fitted to from the last warm-up epoch on. "running": those of
        the gradient-free forward passes that the epochs make anyway, in train mode like the
        losses that the mixture then weights. "epoch": those of a pass of its own after each
        epoch, in eval mode, which costs one forward pass more.

    Examples
    --------
    >>> from lossnoise.corrections import MDyrH
    >>> MDyrH(warmup=10).needs_detector
    True
    """

    needs_detector = True

    _guesses: Tensor | None = None  # how often each class was guessed in this epoch
    _usual_spread: float | None = None  # effective number of classes before bootstrapping
    _suspended = False

    def __init__(
        self,
        *,
        alpha: float = 32.0,
        warmup: float = 0.25,
        class_balance: float | Literal["auto"] = "auto",
        sweep: Literal["running", "epoch"] = "running",
    ) -> None:
        super().__init__(alpha=alpha)
        self.warmup = warmup
        self.class_balance = class_balance
        self.sweep = sweep

    def setup(self, context: EpochContext) -> None:
        """Check the parameters; warn where batches are too small for the class balance."""
        super().setup(context)
        owner = type(self).__name__
        resolve_epochs(owner, "warmup", self.warmup, context.num_epochs)
        check_choice(owner, "sweep", self.sweep, {"running", "epoch"})
        if self.class_balance != "auto":
            if isinstance(self.class_balance, str):
                raise invalid_parameter(
                    owner, "class_balance", "'auto' or a float >= 0", self.class_balance
                )
            check_real(owner, "class_balance", self.class_balance, 0.0, math.inf, closed="left")
            return
        batch_size = min(context.batch_size, context.num_samples)
        if batch_size < 2 * context.num_classes:
            warnings.warn(
                f"Batches of {batch_size} samples are too small to balance "
                f"{context.num_classes} classes: the class-balance term of {owner} is off. Use "
                f"batch_size >= {2 * context.num_classes}, or set class_balance=1.0 to have it.",
                SmallBatchWarning,
                stacklevel=2,
            )

    def begin_epoch(self, context: EpochContext) -> None:
        """Begin to count which classes the network guesses."""
        self._guesses = torch.zeros(context.num_classes, device=context.device)

    def end_epoch(self, context: EpochContext) -> None:
        """Suspend bootstrapping where guesses have collapsed to few classes, until they spread.

        A network that learns from its own guesses can talk itself into one class. The effective
        number of classes, the exponential of the entropy of the guesses, tells.
        """
        if self._guesses is None or not self._guesses.any():
            return
        spread = float(torch.special.entr(self._guesses / self._guesses.sum()).sum().exp())
        if self._usual_spread is None:
            self._usual_spread = spread
        collapsed = spread < self._usual_spread / 2.0
        if collapsed and not self._suspended:
            warnings.warn(
                f"Predictions concentrate on {spread:.1f} of {context.num_classes} classes "
                f"(effective number) in epoch {context.epoch}, after {self._usual_spread:.1f} "
                "before bootstrapping: it is suspended until they spread again. A longer warmup "
                "or a lower learning rate may help.",
                CollapseWarning,
                stacklevel=2,
            )
        self._suspended = collapsed

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs beside the constructor's arguments."""
        return {"usual_spread": self._usual_spread, "suspended": self._suspended}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` returned."""
        self._usual_spread, self._suspended = state["usual_spread"], state["suspended"]

    def loss(self, model: nn.Module, batch: Batch, context: EpochContext) -> Tensor:
        """Return the loss of each sample, shape (batch,): mixup's during warm-up."""
        warmup = resolve_epochs(type(self).__name__, "warmup", self.warmup, context.num_epochs)
        recording = self.sweep == "running" and context.epoch >= warmup
        noise_proba = context.noise_proba if context.epoch > warmup else None
        if noise_proba is None and not recording:
            return super().loss(model, batch, context)
        guesses, losses = _second_opinion(model, batch)
        if self._guesses is not None:
            self._guesses.index_add_(0, guesses, torch.ones_like(losses))
        if recording:
            context.record(batch.indices, losses)
        if noise_proba is None or self._suspended:
            return super().loss(model, batch, context)
        wrong = context.evidence * noise_proba(losses)
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
def _second_opinion(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return the class that the network believes in, and the loss, of each unmixed sample.

    In train mode on purpose: in warm-up BatchNorm has seen mixed inputs only, and its running
    statistics misjudge unmixed ones. Bootstrapping from such an eval-mode forward collapses.
    """
    logits = model(batch.inputs)
    return logits.argmax(dim=1), cross_entropy(logits, batch.labels)
