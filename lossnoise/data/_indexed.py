"""Batches that carry the position of their samples; the user's dataset stays untouched."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate


class IndexedDataset(Dataset[tuple[int, Any]]):
    """A view of a map-style dataset that yields ``(index, sample)``."""

    def __init__(self, dataset: Dataset[Any]) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]  # map-style: checked at the border

    def __getitem__(self, index: int) -> tuple[int, Any]:
        return index, self.dataset[index]


class IndexedCollate:
    """Collate ``(index, sample)`` pairs to ``(indices, batch)`` by the user's own collate."""

    def __init__(self, collate: Callable[[list[Any]], Any] = default_collate) -> None:
        self.collate = collate

    def __call__(self, pairs: list[tuple[int, Any]]) -> tuple[Tensor, Any]:
        indices = torch.tensor([index for index, _ in pairs])
        return indices, self.collate([sample for _, sample in pairs])


class BatchIndices(Sampler[list[int]]):
    """Batches of positions, shuffled where a generator is given.

    A trailing batch of one sample joins the batch before it, because BatchNorm cannot learn from
    one sample.
    """

    def __init__(
        self, num_samples: int, batch_size: int, generator: torch.Generator | None = None
    ) -> None:
        self.num_samples = num_samples
        self.batch_size = batch_size
        self.generator = generator

    def __len__(self) -> int:
        full, rest = divmod(self.num_samples, self.batch_size)
        return max(1, full + (rest > 1))

    def __iter__(self) -> Iterator[list[int]]:
        order = self._order()
        last = len(self) - 1
        for i in range(last):
            yield order[i * self.batch_size : (i + 1) * self.batch_size]
        yield order[last * self.batch_size :]

    def _order(self) -> list[int]:
        if self.generator is None:
            return list(range(self.num_samples))
        order: list[int] = torch.randperm(self.num_samples, generator=self.generator).tolist()
        return order


def indexed_loader(
    dataset: Dataset[Any],
    batch_size: int,
    *,
    generator: torch.Generator | None = None,
    pin_memory: bool = False,
) -> DataLoader[Any]:
    """Return a loader of ``(indices, batch)``, in order or shuffled by `generator`."""
    indexed = IndexedDataset(dataset)
    return DataLoader(
        indexed,
        batch_sampler=BatchIndices(len(indexed), batch_size, generator),
        collate_fn=IndexedCollate(),
        pin_memory=pin_memory,
        generator=torch.Generator(),  # else every pass draws a seed from the global one
    )
