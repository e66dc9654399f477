"""Held-out losses by classifiers of scikit-learn: what is predicted by whom."""

import subprocess
import sys

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.datasets import load_iris
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import pairwise_distances
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    KFold,
    StratifiedKFold,
    cross_val_predict,
)
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from lossnoise import _losses, audit, cross_val_losses
from lossnoise.exceptions import EqualRowsWarning, SmallClassWarning

NAMES = np.array(["setosa", "versicolor", "virginica"])
MIN_PROBABILITY = 1e-12


@pytest.fixture(scope="module")
def iris():
    X, y = load_iris(return_X_y=True)
    return X, NAMES[y]


@pytest.fixture
def model():
    return make_pipeline(StandardScaler(), LogisticRegression())


def by_hand(model, X, y, folds):
    """Return probabilities, one fold after the other, without scikit-learn's help."""
    classes = sorted(set(y))
    probs = np.zeros((len(y), len(classes)))
    for train, test in folds:
        fitted = clone(model).fit(X[train], y[train])
        columns = [classes.index(label) for label in fitted.classes_]
        probs[np.ix_(test, columns)] = fitted.predict_proba(X[test])
    return probs


# -- what is predicted ------------------------------------------------------------------------


def test_losses_and_probabilities_are_those_of_cross_val_predict(model, iris):
    X, y = iris
    folds = StratifiedKFold(5, shuffle=True, random_state=3)
    expected = cross_val_predict(model, X, y, cv=folds, method="predict_proba")
    losses, probs = cross_val_losses(model, X, y, return_proba=True, random_state=3)
    np.testing.assert_allclose(probs, expected, rtol=1e-14)
    codes = np.searchsorted(NAMES, y)
    np.testing.assert_allclose(losses, -np.log(expected[np.arange(150), codes]), rtol=1e-12)
    assert losses.dtype == probs.dtype == np.float64
    assert np.array_equal(losses, cross_val_losses(model, X, y, random_state=3))


def test_splits_of_all_kinds_are_those_of_a_loop_by_hand(model, iris):
    X, y = iris
    folds = list(KFold(4, shuffle=True, random_state=1).split(X))
    expected = by_hand(model, X, y, folds)
    masks = [tuple(np.isin(np.arange(150), rows) for rows in fold) for fold in folds]
    for cv in (KFold(4, shuffle=True, random_state=1), folds, iter(folds), masks):
        _, probs = cross_val_losses(model, X, y, cv=cv, return_proba=True)
        np.testing.assert_allclose(probs, expected, rtol=1e-14)


def test_groups_stay_together(model, iris):
    X, y = iris
    groups = np.arange(150) % 7
    expected = by_hand(model, X, y, GroupKFold(3).split(X, y, groups))
    _, probs = cross_val_losses(
        model, X, y, cv=GroupKFold(3), groups=groups.tolist(), return_proba=True
    )
    np.testing.assert_allclose(probs, expected, rtol=1e-14)


@pytest.mark.parametrize("cv", [2, 5])
def test_near_copies_of_one_group_are_held_out_together(cv):
    """A tree knows the copy of a row by heart, where it has seen one."""
    rng = np.random.default_rng(0)
    X = np.tile(rng.normal(size=(75, 3)), (2, 1))
    y, groups = np.tile(np.arange(75) % 2, 2), [f"video {i}" for i in range(75)] * 2
    losses = cross_val_losses(DecisionTreeClassifier(), X, y, cv=cv, groups=groups, random_state=0)
    assert (losses > 1.0).mean() > 0.3


def test_groups_of_small_classes_are_held_out_together():
    X, y, groups = np.arange(8.0).reshape(-1, 1), list("aabbccdd"), list("pqpqrsrs")
    with pytest.warns(SmallClassWarning, match="drawn without regard to the classes"):
        _, probs = cross_val_losses(
            GaussianNB(), X, y, cv=4, groups=groups, return_proba=True, random_state=0
        )
    np.testing.assert_allclose(probs.sum(axis=1), 1.0)


