"""P(wrong) where whole rows of probabilities are known.

A loss knows one probability of a row: that of the given label. The others say more. A label that
the model itself would have given is not suspicious. And where the losses cannot tell how many of
the others are wrong, or only the worst of them stand out, confident learning counts them: those
where the model is as sure of another class as it is, on average, in rows that have that class as
their label, and more sure than of the given one. So a model that is sure or unsure of a class in
general is taken by its own measure. (Northcutt, Jiang and Chuang, "Confident learning: estimating
uncertainty in dataset labels", JAIR 70, 2021: thresholds and confident joint of section 3.1, which
counts the model's first choices, too, and classes that it is less sure of.)
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lossnoise.audit._classes import Choices, Columns
from lossnoise.audit._doubts import Evidence, is_by_chance
from lossnoise.audit._inputs import FloatArray
from lossnoise.audit._summary import THRESHOLD

ROUNDING = 1e-9  # of the mean of equal probabilities
SMALLEST = 0.01  # P(wrong) and 1 - P by losses that cannot tell are at least so large
MOST_SHIFTED = 60.0  # more than the log-odds of these and of a share of 10 million labels are apart


class Suspected(NamedTuple):
    """Labels, or bins of them, and how wrong they look by their losses.

    Attributes
    ----------
    losses, proba : ndarray of shape (n,), float64
        Loss and P(wrong) by it.
    weights : ndarray of shape (n,)
        How many labels there are of each.
    """

    losses: FloatArray
    proba: FloatArray
    weights: NDArray[Any]

    @property
    def total(self) -> float:
        """Return how many of them are wrong."""
        return float(self.weights @ self.proba)

    def take(self, which: NDArray[np.bool_]) -> Suspected:
        """Return some of them."""
        return Suspected(self.losses[which], self.proba[which], self.weights[which])


def judge_whole_rows(
    fitted: Any, losses: FloatArray, columns: Columns, groups: Any
) -> tuple[FloatArray, Evidence]:
    """Return P(wrong) by a detector that was fitted to -log(p), and what may speak against it."""
    everything = Suspected(losses, suspicions(fitted, losses, groups), np.ones(len(losses)))
    contradicted = everything.take(columns.contradicted)
    count = Contradicted.of(columns, SelfConfidence.of(columns).thresholds)
    evidence = evidence_of(fitted, everything, contradicted, columns.choices, count)
    wrong = np.zeros(len(losses))
    wrong[columns.contradicted] = contradicted.proba
    if cannot_tell(fitted, evidence):
        shift = shift_to(contradicted, count.share)
        wrong[columns.contradicted] = shifted(contradicted.proba, shift)
    return wrong, evidence


def evidence_of(
    fitted: Any,
    everything: Suspected,
    contradicted: Suspected,
    choices: Choices,
    count: Contradicted,
) -> Evidence:
    """Return what may speak against a detector, of all labels and of the contradicted ones."""
    evidence = Evidence(
        suspicion=everything.total,
        contradicted=contradicted.total,
        counted=count.share * count.n,
        by_chance=is_by_chance(choices.table),
        votes=choices.votes,
    )
    if fitted.loss_scale != "cross-entropy":
        return evidence
    issues = contradicted.take(contradicted.proba > THRESHOLD)
    return evidence.of_losses(everything.losses, issues.losses, everything.weights, issues.weights)


def suspicions(fitted: Any, losses: FloatArray, groups: Any = None) -> FloatArray:
    """Return P(wrong) by the losses, of which the model's own choice is known besides.

    The plain posterior is then nearer to the truth than nothing at all where the losses look like
    one population.
    """
    if not len(losses):
        return losses
    if groups is None or not fitted.separable_:
        return np.asarray(fitted.posterior(losses))
    return np.asarray(fitted.predict_proba(losses, groups=groups)[:, 1])


def cannot_tell(fitted: Any, evidence: Evidence) -> bool:
    """Tell whether the losses do not say how many of the contradicted labels are wrong."""
    return bool(evidence.doubt) or not fitted.separable_


class SelfConfidence(NamedTuple):
    """The probabilities that a model gives to the given labels, by class.

    Attributes
    ----------
    sums : ndarray of shape (C,), float64
        Their sum over the rows with this label.
    counts : ndarray of shape (C,), intp
        How many rows there are.
    """

    sums: FloatArray
    counts: NDArray[np.intp]

    @classmethod
    def of(cls, columns: Columns) -> SelfConfidence:
        """Add up rows."""
        size = len(columns.classes)
        sums = np.bincount(columns.codes, weights=columns.given, minlength=size)
        return cls(np.asarray(sums, dtype=np.float64), np.bincount(columns.codes, minlength=size))

    def plus(self, other: SelfConfidence) -> SelfConfidence:
        """Return those of other rows as well."""
        return SelfConfidence(self.sums + other.sums, self.counts + other.counts)

    @property
    def thresholds(self) -> FloatArray:
        """Return the mean of each class; of one that is no label, infinity."""
        means = np.full(len(self.sums), np.inf)
        np.divide(self.sums, self.counts, out=means, where=self.counts > 0)
        return means


class Contradicted(NamedTuple):
    """Labels that are not the model's first choice.

    Attributes
    ----------
    n : int
        How many there are.
    surely : int
        How many of them confident learning counts as wrong.
    """

    n: int = 0
    surely: int = 0

    @classmethod
    def of(cls, columns: Columns, thresholds: FloatArray) -> Contradicted:
        """Count rows."""
        probs = columns.probs[columns.contradicted]
        given = columns.given[columns.contradicted]
        probs[probs < thresholds - ROUNDING] = -1.0  # below every probability
        surely = probs.max(axis=1, initial=-1.0) > given
        return cls(len(probs), int(np.count_nonzero(surely)))

    def plus(self, other: Contradicted) -> Contradicted:
        """Return the counts of other rows as well."""
        return Contradicted(self.n + other.n, self.surely + other.surely)

    @property
    def share(self) -> float:
        """Return which share of them is wrong, strictly between 0 and 1 (Krichevsky-Trofimov)."""
        return (self.surely + 0.5) / (self.n + 1.0)


def shift_to(contradicted: Suspected, share: float) -> float:
    """Return by how much the log-odds have to move until the mean of P(wrong) is the share.

    The share is strictly between 0 and 1.
    """
    from scipy.optimize import brentq  # slow to load

    if not len(contradicted.proba):
        return 0.0

    def excess(shift: float) -> float:
        proba = shifted(contradicted.proba, shift)
        return float(np.average(proba, weights=contradicted.weights)) - share

    return float(brentq(excess, -MOST_SHIFTED, MOST_SHIFTED))


def shifted(proba: FloatArray, shift: float) -> FloatArray:
    """Return P(wrong) with its log-odds moved; the order of labels stays as it is."""
    odds = SMALLEST + (1.0 - 2.0 * SMALLEST) * proba
    odds = np.exp(shift) * odds / (1.0 - odds)
    return np.asarray(odds / (1.0 + odds))
