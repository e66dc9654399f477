"""The audit: what is computed from what, clear errors."""

import math
import re
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from lossnoise import BetaMixtureNoiseDetector, audit
from lossnoise.exceptions import (
    InvalidDataError,
    InvalidParameterError,
    NoSeparableNoiseWarning,
    RenormalizedWarning,
)

NAN = float("nan")


@pytest.fixture
def losses():
    rng = np.random.default_rng(0)
    return np.r_[rng.gamma(1.0, 0.2, 160), rng.normal(4.0, 0.5, 40)]


@pytest.fixture
def pred_probs():
    return np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6], [0.0, 0.9, 0.1], [0.2, 0.5, 0.3]])


def wrongness(n):
    return np.linspace(0.1, 0.9, n)


# -- what is computed from what ---------------------------------------------------------------


def test_losses_alone_give_the_detectors_probabilities(losses):
    report = audit(np.arange(200) % 4, losses=losses)
    expected = BetaMixtureNoiseDetector().fit(losses).predict_proba(losses)[:, 1]
    assert np.array_equal(report.noise_proba, expected)
    assert np.array_equal(report.losses, losses)
    assert report.table["suggested_label"].isna().all()
    assert set(report.noisy_indices) == set(range(160, 200))


def test_a_loss_history_is_reduced_as_the_detector_does(losses):
    history = np.column_stack([np.full(200, 3.0), losses])
    finder = BetaMixtureNoiseDetector(history_reduction=1)
    report, plain = (
        audit(np.arange(200) % 4, losses=history, detector=finder),
        audit(np.arange(200) % 4, losses=losses),
    )
    assert report.losses == pytest.approx(losses)
    for figure in ("expected_precision", "cautious_precision"):
        assert report.summary[figure] == pytest.approx(plain.summary[figure])


def test_a_loss_history_counts_by_the_mean_of_its_columns(losses):
    history = np.column_stack([losses * f for f in (0.8, 0.9, 1.0, 1.1, 1.2)])
    report = audit(np.arange(200) % 4, losses=history)
    assert np.allclose(report.losses, losses)
    expected = BetaMixtureNoiseDetector().fit(history).predict_proba(history)[:, 1]
    assert np.array_equal(report.noise_proba, expected)


def test_probabilities_give_losses_and_suggestions(pred_probs):
    labels = ["a", "c", "a", "b"]
    report = audit(labels, pred_probs=pred_probs, noise_proba=[0.1, 0.2, 0.9, 0.3])
    expected = -np.log([0.7, 0.6, 1e-12, 0.5])
    assert report.losses == pytest.approx(expected)
    table = report.table.sort_index()
    assert table["suggested_label"].tolist() == ["b", "b", "b", "c"]
    assert table["loss"].to_numpy() == pytest.approx(expected)


def test_probabilities_alone_are_enough():
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=300)
    logits = rng.normal(size=(300, 3))
    logits[np.arange(300), labels] += 5.0
    given_labels = labels.copy()
    given_labels[:60] = (labels[:60] + 1) % 3
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    report = audit(given_labels, pred_probs=probs)
    assert np.mean(report.order[:60] < 60) > 0.9
    suggested = report.table.sort_index()["suggested_label"].to_numpy()
    assert np.mean(suggested[:60] == labels[:60]) > 0.9
    assert not (suggested == given_labels).any()


def test_given_losses_win_over_probabilities(pred_probs):
    report = audit([0, 1, 2, 0], losses=[1, 2, 3, 4], pred_probs=pred_probs, noise_proba=[0.0] * 4)
    assert report.losses.tolist() == [1, 2, 3, 4]


def test_probabilities_of_wrong_labels_alone_leave_losses_unknown():
    report = audit([0, 1, 2], noise_proba=[0.2, 0.9, 0.6])
    assert np.isnan(report.losses).all()
    assert report.table["loss"].isna().all()
    assert report.noisy_indices.tolist() == [1, 2]


@pytest.mark.parametrize("class_names", [range(3), ["cat", "dog", "owl"]])
def test_integer_labels_name_their_columns_where_classes_are_absent(pred_probs, class_names):
    report = audit(
        [2, 2, 2, 0], pred_probs=pred_probs, noise_proba=[0.0] * 4, class_names=class_names
    )
    assert report.losses == pytest.approx(-np.log([0.1, 0.6, 0.1, 0.2]))
    assert report.table["suggested_label"].tolist() == [0, 1, 1, 1]


