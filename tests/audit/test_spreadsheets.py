"""Reviews that a spreadsheet or a person has changed more than the column `review` of."""

import numpy as np
import pandas as pd
import pytest

from lossnoise import audit
from lossnoise.audit._file_audit import audit_file
from lossnoise.audit._file_review import review_file
from lossnoise.exceptions import InvalidDataError, NoSeparableNoiseWarning

SEVEN = "\N{ARABIC-INDIC DIGIT SEVEN}"
LABELS = ["1.1", "1.10", "2.5", "1.10"]


def saved(report, path, reviews, *, numbers):
    """Write a report, fill in reviews by position, and save as a spreadsheet does."""
    report.to_csv(path, overwrite=True)
    sheet = pd.read_csv(path, dtype=str)
    at = sheet["row_key"].str.rpartition("-")[2].astype(int)
    sheet["review"] = at.map(reviews)
    sheet.to_csv(path, index=False)
    if numbers:
        pd.read_csv(path).to_csv(path, index=False)
    return path


@pytest.mark.parametrize(
    ("labels", "review"),
    [(LABELS, {1: "1.10"}), (LABELS, {1: "1.10", 2: "1.1"}), (["007", "7", "3", "4"], {2: "7"})],
)
def test_a_label_that_a_spreadsheet_turned_into_another_one_is_refused(tmp_path, labels, review):
    report = audit(labels, noise_proba=[0.9, 0.8, 0.7, 0.6])
    path = saved(report, tmp_path / "a.csv", review, numbers=False)
    confirmed = report.apply_review(path)
    assert [confirmed.labels[i] for i in review] == list(review.values())
    path = saved(report, tmp_path / "a.csv", review, numbers=True)
    with pytest.raises(InvalidDataError, match="which fits 2 labels"):
        report.apply_review(path)
    pd.DataFrame({"label": labels}).to_csv(tmp_path / "rows.csv", index=False)
    with pytest.raises(InvalidDataError, match="which fits 2 labels"):
        review_file(path, tmp_path / "rows.csv", column=None, output=tmp_path / "new.csv")


def test_a_number_that_fits_one_label_only_is_taken(tmp_path):
    report = audit(["007", "1.10", "3", "3"], noise_proba=[0.9, 0.8, 0.7, 0.6])
    path = saved(report, tmp_path / "a.csv", {0: "1.10", 2: "007"}, numbers=True)
    assert report.apply_review(path).labels.tolist() == ["1.10", "1.10", "007", "3"]
    pd.DataFrame({"label": ["007", "1.10", "3", "3"]}).to_csv(tmp_path / "rows.csv", index=False)
    review_file(path, tmp_path / "rows.csv", column=None, output=tmp_path / "new.csv")
    assert (tmp_path / "new.csv").read_text() == "label\n1.10\n1.10\n007\n3\n"


@pytest.mark.parametrize("reviewed", [range(4), [3]])
def test_keys_that_were_left_where_they_stood_are_refused(tmp_path, reviewed):
    """As where all columns but the last are sorted."""
    labels = ["cat", "dog", "owl", "cat"]
    report = audit(labels, noise_proba=[0.1, 0.4, 0.3, 0.2])
    path = saved(report, tmp_path / "a.csv", {}, numbers=False)
    sheet = pd.read_csv(path, dtype=str)
    others = sheet.columns[:-1]
    sheet[others] = sheet[others].sort_values("given_label").to_numpy()
    sheet.loc[list(reviewed), "review"] = "owl"
    sheet.to_csv(path, index=False)
    with pytest.raises(InvalidDataError) as caught:
        report.apply_review(path)
    assert str(caught.value) == (
        "The 'path' parameter of AuditReport.apply_review must be a review whose rows still have "
        "their own key and given label. Got 'cat' in line 2 of a.csv, whose key is that of a row "
        "with 'dog' instead: sort all columns together, and write into the column 'review' only."
    )
    pd.DataFrame({"label": labels}).to_csv(tmp_path / "rows.csv", index=False)
    with pytest.raises(InvalidDataError, match="their own key"):
        review_file(path, tmp_path / "rows.csv", column=None, output=tmp_path / "new.csv")


