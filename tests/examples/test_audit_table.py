"""The audit of a table, run as a user would run it."""

import csv
import re
import runpy
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "audit_table.py"


def test_wrong_rows_of_a_table_come_first(tmp_path, monkeypatch, capsys):
    pytest.importorskip("pandas")
    pytest.importorskip("matplotlib").use("agg")
    monkeypatch.chdir(tmp_path)
    found = runpy.run_path(str(EXAMPLE))
    printed = capsys.readouterr().out
    shares = re.findall(r"^first (\d+) +(\d+)%$", printed, re.M)
    assert [int(count) for count, _ in shares] == [50, 100, 200, found["changed"].sum()]
    assert all(int(share) > 90 for _, share in shares)
    assert found["found"] > 0.9
    assert found["mended"] > 0.8
    with Path("audit_table.csv").open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 1797
    assert rows[0]["scan"] == found["names"][found["report"].order[0]]
    wrong = {name for name, wrong in zip(found["names"], found["changed"], strict=True) if wrong}
    assert len({row["scan"] for row in rows[:100]} & wrong) > 90
