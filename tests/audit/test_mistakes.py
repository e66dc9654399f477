"""Labels that look wrong, and are less unlikely to the model than labels at random would be."""

import numpy as np
import pandas as pd
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_digits, make_classification
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB

from lossnoise import audit, cross_val_losses
from lossnoise.audit._classes import Columns
from lossnoise.audit._file_audit import Limits, audit_file
from lossnoise.audit._mistakes import FEWEST_FITS, LEAST_ROWS, MOST_ROWS, NUMBERS, OwnClass, Places
from lossnoise.exceptions import UnattainableThresholdWarning
from lossnoise.noise import inject_noise

SENTENCE = "Many of these labels are less unlikely to the model than labels at random would be"


@pytest.fixture(scope="module")
def naive():
    """Right labels of digits, and what a calibrated naive Bayes classifier makes of them."""
    pixels, digits = load_digits(return_X_y=True)
    model = CalibratedClassifierCV(GaussianNB(var_smoothing=1e-2), cv=3)
    _, probs = cross_val_losses(model, pixels, digits, return_proba=True, random_state=0)
    return digits, probs


def test_mistakes_of_a_model_are_no_certain_label_errors(naive):
    digits, probs = naive
    report = audit(digits, pred_probs=probs)
    found = report.summary
    assert found["separable"]
    assert found["num_issues"] > 100
    assert found["expected_precision"] > 0.9
    assert found["cautious_precision"] < 0.3
    assert found["noise_rate_interval"][0] < 0.01
    assert SENTENCE in found["verdict"]
    with pytest.warns(UnattainableThresholdWarning):
        assert report.threshold_for(precision=0.9).count == 0


def test_labels_drawn_at_random_are_no_mistakes():
    pixels, digits = load_digits(return_X_y=True)
    for rate in (0.1, 0.4):
        given, _ = inject_noise(digits, rate, random_state=0)
        model = LogisticRegression(max_iter=2000, C=0.01)
        _, probs = cross_val_losses(model, pixels, given, return_proba=True, random_state=0)
        found = audit(given, pred_probs=probs).summary
        assert found["like_mistakes"] < 0.05
        assert SENTENCE not in found["verdict"]


def test_a_file_in_pieces_counts_the_same(naive, tmp_path):
    digits, probs = naive
    columns = {f"p_{k}": column for k, column in enumerate(probs.T)}
    pd.DataFrame({"label": digits, **columns}).to_csv(tmp_path / "rows.csv", index=False)
    whole, pieces = (
        audit_file(tmp_path / "rows.csv", pred_probs="p_*", limits=limits).report.summary
        for limits in (None, Limits(rows=100, chunk=5000))
    )
    for name in ("like_mistakes", "cautious_precision"):
        assert pieces[name] == pytest.approx(whole[name], abs=0.02)
    assert pieces["noise_rate_interval"] == pytest.approx(whole["noise_rate_interval"], abs=0.01)


def places(probs, codes, issues, highest=1.0):
    columns = Columns(np.arange(probs.shape[1]), codes, probs)
    own = OwnClass(probs.shape[1])
    own.add(columns)
    return own.places(columns, issues, highest)


def counted(probs, codes, issues, highest):
    """The same, label by label: of labels that are equal, each may be the lower one."""

    def second_of(row, first):
        return max((k for k in range(len(row)) if k != first), key=lambda k: row[k])

    n, first = np.zeros((6, probs.shape[1])), probs.argmax(axis=1)
    agreed = np.array([row[code] == max(row) for row, code in zip(probs, codes, strict=True)])
    for at in np.flatnonzero(issues & ~agreed):
        k, code, row = first[at], codes[at], probs[at]
        fits = probs[agreed & (codes == k)]
        fits = fits[fits[:, code] <= highest]
        if len(fits) < FEWEST_FITS:
            continue
        below, alike = (int(f(fits[:, code], row[code]).sum()) for f in (np.less, np.equal))
        low = (len(fits) / 2 - below + 0.5) / (alike + 1)
        second = second_of(row, k)
        by_chance = np.mean([second_of(fit, k) == code for fit in fits])
        if_mistaken = row[second] / (1.0 - row[k]) if row[k] < 1.0 else 0.0
        low = min(max(low, 0.0), 1.0)
        n[:, k] += 1.0, low, second == code, by_chance, if_mistaken, 1.0 / len(fits)
    return n


@pytest.mark.parametrize("highest", [0.0, 0.25, 1.0])
def test_labels_are_counted_with_ties(highest):
    rng = np.random.default_rng(0)
    probs = rng.multinomial(4, np.ones(5) / 5, size=600) / 4  # of four votes
    codes = np.where(rng.random(600) < 0.5, probs.argmax(axis=1), rng.integers(5, size=600))
    issues = rng.random(600) < 0.5
    issues &= probs[np.arange(600), codes] <= highest
    found = places(probs, codes, issues, highest)
    assert found.counts[0].sum() > 10
    assert found.counts == pytest.approx(counted(probs, codes, issues, highest))
    nothing = places(probs, codes, np.zeros(600, dtype=bool))
    assert nothing.counts.sum() == nothing.like_mistakes == 0.0


def test_rows_are_kept_evenly_whatever_the_pieces():
    rng = np.random.default_rng(0)
    n = 5 * MOST_ROWS
    probs = rng.dirichlet(np.ones(3), size=n)
    columns = Columns(np.arange(3), probs.argmax(axis=1), probs)
    whole, pieces = OwnClass(3), OwnClass(3)
    whole.add(columns)
    for at in np.split(np.arange(n), [1, 7, 300, 2001]):
        pieces.add(Columns(columns.classes, columns.codes[at], probs[at]))
    for k in range(3):
        mine = probs[columns.codes == k]
        step = round(len(mine) / len(whole._rows[k]))
        assert step & (step - 1) == 0  # a power of two
        assert MOST_ROWS / 2 <= len(whole._rows[k]) <= MOST_ROWS
        assert whole._rows[k] == pytest.approx(mine[::step])
        assert pieces._rows[k] == pytest.approx(mine[::step])


