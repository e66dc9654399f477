"""A recorder for Hugging Face's `Trainer`: a callback, a collator and a loss in one."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from lossnoise._samples import is_mapping
from lossnoise._validation import invalid_data
from lossnoise._warnings import warn
from lossnoise.exceptions import CheckpointWarning, InvalidDataError
from lossnoise.integrations._recording import (
    SAMPLE_ID,
    AppendIds,
    EpochLog,
    LossFunction,
    PairDataset,
    RecordsLosses,
    check_dataset,
)
from lossnoise.training.checkpoint import read_state, write_state

try:
    from transformers import TrainerCallback
except ImportError:  # the public module says so; the documentation is built without it
    TrainerCallback = object

OWNER = "HuggingFaceLossRecorder"
SAVED_NAME = "lossnoise_losses.pt"  # beside what the trainer saves in the folder of a checkpoint


class HuggingFaceLossRecorder(RecordsLosses, TrainerCallback):
    """Record the loss of every training sample in a `transformers.Trainer`.

    `attach` joins it to a trainer that is ready to train. The dataset stays as it is.

    Parameters
    ----------
    loss_fn : callable, optional
        ``loss_fn(logits, labels)`` returns the loss to record, one a sample. Default: the
        cross-entropy of logits (batch, num_classes) with labels (batch,).

    Attributes
    ----------
    losses_ : ndarray of shape (n,), float32
        Newest loss of each sample of the training dataset, NaN where it was never seen.
    loss_history_ : ndarray of shape (n, epochs), float32
        One column an epoch, NaN where the sample was not seen in it.
    recorder_ : LossRecorder
        What holds them.
    batch_ids_ : Tensor of shape (batch,), int64, or None
        Positions of the samples of the present training batch, for a loss function of one's own;
        None while the trainer evaluates.

    Notes
    -----
    The samples travel with their positions, which are taken out again before the model is
    called, by a hook that stays on it: the training data can be predicted too. So the ids stay
    although the trainer removes columns that the model does not take
    (``remove_unused_columns=True``), and no dataset column is needed for them.

    A `compute_loss_func` of one's own is called as before. Without one, the loss to train with is
    the mean cross-entropy, with the trainer's label smoothing; of accumulated batches the mean over
    all their samples (`num_items_in_batch`). That is what the trainer does with models whose loss
    knows of accumulation. Others, such as BERT's classifier in transformers 5.24, add up the mean
    losses of the batches without a recorder, and so take larger steps.

    Losses are those of the training steps, in train mode. They come to the host once an epoch. Of
    several processes each has the losses of all. Not for models that one process spreads over
    several GPUs with `DataParallel`, nor for ``group_by_length=True``, which looks for lengths in
    the samples themselves.

    Samples with the label -100, which PyTorch's loss leaves out, count as not seen, and so do
    losses that are not finite, with a warning.

    The trainer's checkpoints get a file ``lossnoise_losses.pt``, from which a run with
    ``resume_from_checkpoint`` goes on recording; the checkpoint must lie in its `output_dir`.

    Examples
    --------
    ::

        trainer = transformers.Trainer(model, args, train_dataset=train_set)
        recorder = HuggingFaceLossRecorder().attach(trainer)
        trainer.train()
        lossnoise.audit(labels, losses=recorder.losses_)
    """

    def __init__(self, *, loss_fn: LossFunction | None = None) -> None:
        self.loss_fn = loss_fn
        self.log_ = EpochLog(OWNER)
        self._training_loss: Callable[..., Tensor] | None = None
        self._label_smoothing = 0.0
        self._hook: Any = None

    def attach(self, trainer: Any) -> HuggingFaceLossRecorder:
        """Join a trainer, before its `train` is called.

        Parameters
        ----------
        trainer : transformers.Trainer
            With a map-style training dataset, and labels under the name ``"labels"`` in its
            batches, as the usual collators have it.

        Returns
        -------
        self : HuggingFaceLossRecorder

        Raises
        ------
        InvalidDataError
            The trainer's training dataset has no length.
        """
        if trainer.compute_loss_func == self._compute_loss:
            return self  # attached already, as by a cell that is run again
        self.log_.hold(check_dataset(OWNER, trainer.train_dataset))
        trainer.train_dataset = PairDataset(trainer.train_dataset)
        keeps_all = not trainer.args.remove_unused_columns
        columns = None if keeps_all else _columns_of(trainer.model, trainer.label_names)
        trainer.data_collator = CollateColumns(trainer.data_collator, columns)
        self._training_loss = trainer.compute_loss_func
        self._label_smoothing = trainer.args.label_smoothing_factor
        trainer.compute_loss_func = self._compute_loss
        trainer.add_callback(self)
        _keep_ids_from(trainer.model)
        return self

    # -- the trainer's events ---------------------------------------------------------------

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Look at the ids that the model is called with."""
        self._remove_hook()
        _keep_ids_from(kwargs["model"])
        self._hook = kwargs["model"].register_forward_pre_hook(
            self._note_ids, with_kwargs=True, prepend=True
        )
        if state.global_step > 0:  # resumed
            self._load(_checkpoint_folder(args, state))

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Begin a column of the history."""
        self.log_.begin(int(state.epoch + 1e-6) + 1)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Raise after the first step where its losses did not come here."""
        self.log_.check_seen(
            "a trainer whose compute_loss is its own has to call compute_loss_func"
        )

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Record the losses of the epoch."""
        self.log_.end()

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Put the losses so far into the checkpoint."""
        saved = self.log_.state_dict()
        folder = _checkpoint_folder(args, state)
        if state.is_world_process_zero and folder.is_dir():
            write_state(folder / SAVED_NAME, saved)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Look at no further ids."""
        self._remove_hook()

    def _load(self, folder: Path) -> None:
        path = folder / SAVED_NAME
        try:
            self.log_.load_state_dict(read_state(path))
        except (MemoryError, InvalidDataError):
            raise  # the file may be sound, or is that of another dataset
        except Exception as error:  # a damaged pickle may raise anything; another one lacks a key
            message = (
                f"{OWNER} cannot read the losses of the steps before in {path} "
                f"({type(error).__name__}), and has none of them. It looks in the folder of the "
                "checkpoint in the trainer's output_dir."
            )
            warn(message, CheckpointWarning)

    # -- the steps --------------------------------------------------------------------------

    def _note_ids(
        self, model: nn.Module, positional: tuple[Any, ...], named: dict[str, Any]
    ) -> None:
        self.batch_ids_ = named.get(SAMPLE_ID) if model.training else None

    def _compute_loss(
        self, outputs: Any, labels: Tensor, num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """Record the losses of a training batch, and return the loss to train with."""
        logits = outputs["logits"] if is_mapping(outputs) else outputs[0]
        if self.batch_ids_ is not None:
            self.log_.add_output(self.batch_ids_, logits.detach(), labels, self.loss_fn)
        if self._training_loss is not None:
            return self._training_loss(outputs, labels, num_items_in_batch=num_items_in_batch)
        return _mean_loss(logits, labels, num_items_in_batch, self._label_smoothing)

    def _remove_hook(self) -> None:
        self.batch_ids_ = None
        if self._hook is not None:
            self._hook.remove()
            self._hook = None


def _keep_ids_from(model: nn.Module | None) -> None:
    """Have ids taken out of what a model is called with; not twice."""
    if model is not None and _without_ids not in model._forward_pre_hooks.values():
        model.register_forward_pre_hook(_without_ids, with_kwargs=True)


def _without_ids(
    model: nn.Module, positional: tuple[Any, ...], named: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return positional, {name: named[name] for name in named if name != SAMPLE_ID}


class CollateColumns(AppendIds):
    """Collate samples with their indices, without the columns that the model does not take.

    Parameters
    ----------
    collate : callable
        The trainer's own collator.
    columns : set of str, optional
        What to keep. Default: everything.
    """

    def __init__(self, collate: Callable[[list[Any]], Any], columns: set[str] | None) -> None:
        super().__init__(self._collate_columns, OWNER)
        self._collator = collate
        self._columns = columns

    def _collate_columns(self, samples: list[Any]) -> Any:
        columns = self._columns
        if columns is not None and is_mapping(samples[0]):
            samples = [{k: s[k] for k in s.keys() if k in columns} for s in samples]  # noqa: SIM118  # mapping-like
        return self._collator(samples)


def _checkpoint_folder(args: Any, state: Any) -> Path:
    """Return where the trainer saves what it has after the present step."""
    return Path(args.output_dir) / f"checkpoint-{state.global_step}"


def _columns_of(model: Any, label_names: list[str]) -> set[str]:
    """Return the columns that a trainer keeps: what the model takes, and labels."""
    if hasattr(model, "get_base_model"):  # of peft, whose wrapper takes anything
        model = model.get_base_model()
    return {*inspect.signature(model.forward).parameters, "label", "label_ids", *label_names}


def _mean_loss(
    logits: Tensor, labels: Tensor, num_items: Tensor | int | None, label_smoothing: float
) -> Tensor:
    """Return the loss of a batch, as the trainer has it: its share of all accumulated ones."""
    if logits.ndim != 2:
        raise invalid_data(
            OWNER,
            "trainer",
            "one of a model that gives each sample one class, or have a compute_loss_func",
            f"logits of shape {tuple(logits.shape)}",
        )
    reduction = "mean" if num_items is None else "sum"
    loss = F.cross_entropy(
        logits, labels.view(-1), reduction=reduction, label_smoothing=label_smoothing
    )
    return loss if num_items is None else loss / num_items
