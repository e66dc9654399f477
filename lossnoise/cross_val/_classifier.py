"""Classifiers of scikit-learn: a fresh clone learns each fold."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone, is_classifier
from sklearn.frozen import FrozenEstimator
from sklearn.utils import get_tags, indexable
from sklearn.utils.metaestimators import _safe_split
from sklearn.utils.validation import _num_samples

from lossnoise._fingerprint import fingerprint
from lossnoise._validation import invalid_data, invalid_parameter, miss_one, to_numpy
from lossnoise.cross_val._folds import Rows, seeded_splitter
from lossnoise.cross_val._labels import OWNER

FloatArray = NDArray[np.float64]


class ClassifierLearner:
    """A classifier and its data.

    Parameters
    ----------
    estimator : classifier
        A clone of it learns each fold.
    rows : array-like, sparse matrix, data frame or list
        One row a sample.
    targets : ndarray of shape (n,)
        What is learnt.
    """

    def __init__(self, estimator: Any, rows: Any, targets: np.ndarray) -> None:
        self.rows = rows
        self._estimator = estimator
        self._targets = targets

    def predict_held_out(self, train: Rows, test: Rows, names: np.ndarray, seed: int) -> FloatArray:
        """Learn some rows; return probabilities of the labels `names` for others."""
        model = seeded_clone(self._estimator, seed)
        seen, targets = _safe_split(model, self.rows, self._targets, train)
        model.fit(seen, targets)
        unseen, _ = _safe_split(model, self.rows, None, test, train)
        known = to_numpy(getattr(model, "classes_", names)).tolist()
        found = check_probabilities(model.predict_proba(unseen), (len(test), len(known)))
        return found[:, _places(names.tolist(), known)]

    def fingerprints(self) -> dict[str, str]:
        """Return what tells this estimator and these data from others, by parameter."""
        return {"estimator": fingerprint(self._estimator), "X": fingerprint(self.rows)}


def check_classifier(estimator: Any) -> Any:
    """Return the estimator, or raise where it is no classifier with probabilities."""
    needed = ("fit", "predict_proba", "get_params")
    if isinstance(estimator, type) or not all(hasattr(estimator, name) for name in needed):
        expected = (
            "a classifier of scikit-learn with predict_proba (CalibratedClassifierCV gives one to "
            "any), a torch.nn.Module or a NoisyLabelTrainer"
        )
        raise invalid_parameter(OWNER, "estimator", expected, estimator)
    if hasattr(estimator, "__sklearn_tags__") and not get_tags(estimator).target_tags.single_output:
        expected = "a classifier of one label for each row"
        advice = "of several, each is a task of its own, with the classifier that this one wraps"
        raise invalid_parameter(OWNER, "estimator", expected, estimator, advice)
    for part in (estimator, *estimator.get_params(deep=True).values()):
        if isinstance(part, FrozenEstimator) and is_classifier(part):
            expected = "a classifier that is fitted anew to the other folds"
            advice = (
                "a frozen one may have learned from the rows that it judges; one that has not is "
                "called beforehand, its predict_proba for audit, its transform for X"
            )
            raise invalid_parameter(OWNER, "estimator", expected, part, advice)
    return estimator


def read_rows(X: Any) -> Any:
    """Return data of which rows can be taken."""
    if hasattr(X, "detach"):
        return to_numpy(X)
    try:
        (rows,) = indexable(X)
        _num_samples(rows)
    except TypeError:
        raise invalid_parameter(OWNER, "X", "an array, a data frame or a list of rows", X) from None
    return rows


def seeded_clone(estimator: Any, seed: int) -> Any:
    """Return a clone that draws from `seed` wherever it would draw from a global generator."""
    model = clone(estimator)
    changes = {}
    for name, value in model.get_params(deep=True).items():
        if value is None and name.rpartition("__")[2] == "random_state":
            changes[name] = seed
        elif hasattr(value, "split"):  # the folds of a search over parameters
            changes[name] = seeded_splitter(value, seed)
    return model.set_params(**changes) if changes else model


def check_probabilities(values: Any, shape: tuple[int, int]) -> FloatArray:
    """Return what a classifier predicts as float64, or raise where it is no probability."""
    found = to_numpy(values)
    if found.shape != shape:
        expected = "a classifier whose predict_proba gives a row a sample and a column a class"
        got = f"an array of shape {found.shape} where {shape} is due"
        raise invalid_data(OWNER, "estimator", expected, got)
    probs = found.astype(np.float64)
    good = (probs >= 0.0).all(axis=1) & ~miss_one(probs)
    if not good.all():
        shown = np.array2string(probs[np.flatnonzero(~good)[0]], precision=4, threshold=10)
        expected = "a classifier whose predict_proba gives rows that sum to 1"
        raise invalid_data(OWNER, "estimator", expected, shown)
    return probs


def _places(names: list[Any], known: list[Any]) -> list[int]:
    """Return where the classes that a model was given stand among those that it knows."""
    place = {name: column for column, name in enumerate(known)}
    try:
        return [place[name] for name in names]
    except KeyError as error:
        expected = "a classifier whose classes_ hold the labels that it was given"
        raise invalid_data(OWNER, "estimator", expected, f"one without {error}") from None
