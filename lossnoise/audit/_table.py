"""The report as a pandas table. Imports pandas, so it is loaded only when a table is asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd


def build_table(columns: dict[str, Any], order: np.ndarray, index: Any, name: Any) -> pd.DataFrame:
    """Return the rows of `columns` in `order`, with a column ``rank`` from 1.

    ``given_label`` and ``suggested_label`` may be any labels (the latter None); `index` may be a
    pandas index or an array, and `name` is then its name.
    """
    given = label_column(columns["given_label"])
    suggested = suggested_column(columns["suggested_label"], given)
    table = pd.DataFrame(columns | {"given_label": given, "suggested_label": suggested})
    if not isinstance(index, pd.Index):
        index = pd.Index(index, name=name, tupleize_cols=False)
    table.index = index
    table = table.iloc[order].copy()
    after = list(table.columns).index("is_label_issue") + 1
    table.insert(after, "rank", np.arange(1, len(table) + 1))
    return table


def label_column(labels: Any) -> pd.Series:
    """Return labels as a column of the dtype that they came in."""
    if isinstance(labels, pd.Series):
        return labels.reset_index(drop=True)
    # Left alone, pandas would guess a type for the objects.
    dtype = object if pd.api.types.is_object_dtype(labels.dtype) else None
    return pd.Series(labels, dtype=dtype)


def suggested_column(suggested: np.ndarray | None, given: pd.Series) -> pd.Series:
    """Return suggested labels as a column of the same kind as the given ones."""
    if suggested is None:
        return _missing_column(given)
    if isinstance(given.dtype, pd.CategoricalDtype):
        return pd.Series(pd.Categorical(suggested, dtype=given.dtype))
    column = label_column(suggested)
    is_extension = pd.api.types.is_extension_array_dtype(given.dtype)
    return column.astype(given.dtype) if is_extension else column


def _missing_column(given: pd.Series) -> pd.Series:
    dtype = _dtype_with_missing(given.dtype)
    # In an object column None would be a label.
    missing = pd.NA if pd.api.types.is_object_dtype(dtype) else None
    return pd.Series([missing] * len(given), dtype=dtype)


def _dtype_with_missing(dtype: Any) -> Any:
    """Return `dtype`, or the nullable one of the same width where it has no place for NA."""
    kind = dtype.kind if isinstance(dtype, np.dtype) else ""
    if kind in ("i", "u"):
        return {"i": "Int", "u": "UInt"}[kind] + str(8 * dtype.itemsize)
    return "boolean" if kind == "b" else dtype
