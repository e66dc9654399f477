"""Warnings that point at the user's own line, however deep inside they arise."""

from __future__ import annotations

import sys
import warnings

from lossnoise.exceptions import LossNoiseWarning

# What may stand between the user and this library: decorators, pipelines, pools, other trainers.
PASSED_OVER = {
    *("lossnoise", "contextlib", "functools", "joblib", "sklearn", "torch"),
    *("accelerate", "lightning", "lightning_fabric", "pytorch_lightning", "skorch", "transformers"),
}


def warn(message: str, category: type[LossNoiseWarning]) -> None:
    """Issue a warning at the innermost line that is the user's.

    Python shows a text once for each line that it points at: one that is repeated every epoch,
    word for word, is seen once.
    """
    warnings.warn(message, category, stacklevel=_levels_to_user())


def _levels_to_user() -> int:
    """Return the stacklevel of the user's line for `warn`; that of its caller if there is none."""
    frame, level = sys._getframe(2), 2
    while frame.f_back is not None:
        if str(frame.f_globals.get("__name__", "")).partition(".")[0] not in PASSED_OVER:
            return level
        frame, level = frame.f_back, level + 1
    return level
