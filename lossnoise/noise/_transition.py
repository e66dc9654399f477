"""Transition matrices: how often each true class is labelled as each other one."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lossnoise._validation import check_probability_rows, check_real, invalid_data

_OWNER = "estimate_transition"


def estimate_transition(pred_probs: Any, *, percentile: float = 97.0) -> NDArray[np.float64]:
    """Estimate T_ij = p(given label = j | true class = i) from predictions of noisy labels.

    For each class i, the sample is taken whose predicted probability of i is at a high
    percentile: it is thought to be of class i for certain, so that what a model of the *given*
    labels predicts for it is row i (Patrini et al., CVPR 2017, section 4.1).

    Parameters
    ----------
    pred_probs : array-like of shape (n_samples, n_classes)
        What a model that was trained on the given labels predicts, best held out. Rows sum to 1.
    percentile : float, default=97.0
        Which sample stands for a class, in (0, 100]: 100 is the one with the highest
        probability, which may be an outlier.

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
    share = check_real(_OWNER, "percentile", percentile, 0.0, 100.0, closed="right")
    table = check_probability_rows(_OWNER, "pred_probs", pred_probs)
    if len(table) < 1 or table.shape[1] < 2:
        least = "one sample" if len(table) < 1 else "two classes"
        got = f"an array of shape {table.shape}"
        raise invalid_data(_OWNER, "pred_probs", f"probabilities of at least {least}", got)
    place = round(share / 100.0 * (len(table) - 1))
    rows = np.argsort(table, axis=0, kind="stable")[place]
    return np.asarray(table[rows])
