"""Labels that differ by case, spaces or codes only, whatever their length."""

import warnings

import numpy as np
import pandas as pd
import pytest

from lossnoise import audit
from lossnoise.audit._classes import warn_of_spellings
from lossnoise.exceptions import InvalidDataError, NewLabelWarning


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
