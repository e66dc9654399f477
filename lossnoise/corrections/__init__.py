"""Corrections: what a network learns from while some of its labels are wrong.

``CORRECTIONS`` is the one registry, from the name that `NoisyLabelTrainer` takes to the class.
"""

from lossnoise.corrections.base import Batch, Correction, Engine, EpochContext
from lossnoise.corrections.cross_entropy import CrossEntropy
from lossnoise.corrections.m_dyr_h import MDyrH
from lossnoise.corrections.mixup import Mixup

CORRECTIONS: dict[str, type[Correction]] = {
    "cross-entropy": CrossEntropy,
    "mixup": Mixup,
    "m-dyr-h": MDyrH,
}

__all__ = [
    "CORRECTIONS",
    "Batch",
    "Correction",
    "CrossEntropy",
    "Engine",
    "EpochContext",
    "MDyrH",
    "Mixup",
]
