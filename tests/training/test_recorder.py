"""Losses of a foreign loop: where they go, when an epoch ends, and what is refused."""

import copy
import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lossnoise import BetaMixtureNoiseDetector, LossRecorder
from lossnoise.exceptions import (
    InvalidDataError,
    InvalidParameterError,
    LayoutWarning,
    NonFiniteLossError,
)

ROOT = Path(__file__).parents[2]
NAN = np.nan


def exactly(message):
    return f"^{re.escape(message)}$"


def three_epochs():
    """Samples 0 and 1 are seen in each epoch, 2 in the first, 3 in the last, 4 never."""
    recorder = LossRecorder(5)
    recorder.update([0, 1, 2], [1.0, 2.0, 3.0], epoch=1)
    recorder.update([1, 0], [4.0, 3.0], epoch=2)
    recorder.update([3, 0, 1], [-7.0, 8.0, 9.0], epoch=3)
    return recorder


HISTORY = [[1, 3, 8], [2, 4, 9], [3, NAN, NAN], [NAN, NAN, -7], [NAN, NAN, NAN]]


def test_each_loss_is_in_the_row_of_its_sample_and_the_column_of_its_epoch():
    recorder = three_epochs()
    np.testing.assert_array_equal(recorder.loss_history_, np.array(HISTORY, dtype=np.float32))
    assert recorder.loss_history_.dtype == recorder.losses_.dtype == np.float32
    np.testing.assert_array_equal(recorder.losses_, np.float32([8, 9, 3, -7, NAN]))
    assert recorder.epoch_ == 3


def test_before_the_first_batch_there_is_nothing():
    recorder = LossRecorder(3)
    assert recorder.epoch_ == 0
    assert recorder.loss_history_.shape == (3, 0)
    assert np.isnan(recorder.losses_).all()


def test_a_sample_seen_again_begins_an_epoch_and_takes_its_whole_batch_along():
    recorder = LossRecorder(4)
    recorder.update([0, 1], [1.0, 1.0])
    recorder.update([2], [1.0])
    recorder.update([3, 0], [2.0, 2.0])
    recorder.update([1], [2.0])
    recorder.update([], [])
    expected = [[1, 2], [1, 2], [1, NAN], [NAN, 2]]
    np.testing.assert_array_equal(recorder.loss_history_, np.float32(expected))


def test_a_given_epoch_stays_when_a_sample_comes_again():
    recorder = LossRecorder(2)
    recorder.update([0, 1], [1.0, 1.0], epoch=1)
    recorder.update([0], [5.0], epoch=1)
    np.testing.assert_array_equal(recorder.loss_history_, np.float32([[5], [1]]))


def test_epochs_that_are_passed_over_stay_nan():
    recorder = LossRecorder(2)
    recorder.update([0], [1.0], epoch=3)
    recorder.update([0], [2.0])
    assert recorder.epoch_ == 4
    expected = [[NAN, NAN, 1, 2], [NAN, NAN, NAN, NAN]]
    np.testing.assert_array_equal(recorder.loss_history_, np.float32(expected))


def test_of_a_sample_twice_in_a_batch_the_last_loss_counts():
    recorder = LossRecorder(2)
    recorder.update([1, 1], [1.0, 2.0])
    np.testing.assert_array_equal(recorder.losses_, np.float32([NAN, 2]))
    assert recorder.epoch_ == 1


@pytest.mark.parametrize(
    "convert",
    [
        list,
        np.float64,
        lambda x: np.asarray(x, dtype=np.float16),
        lambda x: torch.tensor(x, requires_grad=True),
        lambda x: torch.tensor(x, dtype=torch.bfloat16),
    ],
    ids=["list", "float64", "float16", "with gradient", "bfloat16"],
)
@pytest.mark.parametrize("index", [list, np.int32, np.uint8, torch.tensor])
def test_losses_and_indices_may_be_of_any_kind(convert, index):
    recorder = LossRecorder(4)
    recorder.update(index([3, 1]), convert([0.5, 2.0]))
    np.testing.assert_array_equal(recorder.losses_, np.float32([NAN, 2.0, NAN, 0.5]))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_losses_may_be_on_a_device():
    recorder = LossRecorder(3)
    recorder.update(
        torch.tensor([2, 0], device="cuda"),
        torch.tensor([0.5, 2.0], device="cuda", dtype=torch.bfloat16, requires_grad=True),
    )
    np.testing.assert_array_equal(recorder.losses_, np.float32([2.0, NAN, 0.5]))


