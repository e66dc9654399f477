"""Open-set noise: an exact share of foreign inputs, each once, under labels that stay."""

import pickle
import random
import re
from collections import UserDict, namedtuple

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from lossnoise import NoisyLabelTrainer
from lossnoise.data import replace_inputs
from lossnoise.exceptions import InvalidDataError, InvalidParameterError

Pair = namedtuple("Pair", ["image", "label"])


def numbered(n, first=0):
    """Return a dataset whose inputs are numbers of their own, from `first`."""
    return TensorDataset(torch.arange(first, first + n), torch.arange(n) % 3)


@given(
    n=st.integers(0, 40),
    more=st.integers(0, 5),
    rate=st.floats(0.0, 1.0),
    seed=st.integers(0, 2**32),
)
def test_an_exact_share_is_replaced_each_foreign_row_once(n, more, rate, seed):
    dataset, foreign = numbered(n), numbered(round(rate * n) + more, first=1000)
    noisy, replaced = replace_inputs(dataset, foreign, rate, seed)
    assert len(noisy) == len(replaced) == n
    assert replaced.dtype == bool
    assert replaced.sum() == round(rate * n)
    inputs = [int(noisy[i][0]) for i in range(n)]
    assert [int(noisy[i][1]) for i in range(n)] == [int(label) for _, label in dataset]
    assert [value >= 1000 for value in inputs] == replaced.tolist()
    assert [v for v, r in zip(inputs, replaced, strict=True) if not r] == np.flatnonzero(
        ~replaced
    ).tolist()
    assert len(set(inputs)) == n
    again, _ = replace_inputs(dataset, foreign, rate, seed)
    assert [int(again[i][0]) for i in range(n)] == inputs


def test_rows_and_foreign_rows_are_drawn_uniformly():
    rng = np.random.default_rng(0)
    rows, foreign = np.zeros(10), np.zeros(8)
    for _ in range(3000):
        noisy, replaced = replace_inputs(numbered(10), numbered(8, first=1000), 0.5, rng)
        rows += replaced
        for row in np.flatnonzero(replaced):
            foreign[int(noisy[row][0]) - 1000] += 1
    assert stats.chisquare(rows).pvalue > 0.01
    assert stats.chisquare(foreign).pvalue > 0.01


def test_the_datasets_stay_as_they_are_and_nothing_is_read():
    class Silent(Dataset):
        def __len__(self):
            return 5

        def __getitem__(self, index):
            raise AssertionError("read")

    noisy, replaced = replace_inputs(Silent(), Silent(), 0.4, 0)
    assert len(noisy) == 5
    assert replaced.sum() == 2


# -- samples of every kind --------------------------------------------------------------------

IMAGE, OTHER = torch.zeros(2), torch.ones(2)


@pytest.mark.parametrize(
    ("sample", "other", "expected"),
    [
        ((IMAGE, 7), (OTHER, 9), (OTHER, 7)),
        ((IMAGE, 7), (OTHER,), (OTHER, 7)),
        ((IMAGE, 7), OTHER, (OTHER, 7)),
        ((IMAGE, 7), OTHER.numpy(), (OTHER, 7)),
        ((IMAGE.numpy(), 7), OTHER.numpy(), (OTHER.numpy(), 7)),
        ((IMAGE, 7), "a picture", ("a picture", 7)),
        ([IMAGE, 7], (OTHER, 9), [OTHER, 7]),
        (Pair(IMAGE, 7), [OTHER, 9], Pair(OTHER, 7)),
        (((IMAGE, IMAGE), 7), ((OTHER, OTHER), 9), ((OTHER, OTHER), 7)),
        (((IMAGE, IMAGE), 7), (OTHER, OTHER), ((OTHER, OTHER), 7)),
        (([1, 2], 7), [8, 9], ([8, 9], 7)),
        (([1, 2], 7), ([8, 9], 5), ([8, 9], 7)),
        (([1, 2], 7), (OTHER, 5), (OTHER, 7)),
        ({"x": IMAGE, "label": 7}, {"x": OTHER, "label": 9}, {"x": OTHER, "label": 7}),
        ({"x": IMAGE, "y": 7}, {"x": OTHER, "more": 1}, {"x": OTHER, "y": 7}),
        ({"a": 0, "b": 1, "targets": 7}, UserDict(a=2, b=3), {"a": 2, "b": 3, "targets": 7}),
        (UserDict(a=0, labels=7), {"a": 2, "labels": 9}, {"a": 2, "labels": 7}),
    ],
)
def test_the_input_is_foreign_and_the_label_stays(sample, other, expected):
    noisy, replaced = replace_inputs([sample], [other], 1.0)
    assert replaced.all()
    assert type(noisy[0]) is type(expected)
    assert str(noisy[0]) == str(expected)
    untouched, _ = replace_inputs([sample], [other], 0.0)
    assert untouched[0] is sample


