"""Injected noise: exact counts, the right distribution, labels of every type, clear errors."""

import enum
import random
import re

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from lossnoise.exceptions import InvalidDataError, InvalidParameterError
from lossnoise.noise import inject_noise
from lossnoise.noise._inject import redraw_mapped, redraw_matrix, redraw_pair, redraw_symmetric

NAN = float("nan")


class Animal(enum.Enum):
    CAT = "c"
    DOG = "d"


def exactly(text):
    return f"^{re.escape(text)}$"


# -- the kinds; "instance" is in test_instance.py ----------------------------------------------


def test_excluding_symmetric_noise_changes_exactly_the_share():
    labels = np.arange(1000) % 10
    noisy, changed = inject_noise(labels, 0.3, include_true=False, random_state=0)
    assert changed.sum() == 300
    assert np.array_equal(noisy != labels, changed)
    assert changed.dtype == bool
    assert set(noisy.tolist()) <= set(range(10))


@pytest.mark.parametrize("include_true", [True, False])
def test_symmetric_noise_is_uniform(include_true):
    labels = np.zeros(30_000, dtype=int)
    noisy, _ = inject_noise(labels, 1.0, include_true=include_true, num_classes=5, random_state=1)
    counts = np.bincount(noisy, minlength=5)
    if not include_true:
        assert counts[0] == 0
        counts = counts[1:]
    assert stats.chisquare(counts).pvalue > 0.01


def test_symmetric_noise_picks_rows_uniformly():
    _, changed = inject_noise(np.arange(20_000) % 2, 0.5, include_true=False, random_state=2)
    assert stats.chisquare(changed.reshape(20, 1000).sum(axis=1)).pvalue > 0.01


def test_including_symmetric_noise_leaves_one_in_c_right():
    labels = np.arange(50_000) % 10
    _, changed = inject_noise(labels, 0.8, random_state=0)
    assert changed.mean() == pytest.approx(0.8 * 0.9, abs=0.01)


def test_asymmetric_noise_moves_the_share_of_each_source():
    labels = ["cat"] * 10 + ["dog"] * 20 + ["horse"] * 30
    noisy, changed = inject_noise(
        labels, 0.4, "asymmetric", mapping={"cat": "dog", "dog": "cat"}, random_state=0
    )
    assert (noisy[:10] == "dog").sum() == changed[:10].sum() == 4
    assert (noisy[10:30] == "cat").sum() == changed[10:30].sum() == 8
    assert not changed[30:].any()
    assert (noisy[30:] == "horse").all()


def test_pair_noise_moves_to_the_next_class_in_sorted_order():
    labels = np.array([30, 10, 20] * 10)
    noisy, changed = inject_noise(labels, 1.0, "pair")
    assert noisy.tolist() == [10, 20, 30] * 10
    assert changed.all()
    _, changed = inject_noise(labels, 0.5, "pair", random_state=0)
    assert changed.sum() == 15


def test_pair_noise_with_num_classes_steps_through_absent_classes():
    noisy, _ = inject_noise([0, 2, 3], 1.0, "pair", num_classes=5)
    assert noisy.tolist() == [1, 3, 4]


def test_matrix_noise_follows_the_rows():
    matrix = [[0.7, 0.2, 0.1], [0.0, 1.0, 0.0], [0.3, 0.3, 0.4]]
    labels = np.repeat([0, 1, 2], 10_000)
    noisy, changed = inject_noise(labels, 1.0, "matrix", matrix=matrix, random_state=0)
    for source in (0, 2):
        counts = np.bincount(noisy[labels == source], minlength=3)
        assert stats.chisquare(counts, 10_000 * np.array(matrix[source])).pvalue > 0.01
    assert not changed[labels == 1].any()


def test_matrix_noise_redraws_the_share_of_each_class():
    swap = [[0.0, 1.0], [1.0, 0.0]]
    labels = np.array(["a"] * 10 + ["b"] * 30)
    _, changed = inject_noise(labels, 0.3, "matrix", matrix=swap, random_state=0)
    assert changed[:10].sum() == 3
    assert changed[10:].sum() == 9


def test_matrix_rows_belong_to_integers_where_classes_are_absent():
    noisy, _ = inject_noise([0, 2, 2], 1.0, "matrix", matrix=np.eye(4)[[1, 2, 3, 0]])
    assert noisy.tolist() == [1, 3, 3]


