"""Figures on their way to a result file: rounded, and without the folders of one machine."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

import _results
import numpy as np

DIGITS = 5


def environment(options: argparse.Namespace) -> dict[str, Any]:
    """Return commit, versions and hardware; folders in the command become their option's name."""
    content = _results.environment()
    for name, value in vars(options).items():
        if isinstance(value, Path):
            content["command"] = content["command"].replace(str(value), name.upper())
    return content


def rounded(content: Any) -> Any:
    """Return figures with `DIGITS` decimals, plain Python numbers for numpy's, None for NaN."""
    if isinstance(content, dict):
        return {str(key): rounded(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [rounded(value) for value in content]
    if isinstance(content, np.generic):
        return rounded(content.item())
    if isinstance(content, float):
        return None if math.isnan(content) else round(content, DIGITS)
    return content


def table(head: list[str], rows: list[list[Any]]) -> str:
    """Return a table for the terminal: the first column to the left, the others to the right."""
    cells = [head, *([_text(value) for value in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    lines = (
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in cells
    )
    return "\n".join(lines)


def _text(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
