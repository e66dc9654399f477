"""The beta mixture as the code published with the paper fits it and looks it up.

For ``compat="published"`` alone: it trims the losses, is wrong at low noise, and serves to measure
what the difference is worth (Arazo et al., ICML 2019, section 3.1, and their code): 10 iterations
from (1, 2) and (2, 1); 5th to 95th percentile; 100 cells, flat to the right of the maximum; w in
[1e-4, 1 - 1e-4].
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaln

ITERATIONS = 10
CELLS = 100
EDGE = 1e-4
SMALLEST_VARIANCE = 1e-12

FloatArray = NDArray[np.float64]


class PublishedTable(NamedTuple):
    """P(wrong) in 100 cells between two losses.

    Attributes
    ----------
    low, high : float
        The losses that become 0 and 1.
    proba : ndarray of shape (100,), float64
        P(wrong) in each cell, in [1e-4, 1 - 1e-4].
    """

    low: float
    high: float
    proba: FloatArray


def fit_published(losses: NDArray[np.floating]) -> PublishedTable:
    """Fit the published mixture to losses of shape (n_samples,)."""
    losses = losses.astype(np.float64)
    low, high = np.percentile(losses, [5, 95])
    values = _normalise(losses[(losses >= low) & (losses <= high)], low, high)
    joint = _joint(
        np.clip(np.linspace(0.0, 1.0, CELLS), EDGE, 1.0 - EDGE),
        *_fit_betas(np.clip(values, EDGE, 1.0 - EDGE)),
    )
    proba = joint[1] / joint.sum(axis=0)
    top = int(proba.argmax())
    proba[top:] = proba[top]
    return PublishedTable(float(low), float(high), np.clip(proba, EDGE, 1.0 - EDGE))


def _normalise(losses: FloatArray, low: float, high: float) -> FloatArray:
    place = (losses - low - 1e-5) / max(high - low - 1e-5 + 1e-6, 1e-6)
    placed: FloatArray = np.where(place >= 1.0, 1.0 - 1e-3, np.where(place <= 0.0, 1e-3, place))
    return placed


def _fit_betas(values: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return a, b and the weights of two betas, by EM with a weighted method of moments."""
    a, b, weights = np.array([1.0, 2.0]), np.array([2.0, 1.0]), np.array([0.5, 0.5])
    for _ in range(ITERATIONS):
        joint = _joint(values, a, b, weights)
        share = joint / joint.sum(axis=0)
        mass = share.sum(axis=1)
        mean = share @ values / mass
        variance = (share * (values - mean[:, None]) ** 2).sum(axis=1) / mass
        a = mean * (mean * (1.0 - mean) / np.maximum(variance, SMALLEST_VARIANCE) - 1.0)
        b = a * (1.0 - mean) / mean
        weights = mass / mass.sum()
    return a, b, weights


def _joint(values: FloatArray, a: FloatArray, b: FloatArray, weights: FloatArray) -> FloatArray:
    a, b = a[:, None], b[:, None]
    log_density = (a - 1.0) * np.log(values) + (b - 1.0) * np.log1p(-values) - betaln(a, b)
    joint: FloatArray = np.maximum(weights[:, None] * np.exp(log_density), 1e-12)
    return joint
