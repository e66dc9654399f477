"""Why an audit may not believe what the losses say, although they show two populations."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lossnoise._labels import encode_labels
from lossnoise._losses import are_certain, are_only_zeros
from lossnoise.audit._inputs import as_cells

# Settings that are there where the losses of a model cannot tell, whatever their shape, and why.
COLLAPSED, AGREED, CERTAIN, ZEROS = "collapsed", "agreed", "certain", "zeros"
OTHER_SHAPES = "other_shapes"
UNLEARNED, BY_CHANCE, TOO_FEW = "unlearned", "by_chance", "too_few"
OTHER_CLASSES, ONE_CLASS = "other_classes", "one_class"
REASONS = {
    OTHER_CLASSES: (
        "for many of the labels that look wrong the trained model suggests classes that no label "
        "has, as one with more outputs than there are classes may do whatever the labels are"
    ),
    ONE_CLASS: "all labels are of one class, so that the model had nothing to tell it from",
    COLLAPSED: "the trained model predicts few of the classes",
    AGREED: (
        "the model itself gives most of the labels that look wrong by its losses, as if they "
        "were right, or if it had learned from these rows: predictions must be of rows held out"
    ),
    OTHER_SHAPES: "they look like two populations, but not the two that the mixture found",
    CERTAIN: (
        "nearly all probabilities are 0 or 1, as those of a fully grown tree or of one neighbour "
        "are, so that every mistake of the model looks like a wrong label"
    ),
    ZEROS: (
        "only labels with a probability of exactly 0 look wrong, and the model counts so few rows, "
        "as a tree or some neighbours do, that it gives 0 to right ones too"
    ),
    UNLEARNED: (
        "most labels of {} look wrong, as where a model has not learned a rare class, whether they "
        "are right or not"
    ),
    TOO_FEW: (
        "by whole rows of probabilities many more labels look wrong than by their losses, as where "
        "right and wrong ones lie close together and only the worst stand out"
    ),
    BY_CHANCE: (
        "the labels are the model's first choices as often as by chance, as where the "
        "probabilities are of other rows, or of the same ones in another order"
    ),
}

# A class that the model may not have learned: so many of its labels are issues, or all but a few,
# and the model hardly gives it to rows with other labels. Of fewer rows that may be chance, unless
# half of the labels of all such classes together are issues, and twice as many as of other classes.
MOST, NEARLY_ALL, FEW_OTHERS = 0.9, 0.98, 0.2
FEWEST_ROWS = 10
HALF, TWICE = 0.5, 2.0

NAMED, LONGEST = 3, 24  # classes in a sentence, and characters of each


# The agreement of labels and first choices is by chance where it is less than so many standard
# deviations above what a random order of the labels would give. Below, `FEWER` times as many: it
# varies more between rows and the same ones backwards, and of columns in another order it is lower
# yet.
SURPRISING = 2.5
FEWER = 3.0
ENOUGH = 3.0  # times as much has to be possible, or a chance says nothing

# Labels that look wrong by their losses are too few where confident learning counts so much more.
MANY_MORE, SOME_MORE = 1.25, 3.0

FEW_VOTES = 17.0  # a model that counts no more labels gives 0 to many a right one


class Evidence(NamedTuple):
    """What an audit knows beside its figures that may speak against a detector.

    Attributes
    ----------
    suspicion : float
        How many labels look wrong by the losses alone; 0 where nothing else is known. Where most of
        these are labels that the model gives itself, their heaps are those of a model that is less
        sure of some right labels, or that has learned from these rows: it gives their wrong labels
        too, and is less sure of them.
    contradicted : float
        How many of those are not the model's first choice.
    counted : float
        How many of these are wrong by confident learning; 0 where that is not known.
    by_chance : bool
        Whether labels and first choices of the model have nothing to do with each other.
    votes : float
        How many labels a prediction counts (`Choices.votes`).
    certain : bool
        Whether the probabilities are hardly any.
    zeros : bool
        Whether only labels with a probability of 0 look wrong, among more that are contradicted.
    order : str
        What is said where the columns look as if they were in another order.
    """

    suspicion: float = 0.0
    contradicted: float = 0.0
    counted: float = 0.0
    by_chance: bool = False
    votes: float = math.inf
    certain: bool = False
    zeros: bool = False
    order: str = ""

    @property
    def doubt(self) -> str:
        """Return why not to believe losses that show two populations; nothing if there is none."""
        if 2.0 * self.contradicted < self.suspicion:
            return AGREED
        if self.certain:
            return CERTAIN
        if self.zeros and self.votes < FEW_VOTES:
            return ZEROS
        too_few = self.counted > MANY_MORE * self.contradicted + SOME_MORE
        return TOO_FEW if too_few else ""

    def of_losses(
        self,
        losses: NDArray[np.float64],
        issues: NDArray[np.float64],
        weights: NDArray[Any] | None = None,
        issue_weights: NDArray[Any] | None = None,
    ) -> Evidence:
        """Return this with what cross-entropies say, of all labels and of those that look wrong.

        One by one, or bins with their numbers as weights.
        """
        certain = are_certain(losses, weights)
        zeros = are_only_zeros(losses, issues, weights, issue_weights)
        return self._replace(certain=certain, zeros=zeros)


def is_by_chance(counts: NDArray[np.int64]) -> bool:
    """Tell whether labels and first choices agree as often as in a random order of the labels.

    `counts` has a row for each label and a column for each first choice. Mean and variance of its
    trace are those of a random permutation of the labels. Where one class has nearly all labels or
    first choices, these agree about as often in any order, which says nothing.
    """
    n = float(counts.sum())
    if n < 2.0:
        return False
    given, chosen = counts.sum(axis=1) / n, counts.sum(axis=0) / n
    both = given * chosen
    spread = both @ ((1.0 - given) * (1.0 - chosen)) + both.sum() ** 2 - both @ both
    by_chance = SURPRISING * n * np.sqrt(spread / (n - 1.0))
    expected, most = n * both.sum(), n * np.minimum(given, chosen).sum()
    if ENOUGH * by_chance > most - expected:
        return False
    return bool(-FEWER * by_chance < np.trace(counts) - expected < by_chance)


def unlearned_classes(classes: list[dict[str, Any]], pairs: list[dict[str, Any]]) -> list[Any]:
    """Return the classes that a model may not have learned: it contradicts most labels of theirs.

    And hardly gives them to rows with other labels, as far as `pairs` of given and suggested labels
    are known. Where it does, classes have been swapped.
    """
    others: Counter[Any] = Counter()
    for pair in pairs:
        others[pair["suggested"]] += pair["count"]
    small = [known for known in classes if known["n"] < FEWEST_ROWS]
    large = [known for known in classes if known["n"] >= FEWEST_ROWS]
    share = _share_of_issues(small)
    by_chance = share < HALF or share < TWICE * _share_of_issues(large)
    lost = {
        known["label"]
        for known in large
        if known["num_issues"] >= MOST * known["n"]
        and others[known["label"]] < FEW_OTHERS * known["n"]
    }
    if not by_chance:
        lost |= {known["label"] for known in small if known["num_issues"] >= HALF * known["n"]}
    return [known["label"] for known in classes if known["label"] in lost]


def _share_of_issues(classes: list[dict[str, Any]]) -> float:
    rows = sum(known["n"] for known in classes)
    return sum(known["num_issues"] for known in classes) / rows if rows >= FEWEST_ROWS else 0.0


def are_among(given: np.ndarray, labels: Iterable[Any]) -> NDArray[np.bool_]:
    """Return which of the given labels are among some."""
    some = set(labels)
    if not some:
        return np.zeros(len(given), dtype=bool)
    classes, codes = encode_labels(given)
    found = np.array([label in some for label in as_cells(classes).tolist()], dtype=bool)
    return np.asarray(found[codes])


def doubt_of(figures: Any, detector: Any, evidence: Evidence) -> str:
    """Return which of the `REASONS` there is not to believe a detector; nothing if there is none.

    Parameters
    ----------
    figures : Figures
        What was counted.
    detector : LossMixtureDetector
        Fitted to the losses.
    evidence : Evidence
        What else is known.
    """
    if detector.separable_:
        if evidence.doubt:
            return evidence.doubt
        if _are_unlearned(figures):
            return UNLEARNED
    elif detector._sample_fit.doubt in REASONS:
        return str(detector._sample_fit.doubt)
    return BY_CHANCE if evidence.by_chance else ""


def _are_unlearned(figures: Any) -> bool:
    """Tell whether most issues are nearly all labels of classes that may not have been learned."""
    unlearned = set(figures.unlearned)
    lost = sum(
        known["num_issues"]
        for known in figures.per_class
        if known["label"] in unlearned
        and (known["num_issues"] >= NEARLY_ALL * known["n"] or known["n"] < FEWEST_ROWS)
    )
    return bool(2 * lost > figures.num_issues)


def reason_of(doubt: str, unlearned: list[Any], names: dict[Any, str]) -> str:
    """Return in words why losses cannot tell."""
    return REASONS[doubt].format(listed(unlearned, names))


def listed(labels: list[Any], names: dict[Any, str]) -> str:
    """Return some labels, by the names that they are shown by, as part of a sentence."""
    texts = [repr(str(names.get(label, label))[:LONGEST]) for label in labels[:NAMED]]
    if len(labels) > NAMED:
        texts[NAMED - 1 :] = [f"{len(labels) - NAMED + 1:,} other classes"]
    *first, last = texts or [""]
    return f"{', '.join(first)} and {last}" if first else last
