"""Which rows are predicted by a model that learns from which others."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterable
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import KFold, StratifiedGroupKFold, StratifiedKFold

from lossnoise._labels import encode_labels
from lossnoise._losses import MIN_PROBABILITY
from lossnoise._validation import check_int, invalid_data, invalid_parameter
from lossnoise._warnings import warn
from lossnoise.cross_val._labels import OWNER, Labels
from lossnoise.exceptions import SmallClassWarning

Rows = NDArray[np.intp]


class Fold(NamedTuple):
    """Positions of the rows that a model learns from, and of those that it predicts."""

    train: Rows
    test: Rows


def make_folds(cv: Any, X: Any, labels: Labels, groups: np.ndarray | None, seed: int) -> list[Fold]:
    """Return folds in which each row is predicted once, from other groups, or raise."""
    size = len(labels.codes)
    splits = _split(cv, X, labels, groups, seed)
    folds = [_read_fold(split, number, size) for number, split in enumerate(splits, 1)]
    _check_each_row_once(folds, size)
    if groups is not None:
        _check_groups_together(folds, groups)
    _warn_of_unseen_classes(folds, labels)
    return folds


def _split(cv: Any, X: Any, labels: Labels, groups: np.ndarray | None, seed: int) -> Iterable[Any]:
    if isinstance(cv, Integral):
        return _stratified(cv, labels, groups, seed)
    if hasattr(cv, "split") and not isinstance(cv, (str, type)):
        splits: Iterable[Any] = seeded_splitter(cv, seed).split(X, labels.targets, groups)
        return splits
    if isinstance(cv, Iterable) and not isinstance(cv, str):
        return iter(cv)
    expected = "an int, a splitter of scikit-learn, or an iterable of pairs (train, test)"
    raise invalid_parameter(OWNER, "cv", expected, cv)


def _stratified(cv: Any, labels: Labels, groups: np.ndarray | None, seed: int) -> Iterable[Any]:
    """Return `cv` folds with about the same share of each class, as far as groups allow it."""
    together = None if groups is None else encode_labels(groups)[1]
    _check_number(cv, len(labels.codes), together)
    classes, largest = labels.codes, int(np.bincount(labels.codes).max())
    kind = StratifiedKFold if groups is None else StratifiedGroupKFold
    if largest < cv:  # scikit-learn refuses to stratify
        warn(
            f"No class has as many rows as there are folds ({cv}): the largest has {largest}. "
            "The folds are drawn without regard to the classes.",
            SmallClassWarning,
        )
        classes = np.zeros_like(classes)
        kind = KFold if groups is None else StratifiedGroupKFold
    with warnings.catch_warnings():  # of classes with fewer rows: what follows is said later
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        splitter = kind(cv, shuffle=True, random_state=seed)
        folds: list[Any] = list(splitter.split(classes, classes, together))
        return folds


def _check_number(cv: Any, size: int, together: NDArray[np.intp] | None) -> None:
    """Raise where there are fewer rows, or groups of them, than folds."""
    most, reason = size, f"'X' has {size} rows"
    if together is not None:
        most = int(together.max()) + 1
        reason = f"'groups' has {most} of them"
    if check_int(OWNER, "cv", cv, 2) > most:
        expected = f"an int in the range [2, {most}], as {reason}"
        raise invalid_parameter(OWNER, "cv", expected, cv)


def seeded_splitter(splitter: Any, seed: int) -> Any:
    """Return a splitter that draws from `seed` where it would draw from a global generator."""
    if getattr(splitter, "random_state", seed) is not None:
        return splitter
    seeded = copy.copy(splitter)
    seeded.random_state = seed
    return seeded


def _read_fold(split: Any, number: int, size: int) -> Fold:
    """Return a split as a fold: of positions, or of masks of `size` rows."""
    try:
        train, test = split
    except (TypeError, ValueError):
        expected = "an iterable of pairs (train, test)"
        got = f"a {type(split).__name__} as split {number}"
        raise invalid_data(OWNER, "cv", expected, got) from None
    fold = Fold(_read_rows(train, number, size), _read_rows(test, number, size))
    shared = len(np.intersect1d(fold.train, fold.test))
    if shared:
        expected = "splits whose models have not seen the rows that they predict"
        got = f"{shared} of {size} rows in both parts of split {number}"
        raise invalid_data(OWNER, "cv", expected, got)
    if len(fold.train) == 0:
        raise invalid_data(OWNER, "cv", "splits with rows to learn from", f"none in split {number}")
    return fold


def _read_rows(part: Any, number: int, size: int) -> Rows:
    rows = np.asarray(part)
    if rows.dtype.kind == "b" and rows.shape == (size,):
        return np.flatnonzero(rows)
    if rows.size == 0:
        return np.zeros(0, dtype=np.intp)
    if rows.ndim != 1 or rows.dtype.kind not in "iu" or rows.min() < 0 or rows.max() >= size:
        expected = f"splits of positions in the range [0, {size})"
        got = f"an array of shape {rows.shape} and dtype {rows.dtype}"
        if rows.ndim == 1 and rows.dtype.kind in "iu":
            got = f"positions from {rows.min()} to {rows.max()}"
        raise invalid_data(OWNER, "cv", expected, f"{got} in split {number}")
    return rows.astype(np.intp)


def _check_each_row_once(folds: list[Fold], size: int) -> None:
    times = np.zeros(size, dtype=np.intp)
    for fold in folds:
        np.add.at(times, fold.test, 1)
    if (times != 1).any():
        row = int(np.flatnonzero(times != 1)[0])
        expected = "splits that predict every row once"
        never, often = (times == 0).sum(), (times > 1).sum()
        got = f"{never} of {size} rows never and {often} more than once, such as row {row},"
        advice = ""
        if not often:
            advice = (
                "where the first of a time series can have none, predict the others by yourself, "
                "and leave the first to on_nan='drop' of audit"
            )
        raise invalid_data(OWNER, "cv", expected, got, advice)


def _check_groups_together(folds: list[Fold], groups: np.ndarray) -> None:
    """Raise where a model has seen rows of a group that it predicts: a splitter may ignore it."""
    names, codes = encode_labels(groups)
    for number, fold in enumerate(folds, 1):
        divided = np.intersect1d(codes[fold.train], codes[fold.test])
        if len(divided):
            expected = "splits that keep the rows of each group together, where 'groups' are given"
            example = f"such as {names[divided[:1]].tolist()[0]!r}"
            got = (
                f"{len(divided)} of {len(names)} groups in both parts of split {number}, {example},"
            )
            raise invalid_data(OWNER, "cv", expected, got)


def _warn_of_unseen_classes(folds: list[Fold], labels: Labels) -> None:
    """Warn of rows whose class no model that predicts them has seen."""
    unseen = np.concatenate(
        [fold.test[~np.isin(labels.codes[fold.test], labels.codes[fold.train])] for fold in folds]
    )
    if len(unseen) == 0:
        return
    rare = labels.classes[np.unique(labels.codes[unseen])].tolist()
    shown = ", ".join(map(repr, rare[:5])) + (", ..." if len(rare) > 5 else "")
    warn(
        f"Labels that a model had not seen when it predicted rows that have them: {shown}. The "
        f"loss of these {len(unseen)} of {len(labels.codes)} rows is the largest there is "
        f"({-np.log(MIN_PROBABILITY):.1f}), whatever they look like.",
        SmallClassWarning,
    )