def test_rows_of_any_container(model, iris):
    X, y = iris
    expected = cross_val_losses(model, X, y, random_state=0)
    columns = ["a", "b", "c", "d"]
    for rows, labels in (
        (pd.DataFrame(X, columns=columns), pd.Series(y, dtype="string")),
        (pd.DataFrame(X, columns=columns, index=y), pd.Categorical(y)),
        (pl.DataFrame(X, schema=columns), pl.Series(y)),
        (X.tolist(), y.tolist()),
    ):
        found = cross_val_losses(model, rows, labels, random_state=0)
        np.testing.assert_allclose(found, expected, rtol=1e-12)
    plain = LogisticRegression(max_iter=1000)
    expected = cross_val_losses(plain, X, y, random_state=0)
    for rows in (sp.csr_matrix(X), sp.coo_array(X), sp.csc_array(X)):
        found = cross_val_losses(plain, rows, y, random_state=0)
        np.testing.assert_allclose(found, expected, atol=3e-3)  # the solver ends elsewhere


def test_columns_by_name_texts_and_distances(iris):
    """What a pipeline does with the rows is its own affair."""
    texts = ["cats purr", "dogs bark"] * 20
    labels = ["cat", "dog"] * 20
    labels[3] = "cat"
    with pytest.warns(EqualRowsWarning, match=r"as groups=X does\."):
        losses = cross_val_losses(
            make_pipeline(TfidfVectorizer(), GaussianToArray()), texts, labels
        )
    assert losses.argmax() == 3
    X, y = np.random.default_rng(0).normal(size=(150, 3)), iris[1]
    near = KNeighborsClassifier(9)
    far = KNeighborsClassifier(9, metric="precomputed")
    np.testing.assert_allclose(
        cross_val_losses(far, pairwise_distances(X), y, random_state=0),
        cross_val_losses(near, X, y, random_state=0),
    )


class GaussianToArray(GaussianNB):
    """Takes sparse rows."""

    def fit(self, X, y):
        return super().fit(X.toarray(), y)

    def predict_proba(self, X):
        return 0.9 * super().predict_proba(X.toarray()) + 0.05


@pytest.mark.parametrize(
    "names",
    [
        ["b", "a", "c"],
        [3, 1, 2],
        [-1.0, 0.0, 7.0],
        [(0, 1), (2, 3), (1, 1)],
        [b"u", b"v", b"w"],
        [0.5, 0.25, 1.0],  # which scikit-learn takes for a regression
    ],
)
def test_labels_of_any_type(iris, names):
    X, y = iris
    codes = np.searchsorted(NAMES, y)
    labels = [names[code] for code in codes]
    losses, probs = cross_val_losses(GaussianNB(), X, labels, return_proba=True, random_state=0)
    columns = sorted(set(labels)).index
    given = probs[np.arange(150), [columns(label) for label in labels]]
    np.testing.assert_allclose(losses, -np.log(np.maximum(given, MIN_PROBABILITY)), atol=1e-12)
    expected = cross_val_losses(GaussianNB(), X, y, random_state=0)
    np.testing.assert_allclose(losses, expected, rtol=1e-12)


def test_settings_that_name_labels_are_understood(iris):
    """They would not be, if the classifier were given positions instead."""
    X, y = iris
    weighty = LogisticRegression(class_weight={"setosa": 9.0}, max_iter=1000)
    losses = cross_val_losses(weighty, X, y, random_state=0)
    plain = cross_val_losses(LogisticRegression(max_iter=1000), X, y, random_state=0)
    assert losses[y == "setosa"].mean() < plain[y == "setosa"].mean()


@pytest.mark.filterwarnings("ignore:Cannot tell:UserWarning")
def test_results_go_into_the_audit(model, iris):
    X, y = iris
    wrong = y.copy()
    wrong[[4, 70]] = ["virginica", "setosa"]
    series = pd.Series(wrong, index=[f"flower-{i}" for i in range(150)])
    losses, probs = cross_val_losses(model, X, series, return_proba=True, random_state=0)
    report = audit(series, pred_probs=probs)
    assert set(report.table.index[:2]) == {"flower-4", "flower-70"}
    np.testing.assert_allclose(report.losses, losses, atol=1e-12)
    categories = pd.Categorical(wrong, categories=["virginica", "none", "setosa", "versicolor"])
    _, by_category = cross_val_losses(model, X, categories, return_proba=True, random_state=0)
    expected = np.c_[probs[:, 2], np.zeros(150), probs[:, :2]]
    np.testing.assert_allclose(by_category, expected, rtol=1e-14)
    assert set(audit(categories, pred_probs=by_category).order[:2]) == {4, 70}


def test_one_floor_for_probabilities_everywhere(iris):
    assert _losses.MIN_PROBABILITY == MIN_PROBABILITY
    X, y = iris
    y = y.copy()
    y[0] = "virginica"
    losses = cross_val_losses(GaussianNB(), X, y, random_state=0)
    assert losses[0] == -np.log(1e-12)
    sure = cross_val_losses(KNeighborsClassifier(1), X, y, random_state=0)
    assert np.signbit(sure).sum() == 0  # not -0.0
    assert set(sure) == {0.0, -np.log(1e-12)}


