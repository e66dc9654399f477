"""Files of rows: every kind gives the same columns; what cannot be used is named."""

import gzip
import re

import numpy as np
import pandas as pd
import pytest

from lossnoise.audit._file_audit import Limits, audit_file
from lossnoise.audit._files import open_source
from lossnoise.audit._select import read_chunks, select
from lossnoise.exceptions import InvalidDataError

NOTHING = {"labels": None, "losses": None, "pred_probs": None, "index": None}
LABELS = ["007", 'a, "b"', "línea\nnueva", " ", "日本"]
LOSSES = [0.5, 0.25, 1.0, 0.0, 2.0]


def frame():
    return pd.DataFrame({"label": LABELS, "loss": LOSSES, "x.y": range(5)})


def write(path, data=None):
    """Write a table in the kind that the ending says."""
    data = frame() if data is None else data
    if path.suffix == ".parquet":
        data.to_parquet(path)
    elif path.suffix == ".npz":
        np.savez(path, **{name: np.array(data[name].tolist()) for name in data})
    else:
        data.to_csv(path, index=False, sep="\t" if path.suffix == ".tsv" else ",")
    return path


def rows_of(path, size=2, **options):
    """Return all rows of a file, read in small pieces, as lists."""
    source = open_source(path)
    chunks = list(read_chunks(source, select(source, **NOTHING | options), size))
    assert [chunk.start for chunk in chunks] == list(range(0, sum(map(len_of, chunks)), size))
    columns = zip(*(chunk[1:] for chunk in chunks), strict=True)
    return [None if c[0] is None else np.concatenate(c).tolist() for c in columns]


def len_of(chunk):
    return len(chunk.labels)


def refused(path, **options):
    with pytest.raises(InvalidDataError) as caught:
        rows_of(path, **options)
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    return text.removeprefix(f"{path}: ")


@pytest.mark.parametrize("name", ["a.csv", "a.CSV", "a.csv.gz", "a.tsv", "a.parquet", "a.npz"])
def test_every_kind_gives_the_same_rows(tmp_path, name):
    path = write(tmp_path / name)
    labels, ids, losses, probs, groups = rows_of(path, index="x.y", groups="label")
    assert labels == groups == LABELS
    assert [int(i) for i in ids] == list(range(5))
    assert losses == LOSSES
    assert probs is None


@pytest.mark.parametrize(
    "text", ["\ufefflabel;loss\r\n007;1\r\n\r\na;2\r\n\r\n", "label\tloss\n007\t1\na\t2"]
)
def test_csv_as_spreadsheets_save_it(tmp_path, text):
    path = tmp_path / "a.csv"
    path.write_bytes(text.encode())
    assert rows_of(path)[0] == ["007", "a"]


def test_long_cells_are_read(tmp_path):
    data = pd.DataFrame({"label": ["x" * 300_000, "y"], "loss": [1.0, 2.0]})
    assert rows_of(write(tmp_path / "a.csv", data))[0][0] == "x" * 300_000


def test_types_of_parquet_are_kept(tmp_path):
    data = pd.DataFrame(
        {
            "label": pd.Categorical(["a", "b", "a"]),
            "losses": np.float32([1, 2, 3]),
            "when": pd.date_range("2024-01-01", periods=3),
            "number": pd.array([1, None, 3], dtype="Int64"),
            "flag": [True, False, True],
        }
    )
    path = write(tmp_path / "a.parquet", data)
    assert rows_of(path)[0] == ["a", "b", "a"]
    assert rows_of(path, labels="number")[0] == [1, None, 3]
    assert rows_of(path, labels="flag")[0] == [True, False, True]
    assert [str(day)[:10] for day in rows_of(path, index="when")[1]] == [
        "2024-01-01",
        "2024-01-02",
        "2024-01-03",
    ]


def test_probabilities_may_be_one_column_of_lists(tmp_path):
    data = pd.DataFrame({"label": [0, 1], "pred_probs": [[0.5, 0.5], [0.25, 0.75]]})
    assert rows_of(write(tmp_path / "a.parquet", data))[3] == [[0.5, 0.5], [0.25, 0.75]]


