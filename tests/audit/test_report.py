"""The report: rows ranked, the table's index and dtypes, the summary, the text, the file."""

import csv
import datetime
import pickle
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lossnoise import AuditReport, audit
from lossnoise.exceptions import MissingExtraError

COLUMNS = ["given_label", "suggested_label", "loss", "p_noisy", "is_label_issue", "rank"]


@pytest.fixture
def pred_probs():
    return np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6], [0.0, 0.9, 0.1], [0.2, 0.5, 0.3]])


def wrongness(n):
    return np.linspace(0.1, 0.9, n)


# -- the order --------------------------------------------------------------------------------


def test_worst_first_ties_by_loss_then_by_position():
    report = audit([0] * 5, noise_proba=[0.5, 0.9, 0.5, 0.9, 0.5], losses=[1, 2, 3, 4, 1])
    assert report.order.tolist() == [3, 1, 2, 0, 4]
    assert report.noisy_indices.tolist() == [3, 1]
    assert report.table["is_label_issue"].tolist() == [True, True, False, False, False]


unit_floats = st.floats(0.0, 1.0, width=16)


@given(hnp.arrays(float, st.integers(1, 30), elements=unit_floats))
def test_a_report_has_every_row_once(wrong):
    report = audit(np.arange(len(wrong)) % 3, noise_proba=wrong)
    table = report.table
    assert list(table.columns) == COLUMNS
    assert sorted(table.index) == list(range(len(wrong)))
    assert table["rank"].tolist() == list(range(1, len(wrong) + 1))
    assert table["p_noisy"].is_monotonic_decreasing
    assert table["is_label_issue"].sum() == len(report.noisy_indices) == (wrong > 0.5).sum()
    assert report.summary["num_issues"] == sum(c["num_issues"] for c in report.summary["per_class"])


# -- index and dtypes -------------------------------------------------------------------------


def test_the_index_of_a_series_is_kept():
    labels = pd.Series(["a", "b", "a"], index=pd.Index(["007", "x", "x"], name="id"))
    table = audit(labels, noise_proba=[0.1, 0.3, 0.9]).table
    assert table.index.tolist() == ["x", "x", "007"]
    assert table.index.name == "id"


def test_an_index_that_is_given_wins():
    labels = pd.Series(["a", "b"], index=[5, 6])
    table = audit(labels, noise_proba=[0.1, 0.3], index=["p", "q"]).table
    assert table.index.tolist() == ["q", "p"]
    assert table["given_label"].tolist() == ["b", "a"]


def test_a_multi_index_and_dates_are_kept():
    levels = pd.MultiIndex.from_tuples([("a", 1), ("b", 2)], names=["x", "y"])
    table = audit([0, 1], noise_proba=[0.1, 0.3], index=levels).table
    assert table.index.equals(levels[[1, 0]])
    dates = pd.date_range("2024-01-01", periods=2)
    assert audit([0, 1], noise_proba=[0.1, 0.3], index=dates).table.index.equals(dates[::-1])


def test_tuples_as_index_stay_tuples():
    table = audit([0, 1], noise_proba=[0.1, 0.3], index=[(1, 2), (3, 4)]).table
    assert table.index.tolist() == [(3, 4), (1, 2)]
    assert table.index.nlevels == 1


