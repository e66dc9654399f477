"""Loss histories: one column an epoch, reduced to one loss a sample."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def reduce_history(losses: NDArray[Any], last: int | None = None) -> NDArray[Any]:
    """Return the mean of the `last` columns of ``(n, k)`` losses, or of all of them.

    ``(n,)`` losses and a single column are returned as they are.
    """
    if losses.ndim == 1:
        return losses
    if losses.shape[1] == 1:
        return np.asarray(losses[:, 0])
    return np.asarray(losses[:, -(last or losses.shape[1]) :].mean(axis=1, dtype=np.float64))
