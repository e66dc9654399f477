"""Columns of probabilities that are in another order than that of the labels."""

import warnings

import numpy as np
import pandas as pd
import pytest

from lossnoise import audit
from lossnoise.audit._file_audit import Limits, audit_file
from lossnoise.exceptions import InvalidDataError, LayoutWarning, NoSeparableNoiseWarning

NAMES = ["low", "mid", "high"]
RNG = np.random.default_rng(0)
TRUE = RNG.integers(3, size=300)
GIVEN = np.where(RNG.random(300) < 0.1, (TRUE + 1) % 3, TRUE)


def probs(order, right=0.9):
    """Return probabilities whose columns are those of the names, in the order of some others."""
    table = np.full((300, 3), (1.0 - right) / 2)
    table[np.arange(300), [order.index(NAMES[code]) for code in TRUE]] = right
    return table


def labels(dtype=None):
    return pd.Series([NAMES[code] for code in GIVEN], dtype=dtype)


def test_sorted_columns_of_an_ordered_categorical_are_told():
    ordered = pd.CategoricalDtype(NAMES, ordered=True)
    with pytest.warns(LayoutWarning) as warned:
        report = audit(labels(ordered), pred_probs=probs(sorted(NAMES)))
    assert report.summary["verdict"].endswith(
        " Only 9% of the labels are the most probable class of their row, and 91% would be if the "
        "columns were in another order."
    )
    (message,) = [str(w.message) for w in warned if w.category is LayoutWarning]
    assert message == (
        "Only 9% of the labels are the most probable class of their row, and 91% would be if the "
        "columns were in another order: they are taken for those of 'low', 'mid', 'high'. Is it "
        "another one, such as that of a classifier's classes_, pass it as class_names."
    )
    named = audit(labels(ordered), pred_probs=probs(sorted(NAMES)), class_names=sorted(NAMES))
    assert "in another order" not in named.summary["verdict"]
    sorted_alike = audit(labels(ordered), pred_probs=probs(NAMES))
    assert named.summary["noise_rate"] == sorted_alike.summary["noise_rate"] < 0.2


def test_an_order_shows_where_most_rows_are_of_one_class_and_the_model_says_few_others():
    names = [f"c{code:02d}" for code in range(20)]
    true = np.r_[np.zeros(467, dtype=int), np.repeat(np.arange(1, 20), 7)]
    table = np.full((600, 20), 0.02)
    seen = RNG.random(600) < 0.6  # of the others: most of them get the frequent class
    table[np.arange(600), np.where(seen, true, 0)] = 0.62
    given = pd.Series(pd.Categorical([names[code] for code in true], names[::-1]))
    by_chance = pytest.warns(NoSeparableNoiseWarning, match="as often as by chance")
    with by_chance, pytest.warns(LayoutWarning, match="if the columns were in another order"):
        audit(given, pred_probs=table)
    audit(given.astype(str), pred_probs=table)


def test_a_model_that_gives_one_class_to_most_rows_is_in_no_other_order():
    true = RNG.choice(5, size=600, p=[0.1, 0.75, 0.05, 0.05, 0.05])
    table = np.full((600, 5), 0.1)
    table[np.arange(600), np.where(RNG.random(600) < 0.9, 0, RNG.integers(5, size=600))] = 0.6
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NoSeparableNoiseWarning)
        audit(true, pred_probs=table)


def test_two_swapped_columns_are_told():
    given = np.where(GIVEN == 0, "no", "yes")
    table = np.where((TRUE == 0)[:, None], [0.1, 0.9], [0.9, 0.1])
    with pytest.warns(LayoutWarning, match="be if the columns were in another order"):
        audit(given, pred_probs=table)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.85])
def test_wrong_labels_are_no_other_order(share):
    wrong = RNG.random(300) < share
    audit(np.where(wrong, RNG.integers(3, size=300), TRUE), pred_probs=probs(NAMES))


def test_a_rule_that_most_labels_do_not_follow_is_no_other_order():
    wrong = RNG.random(300) < 0.45
    audit(np.where(wrong, (TRUE + 1) % 3, TRUE), pred_probs=probs(NAMES))


def test_a_model_that_gives_one_class_has_no_order():
    given = np.where(RNG.random(300) < 0.9, "many", "some")
    audit(given, pred_probs=np.tile([0.2, 0.8], (300, 1)), noise_proba=np.zeros(300))


def test_few_rows_fit_some_order_by_chance():
    rows = probs(sorted(NAMES))[:12]
    audit(labels(pd.CategoricalDtype(NAMES))[:12], pred_probs=rows, noise_proba=np.zeros(12))


