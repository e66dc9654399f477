"""The CIFAR example on a handful of random pictures: it runs through and reports."""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

EXAMPLE = Path(__file__).parents[2] / "examples" / "train_cifar.py"


@pytest.fixture(scope="module")
def example():
    return runpy.run_path(str(EXAMPLE))


def run(example, pictures, *more):
    out = pictures.with_name("result.json")
    arguments = ["--arrays", str(pictures), "--model", "small", "--epochs", "2", "--limit", "60"]
    small = ["--batch-size", "30", "--limit-test", "20", "--out", str(out)]
    example["main"]([*arguments, *small, *more])
    return json.loads(out.read_text("utf-8"))


def test_it_reports_what_was_learned_and_found(example, pictures, capsys):
    document = run(example, pictures, "--noise", "0.5")
    printed = capsys.readouterr().out
    for line in ("last epoch", "chosen on the test set itself", "auroc", "precision", "recall"):
        assert line in printed
    figures = document["figures"]
    assert len(figures["history"]) == 2
    assert 0.0 <= figures["auroc"] <= 1.0
    assert figures["best_test_accuracy"] >= figures["last_test_accuracy"]
    assert document["arguments"]["correction"] == "m-dyr-h"
    assert set(document["versions"]) == {"lossnoise", "torch", "numpy", "scikit-learn", "python"}
    assert sorted(p.name for p in pictures.parent.iterdir()) == ["pictures.npz", "result.json"]


def test_without_noise_there_is_nothing_to_find(example, pictures, capsys):
    options = ["--noise", "0", "--correction", "cross-entropy", "--no-augment"]
    assert "auroc" not in run(example, pictures, *options)["figures"]
    assert "auroc" not in capsys.readouterr().out


def test_a_result_is_written_whole_or_not_at_all(example, tmp_path):
    path = tmp_path / "result.json"
    path.write_text("before")
    options = example["parse_arguments"](["--arrays", "pictures.npz"])
    with pytest.raises(TypeError, match=r"^Object of type object is not JSON serializable$"):
        example["write_json"](path, {"figure": object()}, options)
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_the_optimizer_is_the_trainers_own_unless_the_learning_rate_differs(example):
    assert example["optimizer_factory"](0.1) is None
    optimizer = example["optimizer_factory"](0.02)([torch.zeros(1, requires_grad=True)])
    assert isinstance(optimizer, torch.optim.SGD)
    assert optimizer.defaults["lr"] == 0.02


def test_arrays_cannot_be_downloaded(example, capsys):
    with pytest.raises(SystemExit):
        example["main"](["--arrays", "pictures.npz", "--download"])
    error = capsys.readouterr().err
    assert error.endswith("error: argument --download: not allowed with argument --arrays\n")


def test_pictures_are_needed(example, capsys):
    with pytest.raises(SystemExit):
        example["main"]([])
    assert "one of the arguments --data --arrays is required" in capsys.readouterr().err


def test_it_runs_and_resumes_under_torchrun(pictures, tmp_path):
    """Two runs of one command: the second goes on from the checkpoints of the first."""
    out, folder = tmp_path / "torchrun.json", tmp_path / "run"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command += [str(EXAMPLE), "--arrays", str(pictures), "--model", "small", "--limit", "61"]
    command += ["--batch-size", "15", "--limit-test", "20", "--epochs", "2"]
    command += ["--checkpoint-dir", str(folder), "--out", str(out)]
    results = []
    for _ in range(2):
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("test accuracy, last epoch") == 1  # one process speaks
        results.append(json.loads(out.read_text("utf-8")))
    assert sorted(p.name for p in folder.iterdir()) == ["epoch-00001.pt", "epoch-00002.pt"]
    assert results[0]["figures"] == results[1]["figures"]
    assert str(tmp_path) not in out.read_text("utf-8")
