"""Noise that depends on the features: beside a slow version, exact counts, bounded memory."""

import math
import re
import tracemalloc

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from lossnoise.exceptions import InvalidDataError, InvalidParameterError
from lossnoise.noise import _inject, inject_noise
from lossnoise.noise._inject import column_moments, draw_other_class, redraw_instance

NAN = float("nan")
MESSAGE = "The '{}' parameter of inject_noise must be {}. Got {} instead."


def instance_noise(labels, rate, features, random_state=0, **options):
    return inject_noise(
        labels, rate, "instance", features=features, random_state=random_state, **options
    )


# -- beside slow versions ---------------------------------------------------------------------


def slow_logits(features, row, weights):
    """Return the logits of one row, one number after the other."""
    logits = [0.0] * weights.shape[1]
    for column in range(features.shape[1]):
        values = [float(v) for v in features[:, column]]
        mean = math.fsum(values) / len(values)
        deviation = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / len(values))
        standard = (values[row] - mean) / deviation if deviation else 0.0
        for target in range(weights.shape[1]):
            logits[target] += standard * weights[column, target]
    return logits


def slow_noise(codes, features, num_classes, rate, rng):
    """Make the same draws as the library, and everything between them by hand."""
    n = len(codes)
    chosen = set(rng.choice(n, size=round(rate * n), replace=False, shuffle=False).tolist())
    noisy = list(codes)
    for source in sorted(set(codes)):
        weights = rng.standard_normal((features.shape[1], num_classes))
        for row in [i for i in range(n) if codes[i] == source and i in chosen]:
            draws = rng.gumbel(size=num_classes)
            logits = slow_logits(features, row, weights)
            scores = [a + b for a, b in zip(logits, draws, strict=True)]
            others = [target for target in range(num_classes) if target != source]
            noisy[row] = max(others, key=lambda target: scores[target])
    return noisy


