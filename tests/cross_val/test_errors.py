"""What `cross_val_losses` refuses, in full words."""

import re

import numpy as np
import pandas as pd
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.dummy import DummyClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold, RepeatedKFold, ShuffleSplit, TimeSeriesSplit
from sklearn.multioutput import MultiOutputClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from lossnoise import cross_val_losses
from lossnoise.exceptions import InvalidDataError, InvalidParameterError


def message(error):
    return f"^{re.escape(error)}$"


SPLITS_OF_FOUR = [([0, 1], [2, 3]), ([2, 3], [0, 1])]
ESTIMATOR = (
    "The 'estimator' parameter of cross_val_losses must be a classifier of scikit-learn with "
    "predict_proba (CalibratedClassifierCV gives one to any), a torch.nn.Module or a "
    "NoisyLabelTrainer. Got "
)
CV = "The 'cv' parameter of cross_val_losses must be "
GROUPS = "The 'groups' parameter of cross_val_losses must be "
Y = "The 'y' parameter of cross_val_losses must be "


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"estimator": LinearSVC()}, ESTIMATOR + "LinearSVC() instead."),
        (
            {"estimator": GaussianNB},
            ESTIMATOR + "<class 'sklearn.naive_bayes.GaussianNB'> instead.",
        ),
        (
            {"X": 3},
            "The 'X' parameter of cross_val_losses must be an array, a data frame or a list of "
            "rows. Got 3 instead.",
        ),
        (
            {"y": None},
            f"{Y}labels, one per row of 'X': only a torch Dataset brings its own. Got None "
            "instead.",
        ),
        ({"cv": 1}, CV + "an int in the range [2, inf). Got 1 instead."),
        ({"cv": True}, CV + "an int in the range [2, inf). Got True instead."),
        ({"cv": 5}, CV + "an int in the range [2, 4], as 'X' has 4 rows. Got 5 instead."),
        (
            {"cv": 3, "groups": ["a", "a", "b", "b"]},
            CV + "an int in the range [2, 2], as 'groups' has 2 of them. Got 3 instead.",
        ),
        (
            {"cv": "5"},
            f"{CV}an int, a splitter of scikit-learn, or an iterable of pairs (train, test). "
            "Got '5' instead.",
        ),
        (
            {"cv": KFold},
            f"{CV}an int, a splitter of scikit-learn, or an iterable of pairs (train, test). "
            f"Got {KFold} instead.",
        ),
        (
            {"random_state": -1},
            "The 'random_state' parameter of cross_val_losses must be an int in the range [0, inf)"
            ". Got -1 instead.",
        ),
        (
            {"random_state": 2**32},
            "The 'random_state' parameter of cross_val_losses must be None, an int in the range "
            "[0, 4294967295], or a generator of numpy. Got 4294967296 instead.",
        ),
        (
            {"checkpoint_dir": 3},
            "The 'checkpoint_dir' parameter of cross_val_losses must be the path of a folder. "
            "Got 3 instead.",
        ),
    ],
)
def test_parameters_that_cannot_be_used(given, error):
    settings = {"estimator": GaussianNB(), "X": np.eye(4), "y": [0, 1, 0, 1], "cv": SPLITS_OF_FOUR}
    with pytest.raises(InvalidParameterError, match=message(error)):
        cross_val_losses(**settings | given)


