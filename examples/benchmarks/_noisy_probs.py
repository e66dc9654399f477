"""Predicted probabilities beside labels of which a known share was made wrong.

Either of the verified sets, whose probabilities are given and whose labels are flipped
afterwards, or out-of-fold predictions of models that were trained on the flipped labels.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import sklearn
from sklearn.base import BaseEstimator
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from lossnoise._files import atomic_open
from lossnoise.noise import inject_noise

FOLDS = 5
MIN_PROBABILITY = 1e-12
VERIFIED = ("cifar10", "imdb")


class NoisyProbs(NamedTuple):
    """Probabilities (n, C) and labels as given, beside what is true."""

    pred_probs: np.ndarray
    labels: np.ndarray
    clean_labels: np.ndarray
    changed: np.ndarray

    @property
    def losses(self) -> np.ndarray:
        """Return -log of the probability of each given label."""
        given = self.pred_probs[np.arange(len(self.labels)), self.labels]
        return -np.log(np.maximum(given, MIN_PROBABILITY))

    @property
    def accuracy(self) -> float:
        """Return how often the model's first choice is the true label."""
        return float((self.pred_probs.argmax(axis=1) == self.clean_labels).mean())

    @property
    def disagreement(self) -> float:
        """Return how often the model's first choice is not the given label."""
        return float((self.pred_probs.argmax(axis=1) != self.labels).mean())


def flip(clean_labels: np.ndarray, rate: float, seed: int) -> tuple[np.ndarray, ...]:
    """Return labels of which a share is wrong, evenly over the other classes; the true ones; which.

    In the order in which `NoisyProbs` takes them.
    """
    labels, changed = inject_noise(clean_labels, rate, include_true=False, random_state=seed)
    return labels, clean_labels, changed


# -- verified sets --------------------------------------------------------------------------------


class Verified(NamedTuple):
    """A verified set: its labels as given, and what reviewers said of some of them."""

    pred_probs: np.ndarray
    labels: np.ndarray
    candidates: np.ndarray
    is_error: np.ndarray

    def noisy(self, rate: float, seed: int) -> NoisyProbs:
        """Return the set with a share of its labels flipped, the others taken to be right."""
        return NoisyProbs(self.pred_probs, *flip(self.labels, rate, seed))


def load_verified(folder: Path, name: str) -> Verified:
    """Read ``verified_NAME.npz``."""
    with np.load(folder / f"verified_{name}.npz", allow_pickle=False) as file:
        pred_probs = file["pred_probs"] / file["pred_probs"].sum(axis=1, keepdims=True)
        labels = file["labels"].astype(np.int64)
        return Verified(pred_probs, labels, file["candidate_index"], file["is_error"])


# -- out-of-fold predictions ----------------------------------------------------------------------


class ModelOnData(NamedTuple):
    """A data set of scikit-learn's, and a model to be trained on it with a seed."""

    load: Callable[..., Any]
    model: Callable[[int], BaseEstimator]


def logistic_regression(C: float = 1.0) -> BaseEstimator:
    """Return a logistic regression on standardised features."""
    return make_pipeline(StandardScaler(), LogisticRegression(C=C, max_iter=2000))


def calibrated_svm(seed: int) -> BaseEstimator:
    """Return what SVC(probability=True) was before scikit-learn 1.9 deprecated it."""
    return CalibratedClassifierCV(SVC(random_state=seed), ensemble=False)


MODELS = {
    "digits_logistic": ModelOnData(load_digits, lambda seed: logistic_regression(0.1)),
    "digits_forest": ModelOnData(
        load_digits, lambda seed: RandomForestClassifier(200, random_state=seed)
    ),
    "digits_svm": ModelOnData(load_digits, calibrated_svm),
    "digits_neighbours": ModelOnData(load_digits, lambda seed: KNeighborsClassifier(15)),
    "digits_mlp": ModelOnData(
        load_digits, lambda seed: MLPClassifier((64,), max_iter=60, random_state=seed)
    ),
    "breast_cancer": ModelOnData(load_breast_cancer, lambda seed: logistic_regression()),
    "wine": ModelOnData(load_wine, lambda seed: logistic_regression()),
    "iris": ModelOnData(load_iris, lambda seed: logistic_regression()),
}


def is_binary(name: str) -> bool:
    """Tell whether one of `MODELS` has two classes."""
    return MODELS[name].load is load_breast_cancer


def out_of_fold(model: BaseEstimator, inputs: np.ndarray, labels: np.ndarray, seed: int) -> Any:
    """Return the probabilities of each sample by a model that did not see it."""
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    return cross_val_predict(model, inputs, labels, cv=folds, method="predict_proba")


def noisy_out_of_fold(
    name: str, source: ModelOnData, rate: float, seed: int, cache: Path | None
) -> NoisyProbs:
    """Return out-of-fold probabilities on flipped labels, from the cache where it has them."""
    inputs, clean_labels = source.load(return_X_y=True)
    noisy = flip(clean_labels, rate, seed)
    model = source.model(seed)
    made_with = f"scikit-learn {sklearn.__version__}: {model!r}"
    path = None if cache is None else cache / f"{name}_{round(100 * rate):02d}_{seed}.npz"
    probs = None if path is None else _read_cache(path, made_with, noisy[0])
    if probs is None:
        probs = out_of_fold(model, inputs, noisy[0], seed)
        if path is not None:
            _write_cache(path, pred_probs=probs, labels=noisy[0], made_with=made_with)
    return NoisyProbs(probs, *noisy)


def _read_cache(path: Path, made_with: str, labels: np.ndarray) -> np.ndarray | None:
    """Return probabilities that the same model gave for the same labels, or None."""
    if not path.exists():
        return None
    with np.load(path, allow_pickle=False) as file:
        same = str(file["made_with"]) == made_with and np.array_equal(file["labels"], labels)
        return file["pred_probs"] if same else None


def _write_cache(path: Path, **arrays: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_open(path, "wb") as file:
        np.savez(file, **arrays)