def test_columns_are_in_sorted_order_where_they_are_as_many(pred_probs):
    report = audit([7, 3, 9, 3], pred_probs=pred_probs, noise_proba=[0.0] * 4)
    assert report.losses == pytest.approx(-np.log([0.2, 0.1, 0.1, 0.2]))


@pytest.mark.parametrize("wrap", [pd.Series, pd.Categorical, pd.CategoricalIndex])
def test_columns_of_a_categorical_are_its_categories(pred_probs, wrap):
    labels = pd.Categorical(["low", "high", "low", "low"], categories=["low", "unused", "high"])
    report = audit(wrap(labels), pred_probs=pred_probs, noise_proba=[0.1, 0.2, 0.3, 0.4])
    assert report.losses == pytest.approx(-np.log([0.7, 0.6, 1e-12, 0.2]))
    suggested = report.table.sort_values("p_noisy")["suggested_label"]
    assert suggested.tolist() == ["unused", "unused", "unused", "unused"]


def test_integer_categories_keep_their_order_too(pred_probs):
    labels = pd.Series([1, 0, 2, 0], dtype=pd.CategoricalDtype([2, 0, 1]))
    report = audit(labels, pred_probs=pred_probs, noise_proba=[0.0] * 4)
    assert report.losses == pytest.approx(-np.log([0.1, 0.3, 1e-12, 0.5]))


def test_rows_that_miss_one_by_rounding_are_scaled(pred_probs):
    labels = [0, 1, 2, 0]
    one = audit(labels, pred_probs=pred_probs, noise_proba=[0.0] * 4)
    with pytest.warns(RenormalizedWarning) as caught:
        other = audit(labels, pred_probs=pred_probs * 1.0005, noise_proba=[0.0] * 4)
    assert [str(warning.message) for warning in caught] == [
        "Rows of 'pred_probs' miss a sum of 1 by up to 0.0005: they were scaled."
    ]
    assert one.losses == pytest.approx(other.losses)


def test_arguments_are_neither_kept_nor_changed(pred_probs):
    labels, wrong, index = np.array([0, 1, 2, 0]), wrongness(4), np.arange(4)
    before = pred_probs.copy()
    report = audit(labels, pred_probs=pred_probs, noise_proba=wrong, index=index)
    assert np.array_equal(pred_probs, before)
    labels[:], wrong[:], index[:] = 1, 0.0, 9
    assert report.table["given_label"].tolist() == [0, 2, 1, 0]
    assert report.table["p_noisy"].tolist() == wrongness(4)[::-1].tolist()
    assert report.table.index.tolist() == [3, 2, 1, 0]


@pytest.mark.parametrize("on_device", [np.asarray, torch.tensor])
def test_logits_are_probabilities_before_the_softmax(pred_probs, on_device):
    shifts = np.array([[3.0], [0.0], [-800.0], [700.0]])
    logits = on_device(np.log(np.maximum(pred_probs, 1e-30)) + shifts)
    report = audit([0, 2, 1, 0], logits=logits, noise_proba=wrongness(4))
    expected = audit([0, 2, 1, 0], pred_probs=pred_probs, noise_proba=wrongness(4))
    pd.testing.assert_frame_equal(report.table, expected.table)


def test_the_score_of_a_label_is_its_probability(pred_probs):
    by_rows = audit([0, 2, 1, 0], pred_probs=pred_probs, noise_proba=[0.0] * 4).table.sort_index()
    assert by_rows["label_score"].tolist() == pytest.approx([0.7, 0.6, 0.9, 0.2])
    assert by_rows["suggested_confidence"].tolist() == pytest.approx([0.2, 0.3, 0.1, 0.5])
    by_losses = audit([0, 1], losses=[0.5, -1.0], noise_proba=[0.1, 0.0]).table
    assert by_losses["label_score"].tolist() == [math.exp(-0.5), 1.0]
    assert by_losses["suggested_confidence"].isna().all()


