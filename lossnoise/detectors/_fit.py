"""From a sample of losses to a curve of P(wrong): the whole fit as pure functions."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lossnoise.detectors._grid import nodes
from lossnoise.detectors._mixture import (
    EMResult,
    Family,
    Mixture,
    fit_mixture,
    log_joint,
    wrong_proba,
)
from lossnoise.detectors._sample import LossSample
from lossnoise.detectors._scaling import (
    EDGE,
    CrossEntropyScaling,
    FloatArray,
    PercentileScaling,
    Scaling,
)
from lossnoise.detectors._separability import FEWEST, Separability, Shape, measure_separability
from lossnoise.detectors._settings import FitSettings

FIRST_CHOICE = math.log(2.0)  # cross-entropy below which no other label can be more probable

# Losses that somebody normalised, so that they are no cross-entropies any more, have their highest
# one here, but for rounding; and hardly any above, which then are outliers.
NORMALISED, NEARLY_NORMALISED = 1.0, 1.0 - 1e-6

# Where EM starts again when the mixture has not found the two populations that the losses show.
OTHER_POWERS = (3.0, 8.0)

NO_PROOF = (
    "which is no proof that the labels are right. noise_rate_ is a lower bound, and "
    "noise_rate_interval_ says what would have gone unnoticed."
)

# Why losses may not tell right labels from wrong ones, and what is said of it.
ONE_POPULATION, AGREED, OTHER_SHAPES = "one_population", "agreed", "other_shapes"
CANNOT_TELL = {
    ONE_POPULATION: (
        f"Cannot tell right from wrong labels from these losses: they look like one population, "
        f"{NO_PROOF} Losses from held-out predictions, from the middle of training, or averaged "
        "over epochs tell more."
    ),
    AGREED: (
        f"Cannot tell right from wrong labels from these losses: most of those that lie higher are "
        f"below log 2, of labels that the model itself would give, {NO_PROOF} A model that is "
        "surer of right labels tells more. Of losses that are no cross-entropy, such as those that "
        "somebody normalised, use a detector with loss_scale='any' (--loss-scale any on the "
        "command line)."
    ),
    OTHER_SHAPES: (
        f"Cannot tell right from wrong labels from these losses: they look like two populations, "
        f"but not the two that the mixture found, {NO_PROOF} Draw them with LossMixtureDisplay. "
        "Of BetaMixtureNoiseDetector and GaussianMixtureNoiseDetector the other one may suit them "
        "better."
    ),
}


class Curve(NamedTuple):
    """P(wrong) at the nodes of a grid, for samples whose losses were counted on it.

    Attributes
    ----------
    grid : ndarray of shape (n_bins + 1,), float64
        Samples that each node stands for.
    proba : ndarray of shape (n_bins + 1,), float64
        P(wrong) at each node, never falling.
    """

    grid: FloatArray
    proba: FloatArray

    @property
    def rate(self) -> float:
        """Return the mean of P(wrong) over the samples."""
        return float(self.grid @ self.proba / self.grid.sum())


class Part(NamedTuple):
    """Samples that share a curve: their losses, ascending, with weights.

    ``lows`` are the lower ends of bins, where losses stand for them.
    """

    losses: FloatArray
    weights: FloatArray
    lows: FloatArray
    curve: Curve


class SampleFit(NamedTuple):
    """All that is known about one sample of losses.

    ``probabilities`` says whether the losses are taken for logarithms of probabilities, and
    ``mixture_curve`` is the plain posterior of the mixture. ``curve`` is what is reported: the
    same, at most 1/2 for labels that the model itself would give; or 0 where the losses do not
    tell, for the reason in `CANNOT_TELL` that ``doubt`` names.
    """

    settings: FitSettings
    scaling: Scaling
    probabilities: bool
    result: EMResult
    separability: Separability
    mixture_curve: Curve
    curve: Curve
    doubt: str


def fit_sample(sample: LossSample, family: Family, settings: FitSettings) -> SampleFit:
    """Fit a mixture to a sample, and ask whether it shows two populations at all."""
    scaling = scaling_of(sample, settings, family.temperature)
    separability = separability_of(sample, settings)
    grid = sample.on_grid(scaling, settings.n_bins)
    shape = separability.shape if separability.separable else None
    settings, result, curve, found = _divide(grid, family, settings, scaling, shape)
    probabilities, doubt = are_probabilities(sample, settings), ""
    if shape is None:
        doubt = ONE_POPULATION
    elif not found:
        doubt = OTHER_SHAPES
    elif probabilities and not are_contradicted(curve, scaling):
        doubt = AGREED
    separability = separability._replace(separable=not doubt)
    told = Curve(grid, np.zeros_like(curve.proba))
    if not doubt:
        told = doubted_only(curve, scaling) if probabilities else curve
    return SampleFit(settings, scaling, probabilities, result, separability, curve, told, doubt)


class _Division(NamedTuple):
    """A mixture, its curve, the settings that lead to it, and whether it finds both populations."""

    settings: FitSettings
    result: EMResult
    curve: Curve
    found: bool = False


def _divide(
    grid: FloatArray, family: Family, settings: FitSettings, scaling: Scaling, shape: Shape | None
) -> _Division:
    """Fit a mixture; one that finds both populations, whose shape is given, if there is one.

    The usual one, unless it does not show two at all and one from another start does, by as much
    as is evidence. Of votes, whose shape says less, no other is tried.
    """

    def fitted(settings: FitSettings) -> _Division:
        result = fit_grid(grid, family, settings)
        return _Division(settings, result, _curve(grid, result.mixture, family))

    usual = fitted(settings)
    if shape is None:
        return usual
    upper = _upper(usual.curve, scaling, shape)
    if shape.is_best_shown_by(upper):
        return usual._replace(found=True)
    if shape.is_shown_by(upper) or shape.are_votes:
        return usual
    for power in OTHER_POWERS:
        other = fitted(settings.from_power(power))
        upper = _upper(other.curve, scaling, shape)
        if shape.gain(upper) >= shape.enough and shape.is_best_shown_by(upper):
            return other._replace(found=True)
    return usual


def finds_both(curve: Curve, scaling: Scaling, separability: Separability) -> bool:
    """Tell whether losses show two populations, and a curve divides them so."""
    shape = separability.shape if separability.separable else None
    return shape is not None and shape.is_best_shown_by(_upper(curve, scaling, shape))


def _upper(curve: Curve, scaling: Scaling, shape: Shape) -> FloatArray:
    """Return P(wrong) in each cell of a shape."""
    places = scaling.normalise(shape.losses)
    return np.asarray(np.interp(places, nodes(len(curve.proba) - 1), curve.proba))


def are_probabilities(sample: LossSample, settings: FitSettings) -> bool:
    """Tell whether losses are logarithms of probabilities: given as such, and not normalised."""
    if settings.loss_scale != "cross-entropy":
        return False
    high = int(np.searchsorted(sample.lows, NORMALISED, "right"))
    if sample.weights[high:].sum() > FEWEST:
        return True
    if len(sample.losses) == len(sample.lows):
        return bool(sample.lows[high - 1] <= NEARLY_NORMALISED)
    at_top = (sample.losses > NEARLY_NORMALISED) & (sample.losses <= NORMALISED)  # not their bins
    return not bool(at_top.any())


def are_contradicted(curve: Curve, scaling: Scaling) -> bool:
    """Tell whether the model would give most of the labels that look wrong another one.

    A label with more than half of the probability is the model's own first choice. Where most of
    what a mixture takes for wrong are such labels, its heaps are those of a model that is less sure
    of some right labels than of others: of those in one fold, for instance, or in one leaf.
    """
    wrong = curve.grid * curve.proba
    return bool(2.0 * wrong[_agreed(wrong, scaling)].sum() <= wrong.sum())


def doubted_only(curve: Curve, scaling: Scaling) -> Curve:
    """Return a curve that calls no label wrong to which the model gives more than an even chance.

    Such a label is the model's own first choice, whatever heap its loss is in.
    """
    agreed = _agreed(curve.grid, scaling)
    below = np.append(True, agreed[:-1])  # and the next node: between the two, losses are read
    return Curve(curve.grid, np.where(below, np.minimum(curve.proba, 0.5), curve.proba))


def share_doubted(grid: FloatArray, scaling: Scaling) -> float:
    """Return the share of labels to which the model gives less than an even chance."""
    return float(grid[~_agreed(grid, scaling)].sum() / grid.sum())


def _agreed(grid: FloatArray, scaling: Scaling) -> NDArray[np.bool_]:
    """Return at which nodes of a grid the label is the model's own first choice."""
    return np.asarray(scaling.losses_at(nodes(len(grid) - 1)) < FIRST_CHOICE)


