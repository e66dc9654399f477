"""What is shown of inputs: every kind of picture, text and table row, and clear errors."""

import base64
import io
import pathlib
import subprocess
import sys

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset

from lossnoise.audit._cards import MAX_FIELDS, MAX_TEXT, open_inputs, show_inputs
from lossnoise.exceptions import InvalidDataError

RED = np.zeros((8, 6, 3), np.uint8)
RED[:, :3, 0] = 255  # the left half; the right one is black


class Pairs(Dataset):
    """A dataset that is not in memory."""

    def __init__(self, entries):
        self.entries = entries

    def __len__(self):
        return len(self.entries)

    def __getitem__(self, index):
        return self.entries[index]


def show(inputs, n=2):
    return show_inputs("f", open_inputs("f", inputs, range(n)), range(n))


def pixels_of(picture):
    kind, _, content = picture.uri.partition(";base64,")
    assert kind in ("data:image/png", "data:image/jpeg")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(content))))


@pytest.fixture
def files(tmp_path):
    paths = [tmp_path / "a.png", tmp_path / "b.PNG"]
    for path in paths:
        Image.fromarray(RED).save(path, "png")
    return paths


# -- pictures ---------------------------------------------------------------------------------

FLOATS = RED.astype("float32") / 255.0
NORMALISED = (FLOATS - [0.49, 0.48, 0.45]) / [0.25, 0.24, 0.26]
LAST = np.stack([RED, RED])
FIRST = LAST.transpose(0, 3, 1, 2)


@pytest.mark.parametrize(
    "inputs",
    [
        LAST,
        FIRST,
        [RED, RED],
        (RED, RED),
        LAST.astype("float32") / 255.0,
        LAST.astype("float64"),
        LAST.astype("int64"),
        LAST > 0,
        torch.tensor(FIRST),
        torch.tensor(FIRST) / 255.0,
        torch.tensor(FIRST).to(torch.bfloat16) / 255.0,
        [Image.fromarray(RED)] * 2,
        [Image.fromarray(RED).convert("P")] * 2,
        [RED.tolist()] * 2,
        [{"image": RED, "label": 3}] * 2,
        {"image": LAST},
        TensorDataset(torch.tensor(FIRST), torch.arange(2)),
        TensorDataset(torch.tensor(FIRST)),
        DataLoader(TensorDataset(torch.tensor(FIRST), torch.arange(2)), batch_size=2),
        Subset(Pairs([(RED, 0)] * 3), [2, 0]),
        Pairs([(Image.fromarray(RED), 1, 7)] * 2),
        Pairs([{"img": Image.fromarray(RED), "label": 0}] * 2),
    ],
    ids=lambda inputs: type(inputs).__name__,
)
def test_pictures_of_all_kinds_look_alike(inputs):
    for shown in show(inputs):
        assert np.array_equal(pixels_of(shown.picture), RED)
        assert (shown.picture.width, shown.picture.height) == (6, 8)
        assert (shown.text, shown.fields, shown.problem) == ("", (), "")


@pytest.mark.parametrize("wrap", [np.asarray, torch.tensor])
def test_normalised_pictures_get_their_colours_back(wrap):
    other = (1.0 - FLOATS - [0.49, 0.48, 0.45]) / [0.25, 0.24, 0.26]
    first, second = show([wrap(a.transpose(2, 0, 1)) for a in (NORMALISED, other)])
    assert np.array_equal(pixels_of(first.picture), RED)
    assert np.array_equal(pixels_of(second.picture), 255 - RED)


@pytest.mark.parametrize("shape", [(8, 6), (8, 6, 1), (1, 8, 6)])
def test_gray_pictures_of_any_range(shape):
    gray = (RED[:, :, 0] / 255.0 * 16.0).reshape(shape)
    assert np.array_equal(pixels_of(show([gray, gray])[0].picture), RED[:, :, 0])


def test_pixels_that_are_not_finite_change_no_other_picture():
    good = np.linspace(-2.0, 2.0, 16).reshape(4, 4)
    empty, spike = np.full((4, 4), np.nan), good.copy()
    spike[0, 0] = np.inf
    alone = show([good, good])[0].picture
    assert [one.picture for one in show([good, empty])] == [alone, show([empty, empty])[0].picture]
    assert show([good, spike])[0].picture == alone


