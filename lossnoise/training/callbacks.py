"""Callbacks: they observe a run, and may ask it to stop."""

from __future__ import annotations

import copy
import math
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from sklearn.exceptions import NotFittedError

from lossnoise._validation import (
    check_choice,
    check_int,
    check_real,
    invalid_parameter,
    nearest_name,
)
from lossnoise._warnings import warn
from lossnoise.exceptions import InvalidDataError, ScheduleWarning
from lossnoise.training._distributed import gather_objects, rank_and_size
from lossnoise.training.checkpoint import load_weights

if TYPE_CHECKING:
    from lossnoise.training.trainer import NoisyLabelTrainer


class Callback:
    """Base of callbacks: every method does nothing until it is overridden.

    A callback may read the trainer's attributes and call ``trainer.request_stop()``, which ends
    the run after the present epoch. One that leaves ``trainer.model`` in eval mode, as after an
    evaluation of its own, has it put back; the mode of a part, such as a frozen backbone, stays
    as a callback sets it.

    Examples
    --------
    >>> class StopAtNoise(Callback):
    ...     def on_epoch_end(self, trainer, record):
    ...         if record["noise_rate"] is not None and record["noise_rate"] > 0.5:
    ...             trainer.request_stop()
    """

    def on_train_begin(self, trainer: NoisyLabelTrainer) -> None:
        """Run before the first epoch; in a resumed run `history_` has the epochs before."""

    def on_resume(self, trainer: NoisyLabelTrainer) -> None:
        """Run in a resumed run, after `on_train_begin` and `load_state_dict`."""

    def on_epoch_begin(self, trainer: NoisyLabelTrainer, epoch: int) -> None:
        """Run before epoch number `epoch`, counted from 1."""

    def on_batch_end(self, trainer: NoisyLabelTrainer, batch: int, num_batches: int) -> None:
        """Run after each training batch, counted from 1; must not wait for the device."""

    def on_epoch_end(self, trainer: NoisyLabelTrainer, record: dict[str, Any]) -> None:
        """Run after an epoch, with its entry of `history_`."""

    def on_train_end(self, trainer: NoisyLabelTrainer) -> None:
        """Run after the last epoch, when all attributes of the trainer are set."""

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs, as tensors and plain data; part of each checkpoint."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` returned: in a resumed run, after `on_train_begin`."""


# What the trainer has in each record: of a validation set, and besides.
OF_VALIDATION = ("val_loss", "val_accuracy")
MEASURED = ("train_loss", *OF_VALIDATION, "noise_rate")


