"""What a detector's constructor says about fitting, checked when it is used."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from lossnoise._validation import check_choice, check_int, check_real, invalid_parameter

# EM starts from a guess of P(wrong), the place of a loss between the lowest and the highest ones,
# raised to these powers in turn; a high power suits few wrong labels.
START_POWERS = (1.0, 3.0)

HARD_FRACTION = 0.045  # share of samples that are hard examples, where nothing else is said


class FitSettings(NamedTuple):
    """The parameters of a detector, except `history_reduction`; and where EM starts."""

    max_iter: int
    tol: float
    n_bins: int
    hard_fraction: float
    loss_scale: str
    percentiles: tuple[float, float]
    start_powers: tuple[float, ...] = START_POWERS

    def without_hard(self) -> FitSettings:
        """Return settings for which no right label is hard for the model."""
        return self._replace(hard_fraction=0.0)

    def with_more_hard(self) -> FitSettings:
        """Return settings for twice as many hard examples, or as many as usual instead of none."""
        return self._replace(hard_fraction=2.0 * self.hard_fraction or HARD_FRACTION)

    def from_power(self, power: float) -> FitSettings:
        """Return settings with which EM starts from this power of the guess only."""
        return self._replace(start_powers=(power,))


def read_settings(detector: Any) -> FitSettings:
    """Return the parameters of a detector, or say which one is out of range."""
    owner = type(detector).__name__
    if detector.history_reduction is not None:
        check_int(owner, "history_reduction", detector.history_reduction, 1)
    return FitSettings(
        check_int(owner, "max_iter", detector.max_iter, 1),
        check_real(owner, "tol", detector.tol, 0.0, np.inf, closed="left"),
        check_int(owner, "n_bins", detector.n_bins, 10),
        check_real(owner, "hard_fraction", detector.hard_fraction, 0.0, 0.5, closed="left"),
        check_choice(owner, "loss_scale", detector.loss_scale, {"cross-entropy", "any"}),
        _check_percentiles(owner, detector.percentiles),
    )


def _check_percentiles(owner: str, value: Any) -> tuple[float, float]:
    expected = "a pair of percentiles (low, high) with 0 <= low < high <= 100"
    try:
        low, high = (p + 0.0 for p in value)  # a string is no number
    except (TypeError, ValueError):
        raise invalid_parameter(owner, "percentiles", expected, value) from None
    if not 0.0 <= low < high <= 100.0:
        raise invalid_parameter(owner, "percentiles", expected, value)
    return low, high
