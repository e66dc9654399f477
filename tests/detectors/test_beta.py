"""The beta mixture: against an independent EM, its properties, its borders."""

import copy
import math
import pickle
import re
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, sparse, stats
from scipy.optimize import brentq
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.utils.estimator_checks import check_estimator

from lossnoise import BetaMixtureNoiseDetector
from lossnoise.detectors._base import Mixture, wrong_proba
from lossnoise.detectors._beta import (
    BetaFamily,
    beta_log_density,
    beta_moments,
    beta_rising_range,
    one_sided,
)
from lossnoise.exceptions import InvalidDataError, InvalidParameterError

SCALES = ["cross-entropy", "any"]


def exactly(text):
    return f"^{re.escape(text)}$"


def two_groups(seed=0, right=700, wrong=300):
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.gamma(1.0, 0.2, right), np.abs(rng.normal(4.0, 0.8, wrong))])


DATA = {
    "two groups": two_groups(),
    "mostly wrong": two_groups(1, right=150, wrong=650),
    "overlapping": np.concatenate(
        [
            np.random.default_rng(2).gamma(1.0, 0.5, 300),
            np.random.default_rng(3).gamma(4.0, 0.6, 300),
        ]
    ),
    "one group": np.random.default_rng(4).gamma(2.0, 0.3, 400),
    "few values": np.repeat([0.0, 0.01, 0.5, 2.0, 30.0], [40, 30, 5, 10, 2]),
    "an outlier": np.append(two_groups(5, 60, 40), 1e30),
}


# -- an independent EM: plain loops and scipy, from the formulae ----------------------------------


def slow_normalise(losses, scale):
    if scale == "cross-entropy":
        values = [1.0 - math.exp(-loss / 2.0) for loss in losses]
    else:
        low, high = np.quantile(losses, 0.0), np.quantile(losses, 0.99)
        values = [(loss - low) / (high - low) for loss in losses]
    values = [min(max(value, 1e-4), 1.0 - 1e-4) for value in values]
    if scale == "cross-entropy":  # x = 1 - exp(-l / 2), so dx / dl = (1 - x) / 2
        return values, [math.log((1.0 - x) / 2.0) for x in values]
    return values, [-math.log(high - low)] * len(losses)


def slow_posterior(values, weights, shapes):
    (a0, b0), (a1, b1) = shapes
    if (a1 < a0 and b1 < b0) or (a1 > a0 and b1 > b0):
        turn = (a1 - a0) / ((a1 - a0) + (b1 - b0))
        values = [max(x, turn) if a1 < a0 else min(x, turn) for x in values]
    right = math.log(weights[0]) + stats.beta.logpdf(values, a0, b0)
    wrong = math.log(weights[1]) + stats.beta.logpdf(values, a1, b1)
    return [1.0 / (1.0 + math.exp(min(r - w, 700.0))) for r, w in zip(right, wrong, strict=True)]


def slow_log_likelihood(values, weights, shapes):
    density = weights[0] * stats.beta.pdf(values, *shapes[0])
    density += weights[1] * stats.beta.pdf(values, *shapes[1])
    return math.fsum(np.log(density)) / len(values)


def slow_shape(values, mass):
    total = math.fsum(mass)
    mean = math.fsum(m * x for m, x in zip(mass, values, strict=True)) / total
    variance = math.fsum(m * (x - mean) ** 2 for m, x in zip(mass, values, strict=True)) / total
    variance = max(variance, 1e-6 * mean * (1.0 - mean))
    a = mean * (mean * (1.0 - mean) / variance - 1.0)
    return a, a * (1.0 - mean) / mean


def slow_em(losses, scale, max_iter=10, tol=1e-4):
    values, slopes = slow_normalise(losses, scale)
    weights, shapes = (0.5, 0.5), ((1.0, 2.0), (2.0, 1.0))
    likelihoods = [slow_log_likelihood(values, weights, shapes)]
    for _ in range(max_iter):
        wrong = slow_posterior(values, weights, shapes)
        right = [1.0 - w for w in wrong]
        (a0, b0), (a1, b1) = slow_shape(values, right), slow_shape(values, wrong)
        assert a0 / (a0 + b0) < a1 / (a1 + b1)  # else the bounds belong the other way round
        shapes = ((a0, max(b0, 2.0)), (max(a1, 2.0), b1))
        weights = (math.fsum(right) / len(values), math.fsum(wrong) / len(values))
        likelihoods.append(slow_log_likelihood(values, weights, shapes))
        if abs(likelihoods[-1] - likelihoods[-2]) < tol:
            break
    posterior = slow_posterior(values, weights, shapes)
    return {
        "weights_": weights,
        "alphas_": [a for a, _ in shapes],
        "betas_": [b for _, b in shapes],
        "n_iter_": len(likelihoods) - 1,
        "lower_bound_": likelihoods[-1] + math.fsum(slopes) / len(slopes),
        "noise_rate_": sum(posterior) / len(posterior),
    }, posterior


