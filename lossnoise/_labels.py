"""Labels of any hashable type, as arrays that keep what the caller gave.

Used where labels come in: `lossnoise.noise` and `lossnoise.audit`. numpy alone would turn
``[(0, 1), (2, 3)]`` into a table, ``[1, "a"]`` into strings and ``[None, 1.0]`` into NaN.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable, Iterable, Sequence
from itertools import pairwise
from numbers import Integral
from typing import Any

import numpy as np

from lossnoise._validation import invalid_data, to_numpy
from lossnoise._warnings import warn
from lossnoise.exceptions import LayoutWarning

# Numbers with fractions that are classes, as half stars are, are few, or most of them occur often.
MOST_RATINGS, MOST_DISTINCT = 20, 0.1
MOST_CODES = 0.5  # of texts, as those of a file all are: diseases have codes such as 493.20

# Labels that mark rows without one, and beside how many classes at least they are no class.
NO_LABELS = {-1: 3, -100: 2, 255: 3}

SEVERAL = "of several labels, such as one for each token, each is a row of its own"

# The types that numpy holds without loss, and the dtype kinds that prove it did.
_PLAIN_KINDS: dict[type, str] = {bool: "b", int: "iu", float: "f", str: "U", bytes: "S"}


def label_array(owner: str, labels: Any, name: str = "labels", *, remedy: str = "") -> np.ndarray:
    """Return `labels` as a 1-D array, or say what is wrong with them; may share their memory.

    `remedy` is what to do about missing values.
    """
    array = one_dimensional(labels)
    if array.ndim != 1 or len(array) == 0:
        got = f"an array of shape {array.shape}"
        raise invalid_data(owner, name, "a non-empty 1-D array or list of labels", got)
    _check_hashable(owner, name, array)
    missing = missing_values(array)
    if missing.any():
        row = int(np.flatnonzero(missing)[0])
        got = f"{array[row]} in {missing.sum()} of {len(array)} rows, first in row {row},"
        expected = "free of missing values (None in a list is a label)"
        raise invalid_data(owner, name, expected, got, remedy)
    if name != "groups":
        _check_no_targets(owner, name, array)
    return array


def _check_no_targets(owner: str, name: str, array: np.ndarray) -> None:
    """Refuse the targets of a regression, of which each would become a class of its own."""
    if array.dtype.kind != "f" or (array == np.floor(array)).all():
        return
    found = np.unique(array)
    if are_targets(found.tolist(), len(array)):
        got = f"{len(found)} different numbers with fractions in {len(array)} rows"
        advice = "regression is not supported, and numbers that do name classes can be strings"
        raise invalid_data(owner, name, "classes", got, advice)


def are_targets(labels: Collection[Any], num_rows: int) -> bool:
    """Tell whether the labels that occur are many numbers, also as texts, some with fractions."""
    are_texts = all(isinstance(label, str) for label in labels)
    if len(labels) <= max(MOST_RATINGS, (MOST_CODES if are_texts else MOST_DISTINCT) * num_rows):
        return False
    try:
        numbers = [float(label) for label in labels]
    except (TypeError, ValueError):
        return False
    return not all(number.is_integer() for number in numbers)


def one_dimensional(values: Any) -> np.ndarray:
    """Return an array of `values`, where each element of a list or tuple is one entry."""
    if not isinstance(values, (list, tuple)):
        entries = _entries_with_nulls(values)
        return to_numpy(values) if entries is None else object_array(entries)
    entries = [v.item() if hasattr(v, "detach") and v.ndim == 0 else v for v in values]
    types = {type(v) for v in entries}
    if len(types) == 1:
        (only,) = types
        if only in _PLAIN_KINDS or issubclass(only, np.generic):
            array = np.asarray(entries)
            if array.dtype.kind in _PLAIN_KINDS.get(only, array.dtype.kind):
                return array
    return object_array(entries)


def _entries_with_nulls(values: Any) -> list[Any] | None:
    """Return the entries of a column that marks missing ones, which become NaN, if there are any.

    numpy has None for them, which is a label, or makes floats of integers. Of floats and dates,
    whose NaN and NaT it knows, and of columns without such marks, None.
    """
    library, held = type(values).__module__.partition(".")[0], list[Any]()
    kind = getattr(getattr(values, "dtype", None), "kind", "")
    if library == "pandas" and str(getattr(values, "dtype", "")) == "object":
        held = list(values)  # of any type, with None or NaN for what is missing
        gaps = any(entry is None for entry in held)
        return [math.nan if entry is None else entry for entry in held] if gaps else None
    if library == "pandas" and kind in ("i", "u", "b"):
        held = values.to_numpy(dtype=object, na_value=None).tolist() if values.isna().any() else []
    elif library == "polars" and hasattr(values, "to_list"):
        held = values.to_list() if values.null_count() else []
    elif library == "pyarrow" and hasattr(values, "to_pylist"):
        held = values.to_pylist() if values.null_count else []
    if not all(entry is None or isinstance(entry, (str, bytes, int)) for entry in held):
        return None
    return [math.nan if entry is None else entry for entry in held] or None


def object_array(entries: Sequence[object]) -> np.ndarray:
    """Return a 1-D object array with one cell per entry, also where the entries are sequences."""
    array = np.empty(len(entries), dtype=object)
    for i, entry in enumerate(entries):  # array[:] = entries would unpack tuples
        array[i] = entry
    return array


def as_list(labels: np.ndarray) -> list[Any]:
    """Return labels as plain values; dates as numpy's, which `tolist` would make counts of."""
    return list(labels) if labels.dtype.kind in "mM" else labels.tolist()


