"""Classes that the model has not learned: right labels of theirs look wrong too."""

import csv

import numpy as np
import pytest
from sklearn.base import BaseEstimator

from lossnoise import AuditReport, BetaMixtureNoiseDetector, audit, cli
from lossnoise.audit._doubts import are_among, listed, unlearned_classes
from lossnoise.audit._file_audit import Limits, audit_file
from lossnoise.exceptions import (
    LayoutWarning,
    NoSeparableNoiseWarning,
    UnattainableThresholdWarning,
)
from lossnoise.noise import inject_noise

WHY = "most labels of 'rare' look wrong, as where a model has not learned a rare class"


@pytest.fixture
def one_class():
    """Return right labels, and predictions that know the frequent class only."""
    rng = np.random.default_rng(0)
    codes = (np.arange(2000) < 100).astype(int)
    rare = np.clip(rng.normal(0.05, 0.01, 2000), 0.01, 0.2)
    return np.array(["usual", "rare"])[codes], np.column_stack([rare, 1.0 - rare])


@pytest.fixture
def partly():
    """Return labels of which a fifth of two classes is wrong, and of a rare one all look so."""
    rng = np.random.default_rng(0)
    true = np.repeat(["a", "b", "rare"], [900, 900, 40])
    labels = true.copy()
    labels[:180], labels[900:1080] = "b", "a"
    first = np.where(true == "b", 1, 0)
    probs = np.full((len(true), 3), 0.01)
    sure = np.clip(rng.normal(0.95, 0.02, len(true)), 0.8, 0.98)
    probs[np.arange(len(true)), first] = sure
    probs /= probs.sum(axis=1, keepdims=True)
    return labels, probs, labels != true


def test_a_model_that_knows_one_class_only_cannot_tell(one_class):
    labels, probs = one_class
    with pytest.warns(NoSeparableNoiseWarning, match=WHY):
        report = audit(labels, pred_probs=probs)
    assert report.detector.separable_  # by the losses alone
    found = report.summary
    assert (found["separable"], found["num_issues"]) == (False, 100)
    assert found["unlearned_classes"] == ["rare"]
    assert found["cautious_precision"] is None
    assert WHY in found["verdict"]
    with pytest.warns(UnattainableThresholdWarning):
        assert report.threshold_for(precision=0.5).count == 0
    assert report.threshold_for(budget=100).precision > 0.9  # by the probabilities, as in the table


def test_losses_alone_say_the_same(one_class):
    labels, probs = one_class
    losses = -np.log(probs[np.arange(2000), (labels == "usual").astype(int)])
    with pytest.warns(NoSeparableNoiseWarning, match=WHY):
        assert audit(labels, losses=losses).summary["unlearned_classes"] == ["rare"]


@pytest.mark.parametrize("which", ["one_class", "partly"])
def test_a_file_in_pieces_says_the_same(which, request, tmp_path, recwarn):
    labels, probs, *_ = request.getfixturevalue(which)
    names = np.unique(labels)
    path = tmp_path / "rows.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["label", *(f"p_{name}" for name in names)])
        writer.writerows([label, *row] for label, row in zip(labels, probs, strict=True))
    whole = audit_file(path, pred_probs="p_*").report.summary
    pieces = audit_file(path, pred_probs="p_*", limits=Limits(rows=100, chunk=300)).report.summary
    assert pieces["unlearned_classes"] == whole["unlearned_classes"] == ["rare"]
    assert pieces["separable"] is whole["separable"]
    assert (WHY in pieces["verdict"]) is (WHY in whole["verdict"]) is not whole["separable"]
    assert pieces["cautious_precision"] == pytest.approx(whole["cautious_precision"], abs=1e-3)


def test_a_rare_class_among_others_lowers_what_can_be_expected(partly):
    labels, probs, wrong = partly
    report = audit(labels, pred_probs=probs)
    found = report.summary
    flagged = report.noise_proba > 0.5
    assert flagged[labels == "rare"].all()
    assert found["separable"] is True
    assert found["unlearned_classes"] == ["rare"]
    low, high = found["cautious_precision"], found["expected_precision"]
    assert low <= wrong[flagged].mean() <= high
    assert high - low > 0.05
    assert f"{100 * low:.0f} to" in found["verdict"]
    cut = report.threshold_for(precision=0.85)
    assert cut.precision == pytest.approx(
        wrong[report.noise_proba >= cut.threshold].mean(), abs=0.05
    )


def test_swapped_classes_are_no_unlearned_ones():
    """A model that knows better, such as one of somebody else, gives them to other rows."""
    rng = np.random.default_rng(0)
    true = rng.integers(5, size=2000)
    labels = np.array([0, 1, 2, 4, 3])[true]
    sure = np.clip(rng.normal(0.95, 0.02, 2000), 0.8, 0.98)
    probs = np.repeat((1.0 - sure[:, None]) / 4.0, 5, axis=1)
    probs[np.arange(2000), true] = sure
    with pytest.warns(LayoutWarning, match="^Only 0% of the labels 3, 4 are the most probable"):
        summary = audit(labels, pred_probs=probs).summary
    assert summary["separable"] is True
    assert summary["unlearned_classes"] == []


