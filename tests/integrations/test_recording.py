"""What the recorders have in common, without any of the frameworks."""

import re
import sys
import warnings
from collections import namedtuple

import numpy as np
import pytest
import torch
from torch.utils.data import IterableDataset, TensorDataset, default_collate

from lossnoise.exceptions import InvalidDataError, MissingExtraError, NonFiniteLossWarning
from lossnoise.integrations import _recording as recording
from lossnoise.integrations._lazy import RECORDERS


@pytest.mark.parametrize("extra", RECORDERS)
def test_a_missing_framework_is_named_with_its_extra(extra, monkeypatch):
    framework, name = RECORDERS[extra]
    monkeypatch.setitem(sys.modules, framework, None)
    message = (
        rf"^{name} needs {framework}, which is not installed: pip install 'lossnoise\[{extra}\]'$"
    )
    with pytest.raises(MissingExtraError, match=message):
        exec(f"from lossnoise.integrations.{extra} import {name}")


@pytest.mark.parametrize("extra", RECORDERS)
def test_public_modules_have_one_name(extra):
    module = sys.modules.get(f"lossnoise.integrations.{extra}") or __import__(
        f"lossnoise.integrations.{extra}", fromlist=["_"]
    )
    assert RECORDERS[extra][1] in dir(module)
    message = rf"^module 'lossnoise.integrations.{extra}' has no attribute 'nothing'$"
    with pytest.raises(AttributeError, match=message):
        _ = module.nothing


class Stream(IterableDataset):
    def __iter__(self):
        return iter([])


def make_log(n=4):
    log = recording.EpochLog("Recorder")
    log.hold(n)
    return log


def test_losses_are_recorded_when_an_epoch_ends():
    log = make_log()
    log.begin(1)
    log.add(torch.tensor([2, 0]), torch.tensor([1.0, 2.0], requires_grad=True))
    log.add(torch.tensor([3]), torch.tensor([3.0], dtype=torch.bfloat16))
    assert log.held().epoch_ == 0
    log.end()
    log.end()  # nothing came since: no further column
    np.testing.assert_array_equal(log.held().loss_history_, [[2.0], [np.nan], [1.0], [3.0]])


def test_a_second_run_goes_on_counting_epochs_and_a_resumed_one_leaves_gaps():
    log = make_log(1)
    for epoch in (1, 1, 5):
        log.begin(epoch)
        log.add(torch.tensor([0]), torch.tensor([float(epoch)]))
        log.end()
    np.testing.assert_array_equal(log.held().loss_history_, [[1, 1, np.nan, np.nan, 5]])


def test_losses_that_are_not_finite_are_left_out_with_a_warning():
    log = make_log()
    log.begin(3)
    log.add(torch.tensor([2, 0, 1]), torch.tensor([1.0, np.nan, np.inf]))
    message = (
        r"^Recorder leaves out 2 losses of epoch 3 that are not finite, the first of sample 0 "
        r"\(nan\): these samples count as not seen in it\. Training may be diverging\.$"
    )
    with pytest.warns(NonFiniteLossWarning, match=message):
        log.end()
    np.testing.assert_array_equal(log.held().losses_, [np.nan, np.nan, 1.0, np.nan])


def per_sample(logits, labels):
    return torch.nn.functional.cross_entropy(logits, labels, reduction="none")


@pytest.mark.parametrize("loss_fn", [None, per_sample])
def test_samples_without_a_class_count_as_not_seen(loss_fn):
    log = make_log()
    log.begin(1)
    logits = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    log.add_output(torch.tensor([3, 0, 1]), logits, torch.tensor([2, -100, 4]), loss_fn)
    log.end()
    expected = torch.nn.functional.cross_entropy(
        logits[[0, 2]], torch.tensor([2, 4]), reduction="none"
    )
    found = log.held().losses_
    np.testing.assert_allclose(found[[3, 1]], expected, rtol=1e-6)
    assert np.isnan(found[[0, 2]]).all()