def test_an_npy_file_holds_losses_and_its_labels_are_another(tmp_path):
    np.save(tmp_path / "losses.npy", LOSSES)
    np.save(tmp_path / "labels.npy", np.arange(5))
    assert rows_of(tmp_path / "losses.npy")[0] == [""] * 5
    assert rows_of(tmp_path / "losses.npy", labels=str(tmp_path / "labels.npy"))[0] == [
        0,
        1,
        2,
        3,
        4,
    ]
    history = np.outer(LOSSES, [1, 2, 3, 4])
    np.save(tmp_path / "history.npy", history)
    assert rows_of(tmp_path / "history.npy")[2] == [2.5 * loss for loss in LOSSES]


def test_probabilities_may_lie_in_an_npy_file(tmp_path):
    np.save(tmp_path / "p.npy", np.full((5, 2), 0.5))
    path = write(tmp_path / "a.csv")
    assert rows_of(path, pred_probs=str(tmp_path / "p.npy"))[3] == [[0.5, 0.5]] * 5


@pytest.mark.parametrize("n", [4, 6])
def test_another_file_has_as_many_rows(tmp_path, n):
    np.save(tmp_path / "labels.npy", np.arange(n))
    np.save(tmp_path / "losses.npy", LOSSES)
    with pytest.raises(InvalidDataError) as caught:
        rows_of(tmp_path / "losses.npy", labels=str(tmp_path / "labels.npy"))
    expected = f"{n} rows, not as many as {tmp_path / 'losses.npy'}"
    assert str(caught.value) == f"{tmp_path / 'labels.npy'}: {expected}"


def test_arrays_of_other_lengths_in_an_npz_do_not_matter(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, labels=LABELS, loss=LOSSES, other=np.arange(99), single=np.float64(3))
    assert rows_of(path)[2] == LOSSES
    source = open_source(path)
    assert source.of_length(["other", "single", "loss"], "labels") == ["loss"]
    assert refused(path, losses="other") == (
        "arrays of one length are needed, but 'labels' has 5 rows, 'other' has 99 rows"
    )
    assert refused(path, losses="single") == "'single' is a single value, not an array"


# -- which columns ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (["x", "loss"], "no column is called 'label' or 'labels': name it with --labels COL"),
        (
            ["label", "labels", "loss"],
            "more than one column is called 'label' or 'labels': name it with --labels COL",
        ),
        (
            ["label", "x"],
            "no losses are found: name what to use with --losses COL or --pred-probs COLS",
        ),
        (
            ["label", "loss", "losses"],
            "both 'loss' and 'losses' are there: name what to use with --losses COL or "
            "--pred-probs COLS",
        ),
    ],
)
def test_defaults_are_taken_where_they_can_only_mean_one_column(tmp_path, columns, message):
    path = tmp_path / "a.csv"
    path.write_text(",".join(columns) + "\n" + ",".join("1" * len(columns)) + "\n")
    shown = ", ".join(map(repr, columns))
    assert refused(path) == f"{message}; its columns are {shown}"


def test_two_columns_of_one_name_are_refused(tmp_path):
    (tmp_path / "a.csv").write_text("label,loss,loss,x,x\n1,2,3,4,5\n")
    assert refused(tmp_path / "a.csv", losses="loss") == (
        "2 columns are called 'loss': rename all but one"
    )


