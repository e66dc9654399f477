"""Do losses show two populations, or may they be one? A test on their shape.

One population: the logarithm of the loss has a log-concave density. So have gamma, exponential,
Weibull, lognormal, log-logistic, half-normal, uniform and Pareto losses, whatever their scale. A
second heap, or a shoulder, further up has not. The test asks how much more likely two log-concave
densities make the losses than one. (Walther, "Detecting the presence of mixing with multiscale
maximum likelihood", JASA 97, 2002, uses the same null hypothesis. One component of the mixture's
own family would ask another question: "is it a beta?")
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import expit

from lossnoise.detectors._log_concave import log_concave_fit
from lossnoise.detectors._sample import LossSample
from lossnoise.detectors._scaling import FloatArray

N_CELLS = 48
LOWEST = 0.05  # quantile below which the shape does not count: there are right labels only

# Losses below it are right labels, and it does not matter how they are spread: -log(0.999). Where
# most losses are lower, the upper half of them is looked at, down to the resolution of float32.
SMALL_LOSS = 1e-3
SMALLEST_LOSS = 1e-6

SPLITS = (0.5, 0.8, 0.95)  # quantiles at which a division of the losses begins
STEPS = 3  # of EM from there
FEWEST = 3.0  # samples in a population: the two highest losses of all do not count

# Gains in log-likelihood above it are evidence. Of 500 samples of one population (Weibull,
# half-normal, power, Pareto, log-logistic, inverse gamma; 200 to 5,000 losses) 99 % gained less
# than 8.5, whatever their size. No real losses are log-concave to the last digit, so that large
# samples have to gain something for every loss.
ENOUGH, ENOUGH_PER_LOSS = 12.0, 1e-3


class Separability(NamedTuple):
    """The outcome of the test.

    Attributes
    ----------
    separable : bool
        Whether the losses show two populations.
    limit : float
        About the least share of the samples, far above the others, that would have been noticed.
    """

    separable: bool
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
    low, high = distances.min(initial=np.inf), distances.max(initial=-np.inf)
    if not high - low >= SMALL_LOSS:
        return Separability(False, 1.0)
    size = weights.sum()
    counts = _count(np.log(distances), weights)
    enough = max(ENOUGH, ENOUGH_PER_LOSS * size)
    return Separability(gains_more(counts, enough), float(1.0 / np.sqrt(sample.size)))


def _upper_part(sample: LossSample, origin: float, unit: float) -> tuple[FloatArray, FloatArray]:
    """Return the losses whose shape counts, as distances from the origin."""
    distances = (sample.values - origin) / unit
    low, middle = (np.asarray(sample.percentiles([100.0 * LOWEST, 50.0])) - origin) / unit
    start = max(min(max(low, SMALL_LOSS), middle), SMALLEST_LOSS)
    ends = np.cumsum(sample.weights)
    top = distances[np.searchsorted(ends, ends[-1] - FEWEST, side="right")]
    kept = (distances >= start) & (distances <= top)  # one or two outliers are no population
    return distances[kept], sample.weights[kept]


def _count(values: FloatArray, weights: FloatArray) -> FloatArray:
    low, high = values.min(), values.max()
    cells = np.minimum(((values - low) / (high - low) * N_CELLS).astype(np.intp), N_CELLS - 1)
    return np.bincount(cells, weights, N_CELLS).astype(np.float64)


def gains_more(counts: FloatArray, enough: float) -> bool:
    """Tell whether two log-concave distributions gain more log-likelihood than `enough` over one.

    EM with log-concave fits, from several divisions of the cells. The gain only rises, so that
    the first one that is enough ends it.
    """
    one = float(counts @ _log(log_concave_fit(counts)))
    ends = np.cumsum(counts)
    cells = np.arange(len(counts))
    for split in SPLITS:
        upper = expit((cells - np.searchsorted(ends, split * ends[-1])).astype(np.float64))
        for _ in range(STEPS):
            masses = counts * (1.0 - upper), counts * upper
            if min(mass.sum() for mass in masses) < FEWEST:
                break
            right, wrong = (mass.sum() / ends[-1] * log_concave_fit(mass) for mass in masses)
            if counts @ _log(right + wrong) - one > enough:
                return True
            upper = wrong / np.maximum(right + wrong, np.finfo(np.float64).tiny)
    return False


def _log(probabilities: FloatArray) -> FloatArray:
    return np.asarray(np.log(np.maximum(probabilities, np.finfo(np.float64).tiny)))
