"""Every kind of losses that may come in: a right answer, a named warning, or one clear error."""

import re

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch

from lossnoise import BetaMixtureNoiseDetector, GaussianMixtureNoiseDetector, LossHistogram
from lossnoise.exceptions import (
    InvalidDataError,
    LossNoiseWarning,
    LossScaleWarning,
    NoSeparableNoiseWarning,
)

SCALES = ["cross-entropy", "any"]
RNG = np.random.default_rng(0)
TWO_GROUPS = np.concatenate([RNG.gamma(1.0, 0.2, 700), RNG.normal(4.0, 0.8, 300)])
OWNER = "The 'X' parameter of BetaMixtureNoiseDetector must be "


def exactly(text):
    return f"^{re.escape(text)}$"


# -- what comes in --------------------------------------------------------------------------------


def arrow(losses):
    return pytest.importorskip("pyarrow").array(losses)


def arrow_chunks(losses):
    return pytest.importorskip("pyarrow").chunked_array([losses[:300], losses[300:]])


def memory_mapped(losses, tmp_path):
    np.save(tmp_path / "losses.npy", losses)
    return np.load(tmp_path / "losses.npy", mmap_mode="r")


VECTORS = [
    list,
    tuple,
    lambda x: x[:, None],
    lambda x: x[::-1][::-1],
    lambda x: np.ma.array(x),
    lambda x: x.astype(object),
    pd.Series,
    lambda x: pd.Series(x, dtype="Float64"),
    lambda x: pd.DataFrame({"loss": x}),
    pl.Series,
    lambda x: pl.DataFrame({"loss": x}),
    arrow,
    arrow_chunks,
    torch.tensor,
    lambda x: torch.tensor(x, requires_grad=True),
    lambda x: list(torch.tensor(x, requires_grad=True)),
    lambda x: list(torch.tensor(x[:, None], requires_grad=True)),
]


@pytest.mark.parametrize("convert", VECTORS)
def test_every_kind_of_vector_gives_the_same(convert):
    expected = BetaMixtureNoiseDetector().fit(TWO_GROUPS).predict_proba(TWO_GROUPS)
    losses = convert(TWO_GROUPS)
    got = BetaMixtureNoiseDetector().fit(losses).predict_proba(losses)
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.longdouble, ">f8"])
def test_floats_of_any_width_are_their_values(dtype):
    losses = TWO_GROUPS.astype(dtype)
    expected = BetaMixtureNoiseDetector().fit(losses.astype(np.float64))
    assert BetaMixtureNoiseDetector().fit(losses).noise_rate_ == pytest.approx(
        expected.noise_rate_, abs=1e-6
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_low_precision_tensors_are_their_values(dtype):
    losses = torch.tensor(TWO_GROUPS).to(dtype)
    expected = BetaMixtureNoiseDetector().fit(losses.double().numpy())
    assert BetaMixtureNoiseDetector().fit(losses).noise_rate_ == pytest.approx(
        expected.noise_rate_, abs=1e-6
    )


@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.uint16, np.uint64])
def test_integers_are_losses(dtype):
    losses = (10 * TWO_GROUPS).clip(0, 100).astype(dtype)
    detector = BetaMixtureNoiseDetector(loss_scale="any").fit(losses)
    assert detector.noise_rate_ == pytest.approx(0.3, abs=0.03)


def test_a_memory_mapped_file_stays_where_it_is(tmp_path):
    losses = memory_mapped(np.resize(TWO_GROUPS, 300_000).astype(np.float32), tmp_path)
    detector = BetaMixtureNoiseDetector().fit(losses)
    assert detector.noise_rate_ == pytest.approx(0.3, abs=0.03)
    assert losses.flags.writeable is False


