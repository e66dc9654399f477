"""Detectors on losses whose distribution is known: intervals, false alarms, shapes, rare classes.

    python examples/benchmarks/detector_calibration.py

Does the interval cover the true share of wrong labels? Is one population taken for two? What do
shapes do that are no betas? Are wrong labels of rare classes found? Some minutes on two cores.
The result goes to ``results/detector_calibration.json``.
"""

from __future__ import annotations

import argparse
import warnings
from itertools import product
from pathlib import Path
from typing import Any

import _metrics
import _results
import numpy as np
from _noisy_probs import NoisyProbs, flip, logistic_regression, out_of_fold
from _populations import (
    BETAS,
    CLEAN,
    RIGHT,
    WRONG,
    Population,
    as_cross_entropy,
    best_accuracy,
    draw_two,
)
from _reporting import environment, rounded, table
from joblib import Parallel, delayed
from sklearn.datasets import load_digits

from lossnoise import BetaMixtureNoiseDetector
from lossnoise.exceptions import LossNoiseWarning

SCALES = ("cross-entropy", "any")


def fit(losses: np.ndarray, scale: str = "cross-entropy", **options: Any) -> Any:
    """Return a detector fitted to losses; what it warns of is among the figures."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LossNoiseWarning)
        return BetaMixtureNoiseDetector(loss_scale=scale).fit(losses, **options)


# -- does the interval cover the true share? ------------------------------------------------------

COVERAGE_RATES = (0.05, 0.1, 0.2, 0.3, 0.5)


def draw_interval(scale: str, model: str, rate: float, seed: int, n: int) -> dict[str, Any]:
    """Return the interval for losses from the detector's own model."""
    rng = np.random.default_rng([seed, list(BETAS).index(model), round(100 * rate)])
    data = draw_two(*BETAS[model], rate, n, rng)
    losses = as_cross_entropy(data.losses) if scale == "cross-entropy" else data.losses
    detector = fit(losses, scale)
    low, high = detector.noise_rate_interval_
    return {
        "scale": scale,
        "model": model,
        "true_rate": rate,
        "seed": seed,
        "rate": detector.noise_rate_,
        "separable": detector.separable_,
        "low": low,
        "high": high,
        "covers": bool(low <= rate <= high),
    }


def measure_coverage(pool: Parallel, rates: list[float], seeds: int, n: int) -> dict[str, Any]:
    """Return how many intervals cover the true share, evenly over models and rates."""
    cases = product(SCALES, BETAS, rates, range(seeds))
    draws = pool(delayed(draw_interval)(*case, n) for case in cases)
    summary = {
        scale: _coverage([draw for draw in draws if draw["scale"] == scale])
        | {
            key: {
                str(value): _coverage([d for d in draws if d["scale"] == scale and d[key] == value])
                for value in values
            }
            for key, values in (("model", BETAS), ("true_rate", rates))
        }
        for scale in SCALES
    }
    models = {name: [population.name for population in pair] for name, pair in BETAS.items()}
    return {"n": n, "models": models, "summary": summary, "draws": draws}


def _coverage(draws: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "draws": len(draws),
        "covered": sum(draw["covers"] for draw in draws),
        "median_width": float(np.median([draw["high"] - draw["low"] for draw in draws])),
        "mean_error": float(np.mean([draw["rate"] - draw["true_rate"] for draw in draws])),
    }


# -- is one population taken for two? -------------------------------------------------------------

CLEAN_RATE = 0.03  # how much noise may be seen where there is none


def count_false_alarms(population: Population, scale: str, n: int, draws: int) -> dict[str, Any]:
    """Return what detectors say of losses that are all of right labels."""
    rng = np.random.default_rng([CLEAN.index(population), n])
    detectors = [fit(population.draw(rng, n), scale) for _ in range(draws)]
    rates = [detector.noise_rate_ for detector in detectors]
    return {
        "population": population.name,
        "scale": scale,
        "n": n,
        "draws": draws,
        "separable": float(np.mean([detector.separable_ for detector in detectors])),
        "mean_rate": float(np.mean(rates)),
        "largest_rate": max(rates),
        "draws_above_bound": int(np.sum(np.greater(rates, CLEAN_RATE))),
    }


