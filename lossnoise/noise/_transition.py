"""Transition matrices: how often each true class is labelled as each other one."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lossnoise._validation import (
    check_probability_rows,
    check_real,
    invalid_data,
    invalid_parameter,
)

_OWNER = "estimate_transition"

PUBLISHED = 97.0  # percentile of Patrini et al.
OF_A_CLASS = 30.0  # where it lies among the samples of one of ten classes, in percent from the top


def estimate_transition(
    pred_probs: Any, *, percentile: float | Literal["auto"] = "auto"
) -> NDArray[np.float64]:
    """Estimate T_ij = p(given label = j | true class = i) from predictions of noisy labels.

    For each class i, the sample is taken whose predicted probability of i is at a high
    percentile: it is thought to be of class i for certain, so that what a model of the *given*
    labels predicts for it is row i (Patrini et al., CVPR 2017, section 4.1).

    Parameters
    ----------
    pred_probs : array-like of shape (n_samples, n_classes)
        What a model that was trained on the given labels predicts, best held out. Rows sum to 1.
    percentile : float or "auto", default="auto"
        Which sample stands for a class, in (1, 100]: 100 is the one with the highest
        probability, which may be an outlier. "auto" is 97, as in the paper, and 100 - 30 / C for
        more than ten classes: of 34 or more, the sample at the 97th percentile of a class would
        belong to another one. So it would for a class with less than 3 % of the samples.

    Returns
    -------
    transition : ndarray of shape (n_classes, n_classes), float64
        T; rows sum to 1.

    Raises
    ------
    InvalidParameterError
        `percentile` is out of range.
    InvalidDataError
        `pred_probs` are no probabilities, of at least one sample and two classes.

    Examples
    --------
    >>> from lossnoise.noise import estimate_transition
    >>> estimate_transition([[0.8, 0.2], [0.3, 0.7], [0.5, 0.5]], percentile=100)
    array([[0.8, 0.2],
           [0.3, 0.7]])
    """
    check_percentile(_OWNER, percentile)
    table = check_probability_rows(_OWNER, "pred_probs", pred_probs)
    if len(table) < 1 or table.shape[1] < 2:
        least = "one sample" if len(table) < 1 else "two classes"
        got = f"an array of shape {table.shape}"
        raise invalid_data(_OWNER, "pred_probs", f"probabilities of at least {least}", got)
    many = max(PUBLISHED, 100.0 - OF_A_CLASS / table.shape[1])
    share = many if percentile == "auto" else float(percentile)
    place = round(share / 100.0 * (len(table) - 1))
    rows = np.argsort(table, axis=0, kind="stable")[place]
    return np.asarray(table[rows])


def check_percentile(owner: str, percentile: object) -> None:
    """Raise where `percentile` is neither "auto" nor a percentage: 0.97 is hardly meant as one."""
    if isinstance(percentile, str):
        if percentile != "auto":
            expected = "'auto' or a float in the range (1.0, 100.0]"
            raise invalid_parameter(owner, "percentile", expected, percentile)
    else:
        check_real(owner, "percentile", percentile, 1.0, 100.0, closed="right")
