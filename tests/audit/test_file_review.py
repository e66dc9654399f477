"""Reviews applied to files: only the labels change, twice is once, other files are refused."""

import csv

import numpy as np
import pandas as pd
import pytest

from lossnoise import audit
from lossnoise.audit._file_audit import Limits, audit_file
from lossnoise.audit._file_review import FileReview, review_file
from lossnoise.audit._files import open_source
from lossnoise.exceptions import InvalidDataError

TEXTS = ["007", "b", "x,y", "7"]
N = 24


def issues_of(path, labels, reviews, columns=None):
    """Write what `to_csv` writes, filled in; `columns` are those to keep."""
    report = audit(labels, noise_proba=np.linspace(0.1, 0.9, len(labels)))
    report.to_csv(path, overwrite=True)
    with open(path, newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row["review"] = reviews.get(int(row["row_key"].rpartition("-")[2]), "")
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns or rows[0], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return path


def labels_of(kind):
    if kind == "text":
        return [TEXTS[i % 4] for i in range(N)]
    return {
        "int": np.arange(N) % 3,
        "bool": np.arange(N) % 2 == 0,
        "float": np.arange(N) % 2 + 0.5,
    }[kind]


REVIEWS = {
    "text": {0: "x,y", 5: "b", 9: "007"},
    "int": {0: "2", 1: "1", 2: "0"},
    "bool": {0: "False", 2: "FALSE", 3: "False"},
    "float": {0: "1.5", 1: "0.5", 3: "1.5"},
}
CHANGED = {"text": [0, 9], "int": [0, 2], "bool": [0, 2], "float": [0, 1]}


def write(path, labels):
    others = {"n": np.arange(len(labels)), "text": [f'"{i}", ü' for i in range(len(labels))]}
    data = pd.DataFrame({"label": labels, **others})
    if path.suffix == ".parquet":
        data.to_parquet(path, row_group_size=7)
    elif path.suffix == ".npz":
        np.savez_compressed(path, label=np.array(labels), other=np.arange(3))
    elif path.suffix == ".npy":
        np.save(path, np.array(labels))
    else:
        data.to_csv(path, index=False)


def read(path):
    if path.suffix == ".parquet":
        return pd.read_parquet(path)["label"].tolist()
    if path.suffix == ".npz":
        assert np.load(path)["other"].tolist() == [0, 1, 2]
        return np.load(path)["label"].tolist()
    if path.suffix == ".npy":
        return np.load(path).tolist()
    return pd.read_csv(path, dtype=str)["label"].tolist()


@pytest.mark.parametrize("kind", ["text", "int", "bool", "float"])
@pytest.mark.parametrize("ending", [".csv", ".csv.gz", ".parquet", ".npz", ".npy"])
def test_twice_is_once_in_every_kind_of_file(tmp_path, kind, ending):
    labels = labels_of(kind)
    review = issues_of(tmp_path / "issues.csv", labels, REVIEWS[kind])
    path, fixed, again = (tmp_path / f"{name}{ending}" for name in ("rows", "fixed", "again"))
    write(path, labels)
    before = path.read_bytes()
    assert review_file(review, path, column=None, output=fixed) == FileReview(3, 2, 0)
    expected = read(path)
    assert [i for i, new in enumerate(read(fixed)) if new != expected[i]] == CHANGED[kind]
    assert review_file(review, fixed, column=None, output=again) == FileReview(3, 0, 2)
    assert read(again) == read(fixed)
    assert path.read_bytes() == before


def test_dtypes_of_parquet_stay(tmp_path):
    data = pd.DataFrame(
        {"label": pd.Categorical(["a", "b"] * 6), "when": pd.Timestamp("2024-01-01")}
    )
    data.to_parquet(tmp_path / "rows.parquet")
    review = issues_of(tmp_path / "issues.csv", data["label"].tolist(), {0: "b"})
    review_file(review, tmp_path / "rows.parquet", column=None, output=tmp_path / "new.parquet")
    found = pd.read_parquet(tmp_path / "new.parquet")
    assert found["label"].tolist() == ["b", *["b", "a"] * 5, "b"]
    expected = pd.read_parquet(tmp_path / "rows.parquet")  # whose times older releases read in ms
    assert found.dtypes.tolist() == expected.dtypes.tolist()
    assert found["label"].dtype == data["label"].dtype


def test_lines_that_do_not_change_keep_their_bytes(tmp_path):
    raw = '\ufeff"id" ; label;loss\r\n"1";a;"0,5"\r\n\r\n 2 ;"b";x\n3;a;"q\r\n""r"""\r\n'
    path = tmp_path / "rows.csv"
    path.write_bytes(raw.encode())
    review = issues_of(tmp_path / "issues.csv", ["a", "b", "a"], {2: "b"})
    review_file(review, path, column=" label", output=tmp_path / "new.csv")
    expected = raw.replace('3;a;"q', '3;b;"q')
    assert (tmp_path / "new.csv").read_bytes().decode() == expected


def test_a_longer_review_goes_on_where_the_first_one_ended(tmp_path):
    labels = labels_of("text")
    path, first, second = (tmp_path / f"{name}.csv" for name in ("rows", "first", "second"))
    write(path, labels)
    review = issues_of(tmp_path / "issues.csv", labels, {0: "b"})
    review_file(review, path, column=None, output=first)
    review = issues_of(tmp_path / "issues.csv", labels, {0: "b", 4: "x,y"})
    assert review_file(review, first, column=None, output=second) == FileReview(2, 1, 1)
    assert read(second) == ["b", *labels[1:4], "x,y", *labels[5:]]


def test_a_suggested_class_that_does_not_occur_may_be_chosen(tmp_path):
    labels = np.array([0, 1] * 6)
    probs = np.tile([0.1, 0.2, 0.7], (12, 1))
    path = tmp_path / "issues.csv"
    audit(labels, pred_probs=probs, class_names=range(3), noise_proba=np.full(12, 0.6)).to_csv(path)
    text = path.read_text("utf-8-sig").replace(",2,,0.7", ",2,2,0.7", 3)
    path.write_text(text)
    np.save(tmp_path / "labels.npy", labels)
    output = tmp_path / "new.npy"
    assert review_file(path, tmp_path / "labels.npy", column=None, output=output).num_changed == 3
    assert np.load(output).dtype == labels.dtype
    assert np.sum(np.load(output) == 2) == 3


@pytest.mark.filterwarnings("ignore:Cannot tell:UserWarning")
def test_names_of_an_npz_file_are_reviewed_and_numbers_are_written(tmp_path):
    labels, names = np.arange(12) % 2, np.array(["cat", "dog", "owl"])
    path, issues, fixed = tmp_path / "a.npz", tmp_path / "issues.csv", tmp_path / "b.npz"
    probs = np.tile([0.1, 0.2, 0.7], (12, 1))
    np.savez(path, labels=labels, pred_probs=probs, class_names=names)
    for limits in (None, Limits(rows=5)):
        report = audit_file(path, limits=limits).report
        assert report.show_label(1) == "dog"
        report.to_csv(issues, overwrite=True)
        text = issues.read_text("utf-8-sig")
        assert text.count(",cat,owl,,0.7") == 6
        issues.write_text(text.replace(",cat,owl,,0.7", ",cat,owl,owl,0.7", 2))
        assert review_file(issues, path, column=None, output=fixed).num_changed == 2
        assert np.sum(np.load(fixed)["labels"] == 2) == 2
        again = tmp_path / "c.npz"
        assert review_file(issues, fixed, column=None, output=again) == FileReview(2, 0, 2)


def test_a_review_without_the_given_labels_works_once(tmp_path):
    """Such files have only what is needed."""
    labels = labels_of("text")
    write(tmp_path / "rows.csv", labels)
    review = issues_of(tmp_path / "issues.csv", labels, {0: "b"}, columns=["review", "row_key"])
    fixed = tmp_path / "fixed.csv"
    assert review_file(review, tmp_path / "rows.csv", column=None, output=fixed).num_changed == 1
    with pytest.raises(InvalidDataError, match="a review of other labels"):
        review_file(review, fixed, column=None, output=tmp_path / "again.csv")


# -- refusals ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "other",
    [labels_of("text")[::-1], labels_of("text")[:-1], labels_of("text")[:3], ["b"] * N],
    ids=["order", "fewer", "few", "others"],
)
def test_other_labels_are_refused(tmp_path, other):
    review = issues_of(tmp_path / "issues.csv", labels_of("text"), {0: "b", 5: "7", 20: "b"})
    path, output = tmp_path / "rows.csv", tmp_path / "new.csv"
    write(path, other)
    with pytest.raises(InvalidDataError) as caught:
        review_file(review, path, column=None, output=output)
    assert str(caught.value) == (
        f"{review}: a review of other labels than those of {path}, or of these in another order: "
        "give the file and the column that were audited, and all reviews of it at once"
    )
    assert not output.exists()


