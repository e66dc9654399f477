"""The audit's benchmark on few rows: what it measures, and what it writes."""

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "examples" / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setattr(sys, "argv", ["audit_benchmark.py"])
    return runpy.run_path(str(BENCHMARKS / "audit_benchmark.py"))


def save_verified(folder, name, num_classes):
    rng = np.random.default_rng(0)
    labels = rng.integers(num_classes, size=400)
    logits = rng.normal(size=(400, num_classes))
    logits[np.arange(400), labels] += 4.0
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    candidates = np.arange(0, 400, 8)
    np.savez(
        folder / f"verified_{name}.npz",
        pred_probs=probs,
        labels=labels.astype("uint8"),
        candidate_index=candidates,
        is_error=np.arange(50) % 3 == 0,
    )


@pytest.mark.filterwarnings("ignore:Cannot tell:UserWarning")
def test_it_measures_quality_speed_and_memory(benchmark, tmp_path, capsys):
    save_verified(tmp_path, "cifar10", 10)
    save_verified(tmp_path, "imdb", 2)
    out = tmp_path / "result.json"
    options = f"--verified {tmp_path} --seeds 0 1 --rows 2000 --repeat 2 --out {out}"
    benchmark["main"](options.split())
    result = json.loads(out.read_text("utf-8"))
    assert {"commit", "versions", "processor", "cleanlab"} <= set(result["environment"])
    for name in ("cifar10", "imdb"):
        found = result["quality"][name]
        assert [run["seed"] for run in found["flipped"]] == [0, 1]
        assert all(run["precision"]["audit"] > 0.7 for run in found["flipped"])
        assert {"audit", "loss"} <= set(found["reviewed_auroc"])
    assert result["speed"]["n"] == 2000
    assert {"median", "q1", "q3"} <= set(result["speed"]["seconds"]["audit"])
    assert result["speed"]["memory"]["peak_mb"] > 0.01
    assert "audit" in capsys.readouterr().out
