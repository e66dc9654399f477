"""The epochs of `NoisyLabelTrainer.fit`: callbacks, checkpoints, and what the trainer shows."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from lossnoise._warnings import warn
from lossnoise.corrections._modes import ModesOf
from lossnoise.exceptions import (
    DistributedError,
    InterruptedWarning,
    NonFiniteLossError,
    ScheduleWarning,
)
from lossnoise.training._checks import check_unused
from lossnoise.training._distributed import (
    gather_objects,
    is_distributed,
    rank_and_size,
    wait_for_all,
)
from lossnoise.training._folder_lock import locked
from lossnoise.training._progress import Progress
from lossnoise.training._run import TrainingRun
from lossnoise.training._schedules import check_length
from lossnoise.training._wiring import circumstances_of, layers_now, settings_of
from lossnoise.training.callbacks import Callback, EarlyStopping
from lossnoise.training.checkpoint import (
    Checkpoints,
    check_same_settings,
    list_checkpoints,
    load_newest_checkpoint,
    open_folder,
    save_checkpoint,
    warn_of_circumstances,
)

if TYPE_CHECKING:
    from lossnoise.training.trainer import NoisyLabelTrainer


class _Saving(NamedTuple):
    """How a run is saved, with what settings it began, and what files are its own."""

    checkpoints: Checkpoints
    settings: dict[str, Any]
    circumstances: dict[str, list[str]]
    own: set[Path]


def train_epochs(
    trainer: NoisyLabelTrainer, run: TrainingRun, checkpoints: Checkpoints | None, *, resume: bool
) -> None:
    """Train from the first epoch, or from the newest checkpoint, to the last."""
    with ExitStack() as held:
        held.callback(run.train_data.close)
        saving = None
        if checkpoints is not None:
            if rank_and_size()[0] == 0:
                open_folder(checkpoints.folder)
                held.enter_context(locked(checkpoints.folder))
                if not resume:  # asked before, when another run may have been there
                    check_unused(checkpoints.folder)
            saving = _Saving(
                checkpoints, settings_of(trainer, run), circumstances_of(trainer, run), set()
            )
        _train(trainer, run, saving, resume=resume)


def _train(
    trainer: NoisyLabelTrainer, run: TrainingRun, saving: _Saving | None, *, resume: bool
) -> None:
    first = 1
    states: list[dict[str, Any]] = []  # of callbacks
    if saving is not None and resume:
        first, states = _resume(trainer, run, saving)
    for schedule in run.engine.schedulers:
        check_length(schedule, trainer.epochs, done=first - 1)
    callbacks = _Hooks(trainer)
    _begin(trainer, callbacks, states)
    try:
        for epoch in range(first, trainer.epochs + 1):
            if trainer.stop_requested_:
                break
            _run_epoch(trainer, run, epoch, callbacks)
            _save_if_due(trainer, run, epoch, saving)
    except KeyboardInterrupt:
        if is_distributed():
            raise
        _warn_interrupted(run.context.epoch, saving)
    run.finish()
    _publish(trainer, run)
    callbacks.call("on_train_end")
    _warn_of_warmup(trainer, run)


class _Hooks:
    """The callbacks of a run, and the modes that the model was in before they were called.

    One that leaves the whole model in eval mode has evaluated it, and did not mean to have it
    trained so; of one that changes the mode of a part, the change stays.
    """

    def __init__(self, trainer: NoisyLabelTrainer) -> None:
        self._trainer = trainer
        progress = [Progress()] if trainer.verbose and rank_and_size()[0] == 0 else []
        self._callbacks = [*progress, *trainer.callbacks]  # what these write comes after the bar
        self._modes = ModesOf(trainer.model)

    def call(self, hook: str, *arguments: Any) -> None:
        """Call a hook of each, such as "on_epoch_end"."""
        for callback in self._callbacks:
            getattr(callback, hook)(self._trainer, *arguments)
        if not self._trainer.model.training:
            self._trainer.model.train()  # with modules that a callback has put in
            self._modes.restore()
        elif hook != "on_batch_end":  # too often to look at each module
            self._modes = ModesOf(self._trainer.model)


def _begin(trainer: NoisyLabelTrainer, callbacks: _Hooks, states: list[dict[str, Any]]) -> None:
    """Have all callbacks begin, and go on from their states."""
    trainer.stop_requested_ = False
    callbacks.call("on_train_begin")
    _resume_callbacks(trainer, states)
    _agree_to_stop(trainer)


def _run_epoch(trainer: NoisyLabelTrainer, run: TrainingRun, epoch: int, callbacks: _Hooks) -> None:
    run.engine.begin_epoch(epoch)
    callbacks.call("on_epoch_begin", epoch)
    record = run.epoch(epoch, partial(callbacks.call, "on_batch_end"))
    trainer.history_.append(record)
    _publish(trainer, run)
    callbacks.call("on_epoch_end", record)
    _agree_to_stop(trainer)


def _agree_to_stop(trainer: NoisyLabelTrainer) -> None:
    """End every process where a callback of one has asked for an end."""
    trainer.stop_requested_ = any(gather_objects(trainer.stop_requested_))


def _publish(trainer: NoisyLabelTrainer, run: TrainingRun) -> None:
    for name, found in run.found().items():
        setattr(trainer, name, found)


def _save_if_due(
    trainer: NoisyLabelTrainer, run: TrainingRun, epoch: int, saving: _Saving | None
) -> None:
    last = epoch == trainer.epochs or trainer.stop_requested_
    if saving is None or not (last or epoch % saving.checkpoints.every == 0):
        return
    _check_weights(run, epoch)
    state = {
        "epoch": epoch,
        "history": trainer.history_,
        "settings": saving.settings,
        "circumstances": saving.circumstances | layers_now(trainer),
        "run": run.state_dict(),
        "callbacks": [
            {"class": type(c).__name__, "monitor": _monitored(c), "state": c.state_dict()}
            for c in trainer.callbacks
        ],
    }
    if rank_and_size()[0] == 0:
        save_checkpoint(saving.checkpoints, epoch, state, saving.own)
    wait_for_all()


def _check_weights(run: TrainingRun, epoch: int) -> None:
    """Raise where weights are not finite, so that the last good checkpoint stays the newest."""
    for model in run.engine.models:
        tensors = [p for p in model.parameters() if p.is_floating_point()]
        if tensors and not bool(torch.stack([t.isfinite().all() for t in tensors]).all()):
            raise NonFiniteLossError(
                f"Weights of the model are not finite after epoch {epoch}. The learning rate may "
                "be too high. The last checkpoint stays; another rate needs another checkpoint_dir."
            )


def _resume(
    trainer: NoisyLabelTrainer, run: TrainingRun, saving: _Saving
) -> tuple[int, list[dict[str, Any]]]:
    """Take up the newest checkpoint; return the epoch to go on with, and states of callbacks."""
    folder = saving.checkpoints.folder
    state = load_newest_checkpoint(folder)
    epochs = gather_objects(0 if state is None else state["epoch"])
    if len(set(epochs)) > 1:
        raise DistributedError(
            f"The processes found checkpoints of different epochs in {folder}: "
            f"{epochs}. All of them must see the folder into which the first one writes."
        )
    if state is None:
        return 1, []
    check_same_settings(state["settings"], saving.settings, str(folder))
    saving.own.update(list_checkpoints(folder, state["epoch"]))
    run.load_state_dict(state["run"])
    trainer.history_ = state["history"]
    _publish(trainer, run)
    circumstances = saving.circumstances | layers_now(trainer)
    warn_of_circumstances(state.get("circumstances", {}), circumstances, str(folder))
    return int(state["epoch"]) + 1, state["callbacks"]


def _resume_callbacks(trainer: NoisyLabelTrainer, states: list[dict[str, Any]]) -> None:
    """Give each callback the state of one of its class, before all of one that watched the same.

    After each has begun, so that one that sets up its counts there has them again.
    """
    left, waiting = list(states), list(trainer.callbacks)
    for is_same in (_watched_the_same, lambda entry, callback: True):
        for callback in list(waiting):
            of_class = (entry for entry in left if entry["class"] == type(callback).__name__)
            entry = next((entry for entry in of_class if is_same(entry, callback)), None)
            if entry is not None:
                callback.load_state_dict(entry["state"])
                left = [other for other in left if other is not entry]
                waiting.remove(callback)
    for callback in trainer.callbacks if trainer.history_ else ():
        callback.on_resume(trainer)


def _watched_the_same(entry: dict[str, Any], callback: Callback) -> bool:
    return bool(entry["monitor"] == _monitored(callback))


def _monitored(callback: Callback) -> str | None:
    monitor = getattr(callback, "monitor", None)
    return monitor if isinstance(monitor, str) else None


def _warn_of_warmup(trainer: NoisyLabelTrainer, run: TrainingRun) -> None:
    """Warn where a callback has ended a run for good before its method has begun."""
    stopped = any(isinstance(c, EarlyStopping) and c.stopped_epoch_ for c in trainer.callbacks)
    epoch = run.context.epoch
    if stopped and epoch < trainer.epochs and run.correction.epochs_before(run.context) >= epoch:
        warn(
            f"EarlyStopping ended the run after epoch {epoch}, before the warm-up of "
            f"{type(run.correction).__name__} was over: it trained like its warm-up. Give "
            "EarlyStopping a longer patience, or the method a shorter warmup.",
            ScheduleWarning,
        )


def _warn_interrupted(epoch: int, saving: _Saving | None) -> None:
    further = "A run with checkpoint_dir could be resumed."
    if saving is not None and list_checkpoints(saving.checkpoints.folder):
        further = "fit(resume=True) goes on from the last checkpoint."
    elif saving is not None:
        further = (
            "No checkpoint was written yet: fit(resume=True) would begin a run with the weights as "
            "they are now, so give the trainer a fresh model before."
        )
    warn(
        f"Training was interrupted in epoch {epoch}. The trainer can be used as it is: losses_ and "
        f"noise_proba_ are of the model as it was left. {further}",
        InterruptedWarning,
    )