def test_a_given_label_that_is_no_label_any_more_tells_nothing(tmp_path):
    """As where a spreadsheet shows another date."""
    labels = ["MARCH1", "2-1", "cat", "cat"]
    report = audit(labels, noise_proba=[0.9, 0.8, 0.7, 0.6])
    path = saved(report, tmp_path / "a.csv", {0: "cat"}, numbers=False)
    text = path.read_text("utf-8").replace("MARCH1", "1-Mar").replace(",2-1,", ",2-Jan,")
    path.write_text(text, "utf-8")
    assert report.apply_review(path).labels.tolist() == ["cat", "2-1", "cat", "cat"]
    pd.DataFrame({"label": labels}).to_csv(tmp_path / "rows.csv", index=False)
    done = review_file(path, tmp_path / "rows.csv", column=None, output=tmp_path / "new.csv")
    assert done.num_changed == 1


@pytest.mark.filterwarnings("ignore::lossnoise.exceptions.NewLabelWarning")  # 1_2 is nearly 12
@pytest.mark.parametrize(
    ("review", "expected"),
    [("1_2", "1_2"), (SEVEN, SEVEN), ("007", "007"), ("1e0", "1e0"), ("7.0", "7"), ("12", "12")],
)
def test_new_labels_are_not_taken_for_spellings_of_others(tmp_path, review, expected):
    report = audit(["7", "12", "1", "cat"], noise_proba=[0.1, 0.4, 0.3, 0.9])
    path = saved(report, tmp_path / "a.csv", {3: review}, numbers=False)
    assert report.apply_review(path, allow_new=True).labels[3] == expected


@pytest.mark.parametrize("review", ["1_2", SEVEN])
def test_what_is_a_number_to_python_only_is_no_label(tmp_path, review):
    report = audit(["7", "12", "1", "cat"], noise_proba=[0.1, 0.4, 0.3, 0.9])
    path = saved(report, tmp_path / "a.csv", {3: review}, numbers=False)
    with pytest.raises(InvalidDataError, match="a review with labels that occur"):
        report.apply_review(path)


def test_a_spreadsheet_form_is_not_taken_for_a_new_label(tmp_path):
    report = audit(["007", "1.50", "cat", "cat"], noise_proba=[0.1, 0.4, 0.3, 0.9])
    path = saved(report, tmp_path / "a.csv", {2: "7", 3: "1.5"}, numbers=False)
    found = report.apply_review(path, allow_new=True).labels.tolist()
    assert found == ["007", "1.50", "007", "1.50"]


def test_what_somebody_filled_in_is_not_written_over(tmp_path):
    report = audit(LABELS, noise_proba=[0.9, 0.8, 0.7, 0.6])
    path = saved(report, tmp_path / "a.csv", {}, numbers=False)
    report.to_csv(path)  # nobody has written anything into it
    before = saved(report, path, {1: "2.5", 2: "1.1"}, numbers=False).read_bytes()
    with pytest.raises(InvalidDataError) as caught:
        report.to_csv(str(path))
    assert str(caught.value) == (
        "The 'path' parameter of AuditReport.to_csv must be a file that nobody has filled in, "
        "unless overwrite=True. Got a.csv with 2 reviews or notes that would be lost "
        "instead: apply them with apply_review, or write another file."
    )
    assert path.read_bytes() == before
    report.to_csv(path, overwrite=True)
    assert report.apply_review(path).num_reviewed == 0


