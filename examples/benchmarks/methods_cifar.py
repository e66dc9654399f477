"""Corrections on a part of CIFAR-10, trained until plain training has memorised the labels.

    python examples/benchmarks/methods_cifar.py --arrays cifar.npz --cache DIR

Cross-entropy, mixup, M-DYR-H and MD-DYR-SH at 50 and 80 % redrawn labels, with the same pictures,
epochs, schedule and seeds, a small network and no augmentation. Each finished run is kept in the
cache, so that the command can be stopped and started again. About two hours on two cores. On a GPU
at full size::

    python examples/benchmarks/methods_cifar.py --arrays cifar.npz --cache DIR --full

The result goes to ``results/methods_cifar.json`` (``methods_cifar_full.json``). A kept run counts
as long as the settings are the same; each has the commit that it was made at.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from itertools import product
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # runs are made side by side, one core each
sys.path.insert(0, str(Path(__file__).parents[1]))  # for the networks of train_cifar.py

import _results
import numpy as np
import torch
from _reporting import environment, rounded, table
from joblib import Parallel, delayed
from quickstart import measure
from train_cifar import MODELS

from lossnoise import NoisyLabelTrainer
from lossnoise.data.cifar import ImageArrays, load_arrays
from lossnoise.data.resident import ResidentImages
from lossnoise.noise import inject_noise
from lossnoise.training import Precision

CORRECTIONS = ["cross-entropy", "mixup", "m-dyr-h", "md-dyr-sh"]
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
NUM_CLASSES = 10


def run_one(
    options: argparse.Namespace, arrays: ImageArrays, correction: str, noise: float, seed: int
) -> dict[str, Any]:
    """Train one correction at one noise level with one seed, or read the run from the cache."""
    path = options.cache / f"{correction}_{round(100 * noise)}_{seed}.json"
    settings = settings_of(options)
    if path.exists():
        kept: dict[str, Any] = json.loads(path.read_text("utf-8"))
        if kept["settings"] == settings:
            return kept["run"]
    labels, changed = inject_noise(
        arrays.y_train, noise, num_classes=NUM_CLASSES, random_state=seed
    )
    torch.manual_seed(seed)  # the first weights
    trainer = NoisyLabelTrainer(
        MODELS[options.model](NUM_CLASSES),
        correction=correction,
        epochs=options.epochs,
        batch_size=options.batch_size,
        precision=Precision(options.precision, channels_last=options.full),
        random_state=seed,
        verbose=int(options.jobs == 1),
    )
    train = ResidentImages(arrays.x_train, labels, DEVICE, augment=options.augment)
    trainer.fit(train, ResidentImages(arrays.x_test, arrays.y_test, DEVICE))
    run = {"seed": seed, "commit": _results.commit(), **measure(trainer, changed)}
    plain = ResidentImages(arrays.x_train, labels, DEVICE)
    run["accuracy_on_given_labels"] = trainer.score(plain)
    run["test_accuracy"] = [epoch["val_accuracy"] for epoch in trainer.history_]
    run["seconds"] = float(np.median([epoch["seconds"] for epoch in trainer.history_]))
    _results.write(path, {"settings": settings, "run": run})
    return run


def settings_of(options: argparse.Namespace) -> dict[str, Any]:
    names = ("model", "limit", "limit_test", "epochs", "batch_size", "precision", "augment")
    return {name: getattr(options, name) for name in names}


def summarise(runs: list[dict[str, Any]]) -> dict[str, Any]:
    names = ("last", "best", "noise_rate", "true_rate", "auroc", "precision", "recall")
    figures = [*names, "accuracy_on_given_labels", "seconds"]
    return {name: _results.spread([run[name] for run in runs]) for name in figures}


def compare(cells: list[dict[str, Any]]) -> dict[str, Any]:
    """Return by how much M-DYR-H's last accuracy exceeds others', in standard errors."""
    found = {}
    for noise in dict.fromkeys(cell["noise"] for cell in cells):
        mine = {c["correction"]: c["runs"] for c in cells if c["noise"] == noise}
        for other in mine.keys() & {"cross-entropy", "mixup"}:
            pairs = zip(mine.get("m-dyr-h", []), mine[other], strict=False)
            gains = [a["last"] - b["last"] for a, b in pairs]
            if len(gains) > 1:
                error = float(np.std(gains, ddof=1) / np.sqrt(len(gains)))
                found[f"m-dyr-h over {other}, {noise:g}"] = {
                    "gain": float(np.mean(gains)),
                    "standard_error": error,
                    "more_than_two": bool(np.mean(gains) > 2.0 * error),
                }
    return found


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--arrays", type=Path, required=True, metavar="FILE.npz", help="pictures as arrays")
    add("--cache", type=Path, required=True, metavar="DIR", help="where finished runs are kept")
    add("--full", action="store_true", help="all pictures, the paper's network, augmentation")
    add("--corrections", nargs="+", default=CORRECTIONS)
    add("--noise", type=float, nargs="+", default=[0.5, 0.8])
    add("--seeds", type=int, nargs="+", default=[0, 1, 2])
    add("--epochs", type=int, default=100)
    add("--limit", type=int, default=3000, metavar="N", help="train on the first N pictures")
    add("--limit-test", type=int, default=2000, metavar="N", help="test on the first N pictures")
    add("--jobs", type=int, help="runs side by side; default: as many as cores, with --full 1")
    add("--out", type=Path, help="default: methods_cifar.json in results/, or methods_cifar_full")
    options = parser.parse_args(arguments)
    name = "methods_cifar_full.json" if options.full else "methods_cifar.json"
    options.out = options.out or _results.RESULTS / name
    options.model, options.batch_size = "small", 64
    options.precision, options.augment = "float32", False
    if options.full:
        options.model, options.batch_size = "preact_resnet18", 128
        options.precision, options.augment = "bfloat16", True
        options.limit = options.limit_test = None
    options.jobs = options.jobs or (1 if options.full else os.cpu_count())
    return options


def main(arguments: list[str] | None = None) -> None:
    options = parse_arguments(arguments)
    arrays = load_arrays(options.arrays)
    n, m = options.limit, options.limit_test
    if len(arrays.x_train) < (n or 0) or len(arrays.x_test) < (m or 0):
        sys.exit(
            f"{options.arrays} holds {len(arrays.x_train)} pictures to train on and "
            f"{len(arrays.x_test)} to test on: lower --limit or --limit-test"
        )
    arrays = ImageArrays(
        arrays.x_train[:n],
        arrays.y_train[:n].astype(np.int64),
        arrays.x_test[:m],
        arrays.y_test[:m],
    )
    cases = list(product(options.noise, options.seeds, options.corrections))
    runs = Parallel(options.jobs)(
        delayed(run_one)(options, arrays, correction, noise, seed)
        for noise, seed, correction in cases
    )
    cells = []
    for noise, correction in product(options.noise, options.corrections):
        mine = [
            r for r, (p, _, c) in zip(runs, cases, strict=True) if (p, c) == (noise, correction)
        ]
        cell = {"correction": correction, "noise": noise, "summary": summarise(mine)}
        cells.append(cell | {"runs": mine})
    head = ["last", "best", "noise_rate", "auroc", "accuracy_on_given_labels", "seconds"]
    rows = [
        [f"{c['noise']:.0%} {c['correction']}", *(c["summary"][name]["mean"] for name in head)]
        for c in cells
    ]
    print(table(["", *head], rows))
    comparison = compare(cells)
    print(json.dumps(comparison, indent=1))
    result = {"environment": environment(options), "settings": settings_of(options)}
    result |= {"comparison": comparison, "cells": cells}
    _results.write(options.out, rounded(result))


if __name__ == "__main__":
    main()
