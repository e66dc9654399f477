"""What every detector shares: every kind of input, copies, scikit-learn's checks, the borders."""

import copy
import pickle
import re

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.utils.estimator_checks import check_estimator

from lossnoise import BetaMixtureNoiseDetector
from lossnoise.exceptions import InvalidDataError, InvalidParameterError

SCALES = ["cross-entropy", "any"]
RNG = np.random.default_rng(0)
TWO_GROUPS = np.concatenate([RNG.gamma(1.0, 0.2, 700), RNG.normal(4.0, 0.8, 300)])


def exactly(text):
    return f"^{re.escape(text)}$"


# -- what comes in --------------------------------------------------------------------------------


def requires_grad(losses):
    return torch.tensor(losses, requires_grad=True)


@pytest.mark.parametrize(
    "convert", [list, pd.Series, pl.Series, requires_grad, lambda x: x[:, None], np.ma.array]
)
def test_every_kind_of_vector_gives_the_same(convert):
    losses = TWO_GROUPS
    expected = BetaMixtureNoiseDetector().fit(losses).predict_proba(losses)
    got = BetaMixtureNoiseDetector().fit(convert(losses)).predict_proba(convert(losses))
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_low_precision_tensors_are_their_values(dtype):
    losses = torch.tensor(TWO_GROUPS).to(dtype)
    expected = BetaMixtureNoiseDetector().fit(losses.double().numpy())
    assert BetaMixtureNoiseDetector().fit(losses).noise_rate_ == expected.noise_rate_


@pytest.mark.parametrize(
    "convert", [np.asarray, pd.DataFrame, pl.DataFrame, torch.tensor, lambda x: x.tolist()]
)
@pytest.mark.parametrize(("columns", "reduction", "used"), [(8, 5, 5), (3, 5, 3), (8, 1, 1)])
def test_a_history_is_the_mean_of_its_last_columns(columns, reduction, used, convert):
    history = np.random.default_rng(0).gamma(1.0, size=(200, columns))
    history += TWO_GROUPS[600:800, None]
    table = convert(history)
    detector = BetaMixtureNoiseDetector(history_reduction=reduction).fit(table)
    flat = BetaMixtureNoiseDetector().fit(history[:, -used:].mean(axis=1))
    assert detector.n_features_in_ == columns
    assert detector.noise_rate_ == pytest.approx(flat.noise_rate_, rel=1e-12)
    assert detector.predict(table).shape == (200,)


@pytest.mark.parametrize("copied", [clone, copy.deepcopy, lambda d: pickle.loads(pickle.dumps(d))])
def test_copies(copied):
    losses = TWO_GROUPS
    detector = BetaMixtureNoiseDetector(max_iter=3, loss_scale="any").fit(losses)
    other = copied(detector)
    assert other.get_params() == detector.get_params()
    if copied is clone:
        assert not hasattr(other, "weights_")
        other.fit(losses)
    np.testing.assert_array_equal(other.predict_proba(losses), detector.predict_proba(losses))


def test_works_in_a_pipeline():
    losses = TWO_GROUPS[:, None]
    pipeline = make_pipeline(MinMaxScaler(), BetaMixtureNoiseDetector(loss_scale="any"))
    alone = BetaMixtureNoiseDetector(loss_scale="any").fit(losses)
    np.testing.assert_allclose(
        pipeline.fit(losses).predict_proba(losses), alone.predict_proba(losses), atol=1e-9
    )


@pytest.mark.filterwarnings("ignore")  # the checks warn on purpose, and skip with a warning
@pytest.mark.parametrize(("scale", "passed"), [("cross-entropy", 39), ("any", 38)])
def test_is_a_scikit_learn_estimator(scale, passed):
    """All but two checks, which ask that 1-D input is refused: here it is the usual input."""
    results = check_estimator(BetaMixtureNoiseDetector(loss_scale=scale), on_fail=None)
    failed = {result["check_name"] for result in results if result["status"] == "failed"}
    assert failed == {"check_fit1d", "check_fit2d_predict1d"}
    # as many as scikit-learn 1.6 has would be fewer: the bound is there to notice skipped ones
    assert sum(result["status"] == "passed" for result in results) >= passed - 5


# -- what is refused ------------------------------------------------------------------------------


def with_value(value):
    losses = TWO_GROUPS.copy()
    losses[[3, 9]] = value
    return losses


