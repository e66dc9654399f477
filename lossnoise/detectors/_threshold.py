"""Where to cut: losses above which labels are called wrong, chosen by what is needed."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lossnoise._validation import check_int, check_real, invalid_parameter
from lossnoise._warnings import warn
from lossnoise.detectors._fit import Part
from lossnoise.detectors._grid import read_table
from lossnoise.detectors._scaling import FloatArray, Scaling
from lossnoise.exceptions import UnattainableThresholdWarning

ROUNDING = 1e-3  # of an expected precision


class Threshold(NamedTuple):
    """A cut, and what is to be expected of it.

    Attributes
    ----------
    threshold : float
        Labels whose loss is at least this are called wrong; inf where none can be.
    precision : float
        Expected share of wrong labels among those; NaN where there are none, and where the losses
        cannot tell.
    recall : float
        Expected share of the wrong labels that are among those; NaN where none is expected.
    count : int
        Number of fitted losses that are at least the threshold.
    """

    threshold: float
    precision: float
    recall: float
    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody asks a cut for


class Scores(NamedTuple):
    """What a cut is chosen from, one entry a sample or a bin of samples.

    Attributes
    ----------
    values : ndarray
        What is cut: P(wrong) rises with it.
    weights : ndarray
        Number of samples.
    proba : ndarray
        P(wrong).
    cautious : ndarray
        A lower P(wrong): precision is met by it where it can be.
    """

    values: FloatArray
    weights: FloatArray
    proba: FloatArray
    cautious: FloatArray


def scores_of(parts: Collection[Part], scaling: Scaling, cautious: FloatArray) -> Scores:
    """Return the fitted losses as what a cut is chosen from; `cautious` is a table."""
    losses = np.concatenate([part.losses for part in parts])
    return Scores(
        np.concatenate([part.lows for part in parts]),
        np.concatenate([part.weights for part in parts]),
        np.concatenate([read_table(p.curve.proba, p.losses, scaling) for p in parts]),
        read_table(cautious, losses, scaling),
    )


def crossing(proba: FloatArray, scaling: Scaling, level: float = 0.5) -> float:
    """Return the loss at which a rising table of P(wrong) reaches a level; inf if it does not."""
    above = np.flatnonzero(proba > level)
    if not len(above):
        return float("inf")
    upper = above[0]
    if upper == 0:
        return float(scaling.losses_at(np.zeros(1))[0])
    low, high = proba[upper - 1], proba[upper]
    value = (upper - 1 + (level - low) / (high - low)) / (len(proba) - 1)
    return float(scaling.losses_at(np.array([value]))[0])


def choose_threshold(
    owner: str,
    scores: Scores,
    *,
    precision: float | None,
    recall: float | None,
    budget: int | None,
    advice: str = "look at separable_ and at the noise rate",
    tied_advice: str = "Take some of them by what else is known",
) -> Threshold:
    """Return the cut of the values that meets one need, by expected counts of wrong labels.

    Where none does, a warning says `advice`; or `tied_advice` where more values tie for the highest
    than a budget allows.
    """
    needs = {"precision": precision, "recall": recall, "budget": budget}
    given = [name for name, value in needs.items() if value is not None]
    if not given:
        expected = "given, or else 'recall' or 'budget'"
        raise invalid_parameter(owner, "precision", expected, precision)
    if len(given) > 1:
        expected = f"left out where {given[0]!r} is given: a threshold meets one need"
        raise invalid_parameter(owner, given[1], expected, needs[given[1]])
    cuts, counts, wrong = _cumulate(scores.values, scores.weights, scores.proba)
    if precision is not None:
        check_real(owner, "precision", precision, 0.0, 1.0, closed="right")
        lower = np.minimum(scores.proba, scores.cautious)
        cautious = _cumulate(scores.values, scores.weights, lower)[2]
        meets = _precise(cautious, wrong, counts, precision)
    elif recall is not None:
        check_real(owner, "recall", recall, 0.0, 1.0, closed="right")
        meets = (wrong >= recall * wrong[-1]) & (wrong > 0.0)
    else:
        meets = counts <= check_int(owner, "budget", budget, 1)
    good = np.flatnonzero(meets)
    if not len(good):
        if budget is not None:
            tied = f"{round(float(counts[0])):,} tie for the highest, and it takes all or none"
            return _unattainable(owner, f"{budget=}", tied, tied_advice, wrong[-1])
        need = f"{given[0]}={needs[given[0]]!r}"
        why, ending = "none is so good", f"Ask for less, or {advice}"
        if not wrong[-1] > 0.0:
            why = "the losses cannot tell right from wrong labels"
            ending = f"{advice[0].upper()}{advice[1:]}"
        ending += "; to look at some of the highest tells more"
        return _unattainable(owner, need, why, ending, wrong[-1])
    at = good[0] if recall is not None else good[-1]
    total = float(wrong[-1])
    known = total > 0.0  # else the losses cannot tell, and nothing is to be expected
    return Threshold(
        float(cuts[at]),
        float(wrong[at] / counts[at]) if known else float("nan"),
        float(wrong[at]) / total if known else float("nan"),
        round(float(counts[at])),
    )


def _precise(
    cautious: FloatArray, wrong: FloatArray, counts: FloatArray, precision: float
) -> NDArray[np.bool_]:
    """Return the cuts, highest first, that are precise enough.

    By the cautious probabilities; where no cut is, by the reported ones, but none below the cuts
    where the cautious ones are at their most precise: who asks for more does not get a lower cut.
    The highest losses often have one P(wrong), and rounding must not choose among them.
    """
    most = float((cautious / counts).max()) - ROUNDING
    return np.asarray((cautious >= min(precision, most) * counts) & (wrong >= precision * counts))


def _cumulate(
    losses: FloatArray, weights: FloatArray, proba: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return distinct losses, highest first, and how many samples and wrong labels lie above."""
    cuts, place = np.unique(losses, return_inverse=True)
    counts = np.bincount(place, weights)[::-1].cumsum()
    wrong = np.bincount(place, weights * proba)[::-1].cumsum()
    return cuts[::-1], counts, wrong


def _unattainable(owner: str, need: str, why: str, advice: str, wrong: float) -> Threshold:
    warn(
        f"No threshold of {owner.partition('.')[0]} gives {need} on what was fitted: {why}. The "
        f"threshold is inf and calls no label wrong. {advice}.",
        UnattainableThresholdWarning,
    )
    return Threshold(float("inf"), float("nan"), 0.0 if wrong > 0.0 else float("nan"), 0)
