"""Plain training with cross-entropy, and the loss of every sample after every epoch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from lossnoise._files import atomic_open

LEARNING_RATE, MOMENTUM, WEIGHT_DECAY = 0.1, 0.9, 1e-4
MILESTONES = (1 / 2, 5 / 6)  # of the run, after which the learning rate is a tenth of before
BATCH_SIZE, SWEEP_SIZE = 64, 500


class Task(NamedTuple):
    """Pictures as the network takes them, the labels as given, and which of them are wrong."""

    images: Tensor
    labels: np.ndarray
    changed: np.ndarray
    clean_labels: np.ndarray


class Recording(NamedTuple):
    """Losses ``(n, epochs)`` in evaluation mode, and accuracy ``(epochs,)`` on the true labels."""

    losses: np.ndarray
    accuracy: np.ndarray


def record(model: nn.Module, task: Task, epochs: int, seed: int) -> Recording:
    """Train a model and record the losses of its training samples after each epoch."""
    labels, clean_labels = torch.as_tensor(task.labels), torch.as_tensor(task.clean_labels)
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.SGD(
        model.parameters(), LEARNING_RATE, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY
    )
    milestones = [round(part * epochs) for part in MILESTONES]
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones)
    losses, accuracy = [], []
    for _ in range(epochs):
        train_epoch(model, optimizer, task.images, labels, generator)
        schedule.step()
        logits = sweep(model, task.images)
        losses.append(cross_entropy(logits, labels, reduction="none"))
        accuracy.append((logits.argmax(dim=1) == clean_labels).float().mean())
    return Recording(torch.stack(losses, dim=1).numpy(), torch.stack(accuracy).numpy())


def train_epoch(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    images: Tensor,
    labels: Tensor,
    generator: torch.Generator,
) -> None:
    """Go over the samples once."""
    model.train()
    for batch in batches(len(images), generator):
        optimizer.zero_grad(set_to_none=True)
        cross_entropy(model(images[batch]), labels[batch]).backward()
        optimizer.step()


def batches(n: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield the rows of each batch; a last one of a single sample is left to BatchNorm's peace."""
    for batch in torch.randperm(n, generator=generator).split(BATCH_SIZE):
        if len(batch) > 1:
            yield batch


@torch.no_grad()
def sweep(model: nn.Module, images: Tensor) -> Tensor:
    """Return the logits of all samples in evaluation mode."""
    model.eval()
    return torch.cat([model(part) for part in images.split(SWEEP_SIZE)])


def read_recording(path: Path, made_with: str, labels: np.ndarray) -> Recording | None:
    """Return a recording that was made so, with the same labels, or None."""
    if not path.exists():
        return None
    with np.load(path, allow_pickle=False) as file:
        if str(file["made_with"]) != made_with or not np.array_equal(file["labels"], labels):
            return None
        return Recording(file["losses"], file["accuracy"])


def write_recording(path: Path, recording: Recording, made_with: str, labels: np.ndarray) -> None:
    """Write a recording whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_open(path, "wb") as file:
        np.savez(file, made_with=made_with, labels=labels, **recording._asdict())
