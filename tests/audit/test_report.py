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
from sklearn.base import BaseEstimator

from lossnoise import AuditReport, audit
from lossnoise.exceptions import (
    InvalidDataError,
    LayoutWarning,
    MissingExtraError,
    UnattainableThresholdWarning,
)

COLUMNS = [
    "given_label",
    "suggested_label",
    "suggested_confidence",
    "loss",
    "p_noisy",
    "is_label_issue",
    "rank",
    "label_score",
]
FILE_COLUMNS = [*COLUMNS[:2], "review", *COLUMNS[2:], "row_key"]


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
    versions = summary.pop("versions")
    assert versions["numpy"] == np.__version__
    assert set(versions) == {"python", "lossnoise", "numpy", "scipy", "scikit-learn"}
    assert summary == {
        "n": 4,
        "dropped": 0,
        "noise_rate": pytest.approx(0.5),
        "noise_rate_interval": None,
        "separable": None,
        "num_issues": 2,
        "expected_precision": pytest.approx(0.7),
        "cautious_precision": pytest.approx(0.7),
        "threshold": 0.5,
        "per_class": [
            {"label": "b", "n": 2, "noise_rate": pytest.approx(0.5), "num_issues": 1},
            {"label": "a", "n": 1, "noise_rate": 0.6, "num_issues": 1},
            {"label": None, "n": 1, "noise_rate": 0.4, "num_issues": 0},
        ],
        "per_group": [],
        "given_to_suggested": [],
        "unlearned_classes": [],
        "like_mistakes": 0.0,
        "agreement": None,
        "settings": {
            "detector": "BetaMixtureNoiseDetector()",
            "source": "noise_proba",
            "on_nan": "raise",
        },
        "verdict": (
            "By the given probabilities, 50.0 % of the labels are wrong. 2 of 4 rows are flagged; "
            "70 % of those should be label errors, fewer if the model is often wrong."
        ),
    }
    values = [*summary.values(), *(v for c in summary["per_class"] for v in c.values())]
    assert {type(v).__module__ for v in values} == {"builtins"}


def test_the_summary_counts_which_label_is_suggested_for_which():
    probs = [[0.1, 0.9, 0.0], [0.2, 0.8, 0.0], [0.0, 0.1, 0.9], [0.9, 0.1, 0.0], [0.3, 0.3, 0.4]]
    report = audit(
        list("aaaac"), pred_probs=probs, noise_proba=[1, 1, 1, 0, 0], class_names=[*"abc"]
    )
    assert report.summary["given_to_suggested"] == [
        {"given": "a", "suggested": "b", "count": 2},
        {"given": "a", "suggested": "c", "count": 1},
    ]


@pytest.fixture
def told():
    """A report of losses that tell, of 300 rows of which the last 60 are wrong."""
    rng = np.random.default_rng(0)
    losses = np.r_[rng.gamma(1.0, 0.2, 240), rng.normal(4.0, 0.5, 60)]
    return audit(np.arange(300) % 3, losses=losses)


def test_the_verdict_gives_rate_interval_and_expected_precision(told):
    summary = told.summary
    low, high = summary["noise_rate_interval"]
    assert summary["separable"] is True
    assert low < 0.2 < high
    assert summary["cautious_precision"] <= summary["expected_precision"]
    assert summary["verdict"] == (
        f"About {100 * summary['noise_rate']:.1f} % of the labels are probably wrong (90 % "
        f"interval: {100 * low:.1f} to {100 * high:.1f} %). {summary['num_issues']} of 300 rows "
        "are flagged; nearly all of those should be label errors, fewer if the model is often "
        "wrong."
    )


