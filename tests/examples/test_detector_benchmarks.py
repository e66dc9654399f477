"""The benchmarks of the detectors with tiny settings: they run through and write their figures."""

import importlib
import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "examples" / "benchmarks"


@pytest.fixture(autouse=True)
def benchmarks_on_path(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))


@pytest.fixture
def run(tmp_path, monkeypatch):
    def run(name, *arguments):
        out = tmp_path / "result.json"
        words = [*map(str, arguments), "--jobs", "1", "--out", str(out)]
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *words])
        runpy.run_path(str(BENCHMARKS / f"{name}.py"))["main"](words)
        text = out.read_text(encoding="utf-8")
        assert str(tmp_path) not in text  # folders of one machine
        assert "NaN" not in text
        return json.loads(text)

    return run


@pytest.fixture
def verified(tmp_path):
    """Files with the names and keys of the verified sets, and made-up probabilities."""
    rng = np.random.default_rng(0)
    for name, classes in (("cifar10", 4), ("imdb", 2)):
        labels = np.arange(400) % classes
        pred_probs = rng.dirichlet(np.full(classes, 0.2), 400)
        pred_probs[np.arange(400), labels] += rng.gamma(4.0, 2.0, 400)
        np.savez(
            tmp_path / f"verified_{name}.npz",
            pred_probs=pred_probs / pred_probs.sum(axis=1, keepdims=True),
            labels=labels.astype(np.uint8),
            candidate_index=np.arange(30),
            is_error=np.arange(30) % 3 == 0,
        )
    return tmp_path


def test_rates_on_tasks_that_no_constant_was_chosen_on(run, tmp_path, capsys):
    options = [
        "--tasks",
        "moons",
        "odd digits",
        "exclusive or",
        "--classifiers",
        "naive Bayes",
        "--cache",
        tmp_path,
    ]
    result = run("detector_unseen", *options, "--rates", "0", "0.2", "0.6", "--seeds", "0", "1")
    assert [run["rate"] for run in result["runs"]] == [0.0, 0.0, 0.2, 0.2] * 3  # of two classes
    others = result["summary"]["others"]
    assert list(result["summary"]) == ["others"]
    assert others["0.2"]["runs"] == 6
    found = [run for run in result["runs"] if run["rate"] == 0.2]
    inside = [run["interval"][0] <= run["true_rate"] <= run["interval"][1] for run in found]
    assert others["0.2"]["covered"] == pytest.approx(np.mean(inside), abs=1e-4)
    errors = [r["error"]["beta"] for r in result["runs"] if r["rate"] == 0.2]
    assert others["0.2"]["mean_abs_error"]["beta"] == pytest.approx(np.abs(errors).mean(), abs=1e-4)
    assert others["0.2"]["near"] == np.mean(np.abs(errors) <= 0.05)
    assert "others: mean error of the noise rate" in capsys.readouterr().out


def test_rates_of_given_and_of_out_of_fold_predictions(run, verified, tmp_path, capsys):
    cache = tmp_path / "cache"
    options = ["--verified", verified, "--models", "iris", "breast_cancer", "--cache", cache]
    options += ["--rates", "0", "0.3", "0.6", "--seeds", "0", "1"]
    result = run("detector_rates", *options)
    cells = {(cell["set"], cell["rate"]): cell for cell in result["summary"]["cells"]}
    assert cells["cifar10", 0.0]["runs"] == 1  # nothing is drawn
    assert cells["cifar10", 0.3]["runs"] == cells["iris", 0.0]["runs"] == 2
    assert ("iris", 0.6) in cells
    assert ("breast_cancer", 0.6) not in cells  # of two classes
    methods = {"beta", "gaussian", "posterior", "audit", "published", "dividemix", "cut"}
    assert methods <= set(result["runs"][0]["methods"])
    errors = [r["methods"]["beta"]["error"] for r in result["runs"] if r["set"] == "cifar10"]
    assert cells["cifar10", 0.3]["methods"]["beta"]["error"] == pytest.approx(
        np.mean(errors[1:3]), abs=1e-4
    )
    assert abs(errors[1]) < 0.1
    assert result["reviewed_candidates"]["imdb"]["candidates"] == 30
    assert result["environment"]["command"].startswith("python detector_rates.py --verified VERI")
    assert "missed, rate" in capsys.readouterr().out
    assert len(list(cache.iterdir())) == 10
    again = run("detector_rates", *options)
    assert again["runs"] == result["runs"]


def test_rates_without_cleanlab_and_without_verified_sets(run, monkeypatch):
    monkeypatch.setattr(importlib.import_module("_baselines"), "cleanlab_version", lambda: None)
    result = run("detector_rates", "--models", "wine", "--rates", "0.2", "--seeds", "0")
    assert [run["set"] for run in result["runs"]] == ["wine"]
    assert "cleanlab" not in result["runs"][0]["methods"]
    assert result["summary"]["missed"]["audit_against_cleanlab"] == []
    assert result["reviewed_candidates"] == {}


