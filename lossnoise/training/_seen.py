"""What the training steps of an epoch saw of each sample, kept on the training device."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lossnoise._validation import invalid_data
from lossnoise.training._distributed import sum_over_ranks

UNSEEN = -1
FEWEST_BATCHES, SMALLEST_BATCH = 3, 4  # with which equal losses are no chance


class RunningLosses:
    """Losses that the training steps of an epoch gave, on the training device."""

    def __init__(self, num_samples: int, device: torch.device) -> None:
        self._losses = torch.zeros(num_samples, dtype=torch.float32, device=device)
        self._times = torch.zeros(num_samples, dtype=torch.float32, device=device)

    def reset(self) -> None:
        """Begin an epoch."""
        self._losses.zero_()
        self._times.zero_()

    def record(self, indices: Tensor, losses: Tensor) -> None:
        """Keep the losses of a batch.

        Raises
        ------
        InvalidDataError
            There is not one loss for each sample, such as their mean.
        """
        if losses.shape != indices.shape:
            expected = f"one loss for each of the {len(indices)} samples of the batch"
            got = f"a tensor of shape {tuple(losses.shape)}"
            raise invalid_data("context.record", "losses", expected, got, "give no means or sums")
        self._losses[indices] = losses.detach()
        self._times.index_fill_(0, indices, 1.0)  # to assign a number waits for the device

    def collect(self) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return the loss of each sample, 0 where it was not seen, and whether it was.

        A sample that several processes saw, to have shares of one length, counts by its mean.
        """
        losses, times = sum_over_ranks(self._losses), sum_over_ranks(self._times)
        return (losses / times.clamp(min=1.0)).cpu().numpy(), (times > 0.0).cpu().numpy()


def are_batch_means(losses: NDArray[np.float32], num_batches: int, num_processes: int = 1) -> bool:
    """Tell whether the losses of the samples of an epoch are one value a batch, as its mean is.

    Not where one value is that of many samples, such as 0 of labels that were memorised. A sample
    that several processes saw, to have shares of one length, may have a value of its own.
    """
    size = len(losses) / num_batches
    if num_batches < FEWEST_BATCHES or size < SMALLEST_BATCH:
        return False
    _, counts = np.unique(losses, return_counts=True)
    return len(counts) < num_batches + num_processes and bool(counts.max() <= 2.0 * size)


class SeenLabels:
    """The label of each sample, as the training steps met it."""

    def __init__(self, num_samples: int, device: torch.device) -> None:
        self._labels = torch.full((num_samples,), UNSEEN, dtype=torch.int64, device=device)
        self._changed = torch.zeros(num_samples, dtype=torch.bool, device=device)
        self._before: Tensor | None = None  # in the part of the run that is resumed

    def record(self, indices: Tensor, labels: Tensor) -> None:
        """Keep the labels of a batch."""
        before = self._labels[indices]
        self._changed[indices] |= (before != labels) & (before != UNSEEN)
        self._labels[indices] = labels

    def describe_changes(self, swept: Tensor | None = None) -> str:
        """Return which samples were met with different labels; nothing where none was.

        In the training steps of this process, or in a sweep of all samples.
        """
        changed = self._changed
        if swept is not None:
            other = self._labels != swept.to(self._labels.device)
            changed = changed | (other & (self._labels != UNSEEN))
        rows = changed.nonzero()
        if not len(rows):
            return ""
        return (
            f"{len(rows)} of {len(changed)} samples, the first of them sample {int(rows[0])}, came "
            "with one label and then with another: losses, P(wrong) and labels_ are of different "
            "samples there. A dataset must give a sample the same label each time, and not another "
            "sample for one that it cannot read; a collate function must keep the samples in their "
            "order, and add none. Leave such samples out beforehand."
        )

    def is_complete(self) -> bool:
        """Tell whether every sample was met."""
        return bool((self.collect() != UNSEEN).all())

    def state(self) -> Tensor:
        """Return the label of each sample that this run or the resumed part of it met."""
        labels = self.collect()
        return labels if self._before is None else labels.where(labels != UNSEEN, self._before)

    def restore(self, state: Tensor) -> None:
        """Take back what `state` returned."""
        self._before = state

    def collect(self) -> Tensor:
        """Return the label of each sample, int64 on the CPU; `UNSEEN` where no process met it."""
        seen = self._labels != UNSEEN
        times = sum_over_ranks(seen.long())
        total = sum_over_ranks(self._labels.where(seen, torch.zeros_like(self._labels)))
        return torch.where(times > 0, total // times.clamp(min=1), UNSEEN).cpu()


def check_same_labels(old: Tensor, new: Tensor) -> None:
    """Raise where samples have other labels than in the part of a run that is resumed."""
    other = (old != new) & (old != UNSEEN) & (new != UNSEEN)
    if bool(other.any()):
        first = int(other.nonzero()[0])
        example = f"sample {first} has {int(new[first])} for {int(old[first])}"
        raise invalid_data(
            "NoisyLabelTrainer.fit",
            "train",
            "the data that the resumed run was trained on",
            f"other labels of {int(other.sum())} of {len(old)} samples ({example})",
            "to learn from corrected labels, begin a run in another checkpoint_dir",
        )
