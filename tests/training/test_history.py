"""The picture of losses over the epochs: what is drawn, from what, and where."""

import re
import sys
import warnings

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError

from lossnoise import LossHistoryDisplay
from lossnoise.exceptions import InvalidDataError, InvalidParameterError, MissingExtraError

NAN = np.nan


class FittedTrainer(BaseEstimator):
    """What the display reads of a trainer."""

    def __init__(self, loss_history=None, noise_proba=None):
        if loss_history is not None:
            self.loss_history_ = loss_history
            self.noise_proba_ = noise_proba

    def fit(self):
        """Be an estimator."""


def exactly(message):
    return f"^{re.escape(message)}$"


def run(n=101, epochs=7, seed=0):
    """Losses of a run, and which of its labels are wrong."""
    rng = np.random.default_rng(seed)
    changed = rng.random(n) < 0.4
    losses = rng.gamma(2.0, 1.0, (n, epochs)) + 3.0 * changed[:, None]
    return losses.astype(np.float32), changed


def curves(axes):
    """Return the named lines, by the first word of their label."""
    lines = {line.get_label(): line.get_xydata() for line in axes.get_lines()}
    return {name: data for name, data in lines.items() if not name.startswith("_")}


def legend(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_medians_are_drawn_with_quartiles_around_them():
    losses, changed = run()
    display = LossHistoryDisplay.from_history(losses, changed)
    drawn = curves(display.ax_)
    bands = display.ax_.collections[::2]  # the others are of epochs that stand alone
    for mask, name, band in ((changed, "wrong", bands[0]), (~changed, "right", bands[1])):
        data = drawn[f"{name} labels (n = {mask.sum()})"]
        np.testing.assert_array_equal(data[:, 0], np.arange(1, 8))
        np.testing.assert_allclose(data[:, 1], np.median(losses[mask], axis=0), rtol=1e-6)
        corners = band.get_paths()[0].vertices
        lower, upper = np.quantile(losses[mask].astype(float), [0.25, 0.75], axis=0)
        for epoch in (1, 4, 7):
            heights = corners[corners[:, 0] == epoch, 1]
            assert heights.min() == pytest.approx(lower[epoch - 1], rel=1e-6)
            assert heights.max() == pytest.approx(upper[epoch - 1], rel=1e-6)
        np.testing.assert_allclose(display.quartiles_[""][name][[0, 2]], [lower, upper], rtol=1e-6)


def test_axes_say_what_they_show():
    losses, changed = run()
    display = LossHistoryDisplay.from_history(losses, changed)
    assert (display.ax_.get_xlabel(), display.ax_.get_ylabel()) == ("epoch", "loss")
    assert display.ax_.get_title() == ""
    assert display.figure_ is display.ax_.figure
    assert display.axes_.tolist() == [display.ax_]
    wrong = changed.sum()
    assert legend(display.ax_) == [
        f"wrong labels (n = {wrong})",
        f"right labels (n = {101 - wrong})",
    ]
    assert display.ax_.get_legend().get_title().get_text() == ""
    assert display.ax_.get_ylim()[0] == 0.0
    right, wrong = (display.ax_.get_lines()[i] for i in (3, 1))
    assert right.get_linestyle() != wrong.get_linestyle()  # told apart in print


@pytest.mark.parametrize("convert", [np.asarray, lambda x: torch.tensor(np.asarray(x)), list])
def test_without_the_truth_the_probability_decides(convert):
    losses, changed = run()
    proba = np.where(changed, 0.51, 0.5)
    display = LossHistoryDisplay.from_history(convert(losses), noise_proba=convert(proba))
    assert not display.by_truth
    np.testing.assert_array_equal(display.wrong[""], changed)
    assert display.ax_.get_legend().get_title().get_text() == "P(label wrong)"
    count = changed.sum()
    assert legend(display.ax_) == [f"> 0.5 (n = {count})", f"≤ 0.5 (n = {101 - count})"]


def test_the_truth_goes_before_the_probability():
    losses, changed = run()
    display = LossHistoryDisplay.from_history(losses, changed, noise_proba=np.zeros(101))
    assert display.by_truth
    np.testing.assert_array_equal(display.wrong[""], changed)


def test_a_trainer_gives_its_losses_and_probabilities():
    losses, changed = run()
    trainer = FittedTrainer(losses, 1.0 - changed)
    by_proba = LossHistoryDisplay.from_trainer(trainer)
    np.testing.assert_array_equal(by_proba.wrong[""], ~changed)
    by_truth = LossHistoryDisplay.from_trainer(trainer, torch.from_numpy(changed))
    np.testing.assert_array_equal(by_truth.wrong[""], changed)
    np.testing.assert_array_equal(by_truth.loss_histories[""], losses)


def test_the_trainer_must_be_fitted():
    with pytest.raises(NotFittedError, match="FittedTrainer instance is not fitted yet"):
        LossHistoryDisplay.from_trainer({"plain": FittedTrainer()})


# -- several runs ---------------------------------------------------------------------------------


def test_runs_stand_side_by_side_on_one_scale_that_shows_them_all():
    losses, changed = run()
    display = LossHistoryDisplay.from_trainer(
        {"low": FittedTrainer(losses), "high": FittedTrainer(10.0 * losses)}, changed
    )
    low, high = display.axes_
    assert display.ax_ is low
    assert [axes.get_title() for axes in display.axes_] == ["low", "high"]
    assert low.get_ylim() == high.get_ylim()
    assert low.get_ylim()[1] > display.quartiles_["high"]["wrong"].max()
    assert (low.get_ylabel(), high.get_ylabel()) == ("loss", "")
    assert [axes.get_legend() is None for axes in display.axes_] == [False, True]


def test_each_run_has_its_own_probabilities_and_legend():
    losses, changed = run()
    probas = {"a": changed * 1.0, "b": np.arange(101) / 100.0}
    display = LossHistoryDisplay.from_history({"a": losses, "b": losses}, noise_proba=probas)
    assert legend(display.axes_[0])[0] == f"> 0.5 (n = {changed.sum()})"
    assert legend(display.axes_[1])[0] == "> 0.5 (n = 50)"


def test_one_vector_of_probabilities_serves_for_all_runs():
    losses, changed = run()
    display = LossHistoryDisplay.from_history({"a": losses, "b": losses}, noise_proba=changed * 1.0)
    np.testing.assert_array_equal(display.wrong["b"], changed)


def test_draws_where_it_is_told_to():
    losses, changed = run()
    figure, ((left, right), _) = plt.subplots(2, 2)
    display = LossHistoryDisplay.from_history(losses, changed, ax=right)
    assert display.ax_ is right
    assert display.figure_ is figure
    assert right.get_ylabel() == "loss"  # an axes of the caller's keeps its labels
    again = LossHistoryDisplay.from_history({"a": losses, "b": losses}, changed, ax=[left, right])
    assert again.axes_.tolist() == [left, right]
    assert plt.get_fignums() == [figure.number]


@pytest.mark.parametrize(("count", "got"), [(1, 1), (3, 3)])
def test_one_axes_a_panel(count, got):
    losses, changed = run()
    axes = plt.subplots(1, count)[1]
    message = (
        "The 'ax' parameter of LossHistoryDisplay.plot must be 2 Axes, one a panel. "
        f"Got {got} instead."
    )
    with pytest.raises(InvalidDataError, match=exactly(message)):
        LossHistoryDisplay.from_history({"a": losses, "b": losses}, changed, ax=axes)


# -- what is not there ----------------------------------------------------------------------------


def test_epochs_without_losses_leave_a_gap():
    losses, changed = run(epochs=8)
    losses[:, [2, 3, 5]] = NAN
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        display = LossHistoryDisplay.from_history(losses, changed)
        display.figure_.canvas.draw()
    for data in curves(display.ax_).values():
        assert np.flatnonzero(np.isnan(data[:, 1])).tolist() == [2, 3, 5]


def test_an_epoch_between_gaps_is_a_point_and_a_bar():
    losses, changed = run(epochs=8)
    losses[:, [2, 3, 5]] = NAN
    display = LossHistoryDisplay.from_history(losses, changed)
    alone = [line for line in display.ax_.get_lines() if line.get_label().startswith("_")]
    bars = display.ax_.collections[1::2]
    for line, bar, name in zip(alone, bars, ("wrong", "right"), strict=True):
        lower, median, upper = display.quartiles_[""][name][:, 4]
        np.testing.assert_array_equal(line.get_xydata(), [[5, median]])
        assert line.get_marker() == "o"
        (segment,) = bar.get_segments()
        np.testing.assert_array_equal(segment, [[5, lower], [5, upper]])


def test_samples_that_were_not_seen_are_left_out():
    losses = np.array([[1.0, 5.0], [2.0, NAN], [3.0, 7.0], [9.0, 9.0]])
    changed = np.array([False, False, False, True])
    display = LossHistoryDisplay.from_history(losses, changed)
    np.testing.assert_array_equal(display.quartiles_[""]["right"], [[1.5, 5.5], [2, 6], [2.5, 6.5]])


@pytest.mark.parametrize(("share", "name"), [(False, "right"), (True, "wrong")])
def test_a_group_without_samples_is_not_drawn(share, name):
    losses, _ = run()
    display = LossHistoryDisplay.from_history(losses, np.full(101, share))
    assert legend(display.ax_) == [f"{name} labels (n = 101)"]
    assert display.ax_.get_ylim()[0] == 0.0


def test_negative_losses_are_not_cut_off():
    losses, changed = run()
    display = LossHistoryDisplay.from_history(losses - 100.0, changed)
    assert display.ax_.get_ylim()[0] < -97.0


def test_epochs_are_counted_in_whole_numbers():
    losses, changed = run(epochs=2)
    display = LossHistoryDisplay.from_history(losses, changed)
    display.figure_.canvas.draw()
    ticks = display.ax_.get_xticks()
    np.testing.assert_array_equal(ticks, np.round(ticks))


def test_plot_draws_again():
    losses, changed = run()
    display = LossHistoryDisplay.from_history(losses, changed)
    first = display.ax_
    assert display.plot() is display
    assert display.ax_ is not first
    assert curves(display.ax_).keys() == curves(first).keys()


# -- errors ---------------------------------------------------------------------------------------

HISTORY, CHANGED = run()
INFINITE = np.where(np.eye(101, 7) > 0, np.inf, HISTORY)
BAD = {
    "vector": (
        (HISTORY[:, 0], CHANGED),
        "The 'loss_history' parameter of LossHistoryDisplay.from_history must be losses of shape "
        "(n_samples, n_epochs). Got an array of shape (101,) and dtype float32 instead.",
    ),
    "words": (
        ([["low"]], [True]),
        "The 'loss_history' parameter of LossHistoryDisplay.from_history must be losses of shape "
        "(n_samples, n_epochs). Got an array of shape (1, 1) and dtype <U3 instead.",
    ),
    "infinite": (
        (INFINITE, CHANGED),
        "The 'loss_history' parameter of LossHistoryDisplay.from_history must be finite, or NaN "
        "for not seen. Got inf in row 0 instead.",
    ),
    "nothing known": (
        (np.full((3, 2), NAN), [True] * 3),
        "The 'loss_history' parameter of LossHistoryDisplay.from_history must be losses of at "
        "least one epoch. Got none instead.",
    ),
    "no epochs": (
        (np.zeros((3, 0)), [True] * 3),
        "The 'loss_history' parameter of LossHistoryDisplay.from_history must be losses of at "
        "least one epoch. Got none instead.",
    ),
    "no histories": (
        ({}, CHANGED),
        "The 'loss_history' parameter of LossHistoryDisplay.from_history must be at least one "
        "history. Got none instead.",
    ),
    "indices of the changed": (
        (HISTORY, np.flatnonzero(CHANGED)[:3]),
        "The 'changed' parameter of LossHistoryDisplay.from_history must be one bool for each of "
        "the 101 samples. Got an array of shape (3,) and dtype int64 instead: positions of "
        "samples become one by np.isin(np.arange(101), positions).",
    ),
    "labels": (
        (HISTORY, np.zeros(101, dtype=np.int64)),
        "The 'changed' parameter of LossHistoryDisplay.from_history must be one bool for each of "
        "the 101 samples. Got an array of shape (101,) and dtype int64 instead: flags of 0 "
        "and 1 become bools by .astype(bool).",
    ),
    "too few probabilities": (
        (HISTORY, None, np.zeros(100)),
        "The 'noise_proba' parameter of LossHistoryDisplay.from_history must be one number for "
        "each of the 101 samples. Got an array of shape (100,) and dtype float64 instead.",
    ),
    "no probabilities": (
        (HISTORY, None, np.where(CHANGED, NAN, 0.5)),
        "The 'noise_proba' parameter of LossHistoryDisplay.from_history must be probabilities in "
        f"[0, 1]. Got nan in row {np.flatnonzero(CHANGED)[0]} instead.",
    ),
}


@pytest.mark.parametrize(("given", "message"), BAD.values(), ids=BAD)
def test_data_that_cannot_be_drawn(given, message):
    with pytest.raises(InvalidDataError, match=exactly(message)):
        LossHistoryDisplay.from_history(*given)


@pytest.mark.parametrize(
    ("histories", "probas", "more", "got"),
    [
        (HISTORY, None, "", "None"),
        ({"a": HISTORY}, {"b": CHANGED}, ", for each title of 'loss_history'", "['b']"),
    ],
)
def test_something_must_tell_right_from_wrong(histories, probas, more, got):
    message = (
        "The 'noise_proba' parameter of LossHistoryDisplay.from_history must be P(label wrong) of "
        f"each sample where 'changed' is not given{more}. Got {got} instead."
    )
    with pytest.raises(InvalidParameterError, match=exactly(message)):
        LossHistoryDisplay.from_history(histories, noise_proba=probas)


def test_without_matplotlib_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    message = (
        "LossHistoryDisplay needs matplotlib, which is not installed: pip install 'lossnoise[plot]'"
    )
    with pytest.raises(MissingExtraError, match=exactly(message)):
        LossHistoryDisplay.from_history(HISTORY, CHANGED)
    monkeypatch.undo()  # before figures are closed


@pytest.mark.parametrize("several", [False, True])
def test_a_run_that_recorded_no_losses_is_named(build, make_data, several):
    mixed = build(correction="mixup").fit(make_data())
    shown = {"plain": build(correction="dyr-h").fit(make_data()), "mixed": mixed}
    got = "one by 'mixup' for 'mixed'" if several else "one by 'mixup'"
    message = (
        "The 'trainer' parameter of LossHistoryDisplay.from_trainer must be a trainer whose run "
        f"recorded losses in its epochs. Got {got}, which keeps none instead: its method saw no "
        "unmixed samples, or handed none over."
    )
    with pytest.raises(InvalidDataError, match=f"^{re.escape(message)}$"):
        LossHistoryDisplay.from_trainer(shown if several else mixed)


@pytest.mark.parametrize(
    ("changed", "advice"),
    [
        (np.arange(101) % 2, ": flags of 0 and 1 become bools by .astype(bool)."),
        (np.full(101, 0.5), "."),
        (np.zeros((101, 1), dtype=np.int64), "."),
    ],
)
def test_how_to_make_a_mask(changed, advice):
    message = f"Got an array of shape {changed.shape} and dtype {changed.dtype} instead{advice}"
    with pytest.raises(InvalidDataError, match=f"{re.escape(message)}$"):
        LossHistoryDisplay.from_history(run()[0], changed)
