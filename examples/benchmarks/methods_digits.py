"""Corrections compared on scikit-learn's digits: accuracy, and how well wrong labels are found.

    python examples/benchmarks/methods_digits.py

Each cell is trained from the same first weights and the same noise for every correction, with
the trainer's defaults; only `epochs` is set. About 10 minutes on two cores. The result goes to
``results/methods_digits.json``.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # for the quickstart's data and network

import _results
from _reporting import environment
from quickstart import load_noisy_digits, measure, train

from lossnoise.corrections import CORRECTIONS


def run_cell(correction: str, noise: float, seeds: list[int], epochs: int) -> dict[str, Any]:
    """Train one correction at one noise level with each seed."""
    runs = []
    for seed in seeds:
        digits = load_noisy_digits(noise, seed)
        trainer = train(digits, correction, seed, epochs=epochs)
        seconds = sum(epoch["seconds"] for epoch in trainer.history_)
        runs.append({"seed": seed, **measure(trainer, digits.changed), "seconds": seconds})
    figures = [name for name in runs[0] if name not in ("seed", "seconds")]
    return {
        "correction": correction,
        "noise": noise,
        "summary": {name: _results.spread([run[name] for run in runs]) for name in figures},
        "runs": runs,
    }


def show(cell: dict[str, Any]) -> None:
    summary = cell["summary"]
    line = f"{cell['noise']:>5.0%}  {cell['correction']:<16}"
    for name in ("last", "best", "noise_rate", "true_rate", "auroc", "precision", "recall"):
        if name in summary:
            line += f"{name} {summary[name]['mean']:.3f} ±{summary[name]['std']:.3f}  "
    print(line, flush=True)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--noise", type=float, nargs="+", default=[0.5, 0.8])
    parser.add_argument("--corrections", nargs="+", default=list(CORRECTIONS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--out", type=Path, default=_results.RESULTS / "methods_digits.json")
    options = parser.parse_args(arguments)

    cells = []
    for noise in options.noise:
        for correction in options.corrections:
            cells.append(run_cell(correction, noise, options.seeds, options.epochs))
            show(cells[-1])
    settings = {"epochs": options.epochs, "seeds": options.seeds, "noise": "symmetric, incl."}
    result = {"environment": environment(options), "settings": settings, "cells": cells}
    _results.write(options.out, result)


if __name__ == "__main__":
    main()
