"""Labels that differ by case, spaces or codes only, whatever their length."""

import re
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.svm import SVC

from lossnoise import audit, cross_val_losses
from lossnoise._labels import warn_of_unlabelled
from lossnoise.audit._classes import warn_of_spellings
from lossnoise.audit._file_audit import Limits, audit_file
from lossnoise.exceptions import (
    InvalidDataError,
    LayoutWarning,
    LossScaleWarning,
    NewLabelWarning,
    NoSeparableNoiseWarning,
)


@pytest.mark.parametrize(
    "pair",
    [("Cat", "cat"), ("Yes", "yes"), ("n", "N"), ("no", "no "), (" a", "a"), ("a b", "A  B")],
)
def test_short_labels_are_told_too(pair):
    first, second = sorted(pair)
    with pytest.warns(NewLabelWarning, match=f"classes: {first!r} and {second!r}. Unless they dif"):
        warn_of_spellings(["dog", *pair, 3, None])


@pytest.mark.parametrize(
    ("pair", "shown"),
    [
        (("M\u00fcll", "Mu\u0308ll"), r"'Mu\u0308ll' and 'M\xfcll'"),
        (("A\u7c7b", "\uff21\u7c7b"), "'A\u7c7b' and '\uff21\u7c7b'"),
        (("apple", "apple\u200b"), r"'apple' and 'apple\u200b'"),
        (("1", "1.0"), "'1' and '1.0'"),
    ],
)
def test_codes_that_people_do_not_see_are_told(pair, shown):
    with pytest.warns(NewLabelWarning) as warned:
        warn_of_spellings(np.array(["dog", *pair]))
    assert f"as different classes: {shown}. Unless" in str(warned[0].message)


def test_other_labels_are_no_spellings():
    warn_of_spellings(["cat", "car", "c at", "ca", "M\u00fcll", "Mull", "10", "1", 1, b"CAT", None])
    warn_of_spellings(
        ["3.1", "3.10", "10\u00b2", "102", "1e1", "Masse", "Ma\u00dfe", "a\u200db", "ab"]
    )


def test_an_audit_tells_of_three_letters():
    labels = np.array(["Cat", "cat", "dog"])[np.arange(600) % 3]
    losses = np.random.default_rng(0).gamma(1.0, 0.1, 600)
    losses[:60] += 4.0
    with pytest.warns(NewLabelWarning, match="'Cat' and 'cat'"):
        audit(labels, losses=losses)


@pytest.mark.parametrize("review", ["Cat", "CAT", " cat"])
def test_a_new_label_that_differs_by_case_is_the_known_one(tmp_path, review):
    report = audit(["cat", "no", "dog"], noise_proba=[0.1, 0.9, 0.2])
    report.to_csv(tmp_path / "a.csv")
    sheet = pd.read_csv(tmp_path / "a.csv", dtype=str, keep_default_na=False)
    sheet.loc[0, "review"] = review
    sheet.to_csv(tmp_path / "a.csv", index=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = report.apply_review(tmp_path / "a.csv", allow_new=True).labels
    assert found.tolist() == ["cat", "cat", "dog"]


def test_an_error_about_columns_names_the_spellings():
    labels = ["cat", "Cat", "dog"] * 10
    with pytest.raises(InvalidDataError) as error:
        audit(labels, pred_probs=np.tile([0.6, 0.4], (30, 1)))
    assert str(error.value).endswith(
        "Got an array of shape (30, 2) instead: some labels differ by case, spaces or how "
        "characters or numbers are written only: 'Cat' and 'cat'."
    )


# -- labels that say that there is none -----------------------------------------------------------


def counted(classes, mark, size=600):
    labels = np.arange(size) % classes
    return np.where(np.arange(size) % 10 == 0, mark, labels)


def losses(size=600):
    found = np.random.default_rng(0).gamma(1.0, 0.1, size)
    found[: size // 10] += 4.0
    return found


@pytest.mark.parametrize(
    ("labels", "mark", "highest"),
    [
        (counted(3, -1), -1, 2),
        (counted(3, -1).astype(str), -1, 2),
        (counted(2, -100), -100, 1),
        (counted(19, 255).astype(np.uint8), 255, 18),
    ],
)
def test_rows_without_a_label_are_told(labels, mark, highest):
    message = (
        f"The label {mark} stands beside the classes 0 to {highest}, as what marks rows without a "
        "label (-1 in scikit-learn), or targets to ignore (-100 in PyTorch, 255 of pixels): it is "
        "taken for a class of its own, which spoils what is said of the others. If it is none, "
        "leave these rows out."
    )
    with pytest.warns(LayoutWarning, match=f"^{re.escape(message)}$"):
        audit(labels, losses=losses())
    with pytest.warns(LayoutWarning, match=f"^The label {mark} stands beside"):
        cross_val_losses(GaussianNB(), losses().reshape(-1, 1), labels, random_state=0)


def test_marks_that_became_floats_are_told():
    with pytest.warns(LayoutWarning, match="^The label -1 stands beside the classes 0 to 3,"):
        audit(np.asarray(counted(4, -1), dtype=float), losses=losses())


@pytest.mark.parametrize("limits", [None, Limits(rows=100, chunk=150)])
def test_rows_of_a_file_without_a_label_are_told(tmp_path, limits):
    pd.DataFrame({"label": counted(4, -100), "loss": losses()}).to_csv(tmp_path / "a.csv")
    with pytest.warns(LayoutWarning, match="^The label -100 stands beside the classes 0 to 3,"):
        audit_file(tmp_path / "a.csv", losses="loss", labels="label", limits=limits)


@pytest.mark.parametrize(
    "labels",
    [
        [-1, 1],
        [-1, 0, 1],  # negative, neutral and positive
        [-2, -1, 0, 1, 2],
        [-1, 1, 2, 3],
        [0, 128, 255],
        [0, 255],
        list(range(256)),
        [0, 1, 2, 300],
        ["-1", "a", "b"],
        ["unknown", "cat"],
        [None, 0, 1],
        [-1.5, 0.0, 1.0],
        [(0, 1), (1, 2)],
    ],
)
def test_classes_with_such_numbers_are_not(labels):
    warn_of_unlabelled(labels)  # warnings are errors here


def test_lists_of_labels_are_told_what_to_become():
    message = (
        "The 'labels' parameter of audit must be hashable, one per row. Got a list in row 0 "
        "instead: of several labels, such as one for each token, each is a row of its own."
    )
    with pytest.raises(InvalidDataError, match=f"^{re.escape(message)}$"):
        audit([[0, 1], [1]] * 20, losses=losses(40))


def test_votes_are_no_logits():
    inputs, labels = load_digits(return_X_y=True)
    rows = slice(0, 600)
    model = SVC().fit(inputs[600:], labels[600:])
    message = (
        "The rows of 'logits' are votes of classifiers for two classes each, as the "
        "decision_function of SVC returns them: their softmax is no probability. Take "
        "predict_proba instead, such as that of CalibratedClassifierCV."
    )
    with pytest.warns(LossScaleWarning, match=f"^{re.escape(message)}$"):
        audit(labels[rows], logits=model.decision_function(inputs[rows]))
    logits = LogisticRegression(max_iter=5000).fit(inputs[600:], labels[600:])
    with warnings.catch_warnings():
        warnings.simplefilter("error", LossScaleWarning)
        warnings.simplefilter("ignore", NoSeparableNoiseWarning)
        audit(labels[rows], logits=logits.decision_function(inputs[rows]))
