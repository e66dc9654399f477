"""Clean sets: what is taken, how it is read and drawn from, and that it is never copied."""

import copy
import pickle
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from lossnoise import NoisyLabelTrainer
from lossnoise.corrections import LearningToReweight, MentorNetDD
from lossnoise.corrections._clean import CleanSamples, forward_without_trace
from lossnoise.exceptions import InvalidDataError, InvalidParameterError, SmallClassWarning

INPUTS = 10.0 * torch.arange(7.0)[:, None] + torch.arange(2.0)
LABELS = torch.arange(7) % 3
GIVEN = (LABELS + 1) % 3


def read(data, num_classes=3):
    return CleanSamples("LearningToReweight", data, num_classes)


@pytest.fixture
def context(make_context):
    def make(seed=0, **given):
        engine = SimpleNamespace(to_device=lambda inputs: inputs)
        return make_context(seed, engine=engine, **given)

    return make


class Batched(Dataset):
    """A dataset that makes whole batches by itself."""

    def __len__(self):
        return 7

    def __getitem__(self, index):
        raise AssertionError("asked for one sample")


class ByMany(Batched):
    def __getitems__(self, indices):
        return [(INPUTS[i], int(LABELS[i])) for i in indices]


class ByBatch(Batched):
    def batch_at(self, indices):
        return INPUTS[list(indices)], LABELS[list(indices)].to(torch.int32)


PAIRS = list(zip(INPUTS, LABELS.tolist(), strict=True))
DICTS = [{"x": x, "label": y} for x, y in PAIRS]


@pytest.mark.parametrize(
    "data",
    [
        TensorDataset(INPUTS, LABELS),
        PAIRS,
        DICTS,
        [{"x": x, "clean_labels": y} for x, y in PAIRS],
        [((x, 2 * x), y) for x, y in PAIRS],
        ByMany(),
        ByBatch(),
        DataLoader(TensorDataset(INPUTS, LABELS), batch_size=2),
    ],
)
def test_sets_with_true_labels(data, context):
    samples = read(data)
    assert samples.labels.tolist() == LABELS.tolist()
    assert samples.given is None
    batch = samples.draw(5, context())
    assert batch.given is None
    assert batch.labels.dtype == torch.int64
    inputs = batch.inputs
    inputs = inputs["x"] if isinstance(inputs, dict) else inputs
    inputs = inputs[0] if isinstance(inputs, (tuple, list)) else inputs
    rows = (inputs[:, 0] / 10.0).long()
    assert len(set(rows.tolist())) == 5
    assert torch.equal(batch.labels, LABELS[rows])


@pytest.mark.parametrize(
    "data",
    [
        TensorDataset(INPUTS, GIVEN, LABELS),
        [(*pair, y) for pair, y in zip(zip(INPUTS, GIVEN, strict=True), LABELS, strict=True)],
        [
            {"x": x, "label": g, "clean_labels": y}
            for x, g, y in zip(INPUTS, GIVEN, LABELS, strict=True)
        ],
    ],
)
def test_sets_with_given_labels_beside_the_true_ones(data, context):
    samples = read(data)
    assert samples.labels.tolist() == LABELS.tolist()
    assert samples.given.tolist() == GIVEN.tolist()
    batch = samples.draw(4, context())
    assert torch.equal(batch.given, (batch.labels + 1) % 3)


def test_a_loader_gives_its_collate_function(context):
    def pad(samples):
        longest = max(len(text) for text, _ in samples)
        texts = torch.zeros(len(samples), longest)
        for row, (text, _) in zip(texts, samples, strict=True):
            row[: len(text)] = torch.tensor(text)
        return texts, torch.tensor([label for _, label in samples])

    texts = [([1.0] * n, n % 2) for n in range(1, 9)]
    samples = read(DataLoader(texts, batch_size=2, collate_fn=pad), num_classes=2)
    batch = samples.draw(8, context())
    assert batch.inputs.shape == (8, 8)
    assert torch.equal(batch.inputs.sum(dim=1) % 2, batch.labels.float())


def test_labels_are_read_in_pieces(monkeypatch):
    monkeypatch.setattr("lossnoise.corrections._clean.CHUNK", 3)
    samples = read(TensorDataset(INPUTS, GIVEN, LABELS))
    assert samples.labels.tolist() == LABELS.tolist()
    assert samples.given.tolist() == GIVEN.tolist()


