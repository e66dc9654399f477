"""Corrections that give each sample a weight, and tell which."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lossnoise.corrections.base import Correction, EpochContext


class WeightingCorrection(Correction):
    """Base of the methods that weigh samples, and show their weights as `sample_weights_`."""

    _sums: Tensor | None = None  # of the weights that each sample had in this epoch
    _times: Tensor | None = None  # how often it was seen
    _sample_weights: Tensor | None = None

    @property
    def sample_weights_(self) -> Tensor | None:
        """Mean weight of each sample in the last epoch, (num_samples,) on the host, or None."""
        return self._sample_weights

    def setup(self, context: EpochContext) -> None:
        """Begin afresh."""
        self._sample_weights = None

    def begin_epoch(self, context: EpochContext) -> None:
        """Forget the weights of the epoch before."""
        zeros = torch.zeros(context.num_samples, dtype=torch.float32, device=context.device)
        self._sums, self._times = zeros, zeros.clone()

    def keep_weights(self, indices: Tensor, weights: Tensor) -> None:
        """Keep the weights of a batch, without waiting for the device."""
        if self._sums is not None and self._times is not None:
            self._sums.index_add_(0, indices, weights)
            self._times.index_add_(0, indices, torch.ones_like(weights))

    def end_epoch(self, context: EpochContext) -> None:
        """Show the weights of the epoch; NaN for samples that were not seen."""
        if self._sums is not None and self._times is not None:
            means = context.all_mean(self._sums) / context.all_mean(self._times)
            self._sample_weights = means.cpu()

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs beside the constructor's arguments."""
        return {"sample_weights": self._sample_weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` returned."""
        self._sample_weights = state["sample_weights"]
