"""Corrections compared on one set of pictures: every kind of noise, several seeds, one command.

Each run of one seed starts from the same first weights and the same noise for every correction. A
finished run is kept in a cache, so that the command can be stopped and started again. The runs of
an earlier result are not made again, and those of other cases stay in the new one. Each run has the
commit that it was made at.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import _results
import numpy as np
from _reporting import environment, rounded
from joblib import Parallel, delayed
from quickstart import measure

from lossnoise import NoisyLabelTrainer
from lossnoise.corrections import CORRECTIONS
from lossnoise.corrections._dynamic import DynamicBootstrap
from lossnoise.exceptions import NonFiniteLossError

Noise = tuple[float, str, bool]  # share of samples, kind, whether the true class may be drawn
Case = tuple[str, Noise, int]  # correction, noise, seed
TrainOne = Callable[[str, Noise, int], dict[str, Any]]

SYMMETRIC: list[Noise] = [(rate, "symmetric", True) for rate in (0.0, 0.2, 0.5, 0.8, 0.9)]
# "instance" mistakes depend on the picture; "open-set" puts another picture under the label.
OTHERS: list[Noise] = [(0.4, kind, True) for kind in ("pair", "instance", "open-set")]
NOISES = [*SYMMETRIC, (0.4, "symmetric", False), *OTHERS]
BASELINES = ("cross-entropy", "mixup")
WIDTH = 43  # of the longest name of a correction or variant, and some space


def name_of(noise: Noise) -> str:
    """Return how a kind of noise is called on the command line."""
    rate, kind, include_true = noise
    return f"{kind}-{rate:g}{'' if include_true else '-excl'}"


def add_arguments(parser: argparse.ArgumentParser, corrections: list[str], out: Path) -> None:
    """Add what every comparison can be told on the command line."""
    names, add = [name_of(noise) for noise in NOISES], parser.add_argument
    add("--noise", nargs="+", choices=names, default=names)
    add("--corrections", nargs="+", default=corrections)
    add("--seeds", type=int, nargs="+", default=[0, 1, 2])
    add("--jobs", type=int, help="runs side by side; default: as many as cores")
    add("--cache", type=Path, metavar="DIR", help="where finished runs are kept")
    add("--reuse", type=Path, metavar="JSON", help="an earlier result, to which runs are added")
    add("--out", type=Path, default=out)


def compare(
    options: argparse.Namespace,
    settings: dict[str, Any],
    train_one: TrainOne,
    cases: Iterable[Case],
) -> dict[str, Any]:
    """Make the runs that the cache does not have; return the result, with a cell for each kind."""
    earlier = runs_of(options.reuse, settings)
    cases = list(cases)
    runs = Parallel(options.jobs or os.cpu_count())(
        delayed(run_one)(train_one, case, settings, options.cache, earlier.get(case))
        for case in cases
    )
    found = earlier | dict(zip(cases, runs, strict=True))
    grouped: dict[tuple[str, Noise], list[dict[str, Any]]] = {}
    for correction, noise, seed in sorted(found, key=_place):
        grouped.setdefault((correction, noise), []).append(found[correction, noise, seed])
    cells = [cell_of(correction, noise, mine) for (correction, noise), mine in grouped.items()]
    for baseline in BASELINES:
        against(baseline, cells)
    for cell in cells:
        show(cell)
    seeds = {"seeds": sorted({seed for _, _, seed in found})}
    made = {"environment": environment(options), "settings": settings | seeds}
    return made | {"cells": rounded(cells)}


def runs_of(result: Path | None, settings: dict[str, Any]) -> dict[Case, dict[str, Any]]:
    """Return the runs of an earlier result, if that was made with the same settings."""
    if result is None:
        return {}
    earlier = json.loads(result.read_text("utf-8"))
    earlier["settings"].pop("seeds")
    if earlier["settings"] != settings:
        sys.exit(f"{result} was made with other settings: {earlier['settings']}, not {settings}")
    return {
        (cell["correction"], (cell["noise"], cell["kind"], cell["include_true"]), run["seed"]): run
        for cell in earlier["cells"]
        for run in cell["runs"]
    }


def _place(case: Case) -> tuple[int, int, int]:
    """Return the place of a case in a result: by noise, then as corrections are registered."""
    correction, noise, seed = case
    names = [*CORRECTIONS]
    rank = names.index(correction) if correction in names else len(names)  # a variant
    return NOISES.index(noise), rank, seed


def run_one(
    train_one: TrainOne,
    case: Case,
    settings: dict[str, Any],
    cache: Path | None,
    earlier: dict[str, Any] | None,
) -> dict[str, Any]:
    """Make a run, or take that of the same settings from the cache, or from an earlier result."""
    correction, noise, seed = case
    name = f"{correction}_{name_of(noise)}_{seed}_{_digest(settings)}.json"
    path = None if cache is None else cache / name
    if path is not None and path.exists():
        earlier = json.loads(path.read_text("utf-8"))
    if earlier is not None:
        return earlier
    try:
        figures = train_one(correction, noise, seed)
    except NonFiniteLossError as error:
        figures = {"diverged": str(error)}
    run = rounded({"seed": seed, **figures, "commit": _results.commit()})
    if path is not None:
        _results.write(path, run)
    last = "diverged" if "diverged" in run else f"{run['last']:.3f}"
    print(f"{name_of(noise):<20}{correction:<{WIDTH}}seed {seed}  {last}", flush=True)
    return run


def _digest(settings: dict[str, Any]) -> str:
    """Return what tells settings apart in the names of files."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]


