"""lossnoise finds wrong labels from per-sample losses, and trains networks in spite of them.

Public names load on first use (PEP 562), so that ``import lossnoise`` is quick and
``from lossnoise import BetaMixtureNoiseDetector`` never imports torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

# Loaded now, not on first use: the function and its package share a name, and whichever is
# bound last wins. Binding the function here, after its package was imported, settles it.
from lossnoise.audit import AuditReport, audit

if TYPE_CHECKING:
    from lossnoise.cross_val import cross_val_losses
    from lossnoise.detectors import (
        BetaMixtureNoiseDetector,
        GaussianMixtureNoiseDetector,
        LossHistogram,
        LossMixtureDisplay,
    )
    from lossnoise.training import LossHistoryDisplay, LossRecorder, NoisyLabelTrainer

__version__ = "0.1.0.dev0"

_HOME = {
    "BetaMixtureNoiseDetector": "lossnoise.detectors",
    "GaussianMixtureNoiseDetector": "lossnoise.detectors",
    "LossHistogram": "lossnoise.detectors",
    "LossHistoryDisplay": "lossnoise.training",
    "LossMixtureDisplay": "lossnoise.detectors",
    "LossRecorder": "lossnoise.training",
    "NoisyLabelTrainer": "lossnoise.training",
    "cross_val_losses": "lossnoise.cross_val",
}

__all__ = [
    "AuditReport",
    "BetaMixtureNoiseDetector",
    "GaussianMixtureNoiseDetector",
    "LossHistogram",
    "LossHistoryDisplay",
    "LossMixtureDisplay",
    "LossRecorder",
    "NoisyLabelTrainer",
    "audit",
    "cross_val_losses",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'lossnoise' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
