import csv
import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

EXAMPLES = Path(__file__).parents[2] / "examples"


# two epochs teach nothing that could be bootstrapped from
@pytest.mark.filterwarnings("ignore::lossnoise.exceptions.CollapseWarning")
def test_quickstart_prints_its_table_and_writes_figure_and_csv(tmp_path, capsys):
    main = runpy.run_path(str(EXAMPLES / "quickstart.py"))["main"]
    main(["--epochs", "2", "--out", str(tmp_path / "out")])
    printed = capsys.readouterr().out
    for correction in ("cross-entropy", "mixup", "m-dyr-h"):
        assert f"\n{correction} " in printed
    for name in ("losses.png", "loss_history.png"):
        assert (tmp_path / "out" / name).read_bytes().startswith(b"\x89PNG")
    with (tmp_path / "out" / "audit.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 1347
    assert [int(row["rank"]) for row in rows[:3]] == [1, 2, 3]


def test_digits_benchmark_writes_every_run_with_its_environment(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(EXAMPLES / "benchmarks"))
    monkeypatch.setattr(sys, "argv", ["methods_digits.py"])
    main = runpy.run_path(str(EXAMPLES / "benchmarks" / "methods_digits.py"))["main"]
    out = tmp_path / "result.json"
    noises = ["symmetric-0", "pair-0.4", "instance-0.4", "open-set-0.4"]
    options = f"--noise {' '.join(noises)} --corrections cross-entropy dyr-h --seeds 0 1"
    options += " --epochs 2 --jobs 1 --out"
    main([*options.split(), str(out)])
    result = json.loads(out.read_text(encoding="utf-8"))
    cells = {(cell["noise_name"], cell["correction"]): cell for cell in result["cells"]}
    assert {key: len(cell["runs"]) for key, cell in cells.items()} == {
        (noise, correction): 5 if noise == "symmetric-0" else 2
        for noise in noises
        for correction in ("cross-entropy", "dyr-h")
    }
    for noise in noises[1:]:
        share = cells[noise, "dyr-h"]["summary"]["true_rate"]["mean"]
        assert share == pytest.approx(0.4, abs=1e-3)
    plain, other = (cells["pair-0.4", name] for name in ("cross-entropy", "dyr-h"))
    gains = [b["last"] - a["last"] for a, b in zip(plain["runs"], other["runs"], strict=True)]
    gain = {"mean": sum(gains) / 2, "standard_error": abs(gains[0] - gains[1]) / 2}
    assert other["over"]["cross-entropy"] == pytest.approx(gain, abs=2e-5)
    assert plain["over"] == {}
    assert "after_warmup" in cells["pair-0.4", "dyr-h"]["summary"]
    assert {"commit", "versions", "processor"} <= set(result["environment"])
    last = [run["last"] for run in cells["pair-0.4", "dyr-h"]["runs"]]
    mean = cells["pair-0.4", "dyr-h"]["summary"]["last"]["mean"]
    assert mean == pytest.approx(sum(last) / 2, abs=1e-5)
    assert "dyr-h" in capsys.readouterr().out


def test_digits_with_open_set_noise_keep_their_labels(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    monkeypatch.syspath_prepend(str(EXAMPLES / "benchmarks"))
    import _digits

    tiles = _digits.photograph_tiles()
    assert tiles.shape == (2080, 1, 8, 8)
    assert tiles.min() >= 0.0
    assert tiles.max() <= 1.0
    clean = _digits.load_digits_with((0.0, "symmetric", True), 0)
    noisy = _digits.load_digits_with((0.4, "open-set", True), 0)
    for (picture, label), (own, right), replaced in zip(
        noisy.train, clean.train, noisy.changed, strict=True
    ):
        assert label == right
        assert bool((picture != own).any()) == replaced


@pytest.mark.parametrize("kind", ["symmetric", "open-set"])
def test_reviewed_samples_have_the_given_and_the_true_label(monkeypatch, kind):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    monkeypatch.syspath_prepend(str(EXAMPLES / "benchmarks"))
    import _digits

    digits = _digits.load_digits_with((0.4, kind, False), 0)
    target = load_digits().target[digits.index]
    pictures, given, true = _digits.reviewed_samples(digits, 0).tensors
    known = {x.numpy().tobytes(): (y, t) for (x, y), t in zip(digits.train, target, strict=True)}
    assert [known[x.numpy().tobytes()] for x in pictures] == list(zip(given, true, strict=True))
    assert len(given) == 100
    assert bool((given != true).any()) == (kind == "symmetric")


# of rare classes, and of an epoch that teaches nothing
@pytest.mark.filterwarnings("ignore::lossnoise.exceptions.LossNoiseWarning")
def test_benchmark_of_rare_classes(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES / "benchmarks"))
    monkeypatch.setattr(sys, "argv", ["methods_imbalanced.py"])
    benchmark = runpy.run_path(str(EXAMPLES / "benchmarks" / "methods_imbalanced.py"))
    pictures = benchmark["load_pictures"](0.3, seed=0)
    sizes = np.bincount(pictures.train.tensors[1][~pictures.wrong])
    assert sizes[0] > 15 * max(sizes[1:])
    assert pictures.wrong.mean() == pytest.approx(0.2, abs=0.02)
    out, methods = tmp_path / "result.json", ["cross-entropy, drawn evenly", "m-dyr-h"]
    options = "--noise 0.3 --seeds 0 1 --epochs 1 --jobs 1 --out"
    benchmark["main"](["--methods", *methods, *options.split(), str(out)])
    cells = json.loads(out.read_text(encoding="utf-8"))["cells"]
    assert [cell["method"] for cell in cells] == methods
    for cell in cells:
        assert [run["seed"] for run in cell["runs"]] == [0, 1]
        single = [run["balanced_accuracy"] for run in cell["runs"]]
        mean = cell["summary"]["balanced_accuracy"]["mean"]
        assert mean == pytest.approx(sum(single) / 2, abs=2e-5)


def test_every_noise_of_the_digits_benchmark_has_a_column(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES / "benchmarks"))
    import tables

    benchmark = runpy.run_path(str(EXAMPLES / "benchmarks" / "methods_digits.py"))
    assert [benchmark["name_of"](noise) for noise in benchmark["NOISES"]] == list(
        tables.NOISE_NAMES
    )
