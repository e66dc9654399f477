"""What every detector shares: the meaning of its results, copies, scikit-learn's checks."""

import copy
import pickle
import re

import joblib
import numpy as np
import pytest
import sklearn
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.utils.estimator_checks import check_estimator
from sklearn.utils.parallel import Parallel, delayed

from lossnoise import BetaMixtureNoiseDetector, GaussianMixtureNoiseDetector, LossHistogram
from lossnoise.detectors._sample import EXACT
from lossnoise.exceptions import InvalidDataError, InvalidParameterError, NoSeparableNoiseWarning

DETECTORS = [BetaMixtureNoiseDetector, GaussianMixtureNoiseDetector]
SCALES = ["cross-entropy", "any"]
RNG = np.random.default_rng(0)
WRONG = np.arange(1000) >= 700
TWO_GROUPS = np.concatenate([RNG.gamma(1.0, 0.2, 700), RNG.normal(4.0, 0.8, 300)])

each_detector = pytest.mark.parametrize("make", DETECTORS)
each_scale = pytest.mark.parametrize("scale", SCALES)
quietly = pytest.mark.filterwarnings("ignore::lossnoise.exceptions.LossNoiseWarning")


def exactly(text):
    return f"^{re.escape(text)}$"


# -- what the results mean ------------------------------------------------------------------------


@each_detector
@each_scale
def test_two_populations_are_found(make, scale):
    detector = make(loss_scale=scale).fit(TWO_GROUPS)
    assert detector.separable_ is True
    assert detector.noise_rate_ == pytest.approx(0.3, abs=0.03)
    assert (detector.predict(TWO_GROUPS) == WRONG).mean() > 0.97
    low, high = detector.noise_rate_interval_
    assert low < detector.noise_rate_ < high
    assert low <= 0.3 <= high
    assert high - low < 0.15


@quietly
@each_detector
@pytest.mark.parametrize("n", [10, 37, 1000, 140_000])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_noise_rate_is_the_mean_of_the_probabilities(make, n, dtype):
    losses = (np.resize(TWO_GROUPS, n) * np.linspace(1.0, 1.1, n)).astype(dtype)
    detector = make().fit(losses)
    assert detector.noise_rate_ == pytest.approx(
        detector.predict_proba(losses)[:, 1].mean(), abs=1e-12
    )


@each_detector
@pytest.mark.parametrize(("dtype", "step"), [(np.float64, 1e-6), (np.float32, 1e-5)])
def test_the_threshold_is_where_the_probability_is_one_half(make, dtype, step):
    detector = make().fit(TWO_GROUPS.astype(dtype))
    losses = (detector.threshold_ + np.array([-step, 0.0, step])).astype(dtype)
    below, at, above = detector.predict_proba(losses)[:, 1]
    assert below < 0.5 < above
    assert at == pytest.approx(0.5, abs=10 * step)
    assert detector.predict(losses).tolist()[2] == 1


def test_without_evidence_the_threshold_is_out_of_reach():
    with pytest.warns(NoSeparableNoiseWarning):
        detector = BetaMixtureNoiseDetector().fit(RNG.exponential(1.0, 500))
    assert detector.threshold_ == np.inf
    assert (detector.posterior([6.0]) > 0.5).all()  # what the mixture alone would say


@each_detector
def test_score_is_the_mean_log_density_per_unit_of_loss(make):
    detector = make().fit(TWO_GROUPS)
    assert detector.score(TWO_GROUPS) == pytest.approx(detector.score_samples(TWO_GROUPS).mean())
    assert detector.lower_bound_ == pytest.approx(detector.score(TWO_GROUPS), abs=1e-9)
    grid = np.linspace(1e-3, 12.0, 200_001)
    mass = integrate.trapezoid(np.exp(detector.score_samples(grid)), grid)
    assert 0.95 < mass < 1.05


@each_detector
def test_transform_is_the_probability_with_a_name(make):
    detector = make()
    with pytest.raises(NotFittedError):
        detector.get_feature_names_out()
    detector.fit(TWO_GROUPS)
    assert detector.get_feature_names_out().tolist() == ["p_noisy"]
    expected = detector.predict_proba(TWO_GROUPS)[:, 1:]
    np.testing.assert_array_equal(detector.transform(TWO_GROUPS), expected)
    for backend in ("pandas", "polars"):
        table = detector.set_output(transform=backend).transform(TWO_GROUPS)
        assert type(table).__module__.startswith(backend)
        assert list(table.columns) == ["p_noisy"]
        np.testing.assert_array_equal(table.to_numpy(), expected)


# -- properties -----------------------------------------------------------------------------------

