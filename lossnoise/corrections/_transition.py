"""What both corrections by a transition matrix have in common (Patrini et al., 2017)."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from lossnoise._validation import invalid_parameter, to_numpy
from lossnoise.corrections.base import Batch, Correction, EpochContext, resolve_epochs
from lossnoise.corrections.losses import cross_entropy
from lossnoise.exceptions import InvalidDataError
from lossnoise.noise import estimate_transition
from lossnoise.noise._transition import check_percentile

LARGEST_CONDITION = 1e4  # of a matrix whose inverse is of use


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
        raise invalid_parameter(owner, "transition", expected, transition) from None
    proper = array.shape == (n, n) and np.isfinite(array).all() and (array >= 0.0).all()
    if not proper or (np.abs(array.sum(axis=1) - 1.0) > 1e-3).any():
        raise invalid_parameter(owner, "transition", expected, transition)
    table = array / array.sum(axis=1, keepdims=True)
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
