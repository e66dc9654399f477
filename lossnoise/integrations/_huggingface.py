"""A recorder for Hugging Face's `Trainer`: a callback, a collator, and an eye on its losses."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor, nn

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

    The loss to train with is the trainer's own, whatever it is made of: the model's, that of a
    `compute_loss_func`, or of a subclass. What is recorded is the cross-entropy of the logits that
    the model gave on the way, or `loss_fn` of them.

    Losses are those of the training steps, in train mode. They come to the host once an epoch. Of
    several processes each has the losses of all. Not for models that one process spreads over
    several GPUs with `DataParallel`, nor for batches grouped by length, which the trainer looks for
    in the samples themselves.

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
        self.batch_ids_: Tensor | None = None
        self._seen: list[Tensor] | None = None  # logits of the model, while a loss is computed
        self._hook: Any = None

    def attach(self, trainer: Any) -> HuggingFaceLossRecorder:
        """Join a trainer, before its `train` is called.

        Parameters
        ----------
        trainer : transformers.Trainer
            With a map-style training dataset, and labels in its batches under the name
            ``"labels"``, as the usual collators have it, or one of its `label_names`.

        Returns
        -------
        self : HuggingFaceLossRecorder

        Raises
        ------
        InvalidDataError
            The trainer's training dataset has no length, or its samples are grouped by theirs.
        """
        compute_loss = trainer.compute_loss
        if isinstance(compute_loss, WatchedLoss) and compute_loss.recorder is self:
            return self  # attached already, as by a cell that is run again
        _check_sampling(trainer.args)
        self.log_.hold(check_dataset(OWNER, trainer.train_dataset))
        trainer.train_dataset = PairDataset(trainer.train_dataset)
        keeps_all = not trainer.args.remove_unused_columns
        columns = None if keeps_all else _columns_of(trainer.model, trainer.label_names)
        trainer.data_collator = CollateColumns(trainer.data_collator, columns)
        trainer.compute_loss = WatchedLoss(self, compute_loss, trainer.label_names)
        trainer.add_callback(self)
        _keep_ids_from(trainer.model)
        return self

    # -- the trainer's events ---------------------------------------------------------------

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Look at what the model gives."""
        self._remove_hook()
        _keep_ids_from(kwargs["model"])
        self._hook = kwargs["model"].register_forward_hook(self._note_logits)
        if state.global_step > 0:  # resumed
            self._load(_checkpoint_folder(args, state))

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Begin a column of the history."""
        self.log_.begin(int(state.epoch + 1e-6) + 1)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Raise after the first step where its losses did not come here."""
        self.log_.check_seen(
            "its batches need the ids that the train_dataset and the data_collator have since "
            "attach, and labels under 'labels' or one of the trainer's label_names; its model has "
            "to give logits"
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
        """Look at nothing that the model gives."""
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

    def _note_logits(self, model: nn.Module, positional: tuple[Any, ...], output: Any) -> None:
        if self._seen is not None and not self._seen:  # the first of a step
            logits = _logits_of(output)
            if logits is not None:
                self._seen.append(logits.detach().clone())  # whatever is done to them later

    def _watch(
        self, ids: Tensor | None, labels: Tensor | None, compute_loss: Callable[[], Any]
    ) -> Any:
        """Return what the trainer computes of a batch, and record the losses on the way."""
        self.batch_ids_, self._seen = ids, []
        try:
            found = compute_loss()
            if ids is not None and labels is not None and self._seen:
                self.log_.add_output(ids, self._seen[0], labels, self.loss_fn)
        finally:
            self.batch_ids_ = self._seen = None
        return found

    def _remove_hook(self) -> None:
        if self._hook is not None:
            self._hook.remove()
            self._hook = None


class WatchedLoss:
    """The `compute_loss` of a trainer, under the eyes of a recorder.

    Parameters
    ----------
    recorder : HuggingFaceLossRecorder
        Who records.
    compute_loss : callable
        The trainer's own.
    label_names : list of str
        Where labels may be in a batch.
    """

    def __init__(
        self,
        recorder: HuggingFaceLossRecorder,
        compute_loss: Callable[..., Any],
        label_names: list[str],
    ) -> None:
        self.recorder = recorder
        self._compute_loss = compute_loss
        self._names = (*label_names, "labels")  # of a model of peft the trainer knows none

    def __call__(self, model: nn.Module, inputs: Any, *args: Any, **options: Any) -> Any:
        """Return what the trainer's own function does, which may take the labels out."""
        labels = next((inputs[name] for name in self._names if name in inputs), None)
        ids = inputs.get(SAMPLE_ID) if model.training else None  # evaluation may be of the same
        return self.recorder._watch(
            ids, labels, lambda: self._compute_loss(model, inputs, *args, **options)
        )


def _logits_of(output: Any) -> Tensor | None:
    """Return the logits of what a model gave, which begins with its loss if it has one."""
    if isinstance(output, Tensor):
        return output
    if is_mapping(output):
        found: Tensor | None = output.get("logits")
        return found
    scores: list[Tensor] = [part for part in output if isinstance(part, Tensor) and part.ndim > 0]
    return scores[0] if scores else None


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


def _check_sampling(args: Any) -> None:
    """Refuse to group samples by length: the trainer looks for it where their ids are, too."""
    strategy = getattr(args, "train_sampling_strategy", "")  # from transformers 5 on
    if getattr(args, "group_by_length", False) or strategy == "group_by_length":
        expected = "one that draws samples in any order"
        raise invalid_data(OWNER, "trainer", expected, "one with group_by_length")


def _checkpoint_folder(args: Any, state: Any) -> Path:
    """Return where the trainer saves what it has after the present step."""
    return Path(args.output_dir) / f"checkpoint-{state.global_step}"


def _columns_of(model: Any, label_names: list[str]) -> set[str]:
    """Return the columns that a trainer keeps: what the model takes, and labels."""
    if hasattr(model, "get_base_model"):  # of peft, whose wrapper takes anything
        model = model.get_base_model()
    return {*inspect.signature(model.forward).parameters, "label", "label_ids", *label_names}