@pytest.mark.parametrize("rate", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("held", [1, 7, 1 << 20])
def test_noise_is_that_of_a_slow_version_whatever_the_chunks(rate, held, monkeypatch):
    monkeypatch.setattr(_inject, "_HELD_AT_ONCE", held)
    data = np.random.default_rng(1)
    features, codes = data.normal(5.0, 2.0, (60, 3)), data.integers(4, size=60)
    features[:, 1] = 0.1
    noisy = redraw_instance(codes, features, 5, rate, np.random.default_rng(2))
    slow = slow_noise(codes.tolist(), features, 5, rate, np.random.default_rng(2))
    assert noisy.tolist() == slow


def published_noise(features, weights, source, rate, rng):
    """Return labels of rows of one class by the recipe of the paper, with flip rates of rows."""
    ends = (0.0 - rate) / 0.1, (1.0 - rate) / 0.1
    flips = stats.truncnorm(*ends, loc=rate, scale=0.1).rvs(len(features), random_state=rng)
    labels = []
    for row, flip in enumerate(flips):
        logits = slow_logits(features, row, weights)
        sizes = [0.0 if j == source else math.exp(v) for j, v in enumerate(logits)]
        given = [flip * size / sum(sizes) for size in sizes]
        given[source] = 1.0 - flip
        labels.append(rng.choice(len(given), p=given))
    return np.array(labels)


def test_noise_is_distributed_as_published():
    kinds = np.array([[0.0, 1.0], [1.0, 0.4], [1.4, 0.0]])
    few, many = np.repeat(kinds, 300, axis=0), np.repeat(kinds, 20_000, axis=0)
    labels, rate = np.zeros(len(many), dtype=int), 0.5
    noisy, changed = instance_noise(labels, rate, many, random_state=3, num_classes=4)
    rng = np.random.default_rng(3)  # the projection is what is drawn after the rows
    rng.choice(len(many), size=len(many) // 2, replace=False, shuffle=False)
    published = published_noise(few, rng.standard_normal((2, 4)), 0, rate, rng)
    assert changed.mean() == rate
    for kind in range(3):
        mine = np.bincount(noisy.reshape(3, -1)[kind], minlength=4)
        theirs = np.bincount(published.reshape(3, -1)[kind], minlength=4)
        seen = (mine + theirs) > 0
        assert stats.chi2_contingency([mine[seen], theirs[seen]]).pvalue > 0.01


def test_other_classes_are_drawn_from_the_softmax_without_the_true_one():
    logits = np.array([0.5, 3.0, -1.0, 0.0])
    drawn = draw_other_class(np.tile(logits, (50_000, 1)), 1, np.random.default_rng(0))
    sizes = np.exp(logits[[0, 2, 3]])
    counts = np.bincount(drawn, minlength=4)
    assert counts[1] == 0
    assert stats.chisquare(counts[[0, 2, 3]], 50_000 * sizes / sizes.sum()).pvalue > 0.01


@given(
    hnp.arrays(
        np.float64,
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=20),
        elements=st.floats(-1e6, 1e6, width=32),
    ),
    st.integers(1, 50),
)
def test_moments_are_those_of_numpy(features, held):
    before = _inject._HELD_AT_ONCE
    _inject._HELD_AT_ONCE = held
    try:
        mean, deviation = column_moments(features)
    finally:
        _inject._HELD_AT_ONCE = before
    constant = np.ptp(features, axis=0) == 0.0
    size = np.abs(features).max(axis=0)
    assert (np.abs(mean - features.mean(axis=0)) <= 1e-12 * size).all()
    assert np.array_equal(mean[constant], features[0, constant])
    assert (deviation[constant] == 1.0).all()
    spread = features.std(axis=0)
    told = spread > 1e-7 * size
    assert np.allclose(deviation[told], spread[told], rtol=1e-6)


# -- what always holds ------------------------------------------------------------------------

any_label = st.one_of(
    st.integers(-5, 5), st.booleans(), st.none(), st.text(max_size=3), st.tuples(st.integers(0, 2))
)


@given(
    labels=st.lists(any_label, min_size=2, max_size=40).filter(lambda labels: len(set(labels)) > 1),
    rate=st.floats(0.0, 1.0),
    seed=st.integers(0, 2**32),
    width=st.integers(1, 4),
    data=st.data(),
)
def test_the_share_is_exact_and_the_true_class_never_drawn(labels, rate, seed, width, data):
    elements = st.floats(-1e100, 1e100) | st.integers(-3, 3)
    features = data.draw(hnp.arrays(np.float64, (len(labels), width), elements=elements))
    before = list(labels), features.copy()
    noisy, changed = instance_noise(labels, rate, features, random_state=seed)
    assert labels == before[0]
    assert np.array_equal(features, before[1])
    assert changed.sum() == round(rate * len(labels))
    assert [bool(a != b) for a, b in zip(labels, noisy, strict=True)] == changed.tolist()
    assert set(noisy) <= set(labels)
    again, _ = instance_noise(labels, rate, features, random_state=seed)
    assert again.tolist() == noisy.tolist()


@given(
    features=hnp.arrays(np.int64, (30, 2), elements=st.integers(-100, 100)),
    factor=st.sampled_from([0.25, 2.0, 1024.0]),
    shift=st.integers(-1000, 1000),
)
def test_the_unit_of_a_feature_does_not_matter(features, factor, shift):
    labels = np.arange(30) % 3
    noisy, _ = instance_noise(labels, 0.5, features)
    same, _ = instance_noise(labels, 0.5, factor * features + shift)
    assert noisy.tolist() == same.tolist()


def test_the_same_features_have_the_same_targets_and_others_have_others():
    kinds = np.random.default_rng(0).normal(size=(6, 2))
    kind = np.arange(60_000) % 6
    labels = np.arange(60_000) // 6 % 5
    noisy, changed = instance_noise(labels, 0.4, kinds[kind])
    for source in range(5):
        counts = np.zeros((6, 2, 5), dtype=int)
        rows = np.flatnonzero(changed & (labels == source))
        np.add.at(counts, (kind[rows], rows // 30_000, noisy[rows]), 1)
        for halves in counts:
            seen = halves[:, halves.sum(axis=0) >= 10]
            assert seen.shape[1] == 1 or stats.chi2_contingency(seen).pvalue > 1e-4
        between = np.delete(counts.sum(axis=1), source, axis=1)
        assert stats.chi2_contingency(between + 1).pvalue < 1e-10


def test_rows_are_chosen_whatever_their_features():
    features = np.repeat([0.0, 1.0], 10_000)
    _, changed = instance_noise(np.arange(20_000) % 2, 0.3, features)
    assert changed.sum() == 6000
    assert changed[:10_000].sum() == pytest.approx(3000, abs=200)


# -- what may come in -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "convert",
    [
        np.ndarray.tolist,
        pd.DataFrame,
        torch.tensor,
        lambda table: torch.tensor(table, dtype=torch.bfloat16, requires_grad=True),
        lambda table: table.astype(np.float16),
        lambda table: table.astype(np.uint8),
        lambda table: table.reshape(40, 2, 3),
        lambda table: np.asfortranarray(table),
    ],
)
def test_features_from_everywhere(convert):
    table = np.random.default_rng(0).integers(0, 17, (40, 6)).astype(float)
    labels = np.arange(40) % 4
    expected, _ = instance_noise(labels, 0.5, table)
    noisy, _ = instance_noise(labels, 0.5, convert(table))
    assert noisy.tolist() == expected.tolist()


def test_labels_of_every_type_and_absent_classes():
    noisy, changed = instance_noise(["a", None, (1, 2), "a"] * 5, 1.0, np.arange(20))
    assert changed.all()
    assert set(noisy) == {"a", None, (1, 2)}
    noisy, _ = instance_noise(np.zeros(200, "int8"), 1.0, np.arange(200), num_classes=4)
    assert noisy.dtype == "int8"
    assert set(noisy.tolist()) <= {1, 2, 3}


def test_a_million_rows_take_little_more_than_their_features():
    features = np.zeros((1_000_000, 64), dtype=np.uint8)
    features[::3] = 200
    labels = np.arange(1_000_000, dtype=np.int32) % 10
    tracemalloc.start()
    try:
        instance_noise(labels, 0.4, features)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 150e6, "a copy of the features in float64 would be 512 MB"


# -- errors, in full --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "expected", "got"),
    [
        ({"kind": "instance"}, "given for kind='instance'", "None"),
        (
            {"features": np.zeros((3, 2))},
            "None for kind='symmetric'; it belongs to kind='instance'",
            "<class 'numpy.ndarray'>",
        ),
        (
            {"kind": "pair", "features": [0, 1, 2]},
            "None for kind='pair'; it belongs to kind='instance'",
            "<class 'list'>",
        ),
    ],
)
def test_features_belong_to_their_kind(options, expected, got):
    text = MESSAGE.format("features", expected, got)
    with pytest.raises(InvalidParameterError, match=f"^{re.escape(text)}$"):
        inject_noise([0, 1, 2], 0.5, **options)


ROWS = "3 rows of numbers, one a label"
FINITE = "finite numbers of at most 1e+100 in size"


@pytest.mark.parametrize(
    ("features", "expected", "got"),
    [
        (np.zeros((2, 3)), ROWS, "an array of shape (2, 3) and dtype float64"),
        (np.zeros((3, 0)), ROWS, "an array of shape (3, 0) and dtype float64"),
        (5.0, ROWS, "an array of shape () and dtype float64"),
        (["a", "b", "c"], ROWS, "an array of shape (3,) and dtype <U1"),
        (np.zeros(3, complex), ROWS, "an array of shape (3,) and dtype complex128"),
        ([[0, 1], [2, NAN], [3, 4]], FINITE, "nan in row 1"),
        ([0.0, 1.0, -np.inf], FINITE, "-inf in row 2"),
        ([1e101, 1.0, 2.0], FINITE, "1e+101 in row 0"),
        (
            [[0, 1], [2], [3, 4]],
            "an array, or rows of one length",
            "a list that is no array, such as rows of several lengths,",
        ),
    ],
)
def test_unusable_features_are_named(features, expected, got):
    with pytest.raises(InvalidDataError) as caught:
        instance_noise([0, 1, 2], 0.5, features)
    assert str(caught.value) == MESSAGE.format("features", expected, got)


@pytest.mark.parametrize("table", [pd.Series, pd.DataFrame])
def test_features_in_another_order_than_the_labels_are_refused(table):
    labels, features = pd.Series([0, 1, 2]), table([0.1, 0.2, 0.3])
    instance_noise(labels, 0.5, features)
    with pytest.raises(InvalidDataError) as caught:
        instance_noise(labels, 0.5, features[::-1])
    expected = (
        "in the order of the labels; align it with features.loc[labels.index], or pass an array"
    )
    assert str(caught.value) == MESSAGE.format("features", expected, "another index")


def test_one_class_has_no_other():
    with pytest.raises(InvalidDataError) as caught:
        instance_noise(["a", "a"], 0.5, [0, 1])
    expected = "of at least two classes for kind='instance'"
    assert str(caught.value) == MESSAGE.format("labels", expected, "only the class 'a'")
