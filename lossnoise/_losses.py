"""From predicted probabilities to losses: one floor, and one formula."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

# A probability of exactly 0 would be an infinite loss. This floor makes it a loss of 27.6, above
# what a probability in float32 gives in practice, and keeps the losses on a usable scale.
MIN_PROBABILITY = 1e-12

# Losses of probabilities that are 0 or 1 but for rounding, clipping, or the width of a bin of
# losses; of so many samples; and mistakes that may be outliers.
NEARLY_RIGHT, NEARLY_WRONG, TOP = 1e-5, 10.0, 0.99
NEARLY_ALL, FEW_WRONG = 0.99, 3

# A model that counts votes gives 0 to what none is for, be they few. Of losses that look wrong so
# many are such zeros, and of all above that of an even chance less than so many.
ONLY, MOST_DOUBTED, EVEN = 0.95, 0.65, float(np.log(2.0))

# How far below 0 rounding may put the cross-entropy of a certain prediction: -log(p + 1e-12) is,
# and so is -log of a sum of probabilities that comes out above 1. It counts as 0.
LOWEST = -1e-6


def losses_from_probs(
    pred_probs: NDArray[np.float64], codes: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Return ``-log(p[given])``, with p raised to at least `MIN_PROBABILITY`."""
    given = pred_probs[np.arange(len(codes)), codes]
    return np.asarray(0.0 - np.log(np.clip(given, MIN_PROBABILITY, 1.0)))  # 0.0, not -0.0


def are_certain(losses: NDArray[np.float64], weights: NDArray[Any] | None = None) -> bool:
    """Tell whether losses, or weighted bins of losses, are those of hardly any probabilities.

    Nearly all are 0 or the highest there is, which stands for a probability of 0.
    """
    highest = float(losses.max())
    wrong = losses > TOP * highest
    counts = np.ones(len(losses)) if weights is None else weights
    sure = float(counts @ (wrong | (losses < NEARLY_RIGHT)))
    few = float(counts @ wrong) <= FEW_WRONG
    return not few and highest > NEARLY_WRONG and sure >= NEARLY_ALL * float(counts.sum())


def are_only_zeros(
    losses: NDArray[np.float64],
    issues: NDArray[np.float64],
    weights: NDArray[Any] | None = None,
    issue_weights: NDArray[Any] | None = None,
) -> bool:
    """Tell whether what looks wrong is a heap of zero probabilities, and other doubts are more.

    Parameters
    ----------
    losses, issues : ndarray of shape (n,) and (m,), float64
        All losses, and those of the labels that look wrong: one by one, or bins.
    weights, issue_weights : ndarray of the same shapes, optional
        How many losses each bin holds.
    """
    highest = float(losses.max())
    if highest <= NEARLY_WRONG or not len(issues):
        return False
    counts = np.ones(len(losses)) if weights is None else weights
    held = np.ones(len(issues)) if issue_weights is None else issue_weights
    zeros = float(held @ (issues > TOP * highest))
    doubted = float(counts @ (losses > EVEN))
    return FEW_WRONG < zeros < MOST_DOUBTED * doubted and zeros >= ONLY * float(held.sum())
