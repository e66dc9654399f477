"""The speed benchmark on few losses: what it writes, and that the two EMs agree."""

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "examples" / "benchmarks"
QUARTILES = {"min", "q1", "median", "q3", "max"}


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setattr(sys, "argv", ["detector_speed.py"])
    return runpy.run_path(str(BENCHMARKS / "detector_speed.py"))


def test_it_writes_every_comparison_with_its_spread(benchmark, tmp_path, capsys):
    out = tmp_path / "result.json"
    sizes = "--em-sizes 20000 --pass-sizes 3000 --table-sizes 1000 2000 --largest 4000"
    benchmark["main"]([*sizes.split(), "--repeat", "2", "--out", str(out)])
    result = json.loads(out.read_text(encoding="utf-8"))
    assert {"commit", "versions", "processor"} <= set(result["environment"])
    assert result["settings"]["repeat"] == 2

    (em,) = result["em"]
    assert em["largest_relative_difference"] <= 1e-3
    assert em["difference_met"]
    assert set(em["parameters"]) == {"scipy", "grid"}
    for part, names in ((em, {"scipy", "grid"}), (result["fit"][0], {"scipy", "fit"})):
        assert set(part["seconds"]) == names
        assert all(set(spread) == QUARTILES for spread in part["seconds"].values())
        assert set(part["speedup"]) == {"of_medians", "per_repetition", "target", "met"}

    assert [part["dtype"] for part in result["passes"]] == ["float32", "float64"]
    assert [part["n"] for part in result["cost"]] == [1000, 2000, 4000]
    assert [part["from"] for part in result["cost"]] == ["memory", "memory", "file"]
    for part in (*result["passes"], *result["cost"]):
        assert set(part["passes"]) == {"fit", "predict_proba"}
        assert part["passes"]["fit"]["of_medians"] > 0.0

    memory = result["memory"]
    assert memory["met"]
    assert 0.0 < memory["traced_peak_mb"] < memory["target_mb"]
    printed = capsys.readouterr().out
    assert "parameters differ by" in printed
    assert "memory of fit on 4,000 losses" in printed


def test_ratios_are_of_medians_and_repetition_by_repetition(benchmark):
    seconds = {"slow": [2.0, 4.0, 9.0], "fast": [1.0, 1.0, 3.0]}
    found = benchmark["ratio"](seconds, "slow", "fast")
    assert found["of_medians"] == 4.0
    spread = {"min": 2.0, "q1": 2.5, "median": 3.0, "q3": 3.5, "max": 4.0}
    assert found["per_repetition"] == spread
    assert benchmark["at_least"](found, 5.0)["met"] is False
    assert benchmark["at_most"](found, 5.0)["met"] is True
    assert benchmark["at_most"](found, None)["met"] is None


def test_a_file_holds_the_losses_that_are_drawn(benchmark, tmp_path):
    path = tmp_path / "losses.npy"
    benchmark["write_losses"](path, 1000)
    drawn = benchmark["draw_losses"](1000)
    np.testing.assert_array_equal(np.load(path), drawn.astype(np.float32))
    assert np.mean(drawn > 2.0) == pytest.approx(0.3, abs=0.05)


def test_memory_that_is_held_for_a_moment_is_seen(benchmark):
    with benchmark["MemoryGrowth"]() as growth:
        held = np.ones(10_000_000)
        del held
    if growth.megabytes is None:
        pytest.skip("no /proc/self/status here")
    assert growth.megabytes > 60.0
