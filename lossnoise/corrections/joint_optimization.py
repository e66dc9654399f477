"""Joint optimisation of weights and labels (Tanaka et al., 2018)."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.nn import functional as F

from lossnoise._validation import check_int, check_real, invalid_parameter
from lossnoise.corrections._balance import (
    balance_term,
    check_balance,
    is_balanced,
    read_prior,
    warn_of_prior,
)
from lossnoise.corrections.base import Batch, Correction, EpochContext, resolve_epochs
from lossnoise.corrections.losses import cross_entropy, prediction_entropy, soft_cross_entropy

ALPHA = 1.2  # the paper's weight of the class-prior term


def mean_predictions(kept: tuple[Tensor, ...], before: Tensor | None = None) -> Tensor:
    """Return the mean prediction of each sample over the epochs that saw it.

    Parameters
    ----------
    kept : tuple of Tensor of shape (num_samples, num_classes), float32
        Predictions of one epoch each; the rows of samples that it did not see are 0.
    before : Tensor of shape (num_samples, num_classes), float32, optional
        What is returned of samples that no epoch saw. Default: 0.

    Returns
    -------
    means : Tensor of shape (num_samples, num_classes), float32
        Rows sum to 1, or are those of `before`.
    """
    total = torch.zeros_like(kept[0])
    for predictions in kept:
        total += predictions
    times = total.sum(dim=1, keepdim=True)  # each prediction sums to 1
    seen = times > 0.0
    others = torch.zeros_like(total) if before is None else before
    return torch.where(seen, total / times.masked_fill(~seen, 1.0), others)


class JointOptimization(Correction):
    """Learn the labels together with the weights; registry name ``"joint-optimization"``.

    A first stage at a constant, high learning rate, at which wrong labels are not memorised. Its
    loss is -t' log h + alpha R + beta H(h): the cross-entropy with the label t, a distribution
    over the classes; the term R that keeps predictions spread over the classes
    (`class_prior_divergence`); and the entropy of the prediction h. t is the given label at first.
    After the warm-up each t becomes, epoch by epoch, the mean of the predictions that the last
    epochs' training steps made of its sample. In a second stage the network starts afresh from
    its first weights, and learns the labels that were found, with the schedule of the learning
    rate (Tanaka et al., CVPR 2018, section 3).

    Parameters
    ----------
    warmup : int or float, default=0.22
        Epochs with the given labels: a number of epochs (int) or a fraction of the run (float).
        The paper has 70 of 320.
    first_stage : int or float, default=0.625
        Epochs of the first stage, the warm-up included. The paper has 200 of 320.
    average : int, default=10
        Number of epochs whose predictions are averaged.
    class_prior : {"uniform", "labels"} or array-like (num_classes,), default="uniform"
        How frequent the classes are thought to be, in R: all alike, as the paper has it; as in
        the given labels; or as given.
    class_balance : float or "auto", default="auto"
        Weight alpha of R. "auto" is the paper's 1.2, and 0 for batches of fewer than 2 C samples,
        where the term is biased.
    entropy : float, default=0.8
        Weight beta of the entropy.

    Attributes
    ----------
    soft_labels_ : Tensor of shape (num_samples, num_classes), float32, or None
        The labels t that were found, on the training device; None until the warm-up ends. One
        minus the entry of the given label is what the method itself thinks of P(label wrong).
        Rows of samples that no training step has met are 0.

    Examples
    --------
    >>> from lossnoise.corrections import JointOptimization
    >>> JointOptimization(warmup=5, first_stage=20).needs_restart
    True
    """

    needs_restart = True

    _kept: tuple[Tensor, ...] = ()  # predictions of the last epochs, the newest at the end
    _present: Tensor | None = None  # those of this epoch; None in the second stage
    _soft_labels: Tensor | None = None
    _prior: Tensor | None = None  # of the classes; None is uniform
    _counts: Tensor | None = None  # of the given labels, while the first epoch counts them
    _device = torch.device("cpu")  # of the run

    def __init__(
        self,
        *,
        warmup: float = 0.22,
        first_stage: float = 0.625,
        average: int = 10,
        class_prior: str | ArrayLike = "uniform",
        class_balance: float | Literal["auto"] = "auto",
        entropy: float = 0.8,
    ) -> None:
        self.warmup = warmup
        self.first_stage = first_stage
        self.average = average
        self.class_prior = class_prior
        self.class_balance = class_balance
        self.entropy = entropy

    @property
    def soft_labels_(self) -> Tensor | None:
        """The labels that were found, on the training device; None until the warm-up ends."""
        return self._soft_labels

    def setup(self, context: EpochContext) -> None:
        """Check the parameters; warn where batches are too small for the class balance."""
        owner = type(self).__name__
        self._kept, self._soft_labels = (), None
        self._check_stages(owner, context)
        check_int(owner, "average", self.average, 1)
        check_real(owner, "entropy", self.entropy, 0.0, math.inf, closed="left")
        check_balance(owner, self.class_balance, context, usual=ALPHA)
        self._prior = read_prior(owner, self.class_prior, context)
        self._device = context.device

    def begin_epoch(self, context: EpochContext) -> None:
        """In the first stage, keep the learning rate, and make room for predictions."""
        self._present, self._counts = None, None
        balanced = is_balanced(self.class_balance, context, ALPHA)
        if context.epoch == 1 and isinstance(self.class_prior, str) and balanced:
            self._counts = torch.zeros(
                context.num_classes, dtype=torch.float32, device=context.device
            )
        if context.epoch <= self._stage_epochs(context):
            context.engine.hold_schedules()
            shape = (context.num_samples, context.num_classes)
            self._present = torch.zeros(shape, dtype=torch.float32, device=context.device)

    def loss(self, model: nn.Module, batch: Batch, context: EpochContext) -> Tensor:
        """Return the loss of each sample, shape (batch,)."""
        logits = model(batch.inputs)
        context.record(batch.indices, cross_entropy(logits, batch.labels).detach())
        losses = soft_cross_entropy(logits, self._targets(batch, context))
        if self._counts is not None:
            self._counts.index_add_(0, batch.labels, torch.ones_like(losses))
        if self._present is None:  # the second stage
            return losses
        self._present[batch.indices] = logits.detach().float().softmax(dim=1)
        balance = balance_term(logits, self.class_balance, self._prior, context, usual=ALPHA)
        return losses + balance + self.entropy * prediction_entropy(logits)

    def end_epoch(self, context: EpochContext) -> None:
        """Find the labels anew from the end of the warm-up on; start afresh after the stage."""
        if self._present is None:
            return
        predictions = _over_ranks(self._present, context)
        if self._counts is not None:
            possible = predictions.any(dim=0)  # the model may mask classes
            prior = None if self._prior is None else self._prior[possible]
            warn_of_prior(type(self).__name__, context.all_mean(self._counts)[possible], prior)
        self._kept = (*self._kept, predictions)[-self.average :]
        if context.epoch >= self._epochs("warmup", context):
            self._soft_labels = mean_predictions(self._kept, self._soft_labels)
        if context.epoch == self._stage_epochs(context):
            self._kept = ()
            context.engine.restart(context.num_epochs - context.epoch)

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs beside the constructor's arguments."""
        return {"soft_labels": self._soft_labels, "kept": self._kept}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` returned."""
        soft_labels = state["soft_labels"]
        self._soft_labels = None if soft_labels is None else soft_labels.to(self._device)
        self._kept = tuple(predictions.to(self._device) for predictions in state["kept"])

    # -- inside -----------------------------------------------------------------------------

    def _targets(self, batch: Batch, context: EpochContext) -> Tensor:
        """Return t of each sample, (batch, num_classes): the given label until it is known."""
        given = F.one_hot(batch.labels, context.num_classes).float()
        if self._soft_labels is None:
            return given
        found = self._soft_labels[batch.indices]
        return torch.where(found.sum(dim=1, keepdim=True) > 0.0, found, given)

    def _stage_epochs(self, context: EpochContext) -> int:
        return max(1, self._epochs("first_stage", context))

    def _epochs(self, name: str, context: EpochContext) -> int:
        value = getattr(self, name)
        return resolve_epochs(type(self).__name__, name, value, context.num_epochs)

    def _check_stages(self, owner: str, context: EpochContext) -> None:
        n, stage = context.num_epochs, self._stage_epochs(context)
        if n < 2:
            expected = f"at least 2 for {owner}, which has two stages"
            raise invalid_parameter("NoisyLabelTrainer", "epochs", expected, n)
        if stage >= n:
            expected = f"fewer than the {n} epochs of the run"
            raise invalid_parameter(owner, "first_stage", expected, self.first_stage)
        warmup = self._epochs("warmup", context)
        if warmup > stage:
            first = f"the {stage} epochs of the first stage (first_stage={self.first_stage})"
            expected = f"at most {first}, and is {warmup} epochs of this run"
            raise invalid_parameter(owner, "warmup", expected, self.warmup)


def _over_ranks(predictions: Tensor, context: EpochContext) -> Tensor:
    """Return the predictions of all processes; a sample that several of them saw has their mean."""
    processes = context.shard[1]
    total = processes * context.all_mean(predictions)
    times = total.sum(dim=1, keepdim=True).round()  # each prediction sums to 1
    return total / times.clamp_min(1.0)
