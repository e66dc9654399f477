"""Losses on a grid: counts that add up exactly, and a table that is read by interpolation.

EM works on some thousand nodes instead of millions of losses. A loss between two nodes is shared
between them in proportion (linear binning), and a table over the nodes is read back with the same
shares (linear interpolation). The two are adjoint: the mean of a table over the counts *is* the
mean of what is read back for the losses.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lossnoise.detectors._scaling import EDGE, FloatArray, Scaling

# Losses that are converted at a time. Bounds the extra memory, and stays in the cache.
CHUNK = 1 << 15

# Shares are multiples of 2^-20, so that float64 adds them up without rounding: in every order,
# and in every division over processes, the same losses give the same counts.
PARTS = float(1 << 20)

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
    whole, upper = np.zeros(n_bins), np.zeros(n_bins)
    for start in range(0, len(losses), CHUNK):
        part = slice(start, start + CHUNK)
        cell, share = _cells(scaling.normalise(losses[part]), n_bins)
        if counts is None:
            held, above = _count(cell, share, n_bins)
            whole += held
            upper += above
        else:
            whole += np.bincount(cell, counts[part], n_bins)
            upper += np.bincount(cell, share * counts[part], n_bins)
    grid = np.zeros(n_bins + 1)
    grid[:-1] += whole - upper
    grid[1:] += upper
    return grid


def read_table(table: FloatArray, losses: NDArray[Any], scaling: Scaling) -> FloatArray:
    """Return the entries of a rising table at losses, interpolated between the nodes."""
    values = np.empty(len(losses))
    rise = np.diff(table)
    for start in range(0, len(losses), CHUNK):
        part = slice(start, start + CHUNK)
        cell, share = _cells(scaling.normalise(losses[part]), len(rise))
        share *= rise.take(cell)
        share += table.take(cell)
        np.minimum(share, table[1:].take(cell), out=values[part])
    return values


def _cells(values: FloatArray, n_bins: int) -> tuple[NDArray[np.intp], FloatArray]:
    """Return the cell of each normalised loss, and the share that goes to its upper node."""
    share = values * n_bins
    cell = np.minimum(share.astype(np.intp), n_bins - 1)
    share -= cell
    share *= PARTS
    np.rint(share, out=share)
    share /= PARTS
    return cell, share


def _count(cell: NDArray[np.intp], share: FloatArray, n_bins: int) -> tuple[FloatArray, FloatArray]:
    """Return the number of losses in each cell of one chunk, and the sum of their shares.

    Both from one pass, which is what binning costs most: the number is the multiple of `BASE`.
    """
    both = np.bincount(cell, share + BASE, n_bins)
    held = np.floor(both / BASE)
    return held, both - held * BASE