@pytest.mark.parametrize(
    "convert", [np.asarray, pd.DataFrame, pl.DataFrame, torch.tensor, lambda x: x.tolist()]
)
@pytest.mark.parametrize(("reduction", "used"), [(None, 8), (5, 5), (1, 1), (20, 8)])
def test_a_history_is_the_mean_of_its_last_columns(reduction, used, convert):
    history = np.random.default_rng(0).gamma(1.0, 0.3, size=(400, 8))
    history += TWO_GROUPS[500:900, None]
    table = convert(history)
    detector = BetaMixtureNoiseDetector(history_reduction=reduction).fit(table)
    flat = BetaMixtureNoiseDetector().fit(history[:, -used:].mean(axis=1))
    assert detector.n_features_in_ == 8
    assert detector.noise_rate_ == pytest.approx(flat.noise_rate_, rel=1e-9)
    assert detector.predict(table).shape == (400,)


# -- degenerate, and answered ---------------------------------------------------------------------


def with_value(value, count=2):
    losses = TWO_GROUPS.copy()
    losses[3 : 3 + 6 * count : 6] = value
    return losses


DEGENERATE = {
    "constant": np.full(100, 0.7),
    "all zeros": np.zeros(100),
    "all zeros but one": np.append(np.zeros(99), 5.0),
    "memorised": np.random.default_rng(0).gamma(1.0, 1e-6, 300),
    "memorised, and one mistake": np.append(np.random.default_rng(0).gamma(1.0, 1e-6, 300), 9.0),
    "ten losses": np.linspace(0.0, 1.0, 10),
    "the least float": np.append(np.zeros(99), 5e-324),
}


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", DEGENERATE)
def test_losses_that_cannot_tell_give_a_warning_and_no_alarm(name, scale):
    detector = BetaMixtureNoiseDetector(loss_scale=scale)
    with pytest.warns(NoSeparableNoiseWarning) as warned:
        detector.fit(DEGENERATE[name])
    assert str(warned[0].message).startswith("Cannot tell right from wrong labels")
    assert warned[0].filename == __file__
    assert detector.separable_ is False
    assert 0.0 <= detector.noise_rate_ <= 0.03
    proba = detector.predict_proba(DEGENERATE[name])
    assert np.isfinite(proba).all()
    low, high = detector.noise_rate_interval_
    assert 0.0 <= low <= detector.noise_rate_ <= high <= 1.0


@pytest.mark.parametrize("scale", SCALES)
def test_one_loss_of_1e30_changes_nothing(scale):
    plain = BetaMixtureNoiseDetector(loss_scale=scale).fit(TWO_GROUPS)
    detector = BetaMixtureNoiseDetector(loss_scale=scale).fit(np.append(TWO_GROUPS, 1e30))
    assert detector.noise_rate_ == pytest.approx(plain.noise_rate_, abs=0.01)
    assert detector.predict([1e30, 0.0]).tolist() == [1, 0]


@pytest.mark.parametrize("zero", [1e-12, 1e-300])
def test_where_zeros_were_clipped_does_not_matter(zero):
    """A forest gives many wrong labels the probability 0; -log of it depends on who clips it."""
    rng = np.random.default_rng(0)
    votes = np.concatenate([rng.binomial(50, 0.9, 1000), rng.binomial(50, 0.03, 400)])
    wrong = np.arange(1400) >= 1000
    losses = -np.log(np.maximum(votes / 50, zero))
    detector = BetaMixtureNoiseDetector().fit(losses)
    assert detector.noise_rate_ == pytest.approx(wrong.mean(), abs=0.02)
    assert (detector.predict(losses) == wrong).mean() > 0.98


@pytest.mark.parametrize("rate", [0.03, 0.09, 0.18])
def test_few_wrong_labels_never_flag_every_sample(rate):
    rng = np.random.default_rng(0)
    wrong = np.arange(2000) < 2000 * rate
    losses = np.where(wrong, rng.normal(5.0, 1.0, 2000), rng.gamma(0.5, 0.3, 2000))
    assert BetaMixtureNoiseDetector().fit(losses).noise_rate_ == pytest.approx(rate, abs=0.03)


# -- refused --------------------------------------------------------------------------------------

