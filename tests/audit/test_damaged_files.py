"""Files that are damaged, unusual or not what their name says: one line says so."""

import gzip

import numpy as np
import pandas as pd
import pytest

from lossnoise.audit._file_audit import audit_file
from lossnoise.audit._files import open_source
from lossnoise.exceptions import InvalidDataError

N = 60

# Of so few rows the losses split off only the worst; what is read is the same.
pytestmark = pytest.mark.filterwarnings("ignore:Cannot tell:UserWarning")


def make_frame():
    rng = np.random.default_rng(0)
    codes = rng.integers(3, size=N)
    probs = rng.dirichlet([0.2, 0.2, 0.2], size=N)
    probs[np.arange(N), codes] += 4.0
    probs /= probs.sum(axis=1, keepdims=True)
    given = np.where(np.arange(N) % 5 == 0, (codes + 1) % 3, codes)
    return pd.DataFrame({"label": given} | {f"p_{i}": probs[:, i] for i in range(3)})


def refused(path, **options):
    with pytest.raises(InvalidDataError) as caught:
        audit_file(path, **options)
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    return text.removeprefix(f"{path}: ")


def test_a_compressed_file_that_is_damaged_is_refused(tmp_path):
    path = tmp_path / "a.csv.gz"
    content = bytearray(gzip.compress(make_frame().to_csv(index=False).encode(), mtime=0))
    middle = len(content) // 2
    content[middle : middle + 40] = b"\xff" * 40
    path.write_bytes(content)
    assert refused(path).startswith("cannot be read as a .csv.gz file: ")


@pytest.mark.parametrize("name", ["a.npy", "a.npz"])
def test_numpy_is_not_quoted_where_it_would_have_code_run(tmp_path, name):
    path = tmp_path / name
    path.write_text("something else")
    expected = f"cannot be read as a .{name[2:]} file: no arrays of numbers or text are in it"
    assert refused(path) == expected


@pytest.mark.parametrize("header", ['"a,b,c,d,e,f";label;loss', '"a\nb;c;d;e;f";label;loss'])
def test_the_separator_is_not_what_a_quoted_name_holds(tmp_path, header):
    path = tmp_path / "a.csv"
    path.write_text(f"{header}\n1;cat;0.5\n")
    assert open_source(path).columns[1:] == ["label", "loss"]


def test_the_ending_of_an_array_may_be_in_capitals(tmp_path):
    losses = np.random.default_rng(0).gamma(1.0, 0.2, size=N)
    losses[::5] += 5.0
    with open(tmp_path / "A.NPY", "wb") as file:
        np.save(file, losses)
    assert audit_file(tmp_path / "A.NPY").report.summary["n"] == N


@pytest.mark.parametrize("names", [[["a", "b", "c"]], ["a", "b", "b"]])
def test_class_names_of_an_archive_name_each_column_once(tmp_path, names):
    data = make_frame()
    labels, probs = data["label"].to_numpy(), data.filter(like="p_").to_numpy()
    np.savez(tmp_path / "a.npz", labels=labels, pred_probs=probs, class_names=np.array(names))
    expected = "'class_names' must be one name a column, each another one"
    assert refused(tmp_path / "a.npz") == expected


def test_complex_losses_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", labels=np.zeros(N, int), losses=np.full(N, 1.0 + 1.0j))
    assert refused(tmp_path / "a.npz") == "column 'losses' has '(1+1j)' in row 0 (from 0), " + (
        "which is no number"
    )


def test_whole_numbers_that_are_floats_find_their_columns(tmp_path):
    """As pandas reads integers beside an empty cell."""
    data = make_frame()
    data["label"] = data["label"].astype(float)
    data[["label", "p_2", "p_0", "p_1"]].to_parquet(tmp_path / "a.parquet")
    report = audit_file(tmp_path / "a.parquet", pred_probs="p_*").report
    assert report.table["suggested_label"].dtype == float
    probs = data.filter(like="p_").to_numpy()
    scores = probs[np.arange(N), data["label"].astype(int)]
    assert report.table["label_score"].sort_index().to_numpy() == pytest.approx(scores)


@pytest.mark.parametrize("unit", ["D", "ns"])
def test_labels_that_are_dates_have_columns(tmp_path, unit):
    data = make_frame()
    dates = np.array(["2020-01-01", "2021-01-01", "2022-01-01"], f"datetime64[{unit}]")
    labels, probs = dates[data["label"]], data.filter(like="p_").to_numpy()
    np.savez(tmp_path / "a.npz", labels=labels, pred_probs=probs)
    (worst,) = audit_file(tmp_path / "a.npz").report.iter_rows(1)
    assert worst.suggested_label.startswith("202")


