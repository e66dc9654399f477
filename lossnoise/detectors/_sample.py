"""The losses that a detector is fitted to: one by one, or as counts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lossnoise.detectors._grid import bin_losses
from lossnoise.detectors._histogram import LARGEST, NUM_BINS, SHIFT, LossHistogram, bin_edges
from lossnoise.detectors._scaling import FloatArray, Scaling
from lossnoise.detectors._threads import in_threads

# Up to so many losses, order statistics use each of them, and beyond it bins of relative width
# 2^-7: sorting would cost more than all the rest, and memory besides.
EXACT = 1 << 17
CHUNK = 1 << 16  # losses that are counted at a time: bounds the extra memory, fits the cache

# float32 knows 2^-126 of a unit. Where fewer than this share of the losses lie beyond `NOTHING` of
# the range, outliers set the range.
NOTHING, FEW = 2.0**-100, 0.01


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
        The lower end of each bin, which the losses in it and above it reach, and no others; the
        losses themselves where they are few.
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
        return cls(losses, None, *LossBins.over(losses).tally(losses))

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

    @property
    def highest(self) -> float:
        """Return the highest loss, or the lower end of its bin where only counts came."""
        return float(self.losses.max() if self.counts is None else self.lows[-1])

    def percentiles(self, wanted: ArrayLike) -> FloatArray:
        """Return percentiles of the losses: exact where they are few, else to within a bin."""
        shares = np.divide(wanted, 100.0)
        if len(self.losses) == len(self.values) and self.counts is None:
            places = shares * (len(self.values) - 1)
            lower = places.astype(np.intp)
            low, high = self.values[lower], self.values[np.minimum(lower + 1, len(self.values) - 1)]
            return np.asarray(low + (places - lower) * (high - low))
        ends = np.cumsum(self.weights)
        places = np.searchsorted(ends, shares * ends[-1])
        return np.asarray(self.values[np.minimum(places, len(ends) - 1)])

    def on_grid(self, scaling: Scaling, n_bins: int) -> FloatArray:
        """Return how many samples each node of a grid stands for, shape (n_bins + 1,)."""
        return bin_losses(self.losses, self.counts, scaling, n_bins)


class LossBins(NamedTuple):
    """Bins of the distance from the lowest loss, which are narrow there, in shares of `unit`.

    That is the range of the losses, so that losses on another scale are counted alike. The ends
    are of the type of the losses, and the unit of that in which distances are taken.
    """

    lowest: np.floating[Any]
    highest: np.floating[Any]
    unit: np.floating[Any]

    @classmethod
    def over(cls, losses: NDArray[Any]) -> LossBins:
        """Return bins for losses; outliers beside which all others would be 0 set no unit."""
        lowest, highest = losses.min(), losses.max()
        unit = _distance(lowest, highest)
        bins = cls(lowest, highest, unit if unit > 0.0 else unit.dtype.type(1.0))
        while not bins._tell_apart(losses):
            near = max(part[part <= bins._near].max(initial=lowest) for part in _parts(losses))
            if near == lowest:
                break
            bins = bins._replace(unit=_distance(lowest, near))
        return bins

    @property
    def _near(self) -> np.floating[Any]:
        """Return the end of what is next to nothing beside the unit."""
        near: np.floating[Any] = self.lowest + (self.unit * NOTHING).astype(self.lowest.dtype)
        return near

    def _tell_apart(self, losses: NDArray[Any]) -> bool:
        """Tell whether a share of the losses that counts is not next to nothing."""
        wanted, near = FEW * len(losses), self._near
        for part in _parts(losses):
            wanted -= np.count_nonzero(part > near)
            if wanted <= 0.0:
                return True
        return False

    def tally(self, losses: NDArray[Any]) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return middle, number and lower end of the losses in each bin, ascending."""

        def count(stretch: slice) -> NDArray[np.int64]:
            counts = np.zeros(NUM_BINS, dtype=np.int64)
            for part in _parts(losses[stretch]):
                held = np.bincount(self._keys(part))
                counts[: len(held)] += held
            return counts

        counts = np.sum(in_threads(count, len(losses)), axis=0)
        keys = np.flatnonzero(counts)
        low, high = bin_edges(keys)
        with np.errstate(over="ignore"):
            middles = (low + high) / 2.0 * float(self.unit) + float(self.lowest)
        middles = np.minimum(middles, float(self.highest))
        return middles, counts[keys].astype(np.float64), self._lower_ends(keys)

    def _keys(self, losses: NDArray[Any]) -> NDArray[np.uint32]:
        """Return the bin of each loss, which rises with it.

        Distances of float32 losses are taken in float32, which is twice as fast.
        """
        with np.errstate(over="ignore", under="ignore"):
            distances = np.subtract(losses, self.lowest, dtype=self.unit.dtype)
            distances /= self.unit
            np.minimum(np.abs(distances, out=distances), LARGEST, out=distances)  # no -0.0
            bits: NDArray[np.uint32] = distances.astype(np.float32, copy=False).view(np.uint32)
        bits >>= SHIFT
        return bits

    def _lower_ends(self, keys: NDArray[np.intp]) -> FloatArray:
        """Return the least number, of the type of the losses, that each bin takes.

        A loss that reaches it is in the bin, or in one above it. The edge of a bin is no such
        number, as distances are rounded: the search is among all numbers nearly as far away.
        """
        lowest, dtype = float(self.lowest), self.lowest.dtype
        edges = bin_edges(keys)[0].astype(np.float32)
        inside = np.nextafter(edges, np.float32(0.0)).astype(np.float64)
        middle = (edges + inside) / 2.0  # float32 takes what lies above for the edge
        with np.errstate(over="ignore"):
            near = np.minimum(lowest + float(self.unit) * middle, float(np.finfo(dtype).max))
            largest = np.maximum(np.abs(near), abs(lowest)).astype(dtype)
            slack = 8.0 * np.spacing(np.minimum(largest, np.finfo(dtype).max)).astype(np.float64)
            low = _ranks(np.maximum((near - slack).astype(dtype), self.lowest))
            high = _ranks((near + slack).astype(dtype))
        while (low < high).any():
            rank = (low >> 1) + (high >> 1) + (low & high & 1)  # their sum may be no int64
            reaches = self._keys(_of_ranks(rank, dtype)) >= keys
            low, high = np.where(reaches, low, rank + 1), np.where(reaches, rank, high)
        return _of_ranks(low, dtype).astype(np.float64)


def _parts(losses: NDArray[Any]) -> Iterator[NDArray[Any]]:
    return (losses[start : start + CHUNK] for start in range(0, len(losses), CHUNK))


def _distance(low: np.floating[Any], high: np.floating[Any]) -> np.floating[Any]:
    """Return how far two losses lie apart, in the type in which distances are taken."""
    wide = np.float64 if low.dtype.itemsize > 4 else np.float32
    return wide(min(float(high) - float(low), float(np.finfo(wide).max)))


def _ranks(numbers: NDArray[Any]) -> NDArray[np.int64]:
    """Return the place of each number among all of its type, counted from 0.0."""
    integers = np.dtype(f"i{numbers.itemsize}")
    return _signed(numbers.view(integers).astype(np.int64), integers)


def _of_ranks(ranks: NDArray[np.int64], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return the numbers at these places."""
    integers = np.dtype(f"i{dtype.itemsize}")
    return _signed(ranks, integers).astype(integers).view(dtype)


def _signed(bits: NDArray[np.int64], integers: np.dtype[Any]) -> NDArray[np.int64]:
    """Return bits of a sign and a magnitude as a number, or a number as such bits."""
    return np.where(bits < 0, np.iinfo(integers).min - bits, bits)
