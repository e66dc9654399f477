"""Predictions of rows that the model has learned from agree with wrong labels too."""

import csv

import numpy as np
import pytest
from sklearn.datasets import make_classification
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict

from lossnoise import BetaMixtureNoiseDetector, audit, cli
from lossnoise.exceptions import NoSeparableNoiseWarning
from lossnoise.noise import inject_noise

CANNOT_TELL = 3  # exit status
LEARNED = "if it had learned from these rows: predictions must be of rows held out"


@pytest.fixture(scope="module")
def data():
    """Return inputs, and labels of which 9 % are wrong."""
    inputs, true = make_classification(
        2000, 20, n_informative=10, n_classes=3, class_sep=2.0, random_state=0
    )
    labels, _ = inject_noise(true, 0.09, include_true=False, random_state=0)
    return inputs, labels


@pytest.fixture(scope="module")
def learned(data):
    inputs, labels = data
    return HistGradientBoostingClassifier(random_state=0).fit(inputs, labels).predict_proba(inputs)


def test_a_model_that_has_learned_the_rows_cannot_tell(data, learned):
    _, labels = data
    assert (learned.argmax(axis=1) == labels).mean() > 0.99
    with pytest.warns(NoSeparableNoiseWarning, match=LEARNED):
        report = audit(labels, pred_probs=learned)
    assert report.summary["separable"] is False
    assert LEARNED in report.summary["verdict"]
    assert report.summary["noise_rate_interval"] == report.detector.noise_rate_interval_


def test_held_out_predictions_of_the_same_rows_can(data):
    inputs, labels = data
    model = LogisticRegression(max_iter=500)
    held_out = cross_val_predict(model, inputs, labels, method="predict_proba")
    report = audit(labels, pred_probs=held_out)
    assert report.summary["separable"] is True
    assert LEARNED not in report.summary["verdict"]


def test_the_command_says_the_same(data, learned, tmp_path, capsys):
    _, labels = data
    path = tmp_path / "rows.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["label", "p_0", "p_1", "p_2"])
        writer.writerows([label, *row] for label, row in zip(labels, learned, strict=True))
    words = ["audit", str(path), "--pred-probs", "p_*", "--max-noise", "0.05"]
    assert cli.main(words) == CANNOT_TELL
    assert LEARNED in " ".join(capsys.readouterr().out.split())


def test_losses_that_are_no_cross_entropy_give_no_probability_of_the_label():
    rng = np.random.default_rng(0)
    losses = np.concatenate([rng.normal(-8.0, 1.0, 400), rng.normal(4.0, 1.0, 100)])
    labels = np.arange(500) % 3
    report = audit(labels, losses=losses, detector=BetaMixtureNoiseDetector(loss_scale="any"))
    assert report.table["label_score"].isna().all()
    assert report.table["p_noisy"].iloc[0] > 0.9
