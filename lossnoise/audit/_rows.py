"""What is known of each audited row, as arrays, columns and cells."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lossnoise.audit._inputs import FloatArray, RowIds, as_cells
from lossnoise.audit._summary import THRESHOLD


class Row(NamedTuple):
    """One row of a report, as plain Python values; None where something is not known."""

    index: Any
    given_label: Any
    suggested_label: Any
    suggested_confidence: float | None
    loss: float | None
    p_noisy: float
    is_label_issue: bool
    rank: int
    label_score: float | None
    position: int


class AuditRows(NamedTuple):
    """What is known of the audited rows, in their order.

    Attributes
    ----------
    labels : ndarray, Series or Categorical of shape (n,)
        Labels as given; pandas objects keep their dtype.
    given : ndarray of shape (n,)
        The same as an array.
    ids : RowIds
        What names the rows.
    noise_proba : ndarray of shape (n,), float64
        Probability that each label is wrong.
    losses : ndarray of shape (n,), float64
        NaN where they are not known.
    suggested : ndarray of shape (n,) or None
        The most probable label other than the given one.
    confidence : ndarray of shape (n,), float64, or None
        Its probability.
    label_score : ndarray of shape (n,), float64
        Probability of the given label; NaN where it is not known.
    classes : ndarray of shape (C,) or None
        Labels of the columns of probabilities, some of which may not occur.
    groups : ndarray of shape (n,) or None
        To which group each row belongs, such as who gave the label.
    like_mistakes : float
        Share of the issues that may be mistakes of the model (`Places`).
    """

    labels: Any
    given: np.ndarray
    ids: RowIds
    noise_proba: FloatArray
    losses: FloatArray
    suggested: np.ndarray | None
    confidence: FloatArray | None
    label_score: FloatArray
    classes: np.ndarray | None = None
    groups: np.ndarray | None = None
    like_mistakes: float = 0.0

    def ranking(self) -> NDArray[np.intp]:
        """Return all rows, worst first: by probability, ties by loss, then by position."""
        return np.lexsort((-self.losses, -self.noise_proba))  # stable; the last key counts most

    def columns(self) -> dict[str, Any]:
        """Return the columns of a table, in the order of the rows."""
        unknown = np.full(len(self.given), np.nan)
        return {
            "given_label": self.labels,
            "suggested_label": self.suggested,
            "suggested_confidence": unknown if self.confidence is None else self.confidence,
            "loss": self.losses,
            "p_noisy": self.noise_proba,
            "is_label_issue": self.noise_proba > THRESHOLD,
            "label_score": self.label_score,
        }

    def cells(self, at: NDArray[np.intp], positions: NDArray[np.intp]) -> Iterator[Row]:
        """Yield some rows, which begin with the worst one, as plain values."""
        wrong = self.noise_proba[at]
        columns = (
            self.ids.values[at].tolist(),
            as_cells(self.given[at]).tolist(),
            _known(self.suggested, at),
            _known(self.confidence, at),
            _known(self.losses, at),
            wrong.tolist(),
            (wrong > THRESHOLD).tolist(),
            range(1, len(at) + 1),
            _known(self.label_score, at),
            positions.tolist(),
        )
        return map(Row._make, zip(*columns, strict=True))


def _known(values: np.ndarray | None, rows: NDArray[np.intp]) -> list[Any]:
    """Return cells as plain values, None where a number is not known."""
    if values is None:
        return [None] * len(rows)
    cells: list[Any] = as_cells(values[rows]).tolist()
    return [None if isinstance(c, float) and c != c else c for c in cells]
