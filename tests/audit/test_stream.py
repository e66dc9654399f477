"""Files that are read in pieces give what the same file gives in memory."""

import csv
import io
import re

import numpy as np
import pandas as pd
import pytest

from lossnoise.audit import _stream, _ticker
from lossnoise.audit._charts import draw_losses
from lossnoise.audit._csv import LabelMark, fingerprint
from lossnoise.audit._file_audit import Limits, audit_file
from lossnoise.audit._select import Chunk
from lossnoise.audit._ticker import Ticker
from lossnoise.exceptions import InvalidDataError, RenormalizedWarning

N, CLASSES = 2000, 4
PIECES = Limits(rows=100, chunk=600, kept=150)


def make_frame(names, n=N, seed=0):
    """Return labels with one in five wrong, and probabilities with a column for each name."""
    rng = np.random.default_rng(seed)
    true = rng.integers(len(names), size=n)
    logits = rng.normal(size=(n, len(names)))
    logits[np.arange(n), true] += 4.0
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    given = np.where(rng.random(n) < 0.2, (true + 1) % len(names), true)
    data = pd.DataFrame(probs, columns=[f"p_{name}" for name in names])
    data["label"] = np.array(names)[given]
    data["loss"] = -np.log(probs[np.arange(n), given])
    data["id"] = [f"{i:06d}" for i in range(n)]
    data["text"] = [f"row {i}" for i in range(n)]
    return data


@pytest.fixture(params=["csv", "parquet"])
def path(request, tmp_path):
    data = make_frame(["a", "b", "10", "9"])
    path = tmp_path / f"rows.{request.param}"
    data.to_csv(path, index=False) if request.param == "csv" else data.to_parquet(path)
    return path


@pytest.mark.parametrize(
    "options", [{"losses": "loss"}, {"pred_probs": "p_*", "index": "id"}], ids=["losses", "probs"]
)
def test_pieces_give_what_the_whole_gives(path, options):
    whole = audit_file(path, **options)
    pieces = audit_file(path, **options, limits=PIECES)
    assert (whole.streamed, pieces.streamed) == (False, True)
    expected, found = whole.report, pieces.report
    assert set(found.summary) == set(expected.summary)
    for name in ("n", "separable", "given_to_suggested", "versions", "threshold", "dropped"):
        assert found.summary[name] == expected.summary[name]
    for name in ("noise_rate", "num_issues", "expected_precision", "cautious_precision"):
        assert found.summary[name] == pytest.approx(expected.summary[name], abs=1e-3, rel=1e-3)
    interval = expected.summary["noise_rate_interval"]
    assert found.summary["noise_rate_interval"] == pytest.approx(interval, abs=5e-3)
    for one, other in zip(found.summary["per_class"], expected.summary["per_class"], strict=True):
        assert one == pytest.approx(other, abs=1e-3)
    assert len(found) == 150
    assert np.array_equal(found.order, expected.order[:150])
    assert found.fingerprint == expected.fingerprint
    for one, other in zip(found.iter_rows(), expected.iter_rows(150), strict=True):
        assert one[:3] == other[:3]
        assert one.p_noisy == pytest.approx(other.p_noisy, abs=1e-3)
        assert (one.loss, one.position) == (pytest.approx(other.loss), other.position)


def test_the_table_and_the_cards_hold_the_worst_rows(path, tmp_path):
    options = {"pred_probs": "p_*", "index": "id"}
    whole = audit_file(path, **options)
    pieces = audit_file(path, **options, limits=PIECES)
    pieces.report.to_csv(tmp_path / "issues.csv")
    whole.report.to_csv(tmp_path / "all.csv")
    keys = [read_keys(tmp_path / name) for name in ("issues.csv", "all.csv")]
    assert keys[0] == keys[1][:150]
    inputs, everything = pieces.inputs(20), whole.inputs(20)
    assert len(inputs) == len(everything["text"]) == N
    for position in pieces.report.order[:20].tolist():
        assert inputs[position]["text"] == everything["text"][position] == f"row {position}"
        assert set(inputs[position]) == {"text"}
    pieces.report.to_html(tmp_path / "audit.html", inputs=inputs, budget=20)
    assert f"row {pieces.report.order[0]}" in (tmp_path / "audit.html").read_text("utf-8")


