"""What comes into an audit, as arrays of one entry a row: shapes, lengths, missing values."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lossnoise._labels import missing_values, one_dimensional
from lossnoise._pandas import check_aligned, is_pandas
from lossnoise._validation import (
    check_choice,
    invalid_data,
    invalid_parameter,
    miss_one,
    read_array,
    to_numpy,
)
from lossnoise._warnings import warn
from lossnoise.exceptions import LossScaleWarning

FloatArray = NDArray[np.float64]

SOME_ROWS = 1000  # that are looked at first

OWNER = "audit"
ON_NAN = ("drop", "raise")
DROPPED = "on_nan='drop' leaves out rows with NaN"
FEWEST = 10  # losses that a detector can be fitted to


class RowIds(NamedTuple):
    """What names the rows: cells in the order of the labels, and the index that was given."""

    values: np.ndarray
    name: Any
    source: Any

    @classmethod
    def of(cls, owner: str, labels: Any, index: Any, n: int) -> RowIds:
        """Take the index that was given, or that of a pandas Series, or else the positions."""
        if index is None and is_pandas(labels, "Series"):
            index = labels.index
        if index is None:
            return cls(np.arange(n), None, np.arange(n))
        check_aligned(owner, "index", index, labels)
        values = one_dimensional(index)
        if values.shape != (n,):
            expected = f"of length {n}, one entry per label"
            raise invalid_data(owner, "index", expected, f"an array of shape {values.shape}")
        source = index if is_pandas(index, "Index") else values.copy()
        return cls(as_cells(values), getattr(index, "name", None), source)

    def take(self, rows: NDArray[np.intp]) -> RowIds:
        """Return the names of some rows."""
        return RowIds(self.values[rows], self.name, self.source[rows])

    @property
    def header(self) -> str:
        """Return the name of the column that shows the index."""
        return "index" if self.name is None else str(self.name)


class Sources(NamedTuple):
    """The arrays that an audit is made from, of one length; those not given are None."""

    losses: FloatArray | None
    pred_probs: FloatArray | None
    noise_proba: FloatArray | None
    groups: np.ndarray | None

    def take(self, rows: NDArray[np.intp]) -> Sources:
        """Return the same of some rows."""
        return Sources(*(None if array is None else array[rows] for array in self))


def read_sources(
    labels: Any, n: int, *, losses: Any, pred_probs: Any, logits: Any, noise_proba: Any, groups: Any
) -> Sources:
    """Return what was given as arrays of `n` rows; NaN may be among them."""
    if all(source is None for source in (losses, pred_probs, logits, noise_proba)):
        expected = "given, or else 'pred_probs', 'logits' or 'noise_proba'"
        raise invalid_parameter(OWNER, "losses", expected, None)
    if pred_probs is not None and logits is not None:
        got = f"an array of shape {to_numpy(logits).shape}"
        raise invalid_data(OWNER, "logits", "None where 'pred_probs' is given", got)
    named = {"losses": losses, "pred_probs": pred_probs, "logits": logits}
    for name, values in (named | {"noise_proba": noise_proba, "groups": groups}).items():
        check_aligned(OWNER, name, values, labels)
    rows = _table("pred_probs", pred_probs, n, "of probabilities")
    if logits is not None:
        table = _table("logits", logits, n, "of numbers")
        _check_logits(table)
        rows = softmax(table)
    return Sources(
        _read_losses(losses, n), rows, _vector("noise_proba", noise_proba, n), _groups(groups, n)
    )


def complete_rows(labels: np.ndarray, sources: Sources, on_nan: str) -> NDArray[np.intp]:
    """Return the rows to audit: all of them, or those without NaN where that is asked for."""
    if check_choice(OWNER, "on_nan", on_nan, ON_NAN) == "raise":
        return np.arange(len(labels))
    bad = missing_values(labels)
    for array in sources[:3]:
        if array is not None:
            bad |= np.isnan(array.reshape(len(array), -1)).any(axis=1)
    if bad.all():
        got = f"NaN in all {len(bad)} rows"
        raise invalid_data(OWNER, "labels", "of at least one row without NaN", got)
    return np.flatnonzero(~bad)


def check_sources(sources: Sources) -> None:
    """Refuse values that are no losses or no probabilities, with the first row of them."""
    if sources.losses is not None:
        _check_values("losses", sources.losses, np.isfinite(sources.losses), "finite")
    wrong = sources.noise_proba
    if wrong is not None:
        good = (wrong >= 0.0) & (wrong <= 1.0)
        _check_values("noise_proba", wrong, good, "probabilities in [0, 1]")


def check_rows(name: str, rows: FloatArray | None) -> None:
    """Refuse probabilities that are NaN, by the name of what they come from."""
    if rows is not None:
        expected = "numbers with a softmax" if name == "logits" else "probabilities in [0, 1]"
        _check_values(name, rows, ~np.isnan(rows), expected)


def softmax(logits: FloatArray | None) -> FloatArray | None:
    """Return probabilities of logits, row by row; a row with NaN or inf - inf gives NaN."""
    if logits is None:
        return None
    from scipy.special import softmax as scipy_softmax  # slow to load

    with np.errstate(invalid="ignore"):  # inf - inf: said later, with the row
        return np.asarray(scipy_softmax(logits, axis=1))


def as_cells(values: np.ndarray) -> np.ndarray:
    """Return values as people read them: numpy would list dates as counts of nanoseconds."""
    return values.astype(str) if values.dtype.kind in "mM" else values


def own_copy(labels: Any, array: np.ndarray) -> Any:
    """Return a copy of labels that keeps pandas' own dtype: the caller may go on to change them."""
    return labels.copy() if is_pandas(labels, "Series", "Categorical", "Index") else array.copy()