PROBABILITIES = np.random.default_rng(0).dirichlet(np.ones(3), 50)
INFINITE = (
    "finite losses. Got inf in 2 of 1000 rows, first in row 3 instead: -log of a probability of 0 "
    "perhaps, so clip probabilities at 1e-12, or losses at 27.6."
)
REFUSED = [
    (with_value(np.nan), "finite losses. Got NaN in 2 of 1000 rows, first in row 3 instead."),
    (with_value(np.inf), INFINITE),
    (
        with_value(-np.inf),
        "finite losses. Got -inf in 2 of 1000 rows, first in row 3 instead: log of a probability "
        "of 0 perhaps, so clip probabilities at 1e-12, and pass -log.",
    ),
    (
        np.array([*np.linspace(0.0, 60_000.0, 20), np.inf], dtype=np.float16),
        "finite losses. Got inf in 1 of 21 rows, first in row 20 instead: float16 has nothing "
        "above 65504, so compute the losses in float32.",
    ),
    (
        with_value(np.nan)[:, None] + np.zeros(2),
        "finite losses. Got NaN in 2 of 1000 rows, first in row 3 instead: of epochs that did not "
        "see all rows, LossRecorder.reduce() gives the means.",
    ),
    (
        np.ma.array(TWO_GROUPS, mask=np.arange(1000) == 7),
        "finite losses. Got NaN in 1 of 1000 rows, first in row 7 instead.",
    ),
    (
        pd.Series([None, *TWO_GROUPS], dtype="Float64"),
        "finite losses. Got NaN in 1 of 1001 rows, first in row 0 instead.",
    ),
    (
        [None, *TWO_GROUPS.tolist()],
        "finite losses. Got NaN in 1 of 1001 rows, first in row 0 instead.",
    ),
    ([], "at least 10 losses. Got 0 instead."),
    (np.arange(9.0), "at least 10 losses. Got 9 instead."),
    (["low", "high"] * 10, "losses, which are numbers. Got dtype <U4 instead."),
    ([1.0, "high"] * 10, "losses, which are numbers. Got dtype <U32 instead."),
    (
        np.array([1.0, "high"] * 10, dtype=object),
        "losses, which are numbers. Got objects, of type str, instead.",
    ),
    (
        np.array([{}, 1.0] * 10, dtype=object),
        "losses, which are numbers. Got objects, of type dict, float, instead.",
    ),
    (np.arange(20) * 1j, "real losses. Got complex numbers (complex128) instead."),
    (
        np.arange(20).astype("datetime64[s]"),
        "losses, which are numbers. Got dtype datetime64[s] instead.",
    ),
    (
        np.repeat([-1e308, 1e308], 10),
        "losses whose range is finite. Got losses from -1e+308 to 1e+308 instead.",
    ),
    (
        PROBABILITIES,
        "losses of shape (n_samples,), or their history of shape (n_samples, n_epochs). Got 50 "
        "rows of 3 numbers that sum to 1 instead: these look like predicted probabilities. Pass "
        "-log of the probability of each given label, or call lossnoise.audit(labels, "
        "pred_probs=...).",
    ),
]


@pytest.mark.parametrize(("losses", "message"), REFUSED)
def test_losses_that_cannot_be_used(losses, message):
    with pytest.raises(InvalidDataError, match=exactly(OWNER + message)):
        BetaMixtureNoiseDetector(loss_scale="any").fit(losses)


def test_rows_of_two_that_sum_to_one_may_be_a_history():
    with pytest.warns(NoSeparableNoiseWarning):
        BetaMixtureNoiseDetector().fit(np.random.default_rng(0).dirichlet(np.ones(2), 50))


@pytest.mark.parametrize("convert", [np.asarray, lambda x: x[:, None] + np.zeros(2)])
def test_negative_losses_are_no_cross_entropy(convert):
    message = (
        "Negative values in data: the 'X' parameter of BetaMixtureNoiseDetector must be "
        "cross-entropy losses, which are at least 0. Got -0.5 instead: a log-probability needs a "
        "minus sign, and only for another loss, where higher is worse, use loss_scale='any'."
    )
    with pytest.raises(InvalidDataError, match=exactly(message)):
        BetaMixtureNoiseDetector().fit(convert(with_value(-0.5)))
    shifted = convert(TWO_GROUPS - 7.0)
    detector = BetaMixtureNoiseDetector(loss_scale="any").fit(shifted)
    assert detector.noise_rate_ == pytest.approx(0.3, abs=0.03)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("convert", [np.asarray, lambda x: x[:, None] + np.zeros(2, x.dtype)])
