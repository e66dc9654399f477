"""From single runs of ``detector_rates.py`` to means over seeds, and the cells that miss bounds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from _metrics import mean
from _reporting import table
from matplotlib import pyplot

FEWEST_IN_A_BIN = 20  # samples, for a point in the reliability plot
ACCURATE = 0.92  # accuracy of a model from which on the bounds hold that need a good model
FIGURES = ("rate", "error", "brier", "ece", "precision", "recall")

Cell = dict[str, Any]


def summarise(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return means over seeds, means over noise rates, and the cells that miss a bound."""
    keys = list(dict.fromkeys((run["set"], run["rate"]) for run in runs))
    cells = [_cell([run for run in runs if (run["set"], run["rate"]) == key]) for key in keys]
    names = list(dict.fromkeys(cell["set"] for cell in cells))
    return {
        "cells": cells,
        "sets": {name: _over_rates([c for c in cells if c["set"] == name]) for name in names},
        "all": _over_rates(cells),
        "power": {
            name: {str(c["rate"]): c["separable"] for c in cells if c["set"] == name}
            for name in names
        },
        "reliability": {
            name: _reliability([run for run in runs if run["set"] == name]) for name in names
        },
        "missed": missed(cells),
    }


def _reliability(runs: list[dict[str, Any]]) -> dict[str, list[float]]:
    """Return the bins of all runs with a tenth to two fifths of wrong labels, added up."""
    parts = [r["methods"]["beta"]["reliability"] for r in runs if 0.1 <= r["rate"] <= 0.4]
    names = ("samples", "proba", "wrong")
    return {name: np.sum([part[name] for part in parts], axis=0).tolist() for name in names}


def draw_reliability(reliability: dict[str, dict[str, list[float]]], path: Path) -> None:
    """Draw the share of wrong labels against P(wrong), a line for each set."""
    figure, axes = pyplot.subplots(figsize=(6.0, 5.0), layout="constrained")
    axes.plot([0, 1], [0, 1], color="#999999", lw=1, ls=":", label="as it should be")
    for name, bins in reliability.items():
        samples, proba, wrong = (np.array(bins[key]) for key in ("samples", "proba", "wrong"))
        enough = samples >= FEWEST_IN_A_BIN
        if enough.sum() > 1:  # else the losses could not tell
            x, y = proba[enough] / samples[enough], wrong[enough] / samples[enough]
            axes.plot(x, y, marker="o", ms=4, lw=1.2, label=name.replace("_", " "))
    axes.set_xlabel("P(label wrong), mean of a bin")
    axes.set_ylabel("share of labels that are wrong")
    axes.legend(frameon=False, fontsize="small")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def _cell(runs: list[dict[str, Any]]) -> Cell:
    """Return the means over the seeds of one set and rate."""
    first = runs[0]
    beta = [run["methods"]["beta"] for run in runs]
    return {
        **{name: first[name] for name in ("set", "rate", "n", "classes")},
        "runs": len(runs),
        **{n: mean([run[n] for run in runs]) for n in ("accuracy", "disagreement", "auroc")},
        "separable": float(np.mean([method["separable"] for method in beta])),
        "interval_covers": float(np.mean([_covers(run) for run in runs])),
        "threshold": {
            name: mean([method["threshold"][name] for method in beta])
            for name in beta[0]["threshold"]
        },
        "methods": {
            name: {f: mean([run["methods"][name][f] for run in runs]) for f in FIGURES}
            for name in first["methods"]
        },
    }


def _covers(run: dict[str, Any]) -> bool:
    low, high = run["methods"]["beta"]["interval"]
    return bool(low <= run["true_rate"] <= high)


def _over_rates(cells: list[Cell]) -> dict[str, dict[str, Any]]:
    """Return for each method the mean and the worst error over cells, and its mean scores."""
    result = {}
    for name in cells[0]["methods"]:
        errors = [cell["methods"][name]["error"] for cell in cells]
        worst = cells[int(np.argmax(np.abs(errors)))]
        result[name] = {
            "mean_abs_error": float(np.mean(np.abs(errors))),
            "worst_error": worst["methods"][name]["error"],
            "worst_cell": [worst["set"], worst["rate"]],
            "brier": mean([cell["methods"][name]["brier"] for cell in cells]),
            "ece": mean([cell["methods"][name]["ece"] for cell in cells]),
        }
    return result