def test_whole_epochs_are_recorded_like_batches():
    by_epoch, by_batch = LossRecorder(3), LossRecorder(3)
    for epoch, losses in ((1, [1.0, 2.0, 3.0]), (4, [4.0, 5.0, 6.0])):
        by_epoch.record_epoch(torch.tensor(losses), epoch=epoch)
        by_batch.update(np.arange(3), losses, epoch=epoch)
    np.testing.assert_array_equal(by_epoch.loss_history_, by_batch.loss_history_)
    np.testing.assert_array_equal(by_epoch.losses_, by_batch.losses_)
    by_epoch.record_epoch([0.0, 0.0, 0.0])
    assert by_epoch.epoch_ == 5


# -- one loss a sample ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("last", "expected"),
    [(None, [4, 5, 3, -7]), (1, [8, 9, 3, -7]), (2, [5.5, 6.5, 3, -7]), (9, [4, 5, 3, -7])],
)
def test_reduce_averages_the_last_epochs_in_which_a_sample_was_seen(last, expected):
    recorder = three_epochs()
    recorder.update([4], [0.0], epoch=3)
    reduced = recorder.reduce(last)
    np.testing.assert_array_equal(reduced, [*expected, 0.0])
    assert reduced.dtype == np.float64


@pytest.mark.filterwarnings("ignore::lossnoise.exceptions.LayoutWarning")  # of drawn equal losses
@given(st.data())
def test_reduce_is_the_mean_of_what_was_seen(data):
    n = data.draw(st.integers(1, 6))
    recorder = LossRecorder(n)
    seen = [[] for _ in range(n)]
    for epoch in range(1, data.draw(st.integers(1, 20)) + 1):
        rows = data.draw(st.lists(st.integers(0, n - 1), unique=True))
        losses = [float(data.draw(st.integers(-100, 100))) for _ in rows]
        recorder.update(rows, losses, epoch=epoch)
        for row, loss in zip(rows, losses, strict=True):
            seen[row].append(loss)
    recorder.update(range(n), [1.0] * n, epoch=recorder.epoch_ + 1)
    last = data.draw(st.none() | st.integers(1, 25))
    expected = [np.mean([*losses, 1.0][-(last or 99) :]) for losses in seen]
    np.testing.assert_allclose(recorder.reduce(last), expected, rtol=1e-12, atol=1e-12)


def test_reduce_names_samples_that_were_never_seen():
    recorder = LossRecorder(9)
    recorder.update([1, 7], [1.0, 1.0])
    message = (
        "LossRecorder.reduce needs a loss of each of the 9 samples. 7 were never seen; the first "
        "are samples [0, 2, 3, 4, 5]. A pass over the samples whose losses go to record_epoch has "
        "them all, as in eval mode."
    )
    with pytest.raises(InvalidDataError, match=exactly(message)):
        recorder.reduce()


def test_means_over_batches_are_told_once():
    recorder = LossRecorder(40)
    message = (
        "LossRecorder.update got 4 equal losses (0.6) for a batch, not for the first time, as a "
        "mean over the batch is: that says little about a single label. Losses of single samples "
        "are torch's with reduction='none'."
    )
    recorder.update(np.arange(4), np.full(4, 0.5))
    second = torch.tensor(0.6).expand(4)
    with pytest.warns(LayoutWarning, match=exactly(message)) as warned:
        recorder.update(np.arange(4, 8), second)
    recorder.update(np.arange(8, 12), np.full(4, 0.7))
    assert [w.filename for w in warned] == [__file__]


def test_equal_losses_that_are_no_means():
    recorder = LossRecorder(40)
    for epoch, loss in enumerate([np.log(2.0), np.log(2.0), 0.0, 1e-6], start=1):
        recorder.update(np.arange(4), np.full(4, loss), epoch)  # untrained, then memorised
    recorder.update([5, 6], [0.4, 0.4])


def test_a_detector_takes_what_comes_out():
    rng = np.random.default_rng(0)
    wrong = np.arange(400) < 120
    recorder = LossRecorder(400)
    for _ in range(4):
        order = rng.permutation(400)
        losses = np.where(wrong, rng.normal(4.0, 0.5, 400), rng.gamma(1.0, 0.2, 400))
        for rows in np.split(order, 8):
            recorder.update(rows, losses[rows])
    for data in (recorder.loss_history_, recorder.reduce(2), recorder.losses_):
        detector = BetaMixtureNoiseDetector().fit(data)
        assert ((detector.predict_proba(data)[:, 1] > 0.5) == wrong).mean() > 0.95


# -- memory and state -----------------------------------------------------------------------------


def test_growing_moves_each_loss_about_once():
    """A new table for every epoch would allocate 200 of them."""
    recorder, tables = LossRecorder(2), []  # a list: `id` of a table that is gone may come again
    for epoch in range(1, 201):
        recorder.record_epoch([epoch, -epoch])
        if not any(recorder._table is table for table in tables):
            tables.append(recorder._table)
    assert len(tables) <= 6
    np.testing.assert_array_equal(recorder.loss_history_[0], np.arange(1.0, 201.0))
    assert sum(len(table) for table in tables[:-1]) <= len(tables[-1])


