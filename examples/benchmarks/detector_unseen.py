"""Detectors on tasks and models that their constants were not chosen on.

    python examples/benchmarks/detector_unseen.py --cache DIR

The same as ``detector_rates.py`` on eight generated tasks and one on digits, each with seven
classifiers of scikit-learn: how far is the estimated share of wrong labels from the true one? Three
of the tasks have many samples at the border of two classes, where right and wrong labels have
nearly the same losses. Two seeds; about an hour on two cores. The result goes to
``results/detector_unseen.json``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import _baselines
import _results
import numpy as np
from _metrics import mean
from _noisy_probs import ModelOnData, logistic_regression, noisy_out_of_fold
from _rates_summary import ACCURATE
from _reporting import environment, rounded, table
from detector_rates import RATES, run_cell
from joblib import Parallel, delayed
from sklearn.base import BaseEstimator
from sklearn.datasets import (
    load_digits,
    make_blobs,
    make_classification,
    make_gaussian_quantiles,
    make_hastie_10_2,
    make_moons,
)
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

NEAR = 0.05  # error of a rate that is as good as asked for
SLACK = 0.01  # above the model's own disagreement, where no label is wrong


def directions(classes: int, informative: int, apart: float) -> tuple[np.ndarray, np.ndarray]:
    """Return 5,000 samples of Gaussian classes in some of 20 dimensions."""
    inputs, labels = make_classification(
        5000,
        n_features=20,
        n_informative=informative,
        n_redundant=2,
        n_classes=classes,
        n_clusters_per_class=1,
        class_sep=apart,
        flip_y=0.0,
        random_state=0,
    )
    return inputs, labels


def parity() -> tuple[np.ndarray, np.ndarray]:
    """Return digits, and whether they are odd."""
    inputs, labels = load_digits(return_X_y=True)
    return inputs, labels % 2


def exclusive_or() -> tuple[np.ndarray, np.ndarray]:
    """Return points of a cube, and whether the signs of two coordinates differ."""
    inputs = np.random.default_rng(0).uniform(-1.0, 1.0, size=(2000, 4))
    return inputs, ((inputs[:, 0] > 0.0) != (inputs[:, 1] > 0.0)).astype(np.intp)


def shells() -> tuple[np.ndarray, np.ndarray]:
    """Return points of a normal distribution, and in which third of the distances they are."""
    inputs, labels = make_gaussian_quantiles(
        n_samples=2500, n_features=4, n_classes=3, random_state=0
    )
    return inputs, labels


def ball() -> tuple[np.ndarray, np.ndarray]:
    """Return points of a normal distribution, and whether they are far from its middle."""
    inputs, labels = make_hastie_10_2(2500, random_state=0)
    return inputs, (labels > 0.0).astype(np.intp)


TASKS: dict[str, Callable[[], tuple[np.ndarray, np.ndarray]]] = {
    "2 classes": partial(directions, 2, 6, 1.8),
    "5 classes": partial(directions, 5, 10, 2.0),
    "20 classes": partial(directions, 20, 15, 2.5),
    "10 blobs": partial(
        make_blobs, 3000, n_features=8, centers=10, cluster_std=2.0, random_state=1
    ),
    "moons": partial(make_moons, 2000, noise=0.15, random_state=0),
    "odd digits": parity,
    "exclusive or": exclusive_or,
    "shells": shells,
    "ball": ball,
}
AT_THE_BORDER = ("exclusive or", "shells", "ball")
CLASSIFIERS: dict[str, Callable[[int], BaseEstimator]] = {
    "logistic regression": lambda seed: logistic_regression(),
    "discriminant analysis": lambda seed: LinearDiscriminantAnalysis(),
    "naive Bayes": lambda seed: GaussianNB(),
    "nearest neighbours": lambda seed: make_pipeline(StandardScaler(), KNeighborsClassifier(20)),
    "random forest": lambda seed: RandomForestClassifier(100, random_state=seed),
    "boosted trees": lambda seed: HistGradientBoostingClassifier(max_iter=30, random_state=seed),
    "MLP": lambda seed: make_pipeline(
        StandardScaler(), MLPClassifier((64,), early_stopping=True, random_state=seed)
    ),
}
OF_TWO_CLASSES = ("2 classes", "moons", "odd digits", "exclusive or", "ball")


def load_task(task: str, return_X_y: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return inputs and labels, as scikit-learn's own loaders do."""
    del return_X_y
    return TASKS[task]()


