"""From labels and losses, probabilities or both to an `AuditReport`."""

from __future__ import annotations

import warnings
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lossnoise._history import reduce_history
from lossnoise._labels import encode_labels, label_array, match_classes, one_dimensional
from lossnoise._validation import (
    check_probability_rows,
    invalid_data,
    invalid_parameter,
    to_numpy,
)
from lossnoise.audit._report import AuditReport, RowIds, is_pandas
from lossnoise.exceptions import NoSeparableNoiseWarning

FloatArray = NDArray[np.float64]

_OWNER = "audit"

# A probability of exactly 0 would be an infinite loss. This floor makes it a loss of 27.6, above
# what a probability in float32 gives in practice, and keeps the losses on a usable scale.
MIN_PROBABILITY = 1e-12


def audit(
    labels: Any,
    *,
    losses: ArrayLike | None = None,
    pred_probs: ArrayLike | None = None,
    noise_proba: ArrayLike | None = None,
    index: Any = None,
    detector: Any = "auto",
) -> AuditReport:
    """Find the labels that are likely wrong.

    At least one of `losses`, `pred_probs` and `noise_proba` is needed. They should come from a
    model that did not memorise the labels: held-out predictions, or `NoisyLabelTrainer`.

    Parameters
    ----------
    labels : array-like of shape (n,)
        Labels as given, of any hashable type: list, numpy array, pandas or polars Series,
        tensor. None is a label like any other; NaN is refused.
    losses : array-like of shape (n,) or (n, k), optional
        Loss of each row against its given label, or a history of them with one column an epoch,
        whose mean counts. By default ``-log(p)``, where p is the
        probability of the given label in `pred_probs`, raised to 1e-12 where it is lower.
    pred_probs : array-like of shape (n, C), optional
        Predicted probabilities of the classes, C >= 2. Rows sum to 1 (within 1e-3, and are then
        scaled). Columns are in the order of the sorted unique labels if those are C; else the
        labels must be integers and column j belongs to label j. For labels of a pandas
        categorical dtype, columns are in the order of its C categories, whether they occur or
        not. Labels that cannot be sorted, such as strings mixed with None, are refused here.
    noise_proba : array-like of shape (n,), optional
        Probability that each given label is wrong. By default from a detector fitted to the
        losses, which claims nothing (0) where they look like one population. Where the losses come
        from `pred_probs`, whole rows are known: a label that is the model's own first choice gets
        0, any other the plain posterior of the detector.
    index : array-like of shape (n,), optional
        What names the rows in the report. By default the index of `labels` if that is a pandas
        Series, else the positions from 0.
    detector : {"auto", "beta", "gaussian"} or LossMixtureDetector, default="auto"
        What turns losses into probabilities. "auto" is the family that did best on the benchmarks
        of this library, at present "beta". An instance is cloned.

    Returns
    -------
    report : AuditReport
        The rows, worst first, and a summary.

    Raises
    ------
    InvalidParameterError
        None of the three sources was given, or no such detector exists.
    InvalidDataError
        An argument has the wrong shape or length, a pandas index other than that of the labels,
        is not finite, is not a probability, or the columns of `pred_probs` cannot be matched to
        the labels. Losses must also suit the detector: at least 10.

    Warns
    -----
    NoSeparableNoiseWarning
        The given losses look like one population: they cannot tell right from wrong labels.

    See Also
    --------
    AuditReport : What is returned.

    Examples
    --------
    >>> from lossnoise import audit
    >>> pred_probs = [[0.9, 0.1], [0.2, 0.8], [0.95, 0.05]]
    >>> audit(["cat", "dog", "dog"], pred_probs=pred_probs, noise_proba=[0.1, 0.2, 0.9])
    AuditReport: 1 of 3 labels is likely wrong (mean probability of being wrong: 40.0 %)
    index  given_label  suggested_label     loss  p_noisy  rank
        2          dog              cat  2.99573      0.9     1
        1          dog              cat 0.223144      0.2     2
        0          cat              dog 0.105361      0.1     3
    """
    if losses is None and pred_probs is None and noise_proba is None:
        expected = "given, or else 'pred_probs' or 'noise_proba'"
        raise invalid_parameter(_OWNER, "losses", expected, None)
    from lossnoise.detectors._choice import make_detector  # scikit-learn: slow to load

    finder = make_detector(_OWNER, detector)
    given = label_array(_OWNER, labels)
    ids = RowIds.of(_OWNER, labels, index, len(given))
    for name, values in (
        ("losses", losses),
        ("pred_probs", pred_probs),
        ("noise_proba", noise_proba),
    ):
        _check_aligned(name, values, labels)
    checked_losses = None if losses is None else _check_losses(losses, len(given))
    wrong = None if noise_proba is None else _check_noise_proba(noise_proba, len(given))
    suggested = None
    if pred_probs is not None:
        columns = _match_columns(pred_probs, labels, given)
        suggested = columns.classes[suggest(columns.probs, columns.codes)]
        if checked_losses is None:
            checked_losses = losses_from_probs(columns.probs, columns.codes)
            wrong = _detect_in_rows(finder, checked_losses, columns) if wrong is None else wrong
    if wrong is None:
        assert checked_losses is not None  # one of the three was given
        wrong = _detect(finder, checked_losses)
    return AuditReport(
        # A copy, because the caller may go on to change the labels; of pandas' own, for its dtype.
        labels.copy() if is_pandas(labels, "Series", "Categorical", "Index") else given.copy(),
        noise_proba=wrong,
        losses=_last_losses(checked_losses, len(given)),
        suggested_labels=suggested,
        row_ids=ids,
    )


