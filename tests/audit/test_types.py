"""What labels and numbers may come in as: each is a call that fails, or is wrong, elsewhere."""

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch

from lossnoise import audit
from lossnoise.exceptions import InvalidDataError, RenormalizedWarning

LABELS = ["b", "a", "b", "c", "a", "c"]
PROBS = np.array(
    [
        [0.1, 0.8, 0.1],
        [0.7, 0.2, 0.1],
        [0.9, 0.05, 0.05],
        [0.2, 0.2, 0.6],
        [0.0, 0.0, 1.0],
        [0.1, 0.1, 0.8],
    ]
)
WRONG = [0.1, 0.1, 0.9, 0.2, 0.95, 0.05]


class Column:
    """A sequence that is no array, as columns of Hugging Face datasets are."""

    def __init__(self, values):
        self.values = values

    def __len__(self):
        return len(self.values)

    def __getitem__(self, key):
        return self.values[key]

    def __iter__(self):
        return iter(self.values)


def same_as_a_list(labels, **options):
    report = audit(labels, pred_probs=PROBS, noise_proba=WRONG, **options)
    expected = audit(LABELS, pred_probs=PROBS, noise_proba=WRONG)
    for name in ("given_label", "suggested_label"):
        assert [str(v) for v in report.table[name]] == expected.table[name].tolist()
    assert report.order.tolist() == expected.order.tolist() == [4, 2, 3, 1, 0, 5]
    assert report.fingerprint == expected.fingerprint


@pytest.mark.parametrize(
    "convert",
    [
        tuple,
        np.array,
        lambda v: np.array(v, dtype=object),
        lambda v: np.array(v, dtype=np.str_),
        pd.Series,
        pd.Index,
        pd.Categorical,
        lambda v: pd.Series(v, dtype="string"),
        lambda v: pd.Series(v, dtype="category"),
        lambda v: pd.Series(v, dtype=pd.ArrowDtype(pa.string())),
        pl.Series,
        lambda v: pl.Series(v, dtype=pl.Categorical),
        lambda v: pl.Series(v, dtype=pl.Enum(["a", "b", "c"])),
        pa.array,
        lambda v: pa.chunked_array([v[:2], v[2:]]),
        lambda v: pa.array(v).dictionary_encode(),
        Column,
    ],
)
def test_strings_of_any_kind(convert):
    same_as_a_list(convert(LABELS))


@pytest.mark.parametrize(
    "convert",
    [
        list,
        np.array,
        lambda v: np.array(v, "uint8"),
        lambda v: np.array(v, float),
        pd.Series,
        lambda v: pd.Series(v, dtype="Int64"),
        lambda v: pd.Series(v, dtype=pd.ArrowDtype(pa.int32())),
        pl.Series,
        pa.array,
        torch.tensor,
        lambda v: [torch.tensor(i) for i in v],
        Column,
    ],
)
def test_integers_of_any_kind(convert):
    labels = [1, 0, 1, 2, 0, 2]
    report = audit(convert(labels), pred_probs=PROBS, noise_proba=WRONG)
    assert [int(v) for v in report.table["given_label"]] == [0, 1, 2, 0, 1, 2]
    assert [int(v) for v in report.table["suggested_label"]] == [2, 0, 0, 1, 0, 0]


def test_booleans_and_none():
    probs = [[0.9, 0.1], [0.2, 0.8]]
    report = audit([True, False], pred_probs=probs, noise_proba=[0.9, 0.8])
    assert report.table["suggested_label"].tolist() == [False, True]
    report = audit([None, "a"], pred_probs=probs, noise_proba=[0.9, 0.8], class_names=["a", None])
    assert report.table["given_label"].tolist() == [None, "a"]
    assert report.table["suggested_label"].tolist() == ["a", None]


@pytest.mark.parametrize(
    "convert",
    [
        lambda v: v.tolist(),
        pd.DataFrame,
        pl.DataFrame,
        torch.tensor,
        lambda v: torch.tensor(v, requires_grad=True),
        lambda v: v.astype("float32"),
        lambda v: np.asfortranarray(v),
    ],
)
def test_probabilities_of_any_kind(convert):
    report = audit(LABELS, pred_probs=convert(PROBS), noise_proba=WRONG)
    expected = audit(LABELS, pred_probs=PROBS, noise_proba=WRONG)
    assert report.losses == pytest.approx(expected.losses, rel=1e-5)


