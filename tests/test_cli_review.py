"""The command `lossnoise review`: tables that people filled in, applied to the audited file."""

import csv

import numpy as np
import pytest

from lossnoise.cli import main

N = 300


def make_losses(n):
    """Return losses of which the first fifth is high."""
    losses = np.random.default_rng(0).gamma(1.0, 0.2, size=n)
    losses[: n // 5] += 5.0
    return losses


def write_csv(path, header, *columns):
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(zip(*columns, strict=True))
    return path


@pytest.fixture
def table(tmp_path):
    labels = [("cat", "dog", "007")[i % 3] for i in range(N)]
    return write_csv(tmp_path / "rows.csv", ["label", "loss"], labels, make_losses(N))


HOSTILE = ["007", 'comma, "quote"', "línea\nnueva", "=1+1", " space ", "日本"]


def fill_in(issues, reviews):
    """Write reviews, by position, into a file of issues."""
    with open(issues, newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row["review"] = reviews.get(int(row["row_key"].rpartition("-")[2]), "")
    with open(issues, "w", newline="", encoding="utf-8-sig") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def test_a_review_makes_the_round_trip(tmp_path, capsys):
    losses = make_losses(120)
    labels = [HOSTILE[i % 6] for i in range(120)]
    notes = [f'note "{i}",\r\nmore' for i in range(120)]
    ids = [f"{i:03d}" for i in range(120)]
    path = write_csv(
        tmp_path / "rows.csv", ["id", "a label", "loss", "note"], ids, labels, losses, notes
    )
    issues, fixed = tmp_path / "issues.csv", tmp_path / "fixed.csv"
    audited = ["--labels", "a label", "--index", "id", "--csv", str(issues)]
    assert main(["audit", str(path), *audited]) == 0
    reviews = {0: HOSTILE[1], 1: HOSTILE[2], 2: HOSTILE[0], 3: HOSTILE[3], 4: HOSTILE[5]}
    fill_in(issues, reviews)
    capsys.readouterr()

    options = ["--column", "a label", "-o", str(fixed)]
    assert main(["review", str(issues), "--labels", str(path), *options]) == 0
    out = capsys.readouterr().out
    assert out == f"4 labels changed, of 5 rows with a review\nwrote {fixed}\n"
    with open(fixed, newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert header == ["id", "a label", "loss", "note"]
    assert [row[1] for row in rows] == [reviews.get(i, label) for i, label in enumerate(labels)]
    assert [row[0] for row in rows] == ids
    assert [row[3] for row in rows] == notes

    again = tmp_path / "again.csv"
    options = ["--column", "a label", "-o", str(again)]
    assert main(["review", str(issues), "--labels", str(fixed), *options]) == 0
    out = capsys.readouterr().out
    assert out == (
        "0 labels changed, of 5 rows with a review; 4 changes were already applied\n"
        f"wrote {again}\n"
    )
    assert again.read_bytes() == fixed.read_bytes()


def test_reviews_of_two_people_are_applied_together(table, tmp_path, capsys):
    issues, other = tmp_path / "issues.csv", tmp_path / "other.csv"
    assert main(["audit", str(table), "--csv", str(issues), "--quiet"]) == 0
    other.write_bytes(issues.read_bytes())
    fill_in(issues, {0: "cat", 1: "cat"})
    fill_in(other, {1: "cat", 2: "cat"})
    capsys.readouterr()
    fixed = tmp_path / "fixed.csv"
    command = ["review", str(issues), str(other), "--labels", str(table), "-o", str(fixed)]
    assert main(command) == 0
    assert "of 3 rows with a review" in capsys.readouterr().out
    fill_in(other, {1: "dog"})
    assert main(command) == 2
    assert "of issues.csv) and 'dog' (line" in capsys.readouterr().err


def test_reviews_are_not_written_over(table, tmp_path, capsys):
    issues = tmp_path / "issues.csv"
    command = ["audit", str(table), "--csv", str(issues)]
    assert main(command) == 0
    assert main(command) == 0  # nobody has written anything into it
    fill_in(issues, {0: "cat", 1: "cat"})
    capsys.readouterr()
    assert main(command) == 2
    advice = "apply them with `lossnoise review`, or write to another file"
    expected = f"{issues}: holds 2 reviews or notes that would be lost: {advice}"
    assert capsys.readouterr() == ("", f"lossnoise: error: {expected}\n")


def test_an_empty_review_says_so(table, tmp_path, capsys):
    issues, fixed = tmp_path / "issues.csv", tmp_path / "fixed.csv"
    assert main(["audit", str(table), "--csv", str(issues)]) == 0
    capsys.readouterr()
    assert main(["review", str(issues), "--labels", str(table), "-o", str(fixed)]) == 0
    expected = f"0 labels changed: the column 'review' of {issues} is empty\nwrote {fixed}\n"
    assert capsys.readouterr().out == expected
    assert fixed.read_bytes() == table.read_bytes()