def test_which_classes_are_unlearned():
    classes = [
        {"label": x, "n": 100, "num_issues": k} for x, k in zip("abc", (100, 90, 89), strict=True)
    ]
    tiny = {"label": "d", "n": 9, "num_issues": 9}
    assert unlearned_classes([*classes, tiny], []) == ["a", "b"]
    pairs = [{"given": "c", "suggested": "a", "count": 20}]
    assert unlearned_classes(classes, pairs) == ["b"]


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (["a"], "'a'"),
        ([1, 2], "'1' and '2'"),
        ([1, 2, 3], "'1', '2' and '3'"),
        ([1, 2, 3, 4], "'1', '2' and 2 other classes"),
        ([0, "x" * 99], "'usual' and '" + "x" * 24 + "'"),
        (["<b>\n"], r"'<b>\n'"),
    ],
)
def test_classes_in_words(labels, words):
    assert listed(labels, {0: "usual"}) == words


def test_which_rows_are_of_some_classes():
    labels = np.array(["a", None, 3, True, "a"], dtype=object)
    assert are_among(labels, ["a", None]).tolist() == [True, True, False, False, True]
    assert not are_among(labels, []).any()
    many = np.arange(50_000)  # each a class of its own
    assert are_among(many, many[::2].tolist()).sum() == 25_000


def test_a_rare_class_that_the_model_knows_can_tell():
    """Most of its labels are wrong: those come from the frequent class."""
    rng = np.random.default_rng(0)
    true = (np.arange(20_000) < 100).astype(int)
    labels, wrong = inject_noise(true, 0.1, include_true=False, random_state=0)
    sure = np.clip(rng.normal(0.95, 0.02, 20_000), 0.8, 0.99)
    probs = np.where(np.arange(2) == true[:, None], sure[:, None], 1.0 - sure[:, None])
    report = audit(labels, pred_probs=probs)
    found, flagged = report.summary, report.noise_proba > 0.5
    assert found["separable"] is True
    assert found["noise_rate"] == pytest.approx(wrong.mean(), abs=0.02)
    assert found["unlearned_classes"] == [1]  # for all that is known
    low, high = found["cautious_precision"], found["expected_precision"]
    assert low < wrong[flagged].mean() - 0.5
    assert high == pytest.approx(wrong[flagged].mean(), abs=0.05)
    assert "Most labels of '1' are among them" in found["verdict"]


def test_labels_that_occur_once_may_be_right_or_typing_errors():
    rng = np.random.default_rng(0)
    labels = np.array([f"c{i}" for i in rng.integers(4, size=4000)], dtype=object)
    losses = rng.gamma(1.0, 0.1, 4000)
    labels[:200] = [f"{label} {i}" for i, label in enumerate(labels[:200])]
    losses[:200] = rng.normal(5.0, 0.5, 200)
    with pytest.warns(NoSeparableNoiseWarning, match="and 198 other classes look wrong"):
        summary = audit(labels, losses=losses).summary
    assert len(summary["unlearned_classes"]) == 200
    assert (summary["cautious_precision"], summary["num_issues"]) == (None, 200)


def test_small_classes_are_flagged_by_chance_where_others_are_as_often():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(1000), 3)
    wrong = rng.random(3000) < 0.3
    losses = np.where(wrong, rng.normal(5.0, 0.5, 3000), rng.gamma(1.0, 0.1, 3000))
    summary = audit(labels, losses=losses).summary
    assert summary["unlearned_classes"] == []
    assert summary["cautious_precision"] > 0.9


def test_the_classes_have_the_names_that_they_are_shown_by(one_class):
    labels, probs = one_class
    codes = (labels == "usual").astype(int)
    with pytest.warns(NoSeparableNoiseWarning, match=WHY):
        report = audit(codes, pred_probs=probs, class_names=["rare", "usual"])
    assert WHY in report.summary["verdict"]
    assert report.summary["unlearned_classes"] == [0]


def test_a_report_of_a_trainer_that_has_lost_a_class_cannot_tell():
    labels = np.repeat([0, 1, 2], [900, 900, 80])
    rng = np.random.default_rng(0)
    losses = np.where(labels == 2, rng.normal(5.0, 0.5, 1880), rng.gamma(1.0, 0.1, 1880))
    detector = BetaMixtureNoiseDetector().fit(losses)
    predicted = np.eye(3)[np.minimum(labels, 1)] * 0.97 + 0.01
    trainer = BaseEstimator()
    vars(trainer).update(
        fit=None,
        labels_=labels,
        num_classes_=3,
        losses_=losses,
        noise_proba_=detector.predict_proba(losses)[:, 1],
        detector_=detector,
        _proba_and_labels=lambda dataset: (predicted, labels),
    )
    summary = AuditReport.from_trainer(trainer, None).summary
    assert (summary["separable"], summary["unlearned_classes"]) == (False, [2])
    assert "most labels of '2' look wrong" in summary["verdict"]


def test_the_command_cannot_tell_either(one_class, tmp_path, capsys):
    labels, probs = one_class
    path = tmp_path / "rows.csv"
    rows = zip(labels, *probs.T, strict=True)
    lines = ["label,p_rare,p_usual", *(f"{label},{p:.6f},{q:.6f}" for label, p, q in rows)]
    path.write_text("\n".join(lines))
    assert cli.main(["audit", str(path), "--pred-probs", "p_*", "--max-noise", "0.03"]) == 3
    assert WHY in " ".join(capsys.readouterr().out.split())
