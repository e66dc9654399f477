"""Do losses show two populations, or may they be one? A test on their shape.

One population: the logarithm of the loss has a log-concave density. So have gamma, exponential,
Weibull, lognormal, log-logistic, half-normal, uniform and Pareto losses, whatever their scale. A
second heap, or a shoulder, further up has not. The test asks how much more likely two log-concave
densities make the losses than one. (Walther, "Detecting the presence of mixing with multiscale
maximum likelihood", JASA 97, 2002, uses the same null hypothesis. One component of the mixture's
own family would ask another question: "is it a beta?")

The same gain, of the division that a mixture makes, says whether it found those two. Where its
components have not the shape of the losses, it may have divided the right ones instead.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator
from scipy.special import expit

from lossnoise.detectors._log_concave import EXACT, FINE, ROUGH, LogConcaveFit, log_concave_fit
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

# A mixture has found the two populations where its division gains half of what is evidence, and
# half of what dividing the highest losses from all others gains. One that divides right losses for
# their shape, beside few wrong ones far above, gains less. (Other divisions may gain far more than
# that of wrong labels: right ones of easy and of hard classes are heaps too.)
FOUND = 0.5
HIGHEST = 0.95  # quantile


class Shape(NamedTuple):
    """How many losses lie in each of `N_CELLS` cells, which are equal in the logarithm.

    Attributes
    ----------
    counts : ndarray of shape (N_CELLS,), float64
        Samples in each cell.
    losses : ndarray of shape (N_CELLS,), float64
        The loss of the samples in each cell, on average.
    are_votes : bool
        Whether losses take few values many times: the steps of a staircase have a shape too.
    alone : float
        The log-likelihood of one log-concave distribution.
    enough : float
        The gain over it that is evidence of two.
    """

    counts: FloatArray
    losses: FloatArray
    are_votes: bool
    alone: float
    enough: float

    def gain(self, upper: FloatArray, gradient: float = FINE) -> float:
        """Return what two distributions gain, with P(second) in each cell."""
        return _divide(self.counts, upper, (None, None), gradient).log_likelihood - self.alone

    def is_shown_by(self, upper: FloatArray) -> bool:
        """Tell whether a division shows two populations."""
        return self._gains(upper, FOUND * self.enough)

    def is_best_shown_by(self, upper: FloatArray) -> bool:
        """Tell whether it does, and dividing the highest losses from all others hardly more."""
        if self.are_votes:
            return self.is_shown_by(upper)
        shares = self.counts / self.counts.sum()
        most = _log_likelihood(self.counts, shares) - self.alone  # that any division may gain
        if self._gains(upper, FOUND * max(self.enough, most)):
            return True
        highest = self.gain(_division(self.counts, HIGHEST))
        return self._gains(upper, FOUND * max(self.enough, highest))

    def _gains(self, upper: FloatArray, wanted: float) -> bool:
        if self.counts @ (1.0 - upper) < FEWEST:  # the right ones are too low to have a shape
            return True
        return any(self.gain(upper, gradient) >= wanted for gradient in (ROUGH, FINE))


class Separability(NamedTuple):
    """The outcome of the test.

    Attributes
    ----------
    separable : bool
        Whether the losses show two populations.
    limit : float
        About the least share of the samples, far above the others, that would have been noticed.
    shape : Shape or None
        What was looked at; None where the losses are too small or too equal to have a shape.
    """

    separable: bool
    limit: float
    shape: Shape | None


def measure_separability(sample: LossSample, origin: float, unit: float) -> Separability:
    """Test whether losses show two populations.

    Parameters
    ----------
    sample : LossSample
        The losses.
    origin, unit : float
        Where the scale of the losses begins, and what one nat of cross-entropy is on it.
    """
    distances, weights, raised_from = _upper_part(sample, origin, unit)
    if not len(distances) or distances[-1] - distances[0] < SMALL_LOSS:
        return Separability(False, 1.0, None)
    limit = max(NOTICED / np.sqrt(sample.size), NOTICED_PER_LOSS)
    enough = max(ENOUGH, ENOUGH_PER_LOSS * float(weights.sum()))
    counts, centres = _count(distances, weights, raised_from)
    alone = _log_likelihood(counts, log_concave_fit(counts).probabilities)
    are_votes = _are_votes(distances, weights)
    shape = Shape(counts, origin + unit * centres, are_votes, alone, enough)
    return Separability(shows_two(shape), float(limit), shape)


def _upper_part(
    sample: LossSample, origin: float, unit: float
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the losses whose shape counts, as ascending distances from the origin.

    And weights, and the distances before some were raised that are too low to differ.
    """
    distances = raised_from = (sample.values - origin) / unit
    low, middle = (sample.percentiles([100.0 * LOWEST, 50.0]) - origin) / unit
    ends = np.cumsum(sample.weights)
    first = np.searchsorted(distances, max(min(max(low, SMALL_LOSS), middle), SMALLEST_LOSS))
    last = np.searchsorted(ends, ends[-1] - FEWEST, side="right")  # outliers are no population
    if first <= last and low < SMALL_LOSS:
        # Hardly any lie between losses too small to count and the others: that may be a gap.
        agreed = distances[first - 1] == distances[0]
        below, above = SMALL_LOSS, NO_RIGHT if agreed else FAR_ABOVE
        rest = distances[first:], sample.weights[first:]
        if middle < SMALLEST_LOSS and not (agreed and _are_votes(*rest)):
            below, above = SMALLEST_LOSS, SMALL_LOSS
        sunk = ends[first - 1] if first else 0.0
        beyond = np.searchsorted(ends, sunk + FEWEST, side="right")
        if distances[min(beyond, last)] > above:
            distances, first = np.maximum(distances, below), 0
    last = np.searchsorted(distances, distances[last], side="right")
    return distances[first:last], sample.weights[first:last], raised_from[first:last]