def take_labels(labels: Any, rows: NDArray[np.intp]) -> Any:
    """Return some of the labels that `own_copy` returned."""
    return labels.iloc[rows] if is_pandas(labels, "Series") else labels[rows]


def _read_losses(losses: Any, n: int) -> FloatArray | None:
    if losses is None:
        return None
    table = _numbers("losses", losses, kinds="fiu")
    if table.ndim not in (1, 2) or 0 in table.shape[1:]:
        got = f"an array of shape {table.shape}"
        raise invalid_data(OWNER, "losses", f"of shape ({n},) or ({n}, k)", got)
    return _of_length("losses", table, n)


def _vector(name: str, values: Any, n: int) -> FloatArray | None:
    if values is None:
        return None
    table = _numbers(name, values)
    if table.ndim != 1:
        raise invalid_data(OWNER, name, f"of shape ({n},)", f"an array of shape {table.shape}")
    return _of_length(name, table, n)


def _table(name: str, values: Any, n: int, what: str) -> FloatArray | None:
    if values is None:
        return None
    table = read_array(OWNER, name, values)
    if table.ndim != 2 or table.dtype.kind not in "fiub":
        got = f"an array of shape {table.shape} and dtype {table.dtype}"
        advice = ""
        if table.ndim == 1 and name == "pred_probs":
            advice = "of two classes, np.column_stack([1 - p, p]) has both columns"
        raise invalid_data(OWNER, name, f"a 2-D array {what}", got, advice)
    return _of_length(name, table.astype(np.float64), n)


def _check_logits(logits: FloatArray | None) -> None:
    """Raise where logits are probabilities: another softmax makes nearly equal ones of them."""
    if logits is None or not logits.size or logits.shape[1] < 2:
        return
    _warn_of_votes(logits)
    if logits.min() >= 0.0 and not miss_one(logits).any():
        got = "rows from 0 on that sum to 1"
        advice = "probabilities are passed as pred_probs"
        raise invalid_data(OWNER, "logits", "numbers whose softmax is taken", got, advice)


def _warn_of_votes(logits: FloatArray) -> None:
    """Warn where logits are votes of classifiers of two classes each, as of `SVC`.

    The votes are integers that sum to C (C - 1) / 2 in each row, but for less than a third.
    """
    if _are_votes(logits[:SOME_ROWS]) and _are_votes(logits):
        warn(
            "The rows of 'logits' are votes of classifiers for two classes each, as the "
            "decision_function of SVC returns them: their softmax is no probability. Take "
            "predict_proba instead, such as that of CalibratedClassifierCV.",
            LossScaleWarning,
        )


def _are_votes(logits: FloatArray) -> bool:
    size = logits.shape[1]
    if size < 3 or not np.isfinite(logits).all():
        return False
    votes = np.rint(logits)
    all_sum = bool((votes.sum(axis=1) == size * (size - 1) / 2).all())
    return all_sum and bool(np.abs(logits - votes).max() < 1 / 3)


def _groups(groups: Any, n: int) -> np.ndarray | None:
    if groups is None:
        return None
    array = _of_length("groups", one_dimensional(groups), n)
    if array.ndim == 1 and (missing := missing_values(array)).any():  # a group of their own
        array = array.astype(object)
        array[missing] = None
    return array


def _numbers(name: str, values: Any, kinds: str = "fiub") -> FloatArray:
    table = read_array(OWNER, name, values)
    if table.dtype.kind not in kinds:
        raise invalid_data(OWNER, name, "an array of numbers", f"an array of dtype {table.dtype}")
    return table.astype(np.float64)  # a copy: the report must not change with the caller's array


def _of_length(name: str, table: np.ndarray, n: int) -> np.ndarray:
    if table.shape[:1] != (n,):
        got = f"length {len(table)}" if table.ndim else "a single value"
        raise invalid_data(OWNER, name, f"of length {n}, one entry per label", got)
    return table


def _check_values(name: str, table: np.ndarray, good: np.ndarray, expected: str) -> None:
    if not good.all():
        where = tuple(np.argwhere(~good)[0])
        bad_rows = (~good).reshape(len(good), -1).any(axis=1).sum()
        got = f"{table[where]:.6g} in row {where[0]} ({bad_rows} of {len(table)} rows)"
        advice = DROPPED if np.isnan(table[where]) else ""
        raise invalid_data(OWNER, name, expected, got, advice)
