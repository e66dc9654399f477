"""Corrections compared on scikit-learn's digits: accuracy, and how well wrong labels are found.

    python examples/benchmarks/methods_digits.py

Each run of one seed starts from the same first weights and the same noise for every correction,
with the trainer's defaults; only `epochs` is set. Some hours on two cores; with ``--cache``
the command can be stopped and started again, and ``--reuse`` fills the cache with the runs of an
earlier result. The result goes to ``results/methods_digits.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from functools import partial
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # runs are made side by side, one core each
sys.path.insert(0, str(Path(__file__).parents[1]))  # for the quickstart's data and network

import _results
import numpy as np
import torch
from _digits import Noise, load_digits_with, reviewed_samples
from _reporting import environment, rounded
from joblib import Parallel, delayed
from quickstart import measure, train

from lossnoise.corrections import CORRECTIONS, MDyrH
from lossnoise.corrections._dynamic import DynamicBootstrap
from lossnoise.exceptions import NonFiniteLossError

SYMMETRIC: list[Noise] = [(rate, "symmetric", True) for rate in (0.0, 0.2, 0.5, 0.8, 0.9)]
# "instance" mistakes depend on the picture; "open-set" puts another picture under the label.
OTHERS: list[Noise] = [(0.4, kind, True) for kind in ("pair", "instance", "open-set")]
OF_THE_PAPER = [*SYMMETRIC, OTHERS[0]]  # of which there are variants of the main method
NOISES = [*SYMMETRIC, (0.4, "symmetric", False), *OTHERS]
CLEAN_SEEDS = 5  # at least: without noise the methods differ by little
PLAIN = "cross-entropy"

# The main method with another source of its losses, as published, and with a warm-up of its own.
VARIANTS = {
    "m-dyr-h, own sweep": partial(MDyrH, sweep="epoch"),
    "m-dyr-h, published": partial(MDyrH, compat="published"),
    "m-dyr-h, auto warm-up": partial(MDyrH, warmup="auto"),
}


def run_one(
    correction: str, noise: Noise, seed: int, epochs: int, cache: Path | None
) -> dict[str, Any]:
    """Train one correction with one kind of noise and one seed, or read that from the cache."""
    path = None if cache is None else cache / file_of(correction, name_of(noise), seed, epochs)
    if path is not None and path.exists():
        kept: dict[str, Any] = json.loads(path.read_text("utf-8"))
        return kept
    try:
        run = train_one(correction, noise, seed, epochs)
    except NonFiniteLossError as error:
        run = {"seed": seed, "diverged": str(error)}
    run["commit"] = _results.commit()  # of this run: the cache may have others of an earlier one
    if path is not None:
        _results.write(path, run)
    return run


def file_of(correction: str, noise_name: str, seed: int, epochs: int) -> str:
    return f"{correction}_{noise_name}_{seed}_{epochs}.json"


def reuse(result: Path, cache: Path) -> None:
    """Put the runs of an earlier result into the cache, where it has no others of their names."""
    earlier = json.loads(result.read_text("utf-8"))
    epochs = earlier["settings"]["epochs"]
    for cell in earlier["cells"]:
        for run in cell["runs"]:
            path = cache / file_of(cell["correction"], cell["noise_name"], run["seed"], epochs)
            if not path.exists():
                _results.write(path, run)


def train_one(correction: str, noise: Noise, seed: int, epochs: int) -> dict[str, Any]:
    """Train one correction with one kind of noise and one seed."""
    torch.set_num_threads(1)
    digits = load_digits_with(noise, seed)
    method = VARIANTS[correction]() if correction in VARIANTS else CORRECTIONS[correction]()
    if method.needs_clean_batch:
        method.clean_set = reviewed_samples(digits, seed)
    trainer = train(digits, method, seed, epochs=epochs)
    accuracies = [epoch["val_accuracy"] for epoch in trainer.history_]
    warmup = None
    if isinstance(trainer.correction_, DynamicBootstrap):
        context = SimpleNamespace(epoch=epochs, num_epochs=epochs)
        warmup = accuracies[max(0, trainer.correction_.warmup_epochs(context) - 1)]
    seconds = sum(epoch["seconds"] for epoch in trainer.history_)
    figures = measure(trainer, digits.changed)
    return {"seed": seed, **figures, "after_warmup": warmup, "seconds": seconds}


def summarise(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the spread of each figure over the seeds that ended, and how many did not."""
    ended = [run for run in runs if "diverged" not in run]
    kept = (ended or [{}])[0]
    names = [name for name, value in kept.items() if isinstance(value, float)]
    spreads = {name: _results.spread([run[name] for run in ended]) for name in names}
    return spreads | {"diverged": len(runs) - len(ended)}


