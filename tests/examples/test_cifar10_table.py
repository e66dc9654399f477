"""The paper's table with a handful of random pictures: runs end, go on, and fill a table."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "examples" / "benchmarks"


@pytest.fixture
def cifar10_table(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    module = importlib.import_module("cifar10_table")
    monkeypatch.setattr(module, "FOLDER", tmp_path / "results")
    return module


@pytest.fixture
def run(cifar10_table, tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, size=(80, 16, 16, 3), dtype=np.uint8)
    labels = np.arange(80, dtype=np.uint8) % 10
    arrays = tmp_path / "pictures.npz"
    np.savez(arrays, x_train=images, y_train=labels, x_test=images, y_test=labels)

    def run(correction, *more):
        words = ["--arrays", arrays, "--correction", correction, "--run-dir", tmp_path / correction]
        words += ["--model", "small", "--precision", "float32", *more]
        arguments = [str(word) for word in words]
        monkeypatch.setattr(sys, "argv", ["cifar10_table.py", *arguments])
        cifar10_table.main(arguments)

    return run


def test_a_run_goes_on_where_it_was_stopped_and_fills_its_place(
    cifar10_table, run, tmp_path, capsys
):
    every = ("--epochs", 4, "--checkpoint-every", 1)
    for _ in range(3):
        run("cross-entropy", "--minutes", 0, *every)  # an epoch, and a checkpoint
        assert "the same command goes on" in capsys.readouterr().out
    run("cross-entropy", *every)
    path = tmp_path / "results" / "cross-entropy_0.5_4_0.json"
    result = json.loads(path.read_text("utf-8"))
    figures = result["figures"]
    assert str(tmp_path) not in path.read_text("utf-8")
    assert [epoch["epoch"] for epoch in figures["history"]] == [1, 2, 3, 4]
    assert figures["last"] == figures["history"][-1]["val_accuracy"]
    assert [point["epoch"] for point in figures["detectors"].values()] == [1, 1, 2, 4]
    assert 0.0 <= figures["detectors"]["last"]["histories"]["all"]["auroc"] <= 1.0

    capsys.readouterr()
    cifar10_table.main(["--table"])
    row = next(line for line in capsys.readouterr().out.splitlines() if "ours" in line)
    best, last = 100 * figures["best"], 100 * figures["last"]
    assert row == f"| cross-entropy, ours, 4 epochs | - | - | {best:.1f}/{last:.1f} | - | - |"
