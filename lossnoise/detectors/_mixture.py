"""EM for two components on a grid, with a background of hard examples.

Pure functions. A family of distributions (``_beta.py``, ``_gaussian.py``) adds the densities and
the M-step.
"""

from __future__ import annotations

import math
from typing import NamedTuple, Protocol

import numpy as np
from scipy.special import expit

from lossnoise.detectors._scaling import EDGE, TINY, FloatArray

START_RANGE = (0.01, 0.999)  # quantiles between which the first guess rises from 0 to 1
START_GAIN = 5.0  # in log-likelihood: another start than the first has to earn its place
WINDOW = 0.1  # of the normalised scale
WEIGHT_STEPS = 20
DEAD = 1e-9  # a component of less weight holds nothing, and EM ends


class Mixture(NamedTuple):
    """Two weighted components: ``weights`` (2,), which sum to 1, and ``params``, a row each.

    ``hard_fraction`` of all samples are neither: right labels of hard examples, whose losses are
    taken to be spread evenly over the normalised scale.
    """

    weights: FloatArray
    params: FloatArray
    hard_fraction: float = 0.0


class EMResult(NamedTuple):
    """What EM ended with; `log_likelihood` is the weighted mean of the log-density."""

    mixture: Mixture
    log_likelihood: float
    n_iter: int
    converged: bool


class Family(Protocol):
    """Two components of one family of distributions: all that a fit must know about them."""

    temperature: float  # of `CrossEntropyScaling`: the scale on which the family fits best

    def features(self, values: FloatArray) -> FloatArray:
        """Return what `log_density` needs to know of normalised losses, computed once."""

    def log_density(self, features: FloatArray, params: FloatArray) -> FloatArray:
        """Return the log-densities ``(2, n)`` of the components at losses of these features."""

    def m_step(self, values: FloatArray, mass: FloatArray, params: FloatArray) -> FloatArray:
        """Return new parameters from the responsibilities ``mass`` ``(2, n)``."""

    def means(self, params: FloatArray) -> FloatArray:
        """Return the mean ``(2,)`` of each component."""

    def inside(self, params: FloatArray) -> FloatArray:
        """Return which share ``(2,)`` of each component lies on the normalised scale, in [0, 1]."""

    def rising_range(self, params: FloatArray) -> tuple[float, float]:
        """Return the stretch of normalised losses where the log-odds of "wrong" rise."""


def fit_mixture(
    values: FloatArray,
    counts: FloatArray,
    family: Family,
    *,
    hard_fraction: float,
    max_iter: int,
    tol: float,
    start_powers: tuple[float, ...],
) -> EMResult:
    """Fit a mixture to ascending `values`, each of which stands for `counts` samples.

    EM starts from a guess of P(wrong): the place of a loss between the lowest and the highest
    percent, to each of some powers. A later result is taken where its log-likelihood is clearly
    higher.
    """
    low, high = _start_range(values, counts)
    hard_fraction = min(hard_fraction, lowest_density(values, counts, low, high))
    held = counts > 0.0  # other values weigh nothing, and would take as long
    values, counts, best = values[held], counts[held], None
    guess = first_guess(values, low, high)
    for power in start_powers:
        result = expectation_maximization(
            values,
            counts,
            guess**power,
            family,
            hard_fraction=hard_fraction,
            max_iter=max_iter,
            tol=tol,
        )
        gain = START_GAIN / counts.sum()
        if best is None or result.log_likelihood > best.log_likelihood + gain:
            best = result
    assert best is not None  # there is a power
    return best


def _start_range(values: FloatArray, counts: FloatArray) -> tuple[float, float]:
    ends = np.cumsum(counts)
    low, high = values[np.searchsorted(ends, np.multiply(START_RANGE, ends[-1]))]
    return float(low), float(high)


def first_guess(values: FloatArray, low: float, high: float) -> FloatArray:
    """Return where each value lies between two bounds, from 0 to 1.

    Relative to the data, and not to the scale: early in training all losses are high, and late in
    training all may be low.
    """
    if not high > low:
        return values
    place: FloatArray = np.clip((values - low) / (high - low), 0.0, 1.0)
    return place


def lowest_density(values: FloatArray, counts: FloatArray, low: float, high: float) -> float:
    """Return the lowest density of the samples in a tenth of the scale between two bounds.

    A background that is the same everywhere cannot be denser than that: where right and wrong
    labels lie far apart, there are no hard examples between them.
    """
    starts = values[(values >= low) & (values <= high - WINDOW)]
    ends = np.append(0.0, np.cumsum(counts))
    inside = (
        ends[np.searchsorted(values, starts + WINDOW, side="right")]
        - ends[np.searchsorted(values, starts)]
    )
    return float(inside.min(initial=np.inf) / (WINDOW * ends[-1]))


def expectation_maximization(
    values: FloatArray,
    counts: FloatArray,
    guess: FloatArray,
    family: Family,
    *,
    hard_fraction: float,
    max_iter: int,
    tol: float,
) -> EMResult:
    """Fit a mixture by EM, from a first `guess` of P(wrong) at each value.

    Responsibilities are monotone in the loss, as the predictions are. Stops when the mean
    log-likelihood moves by less than `tol`, or after `max_iter` iterations; both are regular
    ends, because the M-step need not maximise the likelihood.
    """
    share, features = counts / counts.sum(), family.features(values)
    mixture = Mixture(np.full(2, 0.5), np.ones((2, 2)), hard_fraction)
    mixture = _m_step(values, share * guess, share, mixture, family)
    expected = _e_step(values, features, mixture, family)
    log_likelihood, converged, n_iter = float(share @ expected.log_density), False, 0
    while n_iter < max_iter and not converged and mixture.weights.min() > DEAD:
        soft = share * expected.soft
        mixture = _m_step(values, soft * expected.upper, soft, mixture, family)
        expected = _e_step(values, features, mixture, family)
        previous, log_likelihood = log_likelihood, float(share @ expected.log_density)
        converged = abs(log_likelihood - previous) < tol
        n_iter += 1
    return EMResult(mixture, log_likelihood, n_iter, converged)


