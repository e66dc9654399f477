"""Probabilities that were written with two or three digits: their rows hardly ever sum to 1."""

import numpy as np
import pytest

from lossnoise import audit
from lossnoise.audit._file_audit import Limits, audit_file
from lossnoise.exceptions import InvalidDataError, RenormalizedWarning

N, CLASSES = 400, 10


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    codes = rng.integers(CLASSES, size=N)
    logits = rng.normal(size=(N, CLASSES))
    logits[np.arange(N), codes] += 6.0
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    codes[: N // 5] = (codes[: N // 5] + 1) % CLASSES
    return codes, probs


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("digits", [2, 3])
def test_they_are_scaled_with_a_word(table, digits, dtype):
    codes, probs = table
    few = probs.round(digits).astype(dtype)
    assert np.abs(few.sum(axis=1) - 1.0).max() > 1e-3
    with pytest.warns(RenormalizedWarning, match="they were scaled"):
        report = audit(codes, pred_probs=few)
    assert report.summary["noise_rate"] == pytest.approx(0.2, abs=0.03)


@pytest.mark.parametrize("classes", [40, 200])
def test_of_many_classes_most_small_ones_may_be_zeros(classes):
    rng = np.random.default_rng(1)
    probs = rng.dirichlet(np.full(classes, 8.0 / classes), size=300)
    codes = probs.argmax(axis=1)
    few = probs.round(2)
    few = few[np.abs(few.sum(axis=1) - 1.0) < 0.2]
    assert len(few) > 250
    assert np.abs(few.sum(axis=1) - 1.0).max() > 0.05
    with pytest.warns(RenormalizedWarning, match="they were scaled"):
        audit(
            codes[: len(few)],
            pred_probs=few,
            noise_proba=np.full(len(few), 0.1),
            class_names=list(range(classes)),
        )
    few[3] *= 0.5  # no rounding does that
    with pytest.raises(InvalidDataError, match="in row 3"):
        audit(codes[: len(few)], pred_probs=few.round(2), class_names=list(range(classes)))


def test_more_digits_that_miss_one_are_refused(table):
    codes, probs = table
    few = probs.round(2)
    few[0, 0] += 0.0005
    with pytest.raises(InvalidDataError, match="rows sum to 1"):
        audit(codes, pred_probs=few)


def test_each_row_is_judged_by_its_own_digits(table):
    """So that the pieces of a file do not matter."""
    codes, probs = table
    few = probs.round(2)
    few[0] = probs[0]
    with pytest.warns(RenormalizedWarning, match="they were scaled"):
        audit(codes, pred_probs=few)


def test_a_row_that_misses_a_class_is_refused(table):
    codes, probs = table
    few = probs.round(2)
    few[3, few[3].argmax()] -= 0.1
    with pytest.raises(InvalidDataError, match=r"in row 3 \(1 of 400 rows\)"):
        audit(codes, pred_probs=few)


def test_a_row_of_two_may_miss_by_a_hundredth_and_no_more(table):
    labels = [0, 1] * 10
    with pytest.warns(RenormalizedWarning):
        audit(labels, pred_probs=[[0.5, 0.51]] * 20, noise_proba=[0.1] * 20)
    with pytest.raises(InvalidDataError, match=r"a sum of 1\.02 in row 0"):
        audit(labels, pred_probs=[[0.5, 0.52]] * 20, noise_proba=[0.1] * 20)


@pytest.mark.parametrize("limits", [None, Limits(rows=100, chunk=600, kept=150)])
def test_files_of_few_digits_are_read(tmp_path, table, limits):
    codes, probs = table
    header = ",".join(["label", *(f"p_{i}" for i in range(CLASSES))])
    rows = [
        ",".join([str(code), *(f"{p:.2f}" for p in row)])
        for code, row in zip(codes, probs, strict=True)
    ]
    (tmp_path / "a.csv").write_text("\n".join([header, *rows]))
    with pytest.warns(RenormalizedWarning, match="they were scaled"):
        report = audit_file(tmp_path / "a.csv", pred_probs="p_*", limits=limits).report
    assert report.summary["noise_rate"] == pytest.approx(0.2, abs=0.03)