def test_a_file_without_other_columns_has_nothing_for_the_cards(tmp_path):
    np.save(tmp_path / "losses.npy", make_frame(["a", "b"])["loss"])
    for limits in (None, PIECES):
        assert audit_file(tmp_path / "losses.npy", limits=limits).inputs(20) is None


def read_keys(path):
    text = path.read_text("utf-8-sig")
    return [row["row_key"] for row in csv.DictReader(io.StringIO(text))]


def test_labels_of_a_file_are_reviewed_by_the_command(path, tmp_path):
    report = audit_file(path, losses="loss", limits=PIECES).report
    with pytest.raises(InvalidDataError) as caught:
        report.apply_review(tmp_path / "issues.csv")
    assert "corrected by `lossnoise review`" in str(caught.value)


def test_rows_that_miss_one_are_scaled_with_one_warning(tmp_path):
    data = make_frame(["a", "b"])
    data.loc[3, ["p_a", "p_b"]] *= 1.0005
    data.loc[1500, ["p_a", "p_b"]] *= 1.0002
    data.to_csv(tmp_path / "rows.csv", index=False)
    with pytest.warns(RenormalizedWarning, match=r"up to 0\.0005: they were scaled") as caught:
        audit_file(tmp_path / "rows.csv", pred_probs="p_*", limits=PIECES)
    assert len(caught) == 1


def test_a_wrong_column_of_labels_does_not_fill_the_memory(path, monkeypatch):
    monkeypatch.setattr(_stream, "MOST_CLASSES", 500)
    with pytest.raises(InvalidDataError) as caught:
        audit_file(path, labels="id", losses="loss", limits=PIECES)
    expected = f"{path}: more than 500 different labels: is that the right column?"
    assert str(caught.value) == expected


def test_too_few_rows_are_named(tmp_path):
    make_frame(["a", "b"], n=9).to_csv(tmp_path / "rows.csv", index=False)
    with pytest.raises(InvalidDataError) as caught:
        audit_file(tmp_path / "rows.csv", losses="loss")
    expected = f"{tmp_path / 'rows.csv'}: 9 rows are too few: an audit needs 10 at least"
    assert str(caught.value) == expected
    (tmp_path / "rows.csv").write_text("label,loss\n")
    with pytest.raises(InvalidDataError, match="0 rows are too few"):
        audit_file(tmp_path / "rows.csv")


# -- names of columns -------------------------------------------------------------------------


def suggestions(path, **options):
    found = [audit_file(path, **options, limits=limits).report for limits in (None, PIECES)]
    pairs = [[row[1:3] for row in report.iter_rows(100)] for report in found]
    assert pairs[0] == pairs[1]
    return set(pairs[0])


def test_names_of_columns_are_labels_in_any_order(tmp_path):
    data = make_frame(["cat", "car", "dog"])
    data.to_csv(tmp_path / "rows.csv", index=False)
    expected = {("car", "cat"), ("dog", "car"), ("cat", "dog")}
    for columns in ("p_*", "p_dog,p_cat,p_car", "p_cat,p_ca[r],p_dog".replace("[r]", "r")):
        assert suggestions(tmp_path / "rows.csv", pred_probs=columns) == expected


def test_columns_with_other_names_are_in_the_order_of_the_labels(tmp_path):
    """Numbers in text too: 10 comes after 9."""
    data = make_frame(["8", "9", "10"]).set_axis(
        ["x", "y", "z", "label", "loss", "id", "text"], axis=1
    )
    data.to_csv(tmp_path / "rows.csv", index=False)
    expected = {("9", "8"), ("10", "9"), ("8", "10")}
    assert suggestions(tmp_path / "rows.csv", pred_probs="x,y,z") == expected


