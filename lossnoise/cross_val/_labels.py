"""The labels as classes, codes, and what a model is told in their place."""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lossnoise._labels import (
    check_sorted,
    counting_labels,
    encode_labels,
    label_array,
    one_dimensional,
    warn_of_unlabelled,
)
from lossnoise._validation import invalid_data, invalid_parameter

OWNER = "cross_val_losses"


class Labels(NamedTuple):
    """Labels, and what stands for them.

    Attributes
    ----------
    classes : ndarray of shape (C,)
        The label of each column of predictions: sorted, or the categories of a pandas column.
    codes : ndarray of shape (n,), intp
        Column of each row's label.
    names : ndarray of shape (C,)
        What the model knows each class by.
    """

    classes: np.ndarray
    codes: NDArray[np.intp]
    names: np.ndarray

    @property
    def targets(self) -> np.ndarray:
        """Return what the model learns, one a row."""
        return np.asarray(self.names[self.codes])


def read_labels(y: Any, num_rows: int, *, for_network: bool) -> Labels:
    """Return the labels of `num_rows` rows, or raise where they cannot be used."""
    if y is None:
        expected = "labels, one per row of 'X': only a torch Dataset brings its own"
        raise invalid_parameter(OWNER, "y", expected, None)
    given = label_array(OWNER, y, "y", remedy="leave these rows out of 'X' and 'y'")
    if len(given) != num_rows:
        expected = f"of length {num_rows}, one label per row of 'X'"
        raise invalid_data(OWNER, "y", expected, f"length {len(given)}")
    declared = _categories(y)
    classes, codes = declared or encode_labels(given)
    if declared is None:
        expected = (
            "of one type that can be sorted, as the columns of probabilities are, or a pandas "
            "categorical"
        )
        check_sorted(OWNER, "y", classes, expected)
    if len(np.unique(codes)) < 2:
        got = f"{classes[codes[:1]].tolist()[0]!r} in all {num_rows} rows"
        raise invalid_data(OWNER, "y", "labels of at least two classes", got)
    warn_of_unlabelled(classes.tolist())
    kept = counting_labels(classes) if for_network else _suits_scikit_learn(classes)
    names = classes if kept else np.arange(len(classes))
    return Labels(classes, codes, names.astype(np.int64) if for_network else names)


def read_groups(groups: Any, X: Any, num_rows: int) -> np.ndarray | None:
    """Return the group of each row of `X`, or raise where they cannot be used."""
    if groups is None:
        return None
    check_same_order(X, groups, "groups")
    array = label_array(OWNER, groups, "groups")
    if len(array) != num_rows:
        expected = f"of length {num_rows}, one group per row of 'X'"
        raise invalid_data(OWNER, "groups", expected, f"length {len(array)}")
    return array


def check_same_order(X: Any, values: Any, name: str) -> None:
    """Refuse values of pandas that name the rows of `X` in another order: they go by position."""
    ours: Any = getattr(X, "index", None)
    theirs: Any = getattr(values, "index", None)
    if not (hasattr(ours, "equals") and hasattr(theirs, "equals")) or ours.equals(theirs):
        return
    if set(ours) == set(theirs):
        expected = f"in the order of 'X', as {name}.loc[X.index] is"
        raise invalid_data(OWNER, name, expected, "its index in another order")


def _categories(y: Any) -> tuple[np.ndarray, NDArray[np.intp]] | None:
    """Return the categories of a pandas categorical, whose order is that of the columns."""
    pandas = sys.modules.get("pandas")
    if pandas is None or not isinstance(getattr(y, "dtype", None), pandas.CategoricalDtype):
        return None
    categorical = y.cat if isinstance(y, pandas.Series) else y
    codes = np.asarray(categorical.codes, dtype=np.intp)
    return one_dimensional(categorical.categories), codes


def _suits_scikit_learn(classes: np.ndarray) -> bool:
    """Tell whether classifiers take these labels as they are; else they learn their positions."""
    if classes.dtype.kind == "O":
        return all(isinstance(label, str) for label in classes)
    if classes.dtype.kind == "f":  # 0.5 looks like a regression to scikit-learn
        return bool((classes == np.floor(classes)).all())
    return classes.dtype.kind in "biuU"
