"""Equal rows: the model that predicts one has learned the labels of the others."""

from __future__ import annotations

import sys
from collections.abc import Hashable, Iterable, Iterator
from typing import Any

import numpy as np

from lossnoise._pandas import is_pandas
from lossnoise._validation import to_numpy
from lossnoise._warnings import warn
from lossnoise.cross_val._folds import Fold, Rows
from lossnoise.exceptions import EqualRowsWarning

FEWEST, SHARE = 10, 0.01  # rows worth a word: at least so many, and that share of all


def warn_of_copies(X: Any, folds: list[Fold]) -> None:
    """Warn where many rows are equal to some that their model learns from.

    Says nothing of data whose rows cannot be compared at little cost.
    """
    size = sum(len(fold.test) for fold in folds)
    try:
        contents, recipe = _read(X)
        first = _first_equal(contents)
    except Exception:  # of cells without a hash, say: this is advice, and may not fail
        return
    least = max(FEWEST, SHARE * size)
    if len(first) != size or size - len(np.unique(first)) < least / 2.0:  # of pairs, both count
        return
    seen = sum(int(np.isin(first[fold.test], first[fold.train]).sum()) for fold in folds)
    if seen >= least:
        warn(
            f"{seen} of {size} rows of 'X' are equal to others that their model learns from, and "
            "it may repeat the labels of these: a wrong label that was copied with its row then "
            f"looks right. Hold copies out together, as groups={recipe} does. Rows that are equal "
            "by chance, as of a few small integers, and were labelled one by one are no copies.",
            EqualRowsWarning,
        )


def _first_equal(contents: Iterable[Hashable]) -> Rows:
    """Return for each row the first that is equal to it."""
    found: dict[Hashable, int] = {}
    return np.array([found.setdefault(content, row) for row, content in enumerate(contents)])


def _read(X: Any) -> tuple[Iterable[Hashable], str]:
    """Return what is the same for equal rows only, and how to make groups of equal rows.

    Of a dataset, which may draw its samples at random, there is nothing.
    """
    if is_pandas(X, "DataFrame", "Series"):
        import pandas as pd

        hashes = pd.util.hash_pandas_object(X, index=False).tolist()
        return hashes, "pd.util.hash_pandas_object(X, index=False)"
    if hasattr(X, "hash_rows"):  # a data frame of polars
        return X.hash_rows().to_list(), "X.hash_rows()"
    if hasattr(X, "tocsr"):
        return _of_sparse(X), "X @ np.random.default_rng(0).random(X.shape[1])"
    tensor, name = _tensor_of(X)
    if tensor is not None:
        return _of_array(to_numpy(tensor)), f"[str(row.tolist()) for row in {name}]"
    if isinstance(X, (np.ndarray, list, tuple)) and len(X):
        contents = _of_array(X) if isinstance(X, np.ndarray) else map(_of_row, X)
        return contents, _recipe(X[0])
    return (), ""


def _tensor_of(X: Any) -> tuple[Any, str]:
    """Return the inputs that are a tensor, also those of a plain dataset, and their name."""
    torch, name = sys.modules.get("torch"), "X"
    if torch is None:
        return None, name
    if isinstance(X, torch.utils.data.DataLoader):
        X, name = X.dataset, "X.dataset"
    if type(X) is torch.utils.data.TensorDataset:  # one of a class of its own may change them
        X, name = X.tensors[0], f"{name}.tensors[0]"
    return (X, name) if isinstance(X, torch.Tensor) else (None, name)


def _of_array(array: np.ndarray) -> Iterator[Hashable]:
    if array.ndim < 2 or array.dtype.kind == "O":
        return map(_of_row, array)
    return (hash(row.tobytes()) for row in array)  # not the bytes: there may be many


def _of_row(row: Any) -> Hashable:
    if hasattr(row, "detach"):
        row = to_numpy(row)
    if isinstance(row, np.ndarray) and row.dtype.kind != "O":
        return hash((row.dtype.str, row.shape, row.tobytes()))
    if isinstance(row, (np.ndarray, list)):
        return tuple(row)
    content: Hashable = row
    return content


def _recipe(row: Any) -> str:
    if hasattr(row, "detach"):
        return "[str(row.tolist()) for row in X]"
    if isinstance(row, np.ndarray) and row.dtype.kind != "O":
        return "[row.tobytes() for row in X]"
    return "list(map(tuple, X))" if isinstance(row, (np.ndarray, list)) else "X"


def _of_sparse(X: Any) -> Iterator[Hashable]:
    rows = X.tocsr(copy=True)
    rows.sum_duplicates()  # and sorted
    for start, stop in zip(rows.indptr[:-1], rows.indptr[1:], strict=True):
        yield hash((rows.indices[start:stop].tobytes(), rows.data[start:stop].tobytes()))