@pytest.mark.parametrize("max_iter", [1, 10, 40])
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", DATA)
def test_agrees_with_an_independent_em(name, scale, max_iter):
    detector = BetaMixtureNoiseDetector(loss_scale=scale, max_iter=max_iter).fit(DATA[name])
    expected, posterior = slow_em(DATA[name], scale, max_iter)
    for attribute, value in expected.items():
        np.testing.assert_allclose(getattr(detector, attribute), value, rtol=1e-8, err_msg=name)
    np.testing.assert_allclose(detector.predict_proba(DATA[name])[:, 1], posterior, atol=1e-8)


# -- the pieces, by hand --------------------------------------------------------------------------


def test_moments_by_hand():
    # Row 1: mean 1/2, variance 1/24: 1/4 / (1/24) - 1 = 5, so a = b = 5/2.
    # Row 2: mean .4, variance .02: .24 / .02 - 1 = 11, so a = 4.4, b = 6.6.
    values = np.array([0.25, 0.5, 0.75, 0.3, 0.6])
    mass = np.array([[1 / 3, 1 / 3, 1 / 3, 0.0, 0.0], [0.0, 0.0, 0.0, 2 / 3, 1 / 3]])
    np.testing.assert_allclose(
        beta_moments(values, mass, np.ones((2, 2))), [[2.5, 2.5], [4.4, 6.6]], rtol=1e-12
    )


def test_moments_of_one_value_have_the_least_variance():
    # concentration m (1 - m) / (1e-6 m (1 - m)) - 1 = 999 999
    (shape,) = beta_moments(np.full(5, 0.2), np.full((1, 5), 0.2), np.ones((1, 2)))
    np.testing.assert_allclose(shape, [0.2 * 999_999, 0.8 * 999_999], rtol=1e-9)


def test_a_component_without_mass_keeps_its_parameters():
    values = np.array([0.25, 0.5, 0.75])
    mass = np.array([np.full(3, 1 / 3), np.zeros(3)])
    moments = beta_moments(values, mass, np.array([[9.0, 9.0], [3.0, 4.0]]))
    np.testing.assert_allclose(moments, [[2.5, 2.5], [3.0, 4.0]])


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ([[0.5, 0.6], [0.9, 0.1]], [[0.5, 2.0], [2.0, 0.1]]),
        ([[0.9, 0.1], [0.5, 0.6]], [[2.0, 0.1], [0.5, 2.0]]),
        ([[1.0, 3.0], [4.0, 1.0]], [[1.0, 3.0], [4.0, 1.0]]),
    ],
)
def test_components_are_one_sided(params, expected):
    given_params = np.array(params)
    assert one_sided(given_params).tolist() == expected
    assert given_params.tolist() == params


def test_log_density_is_scipys():
    values = np.array([1e-4, 0.3, 1.0 - 1e-4])
    params = np.array([[0.3, 7.0], [400.0, 90.0]])
    expected = [stats.beta.logpdf(values, a, b) for a, b in params]
    np.testing.assert_allclose(beta_log_density(values, params), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("right", "wrong", "rising"),
    [
        ((3.0, 4.0), (2.0, 1.0), "after"),
        ((2.0, 2.0), (5.0, 3.0), "before"),
        ((1.0, 2.0), (2.0, 1.0), "everywhere"),
        ((2.0, 3.0), (2.0, 1.0), "everywhere"),
        ((2.0, 2.0), (2.0, 2.0), "everywhere"),
    ],
)
def test_turning_point_is_where_the_slope_of_the_log_odds_is_zero(right, wrong, rising):
    def log_odds(x):
        return stats.beta.logpdf(x, *wrong) - stats.beta.logpdf(x, *right)

    def slope(x):
        return (log_odds(x + 1e-6) - log_odds(x - 1e-6)) / 2e-6

    low, high = beta_rising_range(np.array([right, wrong]))
    if rising == "everywhere":
        assert (low, high) == (0.0, 1.0)
        assert min(slope(x) for x in np.linspace(0.01, 0.99, 99)) >= 0.0
    else:
        turn = brentq(slope, 0.01, 0.99)
        expected = (turn, 1.0) if rising == "after" else (0.0, turn)
        assert (low, high) == pytest.approx(expected, abs=1e-5)
        assert slope((low + high) / 2.0) > 0.0