def against_plain(cells: list[dict[str, Any]]) -> None:
    """Add to each cell by how much its last accuracy exceeds cross-entropy's, seed by seed."""
    plain = {cell["noise_name"]: cell["runs"] for cell in cells if cell["correction"] == PLAIN}
    for cell in cells:
        others = {run["seed"]: run["last"] for run in plain.get(cell["noise_name"], [])}
        ended = [run for run in cell["runs"] if "last" in run and run["seed"] in others]
        gains = [run["last"] - others[run["seed"]] for run in ended]
        if len(gains) > 1:
            error = float(np.std(gains, ddof=1) / np.sqrt(len(gains)))
            cell["over_plain"] = {"mean": float(np.mean(gains)), "standard_error": error}


def show(cell: dict[str, Any]) -> None:
    summary = cell["summary"]
    line = f"{cell['noise_name']:<20}{cell['correction']:<23}"
    for name in ("last", "best", "after_warmup", "noise_rate", "auroc", "precision", "recall"):
        if name in summary:
            line += f"{name} {summary[name]['mean']:.3f} ±{summary[name]['std']:.3f}  "
    line += f"diverged {summary['diverged']}" if summary["diverged"] else ""
    print(line, flush=True)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    names = [name_of(noise) for noise in NOISES]
    parser.add_argument("--noise", nargs="+", choices=names, default=names)
    parser.add_argument("--corrections", nargs="+", default=[*CORRECTIONS, *VARIANTS])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--cache", type=Path, metavar="DIR", help="where finished runs are kept")
    parser.add_argument("--reuse", type=Path, metavar="JSON", help="a result with runs to keep")
    parser.add_argument("--out", type=Path, default=_results.RESULTS / "methods_digits.json")
    options = parser.parse_args(arguments)
    if options.reuse is not None:
        if options.cache is None:
            parser.error("--reuse needs --cache")
        reuse(options.reuse, options.cache)

    cells = []
    named = {name_of(noise): noise for noise in NOISES}
    for noise in (named[name] for name in options.noise):
        more = range(max(options.seeds) + 1, CLEAN_SEEDS) if noise[0] == 0.0 else ()
        seeds = [*options.seeds, *(more if len(options.seeds) > 1 else ())]
        corrections = [c for c in options.corrections if c not in VARIANTS or noise in OF_THE_PAPER]
        cases = list(product(corrections, [noise], seeds))
        settings = (options.epochs, options.cache)
        runs = Parallel(options.jobs)(delayed(run_one)(*case, *settings) for case in cases)
        for correction in corrections:
            mine = [r for r, case in zip(runs, cases, strict=True) if case[0] == correction]
            rate, kind, include_true = noise
            cell = {"correction": correction, "noise_name": name_of(noise), "noise": rate}
            cell |= {"kind": kind, "include_true": include_true}
            cells.append(cell | {"summary": summarise(mine), "runs": mine})
            show(cells[-1])
    against_plain(cells)
    settings = {"epochs": options.epochs, "seeds": options.seeds}
    result = {"environment": environment(options), "settings": settings, "cells": rounded(cells)}
    _results.write(options.out, result)


def name_of(noise: Noise) -> str:
    """Return how a kind of noise is called on the command line."""
    rate, kind, include_true = noise
    return f"{kind}-{rate:g}{'' if include_true else '-excl'}"


if __name__ == "__main__":
    main()