def test_golden_rows_of_the_pure_functions():
    codes = np.array([0, 1, 2, 0, 1, 2])
    rng = np.random.default_rng(0)
    assert redraw_pair(codes, 3, 1.0, rng).tolist() == [1, 2, 0, 1, 2, 0]
    assert redraw_mapped(codes, np.array([2, -1, 1]), 1.0, rng).tolist() == [2, 1, 1, 2, 1, 1]
    assert redraw_matrix(codes, np.eye(3)[::-1], 1.0, rng).tolist() == [2, 1, 0, 2, 1, 0]
    two = redraw_symmetric(codes % 2, 2, 1.0, rng, include_true=False)
    assert two.tolist() == [1, 0, 1, 1, 0, 1]
    assert codes.tolist() == [0, 1, 2, 0, 1, 2]


# -- what always holds ------------------------------------------------------------------------

any_label = st.one_of(
    st.integers(-5, 5),
    st.booleans(),
    st.none(),
    st.text(max_size=3).filter(lambda text: not text.endswith("\0")),  # NumPy drops these
    st.tuples(st.integers(0, 2), st.text(max_size=1)),
    st.sampled_from(Animal),
)
rates = st.floats(0.0, 1.0)
seeds = st.integers(0, 2**32)


@given(st.lists(any_label, min_size=1, max_size=40), rates, seeds)
def test_changed_marks_the_rows_that_differ(labels, rate, seed):
    before = list(labels)
    noisy, changed = inject_noise(labels, rate, random_state=seed)
    assert labels == before
    assert noisy.shape == changed.shape == (len(labels),)
    assert [bool(a != b) for a, b in zip(labels, noisy, strict=True)] == changed.tolist()
    assert changed.sum() <= round(rate * len(labels))
    assert set(noisy) <= set(labels)


@given(st.lists(any_label, min_size=2, max_size=40), rates, seeds, st.sampled_from(["x", "p"]))
def test_noise_without_the_true_class_is_exact(labels, rate, seed, kind):
    if len(set(labels)) < 2:
        return
    options = {"include_true": False} if kind == "x" else {"kind": "pair"}
    _, changed = inject_noise(labels, rate, random_state=seed, **options)
    assert changed.sum() == round(rate * len(labels))


@given(st.lists(st.integers(0, 5), min_size=1, max_size=60), rates, seeds)
def test_mapped_noise_is_exact_for_each_class(labels, rate, seed):
    labels = np.array(labels)
    source = int(labels[0])
    _, changed = inject_noise(labels, rate, "asymmetric", mapping={source: 6}, random_state=seed)
    assert changed[labels == source].sum() == round(rate * (labels == source).sum())
    assert not changed[labels != source].any()


@given(st.lists(any_label, min_size=1, max_size=20), seeds)
def test_a_seed_gives_the_same_noise(labels, seed):
    first, _ = inject_noise(labels, 0.5, random_state=seed)
    second, _ = inject_noise(labels, 0.5, random_state=seed)
    assert first.tolist() == second.tolist()


# -- labels of every type ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "dtype", ["int8", "uint8", "int64", "float32", "U3", "S2", "bool", "object", "datetime64[D]"]
)
def test_dtype_is_kept(dtype):
    labels = np.array([0, 1] * 20).astype(dtype)
    before = labels.copy()
    noisy, changed = inject_noise(labels, 0.5, include_true=False, random_state=0)
    assert noisy.dtype == labels.dtype
    assert changed.sum() == 20
    assert np.array_equal(labels, before)
    assert not np.shares_memory(noisy, labels)


def test_no_noise_is_a_copy():
    labels = np.array([0, 1])
    noisy, changed = inject_noise(labels, 0)
    assert noisy.tolist() == [0, 1]
    assert not changed.any()
    assert not np.shares_memory(noisy, labels)


@pytest.mark.parametrize(
    ("labels", "mapping", "expected", "dtype"),
    [
        (np.array(["a", "b"]), {"a": "much longer"}, ["much longer", "b"], "U11"),
        (np.array([b"a", b"b"]), {b"a": b"longer"}, [b"longer", b"b"], "S6"),
        (np.array([0, 1], "uint8"), {0: 2}, [2, 1], "uint8"),
        (np.array([0, 1], "int8"), {0: 300}, [300, 1], "int64"),
        (np.array([0, 1], "uint64"), {0: -1}, [-1, 1], "object"),
        (np.array([0.0, 1.0]), {0: 2}, [2.0, 1.0], "float64"),
        (np.array([0, 1]), {0: 0.5}, [0.5, 1], "object"),
        (np.array([0, 1]), {0: "zero"}, ["zero", 1], "object"),
        (np.array([True, False]), {True: 2}, [2, False], "object"),
        (["a", "b"], {"a": None}, [None, "b"], "object"),
        ([(0, 1), (2,)], {(2,): (3, 4)}, [(0, 1), (3, 4)], "object"),
        ([Animal.CAT, Animal.DOG], {Animal.CAT: Animal.DOG}, [Animal.DOG] * 2, "object"),
        (np.array([2, 1]), {2: 1, 7: 8}, [1, 1], "int64"),
        (np.array([1, 2], "M8[ns]"), dict([np.array([1, 3], "M8[ns]")]), [3, 2], "M8[ns]"),
    ],
)
def test_a_new_label_is_never_cut_or_converted(labels, mapping, expected, dtype):
    noisy, _ = inject_noise(labels, 1.0, "asymmetric", mapping=mapping)
    assert noisy.tolist() == expected
    assert noisy.dtype == dtype