def test_columns_beside_the_audit_may_be_of_any_type(tmp_path):
    data = make_frame()
    data["ragged"] = [[1.0, 2.0][: i % 3] for i in range(N)]
    data["words"] = [["a", "b"] for _ in range(N)]
    data["bytes"] = b"\xff no picture"
    data.to_parquet(tmp_path / "a.parquet")
    found = audit_file(tmp_path / "a.parquet", pred_probs="p_*")
    found.report.to_html(tmp_path / "a.html", inputs=found.inputs(10), budget=10)
    assert "[&#39;a&#39;, &#39;b&#39;]" in (tmp_path / "a.html").read_text("utf-8")


def test_columns_are_matched_whatever_the_case(tmp_path):
    data = make_frame()
    data["label"] = data["label"].map({0: "CAT", 1: "DOG", 2: "Owl"})
    data = data.rename(columns={"p_0": "p_cat", "p_1": "p_dog", "p_2": "p_owl"})
    data[["label", "p_owl", "p_cat", "p_dog"]].to_csv(tmp_path / "a.csv", index=False)
    table = audit_file(tmp_path / "a.csv", pred_probs="p_*").report.table.sort_index()
    scores = [data.loc[i, f"p_{label.lower()}"] for i, label in enumerate(data["label"])]
    assert table["label_score"].to_numpy() == pytest.approx(scores)
    assert set(table["suggested_label"]) <= {"CAT", "DOG", "Owl"}


@pytest.mark.parametrize(
    "texts", [[f"{i}.0" for i in range(12)], [f"{i - 6}.0" for i in range(12)], range(-6, 6)]
)
@pytest.mark.parametrize("named", [True, False])
def test_numbers_as_text_stand_in_the_order_of_the_numbers(tmp_path, texts, named):
    """As pandas writes integers beside an empty cell."""
    codes = np.arange(N) % 12
    probs = np.full((N, 12), 0.01)
    probs[np.arange(N), codes] = 0.89
    ends = [int(float(text)) for text in texts] if named else "abcdefghijkl"
    data = pd.DataFrame(probs, columns=[f"p_{end}" for end in ends])
    data["label"] = [str(texts[code]) for code in codes]
    data.to_csv(tmp_path / "a.csv", index=False)
    report = audit_file(tmp_path / "a.csv", pred_probs="p_*").report
    assert report.table["label_score"].to_numpy() == pytest.approx(np.full(N, 0.89))


def test_a_column_for_one_number_needs_one_for_each(tmp_path):
    data = make_frame().rename(columns={"p_0": "p_3"})
    data["label"] = data["label"].map("{}.0".format)
    data.to_csv(tmp_path / "a.csv", index=False)
    with pytest.raises(InvalidDataError, match=r"for the label '1\.0' but none for '0\.0'"):
        audit_file(tmp_path / "a.csv", pred_probs="p_*")


@pytest.mark.parametrize("cell", ["Benign", "BENIGN ", " benign"])
def test_a_label_in_two_spellings_has_no_column_of_its_own(tmp_path, cell):
    data = pd.DataFrame({"label": ["benign", "benign", "malign"] * 5, "p_benign": 0.6})
    data.loc[1, "label"] = cell
    data.assign(p_malign=0.4).to_csv(tmp_path / "a.csv", index=False)
    first, second = sorted(["benign", cell])
    expected = (
        f"{tmp_path / 'a.csv'}: the labels {first!r} and {second!r} are two spellings for one "
        "column of --pred-probs: correct one of them"
    )
    with pytest.raises(InvalidDataError) as caught:
        audit_file(tmp_path / "a.csv", pred_probs="p_*")
    assert str(caught.value) == expected


def test_two_labels_that_have_a_column_each_are_no_two_spellings(tmp_path):
    data = pd.DataFrame({"label": ["Cat", "cat", "dog"] * 5, "p_Cat": 0.2, "p_cat": 0.3})
    data.assign(p_bird=0.5).to_csv(tmp_path / "a.csv", index=False)
    with pytest.raises(InvalidDataError, match="for the label 'Cat' but none for 'dog'"):
        audit_file(tmp_path / "a.csv", pred_probs="p_*")


@pytest.mark.parametrize("cell", ["1_0", "\N{ARABIC-INDIC DIGIT ONE}"])
def test_what_is_a_number_to_python_only_is_no_loss(tmp_path, cell):
    data = pd.DataFrame({"label": ["a", "a", "b", "b"] * 5, "loss": ["0.5", " 1e1 "] * 10})
    data.to_csv(tmp_path / "a.csv", index=False)
    assert audit_file(tmp_path / "a.csv").report.losses.max() == 10.0
    data.loc[3, "loss"] = cell
    data.to_csv(tmp_path / "a.csv", index=False)
    with pytest.raises(InvalidDataError, match=r"in row 3 .*which is no number"):
        audit_file(tmp_path / "a.csv")
