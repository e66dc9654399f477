"""The review round trip: a file goes to a person, through a spreadsheet, and back."""

import csv
import io

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lossnoise import audit
from lossnoise.audit._csv import harmless, restore
from lossnoise.exceptions import InvalidDataError, NewLabelWarning

DAY = str(pd.Series(pd.to_datetime(["2024-05-02"])).to_numpy()[0])  # as the file has it
LABELS = ["cat", "dog", "cat", "owl"]


@pytest.fixture
def report():
    return audit(LABELS, noise_proba=[0.1, 0.9, 0.3, 0.8], index=["007", "=1+1", 'a,"b"\nc', "é"])


def read(path):
    with open(path, newline="", encoding="utf-8-sig") as file:
        return list(csv.DictReader(file))


def write(path, rows, *, encoding="utf-8", delimiter=","):
    with open(path, "w", newline="", encoding=encoding) as file:
        writer = csv.DictWriter(file, rows[0].keys(), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)


def reviewed(report, path, reviews, **options):
    """Write the report, fill in reviews by position, and apply the file."""
    report.to_csv(path, overwrite=True)
    rows = read(path)
    for row in rows:
        row["review"] = reviews.get(int(row["row_key"].rpartition("-")[2]), "")
    write(path, rows, **options)
    return report.apply_review(path)


def test_nothing_is_corrected_without_a_review(report, tmp_path):
    found = reviewed(report, tmp_path / "a.csv", {})
    assert found.labels.tolist() == LABELS
    assert (found.changes, found.num_reviewed) == ([], 0)


def test_what_a_person_wrote_corrects_or_confirms(report, tmp_path):
    found = reviewed(report, tmp_path / "a.csv", {1: "owl", 3: "owl"})
    assert found.labels.tolist() == ["cat", "owl", "cat", "owl"]
    assert found.changes == [(1, "=1+1", "dog", "owl")]
    assert found.changes[0].new_label == "owl"
    assert found.num_reviewed == 2
    again = report.apply_review(tmp_path / "a.csv")
    assert again.labels.tolist() == found.labels.tolist()
    assert again.changes == found.changes


def test_rows_that_somebody_looked_at_are_known_for_the_next_audit(report, tmp_path):
    found = reviewed(report, tmp_path / "a.csv", {0: "cat", 3: "dog"})
    assert found.is_reviewed.tolist() == [True, False, False, True]
    assert found.is_reviewed.dtype == bool
    assert not reviewed(report, tmp_path / "a.csv", {}).is_reviewed.any()
    rest = report.table[~found.is_reviewed[report.order]]
    assert rest.index.tolist() == ["=1+1", 'a,"b"\nc']  # worst first


def test_rows_left_out_of_the_audit_count_as_not_reviewed(tmp_path):
    labels = pd.Series(["a", np.nan, "b", "a"], index=[5, 5, 7, 8])
    report = audit(labels, noise_proba=[0.9, 0.5, 0.1, 0.8], on_nan="drop")
    report.to_csv(tmp_path / "all.csv")
    first, second, third = read(tmp_path / "all.csv")
    write(tmp_path / "anna.csv", [first | {"review": "a"}])
    write(tmp_path / "ben.csv", [second | {"review": "b"}, third])
    found = report.apply_review([tmp_path / "anna.csv", tmp_path / "ben.csv"])
    assert found.is_reviewed.tolist() == [True, False, False, True]
    assert report.table[~found.is_reviewed[report.order]].index.tolist() == [7]


def test_the_file_may_hold_the_worst_rows_only(report, tmp_path):
    report.to_csv(tmp_path / "a.csv", budget=2)
    assert [row["given_label"] for row in read(tmp_path / "a.csv")] == ["dog", "owl"]
    with pytest.raises(ValueError, match=r"'budget' parameter of AuditReport.to_csv must be an"):
        report.to_csv(tmp_path / "a.csv", budget=0)


