"""Equal rows in several folds are told: a copy teaches the model the label that it judges."""

import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse as sp
import torch
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import GroupKFold
from sklearn.naive_bayes import GaussianNB
from torch.utils.data import DataLoader, Dataset, TensorDataset

from lossnoise import NoisyLabelTrainer, audit, cross_val_losses
from lossnoise.cross_val._copies import warn_of_copies
from lossnoise.cross_val._folds import Fold
from lossnoise.exceptions import EqualRowsWarning
from lossnoise.noise import inject_noise

HALVES = [Fold(np.arange(40, 80), np.arange(40)), Fold(np.arange(40), np.arange(40, 80))]
ONCE = np.random.default_rng(0).normal(size=(80, 3)).round(3)
TWICE = np.vstack([ONCE[:40]] * 2)
BYTES = "[row.tobytes() for row in X]"
TUPLES = "list(map(tuple, X))"
HASHES = "pd.util.hash_pandas_object(X, index=False)"
LISTS = "[str(row.tolist()) for row in X]"


def texts(rows):
    return [f"text {row}" for row in rows]


CONTAINERS = {
    "array": (np.array, BYTES),
    "column by column": (np.asfortranarray, BYTES),
    "pictures": (lambda rows: np.stack([rows, rows], axis=2), BYTES),
    "objects": (lambda rows: rows.astype(object), TUPLES),
    "lists": (np.ndarray.tolist, TUPLES),
    "list of arrays": (list, BYTES),
    "tuple": (tuple, BYTES),
    "list of tensors": (lambda rows: list(torch.tensor(rows)), LISTS),
    "texts": (texts, "X"),
    "array of texts": (lambda rows: np.array(texts(rows)), "X"),
    "texts of pandas": (lambda rows: pd.Series(texts(rows)), HASHES),
    "pandas": (lambda rows: pd.DataFrame(rows).assign(text=texts(rows)), HASHES),
    "polars": (lambda rows: pl.DataFrame(rows), "X.hash_rows()"),
    "tensor": (torch.tensor, LISTS),
    "dataset": (
        lambda rows: TensorDataset(torch.tensor(rows), torch.arange(80)),
        LISTS.replace("X", "X.tensors[0]"),
    ),
    "loader": (
        lambda rows: DataLoader(TensorDataset(torch.tensor(rows)), batch_size=8),
        LISTS.replace("X", "X.dataset.tensors[0]"),
    ),
    **{
        make.__name__: (make, "X @ np.random.default_rng(0).random(X.shape[1])")
        for make in (sp.csr_matrix, sp.csr_array, sp.csc_array, sp.coo_array)
    },
}


class Samples(Dataset):
    """May draw its samples at random."""

    def __len__(self):
        return 80

    def __getitem__(self, index):
        raise AssertionError("not to be read")


@pytest.mark.parametrize("kind", CONTAINERS)
def test_equal_rows_are_told_with_groups_that_hold_them_together(kind):
    make, recipe = CONTAINERS[kind]
    warn_of_copies(make(ONCE), HALVES)  # warnings are errors
    with pytest.warns(EqualRowsWarning) as caught:
        warn_of_copies(make(TWICE), HALVES)
    assert [str(w.message) for w in caught] == [
        "80 of 80 rows of 'X' are equal to others that their model learns from, and it may repeat "
        "the labels of these: a wrong label that was copied with its row then looks right. Hold "
        f"copies out together, as groups={recipe} does. Rows that are equal by chance, as of a few "
        "small integers, and were labelled one by one are no copies."
    ]
    groups = eval(recipe, {"X": make(TWICE), "np": np, "pd": pd})
    labels = np.arange(80) % 2
    cross_val_losses(GaussianNB(), TWICE, labels, groups=groups, cv=3)  # and they are allowed
    folds = [Fold(*fold) for fold in GroupKFold(3).split(TWICE, labels, np.arange(80) % 40)]
    warn_of_copies(make(TWICE), folds)