def test_what_is_shown_cannot_be_written_to():
    recorder = three_epochs()
    for shown in (recorder.loss_history_, recorder.losses_):
        with pytest.raises(ValueError, match="read-only"):
            shown[0] = 0.0
    recorder.update([0], [1.5])  # the views did not lock the recorder itself
    assert recorder.losses_[0] == 1.5


@pytest.mark.parametrize("recorder", [LossRecorder(5), three_epochs()], ids=["new", "used"])
def test_state_goes_through_a_file_that_is_read_as_data(recorder, tmp_path):
    recorder = copy.deepcopy(recorder)
    torch.save(recorder.state_dict(), tmp_path / "state.pt")
    other = LossRecorder(5)
    other.update([4], [99.0], epoch=7)
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    for one in (recorder, other):
        one.update([2, 4], [0.5, 0.25])
        one.update([2], [0.75])
    assert recorder.epoch_ == other.epoch_
    np.testing.assert_array_equal(recorder.loss_history_, other.loss_history_)
    np.testing.assert_array_equal(recorder.losses_, other.losses_)


def test_a_state_is_a_copy_in_both_directions():
    recorder, other = three_epochs(), LossRecorder(5)
    state = recorder.state_dict()
    recorder.update([0], [99.0], epoch=3)
    other.load_state_dict(state)
    assert other.losses_[0] == 8.0
    other.update([1], [77.0], epoch=3)
    assert state["loss_history"][1, 2] == 9.0


def test_a_pickle_holds_the_epochs_and_not_the_room_for_more():
    recorder = LossRecorder(1000)
    recorder.record_epoch(np.ones(1000))
    data = pickle.dumps(recorder)
    assert len(data) < 2.5 * 4 * 1000
    copied = pickle.loads(data)
    copied.record_epoch(np.zeros(1000))
    np.testing.assert_array_equal(copied.loss_history_[5], [1.0, 0.0])
    assert recorder.epoch_ == 1


