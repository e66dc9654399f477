import csv
import json
import runpy
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


# two epochs teach nothing that could be bootstrapped from
@pytest.mark.filterwarnings("ignore::lossnoise.exceptions.CollapseWarning")
def test_quickstart_prints_its_table_and_writes_figure_and_csv(tmp_path, capsys):
    main = runpy.run_path(str(EXAMPLES / "quickstart.py"))["main"]
    main(["--epochs", "2", "--out", str(tmp_path / "out")])
    printed = capsys.readouterr().out
    for correction in ("cross-entropy", "mixup", "m-dyr-h"):
        assert f"\n{correction} " in printed
    assert (tmp_path / "out" / "losses.png").read_bytes().startswith(b"\x89PNG")
    with (tmp_path / "out" / "audit.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 1347
    assert [int(row["rank"]) for row in rows[:3]] == [1, 2, 3]


def test_digits_benchmark_writes_every_run_with_its_environment(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(EXAMPLES / "benchmarks"))
    monkeypatch.setattr(sys, "argv", ["methods_digits.py"])
    main = runpy.run_path(str(EXAMPLES / "benchmarks" / "methods_digits.py"))["main"]
    out = tmp_path / "result.json"
    options = "--noise 0 0.5 --corrections mixup --seeds 0 1 --epochs 1 --out"
    main([*options.split(), str(out)])
    result = json.loads(out.read_text(encoding="utf-8"))
    assert [(cell["noise"], len(cell["runs"])) for cell in result["cells"]] == [(0.0, 2), (0.5, 2)]
    assert {"commit", "versions", "processor"} <= set(result["environment"])
    last = [run["last"] for run in result["cells"][1]["runs"]]
    assert result["cells"][1]["summary"]["last"]["mean"] == sum(last) / 2
    assert "mixup" in capsys.readouterr().out
