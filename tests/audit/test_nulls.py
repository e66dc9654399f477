"""Labels of columns that mark missing entries: pandas' nullable ones, polars, Arrow."""

import numpy as np
import pandas as pd
import pytest

from lossnoise import audit
from lossnoise.exceptions import InvalidDataError

pl = pytest.importorskip("polars")
try:
    import pyarrow as pa
except ImportError:
    pa = None
needs_arrow = pytest.mark.skipif(pa is None, reason="needs pyarrow")

BIG = 2**53 + 1  # no float64
TEXTS = [None, *["a", "b"] * 30]
NUMBERS = [None, *[BIG, BIG + 1] * 30]
BOOLS = [None, *[True, False] * 30]
COLUMNS = {
    "polars text": (pl.Series(TEXTS), ["a", "b"]),
    "polars categorical": (pl.Series(TEXTS, dtype=pl.Categorical), ["a", "b"]),
    "polars numbers": (pl.Series(NUMBERS), [BIG, BIG + 1]),
    "polars bool": (pl.Series(BOOLS), [False, True]),
    "object": (pd.Series(TEXTS, dtype=object), ["a", "b"]),
    "Int64": (pd.Series(NUMBERS, dtype="Int64"), [BIG, BIG + 1]),
    "boolean": (pd.Series(BOOLS, dtype="boolean"), [False, True]),
}
if pa is not None:
    COLUMNS |= {
        "arrow text": (pa.array(TEXTS), ["a", "b"]),
        "arrow numbers": (pa.array(NUMBERS), [BIG, BIG + 1]),
        "arrow chunks": (pa.chunked_array([TEXTS, TEXTS[1:]]), ["a", "b"]),
        "int64[pyarrow]": (pd.Series(NUMBERS, dtype="int64[pyarrow]"), [BIG, BIG + 1]),
    }
each_column = pytest.mark.parametrize(("labels", "classes"), COLUMNS.values(), ids=list(COLUMNS))


@each_column
def test_a_null_is_missing_and_the_others_stay_what_they_are(labels, classes):
    with pytest.raises(InvalidDataError, match=r"in row 0, instead: on_nan='drop' leaves out"):
        audit(labels, noise_proba=np.zeros(len(labels)))
    report = audit(labels, noise_proba=np.zeros(len(labels)), on_nan="drop")
    given = report.table.given_label
    assert len(given) == len(labels) - 1
    assert sorted(given.unique().tolist()) == classes


@each_column
def test_columns_of_probabilities_go_with_sorted_labels(labels, classes):
    probs = np.tile([0.1, 0.9], (len(labels), 1))
    noise_proba = np.zeros(len(labels))
    report = audit(labels, pred_probs=probs, noise_proba=noise_proba, on_nan="drop")
    second = report.table.set_index("given_label").suggested_label[classes[0]]
    assert set(second) == {classes[1]}


@pytest.mark.parametrize("dtype", ["Int64", pytest.param("int64[pyarrow]", marks=needs_arrow)])
def test_a_review_keeps_whole_numbers(dtype, tmp_path):
    labels = pd.Series([None, *[1, 0] * 30], dtype=dtype)
    probs = np.tile([0.1, 0.9], (61, 1))
    report = audit(labels, pred_probs=probs, noise_proba=np.ones(61), on_nan="drop")
    report.to_csv(tmp_path / "rows.csv")
    rows = pd.read_csv(tmp_path / "rows.csv", dtype=str, keep_default_na=False)
    rows.loc[:4, "review"] = rows.suggested_label
    rows.to_csv(tmp_path / "reviewed.csv", index=False)
    done = report.apply_review(tmp_path / "reviewed.csv")
    assert len(done.changes) == 5
    assert done.labels.dtype == labels.dtype
    assert done.labels.isna().sum() == 1


@pytest.mark.parametrize("convert", [list, pd.Series, lambda g: np.array(g, dtype=object)])
def test_rows_without_a_group_are_one(convert):
    rng = np.random.default_rng(0)
    losses = np.concatenate([rng.gamma(1.0, 0.3, 900), rng.normal(4.0, 0.7, 100)])
    groups = [None if i % 9 == 0 else "a" for i in range(1000)]
    report = audit(np.repeat([0, 1], 500), losses=losses, groups=convert(groups))
    assert {part["group"]: part["n"] for part in report.summary["per_group"]} == {
        "a": 888,
        None: 112,
    }