def test_cross_entropies_that_rounding_put_below_0_are_0(convert, dtype):
    probabilities = np.append(np.ones(20), np.exp(-TWO_GROUPS)).astype(dtype)
    rounded = -np.log(probabilities + dtype(1e-12 if dtype == np.float64 else 2e-7))
    assert rounded.min() < 0.0
    given, clipped = convert(rounded), convert(rounded.clip(0.0))
    detector = BetaMixtureNoiseDetector().fit(given)
    plain = BetaMixtureNoiseDetector().fit(clipped)
    np.testing.assert_array_equal(detector.predict_proba(given), plain.predict_proba(clipped))
    np.testing.assert_array_equal(detector.score_samples(given), plain.score_samples(clipped))
    stream = BetaMixtureNoiseDetector().partial_fit(given)
    assert stream.noise_rate_ == pytest.approx(plain.noise_rate_, abs=0.01)
    np.testing.assert_array_equal(given, convert(rounded))  # not changed where they are
    with pytest.raises(InvalidDataError, match="Got -2e-06 instead"):
        BetaMixtureNoiseDetector().fit(convert(np.append(rounded, dtype(-2e-6))))


@pytest.mark.parametrize(
    ("losses", "error", "message"),
    [
        (np.zeros((10, 2, 2)), InvalidDataError, "Found array with dim 3"),
        (
            np.zeros((9, 2)),
            InvalidDataError,
            "Found array with 9 sample.* a minimum of 10 is required",
        ),
    ],
)
def test_tables_that_scikit_learn_refuses(losses, error, message):
    with pytest.raises(error, match=message):
        BetaMixtureNoiseDetector().fit(losses)


@pytest.mark.parametrize("number", [3.0, np.float32(3.0), np.array(3.0)])
def test_a_number_is_no_vector(number):
    expected = f"a vector of losses, one a sample. Got {number!r} instead."
    with pytest.raises(InvalidDataError, match=exactly(OWNER + expected)):
        BetaMixtureNoiseDetector().fit(number)


# -- losses that are hardly cross-entropy in nats --------------------------------------------------


PROBABILITIES = np.append(np.exp(-TWO_GROUPS), 1.0)  # of the given labels


def test_many_losses_a_little_above_1_are_no_probabilities():
    """They share the bin that begins at 1."""
    rng = np.random.default_rng(0)
    losses = rng.beta(4.0, 1.0, 150_000)
    losses[0] = 0.0
    with pytest.warns(LossNoiseWarning) as warned:
        BetaMixtureNoiseDetector().fit(losses)
    assert [one.category for one in warned] == [LossScaleWarning, NoSeparableNoiseWarning]
    with pytest.warns(NoSeparableNoiseWarning):
        BetaMixtureNoiseDetector().fit(np.append(losses, 1.005))


@pytest.mark.parametrize("make", [BetaMixtureNoiseDetector, GaussianMixtureNoiseDetector])
def test_probabilities_and_other_units_are_asked_about(make):
    asked = "Half of the losses are above 0.6, and none above 1: are they probabilities"
    with pytest.warns(LossScaleWarning, match=asked):
        make().fit(PROBABILITIES)
    with pytest.warns(LossScaleWarning, match=asked):
        make().fit_histogram(LossHistogram().fill(PROBABILITIES))
    asked = "Half of the losses are above 16, where cross-entropy in nats hardly ever is"
    with pytest.warns(LossScaleWarning, match=asked):
        make().fit(1000.0 * TWO_GROUPS)
    with pytest.warns(LossScaleWarning, match=asked):
        make().fit_histogram(LossHistogram().fill(1000.0 * TWO_GROUPS))


