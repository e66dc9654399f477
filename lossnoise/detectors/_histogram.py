"""Counts of losses in bins that need no range beforehand, and that merge exactly."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lossnoise._validation import invalid_data, invalid_parameter, read_array
from lossnoise.detectors._numbers import check_numbers
from lossnoise.detectors._scaling import FloatArray

OWNER = "LossHistogram"
CHUNK = 1 << 18  # losses that are converted at a time: bounds the extra memory
SHIFT = 16  # of the 32 bits of a float32, sign, exponent and 7 leading mantissa bits stay
NUM_BINS = 1 << (32 - SHIFT)
MOST = 1 << 47  # samples that a bin may hold: the sum of all bins stays an int64
NEGATIVE = NUM_BINS // 2  # the sign bit
INFINITE = NEGATIVE // 256 * 255  # the bin of infinity, and the first that no loss is in
LARGEST = 3.4e38  # losses beyond it count as it: within the last bins, and a step inside float32
ULP = np.float32(2.0**-23)  # at least one step down to the next float32, and at most two


class LossHistogram:
    """Counts of losses in 65,536 fixed bins of relative width 2^-7 or less.

    A bin holds the losses that share sign, exponent and the 7 leading bits of the mantissa of
    their value as a float32, rounded down, so that every range of losses is covered with the same
    relative precision and no range is needed beforehand. Histograms filled in any order, in any
    division of the losses over processes, add up to exactly the same counts.

    Attributes
    ----------
    counts : ndarray of shape (65536,), int64
        Losses counted in each bin, by the upper 16 bits of their float32 value.

    Examples
    --------
    >>> from lossnoise import LossHistogram
    >>> morning = LossHistogram().fill([0.1, 0.2])
    >>> evening = LossHistogram().fill([3.0])
    >>> sum([morning, evening])
    LossHistogram(3 losses from 0.0996 to 3.02)
    >>> morning + evening == LossHistogram().fill([3.0, 0.2, 0.1])
    True
    """

    def __init__(self) -> None:
        self.counts: NDArray[np.int64] = np.zeros(NUM_BINS, dtype=np.int64)

    def fill(self, losses: ArrayLike, counts: ArrayLike | None = None) -> LossHistogram:
        """Count losses.

        Parameters
        ----------
        losses : array-like of shape (n,), any float or integer type
            Finite. Read in pieces, so that a memory-mapped file needs little memory. Nothing is
            counted where an error is raised.
        counts : array-like of shape (n,), int, optional
            How often each loss occurs, at least 0; once without it.

        Returns
        -------
        self : LossHistogram

        Raises
        ------
        InvalidDataError
            The losses are no vector of finite real numbers.
        """
        vector = read_array(OWNER, "losses", losses)
        if vector.ndim != 1:
            raise invalid_data(OWNER, "losses", "a vector", f"shape {vector.shape}")
        vector = check_numbers(OWNER, "losses", vector)
        often = None if counts is None else _check_counts(counts, len(vector))
        fresh = np.zeros(NUM_BINS, dtype=np.int64)
        for start in range(0, len(vector), CHUNK):
            keys = _keys(vector[start : start + CHUNK], start)
            if often is None:
                fresh += np.bincount(keys, minlength=NUM_BINS)
            else:
                np.add.at(fresh, keys, often[start : start + CHUNK])
        self.counts = _sum(OWNER, self.counts, fresh)
        return self

    def __add__(self, other: object) -> LossHistogram:
        """Return a new histogram with the counts of both."""
        if not isinstance(other, LossHistogram):
            return NotImplemented
        total = LossHistogram()
        total.counts = _sum(OWNER, self.counts, other.counts)
        return total

    def __radd__(self, other: object) -> LossHistogram:
        """Return a copy, for the 0 that `sum` begins with."""
        return self + LossHistogram() if other == 0 else NotImplemented

    def __eq__(self, other: object) -> bool:
        """Tell whether both hold the same counts."""
        return isinstance(other, LossHistogram) and np.array_equal(self.counts, other.counts)

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __len__(self) -> int:
        """Return the number of losses counted."""
        return int(self.counts.sum())

    def __repr__(self) -> str:
        """Return the number of losses and the range of the bins that hold them."""
        if not len(self):
            return "LossHistogram(0 losses)"
        low, high = self.quantile([0.0, 1.0])
        return f"LossHistogram({len(self)} losses from {low:.3g} to {high:.3g})"

    def bins(self) -> tuple[FloatArray, NDArray[np.int64]]:
        """Return the occupied bins in ascending order.

        Returns
        -------
        values : ndarray of shape (n_bins,), float64
            Middle of each bin.
        counts : ndarray of shape (n_bins,), int64
            Losses in it.
        """
        keys = _ascending(np.flatnonzero(self.counts))
        low, high = bin_edges(keys)
        return (low + high) / 2.0, self.counts[keys]

    def lower_edges(self) -> FloatArray:
        """Return the lower edge of each occupied bin, in ascending order.

        Returns
        -------
        edges : ndarray of shape (n_bins,), float64
            The least float32 that the bin takes: losses from there on are in it, or above it.
        """
        low = bin_edges(_ascending(np.flatnonzero(self.counts)))[0]
        inside = np.nextafter(low.astype(np.float32), np.float32(0.0))  # of those below 0
        return np.where(low < 0.0, inside, low)

    def __copy__(self) -> LossHistogram:
        """Return a histogram with counts of its own."""
        return self.copy()

    def copy(self) -> LossHistogram:
        """Return a histogram with the same counts.

        Returns
        -------
        histogram : LossHistogram
        """
        return self + LossHistogram()

    def quantile(self, q: ArrayLike) -> FloatArray:
        """Return quantiles of the losses, to within the width of a bin.

        Parameters
        ----------
        q : float or array-like of floats in [0, 1]

        Returns
        -------
        quantiles : ndarray of the shape of `q`, float64
            Losses within a bin count as evenly spread.

        Raises
        ------
        InvalidDataError
            The histogram is empty.
        InvalidParameterError
            `q` lies outside [0, 1].
        """
        shares = np.asarray(q, dtype=np.float64)
        if not ((shares >= 0.0) & (shares <= 1.0)).all():
            raise invalid_parameter(f"{OWNER}.quantile", "q", "in the range [0.0, 1.0]", q)
        if not len(self):
            raise invalid_data(f"{OWNER}.quantile", "self", "filled", "0 losses")
        keys = _ascending(np.flatnonzero(self.counts))
        low, high = bin_edges(keys)
        ends = np.cumsum(self.counts[keys])
        wanted = shares * ends[-1]
        at = np.minimum(np.searchsorted(ends, wanted), len(keys) - 1)
        inside = 1.0 - (ends[at] - wanted) / self.counts[keys][at]
        quantiles: FloatArray = low[at] + inside * (high[at] - low[at])
        return quantiles

    def to_dict(self) -> dict[str, Any]:
        """Return the occupied bins as plain data, fit for JSON.

        Returns
        -------
        data : dict
            ``keys`` and ``counts``, two lists of int, and ``format``, 1.
        """
        keys = np.flatnonzero(self.counts)
        return {"format": 1, "keys": keys.tolist(), "counts": self.counts[keys].tolist()}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> LossHistogram:
        """Return the histogram that `to_dict` was called on.

        Parameters
        ----------
        data : dict
            What `to_dict` returned.

        Returns
        -------
        histogram : LossHistogram

        Raises
        ------
        InvalidDataError
            `data` is something else.
        """
        owner = f"{OWNER}.from_dict"
        if not isinstance(data, dict) or set(data) != {"format", "keys", "counts"}:
            raise invalid_data(owner, "data", "what to_dict returned", "something else")
        if data["format"] != 1:
            raise invalid_data(owner, "data", "of format 1", f"format {data['format']!r}")
        keys, counts = data["keys"], data["counts"]
        if not (
            all(_holds_integers(values, end) for values, end in ((keys, NUM_BINS), (counts, MOST)))
            and len(keys) == len(counts) == len(set(keys))
            and all(key % NEGATIVE < INFINITE for key in keys)
        ):
            raise invalid_data(owner, "data", "keys of bins with their counts", "others")
        histogram = cls()
        np.add.at(histogram.counts, np.array(keys, np.int64), np.array(counts, np.int64))
        return histogram


def _holds_integers(values: object, end: int) -> bool:
    return isinstance(values, list) and all(type(v) is int and 0 <= v < end for v in values)


def _check_counts(counts: ArrayLike, n: int) -> NDArray[np.int64]:
    often = read_array(OWNER, "counts", counts)
    if often.shape != (n,) or (often.size and (often.dtype.kind not in "iu" or often.min() < 0)):
        expected = f"{n} integers of at least 0, one for each loss"
        raise invalid_data(OWNER, "counts", expected, f"{often.dtype} of shape {often.shape}")
    total = often.sum(dtype=np.float64)
    if total >= MOST:
        raise invalid_data(OWNER, "counts", "below 2^47 in all", f"{total:.3g}")
    return often.astype(np.int64)


def _sum(owner: str, counts: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the counts of both, or say that a bin cannot hold them."""
    total = counts + others
    if total.min() < 0 or total.max() >= MOST:
        got = f"{total.min()} to {total.max()}"
        raise invalid_data(owner, "counts", "from 0 to below 2^47 in each bin", got)
    return total