@pytest.mark.parametrize(
    "foreign",
    [torch.ones(6, 2), np.ones((6, 2), np.float32), list(torch.ones(6, 2))],
    ids=lambda foreign: type(foreign).__name__,
)
def test_foreign_inputs_alone(foreign):
    noisy, replaced = replace_inputs(
        TensorDataset(torch.zeros(10, 2), torch.arange(10)), foreign, 0.6
    )
    for row in range(10):
        image, label = noisy[row]
        assert torch.as_tensor(image).tolist() == [float(replaced[row])] * 2
        assert label == row


def test_foreign_arrays_are_collated_with_tensors():
    noisy, replaced = replace_inputs(
        TensorDataset(torch.zeros(10, 2), torch.arange(10)), np.ones((6, 2), np.float32), 0.5, 0
    )
    assert not replaced[0]  # collating goes by the first
    ((inputs, _),) = DataLoader(noisy, batch_size=10)
    assert inputs.dtype == torch.float32
    assert inputs[:, 0].tolist() == replaced.astype(float).tolist()


def test_positions_from_the_end_and_beyond():
    noisy, replaced = replace_inputs(numbered(4), numbered(4, first=1000), 1.0, 0)
    assert replaced.all()
    assert noisy[-1] == noisy[3]
    with pytest.raises(IndexError):
        noisy[4]
    assert len(list(noisy)) == 4


# -- inside loaders and the trainer -----------------------------------------------------------


def test_pickled_for_workers_in_other_processes():
    noisy, replaced = replace_inputs(numbered(20), numbered(20, first=1000), 0.5, 0)
    copy = pickle.loads(pickle.dumps(noisy))
    assert [copy[i] for i in range(20)] == [noisy[i] for i in range(20)]
    loader = DataLoader(noisy, batch_size=8, num_workers=1)
    inputs = torch.cat([batch for batch, _ in loader])
    assert (inputs >= 1000).tolist() == replaced.tolist()


def test_the_trainer_takes_the_view():
    torch.manual_seed(0)
    labels = torch.arange(60) % 2
    dataset = TensorDataset(torch.randn(60, 3) + 6.0 * labels[:, None], labels)
    noisy, replaced = replace_inputs(dataset, torch.randn(30, 3) + 3.0, 0.2, 0)
    net = torch.nn.Linear(3, 2)
    trainer = NoisyLabelTrainer(
        net, correction="cross-entropy", epochs=6, batch_size=20, device="cpu", random_state=0
    )
    losses = trainer.fit(noisy).losses_
    assert losses[replaced].mean() > losses[~replaced].mean()


def test_global_state_is_never_touched():
    def states():
        return torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002

    before = states()
    replace_inputs(numbered(5), numbered(5), 0.5)[0][0]
    assert states() == before


# -- errors, in full --------------------------------------------------------------------------

PARAMETER = "The '{}' parameter of replace_inputs must be {}. Got {} instead."
INDEXED = "a map-style dataset or a sequence of samples"