def test_draws_are_those_of_the_generator_of_the_run(context):
    """There is no other state: a run that is resumed with the generator's goes on with the same."""
    samples, run = read(PAIRS), context(seed=4)
    for _ in range(3):
        samples.draw(3, run)
    resumed = context(seed=0)
    resumed.rng.bit_generator.state = run.rng.bit_generator.state
    for _ in range(3):
        first, second = (read(PAIRS).draw(3, c) for c in (run, resumed))
        assert torch.equal(first.inputs, second.inputs)


def test_draws_are_even_and_without_repetition(context):
    samples, run = read(PAIRS), context()
    drawn = torch.stack([samples.draw(3, run).inputs[:, 0] / 10.0 for _ in range(700)]).long()
    assert all(len(set(row)) == 3 for row in drawn.tolist())
    counts = torch.bincount(drawn.flatten(), minlength=7)
    assert (counts - 300.0).abs().max() < 60.0
    assert samples.draw(64, run).inputs.shape == (7, 2)  # all there are


def test_each_process_draws_its_own_and_all_stay_in_step(context):
    samples, runs = read(PAIRS), [context(shard=(rank, 2)) for rank in (0, 1)]
    pairs = [[samples.draw(3, run).inputs for run in runs] for _ in range(5)]
    assert not all(torch.equal(*pair) for pair in pairs)
    states = [run.rng.bit_generator.state for run in runs]
    assert states[0] == states[1]


@pytest.mark.parametrize(
    ("batch_size", "sizes"), [(2, [3, 2, 2]), (3, [4, 3]), (4, [7]), (1, [3, 2, 2]), (64, [7])]
)
def test_batches_in_order_are_never_of_one_sample(context, batch_size, sizes):
    order = np.array([3, 1, 0, 2, 6, 5, 4])
    given = GIVEN.numpy()
    batches = list(read(PAIRS).batches(order, given, context(batch_size=batch_size)))
    assert [len(batch.labels) for batch in batches] == sizes
    assert torch.equal(torch.cat([b.given for b in batches]), GIVEN[order])
    assert torch.equal(torch.cat([b.inputs for b in batches]), INPUTS[order])


# -- what is refused ------------------------------------------------------------------------------


class Stream(IterableDataset):
    def __len__(self):
        return 7

    def __iter__(self):
        return iter(PAIRS)


@pytest.mark.parametrize("data", [Stream(), INPUTS, INPUTS.numpy(), 3, iter(PAIRS)])
def test_what_is_no_dataset_is_refused(data):
    message = (
        "The 'clean_set' parameter of LearningToReweight must be a map-style dataset of (input, "
        "true label), or a DataLoader of one: LearningToReweight(clean_set=TensorDataset(inputs, "
        f"clean_labels)). Got {type(data)} instead."
    )
    with pytest.raises(InvalidParameterError, match=f"^{re.escape(message)}$"):
        read(data)


def test_one_sample_is_too_few():
    message = (
        "The 'clean_set' parameter of LearningToReweight must be a dataset of at least 2 samples. "
        "Got 1 instead."
    )
    with pytest.raises(InvalidDataError, match=f"^{re.escape(message)}$"):
        read(PAIRS[:1])


@pytest.mark.parametrize(
    ("labels", "advice"),
    [
        (LABELS + 1, "labels begin at 0, and the model needs an output for each class."),
        (
            LABELS - 1,
            "samples without a label (ignore_index) are to be left out of the dataset, such as by "
            "torch.utils.data.Subset.",
        ),
    ],
)
def test_labels_out_of_range(labels, advice):
    bad = int(((labels < 0) | (labels > 2)).nonzero()[0])
    message = (
        "The labels of LearningToReweight's clean_set must be in the range [0, 3), as the model "
        f"has 3 outputs. Got {int(labels[bad])} at sample {bad} instead: {advice}"
    )
    for data in (TensorDataset(INPUTS, labels), TensorDataset(INPUTS, labels, LABELS)):
        with pytest.raises(InvalidDataError, match=f"^{re.escape(message)}$"):
            read(data)


def test_labels_that_are_no_integers():
    message = "The labels of LearningToReweight's clean_set must be integers. Got torch.float32 "
    with pytest.raises(InvalidDataError, match=f"^{re.escape(message)}"):
        read(TensorDataset(INPUTS, LABELS.float()))


