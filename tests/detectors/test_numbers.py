"""Numbers, and what only looks like them: refused alike in vectors, tables and data frames."""

import re
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from scipy import sparse

from lossnoise import BetaMixtureNoiseDetector, LossHistogram
from lossnoise.exceptions import InvalidDataError

RNG = np.random.default_rng(0)
LOSSES = np.concatenate([RNG.gamma(1.0, 0.2, 700), RNG.normal(4.0, 0.8, 300)])
DAYS = np.arange("2020-01-01", "2020-01-21", dtype="datetime64[D]")
FRAMES = {
    "array": lambda columns: np.column_stack(list(columns.values())),
    "list": lambda columns: [list(row) for row in zip(*columns.values(), strict=True)],
    "pandas": pd.DataFrame,
    "polars": pl.DataFrame,
    "Arrow": pa.table,
}
in_every_frame = pytest.mark.parametrize("frame", FRAMES)


def refuses(losses, pattern):
    with pytest.raises(InvalidDataError, match=pattern) as caught:
        BetaMixtureNoiseDetector().fit(losses)
    assert "'X' parameter of BetaMixtureNoiseDetector must be" in str(caught.value)


@in_every_frame
@pytest.mark.parametrize(
    ("odd", "pattern"),
    [
        (np.arange(20).astype(str), r"Got (dtype|objects).* instead"),
        (np.arange(20) % 2 == 0, r"Got (booleans|objects, of type bool,)"),
    ],
    ids=["strings", "booleans"],
)
def test_columns_that_are_no_losses(frame, odd, pattern):
    refuses(FRAMES[frame]({"a": odd, "b": odd[::-1]}), pattern)


@pytest.mark.parametrize("frame", ["pandas", "polars", "Arrow"])
@pytest.mark.parametrize(
    ("odd", "pattern"),
    [
        (np.arange(20).astype(str), r"Got (dtype|objects).* instead"),
        (np.arange(20) % 2 == 0, "Got booleans"),
        (DAYS, r"Got dtype datetime64"),
        (DAYS - DAYS[0], r"Got dtype timedelta64"),
    ],
    ids=["strings", "booleans", "dates", "durations"],
)
def test_a_column_among_others_that_is_no_loss(frame, odd, pattern):
    odd = odd.astype(odd.dtype.str.replace("[D]", "[ms]"))  # the days of polars have no durations
    refuses(FRAMES[frame]({"a": np.linspace(0.1, 1.0, 20), "b": odd}), pattern)


def test_arrays_of_dates():
    refuses(np.column_stack([DAYS, DAYS]), r"Got dtype datetime64\[D\]")
    refuses(np.column_stack([DAYS - DAYS[0]] * 2), r"Got dtype timedelta64\[D\]")


@in_every_frame
def test_columns_that_are_losses(frame):
    columns = {"a": LOSSES, "b": LOSSES / 2.0}
    expected = BetaMixtureNoiseDetector().fit(np.column_stack([LOSSES, LOSSES / 2.0]))
    found = BetaMixtureNoiseDetector().fit(FRAMES[frame](columns))
    assert found.noise_rate_ == expected.noise_rate_


@pytest.mark.parametrize("frame", ["pandas", "polars", "Arrow"])
def test_columns_in_another_order_are_refused(frame):
    """As scikit-learn does: they are other epochs."""
    columns = {"early": LOSSES[::-1], "late": LOSSES}
    detector = BetaMixtureNoiseDetector(history_reduction=1).fit(FRAMES[frame](columns))
    assert detector.feature_names_in_.tolist() == ["early", "late"]
    swapped = FRAMES[frame]({name: columns[name] for name in ("late", "early")})
    with pytest.raises(InvalidDataError, match="Feature names must be in the same order"):
        detector.predict(swapped)
    assert (
        detector.predict(FRAMES[frame](columns)).sum()
        == detector.predict_proba(FRAMES[frame](columns))[:, 1].round().sum()
    )


