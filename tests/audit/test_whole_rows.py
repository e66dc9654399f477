"""Where the losses cannot tell, whole rows of probabilities count the wrong labels."""

import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures

from lossnoise import BetaMixtureNoiseDetector, audit
from lossnoise.audit._classes import Columns
from lossnoise.audit._doubts import TOO_FEW, Evidence
from lossnoise.audit._file_audit import Limits, audit_file
from lossnoise.audit._whole_rows import (
    Contradicted,
    SelfConfidence,
    Suspected,
    shift_to,
    shifted,
)
from lossnoise.exceptions import NoSeparableNoiseWarning


def columns_of(labels, probs):
    return Columns(np.arange(probs.shape[1]), labels, probs)


def slow_count(labels, probs):
    """Count row by row: contradicted labels, and those where another class is confident.

    As sure as in its own rows on average, and surer than of the given label.
    """
    classes = range(probs.shape[1])
    means = {c: np.mean([row[c] for row in probs[labels == c]]) for c in set(labels.tolist())}
    contradicted = surely = 0
    for label, row in zip(labels, probs, strict=True):
        if label == row.argmax():
            continue
        contradicted += 1
        sure = [c for c in classes if c in means and row[c] >= means[c] - 1e-9]
        best = max(sure, key=lambda c: row[c], default=label)
        surely += row[best] > row[label]
    return contradicted, surely


def count(labels, probs):
    columns = columns_of(labels, probs)
    return Contradicted.of(columns, SelfConfidence.of(columns).thresholds)


@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize("seed", range(5))
def test_the_count_is_that_of_a_slow_version(classes, seed):
    rng = np.random.default_rng(seed)
    probs = rng.dirichlet(np.full(classes, 0.5), size=300)
    labels = np.where(rng.random(300) < 0.7, probs.argmax(axis=1), rng.integers(classes, size=300))
    if classes == 10:
        labels[labels == 3] = 4  # no label of one class
    found = count(labels, probs)
    assert found == slow_count(labels, probs)
    assert 0 < found.surely < found.n


def test_a_count_by_hand():
    probs = np.array([[0.9, 0.1], [0.7, 0.3], [0.2, 0.8], [0.6, 0.4], [0.75, 0.25]])
    labels = np.array([0, 0, 1, 1, 1])
    # Class 0: (.9 + .7) / 2 = .8; class 1: (.8 + .4 + .25) / 3 = .483. The last two rows are
    # contradicted, and neither is as sure of class 0 as .8.
    columns = columns_of(labels, probs)
    np.testing.assert_allclose(SelfConfidence.of(columns).thresholds, [0.8, 1.45 / 3])
    assert count(labels, probs) == (2, 0)
    assert count(np.array([0, 0, 1, 1, 0]), probs) == (1, 0)
    probs[4] = [0.85, 0.15]
    assert count(labels, probs) == (2, 1)


def test_a_class_of_no_label_is_never_meant():
    probs = np.array([[0.6, 0.1, 0.3], [0.1, 0.6, 0.3], [0.1, 0.1, 0.8]])
    columns = columns_of(np.array([0, 1, 0]), probs)
    assert SelfConfidence.of(columns).thresholds[2] == np.inf
    assert count(np.array([0, 1, 0]), probs) == (1, 0)


def test_equal_probabilities_contradict_nothing():
    """One of several first choices, whichever column it is in."""
    assert count(np.array([0, 1] * 5), np.full((10, 2), 0.5)) == (0, 0)
    probs = np.array([[0.4, 0.2, 0.4], [0.5, 0.25, 0.25]] * 5)
    for order in ([0, 1, 2], [2, 1, 0], [1, 2, 0]):
        labels = np.argsort(order)[np.array([2, 2] * 5)]
        assert count(labels, probs[:, order])[0] == 5


def test_parts_add_up_to_the_whole():
    rng = np.random.default_rng(0)
    labels, probs = rng.integers(4, size=90), rng.dirichlet(np.ones(4), size=90)
    parts = [columns_of(labels[i::3], probs[i::3]) for i in range(3)]
    first, *others = map(SelfConfidence.of, parts)
    for other in others:
        first = first.plus(other)
    whole = SelfConfidence.of(columns_of(labels, probs))
    np.testing.assert_allclose(first.thresholds, whole.thresholds, rtol=1e-12)
    total = Contradicted()
    for part in parts:
        total = total.plus(Contradicted.of(part, first.thresholds))
    assert total == count(labels, probs)


