"""The errors and warnings of lossnoise.

Every error is also a built-in one (``ValueError``, ``TypeError``, ``ImportError``), so that
code which does not know this library still catches it.
"""

from __future__ import annotations

__all__ = [
    "ClassPriorWarning",
    "CollapseWarning",
    "CheckpointWarning",
    "DistributedError",
    "EqualRowsWarning",
    "InterruptedWarning",
    "InvalidDataError",
    "InvalidParameterError",
    "LayoutWarning",
    "LossNoiseError",
    "LossNoiseWarning",
    "LossScaleWarning",
    "MissingExtraError",
    "ModelOutputWarning",
    "NewLabelWarning",
    "NoSeparableNoiseWarning",
    "NonFiniteLossError",
    "NonFiniteLossWarning",
    "RenormalizedWarning",
    "ScheduleWarning",
    "SmallBatchWarning",
    "SmallClassWarning",
    "TrainedModelWarning",
    "UnattainableThresholdWarning",
]


class LossNoiseError(Exception):
    """Base class of every error that lossnoise raises on purpose."""


class InvalidParameterError(LossNoiseError, ValueError, TypeError):
    """A parameter has a value that it cannot have."""


class InvalidDataError(LossNoiseError, ValueError):
    """The data cannot be used: wrong shape, not finite, too few, constant."""


class NonFiniteLossError(LossNoiseError, ValueError):
    """Training produced a loss that is NaN or infinite."""


class DistributedError(LossNoiseError, RuntimeError):
    """A distributed run cannot go on: another process died, or the data cannot be shared."""


class MissingExtraError(LossNoiseError, ImportError):
    """An optional dependency is needed and not installed."""


class LossNoiseWarning(UserWarning):
    """Base class of every warning of lossnoise."""


class LossScaleWarning(LossNoiseWarning):
    """Losses that were given as cross-entropy hardly are, or were clipped, or counted coarsely."""


class NoSeparableNoiseWarning(LossNoiseWarning):
    """These losses cannot tell right labels from wrong ones."""


class UnattainableThresholdWarning(LossNoiseWarning):
    """No threshold on these losses gives what was asked for."""


class NonFiniteLossWarning(LossNoiseWarning):
    """Losses of a loop of one's own, which were left out, or of a validation set are not finite."""


class RenormalizedWarning(LossNoiseWarning):
    """Probabilities did not sum to 1, and were scaled."""


class SmallBatchWarning(LossNoiseWarning):
    """Batches are too small for a term of the loss, which is therefore switched off."""


class SmallClassWarning(LossNoiseWarning):
    """A class has too few rows to be learnt from some and predicted in others, or no clean one."""


class EqualRowsWarning(LossNoiseWarning):
    """Many rows are predicted by a model that learns from equal ones, and repeats their labels."""


class ClassPriorWarning(LossNoiseWarning):
    """A method takes classes to be alike frequent, or not to be, and batches contradict it."""


class LayoutWarning(LossNoiseWarning):
    """An array looks transposed, its columns in another order, or its losses like batch means.

    Or a sample came with one label and then with another, or a label seems to say that there is
    none.
    """


class CollapseWarning(LossNoiseWarning):
    """A network predicts few classes only, having learnt from its own predictions."""


class CheckpointWarning(LossNoiseWarning):
    """A checkpoint cannot be read and is passed over, or a run cannot go on just as it was."""


class ScheduleWarning(LossNoiseWarning):
    """A run ends before its method begins, long before its schedule does, or by a NaN."""


class InterruptedWarning(LossNoiseWarning):
    """A run was ended from the keyboard."""


class NewLabelWarning(LossNoiseWarning):
    """A label is nearly another one: a new one of a review, or one by case or spaces only."""


class TrainedModelWarning(LossNoiseWarning):
    """A copy of a trainer does not begin anew: its model has learned from data already."""


class ModelOutputWarning(LossNoiseWarning):
    """A model returns something else than logits, which training would not notice."""