def test_the_audited_labels_are_left_alone(tmp_path):
    labels = np.array(LABELS)
    found = reviewed(audit(labels, noise_proba=[0.5] * 4), tmp_path / "a.csv", {0: "dog"})
    assert labels.tolist() == LABELS
    assert found.labels.tolist() == ["dog", *LABELS[1:]]


def test_rows_may_be_missing_and_in_any_order(report, tmp_path):
    report.to_csv(tmp_path / "a.csv")
    rows = [row for row in read(tmp_path / "a.csv") if not row["row_key"].endswith("-0")]
    rows[0]["review"], rows[1]["review"] = "cat", "dog"
    by_key = {row["row_key"][-1]: row["review"] for row in rows}
    write(tmp_path / "a.csv", rows[::-1])
    found = report.apply_review(tmp_path / "a.csv").labels.tolist()
    assert found == [by_key.get(str(i)) or LABELS[i] for i in range(4)]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_files_as_spreadsheets_save_them(report, tmp_path, delimiter, encoding):
    options = {"delimiter": delimiter, "encoding": encoding}
    found = reviewed(report, tmp_path / "a.csv", {1: "cat"}, **options)
    assert found.labels.tolist() == ["cat", "cat", "cat", "owl"]
    assert found.changes[0].index == "=1+1"


def test_empty_lines_and_more_columns_are_passed_over(report, tmp_path):
    report.to_csv(tmp_path / "a.csv")
    rows = [
        {"who": "me"} | row | {"review": "owl", "note": "?"} for row in read(tmp_path / "a.csv")
    ]
    write(tmp_path / "a.csv", [rows[0], dict.fromkeys(rows[0], ""), *rows[1:]])
    assert report.apply_review(tmp_path / "a.csv").labels.tolist() == ["owl"] * 4


def test_numbers_and_words_as_spreadsheets_change_them(tmp_path):
    report = audit(["007", "0012", "true"], noise_proba=[0.9, 0.8, 0.7])
    found = reviewed(report, tmp_path / "a.csv", {0: "12", 1: "7", 2: "TRUE"})
    assert found.labels.tolist() == ["0012", "007", "true"]


def test_what_fits_several_labels_loosely_is_refused(tmp_path):
    report = audit(["07", "7.0", "cat"], noise_proba=[0.9, 0.8, 0.7])
    assert reviewed(report, tmp_path / "a.csv", {2: "07"}).labels.tolist()[2] == "07"
    with pytest.raises(InvalidDataError) as caught:
        reviewed(report, tmp_path / "a.csv", {2: "7"})
    assert str(caught.value) == (
        "The 'path' parameter of AuditReport.apply_review must be a review of labels that differ "
        "as text. Got '7' in line 4 of a.csv, which fits 2 labels instead."
    )


@pytest.mark.parametrize(
    ("labels", "review", "expected"),
    [
        (np.array([0, 1, 2], "uint8"), "2.0", 2),
        (np.array([True, False, True]), "FALSE", False),
        (np.array(["2024-05-01", "2024-05-02", "2024-05-02"], "datetime64[D]"), "2024-05-02", None),
        (pd.Series(pd.to_datetime(["2024-05-01", "2024-05-02", "2024-05-02"])), DAY, None),
        (pd.Series([1, 2, 2], dtype="Int64", index=list("abc")), "2", 2),
        (pd.Series(["x", "y", "y"], dtype="string"), "y", "y"),
        (pd.Series(["x", "y", "y"], dtype="category"), "y", "y"),
        (pd.Categorical(["x", "y", "y"]), "y", "y"),
        (np.array([None, "y", 3], dtype=object), "3", 3),
        (np.array(["y", None, 3], dtype=object), "None", None),
    ],
)
def test_types_of_labels_are_kept(tmp_path, labels, review, expected):
    found = reviewed(audit(labels, noise_proba=[0.9, 0.1, 0.2]), tmp_path / "a.csv", {0: review})
    assert type(found.labels) is type(labels)
    assert found.labels.dtype == labels.dtype
    first = found.labels.iloc[0] if isinstance(labels, pd.Series) else found.labels[0]
    assert first == expected or first == labels[1]
    if isinstance(labels, pd.Series):
        assert found.labels.index.equals(labels.index)
        assert labels.iloc[0] != first