def test_nan_is_black_and_constant_pictures_are_no_error():
    holes = np.where(RED[:, :, 0] > 0, 1.0, np.nan)
    assert np.array_equal(pixels_of(show([holes, holes])[0].picture), RED[:, :, 0])
    assert show(np.full((2, 4, 4), -3.0))[0].picture is not None


def test_channels_of_two_kinds_share_a_range():
    shown = show([np.full((4, 4), 40.0), np.dstack([np.full((4, 4), v) for v in (0.0, 40, 80)])])
    assert pixels_of(shown[0].picture).max() == 128
    assert pixels_of(shown[1].picture)[0, 0].tolist() == [0, 128, 255]


def test_tensors_have_their_channels_first_where_both_ends_could_be():
    array = np.arange(3 * 5 * 3, dtype=np.uint8).reshape(3, 5, 3)
    assert np.array_equal(pixels_of(show([array] * 2)[0].picture), array)
    tensor = torch.tensor(array.copy())
    assert np.array_equal(pixels_of(show([tensor] * 2)[0].picture), array.transpose(1, 2, 0))


def test_paths_of_pictures_are_opened(files):
    for paths in (files, list(map(str, files)), pd.Series(map(str, files)), np.array(files, str)):
        assert np.array_equal(pixels_of(show(paths)[1].picture), RED)
    assert np.array_equal(pixels_of(show(Pairs([(files[0], 1)] * 2))[0].picture), RED)
    content = files[0].read_bytes()
    assert np.array_equal(pixels_of(show([content, content])[0].picture), RED)


def test_large_pictures_are_scaled_down_and_upright(tmp_path):
    picture = Image.linear_gradient("L").resize((800, 400)).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    picture.save(tmp_path / "a.jpg", exif=exif)
    (shown,) = show([tmp_path / "a.jpg"], 1)
    assert (shown.picture.width, shown.picture.height) == (88, 176)
    assert len(shown.picture.uri) < 6_000
    (shown,) = show([np.zeros((3, 500, 500), np.float32)], 1)
    assert (shown.picture.width, shown.picture.height) == (176, 176)


def test_transparent_and_deep_pictures(tmp_path):
    clear = Image.new("RGBA", (300, 300), (255, 0, 0, 0))
    assert pixels_of(show([clear], 1)[0].picture).min() == 255
    assert pixels_of(show([clear.resize((8, 8))], 1)[0].picture)[0, 0, 3] == 0
    deep = Image.fromarray(np.array([[0, 40_000], [20_000, 0]], np.uint16))
    assert pixels_of(show([deep], 1)[0].picture).tolist() == [[0, 255], [128, 0]]


def test_arrays_that_are_no_pictures_are_described():
    shown = show(np.zeros((2, 13, 64, 64), np.float32))
    assert shown[0].picture is None
    assert shown[0].text == "array of shape (13, 64, 64), float32"


def test_one_broken_picture_says_so_and_all_of_them_are_an_error(files, tmp_path):
    broken = tmp_path / "c.png"
    broken.write_bytes(files[0].read_bytes()[:40])
    fine, cut, missing = show([files[0], broken, tmp_path / "d.png"], 3)
    assert fine.picture is not None
    assert cut.picture is missing.picture is None
    assert "cannot be opened: " in cut.problem
    assert missing.problem == "cannot be opened: No such file or directory"
    assert missing.text == str(tmp_path / "d.png")
    with pytest.raises(InvalidDataError) as caught:
        show(["nowhere/x.png", "nowhere/y.png"])
    assert str(caught.value) == (
        "The 'inputs' parameter of f must be pictures of which at least one can be opened. Got "
        "'nowhere/x.png' in row 0 (cannot be opened: No such file or directory) instead."
    )


def test_text_that_names_a_file_among_other_texts_is_not_opened(files):
    shown = show([str(files[0]), "just a text"])
    assert shown[0].picture is None
    assert shown[0].text == str(files[0])


# -- texts and rows ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "inputs",
    [
        ["one", "two"],
        np.array(["one", "two"]),
        np.array(["one", "two"], dtype=object),
        pd.Series(["one", "two"], index=[5, 5]),
        pl.Series(["one", "two"]),
        pa.array(["one", "two"]),
        [("one", 0), ("two", 1)],
        [["o", "n", "e"], ["two"]],
        [{"text": "one", "label": 0}, {"text": "two", "label": 1}],
        Pairs([("one", 0), ("two", 1)]),
        {"text": ["one", "two"]},
        pd.DataFrame({"text": ["one", "two"]}),
    ],
    ids=lambda inputs: type(inputs).__name__,
)
def test_texts(inputs):
    shown = show(inputs)
    assert [one.text.replace(" ", "") for one in shown] == ["one", "two"]
    assert [one.fields for one in shown] == [(), ()]