def test_a_report_of_a_model_that_has_collapsed_cannot_tell(told):
    """Samples inside and outside the one class that it predicts form two heaps of losses."""
    trainer = BaseEstimator()
    vars(trainer).update(
        fit=None,
        labels_=np.arange(300) % 3,
        num_classes_=3,
        losses_=told.losses,
        noise_proba_=told.noise_proba,
        detector_=told.detector,
        _proba_and_labels=lambda dataset: (predicted, trainer.labels_),
    )
    predicted = np.tile([0.8, 0.1, 0.1], (300, 1))
    with pytest.warns(LayoutWarning, match="The losses have little to do"):  # they are made up
        summary = AuditReport.from_trainer(trainer, None).summary
    assert told.summary["separable"] is True
    assert summary["separable"] is False
    assert summary["noise_rate_interval"][0] == 0.0
    assert summary["verdict"].startswith(
        "Cannot tell from these losses: the trained model predicts few of the classes. That "
    )
    predicted = np.eye(3)[(trainer.labels_ + 1 + np.arange(300) // 3 % 2) % 3]
    assert AuditReport.from_trainer(trainer, None).summary["separable"] is True


def test_expected_precision_is_a_range_where_it_hangs_on_hard_examples():
    rng = np.random.default_rng(0)
    losses = np.r_[rng.gamma(0.7, 0.4, 1800), rng.gamma(12.0, 0.3, 200)]
    report = audit(np.arange(2000) % 3, losses=losses)
    flagged, detector = report.noisy_indices, report.detector
    cautious = detector.posterior(losses[flagged], cautious=True)
    expected = np.minimum(report.noise_proba[flagged], cautious).mean()
    assert report.summary["cautious_precision"] == pytest.approx(expected)
    high = report.noise_proba[flagged].mean()
    assert expected < high - 0.01
    assert f"flagged; {100 * expected:.0f} to {100 * high:.0f} % of those" in repr(report).replace(
        "\n", " "
    )


def test_a_history_has_the_same_precision_and_thresholds(told):
    losses = told.losses
    history = audit(np.arange(300) % 3, losses=np.column_stack([losses] * 3))
    for name in ("expected_precision", "cautious_precision"):
        assert history.summary[name] == pytest.approx(told.summary[name])
    cut = history.threshold_for(precision=0.9)
    assert cut == pytest.approx(told.threshold_for(precision=0.9))


def test_thresholds_are_chosen_by_need(told):
    assert told.threshold_for(budget=10).count <= 10
    cut = told.threshold_for(precision=0.9)
    above = told.noise_proba >= cut.threshold
    assert cut.count == above.sum()
    assert cut.precision == pytest.approx(told.noise_proba[above].mean())
    assert cut.precision >= 0.9
    assert told.threshold_for(recall=0.5).recall >= 0.5
    with pytest.warns(UnattainableThresholdWarning, match="No threshold of AuditReport gives"):
        nothing = audit([0, 1], noise_proba=[0.1, 0.2]).threshold_for(precision=0.9)
    assert nothing.threshold == np.inf


def test_rows_that_tie_are_taken_from_the_head():
    report = audit(np.arange(9), noise_proba=[0.9] * 5 + [0.1] * 4)
    message = (
        r"^No threshold of AuditReport gives budget=3 on what was fitted: 5 tie for the highest, "
        r"and it takes all or none\. The threshold is inf and calls no label wrong\. head\(3\) "
        r"takes the first of them\.$"
    )
    with pytest.warns(UnattainableThresholdWarning, match=message):
        cut = report.threshold_for(budget=3)
    assert (cut.threshold, cut.count) == (np.inf, 0)
    assert len(report.head(3)) == 3


def test_the_head_is_what_somebody_can_look_at(told):
    head = told.head(7)
    pd.testing.assert_frame_equal(head, told.table.head(7))
    assert head.attrs["expected_precision"] == pytest.approx(head["p_noisy"].mean())
    with pytest.raises(ValueError, match=r"'budget' parameter of AuditReport.head must be an int"):
        told.head(0)


def test_repr_shows_the_worst_rows():
    report = audit(np.arange(7), noise_proba=wrongness(7), index=[f"id{i}" for i in range(7)])
    assert repr(report).splitlines() == [
        "AuditReport: By the given probabilities, 50.0 % of the labels are wrong. 3 of 7 rows are",
        "flagged; 77 % of those should be label errors, fewer if the model is often wrong.",
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


def test_csv_has_a_column_to_review_and_a_key(tmp_path, pred_probs):
    labels = ['comma, "quoted"', "línea\nnueva", "001", "é"]
    report = audit(
        labels,
        pred_probs=np.c_[pred_probs, np.zeros(4)],
        noise_proba=wrongness(4),
        class_names=labels,
    )
    path = tmp_path / "issues.csv"
    path.write_text("what stood here before")
    report.to_csv(path)
    with open(path, newline="", encoding="utf-8-sig") as file:
        header, *rows = csv.reader(file)
    assert header == ["index", *FILE_COLUMNS]
    columns = dict(zip(header, zip(*rows, strict=True), strict=True))
    assert columns["index"] == ("3", "2", "1", "0")
    assert columns["given_label"] == tuple(labels[::-1])
    assert columns["review"] == ("",) * 4
    assert [float(cell) for cell in columns["loss"]] == report.losses[::-1].tolist()
    assert [float(cell) for cell in columns["p_noisy"]] == wrongness(4)[::-1].tolist()
    assert columns["is_label_issue"] == ("True", "True", "False", "False")
    assert columns["rank"] == ("1", "2", "3", "4")
    assert [key.rpartition("-")[2] for key in columns["row_key"]] == ["3", "2", "1", "0"]
    assert list(tmp_path.iterdir()) == [path]
    frame = pd.read_csv(path, dtype=str)
    assert frame["given_label"].tolist() == labels[::-1]


def test_csv_leaves_unknown_cells_empty_and_names_the_index(tmp_path):
    index = pd.Index([datetime.date(2024, 5, 1), datetime.date(2024, 5, 2)], name="day")
    report = audit([0, 1], noise_proba=[0.25, 0.75], index=index)
    report.to_csv(tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_text("utf-8-sig").splitlines() == [
        "day," + ",".join(FILE_COLUMNS),
        f"2024-05-02,1,,,,,0.75,True,1,,row-{report.fingerprint}-b1fe-1",
        f"2024-05-01,0,,,,,0.25,False,2,,row-{report.fingerprint}-b1fe-0",
    ]


def test_csv_shows_dates_as_dates(tmp_path):
    labels = np.array(["2024-05-01", "2024-05-02"], "datetime64[s]")
    dates = pd.date_range("2020-01-01", periods=2).as_unit("s")
    audit(labels, noise_proba=[0.25, 0.75], index=dates).to_csv(tmp_path / "a.csv")
    first = (tmp_path / "a.csv").read_text("utf-8-sig").splitlines()[1]
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


# -- other frames -----------------------------------------------------------------------------


def test_a_polars_frame_has_the_index_first(pred_probs):
    polars = pytest.importorskip("polars")
    labels = pd.Series(["a", "b", "c", "a"], index=pd.Index(["007", "x", "y", "z"], name="id"))
    report = audit(labels, pred_probs=pred_probs, noise_proba=wrongness(4))
    frame = report.to_frame(backend="polars")
    assert frame.columns == ["id", *COLUMNS]
    assert frame["id"].to_list() == ["z", "y", "x", "007"]
    assert frame["given_label"].dtype == frame["suggested_label"].dtype == polars.String
    for name in COLUMNS:
        assert frame[name].to_list() == report.to_frame()[name].tolist()


def test_a_polars_frame_has_nulls_where_nothing_is_known():
    pytest.importorskip("polars")
    frame = audit([3, 4], noise_proba=[0.1, 0.9]).to_frame("polars")
    assert frame["suggested_label"].to_list() == frame["loss"].to_list() == [None, None]
    assert frame["suggested_label"].dtype == frame["given_label"].dtype
    mixed = audit([None, 3, "a"], noise_proba=[0.1, 0.9, 0.2]).to_frame("polars")
    assert mixed["given_label"].to_list() == [3, "a", None]


def test_parquet_comes_back(tmp_path, pred_probs):
    pytest.importorskip("pyarrow")
    labels = pd.Series(pd.Categorical(["a", "b", "c", "a"]), index=["007", "x", "y", "z"])
    report = audit(labels, pred_probs=pred_probs, noise_proba=wrongness(4))
    report.to_parquet(tmp_path / "a.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "a.parquet"), report.table)


def test_parquet_refuses_labels_of_several_types(tmp_path):
    pytest.importorskip("pyarrow")
    report = audit([None, 3, "a"], noise_proba=[0.1, 0.9, 0.2])
    with pytest.raises(InvalidDataError, match=r"^The 'self' parameter of AuditReport.to_parquet"):
        report.to_parquet(tmp_path / "a.parquet")
    assert list(tmp_path.iterdir()) == []


def test_backends_are_named():
    with pytest.raises(ValueError, match=r"must be one of 'pandas', 'polars'. Got 'dask' instead"):
        audit([0, 1], noise_proba=[0.1, 0.9]).to_frame("dask")


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