@pytest.mark.parametrize(
    ("categories", "review", "expected"),
    [
        (["x", "y", "z"], "z", "z"),
        ([1, 2, 7], "7", 7),
        ([1.5, 2.5, 7.5], "7.5", 7.5),
        (pd.to_datetime(["2024-04-01", "2024-05-01", "2024-05-02"]), DAY, pd.Timestamp(DAY)),
    ],
)
def test_a_declared_class_that_no_label_has_may_be_named(tmp_path, categories, review, expected):
    labels = pd.Series(pd.Categorical.from_codes([0, 1, 1], categories))
    report = audit(labels, noise_proba=[0.9, 0.1, 0.2])
    found = reviewed(report, tmp_path / "a.csv", {0: review})
    assert found.labels.tolist() == [expected, *labels[1:]]
    assert found.labels.dtype == labels.dtype
    report.to_html(tmp_path / "a.html")
    page = (tmp_path / "a.html").read_text("utf-8")
    assert f'"review": "{review}"' in page


def test_names_of_integer_labels_may_be_written(tmp_path):
    report = audit([0, 1, 1], noise_proba=[0.9, 0.1, 0.2], class_names=["cat", "dog", "owl"])
    found = reviewed(report, tmp_path / "a.csv", {0: "owl", 1: "0", 2: "Dog"})
    assert found.labels.tolist() == [2, 0, 1]
    assert [row["given_label"] for row in read(tmp_path / "a.csv")] == ["cat", "dog", "dog"]


def test_a_suggested_class_that_does_not_occur_may_be_written(tmp_path):
    probs = [[0.1, 0.2, 0.7], [0.1, 0.8, 0.1]]
    report = audit(
        ["a", "b"], pred_probs=probs, noise_proba=[0.9, 0.1], class_names=["a", "b", "longer"]
    )
    assert reviewed(report, tmp_path / "a.csv", {0: "longer"}).labels.tolist() == ["longer", "b"]


def test_rows_that_were_left_out_stay(tmp_path):
    labels = np.array(["a", "b", "a"])
    report = audit(labels, losses=[1.0, np.nan, 2.0], noise_proba=[0.9, 0.1, 0.2], on_nan="drop")
    found = reviewed(report, tmp_path / "a.csv", {2: "b"})
    assert found.labels.tolist() == ["a", "b", "b"]
    text = (tmp_path / "a.csv").read_text().replace("-2\n", "-1\n")
    (tmp_path / "a.csv").write_text(text)
    message = r"Got row 1 in line 3 of a\.csv, which was not audited instead"
    with pytest.raises(InvalidDataError, match=message):
        report.apply_review(tmp_path / "a.csv")


def test_new_labels_are_typing_errors_unless_allowed(report, tmp_path):
    with pytest.raises(InvalidDataError) as caught:
        reviewed(report, tmp_path / "a.csv", {0: "cta"})
    assert str(caught.value) == (
        "The 'path' parameter of AuditReport.apply_review must be a review with labels that occur, "
        "and nothing where nobody can tell. Got 'cta' in line 6 of a.csv instead: the nearest is "
        "'cat'."
    )
    found = report.apply_review(tmp_path / "a.csv", allow_new=True)
    assert found.labels.tolist() == ["cta", *LABELS[1:]]
    numbers = audit([1, 2], noise_proba=[0.9, 0.1])
    reviewed(numbers, tmp_path / "b.csv", {})
    rows = read(tmp_path / "b.csv")
    rows[0]["review"] = "3"
    write(tmp_path / "b.csv", rows)
    with pytest.raises(InvalidDataError, match="labels are '1', '2'"):
        numbers.apply_review(tmp_path / "b.csv", allow_new=True)


