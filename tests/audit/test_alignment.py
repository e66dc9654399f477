"""Pandas objects in another order than the labels are refused, not audited wrongly."""

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from lossnoise import audit
from lossnoise.exceptions import InvalidDataError

LABELS = pd.Series(["a", "b", "a"], index=["x", "y", "z"])
PROBS = pd.DataFrame({"a": [0.9, 0.2, 0.4], "b": [0.1, 0.8, 0.6]}, index=["x", "y", "z"])
WRONG = pd.Series([0.1, 0.2, 0.9], index=["x", "y", "z"])


@pytest.mark.parametrize("name", ["losses", "pred_probs", "noise_proba", "index"])
def test_another_index_is_refused(name):
    given = {"noise_proba": WRONG, name: (PROBS if name == "pred_probs" else WRONG)}
    audit(LABELS, **given)
    message = (
        f"The {name!r} parameter of audit must be in the order of the labels; align it with "
        f"{name}.loc[labels.index], or pass an array. Got another index instead."
    )
    with pytest.raises(InvalidDataError) as error:
        audit(LABELS, **given | {name: given[name].iloc[::-1]})
    assert str(error.value) == message


def test_columns_that_are_the_labels_in_another_order_are_refused():
    message = (
        "The 'pred_probs' parameter of audit must be in the column order ['a', 'b']. "
        "Got ['b', 'a'] instead."
    )
    with pytest.raises(InvalidDataError) as error:
        audit(LABELS, pred_probs=PROBS[["b", "a"]], noise_proba=WRONG)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ([0.0, 1.0, 0.0], [1, 0]),
        ([0, 1, 0], [1.0, 0.0]),
        (["1.0", "2.0", "1.0"], ["2", "1"]),
        (["a", "b", "a"], ["p_b", "p_a"]),
        (["a", "b", "a"], ["B", "A"]),
        (["A", "b", "A"], ["Prob B", "Prob a"]),
    ],
)
def test_names_that_are_the_labels_loosely_are_refused_in_another_order(labels, names):
    probs = PROBS.reset_index(drop=True)
    audit(labels, pred_probs=probs.set_axis(names[::-1], axis=1), noise_proba=[0.1, 0.2, 0.9])
    with pytest.raises(InvalidDataError, match="must be in the column order"):
        audit(labels, pred_probs=probs.set_axis(names, axis=1), noise_proba=[0.1, 0.2, 0.9])


@pytest.mark.parametrize(
    "categories",
    [
        pd.to_datetime(["2024-04-01", "2024-05-01"]),
        pd.to_timedelta([1, 2], "D"),
        pd.Index(["a", "b"]),
        pd.Index([1, 2]),
    ],
)
def test_columns_that_are_the_categories_in_another_order_are_refused(categories):
    labels = pd.Series(pd.Categorical.from_codes([0, 1, 0], categories))
    probs = pd.DataFrame(PROBS.to_numpy(), columns=categories)
    audit(labels, pred_probs=probs, noise_proba=[0.1, 0.2, 0.9])
    with pytest.raises(InvalidDataError, match="must be in the column order"):
        audit(labels, pred_probs=probs[categories[::-1]], noise_proba=[0.1, 0.2, 0.9])


def test_logits_with_columns_in_another_order_are_refused():
    with pytest.raises(InvalidDataError, match="must be in the column order"):
        audit(LABELS, logits=np.log(PROBS)[["b", "a"]], noise_proba=WRONG)


def test_columns_with_other_names_are_taken_in_order():
    report = audit(LABELS, pred_probs=PROBS.set_axis(["p0", "p1"], axis=1), noise_proba=WRONG)
    assert report.table["suggested_label"].tolist() == ["b", "a", "b"]


@pytest.mark.parametrize("frame", [lambda table: table, pl.from_pandas, pa.Table.from_pandas])
@pytest.mark.parametrize("labels", [["a", "b", "a"], pd.Categorical(["a", "b", "a"])])
@pytest.mark.parametrize("class_names", [None, ["a", "b"]])
def test_no_kind_of_table_is_taken_in_another_order(frame, labels, class_names):
    given = {"noise_proba": WRONG.to_numpy(), "class_names": class_names}
    table = PROBS.reset_index(drop=True)
    report = audit(labels, pred_probs=frame(table), **given)
    assert report.table["suggested_label"].tolist() == ["b", "a", "b"]
    with pytest.raises(InvalidDataError, match=r"in the column order \['a', 'b'\]"):
        audit(labels, pred_probs=frame(table[["b", "a"]]), **given)


def test_columns_that_are_integer_labels_as_text_are_refused_in_another_order():
    probs = PROBS.set_axis(["1", "0"], axis=1).to_dict("list")
    with pytest.raises(InvalidDataError, match=r"in the column order \[0, 1\]. Got \['1', '0'\]"):
        audit([0, 1, 0], pred_probs=pl.DataFrame(probs), noise_proba=[0.1, 0.2, 0.9])


def test_inputs_with_another_index_are_refused(tmp_path):
    report = audit(LABELS, noise_proba=WRONG)
    assert report.find_conflicts(PROBS) == []
    message = (
        "The 'inputs' parameter of AuditReport.{} must be in the order of the labels; align it "
        "with inputs.loc[labels.index], or pass an array. Got another index instead."
    )
    for inputs in (PROBS.iloc[::-1], PROBS["a"].iloc[::-1]):
        with pytest.raises(InvalidDataError) as error:
            report.find_conflicts(inputs)
        assert str(error.value) == message.format("find_conflicts")
        with pytest.raises(InvalidDataError) as error:
            report.to_html(tmp_path / "a.html", inputs=inputs)
        assert str(error.value) == message.format("to_html")
