"""The audit on real predictions, beside plain ranking by loss and cleanlab: quality and speed.

    python examples/benchmarks/audit_benchmark.py --verified DIR

Three questions:

- Of verified labels a fifth is flipped to other classes. How many of the first rows (as many as
  were flipped) are really wrong, how often is the suggested label the true one, and how far is the
  noise rate off?
- Reviewers looked at likely errors of the same sets. How well do the rankings order those? The
  candidates were chosen by confident learning, not at random: this says little of other rows.
- How long does a whole audit of many rows take, and how much memory? cleanlab takes turns with it.

cleanlab is compared where it is installed. About a minute, 1 GB of memory. The result goes to
``results/audit_benchmark.json``.
"""

from __future__ import annotations

import argparse
import json
import time
import tracemalloc
from pathlib import Path
from typing import Any

import _baselines
import _results
import numpy as np
from _noisy_probs import VERIFIED, Verified, load_verified
from _reporting import environment, rounded, table
from sklearn.metrics import roc_auc_score

import lossnoise

RATE = 0.2
PRECISION_TARGETS = {"cifar10": 0.95, "imdb": 0.80}  # among as many rows as were flipped
SUGGESTION_TARGET = 0.93  # of CIFAR-10's flipped rows, the suggested label is the true one
SECONDS_TARGET, MEMORY_TARGET = 10.0, 1000.0  # of a whole audit of a million rows; megabytes
MEGABYTE = 1e6


# -- quality --------------------------------------------------------------------------------------


def suspicion(labels: np.ndarray, pred_probs: np.ndarray) -> dict[str, np.ndarray]:
    """Return by method how suspicious each label is: the higher, the earlier it is looked at."""
    report = lossnoise.audit(labels, pred_probs=pred_probs)
    rank = np.empty(len(labels))
    rank[report.order] = np.arange(len(labels), 0, -1)
    given = pred_probs[np.arange(len(labels)), labels]
    methods = {"audit": rank, "loss": -given}
    if _baselines.cleanlab_version() is not None:
        from cleanlab.rank import get_label_quality_scores

        methods["cleanlab"] = -get_label_quality_scores(labels, pred_probs)
    return methods


def flipped(verified: Verified, seed: int) -> dict[str, Any]:
    """Return how well flipped labels are found, and what is suggested for them."""
    data = verified.noisy(RATE, seed)
    wrong = int(data.changed.sum())
    precision = {
        name: float(data.changed[np.argsort(-score, kind="stable")[:wrong]].mean())
        for name, score in suspicion(data.labels, data.pred_probs).items()
    }
    report = lossnoise.audit(data.labels, pred_probs=data.pred_probs)
    suggested = report.table.sort_index()["suggested_label"].to_numpy()
    low, high = report.summary["noise_rate_interval"]
    return {
        "seed": seed,
        "flipped": wrong,
        "precision": precision,
        "suggestions_right": float((suggested == data.clean_labels)[data.changed].mean()),
        "rate_error": report.summary["noise_rate"] - float(data.changed.mean()),
        "interval": [low, high],
        "interval_covers": bool(low <= data.changed.mean() <= high),
        "expected_precision": report.summary["expected_precision"],
        "precision_of_issues": float(data.changed[report.noisy_indices].mean()),
    }


def reviewed(verified: Verified) -> dict[str, float]:
    """Return how well each ranking orders the rows that reviewers looked at, as an AUROC."""
    rows, errors = verified.candidates, verified.is_error
    scores = suspicion(verified.labels, verified.pred_probs)
    return {name: float(roc_auc_score(errors, score[rows])) for name, score in scores.items()}


def quality(folder: Path, seeds: list[int]) -> dict[str, Any]:
    found = {}
    for name in VERIFIED:
        verified = load_verified(folder, name)
        runs = [flipped(verified, seed) for seed in seeds]
        found[name] = {"flipped": runs, "reviewed_auroc": reviewed(verified)}
        precision = np.mean([run["precision"]["audit"] for run in runs])
        found[name]["precision_met"] = bool(precision >= PRECISION_TARGETS[name])
        if name == "cifar10":
            right = np.mean([run["suggestions_right"] for run in runs])
            found[name]["suggestions_met"] = bool(right >= SUGGESTION_TARGET)
    return found


