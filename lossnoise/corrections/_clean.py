"""Samples whose true labels are known, which some methods take as `clean_set`."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.data import DataLoader, Dataset, IterableDataset, default_collate

from lossnoise._samples import LABEL_NAMES, is_mapping
from lossnoise._validation import invalid_data, invalid_parameter
from lossnoise._warnings import warn
from lossnoise.corrections._labelled import check_labels, split_sample
from lossnoise.corrections._logits import bare
from lossnoise.corrections._modes import eval_mode
from lossnoise.corrections._nested import iter_tensors, map_tensors
from lossnoise.corrections.base import Correction, EpochContext
from lossnoise.exceptions import SmallClassWarning

CleanSet = Dataset[Any] | DataLoader[Any]

TRUE_LABELS = "clean_labels"  # the entry of a dict that has its given label under another name
CHUNK = 256  # samples of the pass that reads the labels
MOST_NAMED = 10  # classes


class CleanBatch(NamedTuple):
    """Samples whose true labels are known.

    Attributes
    ----------
    inputs : Tensor of shape (batch, ...), or a dict, tuple or list of such tensors
    labels : Tensor of shape (batch,), int64
        True labels.
    given : Tensor of shape (batch,), int64, or None
        Labels as given, where the set has them beside the true ones.
    """

    inputs: Any
    labels: Tensor
    given: Tensor | None


class TakesCleanSet(Correction):
    """Base of the corrections with a `clean_set`, which is data and never copied with them."""

    needs_clean_batch = True

    clean_set: CleanSet | None

    _samples: CleanSamples | None = None

    @property
    def clean_labels_(self) -> NDArray[np.int64] | None:
        """True labels of the clean set, shape (n,); None before a run."""
        return None if self._samples is None else self._samples.labels

    def __repr__(self) -> str:
        """Return the call that makes this correction, with the set by its type and length."""
        shown = copy.copy(self)
        if self.clean_set is not None:
            shown.clean_set = _Shown(self.clean_set)
        return super(TakesCleanSet, shown).__repr__()

    def __deepcopy__(self, memo: dict[int, Any]) -> TakesCleanSet:
        """Return a copy with state of its own, and the same set."""
        other = type(self).__new__(type(self))
        kept = (self.clean_set, getattr(self.clean_set, "dataset", None))  # of a loader
        memo |= {id(self): other} | {id(data): data for data in kept}
        other.__dict__.update(copy.deepcopy(vars(self), memo))
        return other

    def __sklearn_clone__(self) -> TakesCleanSet:
        """Return what scikit-learn's `clone` is to make: the same settings, and the same set."""
        settings = self.get_params(deep=False)
        own = settings.pop("clean_set")
        return type(self)(clean_set=own, **copy.deepcopy(settings))


class _Shown(Dataset[Any]):
    """What stands for a set in the text of a call: the same in every process."""

    def __init__(self, data: Any) -> None:
        data = data.dataset if isinstance(data, DataLoader) else data
        size = f" of {len(data)} samples" if hasattr(data, "__len__") else ""
        self.text = f"<{type(data).__name__}{size}>"

    def __repr__(self) -> str:
        return self.text


