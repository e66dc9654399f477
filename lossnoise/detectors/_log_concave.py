"""Maximum-likelihood log-concave distributions on equal cells."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from lossnoise.detectors._scaling import FloatArray

MAX_STEPS = 90  # kinks that are tried; a few dozen describe any smooth density
NEWTON_STEPS = 25
ROUGH_STEPS = 1  # while kinks are still coming in
LARGEST_STEP = 4.0  # of a log-probability in one Newton step
RIDGE = 1e-10  # keeps the Hessian regular where all mass lies in few cells


def log_concave_fit(counts: FloatArray) -> FloatArray:
    """Return the log-concave probabilities of cells that make their counts most likely.

    The logarithm of the probabilities is a straight line bent downwards at kinks, log p(x) =
    s x - sum_j t_j max(x - x_j, 0) + const. with t_j >= 0. Kinks enter one by one where the
    likelihood rises fastest and leave where t_j reaches 0: the active-set method for
    log-concave densities [1]_, on cells.

    Parameters
    ----------
    counts : ndarray of shape (n_cells,), float64
        Samples in each cell, at least three cells, not all empty.

    Returns
    -------
    probabilities : ndarray of shape (n_cells,), float64
        They sum to 1.

    References
    ----------
    .. [1] L. Duembgen, A. Huesler, K. Rufibach, "Active set and EM algorithms for log-concave
       densities based on complete and censored data", arXiv:0707.4643.
    """
    share = counts / counts.sum()
    line, hinges = _basis(len(counts))
    tolerance = 1e-4 / np.sqrt(counts.sum())  # far below what chance moves
    kinks: list[int] = []
    weights = _newton(line, np.zeros(1), share, NEWTON_STEPS)
    probabilities = _probabilities(line @ weights)
    exact = True
    for _ in range(MAX_STEPS):
        gain = (share - probabilities) @ hinges
        best = int(gain.argmax())
        done = gain[best] < tolerance or best in kinks
        if done and exact:
            break
        if not done:
            kinks, weights = [*kinks, best], np.append(weights, 0.0)
        exact, steps = done, NEWTON_STEPS if done else ROUGH_STEPS
        kinks, weights = _solve(kinks, weights, line, hinges, share, steps)
        probabilities = _probabilities(_design(line, hinges, kinks) @ weights)
    return probabilities


@lru_cache(maxsize=4)
def _basis(size: int) -> tuple[FloatArray, FloatArray]:
    """Return the line ``(size, 1)`` and the downward hinges ``(size, size - 2)``."""
    x = (np.arange(size) + 0.5) / size
    hinges = np.minimum(0.0, x[None, 1:-1] - x[:, None])
    return x[:, None], hinges


def _design(line: FloatArray, hinges: FloatArray, kinks: list[int]) -> FloatArray:
    return np.column_stack([line, hinges[:, kinks]])


def _solve(
    kinks: list[int],
    weights: FloatArray,
    line: FloatArray,
    hinges: FloatArray,
    share: FloatArray,
    steps: int,
) -> tuple[list[int], FloatArray]:
    """Fit the bends at some kinks; those that would turn upwards are straightened and left out."""
    while True:
        wanted = _newton(_design(line, hinges, kinks), weights, share, steps)
        upward = wanted[1:] < 0.0
        if not upward.any():
            return kinks, wanted
        now = weights[1:][upward]
        shares = now / (now - wanted[1:][upward])
        weights = weights + shares.min() * (wanted - weights)
        keep = weights[1:] > 0.0
        keep[np.flatnonzero(upward)[shares.argmin()]] = False
        weights = weights[np.append(True, keep)]
        kinks = [kink for kink, kept in zip(kinks, keep, strict=True) if kept]


def _newton(design: FloatArray, weights: FloatArray, share: FloatArray, steps: int) -> FloatArray:
    """Return the weights of the most likely probabilities, without bounds."""
    for _ in range(steps):
        probabilities = _probabilities(design @ weights)
        gradient = design.T @ (share - probabilities)
        mean = design.T @ probabilities
        hessian = (design * probabilities[:, None]).T @ design - mean[:, None] * mean
        hessian.flat[:: len(hessian) + 1] += RIDGE  # its diagonal
        step = np.linalg.solve(hessian, gradient)
        if gradient @ step < RIDGE:
            break
        size = np.abs(design @ step).max()
        weights = weights + min(1.0, LARGEST_STEP / size) * step
    return weights


def _probabilities(log_weights: FloatArray) -> FloatArray:
    weights = np.exp(log_weights - log_weights.max())
    return np.asarray(weights / weights.sum())