@pytest.mark.parametrize(
    ("logits", "labels", "got"),
    [
        (torch.zeros(2, 3), torch.zeros(2), r"float32 of shape (2, 3) with float32 of shape (2,)"),
        (
            torch.zeros(2, 5, 3),
            torch.zeros(2, 5, dtype=torch.int64),
            r"float32 of shape (2, 5, 3) with int64 of shape (2, 5)",
        ),
        (
            torch.zeros(2, 3),
            torch.zeros(2, 3, dtype=torch.int64),
            r"float32 of shape (2, 3) with int64 of shape (2, 3)",
        ),
    ],
    ids=["weights", "tokens", "several"],
)
def test_what_has_no_cross_entropy_of_one_class_needs_a_loss_fn(logits, labels, got):
    message = (
        "Without a loss_fn Recorder records the cross-entropy of logits (batch, num_classes) with "
        f"class numbers (batch,). Got {got} instead: give the recorder loss_fn=..., a function of "
        "the two that returns one loss a sample."
    )
    with pytest.raises(InvalidDataError, match=f"^{re.escape(message)}$"):
        make_log().add_output(torch.tensor([0, 1]), logits, labels, None)


def test_an_epoch_without_a_loss_to_keep_has_its_column():
    log = make_log(2)
    for losses in ([1.0, 2.0], [np.nan, np.nan], [3.0, 4.0]):
        log.begin(1)
        log.add(torch.arange(2), torch.tensor(losses))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NonFiniteLossWarning)
            log.end()
    expected = [[1.0, np.nan, 3.0], [2.0, np.nan, 4.0]]
    np.testing.assert_array_equal(log.held().loss_history_, expected)


def sort_by_input(samples):
    return default_collate(sorted(samples, key=lambda sample: -int(next(iter(as_list(sample))))))


def as_list(sample):
    return sample.values() if isinstance(sample, dict) else sample


@pytest.mark.parametrize("as_dict", [False, True])
def test_a_collate_function_that_sorts_or_drops_is_refused(as_dict):
    samples = [(torch.tensor(place), torch.tensor(place > 2).long()) for place in range(4)]
    if as_dict:
        samples = [{"x": x, "label": y} for x, y in samples]
    pairs = [recording.Pair(pair) for pair in enumerate(samples)]
    message = "^The collate function of Owner's loaders must keep the order of the samples"
    with pytest.raises(InvalidDataError, match=message):
        recording.AppendIds(sort_by_input, "Owner")(pairs)
    message = "^The collate function of Owner's loaders must keep every sample. Got 3 of 4 instead"
    with pytest.raises(InvalidDataError, match=message):
        recording.AppendIds(lambda s: default_collate(s[1:]), "Owner")(pairs)


@pytest.mark.parametrize(
    "collate",
    [
        lambda samples: {"x": torch.zeros(4), "y": torch.tensor([s["y"] for s in samples])},
        lambda samples: {"y": torch.tensor([1 - s["y"] for s in samples])},
        lambda samples: {"y": torch.tensor([1.0, torch.inf, 0.0, 0.0])},
        lambda samples: {"targets": torch.arange(10)},
    ],
    ids=["another label too", "relabelled", "infinite", "of many targets"],
)
def test_a_collate_function_that_keeps_the_samples_is_not_refused(collate):
    pairs = [({"label": i % 2, "y": int(i < 2), "targets": torch.arange(2)}) for i in range(4)]
    batch = recording.AppendIds(collate)([recording.Pair(pair) for pair in enumerate(pairs)])
    assert recording.take_ids(batch).tolist() == [0, 1, 2, 3]


def test_a_key_of_the_users_own_stays_what_it_is():
    pairs = [recording.Pair((i, {"sample_id": 10 + i, "label": i})) for i in (2, 0)]
    batch = recording.AppendIds()(pairs)
    assert recording.take_ids(batch).tolist() == [2, 0]
    assert batch["sample_id"].tolist() == [12, 10]


def test_an_epoch_that_was_broken_off_is_not_recorded():
    log = make_log(1)
    log.begin(1)
    log.add(torch.tensor([0]), torch.tensor([1.0]))
    log.begin(1)
    log.end()
    assert log.held().epoch_ == 0


def record(log, losses):
    for sample, loss in losses.items():
        log.add(torch.tensor([sample]), torch.tensor([loss]))


def saved_and_read(log):
    other = recording.EpochLog("Recorder")
    other.load_state_dict(log.state_dict())
    return other


def test_an_epoch_under_way_is_part_of_the_state():
    log = make_log()
    log.begin(1)
    record(log, {0: 1.0, 1: 2.0})
    other = saved_and_read(log)
    assert other.held().epoch_ == log.held().epoch_ == 0
    other.begin(1)
    record(other, {2: 3.0})
    other = saved_and_read(other)  # saved a second time in the same epoch
    other.begin(1)
    record(other, {3: 4.0})
    other.end()
    np.testing.assert_array_equal(other.held().loss_history_, [[1.0], [2.0], [3.0], [4.0]])


