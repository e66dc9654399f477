"""Wrong labels and mistakes of the model: which label it is tells them apart, at least by number.

Where a model is wrong, the right label, which is the given one, is mostly its second choice. A
label that was drawn at random is that about as often as any other class, or any of its frequency.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

FEWEST = 10  # issues by which that can be told
CERTAINLY = 1.64  # standard deviations: at one side, 95 % of what chance gives


class SecondChoices(NamedTuple):
    """How often the labels that look wrong are the second choice of the model.

    Attributes
    ----------
    issues, classes : int
        Number of these labels, and of the classes that occur.
    second : float
        How many are the second most probable class; of k equally probable ones each is 1 / k.
    expected : float
        How many would be if they were all mistakes of the model, by its own probabilities.
    by_chance : float
        How many would be if they were drawn at random from the other classes, all alike or by
        their frequency, whichever is more.
    """

    issues: int = 0
    classes: int = 0
    second: float = 0.0
    expected: float = 0.0
    by_chance: float = 0.0

    @classmethod
    def of(
        cls,
        probs: NDArray[np.float64],
        codes: NDArray[np.intp],
        issues: NDArray[np.bool_],
        sizes: NDArray[np.int64],
    ) -> SecondChoices:
        """Count the issues among rows of probabilities and the columns of their labels.

        `sizes` is how many of all labels each class has.
        """
        rows, classes = probs[issues], int(np.count_nonzero(sizes))
        if not len(rows) or classes < 3:
            return cls(classes=classes)
        given = rows[np.arange(len(rows)), codes[issues]][:, None]
        alike = (rows == given).sum(axis=1)
        second = float(((rows > given).sum(axis=1) == 1) @ (1.0 / alike))
        place = np.argpartition(rows, -2, axis=1)[:, -2:]
        runner_up, highest = np.take_along_axis(rows, place, axis=1).T
        rest = np.maximum(1.0 - highest, np.finfo(np.float64).tiny)
        expected = float(np.minimum(runner_up / rest, 1.0).sum())
        others = np.maximum(sizes.sum() - sizes[place[:, 1]], 1)
        by_chance = np.maximum(sizes[place[:, 0]] / others, 1.0 / (classes - 1))
        return cls(len(rows), classes, second, expected, float(by_chance.sum()))

    def plus(self, other: SecondChoices) -> SecondChoices:
        """Return the counts of other rows as well."""
        return SecondChoices(
            self.issues + other.issues,
            other.classes,
            self.second + other.second,
            self.expected + other.expected,
            self.by_chance + other.by_chance,
        )

    @property
    def like_mistakes(self) -> float:
        """Return which share of the issues may well be mistakes of the model, in [0, 1].

        Of s second choices, q would be if all were mistakes and c if none were: the share is
        (s - c) / (q - c), with s as low as chance may have made it. Two classes have no other
        second choice, and say nothing.
        """
        if self.issues < FEWEST or self.classes < 3:
            return 0.0
        chance, found = self.by_chance / self.issues, self.second / self.issues
        found -= CERTAINLY * math.sqrt(found * (1.0 - found) / self.issues)
        if found <= chance:
            return 0.0
        most = max(self.expected / self.issues, found)
        return (found - chance) / (most - chance)
