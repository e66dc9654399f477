"""Why an audit may not believe what the losses say, although they show two populations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lossnoise._labels import encode_labels
from lossnoise.audit._inputs import as_cells

# Settings that are there where the losses of a model cannot tell, whatever their shape, and why.
COLLAPSED, AGREED, CERTAIN, UNLEARNED = "collapsed", "agreed", "certain", "unlearned"
REASONS = {
    COLLAPSED: "the trained model predicts few of the classes",
    AGREED: (
        "the model itself gives most of the labels that look wrong by its losses, as if they "
        "were right, or if it had learned from these rows: predictions must be of rows held out"
    ),
    CERTAIN: (
        "nearly all probabilities are 0 or 1, as those of a fully grown tree or of one neighbour "
        "are, so that every mistake of the model looks like a wrong label"
    ),
    UNLEARNED: (
        "most labels of {} look wrong, as where a model has not learned a rare class, whether they "
        "are right or not"
    ),
}

# A class that the model may not have learned: so many of its labels are issues, or all but a few,
# and the model hardly gives it to rows with other labels. Of fewer rows that may be chance, unless
# half of the labels of all such classes together are issues, and twice as many as of other classes.
MOST, NEARLY_ALL, FEW_OTHERS = 0.9, 0.98, 0.2
FEWEST_ROWS = 10
HALF, TWICE = 0.5, 2.0

NAMED, LONGEST = 3, 24  # classes in a sentence, and characters of each


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


def doubt_of(figures: Any, detector: Any, *, suspicion: float, certain: bool) -> str:
    """Return which of the `REASONS` there is not to believe a detector; nothing if there is none.

    Parameters
    ----------
    figures : Figures
        What was counted.
    detector : LossMixtureDetector
        Fitted to the losses.
    suspicion : float
        How many labels look wrong by the losses alone; 0 where nothing else is known. Where most of
        these are labels that the model gives itself, their heaps are those of a model that is less
        sure of some right labels, or that has learned from these rows: it gives their wrong labels
        too, and is less sure of them.
    certain : bool
        Whether the probabilities are hardly any.
    """
    if not detector.separable_:
        return ""
    if 2.0 * figures.noise_rate * figures.n < suspicion:
        return AGREED
    if certain:
        return CERTAIN
    unlearned = set(figures.unlearned)
    lost = sum(
        known["num_issues"]
        for known in figures.per_class
        if known["label"] in unlearned
        and (known["num_issues"] >= NEARLY_ALL * known["n"] or known["n"] < FEWEST_ROWS)
    )
    return UNLEARNED if 2 * lost > figures.num_issues else ""


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
