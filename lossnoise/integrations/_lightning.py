"""A recorder for Lightning's `Trainer`: a callback, and a loader that says which samples come."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from lossnoise._validation import invalid_parameter
from lossnoise.corrections._logits import read_logits
from lossnoise.exceptions import InvalidDataError
from lossnoise.integrations._recording import (
    EpochLog,
    LossFunction,
    RecordsLosses,
    check_dataset,
    labels_of,
    paired_loader,
    take_ids,
)

try:
    from lightning.pytorch.callbacks import Callback
except ImportError:  # the public module says so; the documentation is built without it
    Callback = object

OWNER = "LightningLossRecorder"


class LightningLossRecorder(RecordsLosses, Callback):
    """Record the loss of every training sample in Lightning's `Trainer`.

    Two lines: `loader` in place of `DataLoader`, and the recorder among the trainer's callbacks.
    The `LightningModule` stays as it is: its `training_step` gets the batches that it got before.

    Parameters
    ----------
    loss_fn : callable, optional
        ``loss_fn(logits, labels)`` returns the loss to record, one a sample. Default: the
        cross-entropy of logits (batch, num_classes) with labels (batch,).
    logits_from : str, default=""
        Name of the module, as `get_submodule` takes it, that returns the logits when
        `training_step` calls it. By default the `LightningModule` itself, for a `training_step`
        with ``self(inputs)``; the first call in a step counts.

    Attributes
    ----------
    losses_ : ndarray of shape (n,), float32
        Newest loss of each sample of the training dataset, NaN where it was never seen.
    loss_history_ : ndarray of shape (n, epochs), float32
        One column an epoch, NaN where the sample was not seen in it.
    recorder_ : LossRecorder
        What holds them.
    batch_ids_ : Tensor of shape (batch,), int64, or None
        Positions of the samples of the present training batch, for a `training_step` that wants
        them; None outside of one.

    Notes
    -----
    A `training_step` that returns a dict with ``"losses"`` beside ``"loss"``, one a sample, has
    these recorded, whatever the module and the labels look like. Losses that are not finite are
    left out, with a warning, and their samples count as not seen; so do samples with the label
    -100, which PyTorch's loss leaves out, unless `training_step` returns the losses.

    An output whose largest entry is, after the first epoch, mostly that of a class that no label
    has is hardly one of logits, and is told, as are labels that change.

    Losses are those of the training steps, in train mode. They come to the host once an epoch. Of
    several processes each has the losses of all; strategies that start processes from within
    ``fit``, such as ``"ddp_spawn"``, are refused, as the losses would be lost with these. They are
    part of Lightning's checkpoints.

    The indices of the samples travel as the last item of a batch, or as its entry
    ``"lossnoise_sample_id"``, until `training_step` gets it: hooks that move batches to the device
    see them. A tuple that a collate function makes arrives as a list.

    Examples
    --------
    ::

        recorder = LightningLossRecorder()
        trainer = lightning.Trainer(callbacks=[recorder])
        trainer.fit(module, recorder.loader(train_set, batch_size=32, shuffle=True))
        lossnoise.audit(labels, losses=recorder.losses_)
    """

    def __init__(self, *, loss_fn: LossFunction | None = None, logits_from: str = "") -> None:
        self.loss_fn = loss_fn
        self.logits_from = logits_from
        self.log_ = EpochLog(OWNER, "logits_from names the module whose output they are")
        self._stage = "fit"
        self._hook: Any = None
        self._output: Any = None

    def loader(self, dataset: Dataset[Any], **options: Any) -> DataLoader[Any]:
        """Return a loader of a training dataset whose batches say which samples they hold.

        Parameters
        ----------
        dataset : Dataset
            Map-style; yields tuples, lists or dicts.
        **options
            As for `torch.utils.data.DataLoader`.

        Returns
        -------
        loader : DataLoader

        Raises
        ------
        InvalidDataError
            The dataset has no length, or not that of the one that was recorded before.
        InvalidParameterError
            ``batch_size=None``: the loader would not collate.
        """
        self.log_.hold(check_dataset(OWNER, dataset))
        return paired_loader(OWNER, dataset, options)

    # -- the trainer's events ---------------------------------------------------------------

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Refuse to train in processes that take what they recorded with them."""
        self._stage = stage
        launcher = type(getattr(trainer.strategy, "launcher", None))
        starts_processes = any("MultiProcessing" in base.__name__ for base in launcher.__mro__)
        if stage == "fit" and starts_processes:
            raise InvalidDataError(
                f"{OWNER} would lose what it records: the trainer's strategy trains in processes "
                "that it starts itself and ends with fit. Take strategy='ddp' in a script, or one "
                "device."
            )

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Watch the module that returns the logits."""
        self._remove_hook()
        try:
            module = pl_module.get_submodule(self.logits_from)
        except AttributeError:
            names = [repr(name) for name, _ in pl_module.named_modules() if name]
            expected = f"the name of a module of the LightningModule ({', '.join(names[:5])}, ...)"
            raise invalid_parameter(OWNER, "logits_from", expected, self.logits_from) from None
        self._hook = module.register_forward_hook(self._keep_output)

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Begin a column of the history."""
        if self.log_.recorder is None:
            raise InvalidDataError(
                f"{OWNER} needs the indices of samples. The training loader must be made by its "
                "method loader, which takes what DataLoader takes."
            )
        self.log_.begin(trainer.current_epoch + 1)

    def on_train_batch_start(
        self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        """Take the indices out of the batch, so that the module sees what it knows."""
        self._output = None
        self.batch_ids_ = take_ids(batch)
        if self.batch_ids_ is None:
            raise InvalidDataError(
                f"{OWNER} found no indices in a batch. The training loader must be made by its "
                "method loader, and the batch must still be a list or dict when training_step "
                "gets it."
            )

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keep the losses of the batch."""
        assert self.batch_ids_ is not None  # taken when the batch began
        self._add_losses(self.batch_ids_, outputs, batch)
        self.batch_ids_ = self._output = None

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Record the losses of the epoch."""
        self.log_.end()

    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
        """Leave the module as it was."""
        self._remove_hook()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Leave the module as it was."""
        self._remove_hook()

    def state_dict(self) -> dict[str, Any]:
        """Return what is recorded, for a checkpoint."""
        return self.log_.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take back what `state_dict` returned; not to test or predict with a checkpoint."""
        recorded = self.log_.recorder is not None and self.log_.recorder.epoch_ > 0
        if state_dict and not (recorded and self._stage != "fit"):
            self.log_.load_state_dict(state_dict)

    # -- the steps --------------------------------------------------------------------------

    def _keep_output(self, module: nn.Module, inputs: Any, output: Any) -> None:
        # The first only: under DDP, training_step itself passes through the module's forward.
        if self.batch_ids_ is not None and self._output is None:
            self._output = output

    @torch.no_grad()
    def _add_losses(self, indices: Tensor, outputs: Any, batch: Any) -> None:
        if isinstance(outputs, dict) and "losses" in outputs:
            self.log_.add(indices, outputs["losses"])
            return
        if self._output is None:
            raise InvalidDataError(
                f"{OWNER} saw no logits: training_step does not call {self.logits_from or 'self'}. "
                "Name the module that it calls as logits_from, or return the losses of the "
                "samples as 'losses' beside 'loss'."
            )
        logits, labels = read_logits(self._output, OWNER), labels_of(OWNER, batch)
        self.log_.add_output(indices, logits, labels, self.loss_fn)

    def _remove_hook(self) -> None:
        self.batch_ids_ = self._output = None
        if self._hook is not None:
            self._hook.remove()
            self._hook = None
