"""Which rows the command line writes: `--budget` and `--precision`, also in pieces."""

import csv
import json
import re

import numpy as np
import pytest

from lossnoise import audit
from lossnoise.audit._file_audit import Limits
from lossnoise.cli import main

N, WRONG = 400, 80


def make_losses():
    """Return losses of which the first fifth is high."""
    rng = np.random.default_rng(0)
    return np.r_[rng.normal(4.0, 0.5, WRONG), rng.gamma(1.0, 0.2, N - WRONG)]


@pytest.fixture
def rows():
    return ["cat" if i % 2 else "dog" for i in range(N)], make_losses()


@pytest.fixture
def table(tmp_path, rows):
    path = tmp_path / "rows.csv"
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["label", "loss"], *zip(*rows, strict=True)])
    return path


@pytest.fixture
def outputs(tmp_path):
    return tmp_path / "issues.csv", tmp_path / "audit.html"


@pytest.fixture
def overlapping(tmp_path):
    """Losses of right and wrong labels, some of which are alike."""
    rng = np.random.default_rng(0)
    losses = np.r_[rng.normal(2.5, 0.5, WRONG), rng.gamma(1.0, 0.4, N - WRONG)]
    np.save(tmp_path / "losses.npy", losses)
    return tmp_path / "losses.npy"


def written(outputs):
    """Return the keys of the rows of a table, and the number of cards on a page."""
    issues, page = outputs
    with open(issues, newline="", encoding="utf-8-sig") as file:
        positions = [int(row["row_key"].rpartition("-")[2]) for row in csv.DictReader(file)]
    return positions, page.read_text("utf-8").count('<article class="card"')


def run(table, outputs, *options):
    issues, page = outputs
    return main(["audit", str(table), "--csv", str(issues), "-o", str(page), *options])


def test_without_a_budget_the_table_has_all_rows_and_the_page_200(table, outputs):
    assert run(table, outputs) == 0
    positions, cards = written(outputs)
    assert (len(positions), cards) == (N, 200)


def test_the_page_of_a_file_in_pieces_says_how_to_see_all_flagged_rows(table, outputs, monkeypatch):
    monkeypatch.setattr(Limits, "__new__", lambda cls: cls._make([50, 50, 50, 20]))
    assert run(table, outputs) == 0
    found = re.search(
        r"(\d+) flagged rows are not.* --budget (\d+)<", outputs[1].read_text("utf-8")
    )
    missing, budget = map(int, found.groups())
    assert missing == budget - 20
    assert run(table, outputs, "--budget", str(budget)) == 0
    assert written(outputs)[1] == budget
    assert "not on this page" not in outputs[1].read_text("utf-8")


@pytest.mark.parametrize("budget", [1, 30, 10 * N])
def test_the_worst_rows_are_in_the_table_and_on_the_page(table, rows, outputs, budget, capsys):
    assert run(table, outputs, "--budget", str(budget)) == 0
    positions, cards = written(outputs)
    report = audit(rows[0], losses=rows[1])
    assert positions == report.order[:budget].tolist()
    assert cards == min(budget, N)
    share = 100.0 * report.noise_proba[positions].mean()
    out = capsys.readouterr().out
    (line,) = re.findall(
        r"^(.* worst rows?): (\S+) % of the labels are expected to be wrong.$", out, re.M
    )
    assert line[0] == ("1 worst row" if budget == 1 else f"{min(budget, N)} worst rows")
    assert float(line[1].strip("<>")) == pytest.approx(share, abs=0.1)


@pytest.mark.parametrize(("budget", "kept"), [(5, 20), (60, 60)])
def test_of_a_file_in_pieces_as_many_rows_are_kept(
    table, rows, outputs, monkeypatch, capsys, budget, kept
):
    monkeypatch.setattr(Limits, "__new__", lambda cls: cls._make([50, 50, 50, 20]))
    assert run(table, outputs, "--budget", str(budget)) == 0
    assert f"only its {kept} worst rows were kept" in capsys.readouterr().out
    positions, cards = written(outputs)
    assert len(positions) == cards == budget
    assert positions == np.argsort(-rows[1], kind="stable")[:budget].tolist()