loss_vectors = st.lists(st.floats(0.0, 1e6, allow_subnormal=False), min_size=10, max_size=60).map(
    np.array
)


@quietly
@each_detector
@each_scale
@given(losses=loss_vectors)
def test_probabilities_are_finite_and_never_fall_with_the_loss(make, scale, losses):
    detector = make(loss_scale=scale).fit(losses)
    grid = np.sort(np.concatenate([losses, np.linspace(0.0, 2.0 * losses.max() + 1.0, 200)]))
    proba = detector.predict_proba(grid)
    assert np.isfinite(proba).all()
    assert proba.min() >= 0.0
    assert proba.max() <= 1.0
    np.testing.assert_allclose(proba.sum(axis=1), 1.0, atol=1e-15)
    assert (np.diff(proba[:, 1]) >= 0.0).all()
    assert (np.diff(detector.posterior(grid)) >= 0.0).all()
    assert detector.noise_rate_ == pytest.approx(
        detector.predict_proba(losses)[:, 1].mean(), abs=1e-12
    )


@quietly
@each_detector
@each_scale
@given(losses=loss_vectors, seed=st.integers(0, 1000))
def test_the_order_of_the_losses_does_not_matter(make, scale, losses, seed):
    order = np.random.default_rng(seed).permutation(len(losses))
    straight = make(loss_scale=scale).fit(losses)
    shuffled = make(loss_scale=scale).fit(losses[order])
    np.testing.assert_array_equal(
        shuffled.predict_proba(losses[order]), straight.predict_proba(losses)[order]
    )
    assert shuffled.noise_rate_ == straight.noise_rate_


@quietly
@each_detector
@given(losses=loss_vectors, power=st.integers(-30, 30))
def test_any_other_loss_has_no_scale(make, losses, power):
    before = make(loss_scale="any").fit(losses).predict_proba(losses)
    after = make(loss_scale="any").fit(losses * 2.0**power).predict_proba(losses * 2.0**power)
    np.testing.assert_array_equal(after, before)


@each_detector
@given(factor=st.floats(1e-3, 1e3))
def test_factors_that_round_hardly_matter(make, factor):
    before = make(loss_scale="any").fit(TWO_GROUPS).predict_proba(TWO_GROUPS)
    after = make(loss_scale="any").fit(factor * TWO_GROUPS).predict_proba(factor * TWO_GROUPS)
    np.testing.assert_allclose(after, before, atol=1e-6)


@each_detector
@pytest.mark.parametrize("factor", [3.0, 1e-3, 2.0**-900, 2.0**900])
def test_nor_do_they_of_more_losses_than_are_sorted(make, factor):
    losses = np.random.default_rng(1).choice(TWO_GROUPS, EXACT + 1) * np.linspace(
        0.9, 1.1, EXACT + 1
    )
    before = make(loss_scale="any").fit(losses)
    after = make(loss_scale="any").fit(factor * losses)
    np.testing.assert_allclose(
        after.predict_proba(factor * losses), before.predict_proba(losses), atol=1e-9
    )
    assert after.threshold_ == pytest.approx(factor * before.threshold_, rel=1e-9)


@each_detector
def test_fit_twice_is_fit_once(make):
    once = make().fit(TWO_GROUPS)
    twice = make().fit(TWO_GROUPS[::-1] ** 2).fit(TWO_GROUPS)
    np.testing.assert_array_equal(twice.predict_proba(TWO_GROUPS), once.predict_proba(TWO_GROUPS))
    assert twice.noise_rate_interval_ == once.noise_rate_interval_


@each_detector
@given(cut=st.integers(10, 990))
def test_parts_counted_apart_and_added_are_the_whole(make, cut):
    parts = [LossHistogram().fill(TWO_GROUPS[:cut]), LossHistogram().fill(TWO_GROUPS[cut:])]
    whole = make().fit_histogram(LossHistogram().fill(TWO_GROUPS))
    added = make().fit_histogram(sum(parts))
    np.testing.assert_array_equal(added.predict_proba(TWO_GROUPS), whole.predict_proba(TWO_GROUPS))
    assert added.noise_rate_ == whole.noise_rate_


# -- streams --------------------------------------------------------------------------------------


@quietly  # the first parts are too few to tell
@each_detector
def test_partial_fit_is_fit_histogram_of_all_so_far(make):
    streamed = make()
    for part in np.split(RNG.permutation(TWO_GROUPS), 20):
        streamed.partial_fit(part)
    whole = make().fit_histogram(LossHistogram().fill(TWO_GROUPS))
    assert streamed.noise_rate_ == whole.noise_rate_
    assert streamed.noise_rate_ == pytest.approx(make().fit(TWO_GROUPS).noise_rate_, abs=2e-3)


