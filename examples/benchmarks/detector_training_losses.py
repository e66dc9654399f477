"""Detectors on the losses of training itself: early, in its middle and at its end.

    python examples/benchmarks/detector_training_losses.py --arrays FILE.npz --cache DIR

Networks are trained with plain cross-entropy on labels that were made wrong at known rates. Which
epochs' losses tell wrong labels from right ones, and is the mean over epochs better than one
epoch? Digits take some minutes on two cores; with ``--arrays`` (as for ``train_cifar.py``), the
first 5,000 pictures of CIFAR-10 a quarter of an hour more. The result goes to
``results/detector_training_losses.json``.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))  # for the examples' networks

import _baselines
import _metrics
import _results
import numpy as np
import torch
from _noisy_probs import flip
from _recording import Recording, Task, read_recording, record, write_recording
from _reporting import environment, rounded, table
from joblib import Parallel, delayed
from quickstart import load_noisy_digits, small_network
from sklearn.datasets import load_digits
from torch import nn
from train_cifar import small_cnn

from lossnoise import BetaMixtureNoiseDetector
from lossnoise.data.cifar import CIFAR10_MEAN, CIFAR10_STD, load_arrays
from lossnoise.exceptions import LossNoiseWarning

RATES = [0.0, 0.05, 0.1, 0.2, 0.4, 0.6]
POINTS = {"early": 1 / 12, "middle": 1 / 4, "half": 1 / 2, "last": 1.0}  # of the run
HISTORIES = ("single", "last 5", "all")


class Experiment(NamedTuple):
    """What is trained on, with how many epochs and which seeds."""

    name: str
    load: Callable[[float, int], Task]
    network: Callable[[], nn.Module]
    epochs: int
    seeds: list[int]


def digits(rate: float, seed: int) -> Task:
    """Return the quickstart's training pictures."""
    data = load_noisy_digits(rate, seed, include_true=False)
    clean_labels = load_digits().target[data.index]
    return Task(data.train.tensors[0], data.labels, data.changed, clean_labels)


def pictures(path: Path, limit: int, rate: float, seed: int) -> Task:
    """Return the first pictures of a file, normalised."""
    arrays = load_arrays(path)
    images = torch.as_tensor(arrays.x_train[:limit]).permute(0, 3, 1, 2).float() / 255.0
    mean, deviation = (torch.tensor(v)[:, None, None] for v in (CIFAR10_MEAN, CIFAR10_STD))
    labels, clean_labels, changed = flip(arrays.y_train[:limit].astype(np.int64), rate, seed)
    return Task(((images - mean) / deviation).contiguous(), labels, changed, clean_labels)


def obtain(experiment: Experiment, task: Task, rate: float, seed: int, cache: Any) -> Recording:
    """Return a recording, from the cache where it has it."""
    torch.manual_seed(seed)  # the first weights
    model = experiment.network()
    made_with = f"torch {torch.__version__}, {experiment.epochs} epochs: {model!r}"
    path = (
        None if cache is None else cache / f"{experiment.name}_{round(100 * rate):02d}_{seed}.npz"
    )
    recording = None if path is None else read_recording(path, made_with, task.labels)
    if recording is None:
        recording = record(model, task, experiment.epochs, seed)
        if path is not None:
            write_recording(path, recording, made_with, task.labels)
    return recording


# -- one training run -----------------------------------------------------------------------------


def run(experiment: Experiment, rate: float, seed: int, cache: Path | None) -> dict[str, Any]:
    """Return all figures of one training run."""
    task = experiment.load(rate, seed)
    recording = obtain(experiment, task, rate, seed, cache)
    return {
        "set": experiment.name,
        "rate": rate,
        "seed": seed,
        "n": len(task.labels),
        "true_rate": float(task.changed.mean()),
        "points": judge(recording.losses, recording.accuracy, task.changed),
    }


