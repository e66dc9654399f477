"""What a person wrote into a file for review is not lost: not written over, nor read in part."""

import csv

import numpy as np
import pandas as pd
import pytest

from lossnoise import audit
from lossnoise.audit import AuditReport
from lossnoise.audit._file_review import review_file
from lossnoise.cli import main
from lossnoise.exceptions import InvalidDataError

LABELS = ["cat", "None", "dog", "007", "=1", "NA"] * 2


def judged(labels=LABELS, *, rows=None, **options) -> AuditReport:
    """Return a report that suggests for each label the one after it, in their order."""
    classes = sorted(set(labels))
    codes = np.array([classes.index(label) for label in labels])
    probs = np.full((len(labels), len(classes)), 0.3 / (len(classes) - 1))
    probs[np.arange(len(labels)), (codes + 1) % len(classes)] = 0.7
    return audit(
        labels,
        pred_probs=probs,
        noise_proba=np.linspace(0.9, 0.1, len(labels)),
        index=rows,
        **options,
    )


def read(path):
    with open(path, newline="", encoding="utf-8-sig") as file:
        return list(csv.reader(file))


def write(path, rows):
    with open(path, "w", newline="", encoding="utf-8-sig") as file:
        csv.writer(file).writerows(rows)


def note_of(header, cells):
    """Add a column of notes, one of them filled in."""
    return [[*header, "note"], *([*row, "" if i else "?"] for i, row in enumerate(cells))]


def review_in(name):
    """Return a change: a column called so, with a review in it."""

    def change(header, cells):
        header[header.index("review")] = name
        cells[0][3] = "cat"
        return [header, *cells]

    return change


def replace(column, text):
    """Return a change of one cell."""

    def change(header, cells):
        cells[0][header.index(column)] = text
        return [header, *cells]

    return change


def under_no_name(header, cells):
    return [header, [*cells[0], "", "look again"], *cells[1:]]


def below_the_rows(header, cells):
    return [header, *cells, ["ask Ada"]]


def in_front(header, cells):
    return [["review", *header], ["cat", *cells[0]], *(["", *row] for row in cells[1:])]


WORK = [
    *map(review_in, ["review", "Review", " REVIEW "]),
    note_of,
    replace("suggested_label", "NA"),
    replace("suggested_label", "another"),
    under_no_name,
    below_the_rows,
]


@pytest.mark.parametrize("change", WORK)
def test_what_a_person_wrote_is_not_written_over(tmp_path, change):
    report, path = judged(), tmp_path / "a.csv"
    report.to_csv(path)
    header, *cells = read(path)
    write(path, change(header, cells))
    before = path.read_bytes()
    with pytest.raises(InvalidDataError) as caught:
        report.to_csv(path)
    assert str(caught.value) == (
        "The 'path' parameter of AuditReport.to_csv must be a file that nobody has filled in, "
        "unless overwrite=True. Got a.csv with 1 reviews or notes that would be lost instead: "
        "apply them with apply_review, or write another file."
    )
    assert path.read_bytes() == before
    report.to_csv(path, overwrite=True)
    report.to_csv(path)


def test_a_file_that_pandas_wrote_again_holds_no_notes(tmp_path):
    report, path = judged(), tmp_path / "a.csv"
    report.to_csv(path)
    pd.read_csv(path, keep_default_na=False).to_csv(path)  # with an index of its own
    report.to_csv(path)
    header, *cells = read(path)
    write(path, [["note", *header], ["?", *cells[0]], *(["", *row] for row in cells[1:])])
    with pytest.raises(InvalidDataError, match="1 reviews or notes that would be lost"):
        report.to_csv(path)


def test_a_suggestion_that_was_cleared_is_no_label(tmp_path):
    report, path = judged(["", "b", "c"] * 4), tmp_path / "a.csv"
    report.to_csv(path)
    header, *cells = read(path)
    for row in cells:
        row[header.index("suggested_label")] = ""
    write(path, [header, *cells])
    assert report.apply_review(path).num_reviewed == 0


def test_the_command_writes_over_no_notes_either(tmp_path, capsys):
    rows, path = tmp_path / "rows.csv", tmp_path / "a.csv"
    losses = np.r_[np.linspace(4.0, 5.0, 40), np.linspace(0.0, 0.5, 160)]
    pd.DataFrame({"label": ["cat", "dog"] * 100, "loss": losses}).to_csv(rows, index=False)
    command = ["audit", str(rows), "--csv", str(path), "--quiet"]
    assert main(command) == main(command) == 0
    header, *cells = read(path)
    write(path, note_of(header, cells))
    capsys.readouterr()
    assert main(command) == 2
    assert "holds 1 reviews or notes that would be lost" in capsys.readouterr().err