class Expected(NamedTuple):
    """What an E-step finds at each value, (n,) each.

    P(second component | no hard example), P(no hard example), and the log of the whole density.
    The first never falls, but where the second is 0.
    """

    upper: FloatArray
    soft: FloatArray
    log_density: FloatArray


def _e_step(values: FloatArray, features: FloatArray, mixture: Mixture, family: Family) -> Expected:
    """Return the responsibilities at ascending values."""
    components = _log_components(features, mixture, family)
    background = _log_background(mixture)
    highest = np.maximum(np.maximum(*components), background)
    densities = np.exp(components - highest)  # over the highest of the three
    two = densities[0] + densities[1]
    total = two + np.exp(background - highest)
    if _turns(values, mixture, family):
        upper = two_component_proba(values, components, mixture, family)
    else:  # where only the background has a density, there is nothing to divide
        upper = densities[1] / np.maximum(two, TINY)
    return Expected(upper, two / total, highest + np.log(total))


def _m_step(
    values: FloatArray, upper: FloatArray, soft: FloatArray, mixture: Mixture, family: Family
) -> Mixture:
    """Return the mixture of two masses at each value: that of the second component, and of both."""
    mass = np.array([soft - upper, upper])
    total = mass.sum(axis=1)
    params = family.m_step(values, mass, mixture.params)
    return Mixture(total / total.sum(), params, mixture.hard_fraction)


def fit_weights(
    values: FloatArray, counts: FloatArray, mixture: Mixture, family: Family, *, prior: float
) -> EMResult:
    """Fit the weights of a mixture whose components stay as they are.

    `prior` samples are added that are divided as the mixture was.
    """
    share, before = counts / counts.sum(), prior * mixture.weights
    for _ in range(WEIGHT_STEPS):
        joint = log_joint(values, mixture, family)
        upper = two_component_proba(values, joint.components, mixture, family)
        soft = counts * -np.expm1(joint.hard - joint.total)
        mass = np.array([soft @ (1.0 - upper), soft @ upper]) + before
        mixture = mixture._replace(weights=mass / mass.sum())
    log_likelihood = float(share @ log_joint(values, mixture, family).total)
    return EMResult(mixture, log_likelihood, WEIGHT_STEPS, True)


class LogJoint(NamedTuple):
    """Logs of the weighted densities: of both components (2, n), of the background, of the sum."""

    components: FloatArray
    hard: float
    total: FloatArray


def log_joint(values: FloatArray, mixture: Mixture, family: Family) -> LogJoint:
    """Return the logs of the weighted densities at normalised losses inside (0, 1)."""
    components = _log_components(family.features(values), mixture, family)
    hard = _log_background(mixture)
    return LogJoint(components, hard, log_add(log_add(*components), hard))


def _log_components(features: FloatArray, mixture: Mixture, family: Family) -> FloatArray:
    """Return the logs of the weighted densities of both components, shape (2, n)."""
    with np.errstate(divide="ignore"):  # a weight of 0 is log-weight -inf, which is right
        log_weights = np.log(mixture.weights) + np.log1p(-mixture.hard_fraction)
    components = family.log_density(features, mixture.params)
    components += log_weights[:, None]
    return components


def _log_background(mixture: Mixture) -> float:
    """Return the log of the density of hard examples; -inf where there are none."""
    return math.log(mixture.hard_fraction) if mixture.hard_fraction > 0.0 else -math.inf


def log_add(first: FloatArray, second: FloatArray | float) -> FloatArray:
    """Return log(exp(first) + exp(second)), where at most one of the two is -inf.

    What `np.logaddexp` returns, in a fraction of its time.
    """
    high = np.maximum(first, second)
    total: FloatArray = high + np.log1p(np.exp(np.minimum(first, second) - high))
    return total


def two_component_proba(
    values: FloatArray, components: FloatArray, mixture: Mixture, family: Family
) -> FloatArray:
    """Return the posterior of the second component against the first one.

    At ascending values, of which `components` are the logs of the weighted densities. Flat beyond
    the turn of its log-odds, where it would fall although the loss rises.
    """
    if _turns(values, mixture, family):
        low, high = family.rising_range(mixture.params)
        rising = np.clip(values, min(low, 1.0 - EDGE), max(high, EDGE))
        components = _log_components(family.features(rising), mixture, family)
    posterior: FloatArray = expit(components[1] - components[0])
    return posterior


def _turns(values: FloatArray, mixture: Mixture, family: Family) -> bool:
    """Tell whether the log-odds of the second component fall somewhere among ascending values."""
    low, high = family.rising_range(mixture.params)
    return bool(low > values[0] or high < values[-1])


def wrong_proba(values: FloatArray, mixture: Mixture, family: Family) -> FloatArray:
    """Return P(wrong) at ascending normalised losses: never falling.

    It is the posterior of the second component times the probability that the sample is no hard
    example. The background may win again at the highest losses, where P(wrong) then stays at its
    maximum. (A running maximum is safe here: what it carries on is at most the two-component
    posterior, which rises by itself. On a posterior that does not, it carries a spurious value
    at the cleanest losses over all the others.)
    """
    joint = log_joint(values, mixture, family)
    upper = two_component_proba(values, joint.components, mixture, family)
    proba: FloatArray = np.maximum.accumulate(upper * -np.expm1(joint.hard - joint.total))
    return proba