def test_training_losses_of_digits_and_pictures(run, tmp_path, capsys):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, size=(70, 16, 16, 3), dtype=np.uint8)
    labels = np.arange(70, dtype=np.uint8) % 10
    arrays = tmp_path / "pictures.npz"
    np.savez(arrays, x_train=images, y_train=labels, x_test=images, y_test=labels)
    options = ["--arrays", arrays, "--limit", "60", "--cache", tmp_path / "cache"]
    options += ["--rates", "0", "0.4", "--seeds", "0", "--epochs", "4"]
    result = run("detector_training_losses", *options)
    assert [(r["set"], r["rate"]) for r in result["runs"]] == [
        *(("digits", 0.0), ("digits", 0.4)),
        *(("cifar10", 0.0), ("cifar10", 0.4)),
    ]
    points = result["runs"][1]["points"]
    assert [point["epoch"] for point in points.values()] == [1, 1, 2, 4]
    histories = points["last"]["histories"]
    assert list(histories) == ["single", "last 5", "all"]
    assert histories["last 5"] == histories["all"]  # of four epochs
    assert histories["all"]["auroc"] > 0.9
    gain = result["summary"]["digits"]["averaging"]["last: all against single"]["auroc"]
    assert gain["mean"] == pytest.approx(
        histories["all"]["auroc"] - histories["single"]["auroc"], abs=1e-4
    )
    assert "what the mean over epochs gains" in capsys.readouterr().out
    assert run("detector_training_losses", *options)["runs"] == result["runs"]  # from the cache


def test_calibration_on_drawn_losses(run, capsys):
    options = ["--n", "500", "--interval-rates", "0.2", "--interval-seeds", "1"]
    options += ["--sizes", "200", "2000", "--draws", "4", "--two-n", "500", "--two-rates", "0.3"]
    result = run("detector_calibration", *options, "--rare-seeds", "1")
    coverage = result["coverage"]["summary"]["any"]
    assert coverage["draws"] == 4
    assert set(coverage["model"]) == set(result["coverage"]["models"])
    draws = {cell["n"]: cell["draws"] for cell in result["false_alarms"]["cells"]}
    assert draws == {200: 4, 2000: 1}
    assert result["two_populations"]["summary"]["cross-entropy"]["all"]["cells"] == 11 * 7
    balanced, rare = result["rare_classes"]["runs"]
    assert rare["n"] < 0.6 * balanced["n"]
    assert result["rare_classes"]["summary"]["rare"]["groups"]["recall"]["mean"] > 0.5
    assert result["targets"]["coverage, any"]["met"] == (coverage["covered"] >= 0.8 * 4)
    assert "coverage of the 90 % interval" in capsys.readouterr().out


# -- the parts ------------------------------------------------------------------------------------


def test_calibration_error_is_the_mean_distance_within_bins():
    metrics = importlib.import_module("_metrics")
    wrong = np.array([0.1, 0.12, 0.95, 1.0])
    changed = np.array([False, True, True, True])
    expected = (abs(0.22 - 1.0) + abs(1.95 - 2.0)) / 4
    assert metrics.calibration_error(wrong, changed) == pytest.approx(expected)


def test_figures_that_do_not_exist_are_none():
    metrics = importlib.import_module("_metrics")
    figures = metrics.score(np.array([0.1, 0.2]), np.array([False, False]))
    assert (figures["precision"], figures["recall"]) == (None, None)
    assert metrics.auroc(np.array([0.1, 0.2]), np.array([False, False])) is None


@pytest.mark.parametrize("rule", ["published_beta", "dividemix", "cut"])
def test_baselines_find_what_is_plain_to_see(rule):
    rng = np.random.default_rng(0)
    losses = np.concatenate([rng.gamma(1.0, 0.2, 700), rng.normal(4.0, 0.3, 300)])
    wrong = getattr(importlib.import_module("_baselines"), rule)(losses)
    assert wrong.mean() == pytest.approx(0.3, abs=0.05)
    assert wrong[700:].min() > 0.5 > wrong[:600].mean()


def test_best_accuracy_is_that_of_the_best_cut():
    populations = importlib.import_module("_populations")
    losses = np.array([0.1, 0.5, 0.3, 2.0, 0.4])
    changed = np.array([False, False, False, True, True])
    assert populations.best_accuracy(losses, changed) == 0.8


def test_cells_that_miss_a_bound_are_listed_with_value_and_bound():
    summary = importlib.import_module("_rates_summary")
    methods = {
        "beta": {"error": -0.06, "brier": 0.03, "ece": 0.01},
        "published": {"error": 0.1, "brier": 0.02},
        "dividemix": {"error": 0.1, "brier": 0.04},
    }
    cell = {"set": "digits", "rate": 0.2, "accuracy": 0.95, "methods": methods}
    cell["threshold"] = {"precision": 0.8}
    missed = summary.missed([cell, cell | {"accuracy": 0.9, "threshold": {"precision": None}}])
    here = {"set": "digits", "rate": 0.2}
    assert missed["rate"] == [here | {"value": -0.06, "bound": 0.05}]
    assert missed["calibration"] == missed["brier_against_dividemix"] == []
    assert missed["threshold_precision"] == [here | {"value": 0.8, "bound": 0.85}]
    assert missed["brier_against_published"] == [here | {"value": 0.03, "bound": 0.02}] * 2
