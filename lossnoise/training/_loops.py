"""Passes over a dataset, as free functions: train, evaluate, sweep, predict.

Nothing here waits for the device inside a pass; results are read once at its end.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lossnoise.corrections.base import Batch, Correction, EpochContext, SweepFunction
from lossnoise.exceptions import InvalidDataError, NonFiniteLossError
from lossnoise.training._engine import TrainingEngine


def train_epoch(
    engine: TrainingEngine,
    loader: DataLoader[Any],
    correction: Correction,
    context: EpochContext,
    on_batch_end: Callable[[int, int], None],
) -> float:
    """Train every model for one epoch; return the mean training loss over the samples."""
    total = torch.zeros((), device=engine.device)
    batches = device_batches(loader, engine.device, context.num_classes)
    for number, batch in enumerate(batches, 1):
        total += correction.train_step(engine, batch, context).sum()
        on_batch_end(number, len(loader))
    mean = float(total) / context.num_samples
    if not math.isfinite(mean):
        raise NonFiniteLossError(
            f"The training loss of epoch {context.epoch} is {mean}. The learning rate may be too "
            "high, or inputs may hold NaN."
        )
    return mean


def sweep(
    engine: TrainingEngine,
    loader: DataLoader[Any],
    function: SweepFunction,
    num_classes: int | None = None,
) -> Tensor:
    """Return ``function(model, batch)`` of every sample, in the order of the dataset.

    In eval mode, without gradients; BatchNorm's statistics stay as they are, and each module's
    own mode is restored.
    """
    parts, places = [], []
    with eval_mode(engine.model), torch.no_grad(), engine.autocast():
        for batch in device_batches(loader, engine.device, num_classes):
            parts.append(function(engine.model, batch))
            places.append(batch.indices)
    results = torch.cat(parts)
    ordered = torch.empty_like(results)
    ordered[torch.cat(places)] = results
    return ordered


@contextmanager
def restored_modes(model: nn.Module) -> Iterator[None]:
    """Have a model in train mode, and every module back in its own mode at the end.

    Where the model as a whole is in train mode already, parts in eval mode are so on purpose,
    such as frozen BatchNorm, and stay so.
    """
    modes = {module: module.training for module in model.modules()}
    if not model.training:
        model.train()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Put a model in eval mode, and every module back into its own mode at the end."""
    training = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in training.items():
            module.training = mode


def device_batches(
    loader: DataLoader[Any], device: torch.device, num_classes: int | None
) -> Iterator[Batch]:
    """Yield the batches of an indexed loader on `device`.

    Labels are checked on the host, before they travel: on a CUDA device a label outside the
    range of the logits kills the process's context.
    """
    for indices, sample in loader:
        inputs, labels = split_sample(sample)
        check_labels(labels, indices, num_classes)
        yield Batch(
            inputs.to(device, non_blocking=True),
            labels.to(device, torch.int64, non_blocking=True),
            indices.to(device, non_blocking=True),
        )


def split_sample(sample: Any) -> tuple[Tensor, Tensor]:
    """Return inputs and labels of a collated batch."""
    if isinstance(sample, (tuple, list)) and len(sample) == 2:
        inputs, labels = sample
        if isinstance(inputs, Tensor) and isinstance(labels, Tensor) and labels.ndim == 1:
            return inputs, labels
    got = type(sample).__name__
    if isinstance(sample, (tuple, list)):
        got = f"{got} of ({', '.join(_describe(part) for part in sample)})"
    raise InvalidDataError(
        "The datasets of NoisyLabelTrainer must yield pairs (input, label) that collate to an "
        f"input tensor and a vector of integer labels. Got a batch that is a {got} instead."
    )


def _describe(part: object) -> str:
    return f"Tensor {tuple(part.shape)}" if isinstance(part, Tensor) else type(part).__name__


def check_labels(labels: Tensor, indices: Tensor, num_classes: int | None) -> None:
    """Raise where a label, still on the host, is no integer in the range of the logits.

    Without a number of classes the labels are not used, and may be anything.
    """
    if num_classes is None:
        return
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise InvalidDataError(
            "The labels of NoisyLabelTrainer's datasets must be integers. "
            f"Got {labels.dtype} instead."
        )
    labels = labels.to(torch.int64)  # not every integer type can be compared
    wrong = (labels < 0) | (labels >= num_classes)
    if wrong.any():
        first = int(wrong.nonzero()[0])
        raise InvalidDataError(
            f"The labels of NoisyLabelTrainer's datasets must be in the range [0, {num_classes}), "
            f"one a column of the model's output. Got {int(labels[first])} at sample "
            f"{int(indices[first])} instead."
        )
