"""Rows whose probabilities are those of other rows, and models that count few labels."""

import re
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier
from sklearn.tree import DecisionTreeClassifier

from lossnoise import audit, cross_val_losses
from lossnoise._losses import are_only_zeros
from lossnoise._names import match_names
from lossnoise.audit._classes import Choices, Columns
from lossnoise.audit._doubts import is_by_chance
from lossnoise.audit._file_audit import Limits, audit_file
from lossnoise.audit._text import report_text
from lossnoise.exceptions import (
    InvalidDataError,
    LayoutWarning,
    NewLabelWarning,
    NoSeparableNoiseWarning,
    UnattainableThresholdWarning,
)
from lossnoise.noise import inject_noise

RNG = np.random.default_rng(0)
TRUE = RNG.integers(4, size=2000)
GIVEN, _ = inject_noise(TRUE, 0.1, random_state=0)
BY_CHANCE = "the labels are the model's first choices as often as by chance"
ZEROS = "only labels with a probability of exactly 0 look wrong"


def probs_of(true, seed=0):
    """Return the probabilities of a model that is sure of its answers."""
    rng = np.random.default_rng(seed)
    sure = rng.beta(20.0, 2.0, len(true))
    probs = np.repeat((1.0 - sure[:, None]) / 3.0, 4, axis=1)
    probs[np.arange(len(true)), true] = sure
    return probs


# -- probabilities of other rows ------------------------------------------------------------------


def test_rows_in_another_order_cannot_tell():
    order = np.random.default_rng(1).permutation(2000)
    with pytest.warns(NoSeparableNoiseWarning, match=BY_CHANCE):
        report = audit(GIVEN, pred_probs=probs_of(TRUE)[order])
    assert report.summary["separable"] is False
    assert BY_CHANCE in report.summary["verdict"]
    assert report.summary["noise_rate_interval"][0] == 0.0
    assert audit(GIVEN, pred_probs=probs_of(TRUE)).summary["separable"] is True


@pytest.mark.parametrize("limits", [None, Limits(rows=100, chunk=300)])
def test_rows_of_a_file_in_another_order_cannot_tell(tmp_path, limits):
    path = tmp_path / "rows.csv"
    columns = {f"p_{k}": column for k, column in enumerate(probs_of(TRUE[::-1]).T)}
    pd.DataFrame({"label": GIVEN, **columns}).to_csv(path, index=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NoSeparableNoiseWarning)
        found = audit_file(path, pred_probs="p_*", limits=limits)
    assert found.streamed is (limits is not None)
    assert BY_CHANCE in found.report.summary["verdict"]
    low, high = found.report.summary["noise_rate_interval"]
    contradicted = np.mean(probs_of(TRUE[::-1]).argmax(axis=1) != GIVEN)
    assert (low, high) == (0.0, max(high, contradicted))  # all of these may be wrong


CODES = arrays(np.int64, 90, elements=st.integers(0, 2))


@given(CODES, CODES)
@settings(max_examples=30)
def test_chance_is_that_of_a_random_order(given_codes, chosen):
    """Mean and variance against many random orders of the labels."""
    table = np.zeros((3, 3), dtype=np.int64)
    np.add.at(table, (given_codes, chosen), 1)
    rng = np.random.default_rng(0)
    orders = [np.count_nonzero(rng.permutation(given_codes) == chosen) for _ in range(3000)]
    mean, sd = np.mean(orders), np.std(orders)
    most = np.minimum(table.sum(axis=0), table.sum(axis=1)).sum()
    excess, room = table.trace() - mean, (most - mean) / 3.0
    expected = -7.5 * sd < excess < 2.5 * sd < room
    ends = np.array([excess + 7.5 * sd, excess - 2.5 * sd, room - 2.5 * sd])
    assert (np.abs(ends) < 0.1 * (1.0 + sd)).any() or is_by_chance(table) == expected


def test_agreement_says_nothing_where_there_is_no_choice():
    assert not is_by_chance(np.zeros((0, 0), dtype=np.int64))
    assert not is_by_chance(np.array([[950, 0], [50, 0]]))  # the model gives one class
    assert not is_by_chance(np.array([[300, 699], [1, 0]]))  # nearly all labels are one
    assert not is_by_chance(np.array([[9850, 50], [40, 60]]))  # a rare class that it knows
    assert is_by_chance(np.array([[250, 251], [249, 250]]))
    assert not is_by_chance(np.array([[10, 490], [490, 10]]))  # no chance, but the opposite
    assert not is_by_chance(np.array([[16, 14], [13, 17]]))  # few rows say nothing