@pytest.mark.parametrize(
    ("labels", "given_dtype", "missing_dtype"),
    [
        (np.array([0, 1], "int64"), "int64", "Int64"),
        (np.array([0, 1], "uint8"), "uint8", "UInt8"),
        (np.array([True, False]), "bool", "boolean"),
        (np.array([0.0, 1.0], "float32"), "float32", "float32"),
        (np.array([(0,), (1, 2)], dtype=object), "object", "object"),
        (pd.Series([0, 1], dtype="Int16"), "Int16", "Int16"),
        (pd.Series(["a", "b"], dtype=object), "object", "object"),
        (pd.Series(["a", "b"], dtype="string"), "string", "string"),
        (pd.Categorical(["a", "b"]), "category", "category"),
        (pd.Series(["a", "b"], dtype="category"), "category", "category"),
        (torch.tensor([0, 1]), "int64", "Int64"),
    ],
)
def test_dtypes_are_kept(labels, given_dtype, missing_dtype):
    without = audit(labels, noise_proba=[0.9, 0.1]).table
    assert without["given_label"].dtype == given_dtype
    assert without["suggested_label"].dtype == missing_dtype
    assert without["suggested_label"].isna().all()
    assert without["suggested_label"].tolist() != [None, None]
    suggesting = audit(labels, pred_probs=np.full((2, 2), 0.5), noise_proba=[0.9, 0.1]).table
    assert suggesting["suggested_label"].dtype == given_dtype
    assert suggesting["suggested_label"].tolist() == suggesting["given_label"].tolist()[::-1]


def test_an_ordered_categorical_keeps_its_categories():
    labels = pd.Series(
        pd.Categorical(["low", "high"], categories=["low", "mid", "high"], ordered=True)
    )
    table = audit(labels, pred_probs=[[0.3, 0.6, 0.1]] * 2, noise_proba=[0.9, 0.1]).table
    assert table["given_label"].dtype == table["suggested_label"].dtype == labels.dtype
    assert table["suggested_label"].tolist() == ["mid", "mid"]


def test_labels_that_cannot_be_sorted_are_kept():
    table = audit([None, (1, 2), "a"], noise_proba=[0.9, 0.1, 0.5]).table
    assert table["given_label"].tolist() == [None, "a", (1, 2)]
    assert table["given_label"].dtype == table["suggested_label"].dtype == object


def test_everything_may_be_a_list_or_a_tensor(pred_probs):
    labels, wrong = [0, 1, 2, 0], wrongness(4)
    expected = audit(labels, pred_probs=pred_probs, noise_proba=wrong).table
    as_lists = audit(labels, pred_probs=pred_probs.tolist(), noise_proba=wrong.tolist()).table
    as_tensors = audit(
        torch.tensor(labels),
        pred_probs=torch.tensor(pred_probs, requires_grad=True),
        noise_proba=torch.tensor(wrong),
    ).table
    as_frames = audit(
        pd.Series(labels), pred_probs=pd.DataFrame(pred_probs), noise_proba=pd.Series(wrong)
    ).table
    for other in (as_lists, as_tensors, as_frames):
        pd.testing.assert_frame_equal(other, expected)


def test_polars_labels():
    polars = pytest.importorskip("polars")
    table = audit(polars.Series("y", ["a", "b"]), noise_proba=[0.1, 0.9]).table
    assert table["given_label"].tolist() == ["b", "a"]


# -- summary, text, file ----------------------------------------------------------------------


def test_summary_is_plain():
    summary = audit(["b", "a", "b", None], noise_proba=[0.2, 0.6, 0.8, 0.4]).summary
    assert summary == {
        "n": 4,
        "noise_rate": pytest.approx(0.5),
        "num_issues": 2,
        "threshold": 0.5,
        "per_class": [
            {"label": "b", "n": 2, "noise_rate": pytest.approx(0.5), "num_issues": 1},
            {"label": "a", "n": 1, "noise_rate": 0.6, "num_issues": 1},
            {"label": None, "n": 1, "noise_rate": 0.4, "num_issues": 0},
        ],
    }
    values = [*summary.values(), *(v for c in summary["per_class"] for v in c.values())]
    assert {type(v).__module__ for v in values} == {"builtins"}


def test_repr_shows_the_worst_rows():
    report = audit(np.arange(7), noise_proba=wrongness(7), index=[f"id{i}" for i in range(7)])
    assert repr(report).splitlines() == [
        "AuditReport: 3 of 7 labels are likely wrong (mean probability of being wrong: 50.0 %)",
        "index  given_label  suggested_label  loss  p_noisy  rank",
        "  id6            6               NA    NA      0.9     1",
        "  id5            5               NA    NA   0.7667     2",
        "  id4            4               NA    NA   0.6333     3",
        "  id3            3               NA    NA      0.5     4",
        "  id2            2               NA    NA   0.3667     5",
        "... and 2 more",
    ]
    assert len(report) == 7
    assert isinstance(report, AuditReport)