def test_class_names_give_the_order_of_the_columns(pred_probs):
    names = ["zebra", "ant", "cow"]
    report = audit(
        ["ant", "zebra", "ant", "zebra"],
        pred_probs=pred_probs,
        noise_proba=wrongness(4),
        class_names=names,
    )
    assert report.losses == pytest.approx(-np.log([0.2, 0.1, 0.9, 0.2]))
    assert report.table.sort_index()["suggested_label"].tolist() == ["zebra", "cow", "cow", "ant"]


def test_class_names_of_integer_labels_are_shown(pred_probs):
    names = ["zebra", "ant", "cow"]
    report = audit([1, 0, 1, 0], pred_probs=pred_probs, noise_proba=wrongness(4), class_names=names)
    assert report.table["given_label"].tolist() == [0, 1, 0, 1]
    assert repr(report).splitlines()[-3].split() == ["2", "ant", "cow", "0.105361", "0.6333", "2"]


def test_columns_may_be_named_by_a_table():
    probs = pd.DataFrame({"b": [0.7, 0.2], "c": [0.2, 0.2], "a": [0.1, 0.6]})
    report = audit(["a", "b"], pred_probs=probs, noise_proba=[0.9, 0.8])
    assert report.table["suggested_label"].tolist() == ["b", "a"]


def test_class_names_must_hold_the_labels(pred_probs):
    with pytest.raises(InvalidDataError) as caught:
        audit(["a", "b", "d", "a"], pred_probs=pred_probs, class_names=["a", "b", "c"])
    assert str(caught.value) == (
        "The 'class_names' parameter of audit must be all labels that occur, or names of the "
        "integer labels 0, ..., C - 1. Got no 'd' among ['a', 'b', 'c'] instead: correct a "
        "label that is misspelt, leave out rows of one that the model does not know, or give it a "
        "column of zeros."
    )


@pytest.mark.parametrize(
    ("column", "row"), [("losses", 2), ("noise_proba", 2), ("pred_probs", 2), ("labels", 2)]
)
def test_rows_with_nan_are_dropped_on_request(pred_probs, column, row):
    sources = {
        "labels": pd.Series(["a", "b", "c", "a"], index=list("pqrs")),
        "losses": np.arange(4.0),
        "noise_proba": wrongness(4),
        "pred_probs": pred_probs.copy(),
    }
    labels = sources.pop("labels")
    if column == "labels":
        labels.iloc[row] = np.nan
    else:
        sources[column][row] = NAN
    with pytest.raises(InvalidDataError, match=r"row 2\b"):
        audit(labels, **sources)
    report = audit(labels, **sources, on_nan="drop", class_names=["a", "b", "c"])
    assert (report.summary["n"], report.summary["dropped"], len(report)) == (3, 1, 3)
    assert report.table.index.tolist() == ["s", "q", "p"]
    assert report.order.tolist() == [3, 1, 0]
    assert report.noisy_indices.tolist() == [3]
    assert np.isnan(report.noise_proba[row])
    assert np.delete(report.noise_proba, row).tolist() == [0.1, wrongness(4)[1], 0.9]


def test_nothing_but_nan_cannot_be_audited():
    with pytest.raises(InvalidDataError) as caught:
        audit([0, 1], losses=[NAN, NAN], on_nan="drop")
    assert str(caught.value) == (
        "The 'labels' parameter of audit must be of at least one row without NaN. "
        "Got NaN in all 2 rows instead."
    )


def test_groups_have_curves_of_their_own(losses):
    groups = np.repeat(["x", "y"], 100)
    report = audit(np.arange(200) % 4, losses=losses, groups=groups)
    detector = BetaMixtureNoiseDetector().fit(losses, groups=groups)
    expected = detector.predict_proba(losses, groups=groups)[:, 1]
    assert np.array_equal(report.noise_proba, expected)
    assert report.summary["per_group"] == [
        {
            "group": group,
            "n": 100,
            "noise_rate": pytest.approx(expected[groups == group].mean()),
            "num_issues": int((expected[groups == group] > 0.5).sum()),
        }
        for group in ("x", "y")
    ]