class _Monitor(Callback):
    """Follow one number of the history, and know its best epoch.

    In a resumed run the epochs before are made up for, as well as the history knows them, until
    the state of the checkpoint says more. Where the weights begin afresh within the run, epochs
    before that are forgotten.
    """

    best_epoch_: int | None = None
    best_value_: float | None = None

    def __init__(self, monitor: str, mode: str) -> None:
        self.monitor = monitor
        self.mode = mode

    def on_train_begin(self, trainer: NoisyLabelTrainer) -> None:
        """Check the parameters, and begin anew."""
        self._check()
        self._forget()
        for record in trainer.history_:
            self._see(trainer, record)

    def on_epoch_end(self, trainer: NoisyLabelTrainer, record: dict[str, Any]) -> None:
        """Compare the epoch with the best one."""
        self._see(trainer, record)

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs."""
        if not hasattr(self, "_seen"):
            return {}
        return {
            "best_epoch": self.best_epoch_,
            "best_value": self.best_value_,
            "seen": self._seen,
            "settings": {"monitor": self.monitor, "mode": self._mode()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` returned."""
        if not state:
            return
        for name, now in {"monitor": self.monitor, "mode": self._mode()}.items():
            if now != state["settings"][name]:
                expected = f"{state['settings'][name]!r}, as in the run that is resumed"
                raise invalid_parameter(type(self).__name__, name, expected, now)
        self.best_epoch_, self.best_value_ = state["best_epoch"], state["best_value"]
        self._seen = state["seen"]

    def _check(self) -> None:
        owner = type(self).__name__
        if not isinstance(self.monitor, str):
            raise invalid_parameter(owner, "monitor", "a name in history_", self.monitor)
        check_choice(owner, "mode", self.mode, ("auto", "max", "min"))
        if self.mode == "auto" and not ("accuracy" in self.monitor or "loss" in self.monitor):
            expected = f"'max' or 'min' where the name {self.monitor!r} does not tell"
            known = self.monitor in MEASURED
            advice = "" if known else nearest_name(self.monitor, MEASURED)
            raise invalid_parameter(owner, "mode", expected, self.mode, advice)

    def _forget(self) -> None:
        self.best_epoch_ = self.best_value_ = None
        self._seen = 0  # the last epoch that was compared

    def _see(self, trainer: NoisyLabelTrainer, record: dict[str, Any]) -> None:
        if record["epoch"] <= self._seen:
            return
        if record["epoch"] == trainer.engine_.first_epoch:
            self._forget()
        self._compare(trainer, record["epoch"], self._read(record))
        self._seen = record["epoch"]

    def _read(self, record: dict[str, Any]) -> float:
        owner = type(self).__name__
        if self.monitor not in record:
            expected = f"a name in history_, one of {', '.join(map(repr, record))}"
            advice = "a callback that adds one of its own comes before, in 'callbacks'"
            raise invalid_parameter(owner, "monitor", expected, self.monitor, advice)
        value = record[self.monitor]
        if value is None:
            val = self.monitor.startswith("val_")
            advice = "give fit a validation set" if val else "watch what this run measures"
            raise InvalidDataError(
                f"{owner} watches {self.monitor!r}, which is None in epoch {record['epoch']}: "
                f"{advice}."
            )
        values = [value] if self.monitor in MEASURED else gather_objects(float(value))
        return float(sum(values)) / len(values)

    def _is_better(self, value: float, min_delta: float = 0.0) -> bool:
        """Tell whether a value beats the best by more than `min_delta`; NaN never does."""
        if self.best_value_ is None:
            return not math.isnan(value)
        return (value - self.best_value_) * (1.0 if self._mode() == "max" else -1.0) > min_delta

    def _mode(self) -> str:
        """Return "max" or "min", whatever was said."""
        by_name = "max" if "accuracy" in self.monitor else "min"
        return by_name if self.mode == "auto" else self.mode

    def _compare(self, trainer: NoisyLabelTrainer, epoch: int, value: float) -> None:
        raise NotImplementedError  # a subclass says what follows from the value


def watcher_of_validation(callbacks: Iterable[Callback]) -> _Monitor | None:
    """Return the callback that watches what a validation set gives, if one does.

    Those after a callback of another kind do not count: that may measure what they watch.
    """
    for callback in callbacks:
        if not isinstance(callback, _Monitor):
            return None
        if callback.monitor in OF_VALIDATION:
            return callback
    return None


