"""The report as a polars table. Imports polars, so it is loaded only when one is asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lossnoise.audit._inputs import RowIds


def build_table(columns: dict[str, Any], ranking: NDArray[np.intp], ids: RowIds) -> pl.DataFrame:
    """Return rows in the order of `ranking`, the index first, with a column ``rank`` from 1."""
    header = "index" if ids.header in {*columns, "rank"} else ids.header  # each name once
    series = [_column(header, ids.values[ranking])]
    for name, values in columns.items():
        if values is None:
            values = _column("", np.asarray(columns["given_label"]))
            series.append(pl.Series(name, [None] * len(ranking), dtype=values.dtype))
        else:
            series.append(_column(name, np.asarray(values)[ranking]))
        if name == "is_label_issue":
            series.append(pl.Series("rank", np.arange(1, len(ranking) + 1)))
    return pl.DataFrame(series)


def _column(name: str, values: np.ndarray) -> pl.Series:
    """Return a column; objects that polars has no type for stay Python objects."""
    if values.dtype.kind in "mM" and np.datetime_data(values.dtype)[0] not in ("D", "us", "ns"):
        values = values.astype(f"{values.dtype.kind}8[us]")  # polars knows few units
    if values.dtype.kind != "O":
        return pl.Series(name, values, nan_to_null=values.dtype.kind == "f")
    entries = values.tolist()
    if len({type(entry) for entry in entries if entry is not None}) > 1:
        return pl.Series(name, entries, dtype=pl.Object)
    try:
        return pl.Series(name, entries)
    except (TypeError, pl.exceptions.PolarsError):  # such as tuples of several types
        return pl.Series(name, entries, dtype=pl.Object)
