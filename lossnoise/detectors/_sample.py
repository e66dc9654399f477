"""The losses that a detector is fitted to: one by one, or as counts."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lossnoise.detectors._grid import bin_losses
from lossnoise.detectors._histogram import LossHistogram
from lossnoise.detectors._scaling import FloatArray, Scaling

# Up to so many losses, order statistics use each of them, and beyond it bins of relative width
# 2^-7: sorting would cost more than all the rest, and memory besides.
EXACT = 1 << 17


class LossSample(NamedTuple):
    """Losses, how many samples each stands for, and a view of them that is short.

    Attributes
    ----------
    losses : ndarray of shape (n,)
        Finite; left in the type and the place (a memory-mapped file) that they came in.
    counts : ndarray of shape (n,), float64, or None
        Samples that each loss stands for; None for one each.
    values, weights : ndarray of shape (m,), float64
        The same losses and counts where they are few, else bins and how many they hold, ascending.
    histogram : LossHistogram or None
        The bins where there are any.
    """

    losses: NDArray[Any]
    counts: FloatArray | None
    values: FloatArray
    weights: FloatArray
    histogram: LossHistogram | None

    @classmethod
    def of_losses(cls, losses: NDArray[Any]) -> LossSample:
        """Take losses one by one."""
        if len(losses) <= EXACT:
            values = np.sort(losses).astype(np.float64, copy=False)  # in their type: less to move
            return cls(losses, None, values, np.ones(len(values)), None)
        histogram = LossHistogram().fill(losses)
        values, counts = histogram.bins()
        return cls(losses, None, values, counts.astype(np.float64), histogram)

    @classmethod
    def of_histogram(cls, histogram: LossHistogram) -> LossSample:
        """Take counted losses: each counts as the middle of its bin."""
        values, counts = histogram.bins()
        weights = counts.astype(np.float64)
        return cls(values, weights, values, weights, histogram)

    @property
    def size(self) -> int:
        """Return the number of samples."""
        return len(self.losses) if self.counts is None else int(self.counts.sum())

    def percentiles(self, wanted: ArrayLike) -> FloatArray:
        """Return percentiles of the losses."""
        if self.histogram is not None:
            return self.histogram.quantile(np.divide(wanted, 100.0))
        return np.asarray(np.percentile(self.values, np.asarray(wanted, dtype=np.float64)))

    def on_grid(self, scaling: Scaling, n_bins: int) -> FloatArray:
        """Return how many samples each node of a grid stands for, shape (n_bins + 1,)."""
        return bin_losses(self.losses, self.counts, scaling, n_bins)