def test_partial_fit_goes_on_from_fit():
    continued = BetaMixtureNoiseDetector().fit(TWO_GROUPS[::2]).partial_fit(TWO_GROUPS[1::2])
    whole = BetaMixtureNoiseDetector().fit_histogram(LossHistogram().fill(TWO_GROUPS))
    assert continued.noise_rate_ == whole.noise_rate_


@quietly
def test_partial_fit_waits_for_ten_losses():
    detector = BetaMixtureNoiseDetector().partial_fit([0.1, 0.2, 5.0])
    with pytest.raises(NotFittedError):
        detector.predict([1.0])
    detector.partial_fit(np.linspace(0.0, 1.0, 7))
    assert detector.predict([0.1]).shape == (1,)


def test_a_failed_first_batch_does_not_decide_the_columns_of_a_stream():
    detector = BetaMixtureNoiseDetector()
    with pytest.raises(InvalidDataError):
        detector.partial_fit([[1.0, np.nan]])
    assert not hasattr(detector, "n_features_in_")
    assert detector.partial_fit(TWO_GROUPS).noise_rate_ == pytest.approx(0.3, abs=0.03)


@quietly
def test_partial_fit_takes_histories():
    history = TWO_GROUPS[:, None] + np.zeros(3)
    streamed = BetaMixtureNoiseDetector().partial_fit(history[:500])
    streamed.partial_fit(history[500:])
    assert streamed.n_features_in_ == 3
    assert streamed.predict(history).shape == (1000,)
    with pytest.raises(InvalidDataError, match="X has 2 features"):
        streamed.partial_fit(history[:, :2])


# -- copies, and scikit-learn ---------------------------------------------------------------------


@each_detector
@pytest.mark.parametrize("copied", [clone, copy.deepcopy, lambda d: pickle.loads(pickle.dumps(d))])
def test_copies(make, copied):
    detector = make(max_iter=3, loss_scale="any").fit(TWO_GROUPS)
    other = copied(detector)
    assert other.get_params() == detector.get_params()
    if copied is clone:
        assert not hasattr(other, "weights_")
        other.fit(TWO_GROUPS)
    np.testing.assert_array_equal(
        other.predict_proba(TWO_GROUPS), detector.predict_proba(TWO_GROUPS)
    )
    assert other.noise_rate_interval_ == detector.noise_rate_interval_
    assert other.threshold_for(budget=10) == detector.threshold_for(budget=10)


def test_joblib(tmp_path):
    detector = BetaMixtureNoiseDetector().fit(TWO_GROUPS)
    joblib.dump(detector, tmp_path / "detector.joblib")
    loaded = joblib.load(tmp_path / "detector.joblib")
    assert loaded.noise_rate_ == detector.noise_rate_
    fits = Parallel(n_jobs=2, prefer="threads")(
        delayed(BetaMixtureNoiseDetector().fit)(TWO_GROUPS) for _ in range(4)
    )
    assert {fit.noise_rate_ for fit in fits} == {detector.noise_rate_}


def test_works_in_a_pipeline():
    losses = TWO_GROUPS[:, None]
    pipeline = make_pipeline(MinMaxScaler(), BetaMixtureNoiseDetector(loss_scale="any"))
    alone = BetaMixtureNoiseDetector(loss_scale="any").fit(losses)
    np.testing.assert_allclose(
        pipeline.fit(losses).predict_proba(losses), alone.predict_proba(losses), atol=1e-6
    )


def test_works_in_a_grid_search():
    search = GridSearchCV(BetaMixtureNoiseDetector(), {"max_iter": [1, 20]}, cv=3)
    search.fit(RNG.permutation(TWO_GROUPS))
    assert search.best_params_["max_iter"] in (1, 20)
    assert search.predict(TWO_GROUPS).shape == (1000,)


def test_scorers_rank_by_the_probability():
    order = RNG.permutation(1000)
    losses, wrong = TWO_GROUPS[order], (TWO_GROUPS > 1.5)[order]
    if SKLEARN >= (1, 9):  # before, only classifiers and outlier detectors are ranked
        names = ["roc_auc", "average_precision"]
        scores = cross_validate(BetaMixtureNoiseDetector(), losses[:, None], wrong, scoring=names)
        assert scores["test_roc_auc"].min() > 0.95
    detector = BetaMixtureNoiseDetector().fit(losses)
    decision = detector.decision_function(losses)
    np.testing.assert_array_equal(decision, detector.predict_proba(losses)[:, 1] - 0.5)
    np.testing.assert_array_equal(decision > 0.0, detector.predict(losses) == 1)


