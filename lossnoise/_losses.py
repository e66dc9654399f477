"""From predicted probabilities to losses: one floor, and one formula."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# A probability of exactly 0 would be an infinite loss. This floor makes it a loss of 27.6, above
# what a probability in float32 gives in practice, and keeps the losses on a usable scale.
MIN_PROBABILITY = 1e-12

# Losses of probabilities that are 0 or 1 but for rounding, or for the width of a bin of losses.
NEARLY_RIGHT, NEARLY_WRONG = 1e-6, 27.0

# How far below 0 rounding may put the cross-entropy of a certain prediction: -log(p + 1e-12) is,
# and so is -log of a sum of probabilities that comes out above 1. It counts as 0.
LOWEST = -1e-6


def losses_from_probs(
    pred_probs: NDArray[np.float64], codes: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Return ``-log(p[given])``, with p raised to at least `MIN_PROBABILITY`."""
    given = pred_probs[np.arange(len(codes)), codes]
    return np.asarray(0.0 - np.log(np.clip(given, MIN_PROBABILITY, 1.0)))  # 0.0, not -0.0


def are_certain(losses: NDArray[np.float64]) -> bool:
    """Tell whether losses are those of probabilities of 0 and 1 only, or in bins of such."""
    certain = (losses < NEARLY_RIGHT) | (losses > NEARLY_WRONG)
    return bool(certain.all() and (losses > NEARLY_WRONG).any())
