"""Loss histories: one column an epoch, reduced to one loss a sample."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# How many last columns count by default.
HISTORY_REDUCTION = 5


def reduce_history(
    losses: NDArray[np.float64], last: int = HISTORY_REDUCTION
) -> NDArray[np.float64]:
    """Return the mean of the `last` columns of ``(n, k)`` losses; ``(n,)`` losses as they are."""
    return losses if losses.ndim == 1 else np.asarray(losses[:, -last:].mean(axis=1))