class CleanSamples:
    """A checked clean set, and batches of it on the training device.

    Parameters
    ----------
    owner : str
        Class whose `clean_set` it is, for errors.
    data : Dataset or DataLoader
        As the user gave it: map-style, of ``(input, true label)``, of ``(input, given label, true
        label)``, or of dicts with a label, or with a label and ``clean_labels``. Of a loader, the
        dataset and the collate function are used.
    num_classes : int
        Which labels may occur.

    Attributes
    ----------
    labels : ndarray of shape (n,), int64
        True labels.
    given : ndarray of shape (n,), int64, or None
        Labels as given, where the set has them.
    """

    def __init__(self, owner: str, data: Any, num_classes: int) -> None:
        dataset: Any = data.dataset if isinstance(data, DataLoader) else data
        _check_kind(owner, dataset)
        self._owner = owner
        self._dataset = dataset
        self._collate: Callable[[list[Any]], Any] = default_collate
        if isinstance(data, DataLoader):
            self._collate = data.collate_fn
        self.labels, self.given = self._read_labels(num_classes)
        self._warn_of_missing(num_classes)

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self._dataset)

    def check_forward(self, context: EpochContext) -> None:
        """Raise where the model does not take these inputs, by a forward pass of two of them.

        In eval mode, without gradients; a method may first need them after an epoch of training.
        """
        batch = self._on_device(self._fetch(range(2)), context)
        model = bare(context.engine.model)
        try:
            with eval_mode(model), torch.no_grad(), context.engine.autocast():
                model(batch.inputs)
        except (RuntimeError, TypeError, ValueError, LookupError) as error:
            shapes = [f"{tuple(t.shape)} of {t.dtype}" for t in iter_tensors(batch.inputs)]
            expected = "a dataset of inputs that the model takes, as those of the training set are"
            got = f"a batch of {', '.join(shapes)}"
            raise invalid_data(self._owner, "clean_set", expected, got, str(error)) from error

    def draw(self, size: int, context: EpochContext) -> CleanBatch:
        """Return a random batch of at most `size` samples, of each process its own.

        All randomness is that of `EpochContext.rng`: an endless source of batches that has no
        state of its own, and goes on after a checkpoint where it was.
        """
        rank, processes = context.shard
        seeds = context.rng.integers(2**63, size=processes)  # all alike, so that all stay in step
        own = np.random.default_rng(int(seeds[rank]))
        positions = own.choice(len(self), min(size, len(self)), replace=False)
        return self._on_device(self._fetch(positions.tolist()), context)

    def batches(
        self, order: NDArray[np.int64], given: NDArray[np.int64], context: EpochContext
    ) -> Iterator[CleanBatch]:
        """Yield the samples in an order, with these given labels, in batches as large as others.

        None is smaller unless the set is, and some are larger: BatchNorm cannot normalise one
        sample.
        """
        for part in np.array_split(order, max(1, len(order) // max(2, context.batch_size))):
            batch = self._fetch(part.tolist())._replace(given=torch.from_numpy(given[part]))
            yield self._on_device(batch, context)

    def _fetch(self, positions: Sequence[int]) -> CleanBatch:
        whole = getattr(self._dataset, "batch_at", None)
        if callable(whole):
            return split_clean_sample(whole(positions), self._owner)
        many = getattr(self._dataset, "__getitems__", None)
        samples = many(positions) if callable(many) else [self._dataset[i] for i in positions]
        try:
            batch = self._collate(samples)
        except (RuntimeError, TypeError, ValueError, LookupError) as error:
            expected = (
                "a dataset whose samples collate, or a DataLoader with a function that does it"
            )
            got = f"samples like a {type(samples[0]).__name__} that do not"
            raise invalid_data(self._owner, "clean_set", expected, got, str(error)) from error
        return split_clean_sample(batch, self._owner)

    def _on_device(self, batch: CleanBatch, context: EpochContext) -> CleanBatch:
        """Return a batch on the training device, without waiting for it."""
        to_cuda = context.device.type == "cuda"

        def pin(tensor: Tensor) -> Tensor:
            return tensor.pin_memory() if to_cuda and not tensor.is_cuda else tensor

        def move(labels: Tensor) -> Tensor:
            return pin(labels).to(context.device, torch.int64, non_blocking=True)

        inputs = context.engine.to_device(map_tensors(pin, batch.inputs))
        given = None if batch.given is None else move(batch.given)
        return CleanBatch(inputs, move(batch.labels), given)

    def _read_labels(self, num_classes: int) -> tuple[NDArray[np.int64], NDArray[np.int64] | None]:
        """Return all labels, true and given ones, having checked them."""
        known: list[Tensor] = []
        given: list[Tensor] = []
        for start in range(0, len(self), CHUNK):
            positions = range(start, min(start + CHUNK, len(self)))
            batch = self._fetch(positions)
            known.append(self._check(batch.labels, positions, num_classes))
            if batch.given is not None:
                given.append(self._check(batch.given, positions, num_classes))
        return torch.cat(known).numpy(), torch.cat(given).numpy() if given else None

    def _warn_of_missing(self, num_classes: int) -> None:
        """Warn where no sample is of some class."""
        missing = np.setdiff1d(np.arange(num_classes), self.labels)
        if len(missing):
            some = ", ".join(map(str, missing[:MOST_NAMED])) + ", ..." * (len(missing) > MOST_NAMED)
            warn(
                f"The clean_set of {self._owner} has no sample of {len(missing)} of {num_classes} "
                f"classes ({some}): what is learnt from it is to leave them out. Add some of each.",
                SmallClassWarning,
            )

    def _check(self, labels: Tensor, positions: range, num_classes: int) -> Tensor:
        """Return labels on the host, or raise where one of them is out of range."""
        labels, whose = labels.cpu(), f"{self._owner}'s clean_set"
        check_labels(labels, torch.tensor(positions), num_classes, owner=whose)
        return labels.to(torch.int64)


def split_clean_sample(sample: Any, owner: str) -> CleanBatch:
    """Return inputs, true labels and given ones, if there are any, of a collated batch."""
    whose = f"The 'clean_set' of {owner}"
    if isinstance(sample, (tuple, list)) and len(sample) == 3:
        inputs, given = split_sample(sample[:2], owner=whose)
        return CleanBatch(inputs, split_sample((inputs, sample[2]), owner=whose)[1], given)
    if is_mapping(sample) and TRUE_LABELS in sample.keys():  # noqa: SIM118  # mapping-like
        rest = {key: sample[key] for key in sample.keys() if key != TRUE_LABELS}  # noqa: SIM118  # same
        inputs = {key: value for key, value in rest.items() if key not in LABEL_NAMES}
        labels = split_sample((inputs, sample[TRUE_LABELS]), owner=whose)[1]
        has_given = len(inputs) < len(rest)
        return CleanBatch(inputs, labels, split_sample(rest, owner=whose)[1] if has_given else None)
    inputs, labels = split_sample(sample, owner=whose)
    return CleanBatch(inputs, labels, None)


def forward_without_trace(
    model: nn.Module, inputs: Any, parameters: Mapping[str, Tensor] | None = None
) -> Tensor:
    """Return the logits of a model in the mode it is in, with other parameters if they are given.

    BatchNorm normalises by the statistics of these inputs in train mode, as in a training step,
    but its running statistics, like all buffers, stay as they are.
    """
    own = bare(model)
    buffers = {name: buffer.clone() for name, buffer in own.named_buffers()}
    logits: Tensor = functional_call(own, {**buffers, **(parameters or {})}, (inputs,))
    return logits


def _check_kind(owner: str, data: Any) -> None:
    """Raise where there is no clean set, or it is no map-style dataset of two or more samples."""
    streams = isinstance(data, (IterableDataset, Tensor, np.ndarray))
    if streams or not (hasattr(data, "__getitem__") and hasattr(data, "__len__")):
        expected = (
            "a map-style dataset of (input, true label), or a DataLoader of one: "
            f"{owner}(clean_set=TensorDataset(inputs, clean_labels))"
        )
        raise invalid_parameter(owner, "clean_set", expected, data if data is None else type(data))
    if len(data) < 2:
        raise invalid_data(owner, "clean_set", "a dataset of at least 2 samples", str(len(data)))
