"""Equal inputs with different labels."""

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import TensorDataset

from lossnoise import audit
from lossnoise.audit._conflicts import content_of
from lossnoise.exceptions import InvalidDataError

LABELS = ["a", "b", "a", "c", "a"]
TEXTS = ["x", "y", "x", "x", "y"]  # x: a, a, c; y: b, a
EXPECTED = [[0, 2, 3], [1, 4]]
NUMBERS = np.array([[1.0, 2.0], [0.0, 5.0], [1.0, 2.0], [1.0, 2.0], [0.0, 5.0]])
PICTURES = np.repeat(NUMBERS[:, :, None], 2, axis=2)


@pytest.fixture
def report():
    return audit(LABELS, noise_proba=[0.1] * 5)


@pytest.mark.parametrize(
    "inputs",
    [
        TEXTS,
        np.array(TEXTS),
        pd.Series(TEXTS, index=[9] * 5),
        pl.Series(TEXTS),
        pa.array(TEXTS),
        list(zip(TEXTS, LABELS, strict=True)),
        [{"text": text, "label": label} for text, label in zip(TEXTS, LABELS, strict=True)],
        NUMBERS,
        torch.tensor(NUMBERS),
        NUMBERS.tolist(),
        PICTURES,
        list(PICTURES),
        [Image.fromarray(picture.astype(np.uint8)) for picture in PICTURES],
        TensorDataset(torch.tensor(PICTURES), torch.arange(5)),
        pd.DataFrame({"t": TEXTS, "n": NUMBERS[:, 0]}),
        pd.DataFrame({"t": [[text] for text in TEXTS]}),
        pl.DataFrame({"t": TEXTS, "n": NUMBERS[:, 0]}),
        {"t": TEXTS, "n": NUMBERS[:, 0]},
        pd.DataFrame({"t": TEXTS, "label": LABELS}),
        pl.DataFrame({"t": TEXTS, "labels": LABELS}),
        pa.table({"t": TEXTS, "target": LABELS}),
        {"t": TEXTS, "label": LABELS},
    ],
    ids=lambda inputs: type(inputs).__name__,
)
def test_conflicts_of_all_kinds_of_inputs(report, inputs):
    assert report.find_conflicts(inputs) == EXPECTED


def test_the_column_that_the_labels_come_from_is_no_input(tmp_path):
    data = pd.DataFrame({"t": TEXTS, "species": LABELS}, index=list("vwxyz"))
    report = audit(data["species"], noise_proba=[0.1] * 5)
    assert report.find_conflicts(data) == EXPECTED
    report.to_html(tmp_path / "a.html", inputs=data)
    assert "species</dt>" not in (tmp_path / "a.html").read_text("utf-8")


def test_files_are_equal_by_what_is_in_them(report, tmp_path):
    paths = [tmp_path / f"{i}.png" for i in range(5)]
    for path, text in zip(paths, TEXTS, strict=True):
        path.write_text(text)
    assert report.find_conflicts(paths) == EXPECTED
    assert report.find_conflicts(list(map(str, paths))) == EXPECTED
    paths[3].unlink()
    assert report.find_conflicts(paths) == [[1, 4]]


def test_equal_inputs_with_one_label_are_no_conflict():
    report = audit(["a", "b", "a", "b"], noise_proba=[0.1] * 4)
    assert report.find_conflicts(["x", "y", "x", "z"]) == []


@pytest.mark.parametrize("kind", ["pandas", "polars", "arrow", "batch", "dict"])
@pytest.mark.parametrize("name", ["label", "target", "stance"])
def test_a_column_of_the_labels_is_no_part_of_the_input(kind, name):
    """And one of such a name with other entries is: of what the opinion is, for instance."""
    labels = pd.Series(["for", "against", "for", "against"], name="stance")
    other = ["taxes", "cars", "taxes", "taxes"]
    make = {
        "pandas": pd.DataFrame,
        "polars": pl.DataFrame,
        "arrow": pa.table,
        "batch": pa.RecordBatch.from_pydict,
        "dict": dict,
    }[kind]
    report = audit(labels, noise_proba=[0.1] * 4)
    texts = ["x", "x", "y", "y"]
    same = make({"text": texts, name: labels.tolist()})
    assert report.find_conflicts(same) == [[0, 1], [2, 3]]
    assert report.find_conflicts(make({"text": texts, name: other})) == [[2, 3]]


def test_rows_left_out_of_the_audit_do_not_count():
    report = audit([0.0, np.nan, 1.0, 0.0], noise_proba=[0.1] * 4, on_nan="drop")
    assert report.find_conflicts(["x", "x", "y", "y"]) == [[2, 3]]


values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=3) | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=3),
)


@given(values, values)
def test_content_is_equal_where_values_are(one, other):
    assert (content_of(one) == content_of(other)) == (repr(one) == repr(other))


def test_arrays_of_another_shape_or_dtype_differ():
    flat = np.zeros(4)
    others = [flat.reshape(2, 2), flat.astype("float32"), flat + 1.0, flat.tobytes()]
    assert len({content_of(value) for value in [flat, *others]}) == 5


def test_another_length_is_refused(report):
    with pytest.raises(InvalidDataError) as caught:
        report.find_conflicts(["a"])
    assert str(caught.value) == (
        "The 'inputs' parameter of AuditReport.find_conflicts must be of length 5, one entry per "
        "label. Got length 1 instead."
    )
