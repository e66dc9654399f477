"""`cross_val_losses`: learn each fold from the others, and keep what is predicted."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from contextlib import closing
from numbers import Integral
from typing import Any, Literal, Protocol, overload

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import _num_samples

from lossnoise._fingerprint import fingerprint
from lossnoise._losses import losses_from_probs
from lossnoise._progress import NoBar, make_bar
from lossnoise._validation import check_int, invalid_parameter
from lossnoise.cross_val._classifier import (
    ClassifierLearner,
    check_classifier,
    read_rows,
)
from lossnoise.cross_val._copies import warn_of_copies
from lossnoise.cross_val._folds import Fold, Rows, make_folds
from lossnoise.cross_val._labels import (
    OWNER,
    Labels,
    check_same_order,
    read_groups,
    read_labels,
)
from lossnoise.cross_val._saved import SavedFolds

FloatArray = NDArray[np.float64]
RandomState = int | np.random.Generator | np.random.RandomState | None

_LARGEST_SEED = 2**32 - 1  # that scikit-learn takes


class Learner(Protocol):
    """A model and its data: learns some rows, and predicts others."""

    rows: Any

    def predict_held_out(self, train: Rows, test: Rows, names: np.ndarray, seed: int) -> FloatArray:
        """Learn some rows; return probabilities of the labels `names` for others."""

    def fingerprints(self) -> dict[str, str]:
        """Return what tells the model and the data from others, by parameter."""


@overload
def cross_val_losses(
    estimator: Any,
    X: Any,
    y: Any = ...,
    *,
    cv: Any = ...,
    groups: Any = ...,
    return_proba: Literal[False] = ...,
    checkpoint_dir: str | os.PathLike[str] | None = ...,
    random_state: RandomState = ...,
    n_jobs: int | None = ...,
    verbose: bool = ...,
) -> FloatArray: ...


@overload
def cross_val_losses(
    estimator: Any,
    X: Any,
    y: Any = ...,
    *,
    cv: Any = ...,
    groups: Any = ...,
    return_proba: Literal[True],
    checkpoint_dir: str | os.PathLike[str] | None = ...,
    random_state: RandomState = ...,
    n_jobs: int | None = ...,
    verbose: bool = ...,
) -> tuple[FloatArray, FloatArray]: ...


@overload
def cross_val_losses(
    estimator: Any,
    X: Any,
    y: Any = ...,
    *,
    cv: Any = ...,
    groups: Any = ...,
    return_proba: bool,
    checkpoint_dir: str | os.PathLike[str] | None = ...,
    random_state: RandomState = ...,
    n_jobs: int | None = ...,
    verbose: bool = ...,
) -> FloatArray | tuple[FloatArray, FloatArray]: ...


def cross_val_losses(
    estimator: Any,
    X: Any,
    y: Any = None,
    *,
    cv: Any = 5,
    groups: Any = None,
    return_proba: bool = False,
    checkpoint_dir: str | os.PathLike[str] | None = None,
    random_state: RandomState = None,
    n_jobs: int | None = None,
    verbose: bool = False,
) -> FloatArray | tuple[FloatArray, FloatArray]:
    r"""Return the loss of each row by a model that has not seen it.

    The rows are divided into folds; each fold is predicted by a fresh copy of the model that has
    learnt the others. So no model has memorised the labels that it judges.

    Parameters
    ----------
    estimator : classifier, torch.nn.Module or NoisyLabelTrainer
        A classifier of scikit-learn with ``predict_proba``, or a pipeline that ends in one: each
        fold gets a clone. A network: each fold gets a copy with the weights as passed, trained
        by plain cross-entropy, with the default settings of `NoisyLabelTrainer` (100 epochs). A
        trainer: copies of its settings and its model, which it must not have trained: a model
        that has seen every row judges none. The estimator itself is left as it is.
    X : array-like, sparse matrix, data frame, list, Tensor, Dataset or DataLoader of n samples
        What `estimator` learns from. For networks an array, a tensor or a map-style dataset (a
        list of its samples too), whose random augmentation, if any, also falls on the rows that
        are predicted; or a loader of one, in order or with ``shuffle=True``, whose batches are
        made anew from the rows of each fold, by its collate function.
    y : array-like of shape (n,), optional
        Labels as given, of any one hashable type that can be sorted, or a pandas categorical; NaN
        is refused. Only a torch dataset may do without: its own are used, which `y` replaces where
        given.
    cv : int, splitter or iterable, default=5
        Number of folds, of `StratifiedKFold` with ``shuffle=True`` and `random_state`, or of
        `StratifiedGroupKFold` where `groups` are given; or a splitter of scikit-learn; or pairs
        (train, test) of positions. Every row must be predicted once, by a model that has not seen
        it.
    groups : array-like of shape (n,), optional
        What each row belongs to, of any hashable type: copies, and near copies, such as the
        pictures of one video, have one group. No model may have seen another row of the group that
        it predicts.
    return_proba : bool, default=False
        Whether to return the predicted probabilities too.
    checkpoint_dir : str or path-like, optional
        Folder to which each fold is written when it is done. The same call, made again, goes on
        from there. Labels, data, parameters, folds and seed must be the same ones; only data
        behind a dataset are taken on trust.
    random_state : int, Generator, RandomState or None, default=None
        Seed of the folds and, where the estimator has none of its own (a parameter
        ``random_state`` that is None), of the models. None draws one afresh, or takes that of
        the folds in `checkpoint_dir`.
    n_jobs : int or None, default=None
        Folds that are learnt at a time, by joblib: None for one, -1 for as many as there are
        processors. The result is the same. Only for classifiers: a network takes several
        processors for one fold.
    verbose : bool, default=False
        Whether to show the progress over the folds on stderr (where tqdm is installed).

    Returns
    -------
    losses : ndarray of shape (n,), float64
        :math:`-\log p(y_i \mid x_i)`, with p raised to 1e-12 where it is lower, in the order of
        the rows.
    pred_probs : ndarray of shape (n, C), float64
        Only with ``return_proba=True``: the probabilities, ready for ``audit(y, pred_probs=...)``.
        Columns are in the order of the sorted labels, or of the categories of a pandas
        categorical. Rows sum to 1. A class that a model has not seen gets 0.

    Raises
    ------
    InvalidParameterError
        The estimator has no ``predict_proba``, or a frozen classifier in it (`FrozenEstimator`)
        would judge rows that it may have seen; or a parameter has a value that it cannot have.
        `checkpoint_dir` holds folds of another call.
    InvalidDataError
        Lengths differ, labels are missing, all the same or without an order, or the folds do not
        predict each row once from others, or divide a group.

    Warns
    -----
    SmallClassWarning
        A class has so few rows that a model had to predict it without having seen it: the loss
        is then the largest there is, 27.6.
    EqualRowsWarning
        Many rows (10, and 1 % of all) are equal in `X` to others that their model learns from, and
        there are no `groups`: wrong labels that were copied with their rows look right. Datasets
        are not compared, other than a TensorDataset.
    CheckpointWarning
        A file in `checkpoint_dir` is damaged; the fold is computed anew.

    See Also
    --------
    audit : From labels and probabilities to a table of likely wrong labels.

    Notes
    -----
    A classifier learns the labels as they are, or, where scikit-learn has no such labels (tuples,
    bytes, fractions), their positions among the classes. A network learns integers
    from 0 as they are, and of other labels the positions. Where the rows to learn from have one
    label only, nothing is learnt: it gets the probability 1.

    Under ``torchrun`` every process needs the same `random_state`, as an int.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LogisticRegression
    >>> from lossnoise import cross_val_losses
    >>> X = np.linspace(-3.0, 3.0, 60).reshape(-1, 1)
    >>> y = np.where(X[:, 0] > 0.0, "high", "low")
    >>> y[5] = "high"  # wrong
    >>> losses, pred_probs = cross_val_losses(
    ...     LogisticRegression(), X, y, return_proba=True, random_state=0
    ... )
    >>> int(losses.argmax())
    5
    >>> pred_probs.shape
    (60, 2)
    """
    saved = SavedFolds(checkpoint_dir)
    learner, labels = make_learner(estimator, X, y)
    jobs = _read_jobs(n_jobs, learner)
    seed = _read_seed(random_state, saved.seed)
    groups = read_groups(groups, X, len(labels.codes))
    folds = make_folds(cv, learner.rows, labels, groups, seed)
    if saved.active:
        saved.begin(_describe_call(learner, labels, folds, seed))
    if groups is None:
        warn_of_copies(X, folds)
    pred_probs = _predict_folds(learner, labels, folds, seed, saved, jobs=jobs, verbose=verbose)
    losses = losses_from_probs(pred_probs, labels.codes)
    return (losses, pred_probs) if return_proba else losses


def make_learner(estimator: Any, X: Any, y: Any) -> tuple[Learner, Labels]:
    """Return an estimator with its data; torch is needed only for what comes from torch."""
    if _is_network(estimator):
        return _make_network_learner(estimator, X, y)
    check_classifier(estimator)
    rows = read_rows(X)
    check_same_order(X, y, "y")
    labels = read_labels(y, _num_samples(rows), for_network=False)
    return ClassifierLearner(estimator, rows, labels.targets), labels


def _make_network_learner(estimator: Any, X: Any, y: Any) -> tuple[Learner, Labels]:
    from lossnoise.training import _held_out

    trainer = _held_out.read_trainer(OWNER, estimator)
    data = _held_out.read_data(OWNER, X, trainer.model)
    given = _held_out.read_own_labels(data) if y is None and data is X else y
    check_same_order(X, y, "y")
    labels = read_labels(given, len(_held_out.dataset_of(data)), for_network=True)
    targets = None if y is None else labels.targets
    return _held_out.NetworkLearner(trainer, data, targets), labels


def _is_network(estimator: Any) -> bool:
    """Tell whether it is a network or a trainer of one: those exist only where torch is loaded."""
    torch, ours = sys.modules.get("torch"), sys.modules.get("lossnoise.training.trainer")
    if torch is not None and isinstance(estimator, torch.nn.Module):
        return True
    return ours is not None and isinstance(estimator, ours.NoisyLabelTrainer)


def _read_seed(random_state: object, saved: int | None) -> int:
    if random_state is None:
        return int(np.random.default_rng().integers(2**31)) if saved is None else saved
    if isinstance(random_state, np.random.Generator):
        return int(random_state.integers(2**31))
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(2**31 - 1))
    if isinstance(random_state, Integral) and random_state <= _LARGEST_SEED:
        return check_int(OWNER, "random_state", random_state, 0)
    expected = f"None, an int in the range [0, {_LARGEST_SEED}], or a generator of numpy"
    raise invalid_parameter(OWNER, "random_state", expected, random_state)


def _read_jobs(n_jobs: Any, learner: Learner) -> int:
    """Return how many folds to learn at a time, as joblib takes it."""
    if not isinstance(n_jobs, (Integral, type(None))) or isinstance(n_jobs, bool) or n_jobs == 0:
        raise invalid_parameter(OWNER, "n_jobs", "None or an int other than 0", n_jobs)
    if n_jobs not in (None, 1) and not isinstance(learner, ClassifierLearner):
        expected = "None or 1 for a network, which takes several processors for one fold"
        raise invalid_parameter(OWNER, "n_jobs", expected, n_jobs)
    return 1 if n_jobs is None else int(n_jobs)


def _describe_call(
    learner: Learner, labels: Labels, folds: list[Fold], seed: int
) -> dict[str, Any]:
    """Return what must be the same for a call to go on from another's folds, by parameter."""
    return {
        **learner.fingerprints(),
        "y": fingerprint((labels.classes, labels.codes)),
        "random_state": seed,
        "cv": fingerprint(folds),
    }