def judge(losses: np.ndarray, accuracy: Sequence[float], changed: np.ndarray) -> dict[str, Any]:
    """Return figures at each point of a run, from losses (n, epochs) and accuracies (epochs,)."""
    points = {}
    for name, part in POINTS.items():
        epoch = max(1, round(part * len(accuracy)))
        points[name] = {
            "epoch": epoch,
            "accuracy": float(accuracy[epoch - 1]),
            "histories": {
                history: evaluate(reduced, changed)
                for history, reduced in reduce(losses[:, :epoch]).items()
            },
        }
    return points


def reduce(history: np.ndarray) -> dict[str, np.ndarray]:
    """Return one loss a sample, from the last epoch and from means over epochs."""
    history = history.astype(np.float64)
    columns = {"single": history[:, -1:], "last 5": history[:, -5:], "all": history}
    return {name: columns[name].mean(axis=1) for name in HISTORIES}


def evaluate(losses: np.ndarray, changed: np.ndarray) -> dict[str, Any]:
    """Return how well each method finds wrong labels by these losses."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LossNoiseWarning)  # what they say is in the figures
        beta = BetaMixtureNoiseDetector().fit(losses)
        alone = BetaMixtureNoiseDetector(hard_fraction=0.0).fit(losses)
    wrong = {
        "beta": beta.predict_proba(losses)[:, 1],
        "posterior": beta.posterior(losses),  # of the beta mixture, whatever separable_ says
        "no hard": alone.predict_proba(losses)[:, 1],
        "posterior, no hard": alone.posterior(losses),  # what the trainer uses
        "published": _baselines.published_beta(losses),
        "dividemix": _baselines.dividemix(losses),
        "cut": _baselines.cut(losses),
    }
    return {
        "auroc": _metrics.auroc(losses, changed),
        "separable": beta.separable_,
        "methods": {name: _metrics.score(proba, changed) for name, proba in wrong.items()},
    }


# -- all of them ----------------------------------------------------------------------------------


def summarise(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return for each set the figures of each point and history, and what averaging gains."""
    return {
        name: {
            "cells": [
                _cell(chosen, point, history, rate)
                for point in POINTS
                for history in HISTORIES
                for rate in dict.fromkeys(run["rate"] for run in chosen)
            ],
            "overall": {
                f"{point}, {history}": _overall(chosen, point, history)
                for point in POINTS
                for history in HISTORIES
            },
            "averaging": {
                f"{point}: {history} against single": _gain(chosen, point, history)
                for point in POINTS
                for history in HISTORIES[1:]
            },
        }
        for name in dict.fromkeys(run["set"] for run in runs)
        for chosen in [[run for run in runs if run["set"] == name]]
    }


def _pick(runs: list[dict[str, Any]], point: str, history: str) -> list[dict[str, Any]]:
    return [run["points"][point]["histories"][history] for run in runs]


def _cell(
    runs: list[dict[str, Any]], point: str, history: str, rate: float | None
) -> dict[str, Any]:
    """Return the means over the seeds of one point, history and rate."""
    chosen = [run for run in runs if run["rate"] == rate]
    picked = _pick(chosen, point, history)
    return {
        "point": point,
        "history": history,
        "rate": rate,
        "accuracy": _metrics.mean([run["points"][point]["accuracy"] for run in chosen]),
        "auroc": _metrics.mean([figures["auroc"] for figures in picked]),
        "separable": float(np.mean([figures["separable"] for figures in picked])),
        "error": {
            name: _metrics.mean([figures["methods"][name]["error"] for figures in picked])
            for name in picked[0]["methods"]
        },
    }


def _overall(runs: list[dict[str, Any]], point: str, history: str) -> dict[str, Any]:
    """Return means over rates and seeds; separable apart for runs with noise and without."""
    picked = _pick(runs, point, history)
    noisy = [f["separable"] for f, run in zip(picked, runs, strict=True) if run["rate"]]
    clean = [f["separable"] for f, run in zip(picked, runs, strict=True) if not run["rate"]]
    return {
        "auroc": _metrics.mean([figures["auroc"] for figures in picked]),
        "separable_with_noise": _metrics.mean(noisy),
        "separable_without": _metrics.mean(clean),
        "methods": {
            name: {
                "mean_abs_error": float(
                    np.mean([abs(f["methods"][name]["error"]) for f in picked])
                ),
                "brier": float(np.mean([f["methods"][name]["brier"] for f in picked])),
            }
            for name in picked[0]["methods"]
        },
    }


