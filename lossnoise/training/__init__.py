"""The training loop that joins losses, detector and correction."""

from lossnoise.training.callbacks import Callback
from lossnoise.training.trainer import NoisyLabelTrainer

__all__ = ["Callback", "NoisyLabelTrainer"]