@pytest.mark.parametrize("more", [0, 1])
def test_of_too_many_classes_second_choices_tell(more):
    """A table of rows beside each other would not fit into memory."""
    n = int((NUMBERS / LEAST_ROWS) ** 0.5) + more
    probs = np.full((300, n), 0.1 / n)
    rows, rng = np.arange(300), np.random.default_rng(0)
    probs[rows, rows] = 0.8
    probs[rows, rows + 1] = 0.1
    columns = Columns(np.arange(n), rows + 1, probs)
    at_random = Columns(np.arange(n), rng.integers(310, n, 300), probs)
    for labels, like in ((columns, 1.0), (at_random, 0.0)):
        own = OwnClass(n)
        own.add(labels)
        found = own.places(labels, np.ones(300, dtype=bool), 1.0)
        assert found.like_mistakes == pytest.approx(like * more, abs=0.1)


@pytest.mark.parametrize("highest", [0.02, 0.1, 1.0])
def test_chance_is_taken_for_mistakes_seldom(highest):
    """Labels drawn at random, that few rows of the class find as unlikely."""
    shares = []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        high = rng.beta(0.5, 2.0, size=400)  # of the second class; the label of some rows
        probs = np.column_stack([1.0 - high, high]) * 0.9 + [0.1, 0.0]
        codes = np.where(rng.random(400) < 0.15, 1, 0)
        issues = (codes == 1) & (probs[:, 1] <= highest)
        shares.append(places(probs, codes, issues, highest).like_mistakes)
    assert np.mean(np.array(shares) > 0.0) <= 0.1


def redrawn(kind, truth, logits, rng):
    """Return labels of which a fifth was drawn anew, and what the model says."""
    classes = logits.shape[1]
    drawn = {
        "uniform": lambda: (truth + rng.integers(1, classes, len(truth))) % classes,
        "pair": lambda: (truth + 1) % classes,
        "frequency": lambda: rng.permutation(truth),
        "doubtful": lambda: (
            logits + rng.gumbel(size=logits.shape) - 100 * np.eye(classes)[truth]
        ).argmax(axis=1),
    }[kind]()
    return np.where(rng.random(len(truth)) < 0.2, drawn, truth)


@pytest.mark.parametrize("kind", ["uniform", "pair", "frequency", "doubtful"])
@pytest.mark.parametrize("classes", [2, 5])
def test_noise_by_chance_or_class_is_no_mistake(kind, classes):
    rng = np.random.default_rng(0)
    shares = np.arange(1, classes + 1) / np.arange(1, classes + 1).sum()
    truth = rng.choice(classes, size=6000, p=shares)
    logits = rng.normal(size=(6000, classes)) + 6.0 * np.eye(classes)[truth]
    found = audit(redrawn(kind, truth, logits, rng), logits=logits).summary
    assert found["num_issues"] > 500
    if kind == "doubtful" and classes > 2:  # of two classes the other one is at random
        assert found["like_mistakes"] > 0.3
    else:
        assert found["like_mistakes"] < 0.05


@pytest.mark.filterwarnings("ignore:Cannot tell:UserWarning")
@pytest.mark.parametrize("rare", [0.05, 0.1])
def test_a_rare_class_that_is_hard_is_not_promised_to_be_wrong(rare):
    """Right labels, of which a linear model misses many."""
    inputs, labels = make_classification(
        4000,
        15,
        n_informative=6,
        n_redundant=3,
        weights=[1 - rare],
        flip_y=0,
        class_sep=1.2,
        random_state=11,
    )
    model = LogisticRegression()
    _, probs = cross_val_losses(model, inputs, labels, return_proba=True, random_state=0)
    report = audit(labels, pred_probs=probs)
    found = report.summary
    assert found["separable"] is (rare == 0.05)
    assert found["noise_rate_interval"][0] < 0.005
    if found["separable"]:
        assert found["like_mistakes"] > 0.5
        assert found["cautious_precision"] < 0.3
    else:
        assert found["noise_rate"] < 0.03


@pytest.mark.parametrize(
    ("counts", "rows", "least", "most"),
    [
        ((1000, 0, 111, 111, 700), 512, 0.9, 1.0),  # none is low: all like mistakes
        ((1000, 500, 111, 111, 700), 512, 0.0, 0.0),  # as by chance
        ((1000, 480, 130, 111, 700), 512, 0.0, 0.0),  # within what chance gives
        ((1000, 250, 111, 111, 700), 512, 0.4, 0.5),  # half and half
        ((1000, 500, 400, 111, 700), 512, 0.35, 0.5),  # by second ones
        ((1000, 500, 900, 111, 700), 512, 1.0, 1.0),
        ((1000, 250, 111, 111, 700), 5, 0.0, 0.0),  # among few rows
        ((1000, 500, 1000, 1000, 1000), 512, 0.0, 0.0),  # of two classes there is no other
        ((1000, 500, 1000, 111, 0), 512, 1.0, 1.0),
        ((9, 0, 9, 1, 9), 512, 0.0, 0.0),  # too few to tell
        ((0, 0, 0, 0, 0), 0, 0.0, 0.0),
    ],
)
def test_the_share_of_mistakes(counts, rows, least, most):
    inverse = counts[0] / max(rows, 1)
    counts = Places(np.array([np.zeros(6), [*counts, inverse]]).T)
    assert least <= counts.like_mistakes <= most
    assert (counts.plus(counts).counts == 2.0 * counts.counts).all()
