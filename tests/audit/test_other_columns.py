"""Reviews in which somebody wrote into another column than the one for it."""

import csv

import numpy as np
import pytest

from lossnoise import audit
from lossnoise.audit import AuditReport
from lossnoise.cli import main
from lossnoise.exceptions import InvalidDataError

LABELS = ["cat", "dog", "007", "=1"] * 5
CLASSES = sorted(set(LABELS))


def judged(labels=LABELS, **options) -> AuditReport:
    """Return a report that suggests for each label the one after it, in their order."""
    codes = [sorted(set(labels)).index(label) for label in labels]
    probs = np.full((len(labels), len(set(labels))), 0.1)
    probs[np.arange(len(labels)), (np.array(codes) + 1) % probs.shape[1]] = 0.7
    probs /= probs.sum(axis=1, keepdims=True)
    return audit(
        labels, pred_probs=probs, noise_proba=np.linspace(0.1, 0.9, len(labels)), **options
    )


def rewrite(path, change, **form):
    """Write a review file again after a change of its rows."""
    with open(path, newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        change(row)
    with open(path, "w", newline="", encoding="utf-8-sig") as file:
        writer = csv.DictWriter(file, rows[0], **form)
        writer.writeheader()
        writer.writerows(rows)


def edit(position, **cells):
    """Return a change of one row."""

    def change(row):
        if row["row_key"].endswith(f"-{position}"):
            row.update(cells)

    return change


def test_a_label_over_the_suggested_one_is_refused(tmp_path):
    report = judged()
    report.to_csv(tmp_path / "a.csv")
    rewrite(tmp_path / "a.csv", edit(6, suggested_label="dog"))
    with pytest.raises(InvalidDataError) as error:
        report.apply_review(tmp_path / "a.csv")
    assert str(error.value) == (
        "The 'path' parameter of AuditReport.apply_review must be a review whose other columns are "
        "as they were. Got 'dog' in place of another suggested label (line 15 of a.csv) instead: "
        "write it into the column 'review', and nothing into others."
    )


def test_a_label_over_a_suggestion_of_none_is_refused(tmp_path):
    report = audit(LABELS, noise_proba=np.linspace(0.1, 0.9, len(LABELS)))
    report.to_csv(tmp_path / "a.csv")
    rewrite(tmp_path / "a.csv", edit(6, suggested_label="dog"))
    with pytest.raises(InvalidDataError, match="'dog' in place of another suggested label"):
        report.apply_review(tmp_path / "a.csv")


def test_the_command_refuses_it_too(tmp_path, capsys):
    rows = tmp_path / "rows.csv"
    rows.write_text("label\n" + "\n".join(LABELS) + "\n")
    judged().to_csv(tmp_path / "a.csv")
    rewrite(tmp_path / "a.csv", edit(6, suggested_label="dog"))
    command = ["review", str(tmp_path / "a.csv"), "--labels", str(rows)]
    assert main([*command, "-o", str(tmp_path / "fixed.csv")]) == 2
    assert "write it into the column 'review'" in capsys.readouterr().err
    assert not (tmp_path / "fixed.csv").exists()


def test_what_stands_in_the_column_for_it_counts(tmp_path):
    report = judged()
    report.to_csv(tmp_path / "a.csv")
    rewrite(tmp_path / "a.csv", edit(6, suggested_label="dog", review="cat"))
    (change,) = report.apply_review(tmp_path / "a.csv").changes
    assert (change.position, change.new_label) == (6, "cat")


@pytest.mark.parametrize(
    "spelt", [str.upper, str.strip, lambda text: {"007": "7"}.get(text, text), lambda text: "?"]
)
def test_what_a_spreadsheet_makes_of_suggestions_is_no_label(tmp_path, spelt):
    report = judged()
    report.to_csv(tmp_path / "a.csv")
    rewrite(
        tmp_path / "a.csv", lambda row: row.update(suggested_label=spelt(row["suggested_label"]))
    )
    assert report.apply_review(tmp_path / "a.csv").num_reviewed == 0


@pytest.mark.parametrize("convert", [int, float])
def test_numbers_are_the_same_however_they_are_spelt(tmp_path, convert):
    labels = [convert(label) for label in [1, 2, 3] * 5]
    report = judged(labels)
    report.to_csv(tmp_path / "a.csv")

    def respell(row):
        row["suggested_label"] = f"{float(row['suggested_label']):g}"

    rewrite(tmp_path / "a.csv", respell)
    assert report.apply_review(tmp_path / "a.csv").num_reviewed == 0
    rewrite(tmp_path / "a.csv", edit(0, suggested_label="3"))
    with pytest.raises(InvalidDataError, match="'3' in place of another suggested label"):
        report.apply_review(tmp_path / "a.csv")


def test_names_in_place_of_numbers_are_suggestions_too(tmp_path):
    report = judged([0, 1, 2] * 5, class_names=["zero", "one", "two"])
    report.to_csv(tmp_path / "a.csv")
    assert report.apply_review(tmp_path / "a.csv").num_reviewed == 0
    rewrite(tmp_path / "a.csv", edit(0, suggested_label="two"))
    with pytest.raises(InvalidDataError, match="'two' in place of another suggested label"):
        report.apply_review(tmp_path / "a.csv")


def test_without_the_column_nothing_was_written_over(tmp_path):
    report = judged()
    report.to_csv(tmp_path / "a.csv")
    rewrite(tmp_path / "a.csv", lambda row: row.pop("suggested_label"))
    assert report.apply_review(tmp_path / "a.csv").num_reviewed == 0


def test_a_label_that_does_not_occur_stays_unknown_though_it_was_suggested_by_hand(
    tmp_path, capsys
):
    rows = tmp_path / "rows.csv"
    rows.write_text("label\n" + "\n".join(LABELS) + "\n")
    judged().to_csv(tmp_path / "a.csv")
    rewrite(tmp_path / "a.csv", edit(6, suggested_label="catt", review="catt"))
    command = ["review", str(tmp_path / "a.csv"), "--labels", str(rows)]
    assert main([*command, "-o", str(tmp_path / "fixed.csv")]) == 2
    assert "the nearest is 'cat'" in capsys.readouterr().err