def test_probabilities_by_groups_too(losses):
    rows = np.exp(-losses)
    probs = np.column_stack([rows, 1.0 - rows])
    labels, groups = np.r_[np.zeros(199, int), 1], np.repeat([0, 1], 100)
    report = audit(labels, pred_probs=probs, groups=groups)
    assert 0.1 < report.summary["noise_rate"] < 0.3


def test_losses_that_cannot_tell_are_never_called_clean():
    losses = np.random.default_rng(0).gamma(1.0, 0.2, 300)
    with pytest.warns(NoSeparableNoiseWarning, match="Cannot tell"):
        report = audit(np.arange(300) % 3, losses=losses)
    assert report.summary["separable"] is False
    high = 100.0 * report.summary["noise_rate_interval"][1]
    assert report.summary["verdict"] == (
        "Cannot tell from these losses: they look like one population, as is usual with so few "
        f"rows. That is no proof that the labels are right; up to {high:.1f} % could be wrong, "
        "and more if the wrong ones follow the inputs. "
        "Rows are ranked by their loss."
    )
    assert (
        report.summary["noise_rate_interval"][0] == 0.0 < report.summary["noise_rate_interval"][1]
    )
    assert report.order[0] == losses.argmax()


# -- errors, in full --------------------------------------------------------------------------

COLUMN_RULE = (
    "one column for each of the {} labels that occur, and at least two: for others, 'class_names' "
    "gives the labels of the columns"
)
DROP = ": on_nan='drop' leaves out rows with NaN."


@pytest.mark.parametrize(
    ("options", "name", "expected", "got"),
    [
        (
            {"labels": []},
            "labels",
            "a non-empty 1-D array or list of labels",
            "an array of shape (0,)",
        ),
        (
            {"labels": np.zeros((3, 2))},
            "labels",
            "a non-empty 1-D array or list of labels",
            "an array of shape (3, 2)",
        ),
        (
            {"labels": [0.0, NAN, 1.0]},
            "labels",
            "free of missing values (None in a list is a label)",
            "nan in 1 of 3 rows, first in row 1,",
        ),
        ({"losses": [1, 2]}, "losses", "of length 3, one entry per label", "length 2"),
        ({"losses": 1.0}, "losses", "of shape (3,) or (3, k)", "an array of shape ()"),
        (
            {"losses": np.zeros((3, 0))},
            "losses",
            "of shape (3,) or (3, k)",
            "an array of shape (3, 0)",
        ),
        ({"losses": ["a"] * 3}, "losses", "an array of numbers", "an array of dtype <U1"),
        ({"losses": [0.0, NAN, NAN]}, "losses", "finite", "nan in row 1 (2 of 3 rows)"),
        (
            {"losses": [[0.0, 1.0], [0.0, math.inf], [1.0, 1.0]]},
            "losses",
            "finite",
            "inf in row 1 (1 of 3 rows)",
        ),
        ({"noise_proba": [0.1] * 4}, "noise_proba", "of length 3, one entry per label", "length 4"),
        (
            {"noise_proba": np.zeros((3, 2))},
            "noise_proba",
            "of shape (3,)",
            "an array of shape (3, 2)",
        ),
        (
            {"noise_proba": [0.0, 1.5, -1.0]},
            "noise_proba",
            "probabilities in [0, 1]",
            "1.5 in row 1 (2 of 3 rows)",
        ),
        (
            {"noise_proba": [0.0, 1.0, NAN]},
            "noise_proba",
            "probabilities in [0, 1]",
            "nan in row 2 (1 of 3 rows)",
        ),
        (
            {"pred_probs": np.full((2, 2), 0.5)},
            "pred_probs",
            "of length 3, one entry per label",
            "length 2",
        ),
        (
            {"pred_probs": np.full((3, 1, 1), 0.5)},
            "pred_probs",
            "a 2-D array of probabilities",
            "an array of shape (3, 1, 1) and dtype float64",
        ),
        (
            {"pred_probs": [[0.5, 0.5], [0.6, 0.6], [0.1, 0.2]]},
            "pred_probs",
            "probabilities whose rows sum to 1",
            "a sum of 1.2 in row 1 (2 of 3 rows)",
        ),
        (
            {"pred_probs": [[0.5, 0.5], [-0.5, 1.5], [0.1, 0.9]]},
            "pred_probs",
            "probabilities in [0, 1]",
            "-0.5 in row 1",
        ),
        (
            {"labels": [0, 0, 0], "pred_probs": np.ones((3, 1))},
            "pred_probs",
            COLUMN_RULE.format(1),
            "an array of shape (3, 1)",
        ),
        (
            {"labels": ["a", "b", "b"], "pred_probs": np.full((3, 4), 0.25)},
            "pred_probs",
            COLUMN_RULE.format(2),
            "an array of shape (3, 4)",
        ),
        (
            {"labels": [0, 5, 5], "pred_probs": np.full((3, 4), 0.25)},
            "pred_probs",
            COLUMN_RULE.format(2),
            "an array of shape (3, 4)",
        ),
        (
            {"noise_proba": [0.1] * 3, "index": ["a"]},
            "index",
            "of length 3, one entry per label",
            "an array of shape (1,)",
        ),
    ],
)
def test_unusable_data_is_named(options, name, expected, got):
    arguments = {"labels": [0, 1, 1], **options}
    if set(options) == {"labels"}:
        arguments["noise_proba"] = [0.1] * 3
    with pytest.raises(InvalidDataError) as caught:
        audit(**arguments)
    assert str(
        caught.value
    ) == f"The '{name}' parameter of audit must be {expected}. Got {got} instead" + (
        DROP if got.startswith("nan") else "."
    )


