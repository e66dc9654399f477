"""How many rows the command line writes: `--budget`, for files in memory and in pieces."""

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