def test_an_epoch_saved_after_its_last_batch_is_recorded_when_the_next_begins():
    log = make_log(1)
    log.begin(1)
    record(log, {0: 1.0})
    other = saved_and_read(log)
    other.begin(2)
    record(other, {0: 2.0})
    other.end()
    np.testing.assert_array_equal(other.held().loss_history_, [[1.0, 2.0]])


def test_nothing_recorded_is_no_state():
    assert recording.EpochLog("Recorder").state_dict() == {}


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (
            lambda: make_log().add(torch.tensor([0, 1]), torch.tensor(1.0)),
            r"^The 'loss_fn' parameter of Recorder must be a function that returns one loss a "
            r"sample, shape \(2,\)\. Got losses of shape \(\) instead\.$",
        ),
        (
            lambda: make_log().hold(5),
            r"^The 'dataset' parameter of Recorder must be the one of 4 samples that was recorded "
            r"before\. Got one of 5 samples instead: a new dataset needs a new recorder\.$",
        ),
        (
            lambda: recording.check_dataset("Recorder", Stream()),
            r"^The 'dataset' parameter of Recorder must be map-style, with a length\. Got a "
            r"Stream instead\.$",
        ),
        (
            lambda: recording.labels_of("Recorder", {"x": torch.ones(1)}),
            r"^Recorder finds no labels in the batch: they must be its last item, or an entry "
            r"'labels', 'label', 'targets', 'target', 'y' of a dict\.$",
        ),
        (
            lambda: recording.AppendIds()([recording.Pair((0, torch.ones(2)))]),
            r"^A batch must be a dict, list or tuple, so that the indices of its samples can be "
            r"added\. Got a Tensor instead: change what collate_fn returns\.$",
        ),
    ],
    ids=["one-loss", "other-dataset", "stream", "no-labels", "bare-batch"],
)
def test_what_cannot_be_used_is_named(act, message):
    with pytest.raises(InvalidDataError, match=message):
        act()


def test_ids_are_added_to_batches_and_taken_out_again():
    data = recording.PairDataset(TensorDataset(torch.arange(6) * 10, torch.arange(6)))
    batch = recording.AppendIds()(data.__getitems__([4, 1]))
    assert recording.take_ids(batch).tolist() == [4, 1]
    assert [part.tolist() for part in batch] == [[40, 10], [4, 1]]
    pairs = [recording.Pair((i, {"x": i})) for i in (5, 2)]
    batch = recording.AppendIds()(pairs)
    assert recording.take_ids(batch).tolist() == [5, 2]
    assert list(batch) == ["x"]
    assert recording.take_ids(batch) is None


def test_named_tuples_are_refused_because_their_fields_would_be_lost():
    point = namedtuple("point", ["x", "y"])
    with pytest.raises(InvalidDataError, match=r"Got a point instead"):
        recording.AppendIds()([recording.Pair((0, point(1, 2)))])


class Recorder(recording.RecordsLosses):
    def __init__(self, log):
        self.log_ = log


def test_noise_proba_of_a_batch_is_zero_in_warmup_and_outside_of_training():
    rng = np.random.default_rng(0)
    wrong = np.arange(400) % 4 == 0
    losses = np.where(wrong, rng.gamma(30.0, 0.2, 400), rng.gamma(1.0, 0.1, 400))
    recorder = Recorder(make_log(402))  # two are never seen
    assert recorder.batch_noise_proba(1).shape == ()
    recorder.batch_ids_ = torch.arange(402)
    for epoch in (1, 2):
        assert not recorder.batch_noise_proba(2).any()
        recorder.log_.begin(epoch)
        recorder.log_.add(torch.arange(400), torch.from_numpy(losses))
        recorder.log_.end()
    proba = recorder.batch_noise_proba(2).numpy()
    assert proba[:400][wrong].min() > 0.8
    assert proba[:400][~wrong].max() < 0.2
    assert not proba[400:].any()
    assert recorder.log_.noise_proba() is recorder.log_.noise_proba()  # one fit an epoch


def test_equal_losses_say_that_nothing_is_wrong():
    recorder = Recorder(make_log(8))
    recorder.batch_ids_ = torch.arange(8)
    recorder.log_.begin(1)
    recorder.log_.add(torch.arange(8), torch.ones(8))
    recorder.log_.end()
    assert not recorder.batch_noise_proba(1).any()