def test_all_texts_that_fit_no_label_are_named_at_once(tmp_path):
    report = audit(np.arange(12) % 2, noise_proba=np.linspace(0.9, 0.1, 12))
    texts = ["?", "ask Ada", "1", "?", "a", "b", "c", "d", "?"]
    with pytest.raises(InvalidDataError) as caught:
        reviewed(report, tmp_path / "a.csv", dict(enumerate(texts)))
    assert str(caught.value) == (
        "The 'path' parameter of AuditReport.apply_review must be a review with labels that occur, "
        "and nothing where nobody can tell. Got '?' in line 2 of a.csv and 2 more; 'ask Ada' in "
        "line 3 of a.csv; 'a' in line 6 of a.csv; 'b' in line 7 of a.csv; 'c' in line 8 of a.csv; "
        "and 1 more instead: labels are '0', '1'."
    )


@pytest.mark.parametrize("labels", [["cat", "dog"], np.array(["cat", "dog"]), [0, 1]])
def test_a_class_that_does_not_occur_is_no_new_label(labels, tmp_path):
    names = ["cat", "dog", "elephant"]
    probs = [[0.6, 0.3, 0.1], [0.6, 0.3, 0.1]]
    report = audit(labels, pred_probs=probs, noise_proba=[0.1, 0.9], class_names=names)
    found = reviewed(report, tmp_path / "a.csv", {1: "elephant"})
    assert found.labels[1] == ("elephant" if labels[0] == "cat" else 2)
    report.to_html(tmp_path / "a.html")
    assert "elephant" in (tmp_path / "a.html").read_text(encoding="utf-8")


def test_a_new_label_that_is_nearly_another_is_warned_of_once(tmp_path):
    report = audit(["standard", "cat", "cat", "7"], noise_proba=[0.1, 0.9, 0.8, 0.7])
    report.to_csv(tmp_path / "a.csv")
    rows = read(tmp_path / "a.csv")
    for row, label in zip(rows, ["standrad", " standrad ", "rat", "12"], strict=True):
        row["review"] = label
    write(tmp_path / "a.csv", rows)
    with pytest.warns(NewLabelWarning) as caught:
        found = report.apply_review(tmp_path / "a.csv", allow_new=True)
    assert [str(one.message) for one in caught] == [
        "A review names the new label 'standrad' (line 2 of a.csv): the nearest is 'standard'. "
        "Write that if it was meant."
    ]
    assert found.labels.tolist() == ["12", "standrad", "standrad", "rat"]


def test_a_review_that_contradicts_itself_is_refused(report, tmp_path):
    report.to_csv(tmp_path / "a.csv")
    row = read(tmp_path / "a.csv")[0]
    write(tmp_path / "a.csv", [row | {"review": "cat"}, row | {"review": "owl"}])
    with pytest.raises(InvalidDataError) as caught:
        report.apply_review(tmp_path / "a.csv")
    assert str(caught.value) == (
        "The 'path' parameter of AuditReport.apply_review must be one label for a row. "
        "Got 'cat' (line 2 of a.csv) and 'owl' (line 3 of a.csv) for row 1 instead."
    )


def test_people_who_shared_the_rows_give_back_a_file_each(report, tmp_path):
    report.to_csv(tmp_path / "all.csv")
    first, second, third = read(tmp_path / "all.csv")[:3]
    write(tmp_path / "anna.csv", [first | {"review": "cat"}, second | {"review": "owl"}])
    write(tmp_path / "ben.csv", [second | {"review": "owl"}, third | {"review": "dog"}])
    both = report.apply_review([tmp_path / "anna.csv", str(tmp_path / "ben.csv")])
    together = [*read(tmp_path / "anna.csv"), read(tmp_path / "ben.csv")[1]]
    write(tmp_path / "together.csv", together)
    one = report.apply_review(tmp_path / "together.csv")
    assert both.changes == one.changes
    assert both.num_reviewed == one.num_reviewed == 3

    write(tmp_path / "ben.csv", [second | {"review": "dog"}])
    with pytest.raises(InvalidDataError) as caught:
        report.apply_review([tmp_path / "anna.csv", tmp_path / "ben.csv"])
    position = second["row_key"].rpartition("-")[2]
    assert f"Got 'owl' (line 3 of anna.csv) and 'dog' (line 2 of ben.csv) for row {position}" in (
        str(caught.value)
    )
    with pytest.raises(InvalidDataError, match="the path of a review, or several"):
        report.apply_review([])


