"""The benchmarks of training with a handful of random pictures: they run through and report."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from lossnoise.data.cifar import load_arrays
from lossnoise.data.resident import ResidentImages

BENCHMARKS = Path(__file__).parents[2] / "examples" / "benchmarks"


@pytest.fixture(autouse=True)
def benchmarks_on_path(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))


@pytest.fixture
def run(monkeypatch):
    """Call a benchmark's main with words that are also those of its command."""

    def run(module, *words):
        arguments = [str(word) for word in words]
        monkeypatch.setattr(sys, "argv", [f"{module.__name__}.py", *arguments])
        module.main(arguments)

    return run


def read(path):
    text = path.read_text(encoding="utf-8")
    assert str(path.parent) not in text  # folders of one machine
    assert "NaN" not in text
    return json.loads(text)


def words_of(capsys):
    """Return what was printed, however wide its columns are."""
    return " ".join(capsys.readouterr().out.split())


def test_a_method_that_has_no_losses_of_samples_fills_the_table_too(run, pictures, tmp_path):
    cifar10_table, out = importlib.import_module("cifar10_table"), tmp_path / "mixup.json"
    words = ["--arrays", pictures, "--correction", "mixup", "--run-dir", tmp_path / "run"]
    run(cifar10_table, *words, "--model", "small", "--epochs", 2, "--out", out)
    assert read(out)["figures"]["detectors"] is None


def test_a_run_of_the_papers_table_goes_on_and_fills_its_place(
    run, pictures, tmp_path, monkeypatch, capsys
):
    cifar10_table = importlib.import_module("cifar10_table")
    monkeypatch.setattr(cifar10_table, "FOLDER", tmp_path)
    words = ["--arrays", pictures, "--correction", "cross-entropy", "--run-dir", tmp_path / "run"]
    words += ["--model", "small", "--precision", "float32", "--epochs", 4]
    words += ["--checkpoint-every", 1]
    for _ in range(3):
        run(cifar10_table, *words, "--minutes", 0)  # an epoch, and a checkpoint
        assert "the same command goes on" in capsys.readouterr().out
    run(cifar10_table, *words, "--losses", tmp_path / "losses.npz")
    with np.load(tmp_path / "losses.npz", allow_pickle=False) as kept:
        assert kept["losses"].shape == (80, 4)
        assert 20 < kept["changed"].sum() < 60
    figures = read(tmp_path / "cross-entropy_0.5_4_0.json")["figures"]
    assert [epoch["epoch"] for epoch in figures["history"]] == [1, 2, 3, 4]
    assert figures["last"] == figures["history"][-1]["val_accuracy"]
    assert [point["epoch"] for point in figures["detectors"].values()] == [1, 1, 2, 4]
    assert 0.0 <= figures["detectors"]["last"]["histories"]["all"]["auroc"] <= 1.0

    capsys.readouterr()
    cifar10_table.main(["--table"])
    row = next(line for line in capsys.readouterr().out.splitlines() if "ours" in line)
    best, last = 100 * figures["best"], 100 * figures["last"]
    assert row == f"| cross-entropy, ours, 4 epochs | - | - | {best:.1f}/{last:.1f} | - | - |"


@pytest.mark.filterwarnings("ignore:Predictions concentrate")
def test_methods_are_compared_and_finished_runs_are_kept(run, pictures, tmp_path, capsys):
    methods_cifar = importlib.import_module("methods_cifar")
    out, again = tmp_path / "result.json", tmp_path / "again.json"
    words = ["--arrays", pictures, "--jobs", 1, "--noise", "symmetric-0.5", "--seeds", 0, 1]
    words += ["--corrections", "cross-entropy", "m-dyr-h", "--limit", 60, "--limit-test", 20]
    words += ["--epochs", 2, "--cache", tmp_path / "cache"]
    run(methods_cifar, *words, "--out", out)
    result = read(out)
    plain, ours = result["cells"]
    means = [cell["summary"]["last"]["mean"] for cell in (ours, plain)]
    gain = ours["over"]["cross-entropy"]["mean"]
    assert gain == pytest.approx(means[0] - means[1], abs=1e-4)
    assert result["settings"] | {"limit": 60, "epochs": 2, "seeds": [0, 1]} == result["settings"]

    made = "symmetric-0.5 m-dyr-h seed 1"
    assert made in words_of(capsys)
    run(methods_cifar, *words, "--out", again)
    words = words[:-2]  # no cache
    run(methods_cifar, *words, "--reuse", out, "--out", again)
    assert read(again)["cells"] == result["cells"]
    assert made not in words_of(capsys)
    run(methods_cifar, *words[:10], "mixup", *words[12:], "--reuse", out, "--out", again)
    cells = read(again)["cells"]
    assert [cell["correction"] for cell in cells] == ["cross-entropy", "mixup", "m-dyr-h"]
    assert cells[0]["runs"] == result["cells"][0]["runs"]
    assert cells[2]["runs"] == result["cells"][1]["runs"]
    assert cells[2]["over"].keys() == {"cross-entropy", "mixup"}
    with pytest.raises(SystemExit, match="was made with other settings"):
        run(methods_cifar, *words, "--epochs", 3, "--reuse", out, "--out", again)


