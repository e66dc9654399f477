"""Folds on disk: a run that was killed goes on, and what is not its own is refused."""

import json
import re
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from lossnoise import cross_val_losses
from lossnoise._fingerprint import fingerprint
from lossnoise.exceptions import CheckpointWarning, InvalidParameterError

COUNT = {"fits": 0, "dies_at": 0}


class Counting(ClassifierMixin, BaseEstimator):
    """Counts its fits, of all clones together, and dies in one of them."""

    def __init__(self, random_state=None):
        self.random_state = random_state

    def fit(self, X, y):
        COUNT["fits"] += 1
        if COUNT["fits"] == COUNT["dies_at"]:
            raise KeyboardInterrupt
        self.forest_ = RandomForestClassifier(5, random_state=self.random_state).fit(X, y)
        self.classes_ = self.forest_.classes_
        return self

    def predict_proba(self, X):
        return self.forest_.predict_proba(X)


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 3))
    return X, np.where(X[:, 0] + rng.normal(size=60) > 0.0, "yes", "no")


@pytest.fixture(autouse=True)
def _nothing_counted():
    COUNT.update(fits=0, dies_at=0)


def count_fits(*args, **kwargs):
    """Return what `cross_val_losses` returns, and how many fits it took."""
    COUNT.update(fits=0)
    found = cross_val_losses(*args, **kwargs)
    return found, COUNT["fits"]


@pytest.mark.parametrize("random_state", [None, 0])
def test_a_killed_run_goes_on_after_the_folds_that_were_done(data, tmp_path, random_state):
    X, y = data
    folder = tmp_path / "new" / "folds"
    settings = {"checkpoint_dir": folder, "random_state": random_state, "return_proba": True}
    COUNT["dies_at"] = 3
    with pytest.raises(KeyboardInterrupt):
        cross_val_losses(Counting(), X, y, **settings)
    assert sorted(path.name for path in folder.iterdir()) == ["fold-0001.npz", "fold-0002.npz"]
    COUNT["dies_at"] = 0
    (losses, probs), fits = count_fits(Counting(), X, y, **settings)
    assert fits == 3
    (again, probs_again), fits = count_fits(Counting(), X, y, **settings)
    assert fits == 0
    assert np.array_equal(losses, again)
    assert np.array_equal(probs, probs_again)
    if random_state == 0:
        assert np.array_equal(losses, cross_val_losses(Counting(), X, y, random_state=0))


def test_the_seed_of_the_first_call_is_taken_up_and_no_other(data, tmp_path):
    """Without one, each call would draw other folds, and could never go on."""
    X, y = data
    rng = np.random.default_rng(0)
    first = cross_val_losses(Counting(), X, y, checkpoint_dir=tmp_path, random_state=rng)
    losses, fits = count_fits(
        Counting(), X, y, checkpoint_dir=tmp_path, random_state=np.random.default_rng(0)
    )
    assert fits == 0
    assert np.array_equal(losses, first)
    with pytest.raises(InvalidParameterError, match="made with another 'random_state'"):
        cross_val_losses(Counting(), X, y, checkpoint_dir=tmp_path, random_state=rng)


