"""Whether what came for losses is numbers, and of a kind that can be losses."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse

from lossnoise._validation import invalid_data, to_numpy

ODD = (str, bytes, bool, np.bool_, complex, np.complexfloating)  # objects that are no losses


def check_numbers(owner: str, name: str, array: NDArray[Any]) -> NDArray[Any]:
    """Return an array of numbers as it is, and one of objects that are numbers as float64.

    Booleans are refused: whether a prediction is right is no loss, and says the opposite of one.
    """
    numbers = "losses, which are numbers"
    if array.dtype.kind == "b":
        got = "booleans, as of right and wrong predictions,"
        raise invalid_data(owner, name, numbers, got, "pass -log p of each given label")
    if array.dtype.kind == "c":
        raise invalid_data(owner, name, "real losses", f"complex numbers ({array.dtype})")
    if array.dtype.kind == "O":
        return _of_objects(owner, name, array)
    if array.dtype.kind not in "fiu" and array.size:
        raise invalid_data(owner, name, numbers, f"dtype {array.dtype}")
    return array


def _of_objects(owner: str, name: str, array: NDArray[Any]) -> NDArray[np.float64]:
    odd = sorted({type(entry).__name__ for entry in array.flat if isinstance(entry, ODD)})
    if not odd:
        try:
            return array.astype(np.float64)
        except (TypeError, ValueError):
            odd = sorted({type(entry).__name__ for entry in array.flat})
    got = f"objects, of type {', '.join(odd)},"
    raise invalid_data(owner, name, "losses, which are numbers", got)


def check_columns(owner: str, name: str, frame: Any) -> None:
    """Refuse a data frame of pandas, polars or Arrow with a column that is no losses."""
    for column in _columns_of(frame):
        check_numbers(owner, name, to_numpy(column))


def _columns_of(frame: Any) -> Iterable[Any]:
    if hasattr(frame, "get_columns"):  # polars
        return list(frame.get_columns())
    if hasattr(frame, "items"):  # pandas; names may come twice
        return (column for _, column in frame.items())
    return frame.columns if isinstance(frame.columns, list) else []  # Arrow


def is_frame(X: Any) -> bool:
    """Tell whether `X` has columns, which may have names; a query that was not run has no shape."""
    return hasattr(X, "shape") and hasattr(X, "columns")


def check_dense(owner: str, name: str, X: Any) -> None:
    """Refuse a sparse array: a loss that is not stored is hardly 0."""
    if issparse(X):
        got = f"a sparse {type(X).__name__}"
        raise invalid_data(owner, name, "a dense array of losses", got, "its toarray() makes one")