def test_objects():
    for kind in (Decimal, Fraction, np.float64):
        table = [[kind(loss), kind(loss)] for loss in LOSSES]
        assert BetaMixtureNoiseDetector().fit(table).separable_
    refuses([[1 + 1j, 0.5]] * 20, "Complex data not supported")
    refuses(np.array([[1 + 1j, 0.5]] * 20, dtype=object), "objects, of type complex,")
    refuses([[True, 0.5]] * 19 + [["0.5", 0.5]], r"Got dtype <U")
    refuses(np.array([[True, 0.5], [b"1", 0.5]] * 10, dtype=object), "of type bool, bytes,")
    with pytest.raises(TypeError, match=r"of type dict, instead"):  # as scikit-learn wants it
        BetaMixtureNoiseDetector().fit([[{}, {}]] * 20)


@pytest.mark.parametrize("kind", [sparse.csr_array, sparse.coo_matrix])
def test_sparse_arrays(kind):
    refuses(kind(np.eye(20)), rf"a dense array of losses. Got a sparse {kind.__name__} instead: ")


def test_vectors_of_polars_that_hold_vectors_are_histories():
    histories = np.column_stack([LOSSES, LOSSES / 2.0])
    expected = BetaMixtureNoiseDetector().fit(histories)
    series = pl.Series(histories, dtype=pl.Array(pl.Float64, 2))
    found = BetaMixtureNoiseDetector().fit(series)
    assert (found.noise_rate_, found.n_features_in_) == (expected.noise_rate_, 2)
    assert np.array_equal(found.predict(series), expected.predict(histories))


@pytest.mark.parametrize(
    ("tensor", "got"),
    [
        (torch.ones(20).to_sparse(), "a sparse_coo tensor of torch.float32 on cpu"),
        (torch.ones(20, device="meta"), "a strided tensor of torch.float32 on meta"),
        (torch.ones(20).to(torch.float8_e4m3fn), "a strided tensor of torch.float8_e4m3fn on cpu"),
    ],
    ids=["sparse", "meta", "float8"],
)
def test_tensors_that_numpy_cannot_hold(tensor, got):
    refuses(tensor, rf"a dense tensor of numbers. Got {re.escape(got)} instead\.")


def test_a_history_of_half_precision_overflows_as_a_vector_does():
    history = np.full((20, 2), np.inf, dtype=np.float16)
    refuses(history, "float16 has nothing above 65504")


@pytest.mark.parametrize(
    "losses",
    [
        [Decimal(1), Decimal(2)],
        [Fraction(1), Fraction(2)],
        pd.Series([1.0, 2.0], dtype=object),
        pd.Series([1.0, 2.0], dtype="Float32"),
        pl.Series([1.0, 2.0]),
        torch.tensor([1.0, 2.0], dtype=torch.bfloat16, requires_grad=True),
    ],
    ids=lambda losses: type(losses).__name__,
)
def test_a_histogram_takes_what_a_detector_takes(losses):
    assert LossHistogram().fill(losses) == LossHistogram().fill([1.0, 2.0])


def test_a_histogram_refuses_rows_of_several_lengths():
    with pytest.raises(InvalidDataError, match=r"'losses' parameter of LossHistogram must be an"):
        LossHistogram().fill([[1.0], [1.0, 2.0]])
    with pytest.raises(InvalidDataError, match=r"'counts' parameter of LossHistogram must be an"):
        LossHistogram().fill([1.0, 2.0], [[1], [1, 2]])


@pytest.mark.parametrize(
    "make",
    [
        lambda: LossHistogram().fill([1.0], np.array([2**63], dtype=np.uint64)),
        lambda: LossHistogram().fill([1.0, 1.0, 1.0], [2**62] * 3),
        lambda: LossHistogram().fill([1.0], [2**46]) + LossHistogram().fill([1.0], [2**46]),
        lambda: LossHistogram().fill([1.0], [2**46]).fill([1.0], [2**46]),
    ],
    ids=["one", "several", "a sum", "once more"],
)
def test_counts_that_a_bin_cannot_hold(make):
    with pytest.raises(
        InvalidDataError, match=r"'counts' parameter of LossHistogram.* below 2\^47"
    ):
        make()
    most = LossHistogram().fill([1.0], [2**47 - 1])
    assert LossHistogram.from_dict(most.to_dict()) == most


def test_a_query_that_was_not_run_is_no_frame():
    refuses(pl.DataFrame({"a": LOSSES}).lazy(), "a vector of losses, one a sample. Got <LazyFrame")
