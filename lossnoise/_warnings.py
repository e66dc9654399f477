"""Warnings that point at the line of the user who called, however deep inside they arise."""

from __future__ import annotations

import sys
import warnings

from lossnoise.exceptions import LossNoiseWarning

PACKAGE = __name__.partition(".")[0]


def warn(message: str, category: type[LossNoiseWarning]) -> None:
    """Issue a warning where the library was called.

    Python shows a text once for each line that it points at: one that is repeated every epoch,
    word for word, is seen once.
    """
    warnings.warn(message, category, stacklevel=_levels_to_caller())


def _levels_to_caller() -> int:
    """Return the stacklevel, for `warn`, of the caller of the outermost function of the library.

    Others, such as decorators of torch, may stand in between.
    """
    frame = sys._getframe(1)  # of `warn`
    level = found = 1
    while frame is not None:
        if str(frame.f_globals.get("__name__", "")).partition(".")[0] == PACKAGE:
            found = level + 1
        frame, level = frame.f_back, level + 1  # type: ignore[assignment]  # None at the end
    return found