def test_a_precision_is_out_of_reach_where_the_losses_cannot_tell(tmp_path):
    with pytest.warns(NoSeparableNoiseWarning):
        report = audit(GIVEN, pred_probs=probs_of(TRUE)[::-1])
    assert report.summary["num_issues"] > 1000
    with pytest.warns(UnattainableThresholdWarning):
        cut = report.threshold_for(precision=0.1)
    assert (cut.threshold, cut.count) == (np.inf, 0)
    assert report.summary["expected_precision"] is None
    assert report.head(50).attrs == {"expected_precision": None}
    report.to_html(tmp_path / "audit.html")
    page = (tmp_path / "audit.html").read_text("utf-8")
    assert page.count('<td class="num">unknown</td>') == 4
    assert report_text(report, "rows").count(" unknown\n") == 4
    assert report.threshold_for(budget=3000).count == 2000


# -- two columns in the place of each other -------------------------------------------------------


@pytest.mark.parametrize("names", [["a", "b"], ["b", "d"], ["a", "d"]])
def test_two_of_four_columns_in_the_place_of_each_other_are_told(names):
    labels = np.array(list("abcd"))[GIVEN]
    order = [0, 1, 2, 3]
    first, second = ("abcd".index(name) for name in names)
    order[first], order[second] = second, first
    with pytest.warns(LayoutWarning) as warned:
        audit(labels, pred_probs=probs_of(TRUE)[:, order])
    message = str(warned[0].message)
    assert f"of the labels '{names[0]}', '{names[1]}' are the most probable class" in message
    assert re.match(r"Only [23]% of .* and 9\d% would be ", message)


def test_columns_named_by_the_letters_of_the_labels_are_in_their_order():
    labels = np.array(["self-harm", "hate", "spam", "ok"])[GIVEN]
    table = pd.DataFrame(probs_of(TRUE), columns=["p_self_harm", "p_hate", "p_spam", "p_ok"])
    with pytest.raises(InvalidDataError, match="in the column order"):
        audit(labels, pred_probs=table)
    names = ["hate", "ok", "self-harm", "spam"]
    report = audit(labels, pred_probs=table[["p_hate", "p_ok", "p_self_harm", "p_spam"]])
    assert report.summary["noise_rate"] == pytest.approx(0.1, abs=0.03)
    assert [known["label"] for known in report.summary["per_class"]] == names


@pytest.mark.parametrize(
    ("labels", "names", "places"),
    [
        (["self-harm", "it's ok"], ["p_self_harm", "p_its_ok"], [0, 1]),
        ([-1, 0], ["p_0", "p_1"], None),
        ([1.5, 2], ["15", "2"], None),
        (["+", "-x"], ["p_", "p_x"], None),
        (["a b", "ab"], ["p_ab", "p_a_b"], None),  # the letters are the same
    ],
)
def test_names_by_their_letters(labels, names, places):
    found = match_names(labels, names)
    assert (None if found is None else found.places) == places


# -- models that count few labels -----------------------------------------------------------------


@pytest.fixture(scope="module")
def digits():
    return load_digits(return_X_y=True)


def predictions(model, inputs, labels):
    return cross_val_losses(model, inputs, labels, return_proba=True, random_state=0)[1]


def test_a_tree_of_right_labels_cannot_tell(digits):
    inputs, labels = digits
    probs = predictions(DecisionTreeClassifier(max_depth=8, random_state=0), inputs, labels)
    with pytest.warns(NoSeparableNoiseWarning, match=ZEROS):
        report = audit(labels, pred_probs=probs)
    assert ZEROS in report.summary["verdict"]
    assert report.summary["noise_rate_interval"][0] == 0.0
    assert (report.noise_proba > 0.5).sum() == (probs[np.arange(1797), labels] == 0.0).sum() > 100


def test_many_neighbours_are_as_sure_as_they_may_be(digits):
    inputs, true = digits
    labels, changed = inject_noise(true, 0.1, random_state=0)
    report = audit(labels, pred_probs=predictions(KNeighborsClassifier(20), inputs, labels))
    assert report.summary["separable"] is True
    assert changed[report.noise_proba > 0.5].mean() > 0.95


def test_a_file_counts_the_same_votes(tmp_path, digits):
    inputs, labels = digits
    path = tmp_path / "rows.csv"
    noisy, _ = inject_noise(labels, 0.05, random_state=0)
    probs = predictions(DecisionTreeClassifier(max_depth=8, random_state=0), inputs, noisy)
    columns = {f"p_{k}": column for k, column in enumerate(probs.T)}
    pd.DataFrame({"label": noisy, **columns}).to_csv(path, index=False)
    with pytest.warns(NoSeparableNoiseWarning, match=ZEROS):
        whole = audit_file(path, pred_probs="p_*")
    pieces = audit_file(path, pred_probs="p_*", limits=Limits(rows=100, chunk=300))
    assert (whole.streamed, pieces.streamed) == (False, True)
    assert ZEROS in pieces.report.summary["verdict"]


