"""What both corrections by a transition matrix have in common (Patrini et al., 2017)."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from lossnoise._validation import invalid_data, invalid_parameter, miss_one, to_numpy
from lossnoise._warnings import warn
from lossnoise.corrections.base import Batch, Correction, EpochContext, resolve_epochs
from lossnoise.corrections.losses import cross_entropy
from lossnoise.exceptions import InvalidDataError, LayoutWarning
from lossnoise.noise import estimate_transition
from lossnoise.noise._transition import check_percentile

LARGEST_CONDITION = 1e4  # of a matrix whose inverse is of use
SLIGHTLY = 0.01  # less likely than the most likely label
MOSTLY = 0.5  # of the samples, in classes whose most frequent label is another one than T says


class TransitionCorrection(Correction):
    """Base of `ForwardCorrection` and `BackwardCorrection`: where T comes from."""

    needs_restart = True

    _transition: Tensor | None = None
    _device = torch.device("cpu")  # of the run

    def __init__(
        self,
        *,
        transition: ArrayLike | None = None,
        estimation: float = 0.2,
        percentile: float | Literal["auto"] = "auto",
    ) -> None:
        self.transition = transition
        self.estimation = estimation
        self.percentile = percentile

    @property
    def transition_(self) -> Tensor | None:
        """T as it is used, on the training device; None until it is known."""
        return self._transition

    @abstractmethod
    def corrected_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of each sample by T, shape (batch,)."""

    def use(self, transition: Tensor) -> None:
        """Use T from now on."""
        self._transition = transition

    def setup(self, context: EpochContext) -> None:
        """Check the parameters."""
        owner = type(self).__name__
        check_percentile(owner, self.percentile)
        self._device, self._transition = context.device, None
        epochs = self._estimation_epochs(context)
        if self.transition is not None:
            self.use(read_transition(owner, self.transition, context))
        elif epochs >= context.num_epochs:
            n = context.num_epochs
            expected = f"fewer than the {n} epochs of the run where no transition is given"
            raise invalid_parameter(owner, "estimation", expected, self.estimation)

    def begin_epoch(self, context: EpochContext) -> None:
        """Keep the learning rate while T is not known: the schedule is for the time after it."""
        if self._transition is None:
            context.engine.hold_schedules()

    def loss(self, model: nn.Module, batch: Batch, context: EpochContext) -> Tensor:
        """Return the loss of each sample, shape (batch,): cross-entropy while T is not known."""
        logits = model(batch.inputs)
        losses = cross_entropy(logits, batch.labels)
        context.record(batch.indices, losses.detach())
        if self._transition is None:
            return losses
        return self.corrected_loss(logits, batch.labels)

    def end_epoch(self, context: EpochContext) -> None:
        """Estimate T at the end of the first part of the run, and start afresh."""
        if self._transition is not None or context.epoch < self._estimation_epochs(context):
            return
        probs = context.sweep(lambda model, batch: model(batch.inputs).float().softmax(dim=1))
        estimate = estimate_transition(probs.cpu().numpy(), percentile=self.percentile)
        self.use(torch.as_tensor(estimate, dtype=torch.float32, device=context.device))
        context.engine.restart(context.num_epochs - context.epoch)

    def end_run(self, predicted: NDArray[np.int64], labels: NDArray[np.int64]) -> None:
        """Warn where the labels are mostly other ones than T says of the predicted classes.

        A T that was estimated comes from these labels themselves.
        """
        if self.transition is None or self._transition is None:
            return
        transition = self._transition.cpu().numpy()
        table = np.zeros(transition.shape, dtype=np.int64)
        np.add.at(table, (predicted, labels), 1)
        rows = np.arange(len(table))
        usual = transition[rows, table.argmax(axis=1)] >= transition.max(axis=1) - SLIGHTLY
        share = float(table[~usual].sum() / table.sum())
        if share > MOSTLY:
            warn(
                f"{share:.0%} of the samples are in predicted classes whose most frequent given "
                f"label is another one than the transition matrix of {type(self).__name__} says. "
                "Its rows are true classes, its columns given labels: is it transposed, or of "
                "classes in another order? Or the model has not learned to tell them.",
                LayoutWarning,
            )

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs beside the constructor's arguments."""
        return {"transition": self._transition}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` returned."""
        if state["transition"] is not None:
            self.use(state["transition"].to(self._device))  # checkpoints are read on the host

    def _estimation_epochs(self, context: EpochContext) -> int:
        owner, n = type(self).__name__, context.num_epochs
        return max(1, resolve_epochs(owner, "estimation", self.estimation, n))


def read_transition(owner: str, transition: Any, context: EpochContext) -> Tensor:
    """Return T on the training device."""
    n = context.num_classes
    expected = f"a ({n}, {n}) matrix of probabilities whose rows sum to 1"
    try:
        array = to_numpy(transition).astype(np.float64)
    except (TypeError, ValueError):
        got = f"a {type(transition).__name__} that is no array of numbers"
        raise invalid_data(owner, "transition", expected, got) from None
    if array.shape != (n, n):
        raise invalid_data(owner, "transition", expected, f"an array of shape {array.shape}")
    sums = array.sum(axis=1)
    proper = (array >= 0.0).all(axis=1) & ~miss_one(array)
    if not proper.all():
        row = int(proper.argmin())
        lowest = array[row].min()
        got = f"{lowest:.3g}" if not lowest >= 0.0 else f"a sum of {sums[row]:.6g}"
        advice = "counts become probabilities divided by the sums of their rows"
        bad = f"{got} in row {row} ({np.count_nonzero(~proper)} of {n} rows)"
        raise invalid_data(owner, "transition", expected, bad, advice if sums[row] > 1.5 else "")
    table = array / sums[:, None]
    return torch.as_tensor(table, dtype=torch.float32, device=context.device)


def invert(transition: Tensor) -> Tensor:
    """Return the inverse of T."""
    array = transition.double().cpu().numpy()
    condition = np.linalg.cond(array)
    if not condition < LARGEST_CONDITION:
        raise InvalidDataError(
            "The transition matrix of BackwardCorrection is close to singular (condition number "
            f"{condition:.3g}): some classes are labelled alike, and their losses cannot be told "
            "apart. Use correction='forward', which needs no inverse."
        )
    return torch.as_tensor(np.linalg.inv(array), dtype=torch.float32, device=transition.device)