@pytest.mark.parametrize(
    "params",
    [
        [[3.0, 2.0], [2.0, 2.0 - 1e-16 * 4]],  # rounds to a turn at 1
        [[2.0 + 1e-320, 3.0], [2.0, 2.0]],
        [[2.0, 2.0], [3.0, 2.0 + 1e-15]],
    ],
)
def test_a_turn_at_the_end_of_the_scale_is_no_infinity(params):
    mixture = Mixture(np.array([0.5, 0.5]), np.array(params))
    proba = wrong_proba(np.array([1e-4, 0.5, 1.0 - 1e-4]), mixture, BetaFamily())
    assert np.isfinite(proba).all()
    assert (np.diff(proba) >= 0.0).all()


# -- what must always hold ------------------------------------------------------------------------

loss_vectors = st.lists(
    st.floats(0.0, 1e6, allow_subnormal=False), min_size=10, max_size=60, unique=True
).map(np.array)


@pytest.mark.parametrize("scale", SCALES)
@given(losses=loss_vectors)
def test_posterior_is_a_monotone_probability(scale, losses):
    detector = BetaMixtureNoiseDetector(loss_scale=scale).fit(losses)
    grid = np.sort(np.concatenate([losses, np.linspace(0.0, 2.0 * losses.max(), 200)]))
    proba = detector.predict_proba(grid)
    assert np.isfinite(proba).all()
    assert proba.min() >= 0.0
    assert proba.max() <= 1.0
    np.testing.assert_allclose(proba.sum(axis=1), 1.0, atol=1e-15)
    assert np.diff(proba[:, 1]).min() >= -1e-9  # rounding, where a shape is very large
    assert detector.noise_rate_ == detector.predict_proba(losses)[:, 1].mean()
    assert detector.score(losses) == pytest.approx(detector.lower_bound_, rel=1e-9, abs=1e-9)
    assert detector.means_[0] <= detector.means_[1]


@given(losses=loss_vectors, seed=st.integers(0, 1000))
def test_order_of_the_losses_does_not_matter(losses, seed):
    detector = BetaMixtureNoiseDetector(tol=0.0)  # rounding may move the stop by one iteration
    order = np.random.default_rng(seed).permutation(len(losses))
    straight = detector.fit(losses).predict_proba(losses)[order]
    shuffled = detector.fit(losses[order]).predict_proba(losses[order])
    np.testing.assert_allclose(shuffled, straight, atol=1e-6)


@given(losses=loss_vectors, power=st.integers(-30, 30))
def test_any_other_loss_has_no_scale(losses, power):
    detector = BetaMixtureNoiseDetector(loss_scale="any")
    before = detector.fit(losses).predict_proba(losses)
    after = detector.fit(losses * 2.0**power).predict_proba(losses * 2.0**power)
    np.testing.assert_array_equal(after, before)


def test_cross_entropy_has_a_scale():
    detector = BetaMixtureNoiseDetector()
    losses = DATA["one group"]
    assert detector.fit(losses).noise_rate_ != detector.fit(losses / 4.0).noise_rate_


@pytest.mark.parametrize("scale", SCALES)
def test_fit_starts_afresh(scale):
    once = BetaMixtureNoiseDetector(loss_scale=scale).fit(DATA["overlapping"])
    twice = BetaMixtureNoiseDetector(loss_scale=scale).fit(DATA["two groups"])
    twice.fit(DATA["overlapping"])
    for name, value in vars(once).items():
        np.testing.assert_array_equal(getattr(twice, name), value, err_msg=name)


class SwappedStart(BetaMixtureNoiseDetector):
    def _start(self, values, counts):
        start = super()._start(values, counts)
        return Mixture(start.weights[::-1], start.params[::-1])


def test_the_wrong_component_is_the_higher_one_wherever_it_started():
    losses = DATA["two groups"]
    swapped = SwappedStart().fit(losses)
    straight = BetaMixtureNoiseDetector().fit(losses)
    assert swapped.means_[0] < swapped.means_[1]
    assert (np.diff(swapped.predict_proba(np.sort(losses))[:, 1]) >= 0.0).all()
    assert swapped.noise_rate_ == pytest.approx(straight.noise_rate_, abs=0.02)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", ["two groups", "overlapping", "mostly wrong"])
