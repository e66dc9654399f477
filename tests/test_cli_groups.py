"""Groups of rows, such as who gave each label, on the command line."""

import json

import numpy as np
import pandas as pd
import pytest

from lossnoise import audit
from lossnoise.audit._file_audit import Limits, audit_file
from lossnoise.cli import main
from lossnoise.exceptions import InvalidDataError

NAMES = np.array(["cat", "dog", "owl"])


@pytest.fixture
def scores(tmp_path, monkeypatch):
    """Labels of three people, of whom Ben errs in three of ten."""
    rng = np.random.default_rng(0)
    truth = rng.integers(3, size=1500)
    annotator = rng.choice(["Ada", "Ben", "Cleo"], size=1500)
    careless = (annotator == "Ben") & (rng.random(1500) < 0.3)
    sure = rng.beta(12, 2, 1500)[:, None]
    probs = np.where(np.eye(3, dtype=bool)[truth], sure, (1.0 - sure) / 2.0)
    given = NAMES[np.where(careless, (truth + 1) % 3, truth)]
    table = pd.DataFrame({"label": given, "annotator": annotator})
    table[[f"p_{name}" for name in NAMES]] = probs
    monkeypatch.chdir(tmp_path)
    return table


@pytest.mark.parametrize("file", ["scores.csv", "scores.parquet"])
def test_groups_are_those_of_python(scores, file, capsys):
    scores.to_csv("scores.csv", index=False)
    scores.to_parquet("scores.parquet")
    assert main(["audit", file, "--pred-probs", "p_*", "--groups", "annotator", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["per_group"]
    probs = scores[[f"p_{name}" for name in NAMES]]
    expected = audit(scores.label, pred_probs=probs, groups=scores.annotator).summary["per_group"]
    assert [one["group"] for one in found] == ["Ada", "Ben", "Cleo"]
    assert 0.2 < found[1]["noise_rate"] < 0.4
    for one, other in zip(found, expected, strict=True):
        assert one == pytest.approx(other)


def test_groups_have_a_table_of_their_own_in_text_and_page(scores, capsys):
    scores.to_csv("scores.csv", index=False)
    options = ["--pred-probs", "p_*", "--groups", "annotator", "-o", "audit.html"]
    assert main(["audit", "scores.csv", *options]) == 0
    lines = capsys.readouterr().out.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("group "))
    assert [line.split()[0] for line in lines[start + 1 : start + 4]] == ["Ada", "Ben", "Cleo"]
    with open("audit.html", encoding="utf-8") as page:
        text = page.read()
    assert '<section id="groups">' in text
    assert text.count(">Ben</p>") > 100  # on the cards too


def test_groups_that_are_the_classes_are_not_shown_twice(scores, capsys):
    scores.to_csv("scores.csv", index=False)
    options = ["--pred-probs", "p_*", "--groups", "label", "-o", "audit.html"]
    assert main(["audit", "scores.csv", *options]) == 0
    assert not [line for line in capsys.readouterr().out.splitlines() if line.startswith("group")]
    with open("audit.html", encoding="utf-8") as page:
        assert 'id="groups"' not in page.read()


def test_many_groups_are_shown_worst_first(scores, capsys):
    team = np.arange(1500) % 22
    team[scores.annotator == "Ben"] = 22
    scores.assign(team=[f"team{t}" for t in team]).to_csv("scores.csv", index=False)
    assert main(["audit", "scores.csv", "--pred-probs", "p_*", "--groups", "team"]) == 0
    lines = capsys.readouterr().out.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("group "))
    assert lines[start + 1].startswith("team22 ")
    assert lines[start + 21] == "... and 3 more groups with less noise"


def test_rows_without_a_group_are_a_group(scores, capsys):
    scores.loc[::2, "annotator"] = None
    scores.to_parquet("scores.parquet")
    scores.to_csv("scores.csv", index=False)
    for file, nobody in (("scores.parquet", None), ("scores.csv", "")):
        assert main(["audit", file, "--pred-probs", "p_*", "--groups", "annotator", "--json"]) == 0
        groups = [one["group"] for one in json.loads(capsys.readouterr().out)["per_group"]]
        assert set(groups) == {nobody, "Ada", "Ben", "Cleo"}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--groups", "anotator"], "no column is called 'anotator': the nearest is 'annotator'"),
        (["--groups", "annotator", "--csv", "scores.csv"], "scores.csv"),
    ],
)
def test_what_cannot_be_a_group_is_one_line(scores, options, expected, capsys):
    scores.to_csv("scores.csv", index=False)
    assert main(["audit", "scores.csv", "--pred-probs", "p_*", *options]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert expected in error


def test_a_table_is_no_group(tmp_path, capsys):
    rng = np.random.default_rng(0)
    arrays = {"labels": np.arange(50) % 2, "losses": rng.gamma(1, 1, 50), "who": np.zeros((50, 2))}
    np.savez(tmp_path / "rows.npz", **arrays)
    assert main(["audit", str(tmp_path / "rows.npz"), "--groups", "who"]) == 2
    expected = "'who' must be one group a row, and has shape (2,) a row"
    assert expected in capsys.readouterr().err


def test_a_file_in_pieces_has_no_groups(scores, tmp_path):
    scores.to_csv("scores.csv", index=False)
    with pytest.raises(InvalidDataError, match="--groups has to compare all rows: leave it out"):
        audit_file(
            tmp_path / "scores.csv",
            pred_probs="p_*",
            groups="annotator",
            limits=Limits(rows=100),
        )


def test_losses_alone_have_groups_too(scores, capsys):
    losses = np.random.default_rng(0).gamma(1.0, 0.2, 1500)
    pd.DataFrame({"loss": losses, "who": scores.annotator}).to_csv("losses.csv", index=False)
    assert main(["audit", "losses.csv", "--groups", "who", "--json"]) == 0
    groups = json.loads(capsys.readouterr().out)["per_group"]
    assert [one["group"] for one in groups] == ["Ada", "Ben", "Cleo"]


def test_groups_without_a_rate_are_shown_by_their_flagged_rows(scores, capsys):
    probs = [f"p_{name}" for name in NAMES]
    scores[probs] = scores[probs].to_numpy()[::-1]  # of other rows
    team = np.sort(np.arange(1500) ** 2 % 1500) // 65
    scores.assign(team=[f"team{t:02}" for t in team]).to_csv("scores.csv", index=False)
    assert main(["audit", "scores.csv", "--pred-probs", "p_*", "--groups", "team"]) == 0
    lines = capsys.readouterr().out.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("group "))
    rows = [line.split() for line in lines[start + 1 : start + 21]]
    flagged = [int(row[2]) for row in rows]
    assert flagged == sorted(flagged, reverse=True)
    assert {row[3] for row in rows} == {"unknown"}
    assert lines[start + 21].endswith("more groups with fewer flagged rows")
