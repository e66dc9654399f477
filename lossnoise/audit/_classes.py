"""Which column of predicted probabilities belongs to which label."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lossnoise._labels import (
    as_list,
    check_sorted,
    counted_classes,
    counting_labels,
    encode_labels,
    object_array,
    one_dimensional,
    warn_of_unlabelled,
)
from lossnoise._names import check_order, spelling, without_name
from lossnoise._pandas import is_pandas
from lossnoise._validation import check_probability_rows, invalid_data
from lossnoise._warnings import warn
from lossnoise.audit._inputs import OWNER, FloatArray
from lossnoise.exceptions import LayoutWarning, NewLabelWarning, RenormalizedWarning

# Rows of float32 probabilities miss a sum of 1 by about 1e-7.
ROUNDING = 1e-5

# Columns look as if they were in another order where so many labels, and twice as many as now,
# would be the most probable class of their row in it, and so much of what chance leaves (Cohen's
# kappa): two that give one class to most rows agree on most of them by chance.
OFTEN = 0.5
BEYOND_CHANCE = 0.3
FEW = 10  # rows a class: with fewer, some order fits by chance
MOST_ORDERED = 1000  # classes whose orders are compared
FEWEST_RANKED, UNRELATED = 50, 0.1  # rows, and rank correlation of losses and -log p
REVERSED = -0.3  # the same of P(wrong)
BY_NUMBER = "bring the columns into that of the numbers"
NEARLY_THE_SAME = "labels differ by case, spaces or how characters or numbers are written only"
CERTAIN = 1.0 - 1e-9  # a probability of 1, but for rounding

TO_DO_WITHOUT_COLUMN = (
    "correct a label that is misspelt, leave out rows of one that the model does not know, or give "
    "it a column of zeros"
)


@dataclass(frozen=True)
class Columns:
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

    @cached_property
    def first(self) -> NDArray[np.intp]:
        """Return the model's first choice: the most probable column of each row."""
        return np.asarray(self.probs.argmax(axis=1))

    @cached_property
    def contradicted(self) -> NDArray[np.bool_]:
        """Return which labels the model gives less probability than another one.

        One of several that are the most probable is as much a first choice as the others.
        """
        return np.asarray(self.given < self.probs.max(axis=1))

    @property
    def given(self) -> FloatArray:
        """Return the probability of each given label."""
        return np.asarray(self.probs[np.arange(len(self.codes)), self.codes])

    @cached_property
    def choices(self) -> Choices:
        """Return how these and the given labels go together."""
        return Choices.of(self)

    def scaled(self) -> Columns:
        """Return rows that sum to 1."""
        return replace(self, probs=self.probs / self.probs.sum(axis=1, keepdims=True))


class Choices(NamedTuple):
    """What labels and first choices, the most probable class of each row, are together.

    Attributes
    ----------
    table : ndarray of shape (C, C), int64
        How often each label (row) has each class as its first choice (column); of shape (0, 0)
        where the classes are too many to compare their orders.
    n, certain, mistaken : int
        Rows, those with a probability of 1, and of these the ones with another label.
    """

    table: NDArray[np.int64] = np.zeros((0, 0), dtype=np.int64)
    n: int = 0
    certain: int = 0
    mistaken: int = 0

    @classmethod
    def of(cls, columns: Columns) -> Choices:
        """Count rows."""
        size, first = len(columns.classes), columns.first
        certain = columns.probs[np.arange(len(first)), first] > CERTAIN
        mistaken = int(np.count_nonzero(first[certain] != columns.codes[certain]))
        table = cls().table
        if size <= MOST_ORDERED:
            pairs = np.ravel_multi_index((columns.codes, first), (size, size))
            table = np.bincount(pairs, minlength=size * size).reshape(size, size)
        return cls(table, len(first), int(np.count_nonzero(certain)), mistaken)

    def plus(self, other: Choices) -> Choices:
        """Return the counts of other rows as well."""
        table = self.table + other.table if self.n else other.table
        return Choices(table, *(a + b for a, b in zip(self[1:], other[1:], strict=True)))

    @property
    def votes(self) -> float:
        """Return how many labels a prediction counts, if a share of them is wrong at random.

        A prediction is certain where all k labels that it counts are the same. Where a share r of
        all is wrong, so it is in (1 - r)^k of the rows, of whose own labels r are wrong too.
        """
        if not self.mistaken:
            return math.inf
        if self.mistaken == self.certain:
            return 0.0
        return math.log(self.certain / self.n) / math.log1p(-self.mistaken / self.certain)


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
        if class_names is None:
            _check_named(header, classes, codes)
    else:
        _check_header(header, class_names)
    if class_names is not None:
        _check_width(probs, len(class_names), "one column for each of the {} class names")
        return Columns(*_match_names(classes, codes, class_names), probs)
    expected = (
        "of one type that can be sorted where 'pred_probs' is given: its columns are in the "
        "order of the sorted labels, or of 'class_names'"
    )
    check_sorted(OWNER, "labels", classes, expected)
    _check_header(header, classes.tolist())
    if probs.shape[1] != len(classes) or len(classes) < 2:
        expected = (
            f"one column for each of the {len(classes)} labels that occur, and at least two: for "
            "others, 'class_names' gives the labels of the columns"
        )
        got = f"an array of shape {probs.shape}"
        alike = _alike(classes.tolist())
        advice = TO_DO_WITHOUT_COLUMN if probs.shape[1] < len(classes) else ""
        advice = f"some {NEARLY_THE_SAME}: {alike}" if alike else advice
        raise invalid_data(OWNER, "pred_probs", expected, got, advice)
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


