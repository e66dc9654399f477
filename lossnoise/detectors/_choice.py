"""Detectors by name, wherever the library builds one itself."""

from __future__ import annotations

from typing import Any

from sklearn.base import clone

from lossnoise._validation import invalid_parameter, nearest_name
from lossnoise.detectors._base import LossMixtureDetector
from lossnoise.detectors._beta import BetaMixtureNoiseDetector
from lossnoise.detectors._gaussian import GaussianMixtureNoiseDetector

# "auto" is the family with the smaller mean error of the noise rate and the smaller Brier score on
# predictions of real models (examples/benchmarks/detector_rates.py).
DETECTORS: dict[str, type[LossMixtureDetector]] = {
    "auto": BetaMixtureNoiseDetector,
    "beta": BetaMixtureNoiseDetector,
    "gaussian": GaussianMixtureNoiseDetector,
}


def make_detector(owner: str, detector: Any, **settings: Any) -> LossMixtureDetector:
    """Return an unfitted detector: of a name, made with the settings, or a clone of a detector."""
    if isinstance(detector, LossMixtureDetector):
        cloned: LossMixtureDetector = clone(detector)
        return cloned
    if not isinstance(detector, str) or detector not in DETECTORS:
        names = ", ".join(repr(name) for name in DETECTORS)
        expected = f"one of {names}, or an instance of LossMixtureDetector"
        raise invalid_parameter(
            owner, "detector", expected, detector, nearest_name(detector, DETECTORS)
        )
    return DETECTORS[detector](**settings)