def test_half_precision_is_scaled_with_a_word():
    probs = torch.tensor(PROBS, dtype=torch.bfloat16).float()
    rows = probs / probs.sum(dim=1, keepdim=True) * 1.00002
    with pytest.warns(RenormalizedWarning) as caught:
        report = audit(LABELS, pred_probs=rows, noise_proba=WRONG)
    assert len(caught) == 1
    expected = audit(LABELS, pred_probs=PROBS, noise_proba=WRONG)
    assert report.losses == pytest.approx(expected.losses, abs=0.02)


def test_rows_of_softmax_in_float32_need_no_word():
    logits = np.random.default_rng(0).normal(0.0, 30.0, (6, 3)).astype(np.float32)
    audit(LABELS, pred_probs=torch.tensor(logits).softmax(1), noise_proba=WRONG)


def test_exact_zeros_are_finite_losses():
    report = audit(LABELS, pred_probs=PROBS, noise_proba=WRONG)
    assert report.losses[4] == pytest.approx(-np.log(1e-12))
    assert report.table["label_score"].iloc[0] == 0.0


def test_a_class_with_one_row_and_one_with_none():
    labels = ["a", "a", "a", "a", "a", "b"]
    report = audit(labels, pred_probs=PROBS, noise_proba=WRONG, class_names=["a", "b", "c"])
    assert [c["n"] for c in report.summary["per_class"]] == [5, 1]
    assert "c" in report.table["suggested_label"].tolist()


def test_string_ids_stay_with_their_rows():
    rng = np.random.default_rng(0)
    order = rng.permutation(6)
    ids = np.array([f"{i:04d}" for i in range(6)])
    report = audit(
        np.array(LABELS)[order],
        pred_probs=PROBS[order],
        noise_proba=np.array(WRONG)[order],
        index=ids[order],
    )
    assert report.table.index.tolist() == ["0004", "0002", "0003", "0001", "0000", "0005"]


def test_a_column_of_a_hugging_face_dataset():
    datasets = pytest.importorskip("datasets")
    data = datasets.Dataset.from_dict({"label": LABELS})
    same_as_a_list(data["label"])


@pytest.mark.parametrize(
    "class_names", ["ab", 2, {"a", "b"}, {"a": 0, "b": 1}, [["a"], ["b"]], [["a", "b"]], ["a", "a"]]
)
def test_class_names_without_an_order_or_that_are_no_labels_are_refused(class_names):
    with pytest.raises(InvalidDataError) as error:
        audit(["a", "b"], noise_proba=[0.1, 0.9], class_names=class_names)
    assert str(error.value) == (
        "The 'class_names' parameter of audit must be at least two class names, each once, in the "
        f"order of the columns. Got {class_names!r} instead."
    )


@pytest.mark.parametrize("unit", ["D", "ns"])
def test_class_names_may_be_dates_of_another_unit(unit, tmp_path):
    dates = np.array(["2020-01-01", "2021-01-01"], dtype="datetime64[D]")
    given = np.array([dates[0], dates[1], dates[0]]).astype(f"datetime64[{unit}]")
    probs = [[0.9, 0.1], [0.2, 0.8], [0.1, 0.9]]
    report = audit(given, pred_probs=probs, noise_proba=[0.1, 0.2, 0.9], class_names=list(dates))
    assert report.table["suggested_label"].dtype == report.table["given_label"].dtype
    report.to_csv(tmp_path / "issues.csv")
    text = (tmp_path / "issues.csv").read_text("utf-8-sig").splitlines()
    cells = text[1].split(",")
    text[1] = ",".join([*cells[:3], cells[2], *cells[4:]])
    (tmp_path / "issues.csv").write_text("\n".join(text))
    assert report.apply_review(tmp_path / "issues.csv").labels[2] == dates[1]