@pytest.mark.parametrize(
    ("categories", "columns"), [(["a", "b", "c"], 2), (["a", "b"], 3), ([0, 2], 3), (["a"], 1)]
)
def test_a_categorical_needs_a_column_for_each_category(categories, columns):
    labels = pd.Categorical([categories[0]] * 3, categories=categories)
    with pytest.raises(InvalidDataError) as caught:
        audit(labels, pred_probs=np.full((3, columns), 1.0 / columns))
    assert str(caught.value) == (
        "The 'pred_probs' parameter of audit must be one column for each of the "
        f"{len(categories)} categories of the labels, and at least two columns. "
        f"Got an array of shape (3, {columns}) instead."
    )


@pytest.mark.parametrize(
    ("labels", "types"),
    [
        (["b", 1, "a"], "int, str instead"),
        (
            ["b", None, "a"],
            "NoneType, str instead: None is a label of its own in a list or an array: leave out "
            "rows without one",
        ),
        (
            [frozenset("b"), frozenset("a"), frozenset("c")],
            "frozenset instead",
        ),  # `<` is no order here
    ],
)
def test_labels_without_an_order_have_no_columns(labels, types):
    with pytest.raises(InvalidDataError) as caught:
        audit(labels, pred_probs=np.full((3, 3), 1.0 / 3.0))
    assert str(caught.value) == (
        "The 'labels' parameter of audit must be of one type that can be sorted where "
        "'pred_probs' is given: its columns are in the order of the sorted labels, or of "
        f"'class_names'. Got labels of type {types}."
    )


def test_something_is_needed_to_audit_by():
    with pytest.raises(InvalidParameterError) as caught:
        audit([0, 1])
    assert str(caught.value) == (
        "The 'losses' parameter of audit must be given, or else 'pred_probs', 'logits' or "
        "'noise_proba'. Got None instead."
    )


@pytest.mark.parametrize("source", [{"losses": [0.1] * 3}, {"pred_probs": [[0.5, 0.5]] * 3}])
def test_too_few_rows_to_fit_a_detector_to(source):
    with pytest.raises(InvalidDataError) as caught:
        audit([0, 1, 0], **source)
    assert str(caught.value) == (
        "The 'labels' parameter of audit must be of at least 10 rows. Got 3 instead: to fewer no "
        "detector can be fitted, and with noise_proba none has to be."
    )
    assert len(audit([0, 1, 0], noise_proba=[0.1, 0.2, 0.9])) == 3


def test_a_trainer_has_a_call_of_its_own():
    trainer = SimpleNamespace(noise_proba_=np.zeros(3))
    message = (
        "The 'labels' parameter of audit must be an array or list of labels. Got "
        f"{SimpleNamespace} instead: of a trainer, AuditReport.from_trainer(trainer, dataset) "
        "makes the report."
    )
    with pytest.raises(InvalidDataError, match=f"^{re.escape(message)}$"):
        audit(trainer)
