"""What the mentors have in common: losses, how far they are from a moving percentile, dropout."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lossnoise._validation import check_real, invalid_parameter
from lossnoise.corrections._weights import WeightingCorrection
from lossnoise.corrections.base import Batch, EpochContext, resolve_epochs, warn_of_schedule
from lossnoise.corrections.losses import cross_entropy


def moving_percentile(
    losses: Tensor, before: Tensor | None, percentile: float, decay: float
) -> Tensor:
    """Return the exponential moving average of a percentile of the losses of batches.

    Parameters
    ----------
    losses : Tensor of shape (batch,)
        Losses of this batch.
    before : Tensor of shape (), or None
        The average before this batch; None where this is the first one, whose percentile it is.
    percentile : float
        In percent.
    decay : float
        How much of the average before is kept.

    Returns
    -------
    average : Tensor of shape ()

    Examples
    --------
    >>> import torch
    >>> moving_percentile(torch.tensor([0.0, 2.0, 4.0]), torch.tensor(1.0), 50.0, 0.75)
    tensor(1.2500)
    """
    present = torch.quantile(losses, percentile / 100.0)
    return present if before is None else decay * before + (1.0 - decay) * present


class MentorNet(WeightingCorrection):
    """Base of the mentors, which weigh losses by v: the student's loss is sum v_i l_i."""

    percentile: float
    decay: float
    warmup: float
    dropout: Sequence[float]
    dropout_until: float

    _average: Tensor | None = None  # of the percentile of the losses, on the device
    _device = torch.device("cpu")  # of the run

    @abstractmethod
    def weigh(self, losses: Tensor, diffs: Tensor, labels: Tensor, context: EpochContext) -> Tensor:
        """Return v of each sample, (batch,): by its loss, how far it is over the moving percentile.

        Only asked for after the warm-up.
        """

    def setup(self, context: EpochContext) -> None:
        """Check the parameters; begin afresh."""
        super().setup(context)
        owner = type(self).__name__
        self._device, self._average = context.device, None
        check_real(owner, "percentile", self.percentile, 1.0, 100.0, closed="right")
        check_real(owner, "decay", self.decay, 0.0, 1.0, closed="left")
        for name in ("warmup", "dropout_until"):
            self._epochs(name, context)
        warn_of_schedule(owner, self.epochs_before(context), context.num_epochs)
        rates = self.dropout
        proper = isinstance(rates, (tuple, list)) and len(rates) == 2
        if not proper or not all(isinstance(r, (float, int)) and 0.0 <= r < 1.0 for r in rates):
            raise invalid_parameter(owner, "dropout", "two floats in the range [0.0, 1.0)", rates)

    def loss(self, model: nn.Module, batch: Batch, context: EpochContext) -> Tensor:
        """Return v_i l_i of each sample, shape (batch,); v is 1 in the warm-up, then the mentor's.

        Some samples, by `dropout`, have no part in a step.
        """
        losses = cross_entropy(model(batch.inputs), batch.labels)
        known = losses.detach()
        context.record(batch.indices, known)
        average = moving_percentile(known, self._average, self.percentile, self.decay)
        self._average = context.all_mean(average)
        weights = torch.ones_like(known)
        if context.epoch > self._epochs("warmup", context):
            weights = self.weigh(known, known - self._average, batch.labels, context)
        self.keep_weights(batch.indices, weights)
        return weights * self._drawn(len(known), context) * losses

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs beside the constructor's arguments."""
        return super().state_dict() | {"average": self._average}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` returned."""
        super().load_state_dict(state)
        if state["average"] is not None:
            self._average = state["average"].to(self._device)  # checkpoints are read on the host

    def _drawn(self, size: int, context: EpochContext) -> Tensor:
        """Return 1 for the samples that take part in a step, and 0 for those that do not."""
        early = context.epoch <= self._epochs("dropout_until", context)
        rate = self.dropout[0] if early else self.dropout[1]
        draws = torch.rand(size, generator=context.generator, device=context.device)
        return (draws >= rate).float()

    def epochs_before(self, context: EpochContext) -> int:
        """Return the epochs of the warm-up."""
        return self._epochs("warmup", context)

    def _epochs(self, name: str, context: EpochContext) -> int:
        return resolve_epochs(type(self).__name__, name, getattr(self, name), context.num_epochs)