def fit_grid(grid: FloatArray, family: Family, settings: FitSettings) -> EMResult:
    """Fit a mixture to samples counted on the grid."""
    return fit_mixture(
        nodes(len(grid) - 1),
        grid,
        family,
        hard_fraction=settings.hard_fraction,
        max_iter=settings.max_iter,
        tol=settings.tol,
        start_powers=settings.start_powers,
    )


def curve_of(grid: FloatArray, family: Family, settings: FitSettings) -> Curve:
    """Return the plain curve of samples counted on the grid."""
    return _curve(grid, fit_grid(grid, family, settings).mixture, family)


def _curve(grid: FloatArray, mixture: Mixture, family: Family) -> Curve:
    return Curve(grid, wrong_proba(nodes(len(grid) - 1), mixture, family))


def scaling_of(sample: LossSample, settings: FitSettings, temperature: float) -> Scaling:
    """Return the scale of the losses."""
    values = sample.values
    if settings.loss_scale == "cross-entropy":
        return CrossEntropyScaling.fit(temperature, values, sample.weights)
    if values[0] == values[-1]:  # there is no scale
        return PercentileScaling(values[0], values[0] + max(1.0, abs(values[0])))
    return PercentileScaling.fit(values, sample.percentiles(settings.percentiles))


def separability_of(sample: LossSample, settings: FitSettings) -> Separability:
    """Return whether the losses show two populations."""
    if settings.loss_scale == "cross-entropy":
        return measure_separability(sample, origin=0.0, unit=1.0)
    low, high = sample.percentiles(settings.percentiles)
    unit = high - low if high > low else 1.0
    return measure_separability(sample, origin=float(sample.values[0]), unit=float(unit))


