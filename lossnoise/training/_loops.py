"""Passes over a dataset, as free functions: train, evaluate, sweep, predict.

Nothing here waits for the device inside a pass; results are read once at its end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lossnoise._samples import LABEL_NAMES, is_mapping
from lossnoise.corrections._modes import eval_mode
from lossnoise.corrections._nested import iter_tensors
from lossnoise.corrections.base import Batch, Correction, EpochContext, SweepFunction
from lossnoise.exceptions import InvalidDataError
from lossnoise.training._distributed import broadcast_buffers, gather_rows, sum_over_ranks
from lossnoise.training._engine import TrainingEngine, bare


def train_epoch(
    engine: TrainingEngine,
    loader: DataLoader[Any],
    correction: Correction,
    context: EpochContext,
    on_batch_end: Callable[[int, int], None],
) -> float:
    """Train every model for one epoch; return the mean training loss over the samples."""
    total = torch.zeros(2, device=engine.device)
    for number, batch in enumerate(device_batches(loader, engine, context.num_classes), 1):
        total[0] += correction.train_step(engine, batch, context).sum()
        total[1] += len(batch.labels)
        on_batch_end(number, len(loader))
    loss, seen = sum_over_ranks(total).tolist()
    return float(loss / seen)


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
    results, order = torch.cat(parts), torch.cat(places)
    if not alone:
        results, order = gather_rows(results), gather_rows(order)
    num_samples = loader.dataset.num_samples  # type: ignore[attr-defined]  # an indexed loader
    seen = torch.bincount(order, minlength=num_samples)
    if len(seen) != num_samples or not bool((seen == 1).all()):
        raise InvalidDataError(
            f"A pass over the dataset of NoisyLabelTrainer must meet each of its {num_samples} "
            f"samples once. Got {int((seen == 0).sum())} of them never and "
            f"{int((seen > 1).sum())} more than once instead."
        )
    ordered = torch.empty_like(results)
    ordered[order] = results
    return ordered


def accuracy(
    engine: TrainingEngine, loader: DataLoader[Any], num_classes: int, *, alone: bool = False
) -> float:
    """Return the share of the samples of a loader whose highest logit is their label."""
    total = torch.zeros(2, dtype=torch.float64, device=engine.device)
    if not alone:
        synchronise_buffers(engine)
    model = bare(engine.model)
    with eval_mode(model), torch.no_grad(), engine.autocast():
        for batch in device_batches(loader, engine, num_classes):
            total[0] += (model(batch.inputs).argmax(dim=1) == batch.labels).sum()
            total[1] += len(batch.labels)
    right, seen = (total if alone else sum_over_ranks(total)).tolist()
    return float(right / seen)


def synchronise_buffers(engine: TrainingEngine) -> None:
    """Give every process the first one's buffers: BatchNorm's running statistics differ."""
    for model in engine.models:
        broadcast_buffers(bare(model))


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


def split_sample(sample: Any, *, needs_labels: bool = True) -> tuple[Any, Tensor]:
    """Return inputs and labels of a collated batch: of a pair, or of a dict with the labels."""
    inputs: Any = None
    labels: Any = None
    if is_mapping(sample):
        names = [name for name in LABEL_NAMES if name in sample.keys()]  # noqa: SIM118  # mapping-like
        inputs = {key: sample[key] for key in sample.keys() if key not in names}  # noqa: SIM118  # same
        labels = sample[names[0]] if len(names) == 1 else None
    elif isinstance(sample, (tuple, list)) and len(sample) == 2:
        inputs, labels = sample
    elif isinstance(sample, Tensor) and not needs_labels:
        inputs = sample
    elif isinstance(sample, (tuple, list)) and len(sample) == 1 and not needs_labels:
        inputs = sample[0]
    first = next(iter_tensors(inputs), None)
    if first is not None and not needs_labels and not isinstance(labels, Tensor):
        return inputs, torch.zeros(len(first), dtype=torch.int64)
    if first is not None and isinstance(labels, Tensor) and labels.ndim == 1:
        return inputs, labels
    raise InvalidDataError(
        "The datasets of NoisyLabelTrainer must yield pairs (input, label), or dicts with one of "
        f"{', '.join(map(repr, LABEL_NAMES))}, that collate to tensors and a vector of integer "
        f"labels. Got a batch that is {_describe_batch(sample)} instead."
    )


def _describe_batch(sample: Any) -> str:
    name = type(sample).__name__
    if is_mapping(sample):
        return f"a {name} of ({', '.join(f'{k}: {_describe(sample[k])}' for k in sample)})"
    if isinstance(sample, (tuple, list)):
        return f"a {name} of ({', '.join(_describe(part) for part in sample)})"
    return f"a {name}"


def _describe(part: object) -> str:
    return f"Tensor {tuple(part.shape)}" if isinstance(part, Tensor) else type(part).__name__


def check_device_labels(loader: DataLoader[Any], num_classes: int) -> None:
    """Raise where a label that lies on a CUDA device is out of range: once, before training."""
    for indices, sample in loader:
        _, labels = split_sample(sample)
        if not labels.is_cuda:
            return
        check_labels(labels.cpu(), indices, num_classes)


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
            f"as the model has {num_classes} outputs. Got {int(labels[first])} at sample "
            f"{int(indices[first])} instead: labels begin at 0, and the model needs an output for "
            "each class."
        )
