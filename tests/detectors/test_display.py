"""The picture of losses and mixture: what is drawn, and from what."""

import re
import sys

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from sklearn.exceptions import NotFittedError
from sklearn.mixture import GaussianMixture

from lossnoise import BetaMixtureNoiseDetector, LossHistogram, LossMixtureDisplay
from lossnoise.exceptions import (
    InvalidDataError,
    InvalidParameterError,
    LossNoiseError,
    MissingExtraError,
    NoSeparableNoiseWarning,
)


def two_groups():
    rng = np.random.default_rng(0)
    return np.concatenate([rng.gamma(1.0, 0.2, 700), rng.normal(4.0, 0.8, 300)])


def lines(axes):
    return {line.get_label(): line.get_xydata() for line in axes.get_lines()}


@pytest.fixture
def display():
    losses = two_groups()
    return LossMixtureDisplay.from_estimator(BetaMixtureNoiseDetector().fit(losses), losses)


def test_axes_say_what_they_show(display):
    assert display.ax_.get_xlabel() == "loss"
    assert display.ax_.get_ylabel() == "density"
    assert display.proba_ax_.get_ylabel() == "P(label wrong)"
    assert display.figure_ is display.ax_.figure
    legend = [text.get_text() for text in display.proba_ax_.get_legend().get_texts()]
    assert {"losses", "fit: right labels", "fit: wrong labels", "P(label wrong)"} <= set(legend)


def test_the_components_add_up_to_the_mixture(display):
    losses = two_groups()
    detector = BetaMixtureNoiseDetector().fit(losses)
    drawn = lines(display.ax_)
    right, wrong = drawn["fit: right labels"], drawn["fit: wrong labels"]
    assert right[0, 0] == losses.min()
    assert right[-1, 0] == losses.max()
    density = np.exp(detector.score_samples(right[:, 0]))
    np.testing.assert_allclose(right[:, 1] + wrong[:, 1], density, rtol=1e-10)
    curve = lines(display.proba_ax_)["P(label wrong)"]
    np.testing.assert_allclose(curve[:, 1], detector.predict_proba(curve[:, 0])[:, 1], rtol=1e-12)


def test_the_cut_is_where_the_probability_passes_one_half(display):
    detector = BetaMixtureNoiseDetector().fit(two_groups())
    (label,) = [name for name in lines(display.proba_ax_) if name.startswith("P = 0.5 at ")]
    cut = lines(display.proba_ax_)[label][0, 0]
    assert label == f"P = 0.5 at {cut:.3g}"
    assert cut == pytest.approx(detector.threshold_, rel=1e-6)


@pytest.mark.parametrize("proba", [np.full(1000, 0.2), np.full(1000, 0.9)])
def test_no_cut_where_there_is_nothing_to_cut(proba):
    display = LossMixtureDisplay.from_predictions(two_groups(), proba)
    assert list(lines(display.proba_ax_)) == ["P(label wrong)"]


def test_a_history_is_drawn_as_its_mean():
    history = two_groups()[:, None] + np.linspace(0.0, 0.1, 8)
    detector = BetaMixtureNoiseDetector().fit(history)
    display = LossMixtureDisplay.from_estimator(detector, history)
    np.testing.assert_allclose(display.losses, history.mean(axis=1))


@pytest.mark.parametrize("convert", [np.asarray, list, torch.tensor])
def test_from_predictions_draws_sorted_losses_and_no_components(convert):
    losses = two_groups()
    proba = (losses > 2.0) * 0.8 + 0.1
    display = LossMixtureDisplay.from_predictions(convert(losses), convert(proba))
    assert lines(display.ax_) == {}
    curve = lines(display.proba_ax_)["P(label wrong)"]
    np.testing.assert_array_equal(curve[:, 0], np.sort(losses))
    np.testing.assert_array_equal(curve[:, 1] > 0.5, np.sort(losses) > 2.0)


def test_draws_where_it_is_told_to():
    _, axes = plt.subplots()
    losses = two_groups()
    display = LossMixtureDisplay.from_predictions(losses, losses > 2.0, bins=7, ax=axes)
    assert display.ax_ is axes
    assert len(axes.patches) == 7
    assert sum(bar.get_height() * bar.get_width() for bar in axes.patches) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("losses", "proba", "shapes"),
    [
        ([1.0, 2.0], [0.5], "(2,) and (1,)"),
        ([], [], "(0,) and (0,)"),
        ([[1.0], [2.0]], [[0.5], [0.5]], "(2, 1) and (2, 1)"),
    ],
)
def test_predictions_that_do_not_fit_together(losses, proba, shapes):
    message = (
        "The 'losses' and 'noise_proba' parameters of LossMixtureDisplay.from_predictions must be "
        f"vectors of one length. Got shapes {shapes} instead."
    )
    with pytest.raises(InvalidDataError, match=f"^{re.escape(message)}$"):
        LossMixtureDisplay.from_predictions(losses, proba)


def test_the_detector_must_be_fitted():
    with pytest.raises(NotFittedError, match="not fitted yet"):
        LossMixtureDisplay.from_estimator(BetaMixtureNoiseDetector(), two_groups())


def test_without_matplotlib_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    message = (
        "LossMixtureDisplay needs matplotlib, which is not installed: pip install 'lossnoise[plot]'"
    )
    with pytest.raises(MissingExtraError, match=f"^{re.escape(message)}$"):
        LossMixtureDisplay.from_predictions([1.0, 2.0], [0.1, 0.9])
    monkeypatch.undo()  # before figures are closed