# -- bounds ---------------------------------------------------------------------------------------


def missed(cells: list[Cell]) -> dict[str, list[dict[str, Any]]]:
    """Return by bound the cells that miss it, each with its value and what it should have been."""
    checks = {
        "rate": _rate_bound,
        "rate_without_noise": _clean_bound,
        "calibration": _calibration_bound,
        "threshold_precision": _threshold_bound,
        "brier_against_published": lambda cell: _brier_bound(cell, "published"),
        "brier_against_dividemix": lambda cell: _brier_bound(cell, "dividemix"),
        "audit_against_cleanlab": _audit_bound,
    }
    result: dict[str, list[dict[str, Any]]] = {}
    for name, check in checks.items():
        outcomes = [(cell, check(cell)) for cell in cells]
        result[name] = [
            {"set": cell["set"], "rate": cell["rate"], "value": outcome[0], "bound": outcome[1]}
            for cell, outcome in outcomes
            if outcome is not None and not _holds(*outcome, name)
        ]
    return result


def _holds(value: float, bound: float, name: str) -> bool:
    return value >= bound if name == "threshold_precision" else abs(value) <= bound


def _rate_bound(cell: Cell) -> tuple[float, float] | None:
    """Return the error of the rate, and the bound on it."""
    if not cell["rate"] or (cell["accuracy"] < ACCURATE and cell["set"] != "imdb"):
        return None
    usual = 0.08 if cell["rate"] > 0.4 else 0.05
    return cell["methods"]["beta"]["error"], 0.1 if cell["set"] == "imdb" else usual


def _clean_bound(cell: Cell) -> tuple[float, float] | None:
    """Return the rate on labels without noise, and how often the model disagrees with them."""
    if cell["rate"]:
        return None
    return cell["methods"]["beta"]["rate"], cell["disagreement"] + 0.01


def _calibration_bound(cell: Cell) -> tuple[float, float] | None:
    if cell["accuracy"] < ACCURATE or not 0.1 <= cell["rate"] <= 0.4:
        return None
    return cell["methods"]["beta"]["ece"], 0.05


def _threshold_bound(cell: Cell) -> tuple[float, float] | None:
    """Return the precision that was reached where 0.9 were wanted."""
    precision = cell["threshold"]["precision"]
    return None if not cell["rate"] or precision is None else (precision, 0.85)


def _brier_bound(cell: Cell, other: str) -> tuple[float, float]:
    return cell["methods"]["beta"]["brier"], cell["methods"][other]["brier"]


def _audit_bound(cell: Cell) -> tuple[float, float] | None:
    methods = cell["methods"]
    if "cleanlab" not in methods:
        return None
    return abs(methods["audit"]["error"]), abs(methods["cleanlab"]["error"])


# -- for the terminal -----------------------------------------------------------------------------


def show(summary: dict[str, Any], reviewed: dict[str, Any]) -> None:
    """Print what matters."""
    methods = list(summary["all"])
    head = ["set", "rate", "accuracy", "AUROC", "separable", *methods]
    rows = [
        [
            *(cell[name] for name in ("set", "rate", "accuracy", "auroc", "separable")),
            *(cell["methods"][name]["error"] for name in methods),
        ]
        for cell in summary["cells"]
    ]
    print("error of the estimated rate, mean over seeds\n" + table(head, rows))
    for figure in ("mean_abs_error", "worst_error", "brier", "ece"):
        sets = summary["sets"] | {"all": summary["all"]}
        rows = [[name, *(by[method][figure] for method in methods)] for name, by in sets.items()]
        print(f"\n{figure} over the cells of a set\n" + table(["set", *methods], rows))
    for bound, cells in summary["missed"].items():
        print(f"\nmissed, {bound}: {len(cells)}")
        rows = [list(cell.values()) for cell in cells]
        print(table(["set", "rate", "value", "bound"], rows) if rows else "none")
    for name, found in reviewed.items():
        print(f"\n{name}, reviewed candidates (not what was flipped), AUROC: {found['auroc']}")