# -- reproducible -----------------------------------------------------------------------------


def test_the_seed_reaches_folds_and_models_and_no_global_generator(iris):
    X, y = iris
    forest = make_pipeline(StandardScaler(), RandomForestClassifier(5))

    def losses(random_state, cv=5, model=forest):
        return cross_val_losses(model, X, y, cv=cv, random_state=random_state)

    before = np.random.get_state()[1].tobytes()  # noqa: NPY002  # must stay as it is
    assert np.array_equal(losses(0), losses(0))
    assert not np.array_equal(losses(0), losses(1))
    assert not np.array_equal(losses(None), losses(None))
    for make in (np.random.default_rng, np.random.RandomState):
        assert np.array_equal(losses(make(5)), losses(make(5)))
    splitter = StratifiedKFold(3, shuffle=True)  # draws from the global generator by itself
    assert np.array_equal(losses(0, splitter), losses(0, splitter))
    assert splitter.random_state is None
    assert np.random.get_state()[1].tobytes() == before  # noqa: NPY002  # same
    assert forest[-1].random_state is None
    assert not hasattr(forest[-1], "estimators_")


def test_a_seed_of_the_model_is_left_to_it(iris):
    X, y = iris
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    forest = RandomForestClassifier(5, random_state=7)
    expected = cross_val_predict(forest, X, y, cv=folds, method="predict_proba")
    _, probs = cross_val_losses(forest, X, y, cv=folds, return_proba=True, random_state=99)
    np.testing.assert_allclose(probs, expected, rtol=1e-14)


def test_parameter_searches_inside_a_fold(iris):
    X, y = iris
    search = GridSearchCV(LogisticRegression(max_iter=1000), {"C": [0.1, 1.0]}, cv=3)
    again = GridSearchCV(search.estimator, search.param_grid, cv=StratifiedKFold(3, shuffle=True))
    before = np.random.get_state()[1].tobytes()  # noqa: NPY002  # must stay as it is
    cross_val_losses(again, X, y, cv=3)
    assert np.random.get_state()[1].tobytes() == before  # noqa: NPY002  # same
    assert again.cv.random_state is None
    expected = by_hand(search, X, y, StratifiedKFold(3, shuffle=True, random_state=0).split(X, y))
    _, probs = cross_val_losses(search, X, y, cv=3, return_proba=True, random_state=0)
    np.testing.assert_allclose(probs, expected, rtol=1e-14)


# -- small classes ----------------------------------------------------------------------------


def test_a_class_with_one_row_cannot_be_judged(iris):
    X, y = iris
    y = y.astype(object)
    y[10] = "rare"
    with pytest.warns(SmallClassWarning) as caught:
        losses, probs = cross_val_losses(GaussianNB(), X, y, return_proba=True, random_state=0)
    assert [str(w.message) for w in caught] == [
        "Labels that a model had not seen when it predicted rows that have them: 'rare'. The loss "
        "of these 1 of 150 rows is the largest there is (27.6), whatever they look like."
    ]
    assert caught[0].filename == __file__
    assert losses[10] == -np.log(1e-12)
    assert probs[10, 0] == 0.0  # "rare" sorts first
    np.testing.assert_allclose(probs.sum(axis=1), 1.0, rtol=1e-14)
    others = np.delete(losses, 10)
    assert (others < 27.0).mean() > 0.95


def test_fewer_rows_than_folds_are_no_reason_to_warn(iris):
    X, y = iris
    y = y.astype(object)
    y[[10, 20, 30]] = "rare"
    losses = cross_val_losses(DummyClassifier(), X, y, random_state=0)  # warnings are errors
    assert losses[10] == pytest.approx(-np.log(3 / 120), rel=0.5)


def test_a_missing_class_gets_nothing_and_the_rest_all(iris):
    X, y = iris
    by_class = [(np.flatnonzero(y != name), np.flatnonzero(y == name)) for name in NAMES]
    with pytest.warns(SmallClassWarning, match="these 150 of 150 rows"):
        losses, probs = cross_val_losses(GaussianNB(), X, y, cv=by_class, return_proba=True)
    assert (losses == -np.log(1e-12)).all()
    codes = np.searchsorted(NAMES, y)
    assert (probs[np.arange(150), codes] == 0.0).all()
    np.testing.assert_allclose(probs.sum(axis=1), 1.0, rtol=1e-14)
    _, test = by_class[0]
    seen = GaussianNB().fit(X[50:], y[50:]).predict_proba(X[test])
    np.testing.assert_allclose(probs[test, 1:], seen, rtol=1e-14)