@pytest.mark.parametrize("losses", [PROBABILITIES, 1000.0 * TWO_GROUPS])
def test_other_losses_have_any_unit(losses):
    BetaMixtureNoiseDetector(loss_scale="any").fit(losses)  # warnings are errors


@pytest.mark.parametrize(
    "losses",
    [
        pytest.param(-np.log(RNG.uniform(0.4, 0.6, 500)), id="two classes, near chance"),
        pytest.param(RNG.uniform(0.0, 1.0, 500), id="on a scale of their own"),
        pytest.param(RNG.gamma(3.0, 4.0, 500), id="a model that is far off"),
    ],
)
@pytest.mark.filterwarnings("ignore::lossnoise.exceptions.NoSeparableNoiseWarning")
def test_usual_losses_are_not_asked_about(losses):
    BetaMixtureNoiseDetector().fit(losses)  # warnings are errors


# -- what once went wrong silently ----------------------------------------------------------------


@pytest.mark.parametrize("method", ["predict", "predict_proba", "posterior", "score_samples"])
def test_negative_losses_are_refused_at_prediction_too(method):
    detector = BetaMixtureNoiseDetector().fit(TWO_GROUPS)
    with pytest.raises(InvalidDataError, match="Negative values in data"):
        getattr(detector, method)([0.5, -0.003])


def test_one_row_of_a_history_may_sum_to_one():
    detector = BetaMixtureNoiseDetector().fit(TWO_GROUPS[:, None] + np.zeros(3))
    assert detector.predict([[0.5, 0.3, 0.2]]).tolist() == [0]


def test_a_masked_entry_of_a_histogram_is_missing():
    losses = np.ma.masked_array([1.0, 2.0, 999.0], mask=[False, False, True])
    with pytest.raises(InvalidDataError, match=r"must be finite\. Got nan in row 2"):
        LossHistogram().fill(losses)


@pytest.mark.filterwarnings("ignore:The losses are as far below 0 as above it")
def test_losses_at_the_edges_of_their_type():
    """float16 whose range is wider than float16, and a constant beside which 1 is nothing."""
    losses = np.linspace(-4e4, 4.2e4, (1 << 17) + 1).astype(np.float16)
    for given in (losses, np.full(50, 1e20)):
        with pytest.warns(NoSeparableNoiseWarning):
            detector = BetaMixtureNoiseDetector(loss_scale="any").fit(given)
        assert detector.noise_rate_ == 0.0


def test_a_histogram_has_no_names_of_columns():
    frame = pd.DataFrame(np.stack([TWO_GROUPS] * 3, axis=1), columns=["e1", "e2", "e3"])
    detector = BetaMixtureNoiseDetector().fit(frame)
    detector.fit_histogram(LossHistogram().fill(TWO_GROUPS))
    assert not hasattr(detector, "feature_names_in_")
    assert detector.predict(TWO_GROUPS[:, None]).sum() > 200


def test_a_masked_entry_of_a_history_is_missing():
    history = np.ma.array(TWO_GROUPS[:, None] + np.zeros(3))
    history[7, 1] = np.ma.masked
    with pytest.raises(InvalidDataError, match="Got NaN in 1 of 1000 rows, first in row 7 instead"):
        BetaMixtureNoiseDetector().fit(history)


def test_a_bad_batch_does_not_spoil_a_stream():
    detector = BetaMixtureNoiseDetector().partial_fit(TWO_GROUPS)
    before = detector.noise_rate_
    for bad in ([-1.0], [np.nan], ["a"]):
        with pytest.raises(InvalidDataError, match=r"The 'X' parameter|Negative values"):
            detector.partial_fit(bad)
        assert detector.noise_rate_ == before
    detector.partial_fit(TWO_GROUPS)
    assert detector.noise_rate_ == pytest.approx(before, abs=1e-6)