def test_hostile_names_of_columns(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('"a,b",p_*,"p_[x]","line\nbreak",--help\nu,0.5,0.5,3,4\nv,1,0,5,6\n')
    assert rows_of(path, labels="a,b", losses="--help")[2] == [4, 6]
    assert rows_of(path, labels="line\nbreak", losses="p_*")[2] == [0.5, 1]
    assert rows_of(path, labels="a,b", pred_probs="p_*,p_[x]")[3] == [[0.5, 0.5], [1, 0]]
    # A name that exists is that column, whatever it looks like.
    assert refused(path, labels="a,b", pred_probs="p_*").startswith("'p_*' must be a probability")


# -- values -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        (
            "",
            "column 'loss' has '' in row 3 (from 0), which is no number: leave such rows out of "
            "the file",
        ),
        ("n/a", "column 'loss' has 'n/a' in row 3 (from 0), which is no number"),
        (
            '"1,25"',
            "column 'loss' has '1,25' in row 3 (from 0), which is no number: write decimal points",
        ),
        ("nan", "column 'loss' has nan in row 3 (from 0): leave such rows out of the file"),
        (
            "inf",
            "column 'loss' has inf in row 3 (from 0): write 27.6 for such a loss, -log of 1e-12",
        ),
        (
            "-0.5",
            "column 'loss' has -0.5 in row 3 (from 0): losses are cross-entropies here; a "
            "log-probability needs a minus sign",
        ),
        ("1,2", "row 3 (from 0) has 3 cells, but the header has 2: quote cells that hold ','"),
    ],
)
def test_what_is_no_loss_is_named_with_its_row(tmp_path, cell, message):
    path = tmp_path / "a.csv"
    path.write_text(f"label,loss\na,1\na,2\na,3\na,{cell}\na,5\n")
    assert refused(path) == message


@pytest.mark.filterwarnings("ignore::lossnoise.exceptions.NoSeparableNoiseWarning")
def test_a_loss_that_rounding_put_below_0_is_0(tmp_path):
    path = tmp_path / "a.csv"
    cells = [f"{i % 2},{0.1 * i - 1e-12}" for i in range(60)]
    path.write_text("\n".join(["label,loss", *cells]))
    rows = audit_file(path).report.iter_rows()
    assert min(row.loss for row in rows) == 0.0


def test_what_is_no_probability_is_named_with_its_row(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("label,p_a,p_b\na,0.5,0.5\nb,1,0\na,1.5,-0.5\n")
    inside = "probabilities lie between 0 and 1"
    assert refused(path, pred_probs="p_*") == f"column 'p_a' has 1.5 in row 2 (from 0): {inside}"
    path.write_text("label,p_a,p_b\na,0.5,0.5\nb,1,0\na,0.5,0.25\n")
    assert refused(path, pred_probs="p_*") == (
        "the probabilities sum to 0.75 in row 2 (from 0), not to 1: --pred-probs must name all "
        "classes"
    )
    path.write_text("label,p_a,p_b\na,0.5,0.5\nb,1,0\na,0.671,0.341\n")  # three digits, and .012
    assert "sum to 1.012 in row 2" in refused(path, pred_probs="p_*")


def test_probabilities_are_not_taken_for_a_history_of_losses(tmp_path):
    np.save(tmp_path / "a.npy", np.full((5, 4), 0.25))
    assert refused(tmp_path / "a.npy") == (
        "the rows of 'losses' sum to 1, which losses do not: give probabilities with --pred-probs"
    )


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            {"labels": np.zeros((3, 2)), "loss": np.ones(3)},
            "'labels' must be one label a row, and has shape (2,) a row",
        ),
        (
            {"labels": np.zeros(3), "loss": np.ones((3, 2, 2))},
            "'loss' must be one loss a row, or one column an epoch, and has shape (2, 2) a row",
        ),
        (
            {"labels": np.zeros(3), "pred_probs": np.ones(3)},
            "'pred_probs' must be a probability for each class in a row, and has one number a row: "
            "of two classes, write two columns, 1 - p and p",
        ),
    ],
)
def test_arrays_of_another_shape_are_named(tmp_path, arrays, message):
    np.savez(tmp_path / "a.npz", **arrays)
    assert refused(tmp_path / "a.npz") == message


def test_a_row_without_a_label_is_named(tmp_path):
    data = pd.DataFrame({"label": [1.0, 2.0, np.nan], "loss": [1.0, 2.0, 3.0]})
    path = tmp_path / "a.npz"
    np.savez(path, label=data["label"], loss=data["loss"])
    assert refused(path) == "column 'label' has no label in row 2 (from 0)"


