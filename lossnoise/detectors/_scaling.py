"""Maps from losses to the normalised scale (0, 1) on which the mixtures live."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

EDGE = 1e-4  # normalised losses stay this far inside (0, 1): densities may be infinite there
TEMPERATURE = 2.0


class Scaling(Protocol):
    """An increasing map from losses to (0, 1)."""

    def normalise(self, losses: FloatArray) -> FloatArray:
        """Return normalised losses, at least `EDGE` from 0 and from 1."""

    def losses_at(self, values: FloatArray) -> FloatArray:
        """Return the losses whose normalised values are `values`."""

    def log_slope(self, values: FloatArray) -> FloatArray:
        """Return the log of d(normalised value) / d(loss) at normalised values."""


class CrossEntropyScaling(NamedTuple):
    """1 - exp(-loss / T), that is 1 - p^(1 / T) with p the probability of the given label.

    An absolute scale: nothing is estimated, so that losses which are all tiny stay tiny. T = 1
    squeezes confident mistakes together at 1, a large T squeezes good predictions together at 0.
    """

    temperature: float = TEMPERATURE

    def normalise(self, losses: FloatArray) -> FloatArray:
        """Return normalised losses, at least `EDGE` from 0 and from 1."""
        return np.clip(-np.expm1(-losses / self.temperature), EDGE, 1.0 - EDGE)

    def losses_at(self, values: FloatArray) -> FloatArray:
        """Return the losses whose normalised values are `values`."""
        losses: FloatArray = -self.temperature * np.log1p(-values)
        return losses

    def log_slope(self, values: FloatArray) -> FloatArray:
        """Return the log of d(normalised value) / d(loss) at normalised values."""
        slope: FloatArray = np.log1p(-values) - np.log(self.temperature)
        return slope


class PercentileScaling(NamedTuple):
    """(loss - low) / (high - low), where `low` and `high` are percentiles of the losses."""

    low: float
    high: float

    @classmethod
    def fit(cls, losses: FloatArray, wanted: FloatArray) -> PercentileScaling:
        """Return the scaling from the `wanted` (low, high), for losses that are not all equal."""
        low, high = wanted
        if not high > low:  # most losses are one value: the percentiles say nothing, the ends may
            low, high = losses.min(), losses.max()
        return cls(float(low), float(high))

    def normalise(self, losses: FloatArray) -> FloatArray:
        """Return normalised losses, at least `EDGE` from 0 and from 1."""
        return np.clip((losses - self.low) / (self.high - self.low), EDGE, 1.0 - EDGE)

    def losses_at(self, values: FloatArray) -> FloatArray:
        """Return the losses whose normalised values are `values`."""
        return self.low + (self.high - self.low) * values

    def log_slope(self, values: FloatArray) -> FloatArray:
        """Return the log of d(normalised value) / d(loss) at normalised values."""
        return np.full_like(values, -np.log(self.high - self.low))