# -- labels that are no classes -----------------------------------------------------------------


def test_targets_of_a_regression_are_refused():
    targets = np.round(RNG.normal(size=300), 1)
    with pytest.raises(InvalidDataError) as caught:
        audit(targets, losses=RNG.gamma(1.0, 0.2, 300))
    assert str(caught.value) == (
        f"The 'labels' parameter of audit must be classes. Got {len(np.unique(targets))} different "
        "numbers with fractions in 300 rows instead: regression is not supported, and numbers "
        "that do name classes can be strings."
    )
    audit(targets.astype(str), noise_proba=np.zeros(300))


def test_ratings_are_classes():
    audit(RNG.integers(1, 21, 60) / 2.0, noise_proba=np.zeros(60))  # half stars, of few rows
    audit(RNG.integers(0, 50, 600) / 10.0, noise_proba=np.zeros(600))
    audit(np.arange(100) + 1e15, noise_proba=np.zeros(100))


@pytest.mark.parametrize("limits", [None, Limits(rows=100, chunk=600, kept=150)])
@pytest.mark.parametrize("names", [["c0", "c1", "c2"], ["p_high", "p_low", "p_mid"]])
def test_columns_of_a_file_that_say_nothing_are_looked_at_too(tmp_path, limits, names):
    """Sorted labels are taken for theirs; columns with the names of labels are believed."""
    table = pd.DataFrame(probs(NAMES), columns=names)  # low, mid, high
    pd.concat([labels().rename("label"), table], axis=1).to_csv(tmp_path / "a.csv", index=False)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        audit_file(tmp_path / "a.csv", pred_probs=",".join(names), limits=limits)
    told = [str(w.message) for w in caught if w.category is LayoutWarning]
    assert len(told) == (names[0] == "c0")
    assert all(
        "91% would be if the columns were in another order" in message
        and message.endswith("classes_, name the columns by their labels (p_cat,p_dog).")
        for message in told
    )


# -- labels without a column ----------------------------------------------------------------------

UNKNOWN = (
    "correct a label that is misspelt, leave out rows of one that the model does not know, or give "
    "it a column of zeros."
)


def with_a_stranger():
    given = labels()
    given[[7, 9]] = "hihg"
    return given


@pytest.mark.parametrize("prefix", ["", "p_"])
def test_a_label_that_no_column_is_named_by_is_told(prefix):
    table = pd.DataFrame(probs(NAMES), columns=[prefix + name for name in NAMES])
    with pytest.raises(InvalidDataError) as error:
        audit(with_a_stranger(), pred_probs=table)
    assert str(error.value) == (
        "The 'pred_probs' parameter of audit must be a table with a column for each label that "
        "occurs, as they are named by labels. Got none for 'hihg' (rows: 2, the first: 7) "
        f"instead: {UNKNOWN}"
    )
    misspelt = table.rename(columns={prefix + "mid": prefix + "mdi"})
    with pytest.raises(InvalidDataError, match="Got none for 'mid'"):
        audit(labels(), pred_probs=misspelt)


def test_what_to_do_about_a_label_without_a_column_is_said():
    with pytest.raises(InvalidDataError, match=f"shape .300, 3. instead: {UNKNOWN}$"):
        audit(with_a_stranger(), pred_probs=probs(NAMES))
    with pytest.raises(InvalidDataError, match=f"no 'hihg' among .* instead: {UNKNOWN}$"):
        audit(with_a_stranger(), pred_probs=probs(NAMES), class_names=NAMES)


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize(
    "names",
    [[0, 1, 2], [1, 2, 3], ["column_0", "column_1", "column_2"], ["V1", "V2", "V3"], list("abc")],
)
def test_names_that_are_no_labels_say_nothing(tmp_path, names, first):
    """Tables have such by themselves, beside labels that begin elsewhere."""
    table = pd.DataFrame(probs(NAMES), columns=names)
    found = audit(GIVEN + first, pred_probs=table).summary
    assert found["noise_rate"] == audit(GIVEN, pred_probs=probs(NAMES)).summary["noise_rate"]
    if isinstance(names[0], str):
        table.assign(label=GIVEN + first).to_csv(tmp_path / "a.csv", index=False)
        report = audit_file(tmp_path / "a.csv", pred_probs=",".join(names)).report
        assert report.summary["noise_rate"] == pytest.approx(found["noise_rate"])


