"""Detectors: per-sample losses in, P(label wrong) out. Never imports torch."""

from lossnoise.detectors._base import LossMixtureDetector
from lossnoise.detectors._beta import BetaMixtureNoiseDetector
from lossnoise.detectors._display import LossMixtureDisplay

__all__ = ["BetaMixtureNoiseDetector", "LossMixtureDetector", "LossMixtureDisplay"]
