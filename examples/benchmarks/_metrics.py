"""How close P(label wrong) is to the truth."""

from __future__ import annotations

import numpy as np
from sklearn.metrics import roc_auc_score

CALIBRATION_BINS = 10


def score(wrong: np.ndarray, changed: np.ndarray) -> dict[str, float | None]:
    """Return what is right and wrong about P(wrong); None where a figure does not exist."""
    flagged = wrong > 0.5
    found = int((flagged & changed).sum())
    return {
        "rate": float(wrong.mean()),
        "error": float(wrong.mean() - changed.mean()),
        "brier": float(np.mean((wrong - changed) ** 2)),
        "ece": calibration_error(wrong, changed),
        "precision": share(found, int(flagged.sum())),
        "recall": share(found, int(changed.sum())),
    }


def calibration_error(wrong: np.ndarray, changed: np.ndarray) -> float:
    """Return the mean distance of P(wrong) from the share that is wrong, over bins of P(wrong)."""
    place = np.minimum((wrong * CALIBRATION_BINS).astype(np.intp), CALIBRATION_BINS - 1)
    difference = np.bincount(place, wrong - changed, minlength=CALIBRATION_BINS)
    return float(np.abs(difference).sum() / len(wrong))


def reliability(wrong: np.ndarray, changed: np.ndarray) -> dict[str, list[float]]:
    """Return by bin of P(wrong): samples, the sum of P(wrong), and how many are wrong."""
    place = np.minimum((wrong * CALIBRATION_BINS).astype(np.intp), CALIBRATION_BINS - 1)
    sums = {"samples": np.ones(len(wrong)), "proba": wrong, "wrong": changed}
    return {
        name: np.bincount(place, values, CALIBRATION_BINS).tolist() for name, values in sums.items()
    }


def auroc(scores: np.ndarray, changed: np.ndarray) -> float | None:
    """Return how well scores rank wrong labels above right ones; None if there is one kind only."""
    if changed.all() or not changed.any():
        return None
    return float(roc_auc_score(changed, scores))


def share(part: int, whole: int) -> float | None:
    """Return part / whole, or None of nothing."""
    return part / whole if whole else None


def mean(values: list[float | None]) -> float | None:
    """Return the mean of the values that exist."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