def _keys(losses: NDArray[Any], start: int) -> NDArray[np.int64]:
    """Return the bin of each loss."""
    finite = np.isfinite(losses)
    if not finite.all():
        row = start + int(np.flatnonzero(~finite)[0])
        raise invalid_data(OWNER, "losses", "finite", f"{losses[row - start]} in row {row}")
    return _keys_of(losses if np.can_cast(losses.dtype, np.float32) else _rounded_down(losses))


def _rounded_down(losses: NDArray[Any]) -> NDArray[np.float32]:
    """Return losses as float32: the nearest one may lie beyond the edge of their bin."""
    bounded = np.clip(losses, -LARGEST, LARGEST)
    nearest: NDArray[np.float32] = bounded.astype(np.float32)
    nearest -= np.abs(nearest) * ULP * (nearest > bounded)
    return nearest


def _keys_of(losses: NDArray[Any]) -> NDArray[np.int64]:
    """Return the bin of the float32 that is nearest to each loss."""
    if losses.dtype.itemsize > 4:
        losses = np.clip(losses, -LARGEST, LARGEST)
    bounded = losses.astype(np.float32) + np.float32(0.0)  # makes -0.0 the 0.0 that it equals
    return (bounded.view(np.uint32) >> SHIFT).astype(np.int64)


def _ascending(keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return keys in the order of their losses: negative ones are stored by magnitude."""
    split = np.searchsorted(keys, NEGATIVE)
    return np.concatenate([keys[split:][::-1], keys[:split]])


def bin_edges(keys: NDArray[np.int64]) -> tuple[FloatArray, FloatArray]:
    """Return the lower and the upper edge of bins."""
    magnitude = keys % NEGATIVE
    near = (magnitude << SHIFT).astype(np.uint32).view(np.float32).astype(np.float64)
    last = magnitude == INFINITE - 1  # beyond it float32 has only infinity
    bits = np.where(last, 0x7F7FFFFF, (magnitude + 1) << SHIFT).astype(np.uint32)
    far = bits.view(np.float32).astype(np.float64)
    negative = keys >= NEGATIVE
    return np.where(negative, -far, near), np.where(negative, -near, far)