PROBABILITIES = hnp.arrays(
    np.float64, st.integers(1, 30), elements=st.floats(0.0, 1.0, allow_subnormal=False)
)


@given(PROBABILITIES, st.integers(0, 30), st.integers(0, 30))
def test_probabilities_are_moved_to_the_share_and_keep_their_order(proba, surely, more):
    share = Contradicted(surely + more, surely).share
    assert 0.0 < share < 1.0
    contradicted = Suspected(np.zeros(len(proba)), proba, np.ones(len(proba)))
    moved = shifted(proba, shift_to(contradicted, share))
    assert moved.mean() == pytest.approx(share, abs=1e-9)
    assert ((moved >= 0.0) & (moved <= 1.0)).all()
    order = np.argsort(proba)
    assert (np.diff(moved[order]) >= 0.0).all()
    apart = np.diff(proba[order]) > 1e-6
    assert (np.diff(moved[order])[apart] > 0.0).all()


def test_bins_count_as_often_as_they_hold_labels():
    proba, weights = np.array([0.1, 0.7, 0.9]), np.array([5, 1, 3])
    bins = Suspected(np.zeros(3), proba, weights)
    rows = Suspected(np.zeros(9), np.repeat(proba, weights), np.ones(9))
    assert shift_to(bins, 0.4) == pytest.approx(shift_to(rows, 0.4))


@pytest.mark.parametrize(
    ("counted", "contradicted", "doubt"),
    [(126.0, 100.0, ""), (129.0, 100.0, TOO_FEW), (5.0, 2.0, ""), (6.0, 2.0, TOO_FEW)],
)
def test_a_quarter_more_by_rows_is_too_few_by_losses(counted, contradicted, doubt):
    assert Evidence(contradicted=contradicted, counted=counted).doubt == doubt


def test_a_mean_of_equal_probabilities_is_reached_by_each():
    """The mean of three times .8 is a little more."""
    labels, probs = np.array([1, 1, 1, 0]), np.tile([0.2, 0.8], (4, 1))
    assert SelfConfidence.of(columns_of(labels, probs)).thresholds[1] > 0.8
    assert count(labels, probs) == (1, 1)


@pytest.mark.parametrize(("classes", "apart", "scale"), [(10, 4.0, 0.3), (100, 5.0, 1.0)])
def test_an_unsure_model_of_many_classes_has_a_narrow_interval(classes, apart, scale):
    """It gives less than an even chance to many first choices, and nobody doubts these."""
    rng = np.random.default_rng(0)
    truth = rng.integers(classes, size=3000)
    scores = (rng.normal(size=(3000, classes)) + apart * np.eye(classes)[truth]) * scale
    wrong = rng.random(3000) < 0.1
    labels = np.where(wrong, (truth + rng.integers(1, classes, 3000)) % classes, truth)
    report = audit(labels, logits=scores)
    low, high = report.summary["noise_rate_interval"]
    assert 0.05 < low < high <= (scores.argmax(axis=1) != labels).mean()
    assert report.detector.noise_rate_interval_[1] < 0.2