@pytest.mark.parametrize("labels", [["a", "b", None], pd.array([1, 2, None], dtype="Int64")])
def test_an_empty_cell_of_a_csv_file_is_no_class(tmp_path, labels):
    path = write(tmp_path / "a.csv", pd.DataFrame({"label": labels, "loss": [1.0, 2.0, 3.0]}))
    assert refused(path) == "column 'label' has no label in row 2 (from 0)"


def test_an_empty_text_in_an_array_is_no_class(tmp_path):
    np.savez(tmp_path / "a.npz", label=np.array(["a", "b", ""]), loss=np.ones(3))
    assert refused(tmp_path / "a.npz") == "column 'label' has no label in row 2 (from 0)"


# -- files that are none ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"", "the file is empty: its first line must name the columns"),
        ("a.csv", b"label,loss\n\xff\xfe,1\n", "not in UTF-8 (byte 11): save it in UTF-8"),
        ("a.csv.gz", b"no gzip", "cannot be read as a .csv.gz file: Not a gzipped file"),
        ("a.parquet", b"label,loss", "cannot be read as a .parquet file: "),
        ("a.npy", b"label,loss", "cannot be read as a .npy file: "),
        ("a.npz", b"PK\x03\x04 no zip", "cannot be read as a .npz file: File is not a zip file"),
        ("a.txt", b"", "an unknown kind of file; known are .csv, .csv.gz, .tsv, .parquet, .npy, "),
    ],
)
def test_files_of_another_kind_are_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    found = refused(tmp_path / name)
    assert found.startswith(message)
    assert "\n" not in found


def test_a_cut_off_file_is_named(tmp_path):
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(b"label,loss\n" + b"a,1\n" * 100)[:-10])
    assert refused(path).startswith("cannot be read as a .csv.gz file: Compressed file ended")


def test_numpy_files_of_another_kind_are_named(tmp_path):
    with open(tmp_path / "a.npz", "wb") as file:
        np.save(file, LOSSES)
    assert refused(tmp_path / "a.npz") == "no NPZ file, in spite of its name"
    np.save(tmp_path / "a.npy", 1.0)
    assert refused(tmp_path / "a.npy") == "no NPY file with an array, in spite of its name"


def test_python_objects_are_never_loaded(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{}, {}], dtype=object), allow_pickle=True)
    assert refused(tmp_path / "a.npy").startswith("cannot be read as a .npy file: ")


def test_text_of_pandas_in_a_file_of_arrays_is_told(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, labels=np.array(["cat", "dog"], dtype=object), losses=LOSSES[:2])
    expected = "an array in it holds Python objects: save text by np.array(labels, dtype=str)"
    assert refused(path) == f"cannot be read as a .npz file: {expected}"


@pytest.mark.parametrize("limits", [None, Limits(rows=100, chunk=150)])
def test_targets_of_a_regression_are_refused(tmp_path, limits):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"label": rng.normal(size=400), "loss": rng.gamma(1.0, 0.3, 400)})
    frame.to_csv(tmp_path / "a.csv")
    problem = (
        "400 different numbers with fractions as labels: they are no classes, and a regression has "
        "none (numbers that do name classes can have a letter before them)"
    )
    with pytest.raises(InvalidDataError, match=re.escape(problem)):
        audit_file(tmp_path / "a.csv", limits=limits)


@pytest.mark.parametrize("limits", [None, Limits(rows=100, chunk=150)])
@pytest.mark.filterwarnings("ignore::lossnoise.exceptions.NoSeparableNoiseWarning")
def test_codes_with_fractions_are_classes(tmp_path, limits):
    """Such as those of diseases, of which 60 occur in 300 rows."""
    codes = [f"{100 + 7 * code / 10:.2f}" for code in range(60)]
    losses = np.random.default_rng(0).gamma(1.0, 0.3, 300)
    pd.DataFrame({"label": 5 * codes, "loss": losses}).to_csv(tmp_path / "a.csv")
    report = audit_file(tmp_path / "a.csv", limits=limits).report
    assert len(report.summary["per_class"]) == 60