def figures_of(trainer: NoisyLabelTrainer, changed: np.ndarray) -> dict[str, Any]:
    """Return what a trained model knows, what was found, and what it took."""
    accuracies = [epoch["val_accuracy"] for epoch in trainer.history_]
    warmup = None
    if isinstance(trainer.correction_, DynamicBootstrap):
        context = SimpleNamespace(epoch=trainer.epochs, num_epochs=trainer.epochs)
        warmup = accuracies[max(0, trainer.correction_.warmup_epochs(context) - 1)]
    seconds = sum(epoch["seconds"] for epoch in trainer.history_)
    return {**measure(trainer, changed), "after_warmup": warmup, "seconds": seconds}


def cell_of(correction: str, noise: Noise, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the runs of one correction with one kind of noise, and their summary."""
    rate, kind, include_true = noise
    cell = {"correction": correction, "noise_name": name_of(noise), "noise": rate}
    cell |= {"kind": kind, "include_true": include_true}
    return cell | {"summary": summarise(runs), "over": {}, "runs": runs}


def summarise(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the spread of each figure over the seeds that ended, and how many did not."""
    ended = [run for run in runs if "diverged" not in run]
    kept = (ended or [{}])[0]
    figures = [name for name, value in kept.items() if isinstance(value, float)]
    names = [name for name in figures if all(name in run for run in ended)]
    spreads = {name: _results.spread([run[name] for run in ended]) for name in names}
    return spreads | {"diverged": len(runs) - len(ended)}


def against(baseline: str, cells: list[dict[str, Any]]) -> None:
    """Add to each cell by how much its last accuracy exceeds the baseline's, seed by seed."""
    plain = {cell["noise_name"]: cell["runs"] for cell in cells if cell["correction"] == baseline}
    for cell in (cell for cell in cells if cell["correction"] != baseline):
        others = {r["seed"]: r["last"] for r in plain.get(cell["noise_name"], []) if "last" in r}
        ended = [run for run in cell["runs"] if "last" in run and run["seed"] in others]
        gains = [run["last"] - others[run["seed"]] for run in ended]
        if len(gains) > 1:
            error = float(np.std(gains, ddof=1) / np.sqrt(len(gains)))
            cell["over"][baseline] = {"mean": float(np.mean(gains)), "standard_error": error}


def show(cell: dict[str, Any]) -> None:
    summary = cell["summary"]
    line = f"{cell['noise_name']:<20}{cell['correction']:<{WIDTH}}"
    for name in ("last", "best", "after_warmup", "noise_rate", "auroc", "precision", "recall"):
        if name in summary:
            line += f"{name} {summary[name]['mean']:.3f} ±{summary[name]['std']:.3f}  "
    line += f"diverged {summary['diverged']}" if summary["diverged"] else ""
    print(line, flush=True)
