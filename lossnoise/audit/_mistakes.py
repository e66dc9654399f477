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

# Rows that are kept of a class, at most and at least, or none where these are too many numbers in
# all; how many a label has to be compared with; and labels that are looked at of one block.
MOST_ROWS, LEAST_ROWS, NUMBERS = 512, 8, 1 << 23
FEWEST_FITS, ENOUGH = 5, 4096


class Places(NamedTuple):
    """Where labels that look wrong stand among other rows of the class that the model takes.

    Attributes
    ----------
    counts : ndarray of shape (6, C), float64
        By the first choice of the model: how many there are; how many of them are less likely than
        in half of the rows whose label is this choice; how many are its second choice; and how many
        would be if they had been drawn at random for such rows, or if all were mistakes of the
        model, by its own probabilities; and the sum of 1 / the number of these rows.
    """

    counts: NDArray[np.float64] = np.zeros((6, 1))  # of none, whatever the classes

    def plus(self, other: Places) -> Places:
        """Return the counts of other labels as well."""
        return Places(self.counts + other.counts)

    @property
    def like_mistakes(self) -> float:
        """Return which share of the issues may well be mistakes of the model, in [0, 1].

        By low and by second ones, whichever says more, and less than chance may have made it in the
        issues and in the rows that they are among.
        """
        issues = float(self.counts[0].sum())
        if issues < FEWEST:
            return 0.0
        low, second, if_random, if_mistaken = self.counts[1:5].sum(axis=1) / issues
        of_rows = 0.25 * float(self.counts[0] @ self.counts[5]) / issues**2
        low += CERTAINLY * math.sqrt(low * (1.0 - low) / issues + of_rows)
        second -= CERTAINLY * math.sqrt(second * (1.0 - second) / issues + of_rows)
        by_second = 0.0
        if second > if_random:
            by_second = (second - if_random) / (max(if_mistaken, second) - if_random)
        return float(max(1.0 - 2.0 * low, by_second, 0.0))


class OwnClass:
    """Rows whose label is the first choice of the model: some of each class, evenly."""

    def __init__(self, classes: int) -> None:
        most = NUMBERS // max(classes, 1) ** 2
        self._most = min(MOST_ROWS, most) if most >= LEAST_ROWS else 0
        self._rows = [np.zeros((0, classes)) for _ in range(classes)]
        self._seen, self._step = [0] * classes, [1] * classes

    def add(self, columns: Columns) -> None:
        """Keep some of these rows."""
        if not self._most:
            return
        at = np.flatnonzero(~columns.contradicted)
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
        counts = np.zeros((6, len(self._rows)))
        at = np.flatnonzero(issues & columns.contradicted)
        at = at[:: max(1, -(-len(at) // ENOUGH))]
        for k, some in _by_class(columns.first[at]):
            codes, probs = columns.codes[at[some]], columns.probs[at[some]]
            second, share = _second_choices(probs, k)
            fits, low, by_chance = self._beside(
                k, codes, probs[np.arange(len(codes)), codes], highest
            )
            found = np.stack(
                [
                    np.ones_like(low),
                    low,
                    second == codes,
                    by_chance,
                    share,
                    1.0 / np.maximum(fits, 1.0),
                ]
            )
            counts[:, k] = found[:, fits >= FEWEST_FITS].sum(axis=1)
        return Places(counts)

    def _beside(
        self, k: int, codes: NDArray[np.intp], given: NDArray[np.float64], highest: float
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Return by how many rows of class k labels are judged, who is low, and second by chance.

        Of too many classes no rows are known: neither low nor high, and second as any other.
        """
        if not self._most:
            same = np.ones(len(codes))
            return np.inf * same, 0.5 * same, same / (len(self._rows) - 1)
        others = self._rows[k][:, codes]
        are_fit = others <= highest
        fits = are_fit.sum(axis=0).astype(np.float64)
        below, alike = (others < given).sum(axis=0), (others == given).sum(axis=0)
        low = np.clip((0.5 * fits - below + 0.5) / (alike + 1.0), 0.0, 1.0)  # equals: in any order
        seconds = (_second_choices(self._rows[k], k)[0][:, None] == codes) & are_fit
        return fits, low, seconds.sum(axis=0) / np.maximum(fits, 1.0)


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
    small = np.min_scalar_type(int(classes.max(initial=0)))  # which numpy sorts faster
    order = np.argsort(classes.astype(small), kind="stable")
    found, starts = np.unique(classes[order], return_index=True)
    return list(zip(found.tolist(), np.split(order, starts[1:]), strict=True)) if len(order) else []