@pytest.mark.parametrize(
    ("option", "name", "limit", "epochs"),
    [
        ([], "methods_cifar.json", 5000, 60),
        (["--long"], "methods_cifar_long.json", 10_000, 100),
        (["--full"], "methods_cifar_full.json", 50_000, 100),
    ],
)
def test_each_length_of_the_comparison_has_a_result_of_its_own(option, name, limit, epochs):
    methods_cifar = importlib.import_module("methods_cifar")
    options, settings = methods_cifar.parse_arguments(["--arrays", "a.npz", *option])
    assert options.out.name == name
    assert (settings["limit"], settings["epochs"]) == (limit, epochs)
    words = ["--arrays", "a.npz", *option, "--epochs", "3", "--out", "b.json"]
    options, settings = methods_cifar.parse_arguments(words)
    assert options.out.name == "b.json"
    assert (settings["limit"], settings["epochs"]) == (limit, 3)


def test_co_teaching_is_also_told_how_many_labels_are_wrong(pictures):
    methods_cifar = importlib.import_module("methods_cifar")
    arrays = load_arrays(pictures)
    noisy = methods_cifar.with_noise(arrays, (0.5, "symmetric", True), seed=0)
    told = methods_cifar.make_correction("co-teaching-plus, rate given", noisy)
    assert told.noise_rate == noisy.changed.mean() > 0.0
    assert methods_cifar.make_correction("co-teaching-plus", noisy).noise_rate is None


def test_open_set_is_also_told_which_labels_are_wrong(run, pictures, tmp_path, capsys):
    methods_cifar, out = importlib.import_module("methods_cifar"), tmp_path / "result.json"
    told = ["open-set, wrong labels known", "open-set, wrong labels known, weight 0.35"]
    words = ["--arrays", pictures, "--limit", 80, "--limit-test", 20, "--epochs", 10, "--jobs", 1]
    words += ["--noise", "symmetric-0.5", "--seeds", 0, "--corrections", "open-set", *told]
    run(methods_cifar, *words, "--out", out)
    found = {cell["correction"]: cell["runs"][0] for cell in read(out)["cells"]}
    assert [found[name]["score_auroc"] for name in told] == [1.0, 1.0]
    assert [found[name]["weight_of_wrong"] for name in told] == [0.0, 0.35]
    assert 0.0 < found["open-set"]["score_auroc"] < 1.0
    assert 0.0 < found["open-set"]["weight_of_wrong"] <= 1.0
    assert "open-set, wrong labels known" in words_of(capsys)


def test_a_part_of_the_pictures_with_every_kind_of_noise(pictures):
    kinds, comparison = importlib.import_module("_pictures"), importlib.import_module("_comparison")
    arrays = kinds.part_of(load_arrays(pictures), 60, 20, 8)
    assert arrays.x_train.shape == (60, 8, 8, 3)
    square = load_arrays(pictures).x_train[3, 2:4, 4:6, 1]
    assert arrays.x_train[3, 1, 2, 1] == round(float(square.mean()))
    for noise in comparison.NOISES:
        noisy = kinds.with_noise(arrays, noise, seed=0)
        moved = noisy.labels != arrays.y_train
        foreign = (noisy.images != arrays.x_train).any(axis=(1, 2, 3))
        assert np.array_equal(noisy.changed, foreign if noise[1] == "open-set" else moved)
        assert noisy.changed.mean() <= noise[0] + 0.02
        clean = kinds.reviewed_samples(noisy, arrays.y_train, 0, "cpu")
        known = {(x.numpy().tobytes(), int(y)) for x, _, y in clean}
        dataset = ResidentImages(arrays.x_train, arrays.y_train, "cpu")
        assert len(clean) == 3
        assert known <= {(x.numpy().tobytes(), int(y)) for x, y in dataset}


def test_the_cost_of_an_epoch_is_that_over_a_bare_loop(run, tmp_path, capsys):
    epoch_cost = importlib.import_module("epoch_cost")
    out = tmp_path / "result.json"
    words = ["--device", "cpu", "--models", "digits", "--corrections", "cross-entropy", "m-dyr-h"]
    run(epoch_cost, *words, "--samples", 60, "--batch-size", 30, "--rounds", 1, "--out", out)
    summary = read(out)["models"]["digits"]["summary"]
    assert list(summary) == ["bare loop", "cross-entropy", "m-dyr-h"]
    assert summary["bare loop"]["over_bare_loop"]["median"] == 1.0
    assert summary["m-dyr-h"]["over_bare_loop"]["median"] > 0.0
    if Path("/proc/self/status").exists():
        assert all(0.0 < entry["peak_megabytes"] < 500.0 for entry in summary.values())
    assert "over bare loop" in capsys.readouterr().out