def test_csv_comes_back_exactly(tmp_path, pred_probs):
    labels = ['comma, "quoted"', "línea\nnueva", "001", "é"]
    report = audit(labels, pred_probs=np.c_[pred_probs, np.zeros(4)], noise_proba=wrongness(4))
    path = tmp_path / "issues.csv"
    path.write_text("what stood here before")
    report.to_csv(path)
    with open(path, newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert header == ["index", *COLUMNS]
    assert [row[0] for row in rows] == ["3", "2", "1", "0"]
    assert [row[1] for row in rows] == labels[::-1]
    assert [float(row[3]) for row in rows] == report.losses[::-1].tolist()
    assert [float(row[4]) for row in rows] == wrongness(4)[::-1].tolist()
    assert [row[5] for row in rows] == ["True", "True", "False", "False"]
    assert [row[6] for row in rows] == ["1", "2", "3", "4"]
    assert list(tmp_path.iterdir()) == [path]


def test_csv_leaves_unknown_cells_empty_and_names_the_index(tmp_path):
    index = pd.Index([datetime.date(2024, 5, 1), datetime.date(2024, 5, 2)], name="day")
    audit([0, 1], noise_proba=[0.25, 0.75], index=index).to_csv(tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_text("utf-8").splitlines() == [
        "day,given_label,suggested_label,loss,p_noisy,is_label_issue,rank",
        "2024-05-02,1,,,0.75,True,1",
        "2024-05-01,0,,,0.25,False,2",
    ]


def test_csv_shows_dates_as_dates(tmp_path):
    labels = np.array(["2024-05-01", "2024-05-02"], "datetime64[s]")
    dates = pd.date_range("2020-01-01", periods=2).as_unit("s")
    audit(labels, noise_proba=[0.25, 0.75], index=dates).to_csv(tmp_path / "a.csv")
    first = (tmp_path / "a.csv").read_text("utf-8").splitlines()[1]
    assert first.startswith("2020-01-02T00:00:00,2024-05-02T00:00:00,")


def test_a_failed_csv_leaves_the_old_file(tmp_path):
    class Unprintable:
        def __str__(self):
            raise RuntimeError("no text")

    path = tmp_path / "issues.csv"
    path.write_text("old")
    report = audit(np.array([Unprintable(), 1], dtype=object), noise_proba=[0.1, 0.9])
    with pytest.raises(RuntimeError, match="no text"):
        report.to_csv(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_report_can_be_pickled(pred_probs):
    report = audit([0, 1, 2, 0], pred_probs=pred_probs, noise_proba=wrongness(4))
    copy = pickle.loads(pickle.dumps(report))
    pd.testing.assert_frame_equal(copy.table, report.table)
    assert repr(copy) == repr(report)


def test_all_but_the_table_works_without_pandas(tmp_path):
    code = (
        "import sys; sys.modules['pandas'] = None\n"
        "from lossnoise import audit\n"
        "report = audit(['a', 'b'], pred_probs=[[.9, .1], [.8, .2]], noise_proba=[.1, .9])\n"
        "report.to_csv(sys.argv[1]); repr(report)\n"
        "print(report.noisy_indices.tolist(), report.summary['n'])\n"
        "try:\n    report.table\nexcept ImportError as error:\n    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a.csv")],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": ":".join(p for p in sys.path if p)},
    )
    assert done.stdout.splitlines() == [
        "[1] 2",
        "AuditReport.table needs pandas, which is not installed: pip install 'lossnoise[audit]'",
    ]
    assert (tmp_path / "a.csv").exists()


def test_the_missing_extra_is_an_import_error(monkeypatch):
    report = audit([0, 1], noise_proba=[0.1, 0.9])
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingExtraError):
        _ = report.table