def test_labels_that_do_not_exist_are_refused(tmp_path):
    labels = labels_of("text")
    write(tmp_path / "rows.csv", labels)
    review = issues_of(tmp_path / "issues.csv", labels, {0: "xy"})
    with pytest.raises(InvalidDataError, match=r"'xy' in line 25 of issues.csv instead: .*'x,y'"):
        review_file(review, tmp_path / "rows.csv", column=None, output=tmp_path / "new.csv")


def test_an_output_of_another_kind_or_an_input_is_refused(tmp_path):
    labels = labels_of("text")
    path = tmp_path / "rows.csv"
    write(path, labels)
    review = issues_of(tmp_path / "issues.csv", labels, {0: "b"})
    with pytest.raises(InvalidDataError) as caught:
        review_file(review, path, column=None, output=tmp_path / "new.npz")
    assert str(caught.value) == (
        f"{tmp_path / 'new.npz'}: the corrected labels of {path} need the ending .csv"
    )
    for target in (path, review):
        with pytest.raises(InvalidDataError, match="is read too: write to another file"):
            review_file(review, path, column=None, output=target)


def test_a_column_of_another_name_is_given_or_listed(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("n,y\n1,a\n2,b\n")
    review = issues_of(tmp_path / "issues.csv", ["a", "b"], {0: "b"})
    with pytest.raises(InvalidDataError) as caught:
        review_file(review, path, column=None, output=tmp_path / "new.csv")
    assert str(caught.value) == (
        f"{path}: no column is called 'label' or 'labels': name it with --column COL; its columns "
        "are 'n', 'y'"
    )
    review_file(review, path, column="y", output=tmp_path / "new.csv")
    assert (tmp_path / "new.csv").read_text() == "n,y\n1,b\n2,b\n"


@pytest.mark.parametrize(
    ("labels", "message"),
    [(np.zeros((2, 2)), "'labels' must be one label a row"), ([], "no rows, and so no labels")],
)
def test_what_is_no_column_of_labels_is_refused(tmp_path, labels, message):
    path = tmp_path / "rows.npz"
    np.savez(path, labels=labels)
    review = issues_of(tmp_path / "issues.csv", ["a", "b"], {0: "b"})
    with pytest.raises(InvalidDataError, match=message):
        review_file(review, path, column=None, output=tmp_path / "new.npz")


def test_a_review_of_text_does_not_fit_numbers(tmp_path):
    np.save(tmp_path / "labels.npy", np.arange(4))
    review = issues_of(tmp_path / "issues.csv", ["a", "b", "a", "b"], {0: "b"})
    with pytest.raises(InvalidDataError, match="a review of other labels"):
        review_file(review, tmp_path / "labels.npy", column=None, output=tmp_path / "new.npy")


def test_wide_texts_are_put_back_into_narrow_arrays(tmp_path):
    labels = ["long label", "b", "c"] * 4
    path = tmp_path / "rows.npy"
    np.save(path, ["b" if i in (0, 3, 6, 9) else label for i, label in enumerate(labels)])
    review = issues_of(tmp_path / "issues.csv", labels, {0: "b", 3: "b", 6: "b", 9: "b"})
    assert review_file(review, path, column=None, output=tmp_path / "new.npy").num_applied == 4


@pytest.mark.parametrize("ending", [".npz", ".npy", ".parquet"])
@pytest.mark.parametrize("unit", ["D", "ns"])
def test_dates_are_reviewed_by_their_text(tmp_path, ending, unit):
    days = np.array(["2024-01-01", "2024-05-02"], dtype=f"datetime64[{unit}]")
    labels = days[np.arange(N) % 2]
    path, fixed, again = (tmp_path / f"{name}{ending}" for name in ("rows", "fixed", "again"))
    if ending == ".parquet":  # as Arrow reads the dates of a file
        dates = labels.astype("datetime64[D]").tolist() if unit == "D" else pd.Series(labels)
        pd.DataFrame({"label": dates}).to_parquet(path)
        source = open_source(path)
        labels = next(iter(source.blocks(["label"], N)))["label"]
    else:
        write(path, labels)
    probs = np.full((N, 2), [0.9, 0.1])
    order = [labels[0], labels[1]]
    report = audit(labels, pred_probs=probs, noise_proba=[0.6, 0.9, *[0.1] * 22], class_names=order)
    report.to_csv(tmp_path / "issues.csv")
    sheet = pd.read_csv(tmp_path / "issues.csv", dtype=str)
    sheet.loc[0, "review"] = sheet.loc[0, "suggested_label"]
    sheet.to_csv(tmp_path / "issues.csv", index=False)
    done = review_file(tmp_path / "issues.csv", path, column=None, output=fixed)
    assert done == FileReview(1, 1, 0)
    found, before = read(fixed), read(path)
    assert found == [before[0], before[0], *before[2:]]
    done = review_file(tmp_path / "issues.csv", fixed, column=None, output=again)
    assert done == FileReview(1, 0, 1)
    assert read(again) == found


def test_the_reviews_of_several_people(tmp_path):
    labels = labels_of("text")
    write(tmp_path / "rows.csv", labels)
    anna = issues_of(tmp_path / "anna.csv", labels, {0: "x,y", 5: "b"})
    ben = issues_of(tmp_path / "ben.csv", labels, {5: "b", 9: "007"})
    fixed, again = tmp_path / "fixed.csv", tmp_path / "again.csv"
    done = review_file([anna, ben], tmp_path / "rows.csv", column=None, output=fixed)
    assert done == FileReview(3, 2, 0)
    assert [i for i in range(N) if read(fixed)[i] != labels[i]] == [0, 9]
    assert review_file([ben, anna], fixed, column=None, output=again) == FileReview(3, 0, 2)
    assert again.read_bytes() == fixed.read_bytes()

    # Ben's alone does not know what Anna corrected
    with pytest.raises(InvalidDataError, match="a review of other labels"):
        review_file(ben, fixed, column=None, output=tmp_path / "third.csv")
    other = issues_of(tmp_path / "other.csv", labels[::-1], {2: "b"})
    with pytest.raises(InvalidDataError, match="one of other labels"):
        review_file([anna, other], tmp_path / "rows.csv", column=None, output=tmp_path / "no.csv")
    assert not (tmp_path / "no.csv").exists()