@pytest.mark.parametrize(
    ("given", "error"),
    [
        (
            {"y": [0, 1, 0]},
            f"{Y}of length 4, one label per row of 'X'. Got length 3 instead.",
        ),
        ({"y": ["a"] * 4}, f"{Y}labels of at least two classes. Got 'a' in all 4 rows instead."),
        (
            {"y": [0.0, 1.0, np.nan, 1.0]},
            f"{Y}free of missing values (None in a list is a label). Got nan in 1 of 4 rows, first "
            "in row 2, instead: leave these rows out of 'X' and 'y'.",
        ),
        (
            {"y": [1, "1", 1, "1"]},
            f"{Y}of one type that can be sorted, as the columns of probabilities are, or a pandas "
            "categorical. Got labels of type int, str instead.",
        ),
        (
            {"y": ["a", None, "b", None]},
            f"{Y}of one type that can be sorted, as the columns of probabilities are, or a pandas "
            "categorical. Got labels of type NoneType, str instead: None is a label of its own in "
            "a list or an array: leave out rows without one.",
        ),
        (
            {"y": np.eye(4)},
            f"{Y}a non-empty 1-D array or list of labels. Got an array of shape (4, 4) instead.",
        ),
        (
            {"X": pd.DataFrame(np.eye(4)), "y": pd.Series([0, 1, 0, 1], index=[3, 2, 1, 0])},
            f"{Y}in the order of 'X', as y.loc[X.index] is. Got its index in another order "
            "instead.",
        ),
        (
            {"cv": [([0, 1], [2, 3]), ([1, 2, 3], [0, 1])]},
            f"{CV}splits whose models have not seen the rows that they predict. Got 1 of 4 rows "
            "in both parts of split 2 instead.",
        ),
        (
            {"cv": [([0], [1, 2, 3]), ([1], [2, 3])]},
            f"{CV}splits that predict every row once. Got 1 of 4 rows never and 2 more than once, "
            "such as row 0, instead.",
        ),
        (
            {"cv": [([], [0, 1, 2, 3])]},
            f"{CV}splits with rows to learn from. Got none in split 1 instead.",
        ),
        (
            {"cv": [([0, 1], [2, 4])]},
            f"{CV}splits of positions in the range [0, 4). Got positions from 2 to 4 in split 1 "
            "instead.",
        ),
        (
            {"cv": [([0.0, 1.0], [2.0, 3.0])]},
            f"{CV}splits of positions in the range [0, 4). Got an array of shape (2,) and dtype "
            "float64 in split 1 instead.",
        ),
        (
            {"cv": SPLITS_OF_FOUR, "groups": [0, 1, 2, 0]},
            f"{CV}splits that keep the rows of each group together, where 'groups' are given. Got "
            "1 of 3 groups in both parts of split 1, such as 0, instead.",
        ),
        (
            {"groups": [0, 1, 2]},
            f"{GROUPS}of length 4, one group per row of 'X'. Got length 3 instead.",
        ),
        (
            {"X": pd.DataFrame(np.eye(4)), "groups": pd.Series([0, 0, 1, 1], index=[3, 2, 1, 0])},
            f"{GROUPS}in the order of 'X', as groups.loc[X.index] is. Got its index in another "
            "order instead.",
        ),
        (
            {"cv": [0, 1]},
            f"{CV}an iterable of pairs (train, test). Got a int as split 1 instead.",
        ),
    ],
)
def test_data_that_cannot_be_used(given, error):
    settings = {"estimator": GaussianNB(), "X": np.eye(4), "y": [0, 1, 0, 1], "cv": SPLITS_OF_FOUR}
    with pytest.raises(InvalidDataError, match=message(error)):
        cross_val_losses(**settings | given)


def test_the_first_rows_of_a_time_series_have_no_prediction():
    inputs, labels = np.eye(8), np.arange(8) % 2
    error = (
        f"{CV}splits that predict every row once. Got 2 of 8 rows never and 0 more than once, such "
        "as row 0, instead: where the first of a time series can have none, predict the others by "
        "yourself, and leave the first to on_nan='drop' of audit."
    )
    with pytest.raises(InvalidDataError, match=message(error)):
        cross_val_losses(GaussianNB(), inputs, labels, cv=TimeSeriesSplit(3))


def test_a_classifier_of_several_labels_is_refused():
    error = (
        "The 'estimator' parameter of cross_val_losses must be a classifier of one label for each "
        "row. Got MultiOutputClassifier(estimator=GaussianNB()) instead: of several, each is a "
        "task of its own, with the classifier that this one wraps."
    )
    with pytest.raises(InvalidParameterError, match=message(error)):
        cross_val_losses(MultiOutputClassifier(GaussianNB()), np.eye(8), np.arange(8) % 2)