@pytest.mark.parametrize(
    "report",
    [
        judged(),
        judged(["é", "\tx", "'", "7", "7.0", "TRUE", "a\r\nb", " c "]),
        judged([True, False] * 3),
        judged([1.5, 2.0] * 3),
        judged([0, 1, 2] * 2, class_names=["None", "", "=x"]),
        audit(["None", "", "c"], noise_proba=[0.1, 0.2, 0.3]),
        *(judged(rows=pd.Index(range(12), name=name)) for name in ("review", "Loss", "row_key")),
    ],
)
def test_a_file_that_nobody_changed_is_replaced(tmp_path, report):
    path = tmp_path / "a.csv"
    for one in (report, report, judged(["x", "y", "y"]), report):  # also of another audit
        one.to_csv(path)
    assert report.apply_review(path).num_reviewed == 0


def test_what_is_no_review_is_replaced(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("id,review,note\n1,cat,x\n")
    judged().to_csv(path)
    assert judged().apply_review(path).num_reviewed == 0


@pytest.mark.parametrize("name", ["review", "Row_Key", "given_label", " SUGGESTED_LABEL "])
def test_a_column_that_is_there_twice_is_refused(tmp_path, name):
    report, path = judged(), tmp_path / "a.csv"
    report.to_csv(path)
    header, *cells = read(path)
    write(path, [[*header, name], *([*row, "cat"] for row in cells)])
    own = name.strip().lower()
    with pytest.raises(InvalidDataError) as caught:
        report.apply_review(path)
    assert str(caught.value) == (
        "The 'path' parameter of AuditReport.apply_review must be a file of AuditReport.to_csv, "
        f"with one column {own!r}. Got a.csv with 2 of them instead: keep the one that counts, and "
        "give others another name."
    )


def test_a_review_before_the_index_is_not_taken_for_it(tmp_path):
    report, path = judged(), tmp_path / "a.csv"
    report.to_csv(path)
    header, *cells = read(path)
    write(path, in_front(header, cells))
    with pytest.raises(InvalidDataError, match="with one column 'review'"):
        report.apply_review(path)
    with pytest.raises(InvalidDataError, match="reviews or notes that would be lost"):
        report.to_csv(path)


def test_names_of_columns_count_in_any_case(tmp_path):
    report, path = judged(), tmp_path / "a.csv"
    report.to_csv(path)
    header, *cells = read(path)
    cells[0][3] = "dog"
    write(path, [[f" {name.title()} " for name in header], *cells])
    (change,) = report.apply_review(path).changes
    assert (change.position, change.new_label) == (0, "dog")
    cells[1][header.index("given_label")] = "dog"
    write(path, [[name.upper() for name in header], *cells])
    with pytest.raises(InvalidDataError, match="their own key and given label"):
        report.apply_review(path)


def through_pandas(report, path, reviews):
    """Write reviews, by position, and save the file as pandas does that takes None for missing."""
    report.to_csv(path)
    header, *cells = read(path)
    for row in cells:
        row[3] = reviews.get(int(row[-1].rpartition("-")[2]), "")
    write(path, [header, *cells])
    pd.read_csv(path, dtype=str).to_csv(path, index=False)
    return path


@pytest.mark.parametrize("reviews", [{0: "None"}, {0: "dog", 2: "NA"}, {1: "cat"}, {}])
def test_labels_that_pandas_takes_for_missing_are_asked_for(tmp_path, reviews):
    report = judged()
    path = through_pandas(report, tmp_path / "a.csv", reviews)
    with pytest.raises(InvalidDataError) as caught:
        report.apply_review(path)
    assert str(caught.value) == (
        "The 'path' parameter of AuditReport.apply_review must be a review whose given labels are "
        "still there. Got an empty cell in place of 'None' in line 3 of a.csv instead: pandas "
        "empties cells such as 'NA', also reviews: read with keep_default_na=False."
    )
    pd.DataFrame({"label": LABELS}).to_csv(tmp_path / "rows.csv", index=False)
    with pytest.raises(InvalidDataError, match="'None' in line 3 of"):
        review_file(path, tmp_path / "rows.csv", column=None, output=tmp_path / "new.csv")
    assert not (tmp_path / "new.csv").exists()


def test_names_that_pandas_takes_for_missing_are_named(tmp_path):
    report = judged([0, 1] * 3, class_names=["NA", "cat"])
    path = through_pandas(report, tmp_path / "a.csv", {1: "NA"})
    with pytest.raises(InvalidDataError, match="an empty cell in place of 'NA' in line 2"):
        report.apply_review(path)


def test_given_labels_may_be_left_out_or_be_empty(tmp_path):
    report, path = judged(), tmp_path / "a.csv"
    report.to_csv(path)
    sheet = pd.read_csv(path, dtype=str, keep_default_na=False)
    sheet.loc[0, "review"] = "None"
    sheet[["review", "row_key"]].to_csv(path, index=False)
    assert report.apply_review(path).labels[0] == "None"
    report = judged(["", " ", "cat"])
    path = through_pandas(report, tmp_path / "b.csv", {0: "cat"})
    assert report.apply_review(path).labels.tolist() == ["cat", " ", "cat"]