class Stream(IterableDataset):
    def __iter__(self):
        yield 0


class Endless(Dataset):
    def __getitem__(self, index):
        return index


@pytest.mark.parametrize(
    ("options", "name", "expected", "got"),
    [
        ({"rate": 1.5}, "rate", "a float in the range [0.0, 1.0]", "1.5"),
        ({"random_state": -1}, "random_state", "an int in the range [0, inf)", "-1"),
        ({"dataset": Stream()}, "dataset", INDEXED, str(Stream)),
        ({"dataset": None}, "dataset", INDEXED, "<class 'NoneType'>"),
        ({"foreign": iter([1])}, "foreign", INDEXED, "<class 'list_iterator'>"),
        ({"foreign": {"x": OTHER}}, "foreign", INDEXED, "<class 'dict'>"),
    ],
)
def test_a_wrong_parameter_is_named(options, name, expected, got):
    arguments = {"dataset": numbered(4), "foreign": numbered(4), "rate": 0.5, **options}
    text = PARAMETER.format(name, expected, got)
    with pytest.raises(InvalidParameterError, match=f"^{re.escape(text)}$"):
        replace_inputs(**arguments)


@pytest.mark.parametrize(
    ("foreign", "expected", "got"),
    [
        (Endless(), "of a known length", "an object of type Endless without one"),
        (numbered(1), "at least 2 samples long, of which each is used once", "1"),
    ],
)
def test_an_unusable_dataset_is_named(foreign, expected, got):
    with pytest.raises(InvalidDataError) as caught:
        replace_inputs(numbered(4), foreign, 0.5)
    assert str(caught.value) == PARAMETER.format("foreign", expected, got)


KINDS = (
    "The datasets of replace_inputs must yield pairs (input, label), or both of them dicts; "
    "'foreign' may yield inputs alone. Got {}, to be replaced by {}, instead."
)
TYPES = PARAMETER.format("foreign", "of inputs of type {}, as those of 'dataset' are", "{}")
SHAPES = PARAMETER.format("foreign", "of inputs of shape {}, as those of 'dataset' are", "{}")
ENTRIES = PARAMETER.format("foreign", "of dicts with the entries 'a', 'b'", "one without 'b'")


@pytest.mark.parametrize(
    ("sample", "other", "text"),
    [
        ((IMAGE, 7), {"x": OTHER}, KINDS.format("a tuple of 2", "a dict of 1")),
        ({"x": IMAGE, "y": 7}, OTHER, KINDS.format("a dict of 2", "a Tensor")),
        ((IMAGE, 7), (OTHER, 9, 8), KINDS.format("a tuple of 2", "a tuple of 3")),
        ((IMAGE, 7, 8), (OTHER, 9, 8), KINDS.format("a tuple of 3", "a tuple of 3")),
        (IMAGE, OTHER, KINDS.format("a Tensor", "a Tensor")),
        ({"a": 0, "b": 1, "y": 7}, {"a": 2, "y": 3}, ENTRIES),
        ((IMAGE, 7), OTHER[None], SHAPES.format(tuple(IMAGE.shape), (1, *IMAGE.shape))),
        ((torch.zeros(2), 7), [7.0, 8.0], SHAPES.format((2,), ())),  # no input and label
        ((IMAGE, 7), OTHER.byte(), TYPES.format("torch.float32", "torch.uint8")),
        ((IMAGE, 7), (OTHER.double().numpy(), 9), TYPES.format("torch.float32", "torch.float64")),
        (
            {"x": IMAGE.numpy(), "y": 7},
            {"x": OTHER.double().numpy()},
            TYPES.format("float32", "float64"),
        ),
    ],
)
def test_samples_that_do_not_fit_are_named(sample, other, text):
    noisy, _ = replace_inputs([sample], [other], 1.0)
    with pytest.raises(InvalidDataError) as caught:
        noisy[0]
    assert str(caught.value) == text
