"""Losses that are not finite: where in an epoch they began, and the error that says so."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from lossnoise.corrections._labelled import split_sample
from lossnoise.corrections._nested import iter_tensors
from lossnoise.exceptions import NonFiniteLossError
from lossnoise.training._distributed import gather_objects, gather_rows


class TrainingLosses:
    """In which batch of an epoch each sample was trained on, and whether its loss was finite.

    Up to the first batch with a loss that is not. Kept on the training device; nothing waits for
    it before `first_broken`.
    """

    def __init__(self, num_samples: int, device: torch.device) -> None:
        self._batches = torch.zeros(num_samples, dtype=torch.int32, device=device)
        self._ended = torch.zeros((), dtype=torch.bool, device=device)

    def reset(self) -> None:
        """Begin an epoch."""
        self._batches.zero_()
        self._ended.zero_()

    def record(self, indices: Tensor, losses: Tensor, batch: int) -> None:
        """Keep the number of a batch, from 1; below zero where a loss is not finite."""
        finite = losses.detach().isfinite()
        numbers = (2 * finite.int() - 1) * batch
        self._batches[indices] = torch.where(self._ended, self._batches[indices], numbers)
        self._ended |= ~finite.all()

    def first_broken(self) -> tuple[int, list[int], int] | None:
        """Return the first batch with losses that are not finite, of which samples, and its size.

        None where all were finite. All processes have to ask.
        """
        batches = gather_rows(self._batches[None])
        broken = batches < 0
        if not bool(broken.any()):
            return None
        first = int(batches[broken].max().neg())
        samples = (batches == -first).any(dim=0).nonzero().flatten().tolist()
        return first, samples, int((batches.abs() == first).any(dim=0).sum())


def diverged(
    epoch: int,
    losses: NDArray[np.float32] | None,
    trained: TrainingLosses,
    loader: DataLoader[Any],
) -> NonFiniteLossError:
    """Return the error for losses that are not finite; it names the samples that began with it."""
    what = "The training loss is not finite"
    if losses is not None:
        bad = np.flatnonzero(~np.isfinite(losses))
        first = "" if len(bad) == len(losses) else f" (such as {bad[:5].tolist()})"
        what = f"The losses of {len(bad)} of {len(losses)} samples{first} are not finite"
    began = trained.first_broken()
    broken = sorted({row for rows in gather_objects(broken_inputs(loader)) for row in rows})
    if broken:
        why = f"The inputs of these samples are not: {broken[:5]}, {len(broken)} in all."
    else:
        why = f"{_beginning(began)}The learning rate may be too high; all inputs are finite."
    return NonFiniteLossError(f"{what} in epoch {epoch}. {why}")


def _beginning(began: tuple[int, list[int], int] | None) -> str:
    """Return where in the epoch it began; a batch as a whole says nothing of its samples."""
    if began is None:
        return ""
    batch, samples, size = began
    if len(samples) == size > 1:
        return f"It began with all {size} samples of batch {batch}, such as {samples[:5]}. "
    return (
        f"It began in batch {batch} with samples {samples[:5]}, {len(samples)} of {size} there: "
        "look at what the model makes of these. "
    )


def broken_inputs(loader: DataLoader[Any]) -> list[int]:
    """Return the positions of samples whose inputs hold NaN or infinity."""
    found: list[int] = []
    for indices, sample in loader:
        inputs, _ = split_sample(sample)
        for tensor in iter_tensors(inputs):
            if tensor.is_floating_point():
                fine = tensor.isfinite().reshape(len(indices), -1).all(dim=1).cpu()
                found += indices[~fine].tolist()
    return sorted(set(found))