@pytest.mark.parametrize(
    "damage",
    [
        lambda file: file[: len(file) // 2],
        lambda file: b"",
        lambda file: file.replace(b"pred_probs.npy", b"pred_prubs.npy"),
        lambda file: file[:200] + bytes([file[200] ^ 255]) + file[201:],
    ],
    ids=["half", "empty", "renamed", "bit"],
)
def test_a_damaged_fold_is_computed_anew(data, tmp_path, damage):
    X, y = data
    expected = cross_val_losses(Counting(), X, y, random_state=0, checkpoint_dir=tmp_path)
    path = tmp_path / "fold-0004.npz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.warns(CheckpointWarning) as caught:
        losses, fits = count_fits(Counting(), X, y, random_state=0, checkpoint_dir=tmp_path)
    assert re.fullmatch(
        rf"The file {re.escape(str(path))} cannot be read as a fold \(\w+\), which is computed "
        r"anew\.",
        str(caught[0].message),
    )
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert fits == 1
    assert np.array_equal(losses, expected)
    assert count_fits(Counting(), X, y, random_state=0, checkpoint_dir=tmp_path)[1] == 0


def test_a_fold_of_another_shape_is_computed_anew(data, tmp_path):
    X, y = data
    expected = cross_val_losses(Counting(), X, y, random_state=0, checkpoint_dir=tmp_path)
    path = tmp_path / "fold-0001.npz"
    with np.load(path) as file:
        call = file["call"]
    np.savez(path, pred_probs=np.ones((3, 2)), call=call)
    with pytest.warns(CheckpointWarning, match=r"as a fold \(shape \(3, 2\)\), which is computed"):
        losses = cross_val_losses(Counting(), X, y, random_state=0, checkpoint_dir=tmp_path)
    assert np.array_equal(losses, expected)


def test_no_code_in_a_file_is_run(data, tmp_path):
    X, y = data
    np.savez(
        tmp_path / "fold-0001.npz",
        pred_probs=np.array([print], dtype=object),
        call=np.array(json.dumps({"random_state": 0})),
    )
    with pytest.warns(CheckpointWarning, match=r"as a fold \(ValueError\)"):
        cross_val_losses(GaussianNB(), X, y, checkpoint_dir=tmp_path)


def test_other_files_in_the_folder_stay_as_they_are(data, tmp_path):
    for name in ("notes.txt", "fold-x.npz", "other.npz"):
        (tmp_path / name).write_text("mine")
    cross_val_losses(GaussianNB(), *data, checkpoint_dir=str(tmp_path))
    assert {path.name for path in tmp_path.iterdir() if path.read_bytes() == b"mine"} == {
        *("notes.txt", "fold-x.npz", "other.npz"),
    }


def changed(data, name):
    """Return arguments of a call that differs from another in one respect."""
    X, y = data
    other_X, other_y = X.copy(), y.copy()
    other_X[7, 1] += 1e-9
    other_y[7] = {"yes": "no", "no": "yes"}[y[7]]
    given = {"estimator": LogisticRegression(), "X": X, "y": y, "cv": 5, "random_state": 0}
    changes = {
        "estimator": LogisticRegression(C=2.0),
        "X": other_X,
        "y": other_y,
        "cv": KFold(5),
        "random_state": 1,
    }
    return given, given | {name: changes[name]}


@pytest.mark.parametrize("name", ["estimator", "X", "y", "cv", "random_state"])
def test_folds_of_another_call_are_refused(data, tmp_path, name):
    given, other = changed(data, name)
    cross_val_losses(**given, checkpoint_dir=tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    error = (
        "The 'checkpoint_dir' parameter of cross_val_losses must be a new folder, or that of the "
        f"same call: the folds in this one were made with another {name!r}. "
        f"Got {str(tmp_path)!r} instead."
    )
    with pytest.raises(InvalidParameterError, match=f"^{re.escape(error)}$"):
        cross_val_losses(**other, checkpoint_dir=tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_file_is_no_folder(data, tmp_path):
    path = tmp_path / "file"
    path.write_text("")
    with pytest.raises(InvalidParameterError, match=r"must be the path of a folder\. Got "):
        cross_val_losses(GaussianNB(), *data, checkpoint_dir=path)


def test_how_it_is_computed_does_not_matter(data, tmp_path):
    X, y = data
    for estimator in (RandomForestClassifier(3), RandomForestClassifier(3, n_jobs=2, verbose=0)):
        cross_val_losses(estimator, X, y, checkpoint_dir=tmp_path, random_state=0, verbose=False)


# -- fingerprints -----------------------------------------------------------------------------


class Plain:
    """Has no text of its own."""

    def __init__(self, setting):
        self.setting = setting


class Picture:
    """What numpy reads without being told, as it reads pictures of Pillow."""

    def __init__(self, value):
        self.pixels = np.full((2, 2), value)
        self.__array_interface__ = self.pixels.__array_interface__

    def __repr__(self):
        return "a picture"


def adding(value):
    return lambda x: x + value


VALUES = {
    "array": np.arange(6.0),
    "float32": np.arange(6, dtype=np.float32),
    "table": np.arange(6.0).reshape(2, 3),
    "objects": np.array(["a", None, (1, 2)], dtype=object),
    "dates": np.array(["2024-01-01"], dtype="datetime64[D]"),
    "frame": pd.DataFrame({"a": [1, 2], "b": ["x", "y"]}),
    "renamed frame": pd.DataFrame({"a": [1, 2], "c": ["x", "y"]}),
    "series": pd.Series([1, 2]),
    "sparse": sp.csr_matrix(np.eye(3)),
    "sparse transposed": sp.csr_matrix(np.eye(3)[::-1]),
    "model": make_pipeline(StandardScaler(), LogisticRegression()),
    "model 2": make_pipeline(StandardScaler(), LogisticRegression(C=2.0)),
    "function": FunctionTransformer(lambda x: x + 1),
    "function 2": FunctionTransformer(lambda x: x + 2),
    "function of a default": FunctionTransformer(lambda x, by=1: x + by),
    "function of a default 2": FunctionTransformer(lambda x, by=2: x + by),
    "function of a value": FunctionTransformer(adding(1)),
    "function of a value 2": FunctionTransformer(adding(2)),
    "seeded": RandomForestClassifier(random_state=np.random.RandomState(0)),
    "seeded 2": RandomForestClassifier(random_state=np.random.RandomState(1)),
    "generator 1": np.random.default_rng(0),
    "generator 2": np.random.default_rng(1),
    "picture": Picture(0),
    "picture 2": Picture(1),
    "nested function": FunctionTransformer(lambda x: (lambda y: y + 1)(x)),
    "nested function 2": FunctionTransformer(lambda x: (lambda y: y + 2)(x)),
    "class": LogisticRegression,
    "set": {"a", "b", "c", "d"},
    "mapping": {"a": [1, 2, (3, None)]},
    "generator": np.random.RandomState(0),
    "object": SimpleNamespace(),
    "plain object": Plain(1),
    "plain object 2": Plain(2),
    "object that holds itself": Plain(None),
}
VALUES["object that holds itself"].setting = VALUES["object that holds itself"]


def test_different_values_have_different_fingerprints():
    assert len({fingerprint(value) for value in VALUES.values()}) == len(VALUES)
    assert fingerprint(VALUES["sparse"]) == fingerprint(sp.csr_matrix(np.eye(3)))


def test_fingerprints_are_the_same_in_another_process():
    """Sets of strings are in another order there, and objects at another address."""
    path = __file__
    code = (
        f"import runpy; values = runpy.run_path({path!r}, run_name={__name__!r})['VALUES']\n"
        "from lossnoise._fingerprint import fingerprint\n"
        "print(*map(fingerprint, values.values()))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.split() == [fingerprint(v) for v in VALUES.values()], result.stderr