@pytest.mark.parametrize(
    ("dtype", "num_classes", "widened"), [("int8", 100, "int8"), ("int8", 1000, "int32")]
)
def test_num_classes_widens_where_it_must(dtype, num_classes, widened):
    labels = np.zeros(2000, dtype)
    noisy, _ = inject_noise(labels, 1.0, num_classes=num_classes, random_state=0)
    assert noisy.dtype == widened
    assert noisy.max() > 0.9 * num_classes
    assert noisy.min() >= 0


@pytest.mark.parametrize(
    "labels",
    [
        [0, 1, 1],
        (0, 1, 1),
        range(3),
        np.array([0, 1, 1], dtype=object),
        pd.Series([0, 1, 1], index=[7, 8, 9]),
        pd.Series([0, 1, 1], dtype="Int64"),
        pd.Series([0, 1, 1], dtype="category"),
        torch.tensor([0, 1, 1]),
        [torch.tensor(0), torch.tensor(1), torch.tensor(1)],
        [np.int64(0), np.int64(1), np.int64(1)],
    ],
    ids=lambda labels: type(labels).__name__,
)
def test_integers_from_everywhere(labels):
    noisy, changed = inject_noise(labels, 1.0, include_true=False, num_classes=3, random_state=0)
    assert isinstance(noisy, np.ndarray)
    assert changed.all()
    assert set(noisy.tolist()) <= {0, 1, 2}


def test_polars_series():
    polars = pytest.importorskip("polars")
    for dtype in (None, polars.Categorical):
        noisy, _ = inject_noise(polars.Series(["a", "b"], dtype=dtype), 1.0, "pair")
        assert noisy.tolist() == ["b", "a"]


def test_a_list_of_mixed_types_stays_as_it_is():
    labels = [1, "a", None, (1, 2), 2.5, True]
    noisy, _ = inject_noise(labels, 0.0)
    assert noisy.tolist() == labels
    assert noisy.dtype == object


def test_labels_that_cannot_be_compared_pair_in_order_of_appearance():
    noisy, _ = inject_noise([None, "b", 3], 1.0, "pair")
    assert noisy.tolist() == ["b", 3, None]


# -- randomness -------------------------------------------------------------------------------


@pytest.mark.parametrize("random_state", [None, 0])
def test_global_state_is_never_touched(random_state):
    np.random.seed(3)  # noqa: NPY002  # the legacy state is what must stay as it is
    before = np.random.get_state()[1].tolist(), random.getstate(), torch.get_rng_state().tolist()  # noqa: NPY002
    inject_noise([0, 1, 2], 1.0, random_state=random_state)
    after = np.random.get_state()[1].tolist(), random.getstate(), torch.get_rng_state().tolist()  # noqa: NPY002
    assert before == after


@pytest.mark.parametrize("make", [np.random.default_rng, np.random.RandomState])
def test_a_generator_is_advanced(make):
    labels = np.arange(200) % 10
    one, other = make(5), make(5)
    first, _ = inject_noise(labels, 0.5, random_state=one)
    again, _ = inject_noise(labels, 0.5, random_state=one)
    same, _ = inject_noise(labels, 0.5, random_state=other)
    assert np.array_equal(first, same)
    assert not np.array_equal(first, again)


def test_none_draws_afresh():
    labels = np.arange(1000) % 10
    assert not np.array_equal(inject_noise(labels, 0.5)[0], inject_noise(labels, 0.5)[0])


# -- errors, in full --------------------------------------------------------------------------

