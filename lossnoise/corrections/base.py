"""The contract between a training loop and a method of learning with wrong labels."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from torch import Tensor, nn

from lossnoise._fingerprint import fingerprint
from lossnoise._validation import invalid_parameter
from lossnoise._warnings import warn
from lossnoise.exceptions import InvalidDataError, ScheduleWarning

SweepFunction = Callable[[nn.Module, "Batch"], Tensor]


@dataclass(frozen=True)
class Batch:
    """One batch on the training device.

    Attributes
    ----------
    inputs : Tensor of shape (batch, ...), or a dict, tuple or list of such tensors
        What the model is called with: ``model(batch.inputs)`` gives logits, whatever the user's
        own model takes and returns.
    labels : Tensor of shape (batch,), int64
        The labels as given, some of them wrong.
    indices : Tensor of shape (batch,), int64
        Position of each sample in the dataset.
    """

    inputs: Any
    labels: Tensor
    indices: Tensor


class Engine(Protocol):
    """What a correction may ask of the machinery that holds the models and their optimizers."""

    @property
    def model(self) -> nn.Module:
        """The model that is being trained; the first of `models`."""

    @property
    def models(self) -> list[nn.Module]:
        """All models: `num_models` of them."""

    @property
    def learning_rate(self) -> float:
        """Of the first parameters of the first model; after an epoch, that of the next one."""

    def autocast(self, *, no_grad: bool = False) -> AbstractContextManager[Any]:
        """Return the context of forward passes; with `no_grad`, of those without gradient.

        These may run in fewer bits: see `lossnoise.training.Precision`.
        """

    def to_device(self, inputs: Any) -> Any:
        """Return inputs on the training device, in the layout of the model."""

    def step(self, loss: Tensor, index: int = 0, *, skip: Tensor | None = None) -> None:
        """Backpropagate a scalar loss and update model number `index`.

        Where `skip`, a bool scalar on the device, is True, model and optimizer stay as they are;
        it must be the same on all processes.
        """

    def hold_schedules(self) -> None:
        """Keep the learning rates as they are until `restart`."""

    def restart(self, num_epochs: int) -> None:
        """Start the next epoch afresh: first weights, new optimizers and schedules.

        The default schedule is one of `num_epochs`; a factory of the user's is called again.
        """

    def snapshot(self) -> dict[str, Any]:
        """Return a copy of the state of models, optimizers and schedules."""

    def rollback(self, snapshot: dict[str, Any]) -> None:
        """Begin the next epoch from a state that `snapshot` returned."""


def _unchanged(tensor: Tensor) -> Tensor:
    """Return a mean over one process."""
    return tensor


def _discard(indices: Tensor, losses: Tensor) -> None:
    """Keep nothing: nobody collects the losses of this context."""


@dataclass
class EpochContext:
    """What a correction knows of the run while an epoch is trained.

    Attributes
    ----------
    epoch, num_epochs : int
        The present epoch, counted from 1, and the number of epochs of the whole run.
    num_classes, num_samples, batch_size : int
        Number of classes (columns of the logits), of training samples, and samples a batch.
    device : torch.device
        Where batches and models are.
    rng : numpy.random.Generator
        For draws on the host, such as the mixing weight of a batch.
    generator : torch.Generator
        For draws on `device`, such as a permutation of the batch.
    engine : Engine
        Models, optimizers and schedules.
    sweep : callable
        ``sweep(fn)`` calls ``fn(model, batch)`` on every sample in eval mode, without gradients,
        and returns the results in the order of the dataset, on `device`.
    noise_proba : callable or None
        Maps losses ``(batch,)`` on `device` to P(label wrong) by the mixture fitted after the
        last epoch, without waiting for the device. None until a mixture has been fitted.
    noise_rate : float or None
        Share of wrong labels by the same mixture.
    losses : Tensor of shape (num_samples,), float32, or None
        The losses that this mixture was fitted to, in the order of the dataset, on the host.
    evidence : float
        How far these losses tell right labels from wrong ones, from 0 (not at all: every sample
        has the same P(wrong)) to 1 (every P(wrong) is 0 or 1): the variance of P(wrong) over that
        of a label of which it is certain whether it is wrong.
    record : callable
        ``record(indices, losses)`` hands over the cross-entropy of unmixed samples that a forward
        pass of the training step gave anyway. Where a whole epoch was recorded, the mixture is
        fitted to these losses and no sweep is made.
    all_mean : callable
        ``all_mean(tensor)`` is the mean of a tensor over all processes of a distributed run, with
        gradient; the tensor itself where there is one process.
    shard : tuple of int
        Number of this process, from 0, and how many processes there are.
    """

    epoch: int
    num_epochs: int
    num_classes: int
    num_samples: int
    batch_size: int
    device: torch.device
    rng: np.random.Generator
    generator: torch.Generator
    engine: Engine
    sweep: Callable[[SweepFunction], Tensor]
    noise_proba: Callable[[Tensor], Tensor] | None = None
    noise_rate: float | None = None
    losses: Tensor | None = None
    evidence: float = 1.0
    record: Callable[[Tensor, Tensor], None] = _discard
    all_mean: Callable[[Tensor], Tensor] = _unchanged
    shard: tuple[int, int] = (0, 1)


class Correction(BaseEstimator, ABC):  # type: ignore[misc]  # scikit-learn ships no types
    """A method of learning with wrong labels.

    A simple method is one `loss`; a method with a schedule adds `begin_epoch`; a method that
    needs several models or gradients of its own overrides `train_step`. The class attributes say
    what it needs: a mixture fitted every epoch (`needs_detector`), copies of the first weights
    (`needs_restart`), samples with known true labels, which its constructor takes as `clean_set`
    (`needs_clean_batch`), and how many models; those beside the user's come from `model_factory`,
    or else are copies with fresh parameters.

    Constructors only store their arguments, all of which have defaults; `setup` checks them. As
    scikit-learn asks it of estimators, for then ``get_params``, ``set_params`` and ``clone`` work,
    and a search over a trainer can name parameters of its correction: ``correction__warmup``.
    """

    needs_detector: ClassVar[bool] = False
    needs_restart: ClassVar[bool] = False
    needs_clean_batch: ClassVar[bool] = False
    num_models: ClassVar[int] = 1
    model_factory: Callable[[], nn.Module] | None = None

    def __repr__(self) -> str:
        """Return the call that makes this correction."""
        settings = {k: _shown(v) for k, v in vars(self).items() if not k.startswith("_")}
        call = f"{type(self).__name__}({', '.join(f'{k}={v}' for k, v in settings.items())})"
        return re.sub(r" at 0x[0-9a-f]+", "", call)  # it is compared with that of a resumed run

    def setup(self, context: EpochContext) -> None:
        """Check parameters and allocate state, once, before the first epoch."""

    def begin_epoch(self, context: EpochContext) -> None:
        """Prepare an epoch; schedules live here."""

    @abstractmethod
    def loss(self, model: nn.Module, batch: Batch, context: EpochContext) -> Tensor:
        """Return the loss of each sample of the batch, shape (batch,), float32."""

    def train_step(self, engine: Engine, batch: Batch, context: EpochContext) -> Tensor:
        """Learn from one batch; return the loss of each sample, detached."""
        with engine.autocast():
            losses = self.loss(engine.model, batch, context)
        check_losses(self, losses, batch)
        engine.step(losses.mean())
        return losses.detach()

    def end_epoch(self, context: EpochContext) -> None:
        """Finish an epoch; ask for a restart or a rollback here.

        The last thing in an epoch: the schedules have stepped, the mixture has been fitted and
        the accuracy recorded.
        """

    def epochs_before(self, context: EpochContext) -> int:
        """Return after how many epochs the method begins: 0 where it has no warm-up."""
        return 0

    def end_run(self, predicted: NDArray[np.int64], labels: NDArray[np.int64]) -> None:
        """Look at the classes that the trained model predicts, of all samples in their order.

        Both arrays are of shape (num_samples,); a place to warn.
        """

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs beside the constructor's arguments."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` returned."""


