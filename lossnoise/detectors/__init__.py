"""Detectors: per-sample losses in, P(label wrong) out. Never imports torch."""

from lossnoise.detectors._base import LossMixtureDetector
from lossnoise.detectors._beta import BetaMixtureNoiseDetector
from lossnoise.detectors._display import LossMixtureDisplay
from lossnoise.detectors._gaussian import GaussianMixtureNoiseDetector
from lossnoise.detectors._histogram import LossHistogram

__all__ = [
    "BetaMixtureNoiseDetector",
    "GaussianMixtureNoiseDetector",
    "LossHistogram",
    "LossMixtureDetector",
    "LossMixtureDisplay",
]