@pytest.mark.parametrize("data", [TensorDataset(INPUTS), [{"x": x} for x in INPUTS]])
def test_samples_without_a_label(data):
    message = "The 'clean_set' of LearningToReweight must yield pairs (input, label), or dicts with"
    with pytest.raises(InvalidDataError, match=f"^{re.escape(message)}"):
        read(data)


def test_samples_that_do_not_collate():
    """Such as texts of different lengths, for which the training set has a loader that pads."""
    message = (
        "The 'clean_set' parameter of LearningToReweight must be a dataset whose samples collate, "
        "or a DataLoader with a function that does it. Got samples like a tuple that do not "
        "instead: stack expects each tensor to be equal size"
    )
    with pytest.raises(InvalidDataError, match=f"^{re.escape(message)}"):
        read([(torch.ones(2 + n), n % 3) for n in range(4)])


class TakesPoints(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.head = torch.nn.Linear(2, 3)

    def forward(self, points):
        return self.head(points)


@pytest.mark.parametrize("method", [LearningToReweight, MentorNetDD])
@pytest.mark.parametrize(
    ("inputs", "shown"),
    [
        (torch.ones(7, 5), "(2, 5) of torch.float32"),
        (INPUTS.double(), "(2, 2) of torch.float64"),
        ([{"points": x, "more": x} for x in INPUTS], "(2, 2) of torch.float32, (2, 2) of"),
    ],
)
def test_inputs_that_the_model_does_not_take_are_named_before_the_first_batch(
    method, inputs, shown, make_data
):
    message = (
        f"The 'clean_set' parameter of {method.__name__} must be a dataset of inputs that the "
        f"model takes, as those of the training set are. Got a batch of {shown}"
    )
    pairs = [(x, int(y)) for x, y in zip(inputs, LABELS, strict=True)]
    data = [x | {"label": y} for x, y in pairs] if isinstance(inputs, list) else pairs
    net = TakesPoints()
    before = net.head.weight.detach().clone()
    trainer = NoisyLabelTrainer(net, correction=method(clean_set=data), epochs=3, device="cpu")
    with pytest.raises(InvalidDataError, match=f"^{re.escape(message)}"):
        trainer.fit(make_data())
    assert torch.equal(net.head.weight, before)


# -- the correction that holds it -----------------------------------------------------------------


def test_the_set_is_shown_by_its_type_and_length_and_not_copied():
    for data, shown in ((TensorDataset(INPUTS, LABELS), "TensorDataset"), (PAIRS, "list")):
        correction = LearningToReweight(clean_set=data)
        text = f"LearningToReweight(clean_set=<{shown} of 7 samples>, clean_batch_size=None)"
        assert repr(correction) == text
        loader = LearningToReweight(clean_set=DataLoader(data))
        assert repr(loader) == text
        copied = copy.deepcopy({"a": correction, "b": correction})
        assert copied["a"] is copied["b"] is not correction
        assert copied["a"].clean_set is data
        assert clone(correction).clean_set is data
        loader._samples = read(loader.clean_set)  # as after a run
        assert copy.deepcopy(loader)._samples._dataset is data
        assert len(pickle.loads(pickle.dumps(correction)).clean_set) == 7


@pytest.mark.parametrize("training", [True, False])
def test_a_forward_pass_without_trace(make_net, training):
    net = make_net().train(training)
    state = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    inputs = torch.randn(6, 2)
    found = forward_without_trace(net, inputs)
    assert all(torch.equal(tensor, state[name]) for name, tensor in net.state_dict().items())
    zero = {name: torch.zeros_like(p) for name, p in net.named_parameters()}
    assert torch.equal(forward_without_trace(net, inputs, zero), torch.zeros(6, 3))
    assert torch.equal(found, net(inputs))


@pytest.mark.parametrize(
    ("num_classes", "missing"),
    [(4, "1 of 4 classes (3)"), (20, "17 of 20 classes (3, 4, 5, 6, 7, 8, 9, 10, 11, 12, ...)")],
)
def test_classes_without_a_clean_sample_are_told(num_classes, missing):
    message = (
        f"The clean_set of LearningToReweight has no sample of {missing}: what is learnt from it "
        "is to leave them out. Add some of each."
    )
    with pytest.warns(SmallClassWarning, match=f"^{re.escape(message)}$"):
        read(TensorDataset(INPUTS, LABELS), num_classes)