def check_losses(correction: Correction, losses: object, batch: Batch) -> None:
    """Raise where a correction, perhaps of somebody's own, returns no loss for each sample."""
    if not (isinstance(losses, Tensor) and losses.shape == batch.labels.shape):
        name = type(losses).__name__
        got = f"tensor of shape {tuple(losses.shape)}" if isinstance(losses, Tensor) else name
        raise InvalidDataError(
            f"{type(correction).__name__} must return one loss a sample from `loss` and "
            f"`train_step`, as torch's losses do with reduction='none'. Got a {got} for a batch of "
            f"{len(batch.labels)} samples instead."
        )


def _shown(value: Any) -> str:
    """Return the text of a setting; of an array, which numpy shortens, its shape and a digest."""
    if hasattr(value, "__array__") and getattr(value, "shape", None):
        return f"<{type(value).__name__} of shape {tuple(value.shape)}, {fingerprint(value)}>"
    return repr(value)


def resolve_epochs(
    owner: str, name: str, value: object, num_epochs: int, alternative: str = ""
) -> int:
    """Return a number of epochs from an int (epochs) or a float (fraction of the run).

    `alternative` is named in the error beside these two.
    """
    if isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= 0:
        return int(value)
    if isinstance(value, Real) and not isinstance(value, Integral) and 0.0 <= float(value) <= 1.0:
        return round(float(value) * num_epochs)
    expected = "a number of epochs (int >= 0) or a fraction of the run in [0.0, 1.0]"
    raise invalid_parameter(owner, name, alternative + expected, value)


def warn_of_schedule(owner: str, before: int, num_epochs: int, parameter: str = "warmup") -> None:
    """Warn where a method begins after its first `before` epochs, and the run has no more."""
    if before >= num_epochs:
        warn(
            f"{owner} begins after {before} epochs, and the run has {num_epochs}: it trains like "
            f"its warm-up. A {parameter} of less, or a float, which is a fraction of the run, "
            "leaves epochs for it; so does a longer run.",
            ScheduleWarning,
        )