class SureNames(list[Any]):
    """Class names, read, whose order is certain or was looked at already."""


def read_class_names(class_names: Any) -> list[Any] | None:
    """Return class names as a list of distinct values."""
    if class_names is None or isinstance(class_names, SureNames):
        return class_names
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
    advice = TO_DO_WITHOUT_COLUMN
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


def warn_of_order(
    classes: np.ndarray, counts: NDArray[np.int64], remedy: str = "pass it as class_names"
) -> str:
    """Warn where most labels would be the first choice with the columns in another order.

    Of all labels, or of those that change their places among themselves. What is said of them in a
    report is returned, nothing where they are as they should be.
    """
    if counts.sum() < FEW * len(classes):
        return ""
    from scipy.optimize import linear_sum_assignment  # slow to load

    by_chance = np.outer(counts.sum(axis=1), counts.sum(axis=0) / counts.sum())
    order = linear_sum_assignment(counts - by_chance, maximize=True)[1]
    swaps = (cycle for cycle in _cycles(order) if _are_moved(counts, by_chance, order, cycle))
    moved = [place for cycle in swaps for place in cycle]
    if not moved:
        return ""
    rows = counts[moved].sum()
    agreed, best = counts[moved, moved].sum() / rows, counts[moved, order[moved]].sum() / rows
    every = len(moved) == len(classes)
    which = "the labels" if every else f"the labels {_some(classes[sorted(moved)])}"
    found = (
        f"Only {agreed:.0%} of {which} are the most probable class of their row, and {best:.0%} "
        "would be if the columns were in another order"
    )
    warn(
        f"{found}: they are taken for those of {_some(classes)}. Is it another one, such as that "
        f"of a classifier's classes_, {remedy}.",
        LayoutWarning,
    )
    return f"{found}."


def rank_correlation(losses: FloatArray, probs: FloatArray) -> float:
    """Return how losses rise as the probability of the given label falls, from -1 to 1.

    NaN where that cannot be known: of few rows, and where either is the same in all.
    """
    first, second = (
        np.unique(values, return_inverse=True)[1].astype(np.float64) for values in (losses, -probs)
    )
    if len(losses) < FEWEST_RANKED or not (first.any() and second.any()):
        return math.nan
    return float(np.corrcoef(first, second)[0, 1])


def warn_of_reversed(wrong: FloatArray, columns: Columns) -> None:
    """Warn where P(wrong) is high for the labels that the probabilities speak for.

    But for those of which it is certain: somebody has reviewed them.
    """
    guessed = (wrong > 0.0) & (wrong < 1.0)
    found = rank_correlation(wrong[guessed], columns.given[guessed])
    if found < REVERSED:
        warn(
            "noise_proba is high where the probability of the given label is high (rank "
            f"correlation {found:.2f} with -log p): is it how likely each label is right, as "
            "scores of label quality are? Then pass 1 - noise_proba.",
            LayoutWarning,
        )


def warn_of_other_rows(losses: FloatArray, columns: Columns) -> None:
    """Warn where losses do not rise as the probability of the given label falls."""
    found = rank_correlation(losses, columns.given)
    if found < UNRELATED:
        warn(
            "The losses have little to do with the probabilities of the given labels (rank "
            f"correlation {found:.2f} with -log p): are both of the same rows, in the same order? "
            "Suggestions go by the probabilities, all else by the losses or what was made of them.",
            LayoutWarning,
        )


