"""What the dynamic bootstrapping methods have in common (Arazo et al., ICML 2019)."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from lossnoise._labels import are_few
from lossnoise._validation import check_choice
from lossnoise._warnings import warn
from lossnoise.corrections._balance import (
    balance_term,
    check_balance,
    is_balanced,
    read_prior,
    warn_of_prior,
)
from lossnoise.corrections._modes import eval_mode
from lossnoise.corrections._published import fit_published
from lossnoise.corrections.base import (
    Batch,
    Correction,
    EpochContext,
    resolve_epochs,
    warn_of_schedule,
)
from lossnoise.corrections.losses import cross_entropy
from lossnoise.exceptions import CollapseWarning

AUTO_EVIDENCE = 0.5  # `EpochContext.evidence` that ends a warm-up of no fixed length
AUTO_LATEST = 0.5  # of the run: where it ends at the latest

# Of the run: how long bootstrapping waits for smaller steps after a collapse. From the end of the
# warm-up it is as far to the first drop of the learning rate, by default.
LONGEST_PAUSE = 0.25
CALMER = 0.5  # times the learning rate that it collapsed at


class Opinion(NamedTuple):
    """What the network thinks of an unmixed batch, without gradient.

    Attributes
    ----------
    logits : Tensor of shape (batch, num_classes)
        What the guess z is made of.
    losses : Tensor of shape (batch,), float32
        Cross-entropy against the given labels: what w is looked up by.
    """

    logits: Tensor
    losses: Tensor


class DynamicBootstrap(Correction):
    """Base of the methods whose targets are (1 - w) y + w z, with w = P(label wrong).

    It holds what they share: a warm-up, the class-prior term R, where the losses come from, and
    the guard against a network that talks itself into one class. A subclass has the `loss`, and
    may say what z is (`guess`).
    """

    needs_detector = True

    warmup: float | Literal["auto"]
    class_prior: str | ArrayLike
    class_balance: float | Literal["auto"]
    sweep: Literal["running", "epoch"]
    compat: Literal["published"] | None

    _guessed: Tensor | None = None  # how often each class was the first choice in this epoch
    _given: Tensor | None = None  # how often it was the label, as long as nothing else is usual
    _told = False  # whether the given labels were looked at beside the prior
    _usual_spread: float | None = None  # effective number of classes: guessed first, or given
    _collapses = 0
    _pause = _least = 0  # epochs without bootstrapping that are left, at most and at least
    _rate = _collapse_rate = 0.0  # learning rate of this epoch, and of that of the last collapse
    _warmed_up: int | None = None  # the last epoch of a warm-up of no fixed length
    _prior: Tensor | None = None  # of the classes; None is uniform
    _table: PublishedLookup | None = None

    def guess(self, logits: Tensor, context: EpochContext) -> Tensor:
        """Return z: a class of each sample, (batch,), or probabilities, (batch, num_classes)."""
        return logits.argmax(dim=1)

    # -- the correction ---------------------------------------------------------------------

    def setup(self, context: EpochContext) -> None:
        """Check the parameters; warn where the run or the batches are too small for the method."""
        owner = type(self).__name__
        self._usual_spread, self._collapses, self._pause, self._least = None, 0, 0, 0
        self._warmed_up, self._told = None, False
        warn_of_schedule(owner, self.epochs_before(context), context.num_epochs)
        check_choice(owner, "sweep", self.sweep, {"running", "epoch"})
        if self.compat is not None:
            check_choice(owner, "compat", self.compat, {"published"})
        check_balance(owner, self.class_balance, context)
        self._prior = read_prior(owner, self.class_prior, context)

    def begin_epoch(self, context: EpochContext) -> None:
        """Begin to count which classes the network guesses; end a warm-up of no fixed length."""
        self._rate = context.engine.learning_rate
        zeros = torch.zeros(context.num_classes, dtype=torch.float32, device=context.device)
        self._guessed, self._given = zeros, zeros.clone() if self._usual_spread is None else None
        if self.warmup == "auto" and self._warmed_up is None:
            ready = context.noise_proba is not None and context.evidence >= AUTO_EVIDENCE
            if ready or context.epoch > AUTO_LATEST * context.num_epochs:
                self._warmed_up = context.epoch - 1
        if self.compat == "published" and context.losses is not None:
            self._table = PublishedLookup(context.losses, context.device)

    def end_epoch(self, context: EpochContext) -> None:
        """Suspend bootstrapping where guesses have collapsed to few classes, until they spread.

        A network that learns from its own guesses can talk itself into one class. The effective
        number of classes, the exponential of the entropy of the guesses, tells. Guesses spread
        within an epoch of ordinary training, long before they are worth learning from, and large
        steps have them collapse again: the pause lasts until the learning rate has halved, or for
        a quarter of the run. It is twice as long, at least, after each collapse, and without end
        where the run would be over before it could have recovered from the next.
        """
        if self._guessed is None or not self._guessed.any() or self.compat == "published":
            return
        if self._given is not None and not self._told:
            self._told = True
            self._tell_of_prior(context.all_mean(self._given), context)
        spread = self._spread(self._guessed, context)
        if context.epoch <= max(1, self.warmup_epochs(context)):  # the first never bootstraps
            self._usual_spread = spread
            return
        if context.epoch <= self.warmup_epochs(context) + self._dynamic_epochs(context):
            return
        if self._usual_spread is None:  # no guess was made in the warm-up
            assert self._given is not None  # as `begin_epoch` sees to
            self._usual_spread = self._spread(self._given, context)
        collapsed = are_few(spread, self._usual_spread)
        if self._pause:
            self._least = max(self._least - 1, 0)
            calmer = context.engine.learning_rate <= CALMER * self._collapse_rate
            left = 0 if calmer and not self._least else self._pause - 1
            self._pause = max(left, int(collapsed))
        elif collapsed and context.epoch < context.num_epochs:  # the trainer tells of its result
            self._suspend(spread, context)

    def _spread(self, counts: Tensor, context: EpochContext) -> float:
        """Return the effective number of classes of counts: the exponential of their entropy."""
        counts = context.all_mean(counts)
        return float(torch.special.entr(counts / counts.sum()).sum().exp())

    def _suspend(self, spread: float, context: EpochContext) -> None:
        least, left = 2**self._collapses, context.num_epochs - context.epoch
        self._collapses += 1
        if 2 * least < left:
            most = max(least, min(left, round(LONGEST_PAUSE * context.num_epochs)))
            epochs = f"{least} to {most} epochs" if most > 1 else "an epoch"
            how_long = f"until the learning rate has halved, for {epochs}"
        else:
            least = most = left
            how_long = "for the rest of the run"
        self._pause, self._least, self._collapse_rate = most, least, self._rate
        warn(
            f"Predictions concentrate on {spread:.1f} of {context.num_classes} classes (effective "
            f"number) in epoch {context.epoch}, where {self._usual_spread:.1f} are usual: "
            f"bootstrapping is suspended {how_long}. A longer warmup or a lower learning rate may "
            "help.",
            CollapseWarning,
        )

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs beside the constructor's arguments."""
        return {
            "usual_spread": self._usual_spread,
            "collapses": self._collapses,
            "pause": self._pause,
            "least": self._least,
            "collapse_rate": self._collapse_rate,
            "warmed_up": self._warmed_up,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` returned."""
        self._usual_spread, self._warmed_up = state["usual_spread"], state["warmed_up"]
        self._collapses, self._pause = state["collapses"], state["pause"]
        self._least, self._collapse_rate = state["least"], state["collapse_rate"]

    # -- phases -----------------------------------------------------------------------------

    def warmup_epochs(self, context: EpochContext) -> int:
        """Return the number of the last warm-up epoch; of no fixed length, the present one."""
        if self.warmup == "auto":
            return context.epoch if self._warmed_up is None else self._warmed_up
        owner = type(self).__name__
        return resolve_epochs(owner, "warmup", self.warmup, context.num_epochs, "'auto', ")

    def epochs_before(self, context: EpochContext) -> int:
        """Return the epochs before the first that bootstraps; in the first there is no mixture."""
        return max(1, self.warmup_epochs(context) + self._dynamic_epochs(context))

    def _dynamic_epochs(self, context: EpochContext) -> int:
        """Return the epochs between the warm-up and the first that bootstraps."""
        return 0

    def _has_warmed_up(self, context: EpochContext) -> bool:
        return context.noise_proba is not None and context.epoch > self.warmup_epochs(context)

    def _is_bootstrapping(self, context: EpochContext) -> bool:
        return self._has_warmed_up(context) and not self._pause

    def _is_recording(self, context: EpochContext) -> bool:
        """Tell whether this epoch's forward passes give the losses: from the last warm-up one."""
        if self.sweep == "epoch" or self.compat == "published":
            return False
        return self.warmup == "auto" or context.epoch >= self.warmup_epochs(context)

    # -- opinions and weights ---------------------------------------------------------------

    @torch.no_grad()
    def _second_opinion(self, model: nn.Module, batch: Batch, context: EpochContext) -> Opinion:
        """Return what the network thinks of the unmixed batch.

        In train mode on purpose: in warm-up BatchNorm has seen mixed inputs only, and its running
        statistics misjudge unmixed ones. Bootstrapping from such an eval-mode forward collapses.
        """
        with context.engine.autocast(no_grad=True):
            logits = model(batch.inputs)
        return self._opinion(logits, model, batch, context)

    @torch.no_grad()
    def _opinion(
        self, logits: Tensor, model: nn.Module, batch: Batch, context: EpochContext
    ) -> Opinion:
        """Return an opinion from the logits of a train-mode forward pass.

        The published code takes w from a second forward pass, in eval mode.
        """
        judged = logits
        if self.compat == "published" and self._has_warmed_up(context):
            with eval_mode(model), context.engine.autocast(no_grad=True):
                judged = model(batch.inputs)
        return Opinion(logits.detach(), cross_entropy(judged, batch.labels).detach())

    def _observe(self, opinion: Opinion, batch: Batch, context: EpochContext) -> None:
        """Count the guesses, and hand over the losses of an epoch that records them."""
        ones = torch.ones_like(opinion.losses)
        if self._guessed is not None:
            self._guessed.index_add_(0, opinion.logits.argmax(dim=1), ones)
        if self._given is not None:
            self._given.index_add_(0, batch.labels, ones)
        if self._is_recording(context):
            context.record(batch.indices, opinion.losses)

    def _wrong(self, losses: Tensor, context: EpochContext) -> Tensor:
        """Return w of each sample, (batch,): P(label wrong) times the evidence of the mixture."""
        if self._table is not None:
            return self._table(losses)
        assert context.noise_proba is not None  # the callers bootstrap
        return context.evidence * context.noise_proba(losses)

    # -- the class-prior term ---------------------------------------------------------------

    def balance(self, logits: Tensor, context: EpochContext) -> Tensor | float:
        """Return eta R, which keeps predictions spread as the classes are."""
        return balance_term(logits, self.class_balance, self._prior, context)

    def _tell_of_prior(self, counts: Tensor, context: EpochContext) -> None:
        """Warn where labels, counted by class, contradict the prior that they get by its name."""
        if isinstance(self.class_prior, str) and is_balanced(self.class_balance, context):
            there = counts > 0.0
            prior = None if self._prior is None else self._prior[there]
            warn_of_prior(type(self).__name__, counts[there], prior)


class PublishedLookup:
    """P(wrong) by the published rule, as a table on the training device."""

    def __init__(self, losses: Tensor, device: torch.device) -> None:
        fitted = fit_published(losses.numpy())
        self.low, self.span = fitted.low + 1e-5, fitted.high - fitted.low - 1e-5 + 1e-6
        self.proba = torch.as_tensor(fitted.proba, dtype=torch.float32, device=device)

    def __call__(self, losses: Tensor) -> Tensor:
        """Return P(wrong) of losses (batch,) on the device of the table."""
        place = ((losses - self.low) / max(self.span, 1e-6)).clamp(1e-3, 1.0 - 1e-3)
        cells = (place * len(self.proba)).long()
        return self.proba[cells.clamp(0, len(self.proba) - 1)]  # NaN, which the trainer reports


def bootstrap_targets(labels: Tensor, guesses: Tensor, weights: Tensor, num_classes: int) -> Tensor:
    """Return (1 - w) y + w z of each sample, (batch, num_classes), for `soft_cross_entropy`.

    z is one class a sample, or a distribution over them. Targets of two samples are mixed as their
    inputs are, because the loss is linear in them.
    """
    weights = weights[:, None]
    if guesses.ndim == 1:
        targets = weights.new_zeros(len(labels), num_classes)
        targets.scatter_(1, guesses[:, None], weights)
    else:
        targets = guesses * weights
    return targets.scatter_add_(1, labels[:, None], 1.0 - weights)