def _are_votes(distances: FloatArray, weights: FloatArray) -> bool:
    """Tell whether ascending losses take few values, but more than one, many times."""
    values = 1 + np.count_nonzero(np.diff(distances))
    return bool(values <= MOST_VOTES and 2.0 * values < weights[1:].sum())


def _count(
    distances: FloatArray, weights: FloatArray, raised_from: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return how many samples lie in each of `N_CELLS` cells, and the distance that they had.

    A value that stands for several samples, as a bin or the share of a forest's votes does, is
    spread up to half way to its neighbours: a heap on one point would be a population of its own,
    and so would each step of a staircase.
    """
    if len(distances) == weights.sum() and np.mean(np.diff(distances) == 0.0) < FEW_TIES:
        edges = np.geomspace(distances[0], distances[-1], N_CELLS + 1)
        places = np.searchsorted(distances, edges[1:-1])
        held = np.diff(places, prepend=0, append=len(distances)).astype(np.float64)
        return held, _means(places, raised_from, weights, np.sqrt(edges[1:]) * np.sqrt(edges[:-1]))
    first = np.flatnonzero(np.diff(distances, prepend=-np.inf) > 0.0)
    sums = np.add.reduceat(raised_from * weights, first)
    values, weights = np.log(distances[first]), np.add.reduceat(weights, first)
    gaps = np.minimum(np.diff(values), WIDEST) / 2.0
    lower = values - np.append(gaps[0], gaps)
    upper = values + np.append(gaps, gaps[-1])
    edges = np.linspace(lower[0], upper[-1], N_CELLS + 1)
    points = np.column_stack([lower, upper]).ravel()
    ends = np.column_stack([np.cumsum(weights) - weights, np.cumsum(weights)]).ravel()
    apart = np.flatnonzero(np.diff(points, prepend=-np.inf) > NO_GAP)
    held = np.diff(PchipInterpolator(points[apart], ends[apart])(edges))
    raised_from, places = sums / weights, np.searchsorted(values, edges[1:-1])
    spread_from = np.searchsorted(upper[:-1], (edges[1:] + edges[:-1]) / 2.0)
    return held, _means(places, raised_from, weights, raised_from[spread_from])


def _means(
    places: NDArray[np.intp], distances: FloatArray, weights: FloatArray, others: FloatArray
) -> FloatArray:
    """Return the mean distance in each cell, and another one for those that have none."""
    starts = np.append(0, places)
    is_held = np.diff(starts, append=len(distances)) > 0
    starts = np.minimum(starts, len(distances) - 1)
    means = np.add.reduceat(distances * weights, starts) / np.add.reduceat(weights, starts)
    return np.where(is_held, means, others)


def shows_two(shape: Shape) -> bool:
    """Tell whether two log-concave distributions gain enough log-likelihood over one.

    EM with log-concave fits, from several divisions of the cells. The first gain that is enough
    ends it: where populations lie apart, that of two rough fits, before EM begins.
    """
    divisions = [_division(shape.counts, quantile) for quantile in SPLITS]
    return any(_gains(shape, upper, 1, ROUGH) for upper in divisions) or any(
        _gains(shape, upper, STEPS, EXACT) for upper in divisions
    )


def _division(counts: FloatArray, quantile: float) -> FloatArray:
    """Return P(second) in each cell: soft around that of a quantile."""
    middle = np.searchsorted(np.cumsum(counts), quantile * counts.sum())
    return np.asarray(expit((np.arange(len(counts)) - middle).astype(np.float64)))


def _gains(shape: Shape, upper: FloatArray, steps: int, gradient: float) -> bool:
    """Tell whether EM from a division comes to a gain that is enough."""
    fits: Pair = (None, None)
    for _ in range(steps):
        divided = _divide(shape.counts, upper, fits, gradient)
        if divided.log_likelihood > shape.alone + shape.enough:
            return True
        upper, fits = divided.upper, divided.fits
    return False


Pair = tuple[LogConcaveFit | None, LogConcaveFit | None]


class Divided(NamedTuple):
    """Cells divided between two log-concave distributions.

    Their log-likelihood, -inf where one holds less than `FEWEST` samples; P(second) in each cell;
    and the fits.
    """

    log_likelihood: float
    upper: FloatArray
    fits: Pair


def _divide(counts: FloatArray, upper: FloatArray, before: Pair, gradient: float) -> Divided:
    masses = counts * (1.0 - upper), counts * upper
    if min(mass.sum() for mass in masses) < FEWEST:
        return Divided(-np.inf, upper, before)
    fits = [
        log_concave_fit(mass, start, gradient=gradient)
        for mass, start in zip(masses, before, strict=True)
    ]
    right, wrong = (
        mass.sum() / counts.sum() * fit.probabilities
        for mass, fit in zip(masses, fits, strict=True)
    )
    both = right + wrong
    return Divided(
        _log_likelihood(counts, both), wrong / np.maximum(both, TINY), (fits[0], fits[1])
    )


def _log_likelihood(counts: FloatArray, probabilities: FloatArray) -> float:
    return float(counts @ np.log(np.maximum(probabilities, TINY)))
