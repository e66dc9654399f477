"""Wrong labels and mistakes of the model: how unlikely they are tells them apart, by number.

A label that was drawn at random for a row of some class is as unlikely to the model as it is in any
other row of that class. Where a model errs it still gives the right label, which is the given one,
more than it gives it in rows of the class that it takes them for, and more often next to that one.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lossnoise.audit._classes import Columns

FEWEST = 10  # issues by which that can be told
CERTAINLY = 1.64  # standard deviations: at one side, 95 % of what chance gives

# Rows that are kept of a class, where there are so many numbers in all, and labels that are looked
# at of one block: more would tell no more.
MOST_ROWS, FEWEST_ROWS, NUMBERS, MOST_CLASSES = 512, 16, 1 << 22, 1000
ENOUGH = 4096


class Places(NamedTuple):
    """Where labels that look wrong stand among other rows of the class that the model takes.

    Attributes
    ----------
    counts : ndarray of shape (5, C), float64
        By the first choice of the model: how many there are; how many of them are less likely than
        in half of the rows whose label is this choice; how many are its second choice; and how many
        would be if they had been drawn at random for such rows, or if all were mistakes of the
        model, by its own probabilities.
    rows : ndarray of shape (C,), float64
        Of how many such rows that is known.
    """

    counts: NDArray[np.float64]
    rows: NDArray[np.float64]

    def plus(self, other: Places) -> Places:
        """Return the counts of other labels as well, among the same rows."""
        return Places(self.counts + other.counts, self.rows)

    @property
    def like_mistakes(self) -> float:
        """Return which share of the issues may well be mistakes of the model, in [0, 1].

        By low and by second ones, whichever says more, and less than chance may have made it in the
        issues and in the rows that they are among.
        """
        issues = float(self.counts[0].sum())
        if issues < FEWEST:
            return 0.0
        low, second, if_random, if_mistaken = self.counts[1:].sum(axis=1) / issues
        shares = self.counts[0] / issues
        of_rows = 0.25 * (shares**2 / np.maximum(self.rows, 1.0)).sum()
        low += CERTAINLY * math.sqrt(low * (1.0 - low) / issues + of_rows)
        second -= CERTAINLY * math.sqrt(second * (1.0 - second) / issues + of_rows)
        by_second = 0.0
        if second > if_random:
            by_second = (second - if_random) / (max(if_mistaken, second) - if_random)
        return float(max(1.0 - 2.0 * low, by_second, 0.0))


class OwnClass:
    """Rows whose label is the first choice of the model: some of each class, evenly."""

    def __init__(self, classes: int) -> None:
        most = max(FEWEST_ROWS, min(MOST_ROWS, NUMBERS // max(classes, 1) ** 2))
        self._most = most if classes <= MOST_CLASSES else 0
        self._rows = [np.zeros((0, classes)) for _ in range(classes)]
        self._seen, self._step = [0] * classes, [1] * classes

    def add(self, columns: Columns) -> None:
        """Keep some of these rows."""
        if not self._most:
            return
        at = np.flatnonzero(columns.first == columns.codes)
        for k, rows in _by_class(columns.codes[at]):
            self._keep(k, columns.probs, at[rows])

    def _keep(self, k: int, probs: NDArray[np.float64], at: NDArray[np.intp]) -> None:
        """Keep every so many rows of a class, whatever the pieces that they come in."""
        seen, step = self._seen[k], self._step[k]
        self._seen[k] += len(at)
        while -(-self._seen[k] // self._step[k]) > self._most:
            self._step[k] *= 2
        new = probs[at[-seen % self._step[k] :: self._step[k]]]
        self._rows[k] = np.concatenate([self._rows[k][:: self._step[k] // step], new])

    def places(self, columns: Columns, issues: NDArray[np.bool_], highest: float) -> Places:
        """Return where the labels that look wrong stand.

        `highest` is the probability up to which a label may look wrong: rows that give it more
        are none that it could be drawn for and look so.
        """
        rows = np.array([len(kept) for kept in self._rows], dtype=np.float64)
        counts = np.zeros((5, len(rows)))
        if not rows.any():
            return Places(counts, rows)
        at = np.flatnonzero(issues & (columns.first != columns.codes))
        at = at[:: max(1, -(-len(at) // ENOUGH))]
        for k, some in _by_class(columns.first[at]):
            codes = columns.codes[at[some]]
            given = columns.probs[at[some], codes]
            others = self._rows[k][:, codes]
            fits = others <= highest
            known = fits.any(axis=0)
            below, alike = (others < given).sum(axis=0), (others == given).sum(axis=0)
            half = 0.5 * fits.sum(axis=0)
            low = np.clip((half - below + 0.5) / (alike + 1.0), 0.0, 1.0)  # equals: in any order
            second, share = _second_choices(columns.probs[at[some]], k)
            of_rows = (_second_choices(self._rows[k], k)[0][:, None] == codes) & fits
            by_chance = of_rows.sum(axis=0) / np.maximum(2.0 * half, 1.0)
            found = np.stack([known, low, second == codes, by_chance, share])
            counts[:, k] = found[:, known].sum(axis=1)
        return Places(counts, rows)


def _second_choices(
    probs: NDArray[np.float64], first: int
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return the most probable class after the first, and its share of what the first leaves."""
    others = probs.copy()
    others[:, first] = -1.0
    second = others.argmax(axis=1)
    rest = np.maximum(1.0 - probs[:, first], np.finfo(np.float64).tiny)
    return second, np.minimum(others[np.arange(len(second)), second] / rest, 1.0)


def _by_class(classes: NDArray[np.intp]) -> list[tuple[int, NDArray[np.intp]]]:
    """Return the places of each class, in their order."""
    order = np.argsort(classes.astype(np.uint16), kind="stable")  # few, which numpy sorts faster
    found, starts = np.unique(classes[order], return_index=True)
    return list(zip(found.tolist(), np.split(order, starts[1:]), strict=True)) if len(order) else []