def measure_false_alarms(pool: Parallel, sizes: dict[int, int]) -> dict[str, Any]:
    """Return false alarms for each population, number of losses and scale of losses."""
    cases = product(CLEAN, SCALES, sizes.items())
    cells = pool(delayed(count_false_alarms)(p, scale, *size) for p, scale, size in cases)
    summary = {}
    for scale, n in product(SCALES, sizes):
        chosen = [cell for cell in cells if (cell["scale"], cell["n"]) == (scale, n)]
        worst = max(chosen, key=lambda cell: cell["largest_rate"])
        summary[f"{scale}, n={n}"] = {
            "separable": float(np.mean([cell["separable"] for cell in chosen])),
            "most_separable": max(cell["separable"] for cell in chosen),
            "mean_rate": float(np.mean([cell["mean_rate"] for cell in chosen])),
            "largest_mean_rate": max(cell["mean_rate"] for cell in chosen),
            "draws": sum(cell["draws"] for cell in chosen),
            "draws_above_bound": sum(cell["draws_above_bound"] for cell in chosen),
            "largest_rate": worst["largest_rate"],
            "largest_rate_of": worst["population"],
        }
    return {"summary": summary, "cells": cells}


# -- two populations of other shapes --------------------------------------------------------------

TWO_RATES = (0.03, 0.09, 0.18, 0.3, 0.5, 0.72)
EASY = 0.99  # accuracy of the best threshold from which on labels should be found


def find_wrong(
    right: Population, wrong: Population, rate: float, scale: str, n: int
) -> dict[str, Any]:
    """Return how well wrong labels are found whose losses are of another population."""
    rng = np.random.default_rng([RIGHT.index(right), WRONG.index(wrong), round(100 * rate)])
    losses, changed = draw_two(right, wrong, rate, n, rng)
    detector = fit(losses, scale)
    proba = detector.predict_proba(losses)[:, 1]
    return {
        "right": right.name,
        "wrong": wrong.name,
        "true_rate": float(changed.mean()),
        "scale": scale,
        **_metrics.score(proba, changed),
        "accuracy": float(((proba > 0.5) == changed).mean()),
        "best_accuracy": best_accuracy(losses, changed),
        "separable": detector.separable_,
    }


def measure_two_populations(pool: Parallel, rates: list[float], n: int) -> dict[str, Any]:
    """Return errors over a grid of shapes and rates, and the easy cells that went wrong."""
    cases = product(RIGHT, WRONG, rates, SCALES)
    cells = pool(delayed(find_wrong)(*case, n) for case in cases)
    summary = {}
    for scale in SCALES:
        chosen = [cell for cell in cells if cell["scale"] == scale]
        easy = [cell for cell in chosen if cell["best_accuracy"] > EASY]
        summary[scale] = {"all": _shapes(chosen), "easy": _shapes(easy)}
    return {"n": n, "summary": summary, "cells": cells}


def _shapes(cells: list[dict[str, Any]]) -> dict[str, Any]:
    if not cells:
        return {"cells": 0}
    errors = [abs(cell["error"]) for cell in cells]
    return {
        "cells": len(cells),
        "mean_abs_error": float(np.mean(errors)),
        "largest_abs_error": max(errors),
        "error_above_0.05": float(np.mean(np.greater(errors, 0.05))),
        "accuracy": float(np.mean([cell["accuracy"] for cell in cells])),
        "accuracy_below_0.97": float(np.mean([cell["accuracy"] < 0.97 for cell in cells])),
        "recall": float(np.mean([cell["recall"] for cell in cells])),
        "recall_below_0.8": float(np.mean([cell["recall"] < 0.8 for cell in cells])),
        "separable": float(np.mean([cell["separable"] for cell in cells])),
    }


# -- rare classes ---------------------------------------------------------------------------------

