"""Batches that know their rows: every sample exactly once, and the user's collate untouched."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader, Dataset, TensorDataset

from lossnoise.data._indexed import (
    BatchIndices,
    IndexedCollate,
    IndexedData,
    IndexedDataset,
)

sizes = st.integers(1, 200)
batch_sizes = st.integers(1, 70)
seeds = st.none() | st.integers(0, 100)


def generator(seed):
    return None if seed is None else torch.Generator().manual_seed(seed)


@given(size=sizes, batch_size=batch_sizes, seed=seeds)
def test_every_sample_is_in_exactly_one_batch(size, batch_size, seed):
    sampler = BatchIndices(size, batch_size, generator(seed))
    for _ in range(2):
        batches = list(sampler)
        assert len(batches) == len(sampler)
        rows = [row for batch in batches for row in batch]
        assert sorted(rows) == list(range(size))
        assert seed is not None or rows == sorted(rows)


@given(size=sizes, batch_size=batch_sizes)
def test_no_batch_of_one_unless_it_cannot_be_helped(size, batch_size):
    lengths = [len(batch) for batch in BatchIndices(size, batch_size)]
    assert set(lengths[:-1]) <= {batch_size}
    if size > 1 and batch_size > 1:
        assert 2 <= lengths[-1] <= batch_size + 1
    else:
        assert lengths == [1] * size


@pytest.mark.parametrize(
    ("size", "lengths"),
    [(8, [4, 4]), (9, [4, 5]), (10, [4, 4, 2]), (3, [3]), (5, [5]), (1, [1])],
)
def test_a_trailing_one_joins_the_batch_before_it(size, lengths):
    assert [len(batch) for batch in BatchIndices(size, 4)] == lengths


def test_every_pass_is_shuffled_anew_from_the_generator():
    first, again = (BatchIndices(50, 8, generator(3)) for _ in range(2))
    passes = [list(first), list(first)]
    assert passes[0] != passes[1]
    assert passes == [list(again), list(again)]


def test_the_dataset_yields_its_rows():
    data = TensorDataset(torch.arange(5.0), torch.arange(5))
    indexed = IndexedDataset(data)
    assert len(indexed) == 5
    assert indexed[3] == (3, data[3])


def test_collate_is_the_users_own():
    collate = IndexedCollate(lambda samples: "+".join(samples))
    indices, batch = collate([(4, "a"), (0, "b")])
    assert indices.dtype == torch.int64
    assert indices.tolist() == [4, 0]
    assert batch == "a+b"


@pytest.mark.parametrize("seed", [None, 2])
def test_indices_belong_to_their_samples(seed):
    data = TensorDataset(torch.arange(33.0)[:, None], torch.arange(33))
    rows = []
    for indices, (inputs, labels) in IndexedData(data, 8).shuffled(generator(seed)):
        assert torch.equal(inputs[:, 0].long(), indices)
        assert torch.equal(labels, indices)
        rows += indices.tolist()
    assert sorted(rows) == list(range(33))
    assert (rows == sorted(rows)) == (seed is None)


def test_a_pass_draws_nothing_from_the_global_generator():
    before = torch.get_rng_state()
    list(IndexedData(TensorDataset(torch.zeros(9)), 4).shuffled(generator(0)))
    assert torch.equal(torch.get_rng_state(), before)


class Batched(Dataset):
    """A dataset that fetches many samples at once, as tables on disk do."""

    def __init__(self, data):
        self.data, self.fetched = data, []

    def __len__(self):
        return len(self.data)

    def __getitems__(self, indices):
        self.fetched.append(indices)
        return [self.data[i] for i in indices]


@pytest.mark.parametrize("num_workers", [0, 1])
def test_tensors_are_indexed_to_what_their_samples_are_collated_to(num_workers):
    columns = (
        torch.randn(10, 2, 3).transpose(1, 2),
        torch.arange(10, dtype=torch.int32),
        torch.rand(10) < 0.5,
    )
    data = TensorDataset(*columns)
    loader = DataLoader(data, batch_size=4, num_workers=num_workers)
    batches = list(IndexedData(loader, 1).in_order())
    for (indices, batch), expected in zip(batches, loader, strict=True):
        assert type(batch) is type(expected)
        for column, other, whole in zip(batch, expected, columns, strict=True):
            assert (column.dtype, column.stride()) == (other.dtype, other.stride())
            assert torch.equal(column, other)
            assert torch.equal(column, whole[indices])


def test_sparse_tensors_are_left_to_torchs_own_error():
    data = TensorDataset(torch.eye(3).to_sparse(), torch.arange(3))
    with pytest.raises(RuntimeError, match="sparse"):
        list(IndexedData(data, 3).in_order())


def test_samples_are_fetched_at_once_where_a_dataset_can():
    data = Batched(TensorDataset(torch.arange(10), torch.arange(10) % 3))
    batches = list(IndexedData(data, 4).in_order())
    assert data.fetched == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    for indices, (inputs, _) in batches:
        assert torch.equal(indices, inputs)