# -- pure functions ---------------------------------------------------------------------------


def losses_from_probs(pred_probs: FloatArray, codes: NDArray[np.intp]) -> FloatArray:
    """Return ``-log(p[given])``, with p raised to at least `MIN_PROBABILITY`."""
    given = pred_probs[np.arange(len(codes)), codes]
    return np.asarray(-np.log(np.maximum(given, MIN_PROBABILITY)))


def suggest(pred_probs: FloatArray, codes: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return the most probable class other than the given one; of equals the first."""
    others = pred_probs.copy()
    others[np.arange(len(codes)), codes] = -1.0  # below every probability
    return np.asarray(others.argmax(axis=1))


def _detect(finder: Any, losses: FloatArray) -> FloatArray:
    """Return P(wrong) from losses alone, and say where they cannot tell."""
    proba = np.asarray(_fit_silently(finder, losses).predict_proba(losses)[:, 1])
    if not finder.separable_:
        warnings.warn(
            "Cannot tell right from wrong labels from these losses: they look like one "
            "population, which is no proof that the labels are right. p_noisy is 0 throughout; "
            "rows are ranked by their loss.",
            NoSeparableNoiseWarning,
            stacklevel=3,
        )
    return proba


def _detect_in_rows(finder: Any, losses: FloatArray, columns: _Columns) -> FloatArray:
    """Return P(wrong) where whole rows of probabilities are known.

    They say more than the losses alone: a label that the model itself would have given is not
    suspicious. With them, the plain posterior is nearer to the truth than nothing at all where
    the losses look like one population.
    """
    first_choice = columns.probs.argmax(axis=1) == columns.codes
    return np.where(first_choice, 0.0, _fit_silently(finder, losses).posterior(losses))


def _fit_silently(finder: Any, losses: FloatArray) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NoSeparableNoiseWarning)
        return finder.fit(losses)


def _last_losses(losses: FloatArray | None, n: int) -> FloatArray:
    return np.full(n, np.nan) if losses is None else reduce_history(losses)


# -- what came in -----------------------------------------------------------------------------


class _Columns(NamedTuple):
    classes: np.ndarray
    codes: NDArray[np.intp]
    probs: FloatArray


def _match_columns(pred_probs: ArrayLike, labels: Any, given: np.ndarray) -> _Columns:
    probs = check_probability_rows(_OWNER, "pred_probs", pred_probs)
    _check_length("pred_probs", probs, len(given))
    if is_pandas(getattr(labels, "dtype", None), "CategoricalDtype"):
        return _match_categories(probs, labels.cat if is_pandas(labels, "Series") else labels)
    classes, codes = encode_labels(given)
    _check_sorted(classes)
    _check_column_names(pred_probs, classes)
    matched = match_classes(classes, codes, probs.shape[1])
    if matched is None or probs.shape[1] < 2:
        expected = (
            f"one column for each of the {len(classes)} labels that occur, or, for integer labels, "
            "a column j for each label j, and at least two columns"
        )
        raise invalid_data(_OWNER, "pred_probs", expected, f"an array of shape {probs.shape}")
    return _Columns(*matched, probs)


def _check_aligned(name: str, values: Any, labels: Any) -> None:
    """Refuse pandas objects whose rows are in another order than those of the labels."""
    if not (is_pandas(labels, "Series") and is_pandas(values, "Series", "DataFrame")):
        return
    if not values.index.equals(labels.index):
        expected = f"in the order of the labels; align it with {name}.loc[labels.index], or pass"
        raise invalid_data(_OWNER, name, f"{expected} an array", "another index")


def _check_column_names(pred_probs: Any, classes: np.ndarray) -> None:
    """Refuse a table whose columns are the labels by name, in another order."""
    if not is_pandas(pred_probs, "DataFrame"):
        return
    names, wanted = list(pred_probs.columns), classes.tolist()
    if names != wanted and set(names) == set(wanted):
        raise invalid_data(_OWNER, "pred_probs", f"in the column order {wanted}", str(names))


def _match_categories(probs: FloatArray, categorical: Any) -> _Columns:
    categories = one_dimensional(categorical.categories)
    if probs.shape[1] != len(categories) or probs.shape[1] < 2:
        expected = (
            f"one column for each of the {len(categories)} categories of the labels, "
            "and at least two columns"
        )
        raise invalid_data(_OWNER, "pred_probs", expected, f"an array of shape {probs.shape}")
    return _Columns(categories, np.asarray(categorical.codes, dtype=np.intp), probs)


def _check_sorted(classes: np.ndarray) -> None:
    """Refuse classes without one order: nothing would tell which column is whose."""
    try:
        ordered = classes.dtype.kind != "O" or all(a < b for a, b in pairwise(classes))
    except TypeError:
        ordered = False
    if not ordered:
        expected = (
            "of one type that can be sorted, or integers 0, ..., C - 1, where 'pred_probs' is "
            "given: its columns are in the order of the sorted labels"
        )
        types = ", ".join(sorted({type(label).__name__ for label in classes}))
        raise invalid_data(_OWNER, "labels", expected, f"labels of type {types}")


def _check_losses(losses: ArrayLike, n: int) -> FloatArray:
    table = _numbers("losses", losses)
    if table.ndim not in (1, 2) or 0 in table.shape[1:]:
        got = f"an array of shape {table.shape}"
        raise invalid_data(_OWNER, "losses", f"of shape ({n},) or ({n}, k)", got)
    _check_length("losses", table, n)
    _check_values("losses", table, np.isfinite(table), "finite")
    return table


def _check_noise_proba(noise_proba: ArrayLike, n: int) -> FloatArray:
    table = _numbers("noise_proba", noise_proba)
    if table.ndim != 1:
        got = f"an array of shape {table.shape}"
        raise invalid_data(_OWNER, "noise_proba", f"of shape ({n},)", got)
    _check_length("noise_proba", table, n)
    _check_values("noise_proba", table, (table >= 0.0) & (table <= 1.0), "probabilities in [0, 1]")
    return table


def _numbers(name: str, values: ArrayLike) -> FloatArray:
    table = to_numpy(values)
    if table.dtype.kind not in "fiub":
        got = f"an array of dtype {table.dtype}"
        raise invalid_data(_OWNER, name, "an array of numbers", got)
    return table.astype(np.float64)  # a copy: the report must not change with the caller's array


def _check_length(name: str, table: np.ndarray, n: int) -> None:
    if len(table) != n:
        expected = f"of length {n}, one entry per label"
        raise invalid_data(_OWNER, name, expected, f"length {len(table)}")


def _check_values(name: str, table: np.ndarray, good: np.ndarray, expected: str) -> None:
    if not good.all():
        where = tuple(np.argwhere(~good)[0])
        bad_rows = (~good).reshape(len(good), -1).any(axis=1).sum()
        got = f"{table[where]:.6g} in row {where[0]} ({bad_rows} of {len(table)} rows)"
        raise invalid_data(_OWNER, name, expected, got)