@pytest.mark.parametrize("others", [["cat", "dog", "owl", "cat"], ["cat"], [*LABELS, "cat"]])
def test_a_review_of_other_labels_is_refused(report, tmp_path, others):
    report.to_csv(tmp_path / "a.csv")
    with pytest.raises(InvalidDataError) as caught:
        audit(others, noise_proba=[0.5] * len(others)).apply_review(tmp_path / "a.csv")
    assert str(caught.value) == (
        "The 'path' parameter of AuditReport.apply_review must be a review of the labels that were "
        "audited. Got one of other labels, or of these in another order (line 2 of a.csv) instead: "
        "apply it to those labels, unchanged and in their order, or audit again."
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "with the columns 'review' and 'row_key'. Got a.csv with the columns [] instead"),
        (b"a,b\n1,2\n", "'row_key'. Got a.csv with the columns ['a', 'b'] instead"),
        (b"review,row_key\ncat,12\n", "column as it was. Got '12' in line 2 of a.csv instead"),
        (b"review,row_key\ncat,\n", "column as it was. Got '' in line 2 of a.csv instead"),
        (
            b"review,row_key\ncat,row-00-\xe9\n",
            "must be in UTF-8; spreadsheets call it 'CSV UTF-8'",
        ),
    ],
)
def test_other_files_are_refused(report, tmp_path, content, message):
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(InvalidDataError) as caught:
        report.apply_review(tmp_path / "a.csv")
    assert message in str(caught.value)


def test_formulas_are_made_harmless_and_restored(tmp_path):
    labels = ["=1+1", "'=1+1", "-2", "+", "@x", "'", "\tx", "plain", "it's"]
    report = audit(labels, noise_proba=np.linspace(0.1, 0.9, 9))
    report.to_csv(tmp_path / "a.csv")
    for row in read(tmp_path / "a.csv"):
        assert row["given_label"][:1] not in {"=", "+", "-", "@", "\t", "\r"}
    rows = read(tmp_path / "a.csv")
    for row in rows:
        row["review"] = row["given_label"]  # as a person copies the cell
    write(tmp_path / "a.csv", rows)
    found = report.apply_review(tmp_path / "a.csv")
    assert found.labels.tolist() == labels
    assert (found.changes, found.num_reviewed) == ([], 9)


def test_numbers_are_no_formulas():
    assert [harmless(cell) for cell in (-1, -1.5, True, None)] == ["-1", "-1.5", "True", "None"]


@given(st.text())
def test_every_text_comes_back(text):
    assert restore(harmless(text)) == text


texts = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], include_characters="\n\t"), min_size=1
)


@given(st.lists(texts.filter(str.strip), min_size=2, max_size=8, unique=True), st.data())
@settings(max_examples=50)
def test_any_text_survives_the_round_trip(tmp_path_factory, labels, data):
    path = tmp_path_factory.mktemp("review") / "a.csv"
    report = audit(labels, noise_proba=np.linspace(0.0, 1.0, len(labels)), index=labels)
    wanted = data.draw(
        st.lists(st.sampled_from(labels), min_size=len(labels), max_size=len(labels))
    )
    report.to_csv(path)
    rows = read(path)
    for row in rows:
        row["review"] = harmless(wanted[int(row["row_key"].rpartition("-")[2])])
    write(path, rows)
    found = report.apply_review(path)
    assert found.labels.tolist() == wanted
    assert [restore(row["index"]) for row in rows] == labels[::-1]
    assert all(change.index == labels[change.position] for change in found.changes)