FINITE = "The 'X' parameter of BetaMixtureNoiseDetector must be finite losses. Got "
BAD_LOSSES = [
    (with_value(np.nan), FINITE + "NaN in 2 of 1000 rows, first in row 3, instead."),
    (with_value(np.inf), FINITE + "inf in 2 of 1000 rows, first in row 3, instead."),
    (with_value(-np.inf), FINITE + "inf in 2 of 1000 rows, first in row 3, instead."),
    (
        np.full(20, 0.25),
        "The 'X' parameter of BetaMixtureNoiseDetector must be losses that differ. Got 20 times "
        "0.25 instead: a constant cannot be divided into right and wrong labels.",
    ),
    (
        np.repeat([-1e308, 1e308], 10),
        "The 'X' parameter of BetaMixtureNoiseDetector must be losses whose range is finite. Got "
        "losses from -1e+308 to 1e+308 instead.",
    ),
]


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize(("losses", "message"), BAD_LOSSES)
def test_unusable_losses(losses, message, scale):
    with pytest.raises(InvalidDataError, match=exactly(message)):
        BetaMixtureNoiseDetector(loss_scale=scale).fit(losses)


def test_negative_losses_are_no_cross_entropy():
    message = (
        "Negative values in data: the 'X' parameter of BetaMixtureNoiseDetector must be "
        "cross-entropy losses, which are at least 0. Got -0.5 instead: use loss_scale='any' for "
        "other losses."
    )
    with pytest.raises(InvalidDataError, match=exactly(message)):
        BetaMixtureNoiseDetector().fit(with_value(-0.5))
    assert 0.0 < BetaMixtureNoiseDetector(loss_scale="any").fit(with_value(-0.5)).noise_rate_ < 1.0


@pytest.mark.parametrize(
    ("losses", "error", "message"),
    [
        ([], ValueError, "Found array with 0 sample"),
        (np.arange(9.0), ValueError, "Found array with 9 sample.* a minimum of 10 is required"),
        (np.zeros((10, 2, 2)), ValueError, "Found array with dim 3"),
        (3.0, ValueError, "Expected 2D array, got scalar array"),
        (["low", "high"] * 10, ValueError, "could not convert string to float"),
        (np.arange(20) * 1j, ValueError, "Complex data not supported"),
        (sparse.csr_array(np.eye(20)), TypeError, "Sparse data was passed"),
        ([[1.0, 2.0], [1.0]] * 10, ValueError, "inhomogeneous"),
    ],
)
def test_input_that_scikit_learn_refuses(losses, error, message):
    with pytest.raises(error, match=message):
        BetaMixtureNoiseDetector().fit(losses)


@pytest.mark.parametrize("method", ["predict", "predict_proba", "score_samples", "score"])
def test_predictions_have_the_same_border(method):
    detector = BetaMixtureNoiseDetector()
    with pytest.raises(NotFittedError, match="not fitted yet"):
        getattr(detector, method)([1.0])
    detector.fit(TWO_GROUPS)
    with pytest.raises(InvalidDataError, match="Got NaN in 1 of 2 rows, first in row 1, instead"):
        getattr(detector, method)([1.0, np.nan])
    with pytest.raises(ValueError, match="X has 2 features"):
        getattr(detector, method)(np.ones((5, 2)))
    assert np.size(getattr(detector, method)([1.0])) in (1, 2)  # one loss is enough


PERCENTILES = "a pair of percentiles (low, high) with 0 <= low < high <= 100"
BAD_PARAMETERS = [
    ("max_iter", 0, "an int in the range [1, inf)"),
    ("max_iter", 2.0, "an int in the range [1, inf)"),
    ("max_iter", True, "an int in the range [1, inf)"),
    ("tol", -1, "a float in the range [0.0, inf)"),
    ("tol", float("nan"), "a float in the range [0.0, inf)"),
    ("tol", "0", "a float in the range [0.0, inf)"),
    ("loss_scale", "x", "one of 'any', 'cross-entropy'"),
    ("loss_scale", None, "one of 'any', 'cross-entropy'"),
    ("history_reduction", 0, "an int in the range [1, inf)"),
    *[
        ("percentiles", value, PERCENTILES)
        for value in [
            (5,), (50, 50), (99, 1), (-1, 99), (0, 101), (0, 50, 99), 5, None, "ab",
            ("0", "99"), (float("nan"), 99),
        ]
    ],
]  # fmt: skip


@pytest.mark.parametrize(("name", "value", "expected"), BAD_PARAMETERS)
def test_parameters_out_of_range(name, value, expected):
    message = (
        f"The {name!r} parameter of BetaMixtureNoiseDetector must be {expected}. "
        f"Got {value!r} instead."
    )
    with pytest.raises(InvalidParameterError, match=exactly(message)):
        BetaMixtureNoiseDetector(**{name: value}).fit(TWO_GROUPS)