@pytest.mark.parametrize("votes", [3, 8, 25])
def test_votes_are_those_that_a_certain_prediction_counts(votes):
    rng = np.random.default_rng(votes)
    counted = (rng.random((200_000, votes)) < 0.1).sum(axis=1)
    probs = np.column_stack([1.0 - counted / votes, counted / votes])
    codes = (rng.random(200_000) < 0.1).astype(np.intp)
    columns = Columns(np.array([0, 1]), codes, probs)
    assert Choices.of(columns).votes == pytest.approx(votes, rel=0.05)
    halves = [Columns(columns.classes, codes[k::2], probs[k::2]) for k in range(2)]
    added = Choices().plus(Choices.of(halves[0])).plus(Choices.of(halves[1]))
    assert added[1:] == Choices.of(columns)[1:]
    assert np.array_equal(added.table, Choices.of(columns).table)


def test_votes_of_models_that_are_never_or_always_certain():
    probs, codes = np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([1, 1])
    assert Choices.of(Columns(np.array([0, 1]), codes, probs)).votes == np.inf
    assert Choices.of(Columns(np.array([0, 1]), codes, np.eye(2)[[0, 0]])).votes == 0.0


def test_only_zeros_are_what_looks_wrong_among_more():
    zero = 27.6
    losses = np.r_[np.zeros(60), np.full(20, zero), np.full(20, 1.2)]
    assert are_only_zeros(losses, np.full(20, zero))
    assert not are_only_zeros(losses, np.r_[np.full(20, zero), np.full(20, 1.2)])
    assert not are_only_zeros(losses[:85], np.full(20, zero))  # few others
    assert not are_only_zeros(losses, np.empty(0))
    assert not are_only_zeros(np.minimum(losses, 4.0), np.full(20, 4.0))  # no zero
    assert are_only_zeros(
        np.array([0.0, 1.2, zero]), np.array([zero]), np.array([60, 20, 20]), np.array([20])
    )


# -- losses and labels that look wrong themselves ------------------------------------------------


def test_losses_of_other_rows_than_the_probabilities_are_told():
    probs = probs_of(TRUE)
    losses = -np.log(probs[np.arange(2000), GIVEN])
    audit(GIVEN, losses=losses, pred_probs=probs)
    audit(GIVEN, losses=np.column_stack([losses, 0.5 * losses]), pred_probs=probs)
    with pytest.warns(
        LayoutWarning, match=r"^The losses have little to do with the prob.*-?0\.0\d "
    ):
        audit(GIVEN, losses=np.roll(losses, 1), pred_probs=probs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NoSeparableNoiseWarning)
        audit(GIVEN[:40], losses=losses[-40:], pred_probs=probs[:40])  # too few to say


@pytest.mark.parametrize("limits", [None, Limits(rows=100, chunk=300)])
def test_spellings_of_a_label_are_told(tmp_path, limits):
    labels = np.array(["spam", "ham", "Spam ", "not  sure", "not sure", "a", "A", "Aa", "aA"])
    given = labels[np.arange(2000) % 9]
    losses = -np.log(probs_of(TRUE)[np.arange(2000), GIVEN])
    path = tmp_path / "rows.csv"
    pd.DataFrame({"label": given, "loss": losses}).to_csv(path, index=False)
    with pytest.warns(NewLabelWarning) as warned:
        audit_file(path, limits=limits)
    assert [str(w.message) for w in warned] == [
        "Some labels differ by case, spaces or how characters or numbers are written only, and "
        "count as different classes: 'A' and 'a'; 'Aa' and 'aA'; 'Spam ' and 'spam'; .... Unless "
        "they differ on purpose, as symbols do, write them alike, such as by pandas' "
        "labels.str.normalize('NFKC').str.strip().str.lower(), before they are audited."
    ]


def test_probabilities_of_one_class_are_no_table():
    with pytest.raises(InvalidDataError) as caught:
        audit(GIVEN % 2, pred_probs=probs_of(TRUE)[:, 0])
    assert str(caught.value).endswith(
        "Got an array of shape (2000,) and dtype float64 instead: of two classes, "
        "np.column_stack([1 - p, p]) has both columns."
    )


def test_probabilities_passed_as_logits_are_refused():
    probs = np.random.default_rng(0).dirichlet(np.ones(4), 100)
    message = (
        r"^The 'logits' parameter of audit must be numbers whose softmax is taken\. Got rows from "
        r"0 on that sum to 1 instead: probabilities are passed as pred_probs\.$"
    )
    for logits in (probs, probs.round(4), probs.astype(np.float32)):
        with pytest.raises(InvalidDataError, match=message):
            audit(np.arange(100) % 4, logits=logits)
    report = audit(np.arange(100) % 4, logits=np.log(probs), noise_proba=np.full(100, 0.5))
    np.testing.assert_allclose(report.table.label_score.sort_index()[0], probs[0, 0])