def test_a_class_that_does_not_occur_needs_names(tmp_path):
    data = make_frame(range(3))
    table = data[["p_0", "p_1", "p_2"]].to_numpy()
    more = {"pred_probs": np.c_[table[:, :2], np.zeros(N), table[:, 2]]}
    labels = np.where(data["label"] == 2, 3, data["label"])
    path = tmp_path / "rows.npz"
    np.savez(path, labels=labels, **more)
    for limits in (None, PIECES):
        with pytest.raises(InvalidDataError) as caught:
            audit_file(path, limits=limits)
        assert str(caught.value) == (
            f"{path}: 4 columns of probabilities do not fit 3 labels ('0', '1', '3'): add an array "
            "'class_names' with the label of each column"
        )
    np.savez(path, labels=labels, class_names=np.arange(4), **more)
    assert suggestions(path) == {(1, 0), (3, 1), (0, 3)}


def test_names_in_a_file_hold_every_label(tmp_path):
    data = make_frame(["cat", "dog", "owl"])
    probs, labels = data[["p_cat", "p_dog", "p_owl"]].to_numpy(), data["label"].tolist()
    path = tmp_path / "rows.npz"
    np.savez(path, labels=labels, pred_probs=probs, class_names=["dog", "owl", "cow"])
    for limits in (None, PIECES):
        with pytest.raises(InvalidDataError) as caught:
            audit_file(path, limits=limits)
        expected = f"{path}: no 'cat' among 'class_names', but in the labels"
        assert str(caught.value) == expected


def test_labels_of_several_types_need_columns_with_their_names(tmp_path):
    path = tmp_path / "rows.parquet"
    data = pd.DataFrame({"label": [None, "b"] * 20})
    data.assign(p_b=0.5, p_None=0.5).to_parquet(path)
    assert suggestions(path, pred_probs="p_*") == {(None, "b"), ("b", None)}
    data.assign(x=0.5, y=0.5).to_parquet(path)
    with pytest.raises(InvalidDataError) as caught:
        audit_file(path, pred_probs="x,y")
    expected = "labels of several types have no order: name the columns of --pred-probs by them"
    nulls = "Some labels are null, which counts as the label None: leave out rows without a label"
    assert str(caught.value) == f"{path}: {expected}. {nulls}"
    data.assign(p_b=0.5, p_c=0.5).to_parquet(path)
    with pytest.raises(InvalidDataError) as caught:
        audit_file(path, pred_probs="p_*")
    problem = "--pred-probs has a column for the label 'b' but none for 'None'"
    assert str(caught.value) == f"{path}: {problem}. {nulls}"


def test_columns_for_some_of_the_labels_only_are_refused(tmp_path):
    data = make_frame(["cat", "dog", "owl"]).rename(columns={"p_owl": "p_bird"})
    path = tmp_path / "rows.csv"
    data.to_csv(path, index=False)
    with pytest.raises(InvalidDataError) as caught:
        audit_file(path, pred_probs="p_*")
    assert str(caught.value) in {
        f"{path}: --pred-probs has a column for the label 'cat' but none for 'owl'"
    }


def test_integer_labels_are_named_by_columns_in_text(tmp_path):
    data = make_frame(["0", "1", "2"]).astype({"label": int})
    data["p_3"] = 0.0
    data.to_parquet(tmp_path / "rows.parquet")
    found = suggestions(tmp_path / "rows.parquet", pred_probs="p_*")
    assert found == {(1, 0), (2, 1), (0, 2)}


# -- parts ------------------------------------------------------------------------------------


def judged(wrong, losses, start):
    n = len(wrong)
    positions = np.arange(start, start + n)
    values = np.asarray(wrong, float), np.asarray(losses, float)
    return _stream.Judged(positions, positions, positions, *values, None, None, np.zeros(n))