def test_recording_never_imports_torch():
    code = (
        "import sys\n"
        "from lossnoise import LossHistoryDisplay, LossRecorder\n"
        "recorder = LossRecorder(2)\n"
        "recorder.update([0, 1], [0.5, 1.0])\n"
        "recorder.reduce(last=1)\n"
        "print('torch' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"


# -- errors: the whole text, and nothing recorded -------------------------------------------------

BAD_BATCHES = {
    "beyond the last": (
        ([0, 5], [1.0, 1.0]),
        "The 'indices' parameter of LossRecorder.update must be integers in the range [0, 5). "
        "Got 5 instead.",
    ),
    "negative": (
        ([-1], [1.0]),
        "The 'indices' parameter of LossRecorder.update must be integers in the range [0, 5). "
        "Got -1 instead.",
    ),
    "fractions": (
        ([0.0, 1.0], [1.0, 1.0]),
        "The 'indices' parameter of LossRecorder.update must be a vector of integers. "
        "Got an array of shape (2,) and dtype float64 instead.",
    ),
    "mask": (
        ([True, False, True, True, True], [1.0] * 5),
        "The 'indices' parameter of LossRecorder.update must be a vector of integers. "
        "Got an array of shape (5,) and dtype bool instead.",
    ),
    "one index": (
        (3, 1.0),
        "The 'indices' parameter of LossRecorder.update must be a vector of integers. "
        "Got an array of shape () and dtype int64 instead.",
    ),
    "too few losses": (
        ([0, 1, 2], [1.0, 2.0]),
        "The 'losses' parameter of LossRecorder.update must be a vector of 3 numbers, one a "
        "sample. Got an array of shape (2,) and dtype float64 instead.",
    ),
    "column": (
        ([0, 1], [[1.0], [2.0]]),
        "The 'losses' parameter of LossRecorder.update must be a vector of 2 numbers, one a "
        "sample. Got an array of shape (2, 1) and dtype float64 instead.",
    ),
    "averaged": (
        ([0, 1], torch.tensor(1.5)),
        "The 'losses' parameter of LossRecorder.update must be a vector of 2 numbers, one a "
        "sample. Got an array of shape () and dtype float32 instead: torch's losses are one a "
        "sample with reduction='none'.",
    ),
    "words": (
        ([0], ["high"]),
        "The 'losses' parameter of LossRecorder.update must be a vector of 1 numbers, one a "
        "sample. Got an array of shape (1,) and dtype <U4 instead.",
    ),
    "back in time": (
        ([0], [1.0], 2),
        "The 'epoch' parameter of LossRecorder.update must be 3, the present epoch, or a later "
        "one. Got 2 instead.",
    ),
}


@pytest.mark.parametrize(("batch", "message"), BAD_BATCHES.values(), ids=BAD_BATCHES)
def test_batches_that_cannot_be_used(batch, message):
    recorder = three_epochs()
    with pytest.raises(InvalidDataError, match=exactly(message)):
        recorder.update(*batch)
    np.testing.assert_array_equal(recorder.loss_history_, np.float32(HISTORY))


@pytest.mark.parametrize(
    ("bad", "shown"), [(NAN, "nan"), (np.inf, "inf"), (-np.inf, "-inf"), (1e300, "1e+300")]
)
def test_losses_that_are_not_finite_name_their_sample(bad, shown):
    recorder = three_epochs()
    message = (
        "The 'losses' parameter of LossRecorder.update must be finite in float32. Got "
        f"{shown} for sample 4 instead (2 of 3 losses are not finite)."
    )
    with pytest.raises(NonFiniteLossError, match=exactly(message)):
        recorder.update([0, 4, 2], [1.0, bad, bad])
    np.testing.assert_array_equal(recorder.loss_history_, np.float32(HISTORY))


def test_an_epoch_must_be_whole_and_finite():
    recorder = three_epochs()
    message = (
        "The 'losses' parameter of LossRecorder.record_epoch must be a vector of 5 numbers, one a "
        "sample. Got an array of shape (4,) and dtype float64 instead."
    )
    with pytest.raises(InvalidDataError, match=exactly(message)):
        recorder.record_epoch([1.0] * 4)
    message = (
        "The 'losses' parameter of LossRecorder.record_epoch must be finite in float32. Got "
        "nan for sample 3 instead (1 of 5 losses are not finite)."
    )
    with pytest.raises(NonFiniteLossError, match=exactly(message)):
        recorder.record_epoch([1.0, 1.0, 1.0, NAN, 1.0])
    message = (
        "The 'epoch' parameter of LossRecorder.record_epoch must be 3, the present epoch, or a "
        "later one. Got 1 instead."
    )
    with pytest.raises(InvalidDataError, match=exactly(message)):
        recorder.record_epoch([1.0] * 5, epoch=1)
    np.testing.assert_array_equal(recorder.loss_history_, np.float32(HISTORY))


@pytest.mark.parametrize(
    ("call", "owner", "name", "minimum", "got"),
    [
        (lambda r: LossRecorder(0), "LossRecorder", "n", 1, "0"),
        (lambda r: LossRecorder(2.0), "LossRecorder", "n", 1, "2.0"),
        (lambda r: r.update([0], [1.0], epoch=0), "LossRecorder.update", "epoch", 1, "0"),
        (lambda r: r.update([0], [1.0], epoch=True), "LossRecorder.update", "epoch", 1, "True"),
        (lambda r: r.reduce(last=0), "LossRecorder.reduce", "last", 1, "0"),
    ],
)
def test_numbers_that_are_not_allowed(call, owner, name, minimum, got):
    message = (
        f"The '{name}' parameter of {owner} must be an int in the range [{minimum}, inf). "
        f"Got {got} instead."
    )
    with pytest.raises(InvalidParameterError, match=exactly(message)):
        call(LossRecorder(3))


def test_a_state_of_another_number_of_samples():
    message = (
        "The 'state' parameter of LossRecorder.load_state_dict must be that of a recorder of 6 "
        "samples. Got one of 5 samples instead."
    )
    with pytest.raises(InvalidDataError, match=exactly(message)):
        LossRecorder(6).load_state_dict(three_epochs().state_dict())


def test_an_empty_batch_begins_no_epoch():
    recorder = LossRecorder(3)
    recorder.update([], [])
    assert recorder.epoch_ == 0
    recorder.update([], [], epoch=2)
    assert np.isnan(recorder.loss_history_).all()
    assert recorder.loss_history_.shape == (3, 2)


@pytest.mark.parametrize(
    ("state", "got"),
    [
        ({}, "an empty one"),
        ({"loss_history": torch.zeros(3)}, "one with the entries 'loss_history'"),
    ],
    ids=["empty", "flat"],
)
def test_a_state_of_something_else_is_told(state, got):
    message = (
        "The 'state' parameter of LossRecorder.load_state_dict must be what state_dict returned. "
        f"Got {got} instead."
    )
    with pytest.raises(InvalidDataError, match=exactly(message)):
        LossRecorder(3).load_state_dict(state)


def test_a_step_taken_for_an_epoch_is_told():
    recorder = LossRecorder(50_000)
    message = (
        "The 'epoch' parameter of LossRecorder must be the number of an epoch, of which each has a "
        "column in memory. Got 10,000,000,000,000 instead."
    )
    with pytest.raises(InvalidDataError, match=exactly(message)):
        recorder.update([0], [1.0], epoch=10**13)
    assert recorder.epoch_ == 0