@pytest.mark.parametrize("wanted", ["p_*", "p*", "p_low,p_mid,p_hihg"])
def test_a_file_with_a_misspelt_column_is_refused_however_it_is_named(tmp_path, wanted):
    table = pd.DataFrame(probs(NAMES), columns=["p_low", "p_mid", "p_hihg"])
    table.assign(label=labels()).to_csv(tmp_path / "a.csv", index=False)
    message = "--pred-probs has a column for the label 'low' but none for 'high'"
    with pytest.raises(InvalidDataError, match=message):
        audit_file(tmp_path / "a.csv", pred_probs=wanted)


@pytest.mark.filterwarnings("ignore:Cannot tell right from wrong")
@pytest.mark.parametrize("limits", [None, Limits(rows=100, chunk=150)])
def test_the_verdict_on_a_file_says_that_its_columns_look_moved(tmp_path, limits):
    table = pd.DataFrame(probs(["mid", "low", "high"]), columns=["x", "y", "z"])
    table.assign(label=labels()).to_csv(tmp_path / "a.csv", index=False)
    with pytest.warns(LayoutWarning, match="in another order"):
        report = audit_file(tmp_path / "a.csv", pred_probs="x,y,z", limits=limits).report
    assert "would be if the columns were in another order." in report.summary["verdict"]


@pytest.mark.filterwarnings("ignore:Cannot tell right from wrong")
@pytest.mark.parametrize("limits", [None, Limits(rows=100, chunk=150)])
def test_class_names_in_another_order_are_told(tmp_path, limits):
    wrong, table = ["mid", "high", "low"], probs(NAMES)
    remedy = "as that of a classifier's classes_, {} must be in it."
    with pytest.warns(LayoutWarning, match=remedy.format("class_names")):
        report = audit(labels(), pred_probs=table, class_names=wrong)
    told = report.summary["verdict"]
    assert "fewer if the model is often wrong or the columns are in another order." in told
    assert "would be if the columns were in another order." in told
    np.savez(
        tmp_path / "b.npz",
        labels=np.array(labels(), dtype=str),
        pred_probs=table,
        class_names=np.array(wrong),
    )
    with pytest.warns(LayoutWarning, match=remedy.format("'class_names'")) as warned:
        found = audit_file(tmp_path / "b.npz", limits=limits).report
    assert [w.category for w in warned].count(LayoutWarning) == 1
    assert "would be if the columns were in another order." in found.summary["verdict"]


@pytest.mark.filterwarnings("ignore:Cannot tell right from wrong")
@pytest.mark.parametrize("limits", [None, Limits(rows=100, chunk=150)])
def test_columns_of_numbers_that_are_shown_by_names_are_told(tmp_path, limits):
    table, remedy = probs(["mid", "high", "low"]), "bring the columns into that of the numbers."
    with pytest.warns(LayoutWarning, match=remedy):
        audit(GIVEN, pred_probs=table, class_names=NAMES)
    np.savez(tmp_path / "a.npz", labels=GIVEN, pred_probs=table, class_names=np.array(NAMES))
    with pytest.warns(LayoutWarning, match=remedy):
        audit_file(tmp_path / "a.npz", limits=limits)
    audit(GIVEN, pred_probs=probs(NAMES), class_names=NAMES)


@pytest.mark.filterwarnings("ignore:Cannot tell right from wrong")
def test_columns_that_a_table_names_are_believed():
    """Most labels of two classes may be those of the other one."""
    given = pd.Series(np.where(TRUE == 0, "low", np.where(TRUE == 1, "mid", "high")))
    given[TRUE > 0] = given[TRUE > 0].map({"mid": "high", "high": "mid"})
    table = pd.DataFrame(probs(sorted(NAMES)), columns=sorted(NAMES))
    for names in (None, sorted(NAMES)):
        report = audit(given, pred_probs=table, class_names=names)
        assert "the columns were in another order" not in report.summary["verdict"]
    with pytest.warns(LayoutWarning, match="if the columns were in another order"):
        audit(given, pred_probs=table.to_numpy())


def test_quality_in_the_place_of_noise_is_told():
    table = probs(NAMES)
    given = table[np.arange(300), GIVEN]
    message = (
        "noise_proba is high where the probability of the given label is high (rank correlation "
        "-1.00 with -log p): is it how likely each label is right, as scores of label quality are? "
        "Then pass 1 - noise_proba."
    )
    with pytest.warns(LayoutWarning) as warned:
        audit(labels(), pred_probs=table, class_names=NAMES, noise_proba=given)
    assert [str(w.message) for w in warned] == [message]
    audit(labels(), pred_probs=table, class_names=NAMES, noise_proba=1.0 - given)
    reviewed = np.where(given < 0.5, 0.0, 1.0 - given)  # and all of them found to be right
    audit(labels(), pred_probs=table, class_names=NAMES, noise_proba=reviewed)