COLUMNS = {"age": [31, 4], "name": ["Ann", None], "height": [1.75, float("nan")]}
FIELDS = [
    (("age", "31"), ("name", "Ann"), ("height", "1.75")),
    (("age", "4"), ("name", "NA"), ("height", "NA")),
]


@pytest.mark.parametrize(
    "inputs",
    [
        pd.DataFrame(COLUMNS, index=["x", "x"]),
        pl.DataFrame(COLUMNS),
        pa.table(COLUMNS),
        COLUMNS,
        [dict(zip(COLUMNS, row, strict=True)) for row in zip(*COLUMNS.values(), strict=True)],
    ],
    ids=lambda inputs: type(inputs).__name__,
)
def test_rows_of_tables(inputs):
    assert [one.fields for one in show(inputs)] == FIELDS


def test_rows_of_numbers_have_the_numbers_of_their_columns():
    for inputs in (np.eye(2), torch.eye(2), [[1.0, 0.0], [0.0, 1.0]], [(1, 0), (0, 1)]):
        assert show(inputs)[0].fields == (("0", "1"), ("1", "0"))
    assert [one.text for one in show(np.array([0.123456789, 2.0]))] == ["0.123457", "2"]


def test_wide_rows_and_long_texts_are_cut():
    (shown,) = show(np.zeros((1, 1000)), 1)
    assert len(shown.fields) == MAX_FIELDS + 1
    assert shown.fields[-1] == ("…", "and 976 more")
    (shown,) = show(["x" * 10_000], 1)
    assert shown.text == "x" * (MAX_TEXT - 1) + "…"


def test_a_row_may_hold_a_picture_and_a_text_and_other_cells():
    row = {"photo": RED, "stars": 4, "comment": "fine " * 40, "target": 1}
    (shown,) = show([row], 1)
    assert np.array_equal(pixels_of(shown.picture), RED)
    assert shown.text == "fine " * 40
    assert shown.fields == (("stars", "4"),)


def test_other_objects_are_shown_as_text():
    assert [one.text for one in show([pathlib, None])] == [str(pathlib), "NA"]
    assert show([{"a": {"b": 1}, "c": 2}], 1)[0].fields == (("a", "{'b': 1}"), ("c", "2"))


# -- errors, in full --------------------------------------------------------------------------


@pytest.mark.parametrize("inputs", [3, "text", iter([1, 2]), {"a": [1, 2], "b": [1]}])
def test_what_cannot_be_read_by_position_is_refused(inputs):
    with pytest.raises(InvalidDataError) as caught:
        show(inputs)
    assert str(caught.value) == (
        "The 'inputs' parameter of f must be a dataset, an array, a table, or a sequence of paths, "
        f"pictures or texts. Got a {type(inputs).__name__} instead."
    )


def test_another_length_is_refused():
    with pytest.raises(InvalidDataError) as caught:
        show(["a", "b", "c"])
    assert str(caught.value) == (
        "The 'inputs' parameter of f must be of length 2, one entry per label. "
        "Got length 3 instead."
    )


def test_arrays_need_no_torch(tmp_path):
    code = (
        "import sys, numpy as np\n"
        "from lossnoise import audit\n"
        "report = audit([0, 1], noise_proba=[0.9, 0.1])\n"
        "report.to_html(sys.argv[1], np.zeros((2, 4, 4)))\n"
        "print('torch' in sys.modules)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "report.html")]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.stdout.strip() == "False", result.stderr


@pytest.mark.parametrize("others", [{}, {"id": [1, 2], "note": ["x", "y"]}])
def test_pictures_of_hugging_face_are_shown_in_rows_of_a_table(files, others):
    stored = {"bytes": files[0].read_bytes(), "path": "a.png"}
    for shown in show({"image": [stored, stored], **others}):
        assert np.array_equal(pixels_of(shown.picture), RED)
        assert len(shown.fields) == max(len(others), 1)


def test_bytes_beside_other_cells_need_not_be_pictures():
    (shown, _) = show(pd.DataFrame({"raw": [b"\xff", b"\xff"], "id": [1, 2]}))
    assert shown.picture is None
    assert dict(shown.fields)["id"] == "1"