def unsure(rate=0.1, n=2000, seed=0):
    """Return labels, and calibrated probabilities of a model that is hardly sure of anything."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(n, 3)) * 1.5
    probs = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    truth = (probs.cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)
    wrong = rng.random(n) < rate
    return np.where(wrong, (truth + rng.integers(1, 3, n)) % 3, truth), probs


def test_the_rate_is_the_count_where_losses_cannot_tell():
    labels, probs = unsure()
    with pytest.warns(NoSeparableNoiseWarning):
        report = audit(labels, pred_probs=probs)
    assert not report.detector.separable_
    contradicted, surely = slow_count(labels, probs)
    share = (surely + 0.5) / (contradicted + 1.0)
    assert report.noise_proba.sum() == pytest.approx(share * contradicted, rel=1e-6)
    first = probs.argmax(axis=1) == labels
    assert (report.noise_proba[first] == 0.0).all()
    order = np.argsort(report.losses[~first])  # as by the detector
    moved = report.noise_proba[~first][order]
    assert (np.diff(moved) >= -1e-12).all()
    assert moved[-1] > moved[0] + 0.2  # and are no constant
    low, high = report.summary["noise_rate_interval"]
    assert low == 0.0
    assert high >= report.summary["noise_rate"]


def test_right_labels_of_a_good_model_are_hardly_flagged():
    """The plain posterior flags more than ten times as many."""
    rng = np.random.default_rng(3)
    truth = rng.integers(4, size=3000)
    scores = rng.normal(size=(3000, 4)) + 4.0 * np.eye(4)[truth]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NoSeparableNoiseWarning)
        report = audit(truth, logits=scores)
    assert not report.detector.separable_
    plain = report.detector.posterior(report.losses)
    missed = scores.argmax(axis=1) != truth
    assert (plain[missed] > 0.5).sum() > 10 * max(report.summary["num_issues"], 1)
    assert report.summary["noise_rate"] < 0.01


def test_losses_that_can_tell_are_believed():
    rng = np.random.default_rng(1)
    truth = rng.integers(3, size=1500)
    scores = rng.normal(size=(1500, 3)) + 7.0 * np.eye(3)[truth]
    labels = np.where(rng.random(1500) < 0.2, (truth + 1) % 3, truth)
    report = audit(labels, logits=scores)
    assert report.detector.separable_
    contradicted = scores.argmax(axis=1) != labels
    posterior = report.detector.posterior(report.losses)
    np.testing.assert_array_equal(report.noise_proba, np.where(contradicted, posterior, 0.0))


@pytest.mark.filterwarnings("ignore:Cannot tell:UserWarning")
@pytest.mark.parametrize("seed", range(3))
def test_a_file_in_pieces_is_counted_as_a_whole(tmp_path, seed):
    labels, probs = unsure(seed=seed)
    path = tmp_path / "rows.parquet"
    frame = pd.DataFrame(probs, columns=["p_0", "p_1", "p_2"])
    frame.assign(label=labels).to_parquet(path)
    pieces, whole = (
        audit_file(path, pred_probs="p_*", limits=limits).report
        for limits in (Limits(rows=100, kept=2000, chunk=300), Limits())
    )
    assert pieces.summary["noise_rate"] == pytest.approx(whole.summary["noise_rate"], abs=1e-3)
    assert pieces.summary["num_issues"] == pytest.approx(whole.summary["num_issues"], abs=10)
    np.testing.assert_allclose(pieces.noise_proba, whole.noise_proba, atol=0.02)


def test_where_few_of_those_that_the_model_doubts_stand_out_all_may_be_wrong():
    rng = np.random.default_rng(0)
    losses = np.concatenate([-np.log(rng.uniform(0.3, 1.0, 1940)), rng.uniform(5.0, 8.0, 60)])
    detector = BetaMixtureNoiseDetector().fit(losses)
    assert detector.separable_
    assert detector.noise_rate_ == pytest.approx(0.03, abs=0.01)
    high = detector.noise_rate_interval_[1]
    assert high == pytest.approx((losses > np.log(2.0)).mean(), abs=2e-3)
    other = BetaMixtureNoiseDetector(loss_scale="any").fit(losses)  # no probabilities
    assert other.noise_rate_interval_[1] < 0.1 < high


def test_where_only_the_worst_stand_out_whole_rows_count():
    """Many rows lie at the border of two classes, where right and wrong labels are alike."""
    rng = np.random.default_rng(1)
    inputs = rng.uniform(-1.0, 1.0, size=(2000, 4))
    labels = (inputs[:, 0] > 0.0) ^ (inputs[:, 1] > 0.0) ^ (rng.random(2000) < 0.2)
    model = make_pipeline(PolynomialFeatures(2), LogisticRegression())
    probs = cross_val_predict(model, inputs, labels, method="predict_proba")
    losses = -np.log(probs[np.arange(2000), labels.astype(int)])
    detector = BetaMixtureNoiseDetector().fit(losses)
    assert detector.separable_
    assert detector.noise_rate_ < 0.1
    with pytest.warns(NoSeparableNoiseWarning, match="many more labels look wrong than by"):
        report = audit(labels, pred_probs=probs)
    assert 1.5 * detector.noise_rate_ < report.summary["noise_rate"] < 0.25
    assert "By whole rows of probabilities, " in report.summary["verdict"]