class EarlyStopping(_Monitor):
    """End a run in which a number of the history has not improved for some epochs.

    The model stays as the last epoch left it. To have the best epoch's model, add `BestModel`.
    Where a correction has the weights begin afresh within the run, only epochs after that count.

    Parameters
    ----------
    monitor : str, default="val_accuracy"
        A number in the entries of `history_`; of a callback's own, the mean over processes.
    patience : int, default=10
        End the run after this many epochs in a row without an improvement.
    min_delta : float, default=0.0
        Only a change by more than this counts as an improvement.
    mode : {"auto", "max", "min"}, default="auto"
        Whether higher or lower is better. "auto" takes it from the name: accuracies shall rise,
        losses fall.

    Attributes
    ----------
    best_epoch_ : int or None
        Epoch of the last improvement; None before the first.
    best_value_ : float or None
        The value in it.
    stopped_epoch_ : int or None
        The epoch after which the run was asked to end. With ``verbose=1`` of the trainer this is
        written to stderr.

    Notes
    -----
    Under label noise a network first learns what is right and later memorises what is wrong, so
    stopping early is a correction of its own. With a validation set whose labels are as noisy as
    those to train on, the accuracy is lower by about the noise rate, but peaks at about the same
    epoch. A test set must not be used: its accuracy in the chosen epoch is optimistic.

    Methods with a warm-up hardly improve at its end: the patience should be longer than it is.
    A run that ends within it has not begun its method, and a `ScheduleWarning` says so.

    Examples
    --------
    >>> import torch
    >>> from torch.utils.data import TensorDataset
    >>> from lossnoise import NoisyLabelTrainer
    >>> from lossnoise.training import EarlyStopping
    >>> data = TensorDataset(torch.eye(4).repeat(10, 1), torch.arange(40) % 4)
    >>> stopping = EarlyStopping(patience=2)
    >>> trainer = NoisyLabelTrainer(
    ...     torch.nn.Linear(4, 4), correction="cross-entropy", epochs=50, callbacks=[stopping]
    ... )
    >>> len(trainer.fit(data, data).history_) == stopping.best_epoch_ + 2
    True
    """

    def __init__(
        self,
        monitor: str = "val_accuracy",
        patience: int = 10,
        min_delta: float = 0.0,
        mode: str = "auto",
    ) -> None:
        super().__init__(monitor, mode)
        self.patience = patience
        self.min_delta = min_delta

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs."""
        state = super().state_dict()
        return state | {"waited": self._waited} if state else state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` returned."""
        super().load_state_dict(state)
        if state:
            self._waited = state["waited"]

    def on_train_begin(self, trainer: NoisyLabelTrainer) -> None:
        """Check the parameters, and begin anew."""
        self.stopped_epoch_: int | None = None
        super().on_train_begin(trainer)

    def on_resume(self, trainer: NoisyLabelTrainer) -> None:
        """End a run that had ended before."""
        self._stop_if_due(trainer)

    def on_epoch_end(self, trainer: NoisyLabelTrainer, record: dict[str, Any]) -> None:
        """Compare the epoch with the best one, and end the run where the patience is at an end."""
        super().on_epoch_end(trainer, record)
        self._stop_if_due(trainer)

    def on_train_end(self, trainer: NoisyLabelTrainer) -> None:
        """Say why the run ended early, if it did."""
        if self.stopped_epoch_ is None or self.stopped_epoch_ >= trainer.epochs:
            return
        if math.isnan(trainer.history_[-1][self.monitor]):
            warn(
                f"EarlyStopping ended the run after epoch {self.stopped_epoch_} of "
                f"{trainer.epochs}: {self.monitor!r} is nan, which is no improvement. Look for "
                "values that are not finite where it is measured.",
                ScheduleWarning,
            )
        best = "" if self.best_epoch_ is None else f", best in epoch {self.best_epoch_}"
        _say(
            trainer,
            f"stopped after epoch {self.stopped_epoch_} of {trainer.epochs}: {self.monitor} has "
            f"not improved for {self._waited} epochs{best}",
        )

    def _check(self) -> None:
        super()._check()
        check_int("EarlyStopping", "patience", self.patience, 1)
        check_real("EarlyStopping", "min_delta", self.min_delta, 0.0, float("inf"), closed="left")

    def _forget(self) -> None:
        super()._forget()
        self._waited = 0  # epochs since the last improvement

    def _compare(self, trainer: NoisyLabelTrainer, epoch: int, value: float) -> None:
        if self._is_better(value, self.min_delta):
            self.best_epoch_, self.best_value_ = epoch, value
            self._waited = 0
        else:
            self._waited += 1

    def _stop_if_due(self, trainer: NoisyLabelTrainer) -> None:
        if self._waited >= self.patience and not trainer.engine_.awaits_restart:
            self.stopped_epoch_ = self._seen
            trainer.request_stop()