PARAMETER = "The '{}' parameter of inject_noise must be {}. Got {} instead."
RATE = "a float in the range [0.0, 1.0]"
KINDS = "one of 'asymmetric', 'instance', 'matrix', 'pair', 'symmetric'"
SEED = "None, an int, a numpy.random.Generator or a numpy.random.RandomState"
MAPPING = "a dict {source: target} of labels"
TO_ITSELF = "a dict {source: target} without labels that map to themselves"
NO_SOURCE = "a dict {source: target} with at least one source among the labels"
ONLY_INTS = "None unless all labels are integers of at least 0"


@pytest.mark.parametrize(
    ("options", "name", "expected", "got"),
    [
        ({"rate": 1.5}, "rate", RATE, "1.5"),
        ({"rate": -0.1}, "rate", RATE, "-0.1"),
        ({"rate": NAN}, "rate", RATE, "nan"),
        ({"rate": True}, "rate", RATE, "True"),
        ({"rate": "0.5"}, "rate", RATE, "'0.5'"),
        ({"kind": "flip"}, "kind", KINDS, "'flip'"),
        ({"include_true": 1}, "include_true", "a bool", "1"),
        ({"num_classes": 1}, "num_classes", "an int in the range [2, inf)", "1"),
        ({"num_classes": True}, "num_classes", "an int in the range [2, inf)", "True"),
        ({"num_classes": 2}, "num_classes", "greater than the largest label, 2", "2"),
        ({"labels": ["a", "b"], "num_classes": 3}, "num_classes", ONLY_INTS, "3"),
        ({"labels": [True, False], "num_classes": 3}, "num_classes", ONLY_INTS, "3"),
        ({"labels": [-1, 0], "num_classes": 3}, "num_classes", ONLY_INTS, "3"),
        ({"labels": [0.0, 1.0], "num_classes": 3}, "num_classes", ONLY_INTS, "3"),
        ({"random_state": -1}, "random_state", "an int in the range [0, inf)", "-1"),
        ({"random_state": True}, "random_state", SEED, "True"),
        ({"random_state": "0"}, "random_state", SEED, "'0'"),
        ({"kind": "asymmetric"}, "mapping", "given for kind='asymmetric'", "None"),
        ({"kind": "matrix"}, "matrix", "given for kind='matrix'", "None"),
        (
            {"kind": "pair", "mapping": {0: 1}},
            "mapping",
            "None for kind='pair'; it belongs to kind='asymmetric'",
            "{0: 1}",
        ),
        (
            {"matrix": np.eye(3)},
            "matrix",
            "None for kind='symmetric'; it belongs to kind='matrix'",
            "<class 'numpy.ndarray'>",
        ),
        *(
            (
                {"kind": kind, "include_true": False},
                "include_true",
                f"True for kind='{kind}'; False belongs to kind='symmetric'",
                "False",
            )
            for kind in ("pair", "asymmetric", "matrix", "instance")
        ),
        ({"kind": "asymmetric", "mapping": [1]}, "mapping", MAPPING, "[1]"),
        ({"kind": "asymmetric", "mapping": {0: [1]}}, "mapping", MAPPING, "{0: [1]}"),
        ({"kind": "asymmetric", "mapping": {0: NAN}}, "mapping", MAPPING, "{0: nan}"),
        ({"kind": "asymmetric", "mapping": {0: 1, 2: 2}}, "mapping", TO_ITSELF, "{0: 1, 2: 2}"),
        ({"kind": "asymmetric", "mapping": {"0": "1"}}, "mapping", NO_SOURCE, "{'0': '1'}"),
        ({"kind": "asymmetric", "mapping": {}}, "mapping", NO_SOURCE, "{}"),
        (
            {"kind": "asymmetric", "mapping": {0: 9}, "num_classes": 5},
            "mapping",
            "a dict {source: target} with targets below num_classes=5",
            "{0: 9}",
        ),
    ],
)
def test_a_wrong_parameter_is_named(options, name, expected, got):
    arguments = {"labels": [0, 1, 2], "rate": 0.5, **options}
    with pytest.raises(InvalidParameterError, match=exactly(PARAMETER.format(name, expected, got))):
        inject_noise(**arguments)


FILLED = "a non-empty 1-D array or list of labels"
NO_NAN = "free of missing values (None in a list is a label)"
SQUARE = "a square matrix with one row for each of the 3 classes"


