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
from scipy.interpolate import PchipInterpolator
from scipy.special import expit

from lossnoise.detectors._log_concave import LogConcaveFit, log_concave_fit
from lossnoise.detectors._sample import LossSample
from lossnoise.detectors._scaling import TINY, FloatArray

N_CELLS = 48
LOWEST = 0.05  # quantile below which the shape does not count: there are right labels only

# Losses below it are right labels, and it does not matter how they are spread: -log(0.999). Where
# most losses are lower, the upper half of them is looked at, down to the resolution of float32.
SMALL_LOSS = 1e-3
SMALLEST_LOSS = 1e-6

# What lies far above small losses, with none in between, is another heap; but where those are all
# one value, as where some trees or neighbours agree, one vote less may be far above too.
FAR_ABOVE, NO_RIGHT = 1e-2, 1.0
MOST_VOTES = 256  # values that votes take; a histogram has as many bins from 1 to 7

FEW_TIES = 0.05  # share of losses that are equal to another one
WIDEST = 1.0  # gap in the logarithm that is taken for coarse values, and not for a gap
NO_GAP = 1e-12

SPLITS = (0.5, 0.8, 0.95)  # quantiles at which a division of the losses begins
STEPS = 3  # of EM from there
FEWEST = 3.0  # samples in a population: the two highest losses of all do not count

# Gains in log-likelihood above it are evidence. Of 500 samples of one population (Weibull,
# half-normal, power, Pareto, log-logistic, inverse gamma; 200 to 5,000 losses) 99 % gained less
# than 8.5, whatever their size. No real losses are log-concave to the last digit, so that large
# samples have to gain something for every loss.
ENOUGH, ENOUGH_PER_LOSS = 12.0, 1e-3
NOTICED, NOTICED_PER_LOSS = 1.0, 5e-3  # shares far above the others that gain about so much


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
    if not len(distances) or distances[-1] - distances[0] < SMALL_LOSS:
        return Separability(False, 1.0)
    enough = max(ENOUGH, ENOUGH_PER_LOSS * float(weights.sum()))
    limit = max(NOTICED / np.sqrt(sample.size), NOTICED_PER_LOSS)
    return Separability(gains_more(_count(distances, weights), enough), float(limit))


def _upper_part(sample: LossSample, origin: float, unit: float) -> tuple[FloatArray, FloatArray]:
    """Return the losses whose shape counts, as ascending distances from the origin."""
    distances = (sample.values - origin) / unit
    low, middle = (sample.percentiles([100.0 * LOWEST, 50.0]) - origin) / unit
    ends = np.cumsum(sample.weights)
    first = np.searchsorted(distances, max(min(max(low, SMALL_LOSS), middle), SMALLEST_LOSS))
    last = np.searchsorted(ends, ends[-1] - FEWEST, side="right")  # outliers are no population
    if first <= last and low < SMALL_LOSS:
        # Nothing lies between losses too small to count and the others: that may be a gap.
        agreed = distances[first - 1] == distances[0]
        below, above = SMALL_LOSS, NO_RIGHT if agreed else FAR_ABOVE
        if middle < SMALLEST_LOSS and not (agreed and _are_votes(distances[first:], ends[first:])):
            below, above = SMALLEST_LOSS, SMALL_LOSS
        if distances[first] > above:
            distances, first = np.maximum(distances, below), 0
    last = np.searchsorted(distances, distances[last], side="right")
    return distances[first:last], sample.weights[first:last]


def _are_votes(distances: FloatArray, ends: FloatArray) -> bool:
    """Tell whether ascending losses, counted up to each of them, take few values many times."""
    values = 1 + np.count_nonzero(np.diff(distances))
    return bool(values <= MOST_VOTES and 2.0 * values < ends[-1] - ends[0])


def _count(distances: FloatArray, weights: FloatArray) -> FloatArray:
    """Return how many samples lie in each of `N_CELLS` cells, equal in the logarithm.

    A value that stands for several samples, as a bin or the share of a forest's votes does, is
    spread up to half way to its neighbours: a heap on one point would be a population of its own,
    and so would each step of a staircase.
    """
    if len(distances) == weights.sum() and np.mean(np.diff(distances) == 0.0) < FEW_TIES:
        edges = np.geomspace(distances[0], distances[-1], N_CELLS + 1)[1:-1]
        places = np.searchsorted(distances, edges)
        return np.diff(places, prepend=0, append=len(distances)).astype(np.float64)
    first = np.flatnonzero(np.diff(distances, prepend=-np.inf) > 0.0)
    values, weights = np.log(distances[first]), np.add.reduceat(weights, first)
    gaps = np.minimum(np.diff(values), WIDEST) / 2.0
    lower = values - np.append(gaps[0], gaps)
    upper = values + np.append(gaps, gaps[-1])
    edges = np.linspace(lower[0], upper[-1], N_CELLS + 1)
    points = np.column_stack([lower, upper]).ravel()
    ends = np.column_stack([np.cumsum(weights) - weights, np.cumsum(weights)]).ravel()
    apart = np.flatnonzero(np.diff(points, prepend=-np.inf) > NO_GAP)
    return np.diff(PchipInterpolator(points[apart], ends[apart])(edges))


def gains_more(counts: FloatArray, enough: float) -> bool:
    """Tell whether two log-concave distributions gain more log-likelihood than `enough` over one.

    EM with log-concave fits, from several divisions of the cells. The first gain that is enough
    ends it: where populations lie apart, that of two rough fits, before EM begins.
    """
    wanted = enough + float(counts @ _log(log_concave_fit(counts).probabilities))
    ends, cells = np.cumsum(counts), np.arange(len(counts))
    middles = [np.searchsorted(ends, split * ends[-1]) for split in SPLITS]
    divisions = [expit((cells - middle).astype(np.float64)) for middle in middles]
    return any(_is_above(wanted, counts, upper, 1, rough=True) for upper in divisions) or any(
        _is_above(wanted, counts, upper, STEPS, rough=False) for upper in divisions
    )


def _is_above(
    wanted: float, counts: FloatArray, upper: FloatArray, steps: int, *, rough: bool
) -> bool:
    """Tell whether EM from a division comes to more log-likelihood than wanted."""
    previous: list[LogConcaveFit | None] = [None, None]
    for _ in range(steps):
        masses = counts * (1.0 - upper), counts * upper
        if min(mass.sum() for mass in masses) < FEWEST:
            return False
        fits = [
            log_concave_fit(mass, start, rough=rough)
            for mass, start in zip(masses, previous, strict=True)
        ]
        right, wrong = (
            mass.sum() / counts.sum() * fit.probabilities
            for mass, fit in zip(masses, fits, strict=True)
        )
        if counts @ _log(right + wrong) > wanted:
            return True
        previous = [*fits]
        upper = wrong / np.maximum(right + wrong, TINY)
    return False


def _log(probabilities: FloatArray) -> FloatArray:
    return np.asarray(np.log(np.maximum(probabilities, TINY)))
