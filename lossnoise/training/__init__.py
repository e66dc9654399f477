"""The training loop that joins losses, detector and correction.

Names load on first use (PEP 562): the recorder and the display of losses do without torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lossnoise.training._engine import Precision
    from lossnoise.training.callbacks import BestModel, Callback, EarlyStopping
    from lossnoise.training.checkpoint import Checkpoints
    from lossnoise.training.history import LossHistoryDisplay
    from lossnoise.training.loggers import CSVLogger, TensorBoardLogger
    from lossnoise.training.recipes import paper_recipe
    from lossnoise.training.recorder import LossRecorder
    from lossnoise.training.trainer import NoisyLabelTrainer

_HOME = {
    "BestModel": "lossnoise.training.callbacks",
    "CSVLogger": "lossnoise.training.loggers",
    "Callback": "lossnoise.training.callbacks",
    "Checkpoints": "lossnoise.training.checkpoint",
    "EarlyStopping": "lossnoise.training.callbacks",
    "LossHistoryDisplay": "lossnoise.training.history",
    "LossRecorder": "lossnoise.training.recorder",
    "NoisyLabelTrainer": "lossnoise.training.trainer",
    "Precision": "lossnoise.training._engine",
    "TensorBoardLogger": "lossnoise.training.loggers",
    "paper_recipe": "lossnoise.training.recipes",
}

__all__ = [
    "BestModel",
    "CSVLogger",
    "Callback",
    "Checkpoints",
    "EarlyStopping",
    "LossHistoryDisplay",
    "LossRecorder",
    "NoisyLabelTrainer",
    "Precision",
    "TensorBoardLogger",
    "paper_recipe",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'lossnoise.training' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
