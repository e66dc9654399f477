"""One set of held-out probabilities, asked twice: this library's audit, and cleanlab.

    python examples/compare_with_cleanlab.py

Handwritten digits of which some labels were flipped, so that it is known who is right where the
two do not agree. Needs ``pip install cleanlab``, no download, and some seconds.
"""

from __future__ import annotations

import argparse

import numpy as np
from cleanlab.filter import find_label_issues
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from lossnoise import audit, cross_val_losses
from lossnoise.noise import inject_noise


def describe(name: str, flagged: NDArray[np.bool_], changed: NDArray[np.bool_]) -> str:
    """Return how many labels were flagged, and how many of these are really wrong."""
    right = changed[flagged].mean() if flagged.any() else float("nan")
    return f"{name:<22}{flagged.sum():>6}{changed[flagged].sum():>14}{right:>12.2f}"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--noise", type=float, default=0.15, help="share of flipped labels")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)

    digits = load_digits()
    labels, changed = inject_noise(
        digits.target, options.noise, include_true=False, random_state=options.seed
    )
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.05, max_iter=500))
    _, pred_probs = cross_val_losses(
        model, digits.data, labels, return_proba=True, random_state=options.seed
    )

    report = audit(labels, pred_probs=pred_probs)
    ours = np.zeros(len(labels), dtype=bool)
    ours[report.noisy_indices] = True
    theirs = find_label_issues(labels, pred_probs)

    print(f"{len(labels)} labels, {changed.sum()} of them wrong\n")
    print(f"{'':<22}{'flagged':>6}{'really wrong':>14}{'precision':>12}")
    print(describe("lossnoise.audit", ours, changed))
    print(describe("cleanlab", theirs, changed))
    print(describe("both", ours & theirs, changed))
    print(describe("lossnoise alone", ours & ~theirs, changed))
    print(describe("cleanlab alone", theirs & ~ours, changed))
    print(f"\nshare of wrong labels: {changed.mean():.3f}")
    rate, (low, high) = report.summary["noise_rate"], report.summary["noise_rate_interval"]
    print(f"  estimated by lossnoise {rate:.3f} (90 % interval {low:.3f} to {high:.3f})")
    print(f"  flagged by cleanlab    {theirs.mean():.3f}")


if __name__ == "__main__":
    main()
