"""`AuditReport`: one summary and thin renderers (text, table, CSV)."""

from __future__ import annotations

import csv
import os
import sys
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lossnoise._files import atomic_open
from lossnoise._labels import encode_labels, one_dimensional
from lossnoise._validation import invalid_data, require_extra

if TYPE_CHECKING:
    import pandas as pd

FloatArray = NDArray[np.float64]

COLUMNS = ("given_label", "suggested_label", "loss", "p_noisy", "is_label_issue", "rank")

# A label is an issue where it is more likely wrong than right.
THRESHOLD = 0.5

_ROWS_SHOWN = 5


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
        values = one_dimensional(index)
        if values.shape != (n,):
            expected = f"of length {n}, one entry per label"
            raise invalid_data(owner, "index", expected, f"an array of shape {values.shape}")
        source = index if is_pandas(index, "Index") else values.copy()
        return cls(_cells(values), getattr(index, "name", None), source)

    @property
    def header(self) -> str:
        """Return the name of the column that shows the index."""
        return "index" if self.name is None else str(self.name)


class AuditReport:
    """The rows whose labels are likely wrong, worst first; made by `audit`.

    Rows are ranked by the probability that their label is wrong, ties by loss, further ties by
    position. A row is a label issue where that probability is above .5.

    Parameters
    ----------
    labels : array-like of shape (n,)
        Labels as given: an array, or a pandas Series or Categorical, whose dtype `table` keeps.
    noise_proba : ndarray of shape (n,), float64
        Probability that each label is wrong.
    losses : ndarray of shape (n,), float64
        Loss of each row; NaN where it is not known.
    suggested_labels : ndarray of shape (n,), optional
        The most probable label other than the given one. None if nothing can be suggested.
    row_ids : RowIds
        What names the rows.

    Attributes
    ----------
    noise_proba : ndarray of shape (n,), float64
        Probability that each label is wrong, in the order of the labels.
    losses : ndarray of shape (n,), float64
        Losses in the order of the labels.
    order : ndarray of shape (n,), intp
        Positions of all rows, worst first.
    noisy_indices : ndarray of shape (n_issues,), intp
        Positions of the label issues, worst first.
    summary : dict
        Headline figures.
    table : pandas.DataFrame
        One line a row, worst first.

    Examples
    --------
    >>> from lossnoise import audit
    >>> report = audit([0, 1, 1, 0], noise_proba=[0.1, 0.9, 0.2, 0.7], losses=[0.1, 5, 0.3, 2])
    >>> report.noisy_indices
    array([1, 3])
    >>> report.summary["num_issues"]
    2
    """

    def __init__(
        self,
        labels: Any,
        *,
        noise_proba: FloatArray,
        losses: FloatArray,
        suggested_labels: np.ndarray | None,
        row_ids: RowIds,
    ) -> None:
        self.noise_proba = noise_proba
        self.losses = losses
        self.order = rank_order(noise_proba, losses)
        self._labels = labels
        self._given = one_dimensional(labels)
        self._suggested = suggested_labels
        self._ids = row_ids

    @property
    def noisy_indices(self) -> NDArray[np.intp]:
        """Return the positions of the rows whose label is more likely wrong than right."""
        return self.order[self.noise_proba[self.order] > THRESHOLD]

    @cached_property
    def summary(self) -> dict[str, Any]:
        """Return the headline figures as plain Python values.

        ``n``, ``noise_rate`` (the mean probability of a wrong label), ``num_issues`` (rows above
        the ``threshold``), and ``per_class``: a list of dicts with ``label``, ``n``,
        ``noise_rate`` and ``num_issues``, in the order of the classes.
        """
        return summarise(self._given, self.noise_proba)

    @cached_property
    def table(self) -> pd.DataFrame:
        """Return one line a row, worst first, with the index and the dtypes that were given.

        Columns: ``given_label``, ``suggested_label`` (NA where nothing is suggested), ``loss``,
        ``p_noisy``, ``is_label_issue``, ``rank`` (from 1). Needs the ``audit`` extra (pandas).
        """
        require_extra("pandas", "audit", "AuditReport.table")
        from lossnoise.audit._table import build_table

        columns = {
            "given_label": self._labels,
            "suggested_label": self._suggested,
            "loss": self.losses,
            "p_noisy": self.noise_proba,
            "is_label_issue": self.noise_proba > THRESHOLD,
        }
        return build_table(columns, self.order, self._ids.source, self._ids.name)

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write the table as a CSV file in UTF-8, the index as its first column.

        The file is written whole or not at all. Needs no pandas.

        Parameters
        ----------
        path : str or path-like
            Where to write; a file there is replaced.
        """
        with atomic_open(path, newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow([self._ids.header, *COLUMNS])
            writer.writerows(self._rows(self.order))

    def __len__(self) -> int:
        return len(self._given)

    def __repr__(self) -> str:
        n, flagged = self.summary["n"], self.summary["num_issues"]
        verb = "is" if flagged == 1 else "are"
        rate = 100.0 * self.summary["noise_rate"]
        headline = (
            f"AuditReport: {flagged:,} of {n:,} labels {verb} likely wrong "
            f"(mean probability of being wrong: {rate:.1f} %)"
        )
        shown = [self._text_row(row) for row in self._rows(self.order[:_ROWS_SHOWN])]
        header = [self._ids.header, *(c for c in COLUMNS if c != "is_label_issue")]
        more = [f"... and {n - len(shown):,} more"] if n > len(shown) else []
        return "\n".join([headline, *_align([header, *shown]), *more])

    def _rows(self, positions: NDArray[np.intp]) -> Iterator[tuple[Any, ...]]:
        """Yield the cells of the rows at `positions`, which begin with the worst row."""
        nothing = [None] * len(positions)
        wrong = self.noise_proba[positions]
        losses = self.losses[positions]
        return zip(
            self._ids.values[positions].tolist(),
            _cells(self._given[positions]).tolist(),
            nothing if self._suggested is None else _cells(self._suggested[positions]).tolist(),
            nothing if np.isnan(losses).any() else losses.tolist(),
            wrong.tolist(),
            (wrong > THRESHOLD).tolist(),
            range(1, len(positions) + 1),
            strict=True,
        )

    def _text_row(self, row: tuple[Any, ...]) -> list[str]:
        index, given, suggested, loss, wrong, _, rank = row
        suggestion = "NA" if self._suggested is None else str(suggested)
        shown_loss = "NA" if loss is None else f"{loss:.6g}"
        return [str(index), str(given), suggestion, shown_loss, f"{wrong:.4g}", str(rank)]


def rank_order(noise_proba: FloatArray, losses: FloatArray) -> NDArray[np.intp]:
    """Return all positions, worst first: by probability, ties by loss, then by position."""
    return np.lexsort((-losses, -noise_proba))  # stable; the last key counts most


def summarise(labels: np.ndarray, noise_proba: FloatArray) -> dict[str, Any]:
    """Return the headline figures of an audit as plain Python values."""
    classes, codes = encode_labels(labels)
    issues = noise_proba > THRESHOLD
    sizes = np.bincount(codes, minlength=len(classes))
    flagged = np.bincount(codes, weights=issues, minlength=len(classes))
    rates = np.bincount(codes, weights=noise_proba, minlength=len(classes)) / sizes
    per_class = zip(classes.tolist(), sizes, rates, flagged, strict=True)
    return {
        "n": len(labels),
        "noise_rate": float(noise_proba.mean()),
        "num_issues": int(issues.sum()),
        "threshold": THRESHOLD,
        "per_class": [
            {"label": label, "n": int(n), "noise_rate": float(rate), "num_issues": int(count)}
            for label, n, rate, count in per_class
        ],
    }


def is_pandas(values: object, *types: str) -> bool:
    """Return whether `values` is of one of these pandas types, without importing pandas."""
    pandas = sys.modules.get("pandas")  # an object of its types exists only once it is loaded
    return pandas is not None and isinstance(values, tuple(getattr(pandas, t) for t in types))


def _cells(values: np.ndarray) -> np.ndarray:
    """Return values as people read them: numpy would list dates as counts of nanoseconds."""
    return values.astype(str) if values.dtype.kind in "mM" else values


def _align(rows: Iterable[list[str]]) -> list[str]:
    lines = list(rows)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return ["  ".join(c.rjust(w) for c, w in zip(line, widths, strict=True)) for line in lines]
