"""Labels that look wrong and are the second choice of the model, as they are where it errs."""

import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB

from lossnoise import audit, cross_val_losses
from lossnoise.audit._file_audit import Limits, audit_file
from lossnoise.audit._mistakes import SecondChoices
from lossnoise.exceptions import UnattainableThresholdWarning
from lossnoise.noise import inject_noise

SENTENCE = "Many have the label that the model takes for the second most likely, as it is where"


@pytest.fixture(scope="module")
def naive():
    """Right labels of digits, and what a calibrated naive Bayes classifier makes of them."""
    pixels, digits = load_digits(return_X_y=True)
    model = CalibratedClassifierCV(GaussianNB(var_smoothing=1e-2), cv=3)
    _, probs = cross_val_losses(model, pixels, digits, return_proba=True, random_state=0)
    return digits, probs


def test_mistakes_of_a_model_are_no_certain_label_errors(naive):
    digits, probs = naive
    report = audit(digits, pred_probs=probs)
    found = report.summary
    assert found["separable"]
    assert found["num_issues"] > 100
    assert found["expected_precision"] > 0.9
    assert found["cautious_precision"] < 0.3
    assert found["noise_rate_interval"][0] < 0.01
    assert SENTENCE in found["verdict"]
    with pytest.warns(UnattainableThresholdWarning):
        assert report.threshold_for(precision=0.9).count == 0


def test_labels_drawn_at_random_are_no_mistakes():
    pixels, digits = load_digits(return_X_y=True)
    for rate in (0.1, 0.4):
        given, _ = inject_noise(digits, rate, random_state=0)
        model = LogisticRegression(max_iter=2000, C=0.01)
        _, probs = cross_val_losses(model, pixels, given, return_proba=True, random_state=0)
        found = audit(given, pred_probs=probs).summary
        assert found["like_mistakes"] < 0.05
        assert SENTENCE not in found["verdict"]


def test_a_file_in_pieces_counts_the_same(naive, tmp_path):
    digits, probs = naive
    columns = {f"p_{k}": column for k, column in enumerate(probs.T)}
    pd.DataFrame({"label": digits, **columns}).to_csv(tmp_path / "rows.csv", index=False)
    whole, pieces = (
        audit_file(tmp_path / "rows.csv", pred_probs="p_*", limits=limits).report.summary
        for limits in (None, Limits(rows=100, chunk=5000))
    )
    for name in ("like_mistakes", "cautious_precision"):
        assert pieces[name] == pytest.approx(whole[name], abs=0.02)
    assert pieces["noise_rate_interval"] == pytest.approx(whole["noise_rate_interval"], abs=0.01)


def counted(probs, codes, sizes):
    """The same, label by label."""
    second = expected = by_chance = 0.0
    for row, code in zip(probs.tolist(), codes.tolist(), strict=True):
        if sum(p > row[code] for p in row) == 1:
            second += 1.0 / row.count(row[code])
        (_, first), (p, runner_up) = sorted(((p, k) for k, p in enumerate(row)), reverse=True)[:2]
        expected += min(1.0, p / (1.0 - row[first])) if row[first] < 1.0 else 0.0
        others = sum(sizes) - sizes[first]
        by_chance += max(sizes[runner_up] / others, 1.0 / (len(sizes) - 1))
    return SecondChoices(len(codes), probs.shape[1], second, expected, by_chance)


def test_second_choices_are_counted_with_ties():
    rng = np.random.default_rng(0)
    probs = rng.multinomial(4, np.ones(5) / 5, size=300) / 4  # of four votes
    codes, issues = rng.integers(5, size=300), rng.random(300) < 0.5
    sizes = np.full(5, 60)
    found = SecondChoices.of(probs, codes, issues, sizes)
    assert found == pytest.approx(counted(probs[issues], codes[issues], sizes.tolist()))
    parts = [SecondChoices.of(probs[k::2], codes[k::2], issues[k::2], sizes) for k in range(2)]
    assert SecondChoices().plus(parts[0]).plus(parts[1]) == pytest.approx(found)
    nothing = SecondChoices.of(probs, codes, np.zeros(300, dtype=bool), sizes)
    assert nothing == (0, 5, 0.0, 0.0, 0.0)


def test_chance_goes_by_the_frequency_of_the_classes():
    rng = np.random.default_rng(0)
    probs = rng.dirichlet(np.ones(4), size=200)
    codes, issues, sizes = rng.integers(4, size=200), np.ones(200, dtype=bool), [500, 300, 150, 50]
    found = SecondChoices.of(probs, codes, issues, np.array(sizes))
    assert found == pytest.approx(counted(probs, codes, sizes))


@pytest.mark.parametrize("noise", ["frequency", "columns"])
def test_labels_drawn_at_random_are_no_mistakes_whatever_the_classes(noise):
    """By the frequency of the classes; or beside many columns that no label has."""
    rng = np.random.default_rng(0)
    shares = [0.6, 0.2, 0.1, 0.05, 0.05] if noise == "frequency" else np.full(5, 0.2)
    truth = rng.choice(5, size=4000, p=shares)
    redrawn = np.where(rng.random(4000) < 0.2, rng.choice(5, size=4000, p=shares), truth)
    width = 5 if noise == "frequency" else 100
    logits = rng.normal(size=(4000, width)) + 6.0 * np.eye(width)[truth]
    logits[:, :5] += 2.0
    options = {} if noise == "frequency" else {"class_names": list(range(width))}
    found = audit(redrawn, logits=logits, **options).summary
    assert found["num_issues"] > 300
    assert found["like_mistakes"] < 0.1


@pytest.mark.parametrize(
    ("counts", "low", "high"),
    [
        (SecondChoices(1000, 10, 700.0, 700.0, 111.1), 0.9, 1.0),  # all like mistakes
        (SecondChoices(1000, 10, 900.0, 700.0, 111.1), 1.0, 1.0),
        (SecondChoices(1000, 10, 111.0, 700.0, 111.1), 0.0, 0.0),  # as by chance
        (SecondChoices(1000, 10, 400.0, 700.0, 111.1), 0.4, 0.5),  # half and half
        (SecondChoices(1000, 10, 125.0, 700.0, 111.1), 0.0, 0.0),  # within what chance gives
        (SecondChoices(1000, 2, 1000.0, 1000.0, 1000.0), 0.0, 0.0),  # there is no other
        (SecondChoices(9, 10, 9.0, 9.0, 1.0), 0.0, 0.0),  # too few to tell
        (SecondChoices(1000, 10, 1000.0, 0.0, 111.1), 1.0, 1.0),
        (SecondChoices(0, 10, 0.0, 0.0, 0.0), 0.0, 0.0),
    ],
)
def test_the_share_of_mistakes(counts, low, high):
    assert low <= counts.like_mistakes <= high


def test_two_classes_say_nothing_of_mistakes():
    rng = np.random.default_rng(0)
    labels = np.arange(2000) % 2
    sure = rng.beta(12, 1, 2000)
    probs = np.column_stack(
        [np.where(labels == 0, sure, 1 - sure), np.where(labels, sure, 1 - sure)]
    )
    given = np.where(rng.random(2000) < 0.1, 1 - labels, labels)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert audit(given, pred_probs=probs).summary["like_mistakes"] == 0.0