def plan(options: argparse.Namespace) -> list[tuple[Any, ...]]:
    """Return set, rate and seed of each run, beside what loads it."""
    runs: list[tuple[Any, ...]] = []
    for task, classifier in product(options.tasks, options.classifiers):
        name = f"{task}, {classifier}"
        source = ModelOnData(partial(load_task, task), CLASSIFIERS[classifier])
        load = partial(noisy_out_of_fold, name, source, cache=options.cache)
        rates = [rate for rate in options.rates if rate < 0.5 or task not in OF_TWO_CLASSES]
        runs += [(load, name, rate, seed) for rate in rates for seed in options.seeds]
    return runs


def summarise(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return errors of the rate by noise rate: accurate models, also at the border, and others."""
    groups: dict[str, list[dict[str, Any]]] = {"accurate": [], "border": [], "others": []}
    for run in runs:
        at_the_border = run["set"].startswith(AT_THE_BORDER)
        accurate = "border" if at_the_border else "accurate"
        groups[accurate if run["accuracy"] >= ACCURATE else "others"].append(run)
    return {
        name: {
            str(rate): _of_rate([run for run in group if run["rate"] == rate])
            for rate in sorted({run["rate"] for run in group})
        }
        for name, group in groups.items()
        if group
    }


def _of_rate(runs: list[dict[str, Any]]) -> dict[str, Any]:
    found = [run["methods"]["beta"] for run in runs]
    allowed = [run["disagreement"] + SLACK if run["rate"] == 0.0 else NEAR for run in runs]
    near = [abs(f["error"]) <= most for f, most in zip(found, allowed, strict=True)]
    return {
        "runs": len(runs),
        "separable": float(np.mean([f["separable"] for f in found])),
        "near": float(np.mean(near)),
        "covered": float(np.mean([_is_covered(run) for run in runs])),
        "mean_abs_error": {
            method: float(np.mean([abs(run["methods"][method]["error"]) for run in runs]))
            for method in runs[0]["methods"]
        },
        "brier": {
            method: mean([run["methods"][method]["brier"] for run in runs])
            for method in runs[0]["methods"]
        },
    }


def _is_covered(run: dict[str, Any]) -> bool:
    """Tell whether the true share of wrong labels is in the 90 % interval."""
    low, high = run["methods"]["beta"]["interval"]
    return bool(low <= run["true_rate"] <= high)


def shorten(run: dict[str, Any]) -> dict[str, Any]:
    """Return what is kept of a single run."""
    names = (
        "set",
        "rate",
        "true_rate",
        "seed",
        "n",
        "classes",
        "accuracy",
        "disagreement",
        "auroc",
    )
    methods = run["methods"]
    found = {name: methods["beta"][name] for name in ("separable", "interval")}
    return {n: run[n] for n in names} | found | {"error": {m: methods[m]["error"] for m in methods}}


def show(summary: dict[str, Any]) -> None:
    """Print the mean errors, a line for each noise rate."""
    for name, rates in summary.items():
        print(f"\n{name}: mean error of the noise rate")
        methods = list(next(iter(rates.values()))["mean_abs_error"])
        rows = [
            [
                rate,
                f["runs"],
                f["separable"],
                f["near"],
                f["covered"],
                *f["mean_abs_error"].values(),
            ]
            for rate, f in rates.items()
        ]
        print(table(["rate", "runs", "told", "near", "covered", *methods], rows))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cache", type=Path, metavar="DIR", help="keeps out-of-fold predictions")
    parser.add_argument("--tasks", nargs="*", choices=list(TASKS), default=list(TASKS))
    parser.add_argument(
        "--classifiers", nargs="*", choices=list(CLASSIFIERS), default=list(CLASSIFIERS)
    )
    parser.add_argument("--rates", type=float, nargs="+", default=RATES)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--out", type=Path, default=_results.RESULTS / "detector_unseen.json")
    options = parser.parse_args(arguments)

    runs = Parallel(options.jobs)(delayed(run_cell)(*task) for task in plan(options))
    summary = summarise(runs)
    show(summary)
    settings = {
        "noise": "symmetric, excl.",
        "rates": options.rates,
        "seeds": options.seeds,
        "tasks": options.tasks,
        "classifiers": {name: " ".join(repr(CLASSIFIERS[name](0)).split()) for name in CLASSIFIERS},
        "cleanlab": _baselines.cleanlab_version(),
    }
    result = {"environment": environment(options), "settings": settings, "summary": summary}
    _results.write(options.out, rounded(result | {"runs": list(map(shorten, runs))}))


if __name__ == "__main__":
    main()
