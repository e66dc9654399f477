"""How far the share of wrong labels may be from its estimate."""

from __future__ import annotations

import numpy as np

from lossnoise.detectors._fit import Curve, SampleFit, fit_grid, resample
from lossnoise.detectors._grid import nodes
from lossnoise.detectors._mixture import Family, wrong_proba
from lossnoise.detectors._scaling import FloatArray
from lossnoise.detectors._settings import FitSettings

BOOTSTRAP_SAMPLES = 50
TWO_SIDED_90 = 1.6449  # of a normal distribution
HARD_FRACTIONS = (0.0, 2.0)  # times the one in use: how many right labels are hard is not known


def rate_interval(fit: SampleFit, family: Family, settings: FitSettings) -> tuple[float, float]:
    """Return a 90 % interval for the share of wrong labels.

    It spans the rates that other shares of hard examples give, and 1.64 bootstrap standard errors
    beyond. Where the losses do not show two populations, it begins at the lower bound, and its end
    is at least what would have been noticed.
    """
    variants = [
        _rate(fit.mixture_curve.grid, family, settings._replace(hard_fraction=hard))
        for hard in (factor * settings.hard_fraction for factor in HARD_FRACTIONS)
    ]
    variants.append(fit.mixture_curve.rate)
    margin = TWO_SIDED_90 * _standard_error(fit.mixture_curve.grid, family, settings)
    low, high = min(variants) - margin, max(variants) + margin
    if not fit.separability.separable:
        low = min(low, fit.curve.rate)
        high = max(high, fit.curve.rate + fit.separability.limit)
    return max(0.0, low), min(1.0, high)


def _standard_error(grid: FloatArray, family: Family, settings: FitSettings) -> float:
    rng = np.random.default_rng(0)  # the same interval every time
    rates = [_rate(resample(grid, rng), family, settings) for _ in range(BOOTSTRAP_SAMPLES)]
    return float(np.std(rates, ddof=1))


def _rate(grid: FloatArray, family: Family, settings: FitSettings) -> float:
    result = fit_grid(grid, family, settings)
    return Curve(grid, wrong_proba(nodes(settings.n_bins), result.mixture, family)).rate