# -- speed ----------------------------------------------------------------------------------------


def draw(n: int, num_classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return labels, a tenth of them wrong, and the probabilities of a good model."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(num_classes, size=n)
    pred_probs = rng.normal(size=(n, num_classes))
    pred_probs[np.arange(n), labels] += 5.0
    np.exp(pred_probs, out=pred_probs)
    pred_probs /= pred_probs.sum(axis=1, keepdims=True)
    wrong = rng.random(n) < 0.1
    labels[wrong] = rng.integers(num_classes, size=int(wrong.sum()))
    return labels, pred_probs


def whole_audit(labels: np.ndarray, pred_probs: np.ndarray) -> None:
    """Do what a user waits for: the audit, its summary with the interval, the ranked rows."""
    report = lossnoise.audit(labels, pred_probs=pred_probs)
    _ = report.summary, report.noisy_indices


def speed(n: int, num_classes: int, repeat: int) -> dict[str, Any]:
    labels, pred_probs = draw(n, num_classes)
    contenders = {"audit": lambda: whole_audit(labels, pred_probs)}
    if _baselines.cleanlab_version() is not None:
        contenders["cleanlab"] = lambda: _baselines.cleanlab(labels, pred_probs)
    whole_audit(labels[:1000], pred_probs[:1000])  # imports
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(repeat):
        for name, contender in contenders.items():
            begun = time.perf_counter()
            contender()
            seconds[name].append(time.perf_counter() - begun)
    found: dict[str, Any] = {name: _results.quartiles(times) for name, times in seconds.items()}
    result = {"n": n, "num_classes": num_classes, "repeat": repeat, "seconds": found}
    if "cleanlab" in seconds:
        ratios = np.divide(seconds["audit"], seconds["cleanlab"]).tolist()
        result["audit_over_cleanlab"] = _results.quartiles(ratios)
    result["seconds_met"] = found["audit"]["median"] < SECONDS_TARGET
    result["memory"] = memory(n, num_classes)
    return result


def memory(n: int, num_classes: int) -> dict[str, Any]:
    """Return what Python and NumPy allocate in an audit beside its input, by tracemalloc."""
    labels, pred_probs = draw(n, num_classes)
    tracemalloc.start()
    try:
        whole_audit(labels, pred_probs)
        peak = tracemalloc.get_traced_memory()[1] / MEGABYTE
    finally:
        tracemalloc.stop()
    return {"peak_mb": peak, "met": peak < MEMORY_TARGET}


# -- all of it ------------------------------------------------------------------------------------


def show(result: dict[str, Any]) -> None:
    rows = []
    for name, found in result.get("quality", {}).items():
        for run in found["flipped"]:
            precision = run["precision"]
            others = [precision["audit"], precision["loss"], precision.get("cleanlab")]
            rows.append([name, *others, run["suggestions_right"], run["rate_error"]])
        auroc = found["reviewed_auroc"]
        print(f"{name}: AUROC over reviewed candidates {auroc}")
    if rows:
        head = ["20 % flipped", "audit", "loss", "cleanlab", "suggestions right", "rate error"]
        print(table(head, rows))
    print(json.dumps(result["speed"], indent=1))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--verified", type=Path, metavar="DIR", help="folder of verified_*.npz")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--out", type=Path, default=_results.RESULTS / "audit_benchmark.json")
    options = parser.parse_args(arguments)
    result: dict[str, Any] = {
        "environment": environment(options) | {"cleanlab": _baselines.cleanlab_version()},
        "settings": {"rate": RATE, "seeds": options.seeds},
    }
    if options.verified is not None:
        result["quality"] = quality(options.verified, options.seeds)
    result["speed"] = speed(options.rows, 10, options.repeat)
    show(result)
    _results.write(options.out, rounded(result))


if __name__ == "__main__":
    main()
