"""Passes over a dataset, as free functions: train, and sweep. See `_forward.accuracy` too.

Nothing here waits for the device inside a pass; results are read once at its end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lossnoise.corrections._labelled import check_labels, split_sample
from lossnoise.corrections._logits import bare
from lossnoise.corrections._modes import ModesOf, eval_mode, trained_here
from lossnoise.corrections.base import (
    Batch,
    Correction,
    EpochContext,
    SweepFunction,
    check_losses,
)
from lossnoise.exceptions import InvalidDataError
from lossnoise.training._distributed import broadcast_buffers, gather_rows, sum_over_ranks
from lossnoise.training._engine import TrainingEngine


def train_epoch(
    engine: TrainingEngine,
    loader: DataLoader[Any],
    correction: Correction,
    context: EpochContext,
    on_batch_end: Callable[[Batch, Tensor, int, int], None],
) -> float:
    """Train every model for one epoch; return the mean training loss over the samples."""
    total, count = torch.zeros((), device=engine.device), 0
    for number, batch in enumerate(device_batches(loader, engine, context.num_classes), 1):
        try:
            losses = correction.train_step(engine, batch, context)
        except ValueError as error:
            _refuse_single(error, batch)
            raise
        check_losses(correction, losses, batch)
        total += losses.sum()
        count += len(batch.labels)
        on_batch_end(batch, losses, number, len(loader))
    loss, seen = sum_over_ranks(torch.stack([total, total.new_tensor(count)])).tolist()
    if not seen:
        raise without_batches()
    return float(loss / seen)


def _refuse_single(error: ValueError, batch: Batch) -> None:
    """Raise where BatchNorm got a single sample, from which it cannot learn."""
    if len(batch.labels) == 1 and "more than 1 value per channel" in str(error):
        raise InvalidDataError(
            "The batches of NoisyLabelTrainer must have two samples or more for a model with "
            "BatchNorm in train mode. Got one of a single sample: a larger batch_size helps, or "
            f"model.eval() for such layers. The model says: {error}"
        ) from error


def sweep(
    engine: TrainingEngine,
    loader: DataLoader[Any],
    function: SweepFunction,
    num_classes: int | None = None,
    *,
    alone: bool = False,
) -> Tensor:
    """Return ``function(model, batch)`` of every sample, in the order of the dataset.

    In eval mode, without gradients; BatchNorm's statistics stay as they are, and each module's
    own mode is restored. Every process sweeps its own share, and has all results; or sweeps all
    `alone`, without the others.
    """
    parts, places = [], []
    if not alone:
        synchronise_buffers(engine)
    model = bare(engine.model)
    with eval_mode(model), torch.no_grad(), engine.autocast():
        for batch in device_batches(loader, engine, num_classes):
            parts.append(function(model, batch))
            places.append(batch.indices)
    if not parts:
        raise without_batches()
    results, order = torch.cat(parts), torch.cat(places)
    if not alone:
        results, order = gather_rows(results), gather_rows(order)
    num_samples = loader.dataset.num_samples  # type: ignore[attr-defined]  # an indexed loader
    seen = torch.bincount(order, minlength=num_samples)
    if len(seen) != num_samples or not bool((seen == 1).all()):
        never, often = int((seen == 0).sum()), int((seen > 1).sum())
        shared = ": each worker process must yield its own share of a stream, by get_worker_info()"
        raise InvalidDataError(
            f"A pass over the dataset of NoisyLabelTrainer must meet each of its {num_samples} "
            f"samples once. Got {never} of them never and {often} more than once instead"
            f"{shared if often and loader.num_workers > 1 else ''}."
        )
    ordered = torch.empty_like(results)
    ordered[order] = results
    return ordered


def without_batches() -> InvalidDataError:
    """Return the error for a pass that met no samples."""
    return InvalidDataError(
        "A pass over a dataset of NoisyLabelTrainer must yield batches. Got none instead: a "
        "sampler must yield positions in every pass, and an IterableDataset begin anew in each."
    )


def synchronise_buffers(engine: TrainingEngine) -> None:
    """Give every process the first one's buffers: BatchNorm's running statistics differ."""
    for model in engine.models:
        broadcast_buffers(bare(model))


@contextmanager
def restored_modes(model: nn.Module) -> Iterator[None]:
    """Have a model in train mode, and every module back in its own mode at the end."""
    with trained_here(model):
        modes = ModesOf(model)
        try:
            modes.begin_training()
            yield
        finally:
            modes.restore()


def device_batches(
    loader: DataLoader[Any], engine: TrainingEngine, num_classes: int | None
) -> Iterator[Batch]:
    """Yield the batches of an indexed loader on the engine's device.

    Labels are checked on the host, before they travel: on a CUDA device a label outside the
    range of the logits kills the process's context. (Those that lie there already were checked by
    `check_device_labels`: to look at them waits for the device.) Without a number of classes they
    are not used, and may be missing.
    """
    for indices, sample in loader:
        inputs, labels = split_sample(sample, needs_labels=num_classes is not None)
        if not labels.is_cuda:
            check_labels(labels, indices, num_classes)
        yield Batch(
            engine.to_device(inputs),
            labels.to(engine.device, torch.int64, non_blocking=True),
            indices.to(engine.device, non_blocking=True),
        )


def check_device_labels(loader: DataLoader[Any], num_classes: int) -> None:
    """Raise where a label that lies on a CUDA device is out of range: once, before training."""
    for indices, sample in loader:
        _, labels = split_sample(sample)
        if not labels.is_cuda:
            return
        check_labels(labels.cpu(), indices, num_classes)
