"""Folds that are learnt in several processes."""

import re

import numpy as np
import pytest
import torch
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier

from lossnoise import cross_val_losses
from lossnoise.exceptions import InvalidParameterError

X, y = load_iris(return_X_y=True)
SETTINGS = {"cv": 3, "random_state": 0, "return_proba": True}


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_the_result_is_the_same(tmp_path, n_jobs):
    forest = RandomForestClassifier(5)
    expected = cross_val_losses(forest, X, y, **SETTINGS)
    found = cross_val_losses(forest, X, y, n_jobs=n_jobs, checkpoint_dir=tmp_path, **SETTINGS)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert len(list(tmp_path.glob("fold-*.npz"))) == 3


def test_a_call_goes_on_with_another_number(tmp_path, capsys):
    forest = RandomForestClassifier(5)
    expected = cross_val_losses(forest, X, y, checkpoint_dir=tmp_path, **SETTINGS)[0]
    kept = (tmp_path / "fold-0002.npz").read_bytes()
    for number in (1, 3):
        (tmp_path / f"fold-000{number}.npz").unlink()
    settings = SETTINGS | {"n_jobs": 2, "verbose": True, "checkpoint_dir": tmp_path}
    found = cross_val_losses(forest, X, y, **settings)[0]
    np.testing.assert_array_equal(found, expected)
    assert (tmp_path / "fold-0002.npz").read_bytes() == kept
    assert len(list(tmp_path.glob("fold-*.npz"))) == 3
    assert "3/3" in capsys.readouterr().err


@pytest.mark.parametrize("n_jobs", [0, 1.5, "2", True])
def test_it_is_a_number_of_folds(n_jobs):
    message = (
        "The 'n_jobs' parameter of cross_val_losses must be None or an int other than 0. Got "
        f"{n_jobs!r} instead."
    )
    with pytest.raises(InvalidParameterError, match=f"^{re.escape(message)}$"):
        cross_val_losses(RandomForestClassifier(5), X, y, n_jobs=n_jobs)


def test_a_network_has_one():
    with pytest.raises(InvalidParameterError, match="None or 1 for a network, which takes several"):
        cross_val_losses(torch.nn.Linear(4, 3), X.astype(np.float32), y, n_jobs=2)