def test_no_rows_are_refused_where_missing_ones_are_dropped_too():
    with pytest.raises(InvalidDataError, match=r"a non-empty 1-D array or list of labels"):
        audit([], losses=[], on_nan="drop")


@pytest.mark.parametrize("name", ["loss", "rank", "given_label"])
def test_an_index_with_the_name_of_a_column_is_called_index_in_polars(name):
    labels = pd.Series(["a", "b"], index=pd.Index([5, 6], name=name))
    frame = audit(labels, noise_proba=[0.1, 0.9]).to_frame("polars")
    assert frame["index"].to_list() == [6, 5]


@pytest.mark.parametrize(
    ("name", "row", "expected"),
    [
        ("pred_probs", [np.nan, 0.5], "probabilities in [0, 1]"),
        ("logits", [np.nan, 0.5], "numbers with a softmax"),
        ("logits", [np.inf, 0.5], "numbers with a softmax"),
    ],
)
def test_rows_with_nan_are_named_and_can_be_dropped(name, row, expected):
    given = {"noise_proba": [0.1, 0.9, 0.2], name: [[0.4, 0.6], [0.3, 0.7], row]}
    with pytest.raises(InvalidDataError) as error:
        audit(["a", "b", "b"], **given)
    assert str(error.value) == (
        f"The {name!r} parameter of audit must be {expected}. Got nan in row 2 (1 of 3 rows) "
        "instead: on_nan='drop' leaves out rows with NaN."
    )
    assert audit(["a", "b", "b"], **given, on_nan="drop").summary["dropped"] == 1


def test_dates_in_seconds_go_into_polars():
    dates = np.array(["2020-01-01T10:00:00", "2021-01-01"], dtype="datetime64[s]")
    frame = audit(dates, noise_proba=[0.1, 0.9]).to_frame("polars")
    assert [str(day) for day in frame["given_label"]] == [
        "2021-01-01 00:00:00",
        "2020-01-01 10:00:00",
    ]


def test_labels_that_arrow_has_no_type_for_are_refused(tmp_path):
    report = audit(np.array([1j, 2.0]), noise_proba=[0.1, 0.9])
    with pytest.raises(InvalidDataError, match="a report of labels of one type"):
        report.to_parquet(tmp_path / "a.parquet")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["losses", "pred_probs", "logits", "noise_proba"])
def test_rows_of_several_lengths_are_refused(name):
    with pytest.raises(InvalidDataError) as caught:
        audit(["a", "b"], **{name: [[1.0, 0.0], [1.0]]})
    assert str(caught.value) == (
        f"The '{name}' parameter of audit must be an array, or rows of one length. Got a list that "
        "is no array, such as rows of several lengths, instead."
    )


@pytest.mark.parametrize("dtype", ["Float64", "double[pyarrow]"])
def test_tables_of_nullable_numbers(dtype):
    probs = pd.DataFrame({"a": [0.9, 0.2, 0.4], "b": [0.1, 0.8, 0.6]})
    labels, wrong = ["a", "b", "a"], [0.1, 0.2, 0.9]
    plain = audit(labels, pred_probs=probs, losses=probs, noise_proba=wrong)
    report = audit(
        labels, pred_probs=probs.astype(dtype), losses=probs.astype(dtype), noise_proba=wrong
    )
    pd.testing.assert_frame_equal(report.table, plain.table)
    probs = probs.astype(dtype)
    probs.iloc[1, 0] = pd.NA
    with pytest.raises(InvalidDataError, match="nan in row 1"):
        audit(labels, pred_probs=probs, noise_proba=wrong)


def test_tuples_of_several_types_go_into_polars():
    index = pd.MultiIndex.from_tuples([(1, "a"), (2, "b")])
    frame = audit([0, 1], noise_proba=[0.9, 0.1], index=index).to_frame("polars")
    assert frame["index"].to_list() == [(1, "a"), (2, "b")]
    frame = audit([(0, None), ("x", 1)], noise_proba=[0.9, 0.1]).to_frame("polars")
    assert frame["given_label"].to_list() == [(0, None), ("x", 1)]