def resample(grid: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Return the grid of a bootstrap sample of the same size."""
    size = round(grid.sum())
    drawn = rng.multinomial(size, grid / grid.sum())
    return drawn.astype(np.float64)


class LogDensities(NamedTuple):
    """Logs of the weighted densities at losses, per unit of loss: (n,) each.

    Hard examples are right labels.
    """

    right: FloatArray
    wrong: FloatArray
    both: FloatArray


def log_densities(losses: NDArray[Any], fit: SampleFit, family: Family) -> LogDensities:
    """Return the log-densities of a fitted mixture on the original scale of the losses.

    What a component has beyond the ends of the scale is of no loss: the rest is taken for all.
    """
    mixture = fit.result.mixture
    values = np.clip(fit.scaling.normalise(losses), EDGE, 1.0 - EDGE)
    joint = log_joint(values, mixture, family)
    inside = mixture.weights @ family.inside(mixture.params)
    inside = mixture.hard_fraction + (1.0 - mixture.hard_fraction) * inside
    slope = fit.scaling.log_slope(values) - math.log(inside)
    right = np.logaddexp(joint.components[0], joint.hard)
    return LogDensities(right + slope, joint.components[1] + slope, joint.total + slope)


def mean_log_density(parts: Collection[Part], fit: SampleFit, family: Family) -> float:
    """Return the mean log-density of the fitted losses."""
    total = sum(float(log_densities(p.losses, fit, family).both @ p.weights) for p in parts)
    return total / sum(float(part.weights.sum()) for part in parts)