def test_density_integrates_to_one_on_the_scale_of_the_losses(name, scale):
    detector = BetaMixtureNoiseDetector(loss_scale=scale).fit(DATA[name])
    values = 1e-4 + (1.0 - 2e-4) * np.sin(np.linspace(0.0, np.pi / 2.0, 20_001)) ** 2
    grid = detector.scaling_.losses_at(values)  # dense at both ends, where it may be steep
    mass = integrate.trapezoid(np.exp(detector.score_samples(grid)), grid)
    shapes = detector.alphas_, detector.betas_
    inside = stats.beta.cdf(1.0 - 1e-4, *shapes) - stats.beta.cdf(1e-4, *shapes)
    assert mass == pytest.approx(detector.weights_ @ inside, abs=1e-3)
    assert mass == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize(("max_iter", "tol", "converged"), [(2, 1e-12, False), (50, 1e-2, True)])
def test_both_ends_of_em_are_regular(max_iter, tol, converged):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        detector = BetaMixtureNoiseDetector(max_iter=max_iter, tol=tol).fit(DATA["overlapping"])
    assert detector.converged_ is converged
    assert (detector.n_iter_ < max_iter) is converged


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("rate", [0.1, 0.3, 0.6])
def test_two_drawn_populations_are_told_apart(rate, scale):
    rng = np.random.default_rng(0)
    wrong = np.arange(3000) < 3000 * rate
    losses = np.where(wrong, rng.normal(4.0, 0.7, 3000), rng.gamma(1.0, 0.2, 3000))
    detector = BetaMixtureNoiseDetector(loss_scale=scale).fit(losses)
    assert (detector.predict(losses) == wrong).mean() > 0.97
    assert detector.noise_rate_ == pytest.approx(rate, abs=0.03)


# -- what comes in --------------------------------------------------------------------------------


def requires_grad(losses):
    return torch.tensor(losses, requires_grad=True)


@pytest.mark.parametrize(
    "convert", [list, pd.Series, pl.Series, requires_grad, lambda x: x[:, None], np.ma.array]
)
def test_every_kind_of_vector_gives_the_same(convert):
    losses = DATA["two groups"]
    expected = BetaMixtureNoiseDetector().fit(losses).predict_proba(losses)
    got = BetaMixtureNoiseDetector().fit(convert(losses)).predict_proba(convert(losses))
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_low_precision_tensors_are_their_values(dtype):
    losses = torch.tensor(DATA["two groups"]).to(dtype)
    expected = BetaMixtureNoiseDetector().fit(losses.double().numpy())
    assert BetaMixtureNoiseDetector().fit(losses).noise_rate_ == expected.noise_rate_


@pytest.mark.parametrize(
    "convert", [np.asarray, pd.DataFrame, pl.DataFrame, torch.tensor, lambda x: x.tolist()]
)
@pytest.mark.parametrize(("columns", "reduction", "used"), [(8, 5, 5), (3, 5, 3), (8, 1, 1)])
def test_a_history_is_the_mean_of_its_last_columns(columns, reduction, used, convert):
    history = np.random.default_rng(0).gamma(1.0, size=(200, columns))
    history += DATA["two groups"][600:800, None]
    table = convert(history)
    detector = BetaMixtureNoiseDetector(history_reduction=reduction).fit(table)
    flat = BetaMixtureNoiseDetector().fit(history[:, -used:].mean(axis=1))
    assert detector.n_features_in_ == columns
    assert detector.noise_rate_ == pytest.approx(flat.noise_rate_, rel=1e-12)
    assert detector.predict(table).shape == (200,)


@pytest.mark.parametrize("copied", [clone, copy.deepcopy, lambda d: pickle.loads(pickle.dumps(d))])
def test_copies(copied):
    losses = DATA["overlapping"]
    detector = BetaMixtureNoiseDetector(max_iter=3, loss_scale="any").fit(losses)
    other = copied(detector)
    assert other.get_params() == detector.get_params()
    if copied is clone:
        assert not hasattr(other, "weights_")
        other.fit(losses)
    np.testing.assert_array_equal(other.predict_proba(losses), detector.predict_proba(losses))


def test_works_in_a_pipeline():
    losses = DATA["two groups"][:, None]
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
    losses = DATA["two groups"].copy()
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
    detector.fit(DATA["two groups"])
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
        BetaMixtureNoiseDetector(**{name: value}).fit(DATA["two groups"])