@pytest.mark.parametrize(
    "X",
    [
        Samples(),
        DataLoader(Samples()),
        type("Subclass", (TensorDataset,), {})(torch.tensor(TWICE)),
        [{"a": 1.0}] * 80,
        [[[1.0, 2.0]]] * 80,
        pd.DataFrame({"a": [[1.0]] * 80}),
        TWICE[:70],  # of another length
        [],
        np.zeros(()),
        object(),
        None,
    ],
    ids=lambda X: type(X).__name__,
)
def test_nothing_is_said_of_rows_that_cannot_be_compared_at_little_cost(X):
    warn_of_copies(X, HALVES)


@pytest.mark.parametrize(("size", "copies", "told"), [(80, 4, 0), (80, 5, 10), (3000, 14, 0)])
def test_few_copies_are_not_worth_a_word(size, copies, told):
    X = np.arange(float(size)).reshape(-1, 1)
    X[size // 2 : size // 2 + copies] = X[:copies]
    whole = np.arange(size)
    folds = [Fold(*np.split(whole, 2)), Fold(*np.split(whole, 2)[::-1])]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_of_copies(X, folds)
    assert [str(w.message)[:8] for w in caught] == [f"{told} of {size}"] * (told > 0)


def test_rows_that_differ_little_are_not_taken_for_equal():
    """Python hashes -1 and -2 alike, and a sparse row may have its cells in any order."""
    integers = np.arange(80).reshape(-1, 1) - 40
    for X in (integers, integers.tolist(), integers.astype(object), pd.DataFrame(integers)):
        warn_of_copies(X, HALVES)
    rows = sp.csr_array(TWICE)
    rows.indices[:3], rows.data[:3] = rows.indices[:3][::-1].copy(), rows.data[:3][::-1].copy()
    before = rows.data.copy()
    with pytest.warns(EqualRowsWarning, match="80 of 80 rows"):
        warn_of_copies(rows, HALVES)
    assert np.array_equal(rows.data, before)


def test_copies_hide_wrong_labels_unless_they_are_held_out_together():
    X, y = load_digits(return_X_y=True)
    X, y = X[:600], y[:600]
    noisy, changed = inject_noise(y, 0.1, include_true=False, random_state=0)
    X, noisy, changed = np.tile(X, (2, 1)), np.tile(noisy, 2), np.tile(changed, 2)
    model = RandomForestClassifier(30, random_state=0)
    with pytest.warns(EqualRowsWarning, match=r"^\d+ of 1200 rows") as caught:
        apart = cross_val_losses(model, X, noisy, random_state=0)
    assert caught[0].filename == __file__
    groups = [row.tobytes() for row in X]
    together, probs = cross_val_losses(
        model, X, noisy, groups=groups, return_proba=True, random_state=0
    )
    worst = [np.argsort(losses)[-changed.sum() :] for losses in (apart, together)]
    assert changed[worst[0]].mean() < 0.8 < 0.9 < changed[worst[1]].mean()
    assert audit(noisy, pred_probs=probs).summary["noise_rate"] > 0.05


@pytest.mark.parametrize("data", ["X and y", "dataset"])
def test_rows_of_networks_are_compared(make_net, data):
    inputs, labels = torch.tensor(TWICE[:, :2], dtype=torch.float32), torch.arange(80) % 2
    given = (inputs, labels) if data == "X and y" else (TensorDataset(inputs, labels),)
    trainer = NoisyLabelTrainer(make_net(num_classes=2), correction="cross-entropy", epochs=1)
    with pytest.warns(EqualRowsWarning, match=r"\d\d of 80 rows of 'X' are equal"):
        cross_val_losses(trainer, *given, cv=2, random_state=0)


def test_labels_of_several_types_may_be_a_categorical():
    """Its categories have an order, also for the audit."""
    y = pd.Categorical([1, "1"] * 40, categories=["1", 1])
    X = ONCE + 5.0 * (np.arange(80) % 2).reshape(-1, 1)
    _, probs = cross_val_losses(GaussianNB(), X, y, return_proba=True, random_state=0)
    assert (probs.argmax(axis=1) == y.codes).all()
    report = audit(y, pred_probs=probs, noise_proba=np.zeros(80))
    assert report.table.suggested_label.sort_index().tolist()[:2] == ["1", 1]