def test_metadata_routing_passes_groups_on():
    with sklearn.config_context(enable_metadata_routing=True):
        detector = BetaMixtureNoiseDetector()
        detector.set_fit_request(groups=True)
        pipeline = make_pipeline(MinMaxScaler(), detector.set_params(loss_scale="any"))
        pipeline.fit(TWO_GROUPS[:, None], groups=np.arange(1000) % 2)
    assert [report["group"] for report in pipeline[-1].group_report_] == [0, 1]


@each_detector
def test_the_html_repr_links_to_the_documentation(make):
    html = make()._repr_html_()
    assert f"lossnoise.{make.__name__}" in html
    assert "https://lossnoise.readthedocs.io/" in html


# 1-D input is the usual input of a detector, which these two checks ask to be refused.
EXPECTED_FAILED_CHECKS = {
    "check_fit1d": "a vector of losses is the usual input",
    "check_fit2d_predict1d": "a vector of losses is the usual input",
}
# Fewer than scikit-learn's own, so that a check that is silently skipped is noticed.
PASSED_AT_LEAST = {(1, 6): 41, (1, 9): 42}
SKLEARN = tuple(int(part) for part in sklearn.__version__.split(".")[:2])


@pytest.mark.filterwarnings("ignore")  # the checks warn on purpose, and skip with a warning
@each_detector
@each_scale
def test_is_a_scikit_learn_estimator(make, scale):
    results = check_estimator(
        make(loss_scale=scale), expected_failed_checks=EXPECTED_FAILED_CHECKS, on_fail=None
    )
    names = {status: set() for status in ("passed", "failed", "xfail", "skipped")}
    for result in results:
        names[result["status"]].add(result["check_name"])
    assert names["failed"] == set()
    assert names["xfail"] == set(EXPECTED_FAILED_CHECKS)
    statuses = [result["status"] for result in results]
    accounted = sum(statuses.count(status) for status in ("passed", "xfail", "skipped"))
    assert accounted == len(results)  # nothing failed, and nothing is of a kind we do not know
    minimum = max(count for known, count in PASSED_AT_LEAST.items() if known <= SKLEARN)
    assert len(names["passed"]) >= minimum, names


# -- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["predict", "predict_proba", "transform", "posterior", "score"])
def test_predictions_have_the_same_border(method):
    detector = BetaMixtureNoiseDetector()
    with pytest.raises(NotFittedError, match="not fitted yet"):
        getattr(detector, method)([1.0])
    detector.fit(TWO_GROUPS)
    with pytest.raises(InvalidDataError, match="Got NaN in 1 of 2 rows, first in row 1 instead"):
        getattr(detector, method)([1.0, np.nan])
    with pytest.raises(InvalidDataError, match="X has 2 features"):
        getattr(detector, method)(np.ones((5, 2)))
    assert np.size(getattr(detector, method)([1.0])) in (1, 2)  # one loss is enough


def test_a_detector_of_histories_refuses_a_vector():
    detector = BetaMixtureNoiseDetector().fit(TWO_GROUPS[:, None] + np.zeros(3))
    message = (
        "The 'X' parameter of BetaMixtureNoiseDetector must be a loss history of 3 columns, as "
        "in fit. Got a vector of losses instead."
    )
    with pytest.raises(InvalidDataError, match=exactly(message)):
        detector.predict(TWO_GROUPS)


PERCENTILES = "a pair of percentiles (low, high) with 0 <= low < high <= 100"
BAD_PARAMETERS = [
    ("max_iter", 0, "an int in the range [1, inf)"),
    ("max_iter", 2.0, "an int in the range [1, inf)"),
    ("max_iter", True, "an int in the range [1, inf)"),
    ("tol", -1, "a float in the range [0.0, inf)"),
    ("tol", float("nan"), "a float in the range [0.0, inf)"),
    ("tol", "0", "a float in the range [0.0, inf)"),
    ("n_bins", 9, "an int in the range [10, inf)"),
    ("hard_fraction", 0.5, "a float in the range [0.0, 0.5)"),
    ("hard_fraction", None, "a float in the range [0.0, 0.5)"),
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


@each_detector
@pytest.mark.parametrize(("name", "value", "expected"), BAD_PARAMETERS)
def test_parameters_out_of_range(make, name, value, expected):
    message = (
        f"The {name!r} parameter of {make.__name__} must be {expected}. Got {value!r} instead."
    )
    with pytest.raises(InvalidParameterError, match=exactly(message)):
        make(**{name: value}).fit(TWO_GROUPS)
