"""Losses on a grid: counts that add up exactly, and a table that is read by interpolation.

EM works on some thousand nodes instead of millions of losses. A loss between two nodes is shared
between them in proportion (linear binning), and a table over the nodes is read back with the same
shares (linear interpolation). The two are adjoint: the mean of a table over the counts *is* the
mean of what is read back for the losses.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lossnoise.detectors._scaling import EDGE, FloatArray, Scaling
from lossnoise.detectors._threads import in_threads

# Losses that are converted at a time. Bounds the extra memory, and stays in the cache.
CHUNK = 1 << 15

# Shares are multiples of 2^-20, so that float64 adds them up without rounding: in every order,
# and in every division over processes, the same losses give the same counts. Numbers near this
# one are that far apart, so that to add it rounds a share.
ROUNDER = 1.5 * 2.0**32

# More than the shares of one chunk can sum to, and little enough that as many of it, and the
# shares beside them, still add up without rounding.
BASE = float(2 * CHUNK)


def nodes(n_bins: int) -> FloatArray:
    """Return the ``n_bins + 1`` normalised losses of the grid, kept `EDGE` inside (0, 1)."""
    return np.clip(np.linspace(0.0, 1.0, n_bins + 1), EDGE, 1.0 - EDGE)


def bin_losses(
    losses: NDArray[Any], counts: FloatArray | None, scaling: Scaling, n_bins: int
) -> FloatArray:
    """Return how many samples each node of the grid stands for, shape (n_bins + 1,)."""

    def count(stretch: slice) -> FloatArray:
        both = np.zeros((2, n_bins + 1))  # all that is in a cell, and what goes to its upper node
        for part, cell, share in _cells(losses, stretch, scaling, n_bins):
            if counts is None:
                both += _count(cell, share, n_bins)
            else:
                both[0] += np.bincount(cell, counts[part], n_bins + 1)
                both[1] += np.bincount(cell, share * counts[part], n_bins + 1)
        return both

    whole, upper = np.sum(in_threads(count, len(losses)), axis=0)
    grid: FloatArray = whole - upper
    grid[1:] += upper[:-1]
    return grid


def read_table(
    table: FloatArray, losses: NDArray[Any], scaling: Scaling, out: FloatArray | None = None
) -> FloatArray:
    """Return the entries of a rising table at losses, interpolated between the nodes.

    Into `out`, if given; where that has two columns, the first one gets what is missing to 1.
    """
    read = np.empty(len(losses)) if out is None else out
    rise = np.diff(table, append=table[-1])
    overshoots = table[:-1] + rise[:-1] > table[1:]  # by rounding
    rise[:-1][overshoots] = np.nextafter(rise[:-1][overshoots], 0.0)

    def fill(stretch: slice) -> None:
        entries = np.empty(CHUNK)
        for part, cell, share in _cells(losses, stretch, scaling, len(table) - 1):
            entry = entries[: len(cell)]
            share *= rise.take(cell, out=entry, mode="clip")  # which, unlike "raise", needs no copy
            share += table.take(cell, out=entry, mode="clip")
            if read.ndim == 1:
                read[part] = share
            else:  # both at once, as long as they are in the cache
                read[part, 1] = share
                np.subtract(1.0, share, out=read[part, 0])

    in_threads(fill, len(losses))
    return read


def _cells(
    losses: NDArray[Any], stretch: slice, scaling: Scaling, n_bins: int
) -> Iterator[tuple[slice, NDArray[np.intp], FloatArray]]:
    """Yield, chunk by chunk, the cell of each loss of a stretch, and its upper node's share.

    A loss at the end of the scale is in cell number `n_bins`, with nothing to share. The arrays
    are the same for all chunks: new ones would cost more than what is done with them.
    """
    shares, cells = np.empty(CHUNK), np.empty(CHUNK, dtype=np.intp)
    wide = scaling.precision(losses)
    values = shares if wide is np.float64 else np.empty(CHUNK, dtype=wide)
    for start in range(stretch.start, stretch.stop, CHUNK):
        part = slice(start, min(start + CHUNK, stretch.stop))
        share, cell = shares[: part.stop - start], cells[: part.stop - start]
        value = scaling.normalise(losses[part], out=values[: len(share)])
        np.multiply(value, n_bins, out=share, dtype=np.float64)
        cell[:] = share
        share -= cell
        share += ROUNDER
        share -= ROUNDER
        yield part, cell, share


def _count(cell: NDArray[np.intp], share: FloatArray, n_bins: int) -> tuple[FloatArray, FloatArray]:
    """Return the number of losses in each cell of one chunk, and the sum of their shares.

    Both from one pass, which is what binning costs most: the number is the multiple of `BASE`.
    """
    share += BASE
    both = np.bincount(cell, share, n_bins + 1)
    held = np.floor(both / BASE)
    return held, both - held * BASE