def _check_hashable(owner: str, name: str, array: np.ndarray) -> None:
    if array.dtype.kind != "O":
        return
    for row, label in enumerate(array):
        try:
            hash(label)
        except TypeError:
            got = f"a {type(label).__name__} in row {row}"
            several = isinstance(label, (list, np.ndarray))
            advice = SEVERAL if several else ""
            raise invalid_data(owner, name, "hashable, one per row", got, advice) from None


def missing_values(array: np.ndarray) -> np.ndarray:
    """Return where `array` holds NaN, NaT or pandas' NA; None is a value like any other."""
    if array.dtype.kind in "fc":
        return np.asarray(np.isnan(array))
    if array.dtype.kind in "mM":
        return np.asarray(np.isnat(array))
    if array.dtype.kind == "O":
        return np.fromiter((is_missing(v) for v in array), dtype=bool, count=len(array))
    return np.zeros(len(array), dtype=bool)


def is_missing(value: Any) -> bool:
    """Return whether `value` is NaN, NaT or pandas' NA."""
    try:
        return bool(value != value)  # NaN and NaT are what differs from itself
    except TypeError:  # pandas' NA is neither true nor false
        return True


def encode_labels(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the classes and, for each label, the position of its class.

    Classes are sorted; where they cannot be compared they stand in order of first appearance.
    """
    if labels.dtype.kind != "O":
        classes, codes = np.unique(labels, return_inverse=True)
        return classes, codes.astype(np.intp, copy=False)
    found: dict[Hashable, int] = {}
    codes = np.fromiter(
        (found.setdefault(v, len(found)) for v in labels), dtype=np.intp, count=len(labels)
    )
    values = list(found)
    try:
        order = sorted(range(len(values)), key=values.__getitem__)  # type: ignore[arg-type]  # may fail
    except TypeError:
        return object_array(values), codes
    position = np.empty(len(values), dtype=np.intp)
    position[order] = np.arange(len(values))
    return object_array([values[i] for i in order]), position[codes]


def check_sorted(owner: str, name: str, classes: np.ndarray, expected: str) -> None:
    """Refuse classes without one order: nothing would tell which column is whose."""
    try:
        ordered = classes.dtype.kind != "O" or all(a < b for a, b in pairwise(classes))
    except TypeError:
        ordered = False
    if not ordered:
        types = ", ".join(sorted({type(label).__name__ for label in classes}))
        advice = ""
        if any(label is None for label in classes):
            advice = "None is a label of its own in a list or an array: leave out rows without one"
        raise invalid_data(owner, name, expected, f"labels of type {types}", advice)


def counting_labels(classes: np.ndarray) -> bool:
    """Return whether all classes are integers of at least 0 (and none a bool)."""
    if classes.dtype.kind in "iu":
        return bool(classes.min() >= 0)
    return classes.dtype.kind == "O" and all(_is_count(v) for v in classes)


def _is_count(value: Any) -> bool:
    return not isinstance(value, bool) and isinstance(value, Integral) and int(value) >= 0


def counted_classes(classes: np.ndarray, size: int) -> np.ndarray:
    """Return the classes 0, ..., size - 1 in the dtype of `classes`, widened if they need it."""
    dtype = classes.dtype
    if dtype.kind != "O" and np.iinfo(dtype).max < size - 1:
        dtype = np.promote_types(dtype, np.min_scalar_type(size - 1))
    return np.arange(size).astype(dtype)


def match_classes(
    classes: np.ndarray, codes: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray] | None:
    """Return `size` classes and the codes of the labels among them; None where nothing fits.

    The classes are those that occur, if they are as many, or else the integers below `size`.
    """
    if len(classes) == size:
        return classes, codes
    if counting_labels(classes) and classes.max() < size:
        return counted_classes(classes, size), classes.astype(np.intp)[codes]
    return None


def warn_of_unlabelled(labels: Iterable[Any]) -> None:
    """Warn where one of the labels that occur is not a class, as it seems, but says there is none.

    An integer that marks rows without a label, beside classes that are 0, 1, 2 and so on. (-1
    beside 0 and 1 may be a class, as of negative, neutral and positive texts.)
    """
    try:
        numbers = {float(str(label)) for label in labels}  # pandas makes floats beside NaN
    except ValueError:
        return
    marks = numbers & NO_LABELS.keys()
    classes = numbers - marks
    if len(marks) != 1 or classes != set(range(len(classes))):
        return
    mark = int(marks.pop())
    if len(classes) >= NO_LABELS[mark] and mark != len(classes):
        warn(
            f"The label {mark} stands beside the classes 0 to {len(classes) - 1}, as what marks "
            "rows without a label (-1 in scikit-learn), or targets to ignore (-100 in PyTorch, 255 "
            "of pixels): it is taken for a class of its own, which spoils what is said of the "
            "others. If it is none, leave these rows out.",
            LayoutWarning,
        )


def has_collapsed(predicted: np.ndarray, given: np.ndarray) -> bool:
    """Tell whether a model predicts few of the classes that the labels have."""
    return are_few(effective_classes(predicted), effective_classes(given))


def are_few(classes: float, usual: float) -> bool:
    """Tell whether an effective number of classes is less than half of what is usual.

    Of two classes that is less than one, which there always is: there it is less than a quarter of
    what there is above one.
    """
    return classes < usual / 2.0 or classes - 1.0 < (usual - 1.0) / 4.0 - 1e-3


def effective_classes(classes: np.ndarray) -> float:
    """Return the exponential of the entropy of how often each class, from 0 on, occurs."""
    share = np.bincount(classes) / len(classes)
    return float(np.exp(-np.sum(share * np.log(share, where=share > 0, out=np.zeros_like(share)))))