def test_keys_are_not_changed_by_pandas(report, tmp_path):
    report.to_csv(tmp_path / "a.csv")
    frame = pd.read_csv(tmp_path / "a.csv")
    frame["review"] = "owl"
    out = io.StringIO()
    frame.sample(frac=1.0, random_state=0).to_csv(out, index=False)
    (tmp_path / "b.csv").write_text(out.getvalue(), "utf-8")
    assert report.apply_review(tmp_path / "b.csv").labels.tolist() == ["owl"] * 4


def test_labels_longer_than_the_csv_module_likes_come_back(tmp_path):
    long = "x" * 200_000
    report = audit([long, "b", "b"], noise_proba=[0.1, 0.9, 0.2])
    report.to_csv(tmp_path / "a.csv")
    text = (tmp_path / "a.csv").read_text("utf-8-sig").replace("\nb,", "\n,")
    header, first, *rest = text.splitlines()
    cells = first.split(",")
    cells[3] = long
    (tmp_path / "a.csv").write_text("\n".join([header, ",".join(cells), *rest]))
    assert report.apply_review(tmp_path / "a.csv").labels.tolist() == [long, long, "b"]


def test_halves_of_characters_are_spelt_out_and_come_back(tmp_path):
    """Such as those that Python puts into paths that are not in UTF-8."""
    report = audit(["caf\udce9", "b"], noise_proba=[0.1, 0.9], index=["\udcff.png", "2.png"])
    found = reviewed(report, tmp_path / "a.csv", {1: r"caf\udce9"})
    assert found.labels.tolist() == ["caf\udce9", "caf\udce9"]
    assert read(tmp_path / "a.csv")[1]["index"] == r"\udcff.png"


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_an_index_may_be_called_anything(tmp_path, delimiter):
    name = "a,b,c,d,e,f,g,h,i,j,k,l,m;n\no"
    report = audit(LABELS, noise_proba=[0.1, 0.9, 0.3, 0.8], index=pd.Index(range(4), name=name))
    found = reviewed(report, tmp_path / "a.csv", {1: "owl"}, delimiter=delimiter)
    assert found.labels.tolist() == ["cat", "owl", "cat", "owl"]


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (np.int8, "int32"),
        (np.uint8, "uint16"),
        ("int8", "int32"),
        ("UInt8", "UInt16"),
        ("uint8[pyarrow]", "uint16[pyarrow]"),
    ],
)
@pytest.mark.parametrize("kind", [pd.Series, pd.Index])
def test_a_new_label_gets_a_dtype_that_holds_it(tmp_path, dtype, expected, kind):
    probs = np.full((4, 300), 0.1 / 298)
    probs[:, [1, 299]] = 0.45
    labels = (
        np.array([1, 1, 1, 1], dtype) if isinstance(dtype, type) else kind([1] * 4, dtype=dtype)
    )
    report = audit(labels, pred_probs=probs, class_names=range(300), noise_proba=[0.9] * 4)
    found = reviewed(report, tmp_path / "a.csv", {1: "299"}).labels
    assert found.tolist() == [1, 299, 1, 1]
    assert str(found.dtype) == expected
    assert reviewed(report, tmp_path / "a.csv", {1: "1"}).labels.dtype == labels.dtype


@pytest.mark.parametrize("labels", [np.array([1, 1]), pd.Series([1, 1], dtype="Int8")])
def test_a_new_label_that_is_no_number_makes_labels_objects(tmp_path, labels):
    probs = [[0.1, 0.9], [0.9, 0.1]]
    report = audit(labels, pred_probs=probs, noise_proba=[0.9, 0.1], class_names=[1, "one"])
    assert reviewed(report, tmp_path / "a.csv", {0: "one"}).labels.tolist() == ["one", 1]


def test_a_table_is_no_file(report):
    message = (
        "The 'path' parameter of AuditReport.apply_review must be the path of a review, or "
        "several. Got a DataFrame instead: save it first, as to_csv(path, index=False) of pandas "
        "does."
    )
    with pytest.raises(InvalidDataError) as caught:
        report.apply_review(pd.DataFrame({"index": [0], "review": ["cat"]}))
    assert str(caught.value) == message
