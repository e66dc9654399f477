"""What a run says of itself while it trains: a bar in each epoch, and a line after it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from lossnoise._progress import make_bar
from lossnoise.training.callbacks import Callback

if TYPE_CHECKING:
    from lossnoise.training.trainer import NoisyLabelTrainer


class Progress(Callback):
    """Write one line an epoch to stderr, and a bar while it runs where tqdm is installed.

    One bar serves all epochs: what a notebook keeps of each would stay in its file.
    """

    def __init__(self) -> None:
        self._bar: Any = None

    def on_batch_end(self, trainer: NoisyLabelTrainer, batch: int, num_batches: int) -> None:
        """Move the bar, from its beginning in each epoch."""
        label = f"epoch {len(trainer.history_) + 1}/{trainer.epochs}"
        if self._bar is None:
            self._bar = make_bar(num_batches, label, "batch")
        elif batch == 1:
            self._bar.set_description(label, refresh=False)
            self._bar.reset(num_batches)
        if batch == 1 and trainer.history_:  # to ask for the loss of a batch waits for the device
            self._bar.set_postfix_str(summarise(trainer), refresh=False)
        self._bar.update()

    def on_epoch_end(self, trainer: NoisyLabelTrainer, record: dict[str, Any]) -> None:
        """Put the line of the epoch in the place of the bar."""
        self._bar.clear()
        left = seconds_left(trainer)
        print(f"{describe(record, trainer.epochs)} | {left:.0f} s left", file=sys.stderr)

    def on_train_end(self, trainer: NoisyLabelTrainer) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def seconds_left(trainer: NoisyLabelTrainer) -> float:
    """Return how long the run will take from the end of its last epoch, at its mean pace."""
    seconds = [record["seconds"] for record in trainer.history_]
    left: int = trainer.epochs - trainer.history_[-1]["epoch"]
    return float(sum(seconds) / len(seconds) * left)


def summarise(trainer: NoisyLabelTrainer) -> str:
    """Return what the bar shows of the epoch before."""
    last = trainer.history_[-1]
    parts = [f"loss {last['train_loss']:.4f}"]
    if last["noise_rate"] is not None:
        parts.append(f"noise rate {last['noise_rate']:.3f}")
    return ", ".join([*parts, f"run {seconds_left(trainer):.0f} s left"])


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
