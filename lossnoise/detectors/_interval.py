"""How far the share of wrong labels may be from its estimate."""

from __future__ import annotations

import numpy as np

from lossnoise.detectors._fit import Curve, SampleFit, curve_of, finds_both, resample, share_doubted
from lossnoise.detectors._mixture import Family
from lossnoise.detectors._scaling import FloatArray
from lossnoise.detectors._settings import FitSettings

BOOTSTRAP_SAMPLES = 50
TWO_SIDED_90 = 1.6449  # of a normal distribution

# The shapes of the components are not known either. So much of the share that the mixture is not
# sure about, min(P, 1 - P), may belong to the other component.
UNSURE_SHARE = 0.1

# Where less than so much of the labels that the model doubts look wrong, right and wrong ones may
# lie so close together that only the worst stand out. One that doubts most labels is unsure of all,
# as among many classes, and nobody doubts its first choices.
FEW_OF_DOUBTED, MOST_DOUBTED = 0.15, 0.5


def rate_interval(fit: SampleFit, family: Family) -> tuple[float, float]:
    """Return a 90 % interval for the share of wrong labels.

    It spans the rates that no hard examples give and twice as many, or as many as usual where none
    are supposed: how many right labels are hard is not known. And a margin: 1.64 bootstrap
    standard errors, and a part of what the mixture is not sure about. Where few of the labels to
    which the model gives less than an even chance look wrong, it ends at their share or above.
    Where the losses do not show two populations, it begins at 0, and its end is at least what would
    have been noticed, and the share of such labels. Of losses that are no logarithms of
    probabilities it is not known which labels those are: anything may go unnoticed.
    """
    plain, settings = fit.mixture_curve, fit.settings
    others = (settings.without_hard(), settings.with_more_hard())
    curves = [curve_of(plain.grid, family, other) for other in others]
    if fit.separability.separable:  # some may divide other populations than those that were found
        curves = [curve for curve in curves if finds_both(curve, fit.scaling, fit.separability)]
    variants = [curve.rate for curve in (plain, *curves)]
    unsure = Curve(plain.grid, np.minimum(plain.proba, 1.0 - plain.proba)).rate
    margin = TWO_SIDED_90 * _standard_error(plain.grid, family, settings) + UNSURE_SHARE * unsure
    low, high = min(variants) - margin, max(variants) + margin
    doubted = share_doubted(plain.grid, fit.scaling) if fit.probabilities else 0.0
    if fit.separability.separable:
        rate = fit.curve.rate
        shift = rate - plain.rate  # of what is reported, against the mixture
        if rate < FEW_OF_DOUBTED * doubted and doubted < MOST_DOUBTED:
            high = max(high, doubted - shift)
        return float(max(0.0, low + shift)), float(min(1.0, high + shift))
    if not fit.probabilities:
        return 0.0, 1.0
    return 0.0, float(min(1.0, max(high, fit.separability.limit, doubted)))


def _standard_error(grid: FloatArray, family: Family, settings: FitSettings) -> float:
    rng = np.random.default_rng(0)  # the same interval every time
    rates = [curve_of(resample(grid, rng), family, settings).rate for _ in range(BOOTSTRAP_SAMPLES)]
    return float(np.std(rates, ddof=1))
