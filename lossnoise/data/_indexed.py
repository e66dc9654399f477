"""Batches that carry the position of their samples; the user's dataset stays untouched."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from numbers import Integral
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    DistributedSampler,
    IterableDataset,
    Sampler,
    TensorDataset,
    default_collate,
)

from lossnoise._samples import check_alike, check_collated
from lossnoise._warnings import warn
from lossnoise.data._generators import Generator, generators_in, restore, state_of
from lossnoise.exceptions import CheckpointWarning, InvalidDataError

OWNER = "NoisyLabelTrainer"


class IndexedData:
    """A dataset, or a user's loader of it, with loaders of ``(indices, batch)``.

    Parameters
    ----------
    data : Dataset or DataLoader
        A map-style dataset; an `IterableDataset` that yields ``(index, sample)``; or a loader of
        one of them, whose sampler, collate function and workers are used as they are.
    batch_size : int
        Of the loaders for a dataset; a loader has its own.
    pin_memory : bool
        Whether batches of a dataset are copied to pinned memory.
    shard : tuple of int
        Rank of this process, and number of processes.
    """

    def __init__(
        self,
        data: Dataset[Any] | DataLoader[Any],
        batch_size: int,
        *,
        pin_memory: bool = False,
        shard: tuple[int, int] = (0, 1),
    ) -> None:
        self._given = data if isinstance(data, DataLoader) else None
        dataset: Any = data.dataset if isinstance(data, DataLoader) else data
        self.dataset = dataset
        self.is_stream = isinstance(self.dataset, IterableDataset)
        self.num_samples = len(dataset)
        sampler = getattr(self._given, "batch_sampler", None)
        sizes = [getattr(owner, "batch_size", None) for owner in (self._given, sampler)]
        self.batch_size = next((size for size in sizes if size), batch_size)
        self._shard = shard
        self._options: dict[str, Any] = {"pin_memory": pin_memory}
        if self._given is not None:
            self._options = options_of(self._given)
        self._training: DataLoader[Any] | None = None  # the one whose workers stay alive
        self._told = False  # that a sampler's state is in no checkpoint

    def shuffled(self, generator: torch.Generator) -> DataLoader[Any]:
        """Return the loader for training: in random order, or in that of the user's sampler.

        The only one whose workers stay alive, where those of the user's loader would: `close` ends
        them.
        """
        stay = self._given is not None and self._given.persistent_workers
        if self.is_stream:
            loader = self._stream_loader(generator, stay=stay)
        elif self._given is not None:
            loader = self._loader(MergedTail(self._given.batch_sampler), generator, stay=stay)
        else:
            loader = self._loader(self._batches(generator), generator)
        self._training = loader if stay else None
        return loader

    def close(self) -> None:
        """End the workers that stayed alive: a garbage collector would wait for each of them."""
        iterator = getattr(self._training, "_iterator", None)
        if self._training is not None and iterator is not None:
            self._training._iterator = None
            iterator._shutdown_workers()

    def in_order(self, generator: torch.Generator | None = None) -> DataLoader[Any]:
        """Return a loader of every sample once: of this process's share of them.

        The seeds of worker processes are drawn from the generator.
        """
        # A generator in any case, or every pass would draw a seed from the global one.
        generator = torch.Generator() if generator is None else generator
        if self.is_stream:
            return self._stream_loader(generator)
        return self._loader(self._batches(None), generator)

    def batch_of(self, rows: list[int]) -> Any:
        """Return some samples of a map-style dataset, collated, as this process reads them."""
        samples = IndexedDataset(self.dataset, whole_batches=False).__getitems__(rows)
        return self._collate()([sample for _, sample in samples])

    def sampler_names(self) -> list[str]:
        """Return the classes of what orders the samples of a user's loader."""
        return [type(s).__name__ for s in self._samplers() if s is not None]

    def as_given(self) -> DataLoader[Any]:
        """Return a loader of what a user's loader yields; of a dataset in order."""
        if self._given is None or self.is_stream:
            return self.in_order()
        return self._loader(self._given.batch_sampler, torch.Generator())

    def begin_epoch(self, epoch: int) -> None:
        """Tell a sampler that shuffles by the number of the epoch, as `DistributedSampler` does."""
        for sampler in self._samplers():
            if callable(getattr(sampler, "set_epoch", None)):
                sampler.set_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        """Return the states of a user's own generators, and of samplers that know theirs."""
        states = {place: state_of(generator) for place, generator in self._generators().items()}
        for place, sampler in self._stateful_samplers().items():
            try:
                states[place] = check_plain(sampler.state_dict())
            except TypeError as error:
                self._tell_lost(sampler, error)
        return states

    def _tell_lost(self, sampler: Any, error: TypeError) -> None:
        if not self._told:
            self._told = True
            warn(
                f"The state of the sampler, a {type(sampler).__name__}, is in no checkpoint: its "
                "state_dict() must return tensors and plain data. A run that is resumed may meet "
                f"the samples in another order. ({error})",
                CheckpointWarning,
            )

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` returned, and say which of the generators are not there."""
        samplers = self._stateful_samplers()
        for place in samplers.keys() & state.keys():
            samplers[place].load_state_dict(state[place])
        generators = self._generators()
        for place in generators.keys() & state.keys():
            restore(generators[place], state[place])
        if self._training is not None:
            warn(
                "The worker processes of the resumed run begin anew, where persistent_workers had "
                "kept them alive: what they draw at random will not be what it would have been. "
                "Without persistent_workers it will.",
                CheckpointWarning,
            )
        generators = {**generators, **samplers}
        if missing := sorted(state.keys() - generators.keys()):
            warn(
                f"The data of the resumed run drew from a generator, {missing[0]!r}, that they "
                "lack now: what they draw will not be what it would have been. It has to be there "
                "when fit begins.",
                CheckpointWarning,
            )

    def _stateful_samplers(self) -> dict[str, Any]:
        """Return the samplers that return their state and take it back, by their place.

        Those that are told the number of the epoch need none: theirs says that all was yielded.
        """
        places = ("sampler", "batch_sampler", "batch_sampler.sampler")
        return {
            f"state of {place}": sampler
            for place, sampler in zip(places, self._samplers(), strict=False)
            if callable(getattr(sampler, "state_dict", None))
            and callable(getattr(sampler, "load_state_dict", None))
            and not callable(getattr(sampler, "set_epoch", None))
        }

    def _generators(self) -> dict[str, Generator]:
        """Return the generators in a user's loader, its samplers and the dataset, by their place.

        A loader with workers has its dataset copied into them, where it begins each epoch anew.
        """
        return generators_in({"loader": self._given, "dataset": self.dataset})

    def _samplers(self) -> list[Any]:
        if self._given is None or self.is_stream:
            return []
        batches = self._given.batch_sampler
        return [self._given.sampler, batches, getattr(batches, "sampler", None)]

    def _batches(self, generator: torch.Generator | None) -> BatchIndices:
        return BatchIndices(self.num_samples, self.batch_size, generator, self._shard)

    def _collate(self) -> Callable[[list[Any]], Any]:
        return default_collate if self._given is None else self._given.collate_fn

    def _loader(
        self, batches: Any, generator: torch.Generator, *, stay: bool = False
    ) -> DataLoader[Any]:
        return DataLoader(
            IndexedDataset(self.dataset, whole_batches=self._collate() is default_collate),
            batch_sampler=batches,
            collate_fn=IndexedCollate(self._collate()),
            generator=generator,
            persistent_workers=stay,
            **self._options,
        )

    def _stream_loader(self, generator: torch.Generator, *, stay: bool = False) -> DataLoader[Any]:
        return DataLoader(
            StreamBatches(self.dataset, self.batch_size, self.num_samples),
            batch_size=None,
            collate_fn=IndexedCollate(self._collate()),
            generator=generator,
            persistent_workers=stay,
            **self._options,
        )


def check_plain(state: Any) -> Any:
    """Return a state, or raise `TypeError` where it is more than tensors and plain data."""
    if isinstance(state, dict):
        check_plain([*state.keys(), *state.values()])
    elif isinstance(state, (list, tuple)):
        for part in state:
            check_plain(part)
    elif not (state is None or isinstance(state, (bool, int, float, str, Tensor))):
        raise TypeError(f"it has a {type(state).__name__}")
    return state


def is_sharded(data: Dataset[Any] | DataLoader[Any]) -> bool:
    """Tell whether each process of a distributed run gets samples of its own from the data."""
    if isinstance(data, DataLoader):
        return isinstance(data.sampler, DistributedSampler)
    return not isinstance(data, IterableDataset)


def options_of(loader: DataLoader[Any]) -> dict[str, Any]:
    """Return how a loader works, apart from what its batches are."""
    names = ["num_workers", "pin_memory", "timeout", "worker_init_fn", "multiprocessing_context"]
    if loader.num_workers:
        names.append("prefetch_factor")
    return {name: getattr(loader, name) for name in names}


class IndexedDataset(Dataset[tuple[int, Any]]):
    """A view of a map-style dataset that yields ``(index, sample)``.

    One that makes whole batches by itself, as `ResidentImages` does, is asked for those, and
    tensors are indexed once a batch, unless the user has a collate function of his own.
    """

    def __init__(self, dataset: Dataset[Any], *, whole_batches: bool = True) -> None:
        self.dataset = dataset
        self.whole_batches = whole_batches

    @property
    def num_samples(self) -> int:
        """Number of samples."""
        return len(self)

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]  # map-style: checked at the border

    def __getitem__(self, index: int) -> tuple[int, Any]:
        try:
            return index, self.dataset[index]
        except Exception as error:
            if hasattr(error, "add_note"):  # from Python 3.11 on
                error.add_note(f"Raised by sample {index} of a dataset of {OWNER}.")
            raise

    def __getitems__(self, indices: list[int]) -> list[Any]:
        """Return the samples of a batch; torch's loader calls it where it exists."""
        if not all(hasattr(index, "__index__") for index in indices):
            raise InvalidDataError(
                f"The sampler of a loader of {OWNER} must yield positions in the dataset, which "
                f"are integers. Got {indices[0]!r} instead."
            )
        if self.whole_batches and (whole := _batch_maker(self.dataset)) is not None:
            return [WholeBatch(indices, whole(indices))]
        many = getattr(self.dataset, "__getitems__", None)
        if callable(many):
            return list(zip(indices, many(indices), strict=True))
        return [self[index] for index in indices]


class WholeBatch(NamedTuple):
    """A batch that was not put together from single samples."""

    indices: list[int]
    sample: Any


def _batch_maker(dataset: Dataset[Any]) -> Callable[[list[int]], Any] | None:
    """Return what makes whole batches of a dataset, equal to its samples collated."""
    if type(dataset) is TensorDataset and all(_is_plain(tensor) for tensor in dataset.tensors):
        return partial(_index_all, dataset.tensors)
    maker = getattr(dataset, "batch_at", None)
    return maker if callable(maker) else None


def _is_plain(tensor: Tensor) -> bool:
    return tensor.layout is torch.strided and not tensor.is_nested


def _index_all(tensors: Sequence[Tensor], indices: list[int]) -> list[Tensor]:
    """Return the rows of each tensor: contiguous, as stacked ones are, whatever they come from."""
    rows = torch.tensor(indices, dtype=torch.int64)
    return [t[rows.to(t.device, non_blocking=True)].contiguous() for t in tensors]


class StreamBatches(IterableDataset[list[tuple[int, Any]]]):
    """Batches of the ``(index, sample)`` pairs that a user's stream yields."""

    def __init__(self, stream: IterableDataset[Any], batch_size: int, num_samples: int) -> None:
        self.stream = stream
        self.batch_size = batch_size
        self.num_samples = num_samples

    def __len__(self) -> int:
        return _number_of_batches(self.num_samples, self.batch_size)

    def __iter__(self) -> Iterator[list[tuple[int, Any]]]:
        pairs = _pairs(self.stream, self.num_samples)
        yield from _merge_tail(_chunks(pairs, self.batch_size))


def _pairs(stream: Iterable[Any], num_samples: int) -> Iterator[tuple[int, Any]]:
    for item in stream:
        if not (isinstance(item, (tuple, list)) and len(item) == 2 and _is_index(item[0])):
            raise InvalidDataError(
                "An IterableDataset of NoisyLabelTrainer must yield (index, (input, label)), "
                "because a stream does not say which sample is which. "
                f"Got {_describe_item(item)} instead."
            )
        index = int(item[0])
        if not 0 <= index < num_samples:
            raise InvalidDataError(
                "The indices of an IterableDataset of NoisyLabelTrainer must be in the range "
                f"[0, {num_samples}), as its length says. Got {index} instead."
            )
        yield index, item[1]


def _describe_item(item: Any) -> str:
    """Return what a stream yielded in place of an index and a sample."""
    name = type(item).__name__
    if not isinstance(item, (tuple, list)) or not item:
        return f"a {name}"
    if not _is_index(item[0]):
        return f"a {name} that begins with a {type(item[0]).__name__}, not with an int"
    return f"a {name} of {len(item)} parts"


def _is_index(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _chunks(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    batch: list[Any] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _merge_tail(batches: Iterable[list[Any]]) -> Iterator[list[Any]]:
    """Yield batches, with a last one of a single sample joined to the one before it."""
    held: list[list[Any]] = []
    for batch in batches:
        held.append(batch)
        if len(held) > 2:
            yield held.pop(0)
    if len(held) == 2 and len(held[1]) == 1 < len(held[0]):
        held = [held[0] + held[1]]
    yield from held


class MergedTail(Sampler[list[int]]):
    """A user's batch sampler, with a last batch of one sample joined to the one before it."""

    def __init__(self, batches: Any) -> None:
        self.batches = batches

    def __len__(self) -> int:
        if type(self.batches) is BatchSampler and not self.batches.drop_last:
            return _number_of_batches(len(self.batches.sampler), self.batches.batch_size)  # type: ignore[arg-type]  # of a map-style dataset
        return len(self.batches)

    def __iter__(self) -> Iterator[list[int]]:
        return _merge_tail(list(batch) for batch in self.batches)


class IndexedCollate:
    """Collate ``(index, sample)`` pairs to ``(indices, batch)`` by the user's own collate."""

    def __init__(self, collate: Callable[[list[Any]], Any] = default_collate) -> None:
        self.collate = collate

    def __call__(self, pairs: list[Any]) -> tuple[Tensor, Any]:
        if isinstance(pairs[0], WholeBatch):
            return torch.tensor(pairs[0].indices), pairs[0].sample
        indices, samples = map(list, zip(*pairs, strict=True))
        if self.collate is not default_collate:
            batch = self.collate(samples)
            check_collated(OWNER, samples, batch)
            return torch.tensor(indices), batch
        try:
            return torch.tensor(indices), default_collate(samples)
        except (TypeError, RuntimeError, KeyError, ValueError) as error:
            check_alike(OWNER, indices, samples, error)
            raise


class BatchIndices(Sampler[list[int]]):
    """Batches of positions, shuffled where a generator is given.

    A trailing batch of one sample joins the batch before it, because BatchNorm cannot learn from
    one sample. Several processes take turns in picking positions. In random order their shares are
    padded to the same length from the beginning of the order, so that all make the same number of
    steps; in order nothing is padded.
    """

    def __init__(
        self,
        num_samples: int,
        batch_size: int,
        generator: torch.Generator | None = None,
        shard: tuple[int, int] = (0, 1),
    ) -> None:
        self.num_samples = num_samples
        self.batch_size = batch_size
        self.generator = generator
        self.rank, self.world_size = shard

    def __len__(self) -> int:
        return _number_of_batches(self._share(), self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        order = self._order()
        if not order:
            return
        last = len(self) - 1
        for i in range(last):
            yield order[i * self.batch_size : (i + 1) * self.batch_size]
        yield order[last * self.batch_size :]

    def _share(self) -> int:
        if self.generator is None:
            return len(range(self.rank, self.num_samples, self.world_size))
        return -(-self.num_samples // self.world_size)

    def _order(self) -> list[int]:
        if self.generator is None:
            return list(range(self.rank, self.num_samples, self.world_size))
        order: list[int] = torch.randperm(self.num_samples, generator=self.generator).tolist()
        padding = self._share() * self.world_size - self.num_samples
        return [*order, *order[:padding]][self.rank :: self.world_size]


def _number_of_batches(num_samples: int, batch_size: int) -> int:
    full, rest = divmod(num_samples, batch_size)
    return max(min(1, num_samples), full + (rest > 1))
