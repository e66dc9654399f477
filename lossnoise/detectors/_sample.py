"""The losses that a detector is fitted to: one by one, or as counts."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lossnoise.detectors._grid import bin_losses
from lossnoise.detectors._histogram import NUM_BINS, LossHistogram, keys_of
from lossnoise.detectors._scaling import FloatArray, Scaling

# Up to so many losses, order statistics use each of them, and beyond it bins of relative width
# 2^-7: sorting would cost more than all the rest, and memory besides.
EXACT = 1 << 17
CHUNK = 1 << 18  # losses that are counted at a time: bounds the extra memory


class LossSample(NamedTuple):
    """Losses, how many samples each stands for, and a view of them that is short.

    Attributes
    ----------
    losses : ndarray of shape (n,)
        Finite; left in the type and the place (a memory-mapped file) that they came in.
    counts : ndarray of shape (n,), float64, or None
        Samples that each loss stands for; None for one each.
    values, weights : ndarray of shape (m,), float64
        The same losses and counts where they are few, else the middles of bins and how many they
        hold, ascending.
    lows : ndarray of shape (m,), float64
        The lowest loss in each bin, or its lower edge where only counts came; the losses
        themselves where they are few.
    """

    losses: NDArray[Any]
    counts: FloatArray | None
    values: FloatArray
    weights: FloatArray
    lows: FloatArray

    @classmethod
    def of_losses(cls, losses: NDArray[Any]) -> LossSample:
        """Take losses one by one."""
        if len(losses) <= EXACT:
            values = np.sort(losses).astype(np.float64, copy=False)  # in their type: less to move
            return cls(losses, None, values, np.ones(len(values)), values)
        return cls(losses, None, *count_losses(losses))

    @classmethod
    def of_histogram(cls, histogram: LossHistogram) -> LossSample:
        """Take counted losses: each counts as the middle of its bin."""
        values, held = histogram.bins()
        counts = held.astype(np.float64)
        return cls(values, counts, values, counts, histogram.lower_edges())

    def raised_to(self, least: float) -> LossSample:
        """Return the sample with this loss for those below it."""
        arrays = (self.losses, self.values, self.lows)
        losses, values, lows = (np.maximum(array, least) for array in arrays)
        return self._replace(losses=losses, values=values, lows=lows)

    @property
    def size(self) -> int:
        """Return the number of samples."""
        return len(self.losses) if self.counts is None else int(self.counts.sum())

    def percentiles(self, wanted: ArrayLike) -> FloatArray:
        """Return percentiles of the losses: exact where they are few, else to within a bin."""
        shares = np.divide(wanted, 100.0)
        if len(self.losses) == len(self.values) and self.counts is None:
            places = np.arange(len(self.values))
            return np.asarray(np.interp(shares * places[-1], places, self.values))
        ends = np.cumsum(self.weights)
        places = np.searchsorted(ends, shares * ends[-1])
        return np.asarray(self.values[np.minimum(places, len(ends) - 1)])

    def on_grid(self, scaling: Scaling, n_bins: int) -> FloatArray:
        """Return how many samples each node of a grid stands for, shape (n_bins + 1,)."""
        return bin_losses(self.losses, self.counts, scaling, n_bins)


def count_losses(losses: NDArray[Any]) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return middle, number and lowest of the losses in each bin, ascending.

    The bins begin at the lowest loss of all, where they are narrow. The edge of a bin would be
    rounded when that is added to it, and none of the losses in it might reach it.
    """
    histogram, origin = LossHistogram(), float(losses.min())
    lows = np.full(NUM_BINS, np.inf, losses.dtype)  # in their type: numpy is slow with another
    for start in range(0, len(losses), CHUNK):
        part = losses[start : start + CHUNK]
        keys = keys_of(np.subtract(part, origin, dtype=np.float64))
        histogram.counts += np.bincount(keys, minlength=NUM_BINS)
        np.minimum.at(lows, keys, part)
    values, counts = histogram.bins()
    held = lows[np.flatnonzero(histogram.counts)]
    return values + origin, counts.astype(np.float64), held.astype(np.float64)