def test_losses_that_cannot_tell_promise_nothing(tmp_path, capsys):
    np.save(tmp_path / "losses.npy", np.random.default_rng(0).gamma(1.0, 0.2, size=500))
    assert main(["audit", str(tmp_path / "losses.npy"), "--budget", "7"]) == 0
    out = capsys.readouterr().out
    assert "7 worst rows: these losses cannot tell how many of the labels are wrong." in out


def test_json_stays_the_summary(table, capsys):
    assert main(["audit", str(table), "--json", "--budget", "3"]) == 0
    assert json.loads(capsys.readouterr().out)["n"] == N


@pytest.mark.parametrize("budget", ["0", "-3", "1.5", "many", ""])
def test_a_budget_is_a_number_of_rows(table, capsys, budget):
    with pytest.raises(SystemExit) as ended:
        main(["audit", str(table), f"--budget={budget}"])
    assert ended.value.code == 2
    expected = f"argument --budget: a number of rows from 1 on is needed, not {budget!r}"
    assert capsys.readouterr().err == f"lossnoise: error: {expected} (see lossnoise audit --help)\n"


# -- a precision in place of a number ------------------------------------------------------------


@pytest.mark.parametrize("in_pieces", [False, True])
def test_a_precision_chooses_the_rows_that_the_report_does(
    overlapping, outputs, monkeypatch, capsys, in_pieces
):
    if in_pieces:
        monkeypatch.setattr(Limits, "__new__", lambda cls: cls._make([50, 50, 50, 200]))
    losses = np.load(overlapping)
    cut = audit(np.zeros(N, dtype=int), losses=losses).threshold_for(precision=0.8)
    assert 0 < cut.count < 200
    assert run(overlapping, outputs, "--precision", "0.8") == 0
    positions, cards = written(outputs)
    assert len(positions) == cards == pytest.approx(cut.count, abs=2 * in_pieces)  # of a histogram
    out, err = capsys.readouterr()
    share = re.search(r" worst rows: (\S+) % of the labels are expected to be wrong.\n", out)[1]
    assert float(share) >= 80.0
    assert err == ""


def test_a_precision_that_cannot_be_met_writes_nothing_and_says_so(overlapping, outputs, capsys):
    assert run(overlapping, outputs, "--precision", "1") == 0
    assert not any(path.exists() for path in outputs)
    out, err = capsys.readouterr()
    assert "wrote" not in out
    assert err == (
        "lossnoise: warning: No rows are so likely wrong that --precision 1 is met, and nothing "
        "was written: ask for less, or for the worst rows by --budget N.\n"
    )


def test_of_a_file_in_pieces_more_rows_than_were_kept_may_be_as_precise(
    table, outputs, monkeypatch, capsys
):
    monkeypatch.setattr(Limits, "__new__", lambda cls: cls._make([50, 50, 50, 20]))
    assert run(table, outputs, "--precision", "0.9") == 0
    assert len(written(outputs)[0]) == 20
    assert capsys.readouterr().err == (
        "lossnoise: warning: All 20 rows that were kept meet --precision 0.9, and others may: "
        "--budget N keeps as many as it says.\n"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--precision=0"], "argument --precision: a share above 0 is needed, not '0'"),
        (
            ["--precision=90"],
            "argument --precision: a share between 0 and 1 is needed, not '90'",
        ),
        (
            ["--precision=0.9", "--budget=5"],
            "argument --budget: not allowed with argument --precision",
        ),
    ],
)
def test_a_precision_is_a_share_and_no_budget_beside_it(table, capsys, options, message):
    with pytest.raises(SystemExit) as ended:
        main(["audit", str(table), *options])
    assert ended.value.code == 2
    assert capsys.readouterr().err == f"lossnoise: error: {message} (see lossnoise audit --help)\n"