class BestModel(_Monitor):
    """Keep a copy of the model of the best epoch.

    Training goes on as it would without; `restore` puts the copy into the model. Of several
    equally good epochs the first is kept. Where a correction has the weights begin afresh within
    the run, a copy of an earlier epoch is dropped then.

    Parameters
    ----------
    monitor : str, default="val_accuracy"
        A number in the entries of `history_`; of a callback's own, the mean over processes.
    mode : {"auto", "max", "min"}, default="auto"
        Whether higher or lower is better. "auto" takes it from the name: accuracies shall rise,
        losses fall.

    Attributes
    ----------
    best_epoch_ : int or None
        Epoch of the copy; None before the first.
    best_value_ : float or None
        The value in it.
    best_state_ : dict or None
        Copy of ``model.state_dict()``, in the memory of the host.
    chosen_on_ : str
        What the epoch was chosen by and on which data, after training. With ``verbose=1`` of the
        trainer it is written to stderr.

    Notes
    -----
    The value of a chosen epoch is optimistic on the data that it was chosen on. So choose on a
    part of the training data that is held out, whose labels may be as noisy as the others, and
    report the accuracy on a test set that had no part in it. The best epoch on a test set is
    nobody's accuracy: it hides that a network collapses later.

    A checkpoint holds the copy too, and is larger by one model. Where a correction trains two
    models, the first is kept. `losses_` and `noise_proba_` stay those of the last epoch.

    Examples
    --------
    >>> import torch
    >>> from torch.utils.data import TensorDataset
    >>> from lossnoise import NoisyLabelTrainer
    >>> from lossnoise.training import BestModel
    >>> data = TensorDataset(torch.eye(4).repeat(10, 1), torch.arange(40) % 4)
    >>> best = BestModel()
    >>> trainer = NoisyLabelTrainer(
    ...     torch.nn.Linear(4, 4), correction="cross-entropy", epochs=5, callbacks=[best]
    ... ).fit(data, data)
    >>> best.restore(trainer)
    >>> trainer.score(data) == best.best_value_
    True
    """

    best_state_: dict[str, Any] | None

    def __init__(self, monitor: str = "val_accuracy", mode: str = "auto") -> None:
        super().__init__(monitor, mode)

    def restore(self, trainer: NoisyLabelTrainer) -> None:
        """Put the best epoch's weights and buffers into the model of a trainer.

        Parameters
        ----------
        trainer : NoisyLabelTrainer
            The one whose run was watched, or one with the same model.

        Raises
        ------
        NotFittedError
            No epoch was watched.
        InvalidDataError
            The trainer has another model.
        """
        state: dict[str, Any] | None = getattr(self, "best_state_", None)
        if state is None:
            raise NotFittedError(
                "BestModel has no model to restore: it has watched no epoch yet. A clone of a "
                "trainer has callbacks of its own, in its `callbacks`."
            )
        expected = "one whose model is like that which was watched"
        load_weights(trainer.model, state, "BestModel.restore", "trainer", expected)

    def on_train_begin(self, trainer: NoisyLabelTrainer) -> None:
        """Check the parameters, and begin anew."""
        self.__dict__.pop("chosen_on_", None)  # of an earlier run
        super().on_train_begin(trainer)

    def on_train_end(self, trainer: NoisyLabelTrainer) -> None:
        """Say what was chosen, and on which data."""
        if self.best_epoch_ is None:
            return
        val = self.monitor.startswith("val_")
        data = "the data given to fit as val" if val else "the training data, labels as given"
        self.chosen_on_ = (
            f"epoch {self.best_epoch_} of {self._seen}, by {self.monitor} = "
            f"{self.best_value_:.4f} on {data}"
        )
        _say(trainer, f"best model: {self.chosen_on_}")

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs."""
        state = super().state_dict()
        return state | {"best_state": self.best_state_} if state else state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` returned."""
        super().load_state_dict(state)
        if state:
            self.best_state_ = state["best_state"]

    def _forget(self) -> None:
        super()._forget()
        self.best_state_ = None

    def _compare(self, trainer: NoisyLabelTrainer, epoch: int, value: float) -> None:
        if epoch == trainer.history_[-1]["epoch"] and self._is_better(value):
            self.best_epoch_, self.best_value_ = epoch, value
            state = trainer.model.state_dict()
            self.best_state_ = {name: _copy_to_host(value) for name, value in state.items()}


def _say(trainer: NoisyLabelTrainer, line: str) -> None:
    if trainer.verbose and rank_and_size()[0] == 0:
        print(line, file=sys.stderr)


def _copy_to_host(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    return copy.deepcopy(value)
