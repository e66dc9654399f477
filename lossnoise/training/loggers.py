"""Callbacks that write down what a run measures."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from lossnoise._files import atomic_open
from lossnoise._validation import invalid_parameter, require_extra
from lossnoise.training._distributed import rank_and_size
from lossnoise.training.callbacks import Callback

if TYPE_CHECKING:
    from lossnoise.training.trainer import NoisyLabelTrainer


class CSVLogger(Callback):
    """Write the history of a run to a CSV file: one row an epoch, complete after each.

    The file is written anew from `history_` after every epoch and takes the old one's place at
    once. So whoever reads it sees whole rows, and a resumed run goes on in the same table without
    an epoch missing or there twice. A new run replaces the file of an earlier one.

    Parameters
    ----------
    path : str or path-like
        The file; folders on the way to it are made. In a distributed run only the first process
        writes.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import torch
    >>> from torch.utils.data import TensorDataset
    >>> from lossnoise import NoisyLabelTrainer
    >>> from lossnoise.training import CSVLogger
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = Path(folder.name) / "run.csv"
    >>> train_set = TensorDataset(torch.randn(40, 2), torch.arange(40) % 2)
    >>> trainer = NoisyLabelTrainer(torch.nn.Linear(2, 2), epochs=3, callbacks=[CSVLogger(path)])
    >>> _ = trainer.fit(train_set)
    >>> rows = path.read_text().splitlines()
    >>> rows[0].split(",")[:3], len(rows)
    (['epoch', 'train_loss', 'val_loss'], 4)
    >>> folder.cleanup()
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = path

    def on_train_begin(self, trainer: NoisyLabelTrainer) -> None:
        """Make the folder of the file, or find out now that it cannot be written."""
        if not isinstance(self.path, (str, os.PathLike)) or Path(self.path).is_dir():
            raise invalid_parameter("CSVLogger", "path", "the path of a file", self.path)
        if rank_and_size()[0] == 0:
            Path(self.path).parent.mkdir(parents=True, exist_ok=True)

    def on_epoch_end(self, trainer: NoisyLabelTrainer, record: dict[str, Any]) -> None:
        """Write all epochs so far."""
        if rank_and_size()[0] != 0:
            return
        names = list(dict.fromkeys(name for entry in trainer.history_ for name in entry))
        with atomic_open(self.path, newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, names, restval="", lineterminator="\n")
            writer.writeheader()
            writer.writerows({k: _number(v) for k, v in r.items()} for r in trainer.history_)


def _number(value: Any) -> Any:
    """Return the number in a tensor or array of one; other values as they are."""
    one = isinstance(value, (torch.Tensor, np.ndarray)) and value.ndim == 0
    return value.item() if one else value


class TensorBoardLogger(Callback):
    """Write the history of a run for TensorBoard, with a histogram of the losses of each epoch.

    Curves are named as in `history_`: ``train_loss``, ``val_accuracy`` and so on. The histogram
    ``losses`` shows whether those of wrong labels part from those of right ones. It is there in the
    epochs that know the losses, see `loss_history_`.

    Parameters
    ----------
    log_dir : str or path-like
        Folder of this run; it is made where it does not exist. In a distributed run only the first
        process writes. Give each run a folder of its own: TensorBoard shows what is in a folder as
        one run. After a resume, what it shows of the epochs that are run again is of the new ones.

    Raises
    ------
    MissingExtraError
        When training begins without the package tensorboard.

    Examples
    --------
    ::

        trainer = NoisyLabelTrainer(model, callbacks=[TensorBoardLogger("runs/first")])
        trainer.fit(train_set)  # and in a shell: tensorboard --logdir runs
    """

    def __init__(self, log_dir: str | os.PathLike[str]) -> None:
        self.log_dir = log_dir

    def on_train_begin(self, trainer: NoisyLabelTrainer) -> None:
        """Open the folder, or find out now that it cannot be written."""
        self._writer: Any = None
        if not isinstance(self.log_dir, (str, os.PathLike)) or Path(self.log_dir).is_file():
            expected = "the path of a folder"
            raise invalid_parameter("TensorBoardLogger", "log_dir", expected, self.log_dir)
        require_extra("tensorboard", "tensorboard", "TensorBoardLogger")
        if rank_and_size()[0] != 0:
            return
        from torch.utils.tensorboard import SummaryWriter

        next_epoch = len(trainer.history_) + 1
        self._writer = SummaryWriter(
            os.fspath(self.log_dir), purge_step=next_epoch if next_epoch > 1 else None
        )

    def on_epoch_end(self, trainer: NoisyLabelTrainer, record: dict[str, Any]) -> None:
        """Write what was measured in the epoch, to the disk."""
        if self._writer is None:
            return
        epoch = record["epoch"]
        for name, value in record.items():
            number = _number(value)
            if name != "epoch" and isinstance(number, (int, float)):
                self._writer.add_scalar(name, number, epoch)
        if trainer.recorder_.epoch_ == epoch:
            losses = trainer.recorder_.loss_history_[:, -1]
            self._writer.add_histogram("losses", losses[np.isfinite(losses)], epoch)
        self._writer.flush()

    def on_train_end(self, trainer: NoisyLabelTrainer) -> None:
        """Close the file."""
        if self._writer is not None:
            self._writer.close()