def test_the_worst_rows_are_those_of_all_pieces():
    rng = np.random.default_rng(0)
    wrong, losses = rng.integers(3, size=500) / 2.0, rng.integers(4, size=500)  # many ties
    worst = judged(wrong[:7], losses[:7], 0)
    for start in range(7, 500, 29):
        part = slice(start, start + 29)
        worst = _stream.merge_worst(worst, judged(wrong[part], losses[part], start), 40)
    worst = worst.take(_stream._ranking(worst)[:40])
    expected = np.lexsort((np.arange(500), -losses, -wrong))[:40]
    assert worst.positions.tolist() == expected.tolist()


def test_the_mark_of_labels_does_not_depend_on_the_pieces():
    labels = ["a", "bc", "", "ü", "a"] * 3
    mark = LabelMark()
    for i in range(0, 15, 4):
        mark.add(iter(labels[i : i + 4]))
    assert mark.hexdigest() == fingerprint(labels)
    assert fingerprint(["ab", "c"]) != fingerprint(["a", "bc"])


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("stream", "quiet", "expected"),
    [
        (io.StringIO, False, "lossnoise: counting: 3 rows\n"),
        (Terminal, False, "\rlossnoise: counting: 3 rows\r" + " " * 27 + "\r"),
        (Terminal, True, ""),
    ],
)
def test_long_work_counts_rows(monkeypatch, stream, quiet, expected):
    monkeypatch.setattr(_ticker, "PATIENCE", 0.0)
    said = stream()
    ticker = Ticker(quiet=quiet, stream=said)
    chunks = [Chunk(i, np.zeros(3), np.arange(3), None, None) for i in (0, 3)]
    assert list(ticker.count(chunks, "counting")) == chunks
    assert said.getvalue() == expected


def test_short_work_says_nothing():
    said = Terminal()
    assert list(Ticker(stream=said).count([], "counting")) == []
    assert said.getvalue() == ""


def test_time_before_the_first_rows_does_not_count(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(_ticker.time, "monotonic", lambda: now[0])
    said = io.StringIO()
    ticker = Ticker(stream=said)

    def chunks():
        for i in range(3):
            now[0] += 0.7 * _ticker.PATIENCE if i else 60.0  # libraries load
            yield Chunk(i, np.zeros(1), np.arange(1), None, None)

    list(ticker.count(chunks(), "counting"))
    assert said.getvalue() == "lossnoise: counting: 3 rows\n"


@pytest.mark.parametrize(
    "options", [{"losses": "loss"}, {"pred_probs": "p_*"}], ids=["losses", "probs"]
)
def test_the_chart_counts_all_rows_although_few_are_kept(path, options):
    charts = [
        draw_losses(audit_file(path, **options, limits=limits).report) for limits in (None, PIECES)
    ]
    assert charts[0].ticks == charts[1].ticks
    bars = [
        {bar.x: re.findall(r"([\d,]+) (?:rows|flagged)", bar.title) for bar in c.bars}
        for c in charts
    ]
    totals = [
        [sum(int(b[i].replace(",", "")) for b in one.values()) for i in (0, 1)] for one in bars
    ]
    assert totals[0][0] == totals[1][0] == N
    assert totals[0][1] == pytest.approx(totals[1][1], abs=3)
    heights = [{bar.x: bar.height for bar in chart.bars} for chart in charts]
    for x in set(heights[0]) & set(heights[1]):
        assert heights[0][x] == pytest.approx(heights[1][x], abs=12.0)  # bins at a border


def test_the_chart_of_a_stream_without_issues_has_none(tmp_path):
    losses = np.random.default_rng(0).gamma(1.0, 0.2, size=N)
    np.save(tmp_path / "losses.npy", losses)
    chart = draw_losses(audit_file(tmp_path / "losses.npy", limits=PIECES).report)
    assert sum(bar.flagged_height for bar in chart.bars) == 0.0
    assert chart.cut is None


@pytest.mark.parametrize("limits", [None, PIECES])
def test_the_index_keeps_its_name(path, limits, tmp_path):
    report = audit_file(path, losses="loss", index="id", limits=limits).report
    report.to_csv(tmp_path / "issues.csv")
    assert (tmp_path / "issues.csv").read_text("utf-8-sig").startswith("id,given_label,")
    assert report.table.index.name == "id"
