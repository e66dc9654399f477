"""Callbacks: they observe a run, and may ask it to stop."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lossnoise.training.trainer import NoisyLabelTrainer


class Callback:
    """Base of callbacks: every method does nothing until it is overridden.

    A callback may read the trainer's attributes and call ``trainer.request_stop()``, which ends
    the run after the present epoch.

    Examples
    --------
    >>> class StopAtNoise(Callback):
    ...     def on_epoch_end(self, trainer, record):
    ...         if record["noise_rate"] is not None and record["noise_rate"] > 0.5:
    ...             trainer.request_stop()
    """

    def on_train_begin(self, trainer: NoisyLabelTrainer) -> None:
        """Run before the first epoch."""

    def on_epoch_begin(self, trainer: NoisyLabelTrainer, epoch: int) -> None:
        """Run before epoch number `epoch`, counted from 1."""

    def on_batch_end(self, trainer: NoisyLabelTrainer, batch: int, num_batches: int) -> None:
        """Run after each training batch, counted from 1; must not wait for the device."""

    def on_epoch_end(self, trainer: NoisyLabelTrainer, record: dict[str, Any]) -> None:
        """Run after an epoch, with its entry of `history_`."""

    def on_train_end(self, trainer: NoisyLabelTrainer) -> None:
        """Run after the last epoch, when all attributes of the trainer are set."""


class Progress(Callback):
    """Write one line an epoch to stderr, and a bar while it runs where tqdm is installed."""

    def __init__(self) -> None:
        self._bar: Any = None

    def on_batch_end(self, trainer: NoisyLabelTrainer, batch: int, num_batches: int) -> None:
        """Move the bar."""
        if self._bar is None:
            self._bar = _make_bar(num_batches, f"epoch {len(trainer.history_) + 1}")
        self._bar.update()

    def on_epoch_end(self, trainer: NoisyLabelTrainer, record: dict[str, Any]) -> None:
        """Replace the bar by the line of the epoch."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        mean = sum(r["seconds"] for r in trainer.history_) / len(trainer.history_)
        left = mean * (trainer.epochs - record["epoch"])
        print(f"{describe(record, trainer.epochs)} | {left:.0f} s left", file=sys.stderr)


def describe(record: dict[str, Any], num_epochs: int) -> str:
    """Return one line for an entry of `history_`."""
    parts = [
        f"epoch {record['epoch']:>{len(str(num_epochs))}}/{num_epochs}",
        f"loss {record['train_loss']:.4f}",
    ]
    if record["val_accuracy"] is not None:
        parts.append(f"val accuracy {record['val_accuracy']:.4f}")
    if record["noise_rate"] is not None:
        parts.append(f"noise rate {record['noise_rate']:.3f}")
    return " | ".join([*parts, f"{record['seconds']:.1f} s"])


class _NoBar:
    def update(self) -> None:
        """Do nothing: tqdm is not installed."""

    def close(self) -> None:
        """Do nothing."""


def _make_bar(total: int, label: str) -> Any:
    try:
        tqdm = import_module("tqdm.auto").tqdm
    except ImportError:
        return _NoBar()
    # A bar in a log file is thousands of lines; a notebook is no terminal, but shows bars.
    watched = sys.stderr.isatty() or "ipykernel" in sys.modules
    return tqdm(total=total, desc=label, leave=False, unit="batch", disable=not watched)