@pytest.mark.parametrize("cv", [ShuffleSplit(5, random_state=0), RepeatedKFold(n_repeats=2)])
def test_splitters_that_do_not_predict_each_row_once(cv):
    with pytest.raises(InvalidDataError, match="must be splits that predict every row once"):
        cross_val_losses(GaussianNB(), np.eye(8), np.arange(8) % 2, cv=cv)


class Broken(DummyClassifier):
    """Gives what it is told to instead of probabilities."""

    def __init__(self, values=(0.5, 0.5), classes=None):
        super().__init__()
        self.values = values
        self.classes = classes

    def fit(self, X, y):
        super().fit(X, y)
        if self.classes:
            self.classes_ = np.array(self.classes)
        return self

    def predict_proba(self, X):
        return np.tile(self.values, (len(X), 1))


@pytest.mark.parametrize(
    ("broken", "error"),
    [
        (
            Broken((0.2, 0.3, 0.5)),
            "gives a row a sample and a column a class. Got an array of shape (2, 3) where (2, 2) "
            "is due instead.",
        ),
        (Broken((0.5, np.nan)), "gives rows that sum to 1. Got [0.5 nan] instead."),
        (Broken((-0.5, 1.5)), "gives rows that sum to 1. Got [-0.5  1.5] instead."),
        (Broken((0.5, 0.6)), "gives rows that sum to 1. Got [0.5 0.6] instead."),
    ],
)
def test_classifiers_that_give_no_probabilities(broken, error):
    start = "The 'estimator' parameter of cross_val_losses must be a classifier whose predict_proba"
    with pytest.raises(InvalidDataError, match=message(f"{start} {error}")):
        cross_val_losses(broken, np.eye(4), [0, 1, 0, 1], cv=2, random_state=0)


def test_classes_are_found_by_name_wherever_they_stand():
    X, y = np.eye(4), ["b", "a", "b", "a"]
    _, probs = cross_val_losses(
        Broken((0.5, 0.1, 0.4), ["b", "x", "a"]), X, y, cv=2, return_proba=True
    )
    np.testing.assert_allclose(probs, np.tile([4 / 9, 5 / 9], (4, 1)))
    error = (
        "The 'estimator' parameter of cross_val_losses must be a classifier whose classes_ hold "
        "the labels that it was given. Got one without 'a' instead."
    )
    with pytest.raises(InvalidDataError, match=message(error)):
        cross_val_losses(Broken((0.5, 0.5), ["b", "x"]), X, y, cv=2)


@pytest.mark.parametrize(
    "wrap",
    [
        FrozenEstimator,
        lambda fitted: CalibratedClassifierCV(FrozenEstimator(fitted)),
        lambda fitted: make_pipeline(StandardScaler(), FrozenEstimator(fitted)),
    ],
)
def test_a_frozen_classifier_has_seen_the_rows(wrap):
    X, y = np.eye(4), [0, 1, 0, 1]
    fitted = LogisticRegression().fit(X, y)
    error = (
        "The 'estimator' parameter of cross_val_losses must be a classifier that is fitted anew to "
        "the other folds. Got FrozenEstimator(estimator=LogisticRegression()) instead: a frozen "
        "one may have learned from the rows that it judges; one that has not is called beforehand, "
        "its predict_proba for audit, its transform for X."
    )
    with pytest.raises(InvalidParameterError, match=message(error)):
        cross_val_losses(wrap(fitted), X, y, cv=2)


def test_a_frozen_transformer_may_be_part_of_a_pipeline():
    X, y = np.random.default_rng(0).normal(size=(40, 2)), [0, 1] * 20
    model = make_pipeline(FrozenEstimator(StandardScaler().fit(X)), LogisticRegression())
    assert cross_val_losses(model, X, y, cv=2, random_state=0).shape == (40,)