def test_a_broken_matplotlib_is_not_said_to_be_missing(monkeypatch, tmp_path):
    (tmp_path / "matplotlib").mkdir()
    (tmp_path / "matplotlib" / "__init__.py").touch()
    (tmp_path / "matplotlib" / "pyplot.py").write_text("import no_such_module")
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    message = (
        "LossMixtureDisplay needs matplotlib, which cannot be imported (No module named "
        "'no_such_module'): pip install 'lossnoise[plot]'"
    )
    with pytest.raises(MissingExtraError, match=f"^{re.escape(message)}$"):
        LossMixtureDisplay.from_predictions([1.0, 2.0], [0.1, 0.9])
    monkeypatch.undo()  # before figures are closed


def test_the_heap_at_zero_is_cut_off_where_it_hides_the_rest():
    rng = np.random.default_rng(0)
    losses = np.concatenate([rng.gamma(0.3, 0.05, 950), rng.normal(8.0, 1.0, 50)])
    display = LossMixtureDisplay.from_estimator(BetaMixtureNoiseDetector().fit(losses), losses)
    heights = np.array([bar.get_height() for bar in display.ax_.patches])
    top = display.ax_.get_ylim()[1]
    assert heights[8:].max() < top < heights.max() / 2.0
    assert [text.get_text() for text in display.ax_.texts] == [
        f"tallest bar reaches {heights.max():.3g}"
    ]


def test_losses_of_one_population_are_called_so():
    losses = np.random.default_rng(0).exponential(1.0, 500)
    with pytest.warns(NoSeparableNoiseWarning):
        detector = BetaMixtureNoiseDetector().fit(losses)
    display = LossMixtureDisplay.from_estimator(detector, losses)
    assert display.ax_.get_title() == "cannot tell right from wrong labels from these losses"


@pytest.mark.parametrize(
    ("losses", "proba", "message"),
    [
        ([1.0, np.nan], [0.1, 0.9], "'losses' parameter of {} must be finite. Got nan in row 1"),
        ([1.0, 2.0], [5.0, 0.9], "'noise_proba' parameter of {} must be {}. Got 5 in row 0"),
        ([1.0, 2.0], [0.5, -3.0], "'noise_proba' parameter of {} must be {}. Got -3 in row 1"),
        ([1.0, 2.0], [0.5, np.nan], "'noise_proba' parameter of {} must be {}. Got nan in row 1"),
        (
            ["a"],
            [0.1],
            "'losses' parameter of {} must be a vector of numbers. Got an array of dtype <U1",
        ),
    ],
)
def test_what_cannot_be_drawn_is_refused(losses, proba, message):
    owner = "LossMixtureDisplay.from_predictions"
    with pytest.raises(InvalidDataError) as caught:
        LossMixtureDisplay.from_predictions(losses, proba)
    expected = message.format(owner, "probabilities in [0, 1]")
    assert str(caught.value) == f"The {expected} instead."


def test_axes_must_be_one():
    losses = np.linspace(0.0, 3.0, 40)
    for ax in (plt.figure(), np.array([1, 2])):
        message = (
            "The 'ax' parameter of LossMixtureDisplay.plot must be one Axes or None. Got "
            f"{type(ax)} instead."
        )
        with pytest.raises(InvalidParameterError, match=f"^{re.escape(message)}$"):
            LossMixtureDisplay.from_predictions(losses, losses > 2.0, ax=ax)


def test_a_logarithmic_axis_of_ones_own_keeps_its_scale():
    figure, ax = plt.subplots()
    ax.set_yscale("log")
    LossMixtureDisplay.from_estimator(
        BetaMixtureNoiseDetector().fit(two_groups()), two_groups(), ax=ax
    )
    low, high = ax.get_ylim()
    assert 1e-5 < low < high < 1e3
    plt.close(figure)


def test_counted_losses_give_the_same_picture():
    losses = two_groups()
    detector, histogram = BetaMixtureNoiseDetector().fit(losses), LossHistogram().fill(losses)
    plain = LossMixtureDisplay.from_estimator(detector, losses, bins=20)
    counted = LossMixtureDisplay.from_estimator(detector, histogram, bins=20)
    assert counted.counts.sum() == len(losses)
    heights = [[bar.get_height() for bar in shown.ax_.patches] for shown in (plain, counted)]
    assert np.abs(np.subtract(*heights)).max() < 0.05 * max(heights[0])
    curves = [lines(shown.proba_ax_)["P(label wrong)"] for shown in (plain, counted)]
    assert curves[0][-1] == pytest.approx(curves[1][-1], rel=0.01)


@pytest.mark.parametrize(
    ("detector", "losses", "bins", "message"),
    [
        (
            GaussianMixture(),
            two_groups(),
            9,
            "'detector' parameter of .* must be a detector of lossnoise",
        ),
        (None, LossHistogram(), 9, r"a histogram of losses\. Got an empty one instead"),
        (
            None,
            LossHistogram().fill(-two_groups()),
            9,
            r"'X' parameter of .* must be of cross-entropy losses, which are at least 0\. Got -",
        ),
        (
            None,
            two_groups(),
            0,
            r"'bins' parameter of LossMixtureDisplay.plot must be an int in the r",
        ),
    ],
    ids=["another mixture", "an empty histogram", "negative losses", "no bars"],
)
def test_what_cannot_be_drawn_from_an_estimator(detector, losses, bins, message):
    detector = detector or BetaMixtureNoiseDetector().fit(two_groups())
    with pytest.raises(LossNoiseError, match=message):
        LossMixtureDisplay.from_estimator(detector, losses, bins=bins)