RARE_CLASSES, RARE_SHARE, RARE_NOISE = 5, 1 / 20, 0.2
FITS = ("plain", "groups", "plain, all rows", "groups, all rows")


def choose_rare(seed: int) -> np.ndarray:
    """Return the classes of digits that a seed makes rare."""
    return np.random.default_rng(seed).choice(10, RARE_CLASSES, replace=False)


def thin_out(labels: np.ndarray, rare: np.ndarray, seed: int) -> np.ndarray:
    """Return the rows that are left when only one of twenty of each rare class is kept."""
    rng = np.random.default_rng(seed)
    kept = [np.flatnonzero(~np.isin(labels, rare))]
    for name in rare:
        members = np.flatnonzero(labels == name)
        kept.append(rng.choice(members, round(RARE_SHARE * len(members)), replace=False))
    return np.sort(np.concatenate(kept))


def find_in_rare(balance: str, seed: int) -> dict[str, Any]:
    """Return how well wrong labels are found among rows whose given label is a rare class.

    In the balanced case, the same classes are looked at, and none is rare.
    """
    inputs, clean_labels = load_digits(return_X_y=True)
    rare = choose_rare(seed)
    rows = np.arange(len(inputs)) if balance == "balanced" else thin_out(clean_labels, rare, seed)
    noisy = flip(clean_labels[rows], RARE_NOISE, seed)
    data = NoisyProbs(out_of_fold(logistic_regression(0.1), inputs[rows], noisy[0], seed), *noisy)
    looked_at = np.isin(data.labels, rare)
    plain = fit(data.losses).predict_proba(data.losses)[:, 1]
    grouped = fit(data.losses, groups=data.labels).predict_proba(data.losses, groups=data.labels)
    return {
        "balance": balance,
        "seed": seed,
        "n": len(rows),
        "accuracy": data.accuracy,
        "looked_at": int(looked_at.sum()),
        "wrong": int(data.changed[looked_at].sum()),
        "plain": _score_rows(plain, data.changed, looked_at),
        "groups": _score_rows(grouped[:, 1], data.changed, looked_at),
        "plain, all rows": _score_rows(plain, data.changed, data.labels >= 0),
        "groups, all rows": _score_rows(grouped[:, 1], data.changed, data.labels >= 0),
    }


def _score_rows(proba: np.ndarray, changed: np.ndarray, rows: np.ndarray) -> dict[str, Any]:
    right = rows & ~changed
    false_alarms = _metrics.share(int((proba[right] > 0.5).sum()), int(right.sum()))
    return _metrics.score(proba[rows], changed[rows]) | {"right_called_wrong": false_alarms}


def measure_rare(pool: Parallel, seeds: int) -> dict[str, Any]:
    """Return recall and precision in rare classes beside those of the balanced case."""
    cases = product(("balanced", "rare"), range(seeds))
    runs = pool(delayed(find_in_rare)(*case) for case in cases)
    summary = {
        balance: _rare([run for run in runs if run["balance"] == balance])
        for balance in ("balanced", "rare")
    }
    return {"noise": RARE_NOISE, "summary": summary, "runs": runs}