def warn_of_labels(labels: list[Any]) -> None:
    """Warn where labels are nearly the same, or one of them says that there is none."""
    warn_of_spellings(labels)
    warn_of_unlabelled(labels)


def warn_of_spellings(labels: Iterable[Any]) -> None:
    """Warn where labels are nearly the same: they are classes of their own.

    Those of letters, elements or genotypes do so on purpose: the warning leaves that open.
    """
    if alike := _alike(labels):
        warn(
            f"Some {NEARLY_THE_SAME}, and count as different classes: {alike}. Unless they differ "
            "on purpose, as symbols do, write them alike, such as by pandas' "
            "labels.str.normalize('NFKC').str.strip().str.lower(), before they are audited.",
            NewLabelWarning,
        )


def _alike(labels: Iterable[Any]) -> str:
    """Return labels that are nearly the same, or nothing."""
    spellings: dict[str, list[str]] = {}
    for label in labels:
        if isinstance(label, str):
            spellings.setdefault(spelling(label), []).append(label)
    found = [" and ".join(_told_apart(s)) for s in spellings.values() if len(s) > 1]
    return "; ".join([*found[:3], *["..."] * (len(found) > 3)])


def _told_apart(labels: list[str]) -> Iterator[str]:
    """Yield texts as they are written, in codes where some would look the same."""
    composed = {unicodedata.normalize("NFC", label) for label in labels}
    return map(repr if len(composed) == len(labels) else ascii, sorted(map(str, labels)))


def _some(classes: np.ndarray) -> str:
    return ", ".join(map(repr, as_list(classes[:5]))) + (", ..." if len(classes) > 5 else "")


def _cycles(order: NDArray[np.intp]) -> Iterator[list[int]]:
    """Yield the places that a permutation exchanges, those of each cycle together."""
    left = set(np.flatnonzero(order != np.arange(len(order))).tolist())
    while left:
        cycle = [min(left)]
        while (following := int(order[cycle[-1]])) != cycle[0]:
            cycle.append(following)
        left -= set(cycle)
        yield cycle


def _are_moved(
    counts: NDArray[np.int64], by_chance: FloatArray, order: NDArray[np.intp], cycle: list[int]
) -> bool:
    """Tell whether most labels of a cycle are the first choice in its order, and few are now."""
    rows = counts[cycle].sum()
    if rows < FEW * len(cycle):
        return False
    agreed = counts[cycle, cycle].sum() / rows
    best, chance = (table[cycle, order[cycle]].sum() / rows for table in (counts, by_chance))
    return bool(best > max(OFTEN, 2.0 * agreed) and best - chance > BEYOND_CHANCE * (1.0 - chance))


def _header_of(table: Any) -> list[Any]:
    """Return the names of the columns of a data frame of pandas or polars, or a table of Arrow."""
    if is_pandas(table, "DataFrame"):
        return list(table.columns)
    names = getattr(table, "column_names", getattr(table, "columns", None))
    return list(names) if isinstance(names, list) else []


def are_named(header: Any, classes: np.ndarray) -> bool:
    """Tell whether a table's columns have the names of the classes; numbers come by themselves."""
    names = _header_of(header)
    return names == as_list(classes) and all(isinstance(name, str) for name in names)


def order_remedy(names: list[Any] | None, classes: np.ndarray) -> str:
    """Return what to do where columns are in another order than they are taken to be."""
    if names is None:
        return "pass it as class_names"
    are_labels = set(as_list(classes)) <= set(names)  # or they are shown in the place of numbers
    return "class_names must be in it" if are_labels else BY_NUMBER


def _names_of_header(names: list[Any], classes: np.ndarray) -> list[Any] | None:
    """Return the names of a table's columns, where they are the labels and some more."""
    return names if len(names) > len(classes) and set(classes.tolist()) < set(names) else None


def _check_named(names: list[Any], classes: np.ndarray, codes: NDArray[np.intp]) -> None:
    """Refuse columns that are named by labels, but not by all: the others would be mistaken."""
    labels = as_list(classes)
    if missing := without_name(labels, names):
        rows = np.flatnonzero(codes == labels.index(missing[0]))
        expected = "a table with a column for each label that occurs, as they are named by labels"
        got = f"none for {missing[0]!r} (rows: {len(rows):,}, the first: {rows[0]})"
        raise invalid_data(OWNER, "pred_probs", expected, got, TO_DO_WITHOUT_COLUMN)


def _check_header(names: list[Any], wanted: list[Any]) -> None:
    """Refuse columns that are the labels by name, loosely at least, in another order."""
    check_order(OWNER, "pred_probs", "column", names, wanted)
