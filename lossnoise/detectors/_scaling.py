"""Maps from losses to the normalised scale [0, 1] on which the mixtures live."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

EDGE = 1e-4  # densities are evaluated this far inside (0, 1): they may be infinite at its ends

TINY = float(np.finfo(np.float64).tiny)  # the least mass that something can be divided by

# -log of float32's resolution. A softmax in float32 knows no smaller probability beside 1, and
# what is below it says nothing more: a certain mistake.
CEILING = 15.9

# To add and subtract it rounds a float32 up to the ceiling to a multiple of 2^-17. NumPy's float32
# `exp` is off by up to 2.5 units in the last place, and of neighbours it may give the higher one
# the lower power; of losses so far apart it does not.
STEADY = np.float32(96.0)

# A heap of one value at the very top stands for a probability of 0 that somebody clipped, and how
# far up it lies depends on who; where few losses lie far above all others, more than twice as high,
# a mixture would spend a component on them. Either counts as this many nats above what is below it.
FEW_ABOVE = 0.005  # share of the losses
TOP_GAP = 1.0


class Scaling(Protocol):
    """An increasing map from losses to [0, 1]."""

    def normalise(self, losses: NDArray[Any], out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Return normalised losses, in `out` if given; those beyond the scale lie on its ends."""

    def precision(self, losses: NDArray[Any]) -> type[np.floating[Any]]:
        """Return the least type of `out` in which nothing is lost that counts."""

    def losses_at(self, values: FloatArray) -> FloatArray:
        """Return the losses whose normalised values are `values`."""

    def log_slope(self, values: FloatArray) -> FloatArray:
        """Return the log of d(normalised value) / d(loss) at normalised values."""


class CrossEntropyScaling(NamedTuple):
    """1 - exp(-loss / T), that is 1 - p^(1 / T) with p the probability of the given label.

    An absolute scale: nothing is estimated, so that losses which are all tiny stay tiny. T = 1
    squeezes confident mistakes together at 1, a large T squeezes good predictions together at 0.
    """

    temperature: float
    ceiling: float = CEILING

    @classmethod
    def fit(
        cls, temperature: float, losses: FloatArray, weights: FloatArray
    ) -> CrossEntropyScaling:
        """Return the scaling whose ceiling suits the gaps at the top of ascending losses, if any.

        The lowest one below the last value, or below few losses that are twice as high.
        """
        heap = int(np.searchsorted(losses, losses[-1]))  # where the last value begins
        most = FEW_ABOVE * float(weights.sum())
        above = np.cumsum(weights[: -int(most) - 1 : -1])  # from the top; weights are 1 or more
        few = len(losses) - int(np.count_nonzero(above <= most))
        top = losses[max(min(heap, few) - 1, 0) : heap + 1]
        wide = np.maximum(TOP_GAP, top[:-1] if few <= heap else 0.0)
        below = top[:-1][np.diff(top) > wide]
        return cls(temperature, min([CEILING, *(below[:1] + TOP_GAP).tolist()]))

    def normalise(self, losses: NDArray[Any], out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Return normalised losses; those above the ceiling count as lying on it.

        Not by `expm1`, which costs twice as much as `exp` does on some processors: of tiny losses
        it knows more digits, which are lost on a scale of fixed cells.
        """
        wide = np.float64 if out is None else out.dtype
        capped = np.minimum(losses, self.ceiling, out=out, dtype=wide)
        if wide == np.float32:
            capped += STEADY
            capped -= STEADY
        powers = np.exp(np.divide(capped, -self.temperature, out=out), out=out)
        values: NDArray[Any] = np.subtract(1.0, powers, out=out)
        return values

    def precision(self, losses: NDArray[Any]) -> type[np.floating[Any]]:
        """Return float32 for losses that come in it: `exp` costs a third of what it does else."""
        return np.float64 if losses.dtype.itemsize > 4 else np.float32

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
    def fit(cls, losses: NDArray[Any], wanted: FloatArray) -> PercentileScaling:
        """Return the scaling from the `wanted` (low, high), for losses that are not all equal."""
        low, high = wanted
        if not high > low:  # most losses are one value: the percentiles say nothing, the ends may
            low, high = losses.min(), losses.max()
        return cls(float(low), float(high))

    def normalise(self, losses: NDArray[Any], out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Return normalised losses; those outside the percentiles count as lying on them."""
        above = np.subtract(losses, self.low, out=out, dtype=np.float64)
        place = np.divide(above, self.high - self.low, out=out)
        return np.clip(place, 0.0, 1.0, out=out)

    def precision(self, losses: NDArray[Any]) -> type[np.floating[Any]]:
        """Return float64: two float32 losses far from zero may differ by little."""
        return np.float64

    def losses_at(self, values: FloatArray) -> FloatArray:
        """Return the losses whose normalised values are `values`."""
        return self.low + (self.high - self.low) * values

    def log_slope(self, values: FloatArray) -> FloatArray:
        """Return the log of d(normalised value) / d(loss) at normalised values."""
        return np.full_like(values, -np.log(self.high - self.low))
