"""Progress bars, where tqdm is installed."""

from __future__ import annotations

import sys
import warnings
from importlib import import_module
from typing import Any


class NoBar:
    """Stands in for a bar of tqdm where none is shown."""

    def nothing(self, *_: object, **__: object) -> None:
        """Do nothing."""

    update = reset = set_description = set_postfix_str = clear = close = nothing


def make_bar(total: int, label: str, unit: str, *, brief: bool = False) -> Any:
    """Return a bar on stderr, or a stand-in where tqdm is not installed.

    It shows where somebody watches; one that moves a few times only, `brief`, everywhere.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a notebook without widgets: its bars are text
            tqdm = import_module("tqdm.auto").tqdm
    except ImportError:
        return NoBar()
    # A bar in a log file is thousands of lines; a notebook is no terminal, but shows bars.
    watched = sys.stderr.isatty() or "ipykernel" in sys.modules
    return tqdm(total=total, desc=label, leave=brief, unit=unit, disable=not (watched or brief))
