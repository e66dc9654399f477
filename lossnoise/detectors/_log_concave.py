"""Maximum-likelihood log-concave distributions on equal cells."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy.linalg.lapack import dgesv

from lossnoise.detectors._scaling import FloatArray

MAX_STEPS = 90  # kinks that are tried; a few dozen describe any smooth density
NEWTON_STEPS = 25
FEW_STEPS = 1  # while kinks are still coming in

# How steep the likelihood may be at the end, over 1 / sqrt(samples): far below what chance moves,
# within a few nats, and where few kinks will do.
EXACT, FINE, ROUGH = 1e-4, 1e-2, 1.0
LARGEST_STEP = 4.0  # of a log-probability in one Newton step
RIDGE = 1e-10  # keeps the Hessian regular where all mass lies in few cells


class LogConcaveFit(NamedTuple):
    """A log-concave distribution on equal cells.

    Attributes
    ----------
    probabilities : ndarray of shape (n_cells,), float64
        They sum to 1.
    terms : list of int
        Columns of the basis that its logarithm is made of: the line, and a hinge for each kink.
    weights : ndarray of shape (n_terms,), float64
        Their weights; those of hinges are at least 0.
    """

    probabilities: FloatArray
    terms: list[int]
    weights: FloatArray


def log_concave_fit(
    counts: FloatArray, start: LogConcaveFit | None = None, *, gradient: float = EXACT
) -> LogConcaveFit:
    """Return the log-concave distribution on cells that makes their counts most likely.

    The logarithm of the probabilities is a straight line bent downwards at kinks, log p(x) =
    s x - sum_j t_j max(x - x_j, 0) + const. with t_j >= 0. Kinks enter one by one where the
    likelihood rises fastest and leave where t_j reaches 0: the active-set method for
    log-concave densities [1]_, on cells.

    Parameters
    ----------
    counts : ndarray of shape (n_cells,), float64
        Samples in each cell, at least three cells, not all empty.
    start : LogConcaveFit, optional
        The fit to other counts of these cells. The result is the same, and found sooner where
        the counts are nearly the same.
    gradient : float, default=EXACT
        How steep the likelihood may be where it ends, over 1 / sqrt(samples). With `ROUGH` it ends
        after about a third of the steps: short of the best likelihood, by the more the more samples
        there are.

    Returns
    -------
    fit : LogConcaveFit
        The distribution.

    References
    ----------
    .. [1] L. Duembgen, A. Huesler, K. Rufibach, "Active set and EM algorithms for log-concave
       densities based on complete and censored data", arXiv:0707.4643.
    """
    total = counts.sum()
    share, basis = counts / total, _basis(len(counts))
    tolerance = gradient / np.sqrt(total)
    terms, weights = ([0], np.zeros(1)) if start is None else (start.terms, start.weights)
    terms, weights = _solve(terms, weights, basis, share, NEWTON_STEPS)
    probabilities, exact = _probabilities(basis[:, terms] @ weights), True
    for _ in range(MAX_STEPS):
        slope = (share - probabilities) @ basis  # of the likelihood
        best = 1 + int(slope[1:].argmax())
        done = slope[best] < tolerance or best in terms
        if done and exact:
            if start is not None and np.abs(slope[terms]).max() > tolerance:
                return log_concave_fit(counts, gradient=gradient)  # too far for Newton's method
            break
        if not done:
            terms, weights = [*terms, best], np.append(weights, 0.0)
        exact, steps = done, NEWTON_STEPS if done else FEW_STEPS
        terms, weights = _solve(terms, weights, basis, share, steps)
        probabilities = _probabilities(basis[:, terms] @ weights)
    return LogConcaveFit(probabilities, terms, weights)


@lru_cache(maxsize=4)
def _basis(size: int) -> FloatArray:
    """Return a line and the downward hinges, one in each column, ``(size, size - 1)``."""
    x = (np.arange(size) + 0.5) / size
    return np.column_stack([x, np.minimum(0.0, x[None, 1:-1] - x[:, None])])


def _solve(
    terms: list[int], weights: FloatArray, basis: FloatArray, share: FloatArray, steps: int
) -> tuple[list[int], FloatArray]:
    """Fit the bends at some kinks; those that would turn upwards are straightened and left out."""
    while True:
        wanted = _newton(basis[:, terms], weights, share, steps)
        upward = wanted < 0.0
        upward[0] = False  # the line may fall
        if not upward.any():
            return terms, wanted
        shares = weights[upward] / (weights[upward] - wanted[upward])
        weights = weights + shares.min() * (wanted - weights)
        keep = weights > 0.0
        keep[np.flatnonzero(upward)[shares.argmin()]] = False
        keep[0] = True
        weights = weights[keep]
        terms = [term for term, kept in zip(terms, keep, strict=True) if kept]


def _newton(design: FloatArray, weights: FloatArray, share: FloatArray, steps: int) -> FloatArray:
    """Return the weights of the most likely probabilities, without bounds.

    The systems are so small that what NumPy does around LAPACK would take most of the time.
    """
    wanted = share @ design
    for _ in range(steps):
        weighted = design.T * _probabilities(design @ weights)
        mean = weighted.sum(axis=1)
        gradient = wanted - mean
        hessian = weighted @ design - mean[:, None] * mean
        hessian.flat[:: len(hessian) + 1] += RIDGE  # its diagonal
        step, singular = dgesv(hessian, gradient)[2:]
        if singular or gradient @ step < RIDGE:
            break
        size = np.abs(design @ step).max()
        weights = weights + min(1.0, LARGEST_STEP / size) * step
    return weights


def _probabilities(log_weights: FloatArray) -> FloatArray:
    weights = np.exp(log_weights - log_weights.max())
    return np.asarray(weights / weights.sum())