def test_one_label_left_to_learn_from_needs_no_model():
    """Most classifiers refuse to learn from one class."""
    X = np.arange(6.0).reshape(-1, 1)
    y = ["a", "a", "a", "a", "a", "b"]
    with pytest.warns(SmallClassWarning, match="have them: 'b'"):
        losses, probs = cross_val_losses(
            LogisticRegression(), X, y, cv=5, return_proba=True, random_state=0
        )
    assert probs[5].tolist() == [1.0, 0.0]
    assert losses[5] == -np.log(1e-12)
    assert (losses[:5] < 5.0).all()


def test_without_a_class_as_large_as_the_folds_nothing_is_stratified():
    X = np.arange(8.0).reshape(-1, 1)
    y = [0, 0, 0, 1, 1, 1, 2, 2]
    with pytest.warns(SmallClassWarning) as caught:
        losses, probs = cross_val_losses(
            GaussianNB(), X, y, cv=4, return_proba=True, random_state=0
        )
    assert str(caught[0].message) == (
        "No class has as many rows as there are folds (4): the largest has 3. The folds are drawn "
        "without regard to the classes."
    )
    assert all(w.filename == __file__ for w in caught)
    expected = by_hand(
        GaussianNB(), X, np.array(y), KFold(4, shuffle=True, random_state=0).split(X)
    )
    np.testing.assert_allclose(probs, expected, rtol=1e-14)
    assert np.isfinite(losses).all()


@pytest.mark.filterwarnings("ignore::lossnoise.exceptions.SmallClassWarning")
@settings(max_examples=40)
@given(
    labels=st.lists(st.sampled_from("abcde"), min_size=2, max_size=25).filter(
        lambda y: len(set(y)) > 1
    ),
    cv=st.integers(2, 6),
    seed=st.integers(0, 2**32 - 1),
)
def test_whatever_the_labels_each_row_is_judged_by_strangers(labels, cv, seed):
    cv = min(cv, len(labels))
    X = np.arange(len(labels)).reshape(-1, 1)
    losses, probs = cross_val_losses(
        Witness(), X, labels, cv=cv, return_proba=True, random_state=seed
    )
    classes = sorted(set(labels))
    np.testing.assert_allclose(probs.sum(axis=1), 1.0, rtol=1e-12)
    given_probs = probs[np.arange(len(labels)), [classes.index(label) for label in labels]]
    np.testing.assert_allclose(
        losses, -np.log(np.clip(given_probs, MIN_PROBABILITY, 1.0)), atol=1e-12
    )
    assert probs.shape == (len(labels), len(classes))


class Witness(ClassifierMixin, BaseEstimator):
    """Predicts the shares of the labels, and refuses rows that it has seen."""

    def fit(self, X, y):
        self.seen_ = set(X[:, 0].tolist())
        self.classes_, counts = np.unique(y, return_counts=True)
        self.share_ = counts / counts.sum()
        assert len(self.classes_) > 1
        return self

    def predict_proba(self, X):
        assert not self.seen_ & set(X[:, 0].tolist())
        return np.tile(self.share_, (len(X), 1))


# -- without torch, with progress -------------------------------------------------------------


def test_scikit_learn_needs_no_torch_and_no_optional_package():
    code = (
        "import sys, numpy as np\n"
        "from sklearn.naive_bayes import GaussianNB\n"
        "from lossnoise import cross_val_losses\n"
        "X = np.arange(40.0).reshape(-1, 1)\n"
        "cross_val_losses(GaussianNB(), X, X[:, 0] > 20.0, return_proba=True)\n"
        "print(sorted({'torch', 'matplotlib', 'tqdm'} & set(sys.modules)))\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "[]", result.stderr


@pytest.mark.parametrize("tqdm_installed", [True, False])
def test_one_bar_over_the_folds_on_stderr(iris, monkeypatch, capsys, tqdm_installed):
    if not tqdm_installed:
        monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    cross_val_losses(GaussianNB(), *iris, cv=3)
    assert capsys.readouterr() == ("", "")
    cross_val_losses(GaussianNB(), *iris, cv=3, verbose=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert ("cross_val_losses: 100%" in err and "3/3" in err) is tqdm_installed
