"""Detectors on predictions of real models, whose labels were made wrong at known rates.

    python examples/benchmarks/detector_rates.py --verified DIR --cache DIR --figure FILE.png

How far is the estimated share of wrong labels from the true one, and how good are the
probabilities? Compared are the detectors, `lossnoise.audit`, the published beta mixture,
DivideMix's mixture, a plain cut at a probability of 0.05 and, where it is installed, cleanlab.
About 10 minutes on two cores. The result goes to ``results/detector_rates.json``.
"""

from __future__ import annotations

import argparse
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import _baselines
import _metrics
import _results
import numpy as np
from _noisy_probs import (
    MODELS,
    VERIFIED,
    NoisyProbs,
    Verified,
    is_binary,
    load_verified,
    noisy_out_of_fold,
)
from _rates_summary import draw_reliability, show, summarise
from _reporting import environment, rounded
from joblib import Parallel, delayed
from sklearn.exceptions import ConvergenceWarning

import lossnoise
from lossnoise import BetaMixtureNoiseDetector, GaussianMixtureNoiseDetector
from lossnoise.exceptions import LossNoiseWarning

RATES = [0.0, 0.05, 0.1, 0.2, 0.4, 0.6]
WANTED_PRECISION = 0.9


def run_methods(data: NoisyProbs) -> dict[str, dict[str, Any]]:
    """Return how well each method finds the wrong labels of one set."""
    losses = data.losses
    beta = BetaMixtureNoiseDetector().fit(losses)
    gaussian = GaussianMixtureNoiseDetector().fit(losses)
    wrong = {
        "beta": beta.predict_proba(losses)[:, 1],
        "gaussian": gaussian.predict_proba(losses)[:, 1],
        "posterior": beta.posterior(losses),  # of the beta mixture, whatever separable_ says
        "audit": lossnoise.audit(data.labels, pred_probs=data.pred_probs).noise_proba,
        "published": _baselines.published_beta(losses),
        "dividemix": _baselines.dividemix(losses),
        "cut": _baselines.cut(losses),
    }
    if _baselines.cleanlab_version() is not None:
        wrong["cleanlab"] = _baselines.cleanlab(data.labels, data.pred_probs)
    methods = {name: _metrics.score(proba, data.changed) for name, proba in wrong.items()}
    methods["beta"] |= {
        "separable": beta.separable_,
        "interval": beta.noise_rate_interval_,
        "threshold": measure_threshold(beta, losses, data.changed),
        "reliability": _metrics.reliability(wrong["beta"], data.changed),
    }
    return methods


def measure_threshold(detector: Any, losses: np.ndarray, changed: np.ndarray) -> dict[str, Any]:
    """Return the precision that `threshold_for` really reaches, beside the one it expects."""
    cut = detector.threshold_for(precision=WANTED_PRECISION)
    flagged = losses >= cut.threshold
    found = int((flagged & changed).sum())
    return {
        "expected": cut.precision if cut.count else None,
        "precision": _metrics.share(found, int(flagged.sum())),
        "recall": _metrics.share(found, int(changed.sum())),
        "flagged": float(flagged.mean()),
    }


def run_cell(load: partial[NoisyProbs], name: str, rate: float, seed: int) -> dict[str, Any]:
    """Return all figures of one set at one noise rate with one seed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # 60 iterations are all the MLP gets
        warnings.simplefilter("ignore", LossNoiseWarning)  # what they say is in the figures
        data = load(rate=rate, seed=seed)
        methods = run_methods(data)
    return {
        "set": name,
        "rate": rate,
        "seed": seed,
        "n": len(data.labels),
        "classes": data.pred_probs.shape[1],
        "accuracy": data.accuracy,
        "disagreement": data.disagreement,
        "true_rate": float(data.changed.mean()),
        "auroc": _metrics.auroc(data.losses, data.changed),
        "methods": methods,
    }


def plan(options: argparse.Namespace, verified: dict[str, Verified]) -> list[tuple[Any, ...]]:
    """Return set, rate and seed of each run, beside what loads it."""
    runs: list[tuple[Any, ...]] = []
    for name, content in verified.items():
        for rate in options.rates:
            # without flips there is nothing to draw: the probabilities are given
            seeds = options.seeds if rate else options.seeds[:1]
            runs += [(content.noisy, name, rate, seed) for seed in seeds]
    for name in options.models:
        load = partial(noisy_out_of_fold, name, MODELS[name], cache=options.cache)
        rates = [rate for rate in options.rates if rate < 0.5 or not is_binary(name)]
        runs += [(load, name, rate, seed) for rate in rates for seed in options.seeds]
    return runs


def review(content: Verified) -> dict[str, Any]:
    """Return how losses and P(wrong) rank the candidates that people reviewed."""
    data = content.noisy(0.0, 0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LossNoiseWarning)
        detector = BetaMixtureNoiseDetector().fit(data.losses)
        audited = lossnoise.audit(data.labels, pred_probs=data.pred_probs).noise_proba
    scores = {
        "loss": data.losses,
        "beta": detector.predict_proba(data.losses)[:, 1],
        "audit": audited,
    }
    return {
        "candidates": len(content.candidates),
        "errors": int(content.is_error.sum()),
        "auroc": {
            name: _metrics.auroc(values[content.candidates], content.is_error)
            for name, values in scores.items()
        },
    }


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--verified", type=Path, metavar="DIR", help="folder of verified_*.npz")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="keeps out-of-fold predictions")
    parser.add_argument("--models", nargs="*", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--rates", type=float, nargs="+", default=RATES)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--figure", type=Path, metavar="FILE", help="draw a reliability plot")
    parser.add_argument("--out", type=Path, default=_results.RESULTS / "detector_rates.json")
    options = parser.parse_args(arguments)

    names = VERIFIED if options.verified is not None else ()
    verified = {name: load_verified(options.verified, name) for name in names}
    tasks = plan(options, verified)
    runs = Parallel(options.jobs)(delayed(run_cell)(*task) for task in tasks)
    summary = summarise(runs)
    reviewed = {name: review(content) for name, content in verified.items()}
    show(summary, reviewed)
    settings = {
        "noise": "symmetric, excl.",
        "rates": options.rates,
        "seeds": options.seeds,
        "folds": "5, stratified, shuffled by the seed; models trained on the noisy labels",
        "models": {name: " ".join(repr(MODELS[name].model(0)).split()) for name in options.models},
        "cleanlab": _baselines.cleanlab_version(),
    }
    result = {
        "environment": environment(options),
        "settings": settings,
        "summary": summary,
        "reviewed_candidates": reviewed,
        "runs": runs,
    }
    _results.write(options.out, rounded(result))
    if options.figure is not None:
        draw_reliability(summary["reliability"], options.figure)


if __name__ == "__main__":
    main()