def _rare(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the spread of each figure over the seeds."""
    counts = {name: _metrics.mean([run[name] for run in runs]) for name in ("looked_at", "wrong")}
    figures = ("recall", "precision", "right_called_wrong", "error")
    return counts | {
        part: {name: _spread_known([run[part][name] for run in runs]) for name in figures}
        for part in FITS
    }


def _spread_known(values: list[float | None]) -> dict[str, float]:
    return _results.spread([value for value in values if value is not None] or [float("nan")])


# -- the whole ------------------------------------------------------------------------------------


def targets(result: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return what was aimed at, beside what was reached."""
    found: dict[str, dict[str, Any]] = {}

    def at_most(name: str, value: float, bound: float) -> None:
        found[name] = {"value": value, "bound": f"at most {bound}", "met": bool(value <= bound)}

    for scale, part in result["coverage"]["summary"].items():
        share = part["covered"] / part["draws"]
        found[f"coverage, {scale}"] = {"value": share, "bound": "at least 0.8", "met": share >= 0.8}
        at_most(f"median width, {scale}", part["median_width"], 0.1)
    for name, part in result["false_alarms"]["summary"].items():
        at_most(f"false alarms, {name}", part["separable"], 0.01)
        at_most(f"largest mean rate, {name}", part["largest_mean_rate"], CLEAN_RATE)
        at_most(f"largest rate, {name}", part["largest_rate"], CLEAN_RATE)
    for scale, parts in result["two_populations"]["summary"].items():
        for figure in ("error_above_0.05", "accuracy_below_0.97", "recall_below_0.8"):
            at_most(f"two populations, {figure}, {scale}", parts["easy"].get(figure, 0.0), 0.0)
    rare = result["rare_classes"]["summary"]
    loss = rare["balanced"]["plain"]["recall"]["mean"] - rare["rare"]["groups"]["recall"]["mean"]
    at_most("loss of recall in rare classes, groups", loss, 0.15)
    return found


def show(result: dict[str, Any]) -> None:
    """Print the summaries."""
    coverage = result["coverage"]["summary"]
    rows = []
    for scale in SCALES:
        parts = {"all": coverage[scale]} | coverage[scale]["model"] | coverage[scale]["true_rate"]
        rows += [[scale, name, *(part[key] for key in COVERAGE)] for name, part in parts.items()]
    print("coverage of the 90 % interval\n" + table(["scale", "of", *COVERAGE], rows))
    for name in ("false_alarms", "two_populations"):
        summary = result[name]["summary"]
        if name == "two_populations":
            summary = {f"{s}, {k}": summary[s][k] for s in SCALES for k in ("all", "easy")}
        head = list(next(iter(summary.values())))
        rows = [[key, *(part.get(column) for column in head)] for key, part in summary.items()]
        print(f"\n{name}\n" + table(["", *head], rows))
    print("\nwrong labels among rows given a rare class")
    rare = result["rare_classes"]["summary"]
    head = list(rare["rare"]["plain"])
    rows = [
        [balance, part, *(f"{by[part][f]['mean']:.3f} ±{by[part][f]['std']:.3f}" for f in head)]
        for balance, by in rare.items()
        for part in FITS
    ]
    print(table(["classes", "fit", *head], rows))
    rows = [[name, *target.values()] for name, target in result["targets"].items()]
    print("\n" + table(["target", "value", "bound", "met"], rows))


COVERAGE = ("draws", "covered", "median_width", "mean_error")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--n", type=int, default=10_000, help="losses in a draw for coverage")
    parser.add_argument("--interval-rates", type=float, nargs="+", default=COVERAGE_RATES)
    parser.add_argument("--interval-seeds", type=int, default=5, help="for each model and rate")
    parser.add_argument("--sizes", type=int, nargs="+", default=[200, 1000, 10_000])
    parser.add_argument("--draws", type=int, default=200, help="of clean losses, up to n = 1,000")
    parser.add_argument("--two-n", type=int, default=4000, help="losses in two populations")
    parser.add_argument("--two-rates", type=float, nargs="+", default=TWO_RATES)
    parser.add_argument("--rare-seeds", type=int, default=10)
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--out", type=Path, default=_results.RESULTS / "detector_calibration.json")
    options = parser.parse_args(arguments)

    pool = Parallel(options.jobs)
    sizes = {n: options.draws if n <= 1000 else -(-options.draws // 4) for n in options.sizes}
    result = {
        "environment": environment(options),
        "coverage": measure_coverage(
            pool, options.interval_rates, options.interval_seeds, options.n
        ),
        "false_alarms": measure_false_alarms(pool, sizes),
        "two_populations": measure_two_populations(pool, options.two_rates, options.two_n),
        "rare_classes": measure_rare(pool, options.rare_seeds),
    }
    result["targets"] = targets(result)
    show(result)
    _results.write(options.out, rounded(result))


if __name__ == "__main__":
    main()
