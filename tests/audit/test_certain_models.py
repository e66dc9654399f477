"""Probabilities of 0 and 1 only: every mistake of the model looks like a wrong label."""

import csv

import numpy as np
import pytest
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import cross_val_predict
from sklearn.tree import DecisionTreeClassifier

from lossnoise import BetaMixtureNoiseDetector, LossHistogram, audit
from lossnoise.audit._file_audit import Limits, audit_file
from lossnoise.exceptions import LossScaleWarning, NoSeparableNoiseWarning

WHY = "nearly all probabilities are 0 or 1, as those of a fully grown tree or of one neighbour are"
TOLD = "Nearly all losses are those of probabilities of 0 and 1"


@pytest.fixture(scope="module")
def rows():
    """Return inputs, and labels that are all right."""
    return make_classification(
        1000, 10, n_informative=6, n_classes=3, flip_y=0.0, class_sep=1.5, random_state=0
    )


@pytest.fixture(scope="module")
def probs(rows):
    tree = DecisionTreeClassifier(random_state=0)
    return cross_val_predict(tree, *rows, method="predict_proba")


def test_a_fully_grown_tree_cannot_tell(rows, probs):
    _, labels = rows
    mistakes = probs.argmax(axis=1) != labels
    assert mistakes.mean() > 0.1
    with pytest.warns(NoSeparableNoiseWarning, match=WHY):
        report = audit(labels, pred_probs=probs)
    assert report.detector.separable_  # by the losses alone
    assert report.summary["separable"] is False
    assert report.summary["noise_rate_interval"][0] == 0.0
    assert WHY in report.summary["verdict"]
    assert "all may be errors of the model" in report.summary["verdict"]
    assert report.summary["num_issues"] == mistakes.sum()  # still the rows to look at first


def test_a_file_of_its_predictions_says_the_same_in_memory_and_in_pieces(rows, probs, tmp_path):
    path = tmp_path / "rows.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["label", "p_0", "p_1", "p_2"])
        writer.writerows([label, *row] for label, row in zip(rows[1], probs, strict=True))
    with pytest.warns(NoSeparableNoiseWarning, match=WHY):
        whole = audit_file(path, pred_probs="p_*")
    pieces = audit_file(path, pred_probs="p_*", limits=Limits(rows=100, chunk=300))
    assert (whole.streamed, pieces.streamed) == (False, True)
    assert pieces.report.summary["verdict"] == whole.report.summary["verdict"]
    assert WHY in whole.report.summary["verdict"]


@pytest.mark.filterwarnings("ignore::lossnoise.exceptions.NoSeparableNoiseWarning")
def test_a_forest_says_how_sure_it_is(rows):
    inputs, labels = rows
    forest = RandomForestClassifier(50, random_state=0)
    probs = cross_val_predict(forest, inputs, labels, method="predict_proba")
    assert WHY not in audit(labels, pred_probs=probs).summary["verdict"]


def test_a_detector_says_so_of_the_losses_one_by_one_or_counted(rows, probs):
    losses = -np.log(np.clip(probs[np.arange(1000), rows[1]], 1e-12, 1.0))
    with pytest.warns(LossScaleWarning, match=TOLD):
        BetaMixtureNoiseDetector().fit(losses)
    with pytest.warns(LossScaleWarning, match=TOLD):
        BetaMixtureNoiseDetector().fit_histogram(LossHistogram().fill(losses))


def test_losses_of_the_same_model_beside_its_probabilities_say_so_too(rows, probs):
    _, labels = rows
    losses = -np.log(np.clip(probs[np.arange(1000), labels], 1e-7, 1.0))  # clipped by the caller
    with pytest.warns(NoSeparableNoiseWarning, match=WHY):
        report = audit(labels, losses=losses, pred_probs=probs)
    assert report.summary["separable"] is False


def test_a_tree_with_a_few_twins_is_hardly_less_certain(rows, probs):
    probs = probs.copy()
    probs[:8] = 1.0 / 3.0
    with pytest.warns(NoSeparableNoiseWarning, match=WHY):
        audit(rows[1], pred_probs=probs)


def test_a_few_mistakes_may_be_outliers(recwarn):
    losses = np.zeros(1000)
    losses[:3] = 27.631
    BetaMixtureNoiseDetector().fit(losses)
    assert LossScaleWarning not in {w.category for w in recwarn}