def test_a_histogram_is_copied():
    histogram = LossHistogram().fill(TWO_GROUPS)
    detector = BetaMixtureNoiseDetector().fit_histogram(histogram)
    histogram.fill(np.zeros(5000))
    detector.partial_fit([0.1])
    assert detector.noise_rate_ == pytest.approx(0.29, abs=0.02)


@pytest.mark.parametrize("columns", [None, ["e1", "e2", "e3"]])
@pytest.mark.parametrize(
    "call",
    [
        lambda d: d.fit(TWO_GROUPS[:800], groups=[1, 2, 3]),
        lambda d: d.fit(np.full(50, np.nan)),
        lambda d: d.fit(-TWO_GROUPS),
        lambda d: d.fit_histogram(LossHistogram().fill(-TWO_GROUPS)),
        lambda d: d.fit([[1.0, 2.0], [np.nan, 3.0]] * 10),
        lambda d: d.fit(pd.DataFrame({"a": -TWO_GROUPS, "b": 0.0})),
        lambda d: d.fit(np.full((50, 4), 0.25)),
        lambda d: d.fit(pd.DataFrame({"a": ["low", "high"], "b": [1.0, 2.0]})),
    ],
)
def test_a_failed_fit_leaves_the_earlier_one(call, columns):
    history = TWO_GROUPS[:, None] + np.zeros(3)
    history = history if columns is None else pd.DataFrame(history, columns=columns)
    detector = BetaMixtureNoiseDetector().fit(history)
    before = detector.predict_proba(history)
    with pytest.raises(ValueError, match=r"parameter|Negative|convert"):
        call(detector)
    np.testing.assert_array_equal(detector.predict_proba(history), before)


def test_losses_far_from_zero_are_told_apart_however_many_there_are():
    losses = 1000.0 + np.resize(TWO_GROUPS, 200_000)
    detector = BetaMixtureNoiseDetector(loss_scale="any").fit(losses)
    few = BetaMixtureNoiseDetector(loss_scale="any").fit(losses[:100_000])
    assert detector.noise_rate_ == pytest.approx(few.noise_rate_, abs=1e-3)
    assert detector.noise_rate_ == pytest.approx(0.3, abs=0.03)


@pytest.mark.parametrize("n", [10_000, 30_000])
def test_very_few_wrong_labels(n):
    rng = np.random.default_rng(3)
    losses = np.concatenate([rng.gamma(1, 0.2, n - n // 200), rng.normal(6, 0.7, n // 200)])
    detector = BetaMixtureNoiseDetector().fit(losses)
    assert detector.noise_rate_ == pytest.approx(0.005, abs=0.002)


@pytest.mark.parametrize("scale", [0.0, 1e-7, 1e-5])
def test_right_labels_that_are_learnt_to_the_last_digit(scale):
    rng = np.random.default_rng(0)
    losses = np.concatenate([scale * rng.gamma(2.0, 1.0, 700), rng.normal(5.0, 1.0, 300).clip(0)])
    detector = BetaMixtureNoiseDetector().fit(losses)
    assert detector.noise_rate_ == pytest.approx(0.3, abs=0.01)


def test_a_histogram_has_a_method_of_its_own():
    message = f"{OWNER}losses. Got a LossHistogram instead: fit_histogram takes it."
    with pytest.raises(InvalidDataError, match=exactly(message)):
        BetaMixtureNoiseDetector().fit(LossHistogram().fill(TWO_GROUPS))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ("losses.npy", "a vector of losses, one a sample. Got 'losses.npy' instead"),
        ({"loss": [0.1]}, "a vector of losses, one a sample. Got {'loss': [0.1]} instead"),
        ((0.1 for _ in range(20)), "a vector of losses, one a sample. Got <generator object"),
        ([[0.1, 0.2], [0.3]], "an array, or rows of one length. Got a list that is no array"),
    ],
)
def test_what_is_no_array_of_losses_is_refused(values, message):
    with pytest.raises(InvalidDataError) as caught:
        BetaMixtureNoiseDetector().fit(values)
    assert str(caught.value).startswith(f"{OWNER}{message}")