@pytest.mark.parametrize(
    ("options", "name", "expected", "got"),
    [
        ({"labels": []}, "labels", FILLED, "an array of shape (0,)"),
        ({"labels": np.zeros((2, 3))}, "labels", FILLED, "an array of shape (2, 3)"),
        ({"labels": "cat"}, "labels", FILLED, "an array of shape ()"),
        ({"labels": [0, {}]}, "labels", "hashable, one per row", "a dict in row 1"),
        (
            {"labels": np.ma.masked_array([0, 1, 99], mask=[False, False, True])},
            "labels",
            NO_NAN,
            "nan in 1 of 3 rows, first in row 2,",
        ),
        (
            {"kind": "matrix", "matrix": np.full((10, 10), 0.1), "num_classes": 5},
            "matrix",
            "a square matrix with one row for each of the 5 classes",
            "an array of shape (10, 10)",
        ),
        ({"labels": [0.0, NAN, NAN]}, "labels", NO_NAN, "nan in 2 of 3 rows, first in row 1,"),
        ({"labels": ["a", NAN]}, "labels", NO_NAN, "nan in 1 of 2 rows, first in row 1,"),
        ({"labels": ["a", pd.NA]}, "labels", NO_NAN, "<NA> in 1 of 2 rows, first in row 1,"),
        ({"labels": [pd.NaT, 0]}, "labels", NO_NAN, "NaT in 1 of 2 rows, first in row 0,"),
        (
            {"labels": np.array(["NaT", "2020-01-01"], "datetime64[D]")},
            "labels",
            NO_NAN,
            "NaT in 1 of 2 rows, first in row 0,",
        ),
        (
            {"labels": ["a", "a"], "include_true": False},
            "labels",
            "of at least two classes for include_true=False",
            "only the class 'a'",
        ),
        (
            {"labels": [None], "kind": "pair"},
            "labels",
            "of at least two classes for kind='pair'",
            "only the class None",
        ),
        (
            {"kind": "matrix", "matrix": [0.5, 0.5]},
            "matrix",
            "a 2-D array of probabilities",
            "an array of shape (2,) and dtype float64",
        ),
        (
            {"kind": "matrix", "matrix": [["a"]]},
            "matrix",
            "a 2-D array of probabilities",
            "an array of shape (1, 1) and dtype <U1",
        ),
        ({"kind": "matrix", "matrix": np.eye(2)}, "matrix", SQUARE, "an array of shape (2, 2)"),
        (
            {"kind": "matrix", "matrix": np.full((3, 2), 0.5)},
            "matrix",
            SQUARE,
            "an array of shape (3, 2)",
        ),
        (
            {"kind": "matrix", "matrix": [[1.0, 0.0], [1.2, -0.2]]},
            "matrix",
            "probabilities in [0, 1]",
            "1.2 in row 1",
        ),
        (
            {"kind": "matrix", "matrix": [[1.0, 0.0], [0.5, NAN]]},
            "matrix",
            "probabilities in [0, 1]",
            "nan in row 1",
        ),
        (
            {"kind": "matrix", "matrix": [[1.0, 0.0], [1.0]]},
            "matrix",
            "an array, or rows of one length",
            "a list that is no array, such as rows of several lengths,",
        ),
        (
            {"kind": "matrix", "matrix": [[1.0, 0.0], [0.5, 0.4]]},
            "matrix",
            "probabilities whose rows sum to 1",
            "a sum of 0.9 in row 1 (1 of 2 rows)",
        ),
    ],
)
def test_unusable_data_is_named(options, name, expected, got):
    arguments = {"labels": [0, 1, 2], "rate": 0.5, **options}
    with pytest.raises(InvalidDataError) as caught:
        inject_noise(**arguments)
    assert str(caught.value) == PARAMETER.format(name, expected, got)


def test_matrix_of_floats_in_single_precision_is_scaled():
    matrix = np.full((3, 3), 1 / 3, dtype=np.float32)
    noisy, _ = inject_noise([0, 1, 2], 1.0, "matrix", matrix=matrix, random_state=0)
    assert len(noisy) == 3


def test_a_matrix_with_named_classes_is_not_taken_in_another_order():
    names = ["cat", "dog", "owl"]
    matrix = pd.DataFrame(np.eye(3), columns=names, index=names)
    labels = names * 5
    assert not inject_noise(labels, 1.0, "matrix", matrix=matrix)[1].any()
    assert not inject_noise(labels, 1.0, "matrix", matrix=pl.DataFrame(matrix))[1].any()
    message = (
        "The 'matrix' parameter of inject_noise must be in the {} order ['cat', 'dog', 'owl']. "
        "Got ['owl', 'dog', 'cat'] instead."
    )
    for kind, table in {"row": matrix.iloc[::-1], "column": matrix[names[::-1]]}.items():
        with pytest.raises(InvalidDataError) as error:
            inject_noise(labels, 1.0, "matrix", matrix=table)
        assert str(error.value) == message.format(kind)
