"""Do losses show two populations, or may they be one? A test on their shape.

One population: the logarithm of the loss has a log-concave density. So have gamma, exponential,
Weibull, lognormal, log-logistic, half-normal, uniform and Pareto losses, whatever their scale; a
second heap, or a shoulder, further up has not. The test asks how far the losses' distribution
function lies from that of the most likely log-concave density. (Walther, "Detecting the presence
of mixing with multiscale maximum likelihood", JASA 97, 2002, uses the same null hypothesis. One
component of the mixture's own family would ask another question: "is it a beta?")
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lossnoise.detectors._log_concave import log_concave_fit
from lossnoise.detectors._sample import LossSample
from lossnoise.detectors._scaling import FloatArray

N_CELLS = 128
KINK = 1e-6  # change of slope from cell to cell that is more than rounding
LOWEST = 0.05  # quantile below which the shape does not count: there are right labels only

# Losses below it are right labels, and it does not matter how they are spread: -log(0.999). Where
# most losses are lower, the upper half of them is looked at, down to the resolution of float32.
SMALL_LOSS = 1e-3
SMALLEST_LOSS = 1e-6

# By chance alone the distance reaches so much, divided by sqrt(n), in about one sample of a
# thousand. It depends on how much of the sample lies on one straight piece of the fitted
# log-density: nothing pins the two together there. All of it does for uniform or Pareto losses,
# and a quarter for gamma or lognormal ones. (Simulated on Weibull, half-normal, beta, power,
# Pareto, log-logistic, inverse gamma and Rayleigh samples of 200 to 5,000.)
CRITICAL, CRITICAL_STRAIGHT = 0.55, 0.9
USUAL = 0.6  # of the critical distance: what chance often gives
SMALLEST_EXCESS = 0.01  # of all samples: no real losses are log-concave to the last percent


class Separability(NamedTuple):
    """The outcome of the test.

    Attributes
    ----------
    separable : bool
        Whether the losses show two populations.
    lower : float
        Share of the samples that one population does not account for, beyond what chance gives.
    limit : float
        The least share of the samples, far from the others, that would have been noticed.
    """

    separable: bool
    lower: float
    limit: float


def measure_separability(sample: LossSample, origin: float, unit: float) -> Separability:
    """Test whether losses show two populations.

    Parameters
    ----------
    sample : LossSample
        The losses.
    origin, unit : float
        Where the scale of the losses begins, and what one nat of cross-entropy is on it.
    """
    distances, weights = _upper_part(sample, origin, unit)
    size = weights.sum()
    if len(distances) < 3 or distances[-1] - distances[0] < SMALL_LOSS:
        return Separability(False, 0.0, 1.0)
    excess, critical = _distance(np.log(distances), weights)
    limit = max(critical, SMALLEST_EXCESS)
    share = size / sample.size
    return Separability(
        bool(excess > limit), share * max(0.0, excess - USUAL * critical), float(share * limit)
    )


def _upper_part(sample: LossSample, origin: float, unit: float) -> tuple[FloatArray, FloatArray]:
    """Return the losses whose shape counts, as distances from the origin, ascending."""
    distances = (sample.values - origin) / unit
    low, middle = (np.asarray(sample.percentiles([100.0 * LOWEST, 50.0])) - origin) / unit
    start = max(min(max(low, SMALL_LOSS), middle), SMALLEST_LOSS)
    kept = distances >= start
    return distances[kept], sample.weights[kept]


def _distance(values: FloatArray, weights: FloatArray) -> tuple[float, float]:
    """Return the largest distance of a distribution function to its log-concave fit's.

    And beside it the distance that chance hardly ever reaches.
    """
    place = (values - values[0]) / (values[-1] - values[0]) * N_CELLS
    cells = np.minimum(place.astype(np.intp), N_CELLS - 1)
    counts = np.bincount(cells, weights, N_CELLS).astype(np.float64)
    fit = log_concave_fit(counts)
    difference = np.cumsum(counts / counts.sum() - fit)
    critical = CRITICAL + CRITICAL_STRAIGHT * _straight_share(fit)
    return float(np.abs(difference).max()), critical / float(np.sqrt(counts.sum()))


def _straight_share(fit: FloatArray) -> float:
    """Return the largest share of a log-concave fit that lies between two of its kinks."""
    kinks = np.flatnonzero(np.diff(np.log(fit), 2) < -KINK) + 1
    return float(np.add.reduceat(fit, np.append(0, kinks)).max())