def _predict_folds(
    learner: Learner,
    labels: Labels,
    folds: list[Fold],
    seed: int,
    saved: SavedFolds,
    *,
    jobs: int,
    verbose: bool,
) -> FloatArray:
    pred_probs = np.zeros((len(labels.codes), len(labels.classes)))
    seeds = np.random.SeedSequence(seed).generate_state(len(folds)).tolist()
    found = [saved.load(i, (len(f.test), len(labels.classes))) for i, f in enumerate(folds, 1)]
    missing = [i for i, known in enumerate(found) if known is None]
    calls = [(learner, labels, folds[i], seeds[i], saved, i + 1) for i in missing]
    bar = make_bar(len(folds), OWNER, "fold", brief=True) if verbose else NoBar()
    with closing(bar):
        for _ in range(len(folds) - len(missing)):
            bar.update()
        for i, learnt in zip(missing, _learn_all(calls, jobs), strict=True):
            found[i] = learnt
            bar.update()
    for fold, known in zip(folds, found, strict=True):
        pred_probs[fold.test] = known
    return pred_probs


def _learn_all(calls: list[tuple[Any, ...]], jobs: int) -> Iterable[FloatArray]:
    """Return what `_learn_fold` does, here or in other processes."""
    if jobs == 1:
        return (_learn_fold(*call) for call in calls)
    found: list[FloatArray] = Parallel(n_jobs=jobs)(delayed(_learn_fold)(*c) for c in calls)
    return found


def _learn_fold(
    learner: Learner, labels: Labels, fold: Fold, seed: int, saved: SavedFolds, number: int
) -> FloatArray:
    """Predict a fold, and keep it as soon as it is done."""
    found = _predict_fold(learner, labels, fold, seed)
    saved.save(number, found)
    return found


def _predict_fold(learner: Learner, labels: Labels, fold: Fold, seed: int) -> FloatArray:
    """Return probabilities of all classes for the rows held out; 0 for classes not seen."""
    present = np.unique(labels.codes[fold.train])
    found = np.ones((len(fold.test), 1))  # of the only class, where there is nothing to learn
    if len(present) > 1 and len(fold.test):
        found = learner.predict_held_out(fold.train, fold.test, labels.names[present], seed)
    spread = np.zeros((len(fold.test), len(labels.classes)))
    spread[:, present] = found
    return np.asarray(spread / spread.sum(axis=1, keepdims=True))
