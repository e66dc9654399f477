"""Which column of predicted probabilities belongs to which label."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lossnoise._labels import (
    as_list,
    counted_classes,
    counting_labels,
    encode_labels,
    object_array,
    one_dimensional,
)
from lossnoise._names import check_order
from lossnoise._pandas import is_pandas
from lossnoise._validation import check_probability_rows, invalid_data
from lossnoise._warnings import warn
from lossnoise.audit._inputs import OWNER, FloatArray
from lossnoise.exceptions import LayoutWarning, RenormalizedWarning

# Rows of float32 probabilities miss a sum of 1 by about 1e-7.
ROUNDING = 1e-5

# Columns look as if they were in another order where so many labels, and twice as many as now,
# would be the most probable class of their row in it, and so much of what chance leaves (Cohen's
# kappa): two that give one class to most rows agree on most of them by chance.
OFTEN = 0.5
BEYOND_CHANCE = 0.3
FEW = 10  # rows a class: with fewer, some order fits by chance
MOST_ORDERED = 1000  # classes whose orders are compared


class Columns(NamedTuple):
    """Predicted probabilities whose columns are known.

    Attributes
    ----------
    classes : ndarray of shape (C,)
        The label of each column.
    codes : ndarray of shape (n,), intp
        The column of each given label.
    probs : ndarray of shape (n, C), float64
        Rows sum to 1.
    """

    classes: np.ndarray
    codes: NDArray[np.intp]
    probs: FloatArray


def declared_classes(labels: Any) -> np.ndarray:
    """Return the categories of labels that are categorical, also those that none of them has."""
    dtype: Any = getattr(labels, "dtype", None)
    declared = dtype.categories if is_pandas(dtype, "CategoricalDtype") else []
    return one_dimensional(declared)


def match_columns(
    probs: FloatArray, labels: Any, given: np.ndarray, class_names: list[Any] | None, header: Any
) -> Columns:
    """Return whose columns they are.

    `header` is the table that the probabilities came in, which may name its columns.
    """
    probs, header = scale_rows(probs), _header_of(header)
    if is_pandas(getattr(labels, "dtype", None), "CategoricalDtype") and class_names is None:
        categorical = labels.cat if is_pandas(labels, "Series") else labels
        _check_header(header, list(categorical.categories))  # pandas' own dates, as in the header
        return _match_categories(probs, categorical)
    classes, codes = encode_labels(given)
    if class_names is None:
        class_names = _names_of_header(header, classes)
    else:
        _check_header(header, class_names)
    if class_names is not None:
        _check_width(probs, len(class_names), "one column for each of the {} class names")
        return Columns(*_match_names(classes, codes, class_names), probs)
    _check_sorted(classes)
    _check_header(header, classes.tolist())
    if probs.shape[1] != len(classes) or len(classes) < 2:
        expected = (
            f"one column for each of the {len(classes)} labels that occur, and at least two: for "
            "others, 'class_names' gives the labels of the columns"
        )
        raise invalid_data(OWNER, "pred_probs", expected, f"an array of shape {probs.shape}")
    return Columns(classes, codes, probs)


def scale_rows(probs: FloatArray) -> FloatArray:
    """Return rows that sum to 1, and say so where they did not."""
    scaled = check_probability_rows(OWNER, "pred_probs", probs)
    warn_of_scaling(distance_from_one(probs))
    return scaled


def distance_from_one(probs: FloatArray) -> float:
    """Return by how much the sum of a row misses 1, at most."""
    return float(np.abs(probs.sum(axis=1) - 1.0).max())


def warn_of_scaling(off: float) -> None:
    """Say by how much rows missed a sum of 1, where that is more than rounding."""
    if off > ROUNDING:
        warn(
            f"Rows of 'pred_probs' miss a sum of 1 by up to {off:.2g}: they were scaled.",
            RenormalizedWarning,
        )


def read_class_names(class_names: Any) -> list[Any] | None:
    """Return class names as a list of distinct values."""
    if class_names is None:
        return None
    array = one_dimensional(class_names)  # of a set, a dict or a string: a single value
    names: list[Any] = as_list(array) if array.ndim == 1 else []
    if len(names) < 2 or not _are_distinct(names):
        expected = "at least two class names, each once, in the order of the columns"
        raise invalid_data(OWNER, "class_names", expected, repr(class_names)[:200])
    return names


def _are_distinct(names: list[Any]) -> bool:
    try:
        return len(set(names)) == len(names)
    except TypeError:  # of lists, which are no labels
        return False


def shown_names(given: np.ndarray, class_names: list[Any] | None) -> dict[Any, str]:
    """Return how labels are shown where they are the numbers of the class names."""
    if class_names is None:
        return {}
    classes = encode_labels(given)[0]
    if not counting_labels(classes) or set(classes.tolist()) <= set(class_names):
        return {}
    return {i: str(name) for i, name in enumerate(class_names)}


def _match_names(
    classes: np.ndarray, codes: NDArray[np.intp], names: list[Any]
) -> tuple[np.ndarray, NDArray[np.intp]]:
    """Return the labels of the named columns: the names, or their numbers."""
    if classes.dtype.kind in "mM":  # dates of other units are other values to a dict
        names = _as_dates(names, classes.dtype)
    place = {name: i for i, name in enumerate(names)}
    occurring = as_list(classes)
    if set(occurring) <= set(place):
        columns = np.array([place[label] for label in occurring], dtype=np.intp)
        return _like(classes, names), columns[codes]
    if counting_labels(classes) and classes.max() < len(names):
        return counted_classes(classes, len(names)), classes.astype(np.intp)[codes]
    stranger = next(label for label in occurring if label not in place)
    expected = "all labels that occur, or names of the integer labels 0, ..., C - 1"
    advice = ""
    if classes.dtype.kind == "f":
        advice = "the labels are floats, and pandas' dtype 'Int64' has integers and gaps"
    got = f"no {stranger!r} among {names!r}"[:300]
    raise invalid_data(OWNER, "class_names", expected, got, advice)


def _like(classes: np.ndarray, names: list[Any]) -> np.ndarray:
    """Return the names as an array like that of the labels, where its type holds them all."""
    array = one_dimensional(names)
    if array.dtype == classes.dtype and array.dtype.kind in "mM":
        return array
    if array.dtype.kind == classes.dtype.kind and array.dtype.kind in "US":
        return array.astype(np.promote_types(array.dtype, classes.dtype))
    if classes.dtype.kind in "iufb" and array.dtype.kind in "iufb":
        narrow = array.astype(classes.dtype)
        return narrow if np.array_equal(narrow, array) else array
    return object_array(names)


def _as_dates(names: list[Any], dtype: Any) -> list[Any]:
    """Return names in the unit of the dates that occur, where they are dates."""
    try:
        return list(np.array(names).astype(dtype))
    except (TypeError, ValueError):
        return names


def _match_categories(probs: FloatArray, categorical: Any) -> Columns:
    categories = one_dimensional(categorical.categories)
    _check_width(probs, len(categories), "one column for each of the {} categories of the labels")
    return Columns(categories, np.asarray(categorical.codes, dtype=np.intp), probs)


def _check_width(probs: FloatArray, size: int, expected: str) -> None:
    if probs.shape[1] != size or size < 2:
        words = f"{expected.format(size)}, and at least two columns"
        raise invalid_data(OWNER, "pred_probs", words, f"an array of shape {probs.shape}")


def confusion(columns: Columns) -> NDArray[np.int64]:
    """Return how often each label (row) has each class as the most probable one (column).

    (0, 0) of classes that are too many to compare their orders.
    """
    size = len(columns.classes)
    if size > MOST_ORDERED:
        return np.zeros((0, 0), dtype=np.int64)
    pairs = np.ravel_multi_index((columns.codes, columns.probs.argmax(axis=1)), (size, size))
    return np.bincount(pairs, minlength=size * size).reshape(size, size)


def warn_of_order(
    classes: np.ndarray, counts: NDArray[np.int64], remedy: str = "pass it as class_names"
) -> None:
    """Warn where most labels would be the first choice with the columns in another order."""
    if not counts.size or counts.sum() < FEW * len(classes):
        return
    joint = counts / counts.sum()
    agreed = np.trace(joint)
    if agreed > OFTEN:
        return
    from scipy.optimize import linear_sum_assignment  # slow to load

    by_chance = np.outer(joint.sum(axis=1), joint.sum(axis=0))
    other = linear_sum_assignment(joint - by_chance, maximize=True)
    best, chance = joint[other].sum(), by_chance[other].sum()
    if best > max(OFTEN, 2.0 * agreed) and best - chance > BEYOND_CHANCE * (1.0 - chance):
        names = ", ".join(map(repr, as_list(classes[:5]))) + (", ..." if len(classes) > 5 else "")
        warn(
            f"Only {agreed:.0%} of the labels are the most probable class of their row, and "
            f"{best:.0%} would be if the columns were in another order: they are taken for "
            f"those of {names}. Is it another one, such as that of a classifier's classes_, "
            f"{remedy}.",
            LayoutWarning,
        )


def _header_of(table: Any) -> list[Any]:
    """Return the names of the columns of a data frame of pandas or polars, or a table of Arrow."""
    if is_pandas(table, "DataFrame"):
        return list(table.columns)
    names = getattr(table, "column_names", getattr(table, "columns", None))
    return list(names) if isinstance(names, list) else []


def _names_of_header(names: list[Any], classes: np.ndarray) -> list[Any] | None:
    """Return the names of a table's columns, where they are the labels and some more."""
    return names if len(names) > len(classes) and set(classes.tolist()) < set(names) else None


def _check_header(names: list[Any], wanted: list[Any]) -> None:
    """Refuse columns that are the labels by name, loosely at least, in another order."""
    check_order(OWNER, "pred_probs", "column", names, wanted)


def _check_sorted(classes: np.ndarray) -> None:
    """Refuse classes without one order: nothing would tell which column is whose."""
    try:
        ordered = classes.dtype.kind != "O" or all(a < b for a, b in pairwise(classes))
    except TypeError:
        ordered = False
    if not ordered:
        expected = (
            "of one type that can be sorted where 'pred_probs' is given: its columns are in the "
            "order of the sorted labels, or of 'class_names'"
        )
        types = ", ".join(sorted({type(label).__name__ for label in classes}))
        raise invalid_data(OWNER, "labels", expected, f"labels of type {types}")