@pytest.mark.parametrize(
    ("labels", "respell"),
    [
        (["True", "False"], str.upper),
        (["yes", "no"], str.upper),
        (["007", "012"], lambda text: text.lstrip("0")),
        (["1.0", "2.0"], lambda text: text[:-2]),
    ],
)
def test_a_file_keeps_its_labels_where_a_spreadsheet_spelt_all_columns_anew(
    tmp_path, labels, respell
):
    wrong = np.arange(60) < 6
    given = np.where((np.arange(60) % 2 == 0) ^ wrong, *labels)
    right = np.arange(60) % 2 == 0
    pd.DataFrame(
        {
            "label": given,
            f"p_{labels[0]}": np.where(right, 0.99, 0.01),
            f"p_{labels[1]}": np.where(right, 0.01, 0.99),
        }
    ).to_csv(tmp_path / "a.csv", index=False)
    audit_file(tmp_path / "a.csv", pred_probs="p_*").report.to_csv(tmp_path / "review.csv")
    table = pd.read_csv(tmp_path / "review.csv", dtype=str, keep_default_na=False)
    table.loc[:2, "review"] = table.suggested_label
    for name in ("given_label", "suggested_label", "review"):
        table[name] = table[name].map(respell)
    table.to_csv(tmp_path / "saved.csv", index=False)
    done = review_file(
        [tmp_path / "saved.csv"], tmp_path / "a.csv", column=None, output=tmp_path / "b.csv"
    )
    assert done.num_changed == 3
    corrected = pd.read_csv(tmp_path / "b.csv", dtype=str, keep_default_na=False).label
    assert set(corrected) == set(labels)
    assert (corrected != given).sum() == 3


@pytest.mark.filterwarnings("ignore:Some labels differ by case")  # that is what is reviewed
@pytest.mark.parametrize(("given", "reviewed"), [("Dog", "dog"), ("007", "7"), ("1.0", "1")])
def test_a_review_that_changed_the_spelling_itself_may_be_applied_again(tmp_path, given, reviewed):
    first, again = tmp_path / "first.csv", tmp_path / "again.csv"
    frame = pd.DataFrame({"label": [given, *[reviewed] * 20], "loss": np.linspace(4.0, 0.0, 21)})
    frame.to_csv(tmp_path / "a.csv", index=False)
    with pytest.warns(NoSeparableNoiseWarning):
        audit_file(tmp_path / "a.csv").report.to_csv(tmp_path / "review.csv")
    table = pd.read_csv(tmp_path / "review.csv", dtype=str, keep_default_na=False)
    table.loc[0, "review"] = reviewed
    table.to_csv(tmp_path / "review.csv", index=False)
    reviews = [tmp_path / "review.csv"]
    assert review_file(reviews, tmp_path / "a.csv", column=None, output=first).num_changed == 1
    assert review_file(reviews, first, column=None, output=again).num_applied == 1
    assert first.read_bytes() == again.read_bytes()


@pytest.mark.filterwarnings("ignore:Cannot tell:UserWarning")
def test_numbers_that_a_spreadsheet_respelt_leave_words_alone(tmp_path):
    labels = ["cat", *["cat", "007", "008"] * 20]
    probs = np.full((61, 4), 0.01)
    probs[np.arange(61), [3, *[0, 1, 2] * 20]] = 0.97
    frame = pd.DataFrame(probs, columns=["p_cat", "p_007", "p_008", "p_Cat"])
    frame.assign(label=labels).to_csv(tmp_path / "a.csv", index=False)
    audit_file(tmp_path / "a.csv", pred_probs="p_*").report.to_csv(tmp_path / "review.csv")
    table = pd.read_csv(tmp_path / "review.csv", dtype=str, keep_default_na=False)
    assert table.suggested_label[0] == "Cat"
    table.loc[0, "review"] = "Cat"
    table.loc[table.index[table.given_label == "007"][0], "review"] = "8"
    table["given_label"] = table.given_label.str.lstrip("0")
    table.to_csv(tmp_path / "saved.csv", index=False)
    out = tmp_path / "b.csv"
    review_file([tmp_path / "saved.csv"], tmp_path / "a.csv", column=None, output=out)
    corrected = pd.read_csv(out, dtype=str, keep_default_na=False).label
    assert corrected[0] == "Cat"
    assert (corrected == "008").sum() == 21