def _gain(runs: list[dict[str, Any]], point: str, history: str) -> dict[str, Any]:
    """Return what a mean over epochs changes against the single epoch, run by run.

    Positive is better: higher AUROC, lower Brier score, smaller error of the rate.
    """
    pairs = list(zip(_pick(runs, point, history), _pick(runs, point, "single"), strict=True))
    ranked = [(a["auroc"], b["auroc"]) for a, b in pairs if a["auroc"] is not None]
    result = {"auroc": _change([a - b for a, b in ranked])}
    for method in ("beta", "posterior"):
        both = [(a["methods"][method], b["methods"][method]) for a, b in pairs]
        result[f"{method}, brier"] = _change([b["brier"] - a["brier"] for a, b in both])
        result[f"{method}, rate"] = _change([abs(b["error"]) - abs(a["error"]) for a, b in both])
    return result


def _change(gains: list[float]) -> dict[str, Any]:
    if not gains:
        return {"runs": 0}
    better = float(np.mean(np.greater(gains, 0.0)))
    return {"runs": len(gains), **_results.spread(gains), "better": better}


def show(summary: dict[str, Any]) -> None:
    """Print what matters."""
    for name, content in summary.items():
        methods = list(next(iter(content["overall"].values()))["methods"])
        for figure in ("mean_abs_error", "brier"):
            head = ["losses", "AUROC", "separable", "without noise", *methods]
            rows = [
                [
                    key,
                    *(part[f] for f in ("auroc", "separable_with_noise", "separable_without")),
                    *(part["methods"][method][figure] for method in methods),
                ]
                for key, part in content["overall"].items()
            ]
            print(f"\n{name}, {figure} over rates and seeds\n" + table(head, rows))
        print(f"\n{name}, what the mean over epochs gains (positive is better)")
        figures = list(next(iter(content["averaging"].values())))
        rows = [
            [key, *(f"{part[f]['mean']:+.3f}" if part[f]["runs"] else "-" for f in figures)]
            for key, part in content["averaging"].items()
        ]
        print(table(["losses", *figures], rows))


def plan(options: argparse.Namespace) -> list[Experiment]:
    """Return what to train on."""
    experiments = [Experiment("digits", digits, small_network, options.epochs or 60, options.seeds)]
    if options.arrays is not None:
        load = partial(pictures, options.arrays, options.limit)
        network = partial(small_cnn, 10)
        experiments.append(
            Experiment("cifar10", load, network, options.epochs or 40, options.seeds[:1])
        )
    return experiments


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--arrays", type=Path, metavar="FILE.npz", help="CIFAR-10 as arrays")
    parser.add_argument("--limit", type=int, default=5000, help="pictures of it")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="keeps recorded losses")
    parser.add_argument("--rates", type=float, nargs="+", default=RATES)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="CIFAR: the first")
    parser.add_argument("--epochs", type=int, help="60 for digits, 40 for CIFAR-10")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    out = _results.RESULTS / "detector_training_losses.json"
    parser.add_argument("--out", type=Path, default=out)
    options = parser.parse_args(arguments)

    experiments = plan(options)
    runs = Parallel(options.jobs)(
        delayed(run)(experiment, rate, seed, options.cache)
        for experiment in experiments
        for seed in experiment.seeds
        for rate in options.rates
    )
    summary = summarise(runs)
    show(summary)
    settings = {
        "noise": "symmetric, excl.",
        "rates": options.rates,
        "experiments": {e.name: {"epochs": e.epochs, "seeds": e.seeds} for e in experiments},
        "training": "SGD, learning rate 0.1, momentum 0.9, weight decay 1e-4, batches of 64; "
        "a tenth of the learning rate after 1/2 and after 5/6 of the epochs; no augmentation",
    }
    result = {
        "environment": environment(options),
        "settings": settings,
        "summary": summary,
        "runs": runs,
    }
    _results.write(options.out, rounded(result))


if __name__ == "__main__":
    main()
