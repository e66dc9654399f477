"""A curve for each group: small groups lean on the others, and errors name what is missing."""

import re

import numpy as np
import pandas as pd
import pytest

from lossnoise import BetaMixtureNoiseDetector, GaussianMixtureNoiseDetector
from lossnoise.exceptions import InvalidDataError


def easy_and_hard(rng, easy=3000, hard=3000, rate=0.2):
    """Two classes: right labels of the hard one have the losses of the easy one's wrong ones."""
    groups = np.repeat(["easy", "hard"], [easy, hard])
    wrong = rng.random(easy + hard) < rate
    right_loss = np.append(rng.gamma(2.0, 0.05, easy), rng.gamma(9.0, 0.15, hard))
    wrong_loss = np.append(rng.normal(2.0, 0.4, easy), rng.normal(5.5, 0.6, hard))
    return np.where(wrong, wrong_loss, right_loss).clip(0.0), groups, wrong


def test_each_group_has_its_own_curve():
    losses, groups, wrong = easy_and_hard(np.random.default_rng(0))
    plain = BetaMixtureNoiseDetector().fit(losses)
    detector = BetaMixtureNoiseDetector().fit(losses, groups=groups)
    assert (detector.predict(losses, groups=groups) == wrong).mean() > 0.97
    assert (plain.predict(losses) == wrong).mean() < 0.9
    proba = detector.predict_proba(losses, groups=groups)
    assert detector.noise_rate_ == pytest.approx(proba[:, 1].mean(), abs=1e-12)
    assert [report["group"] for report in detector.group_report_] == ["easy", "hard"]
    for report in detector.group_report_:
        members = groups == report["group"]
        assert report["n"] == members.sum()
        assert report["noise_rate"] == pytest.approx(proba[members, 1].mean(), abs=1e-12)
        assert report["noise_rate"] == pytest.approx(wrong[members].mean(), abs=0.03)
    assert detector.group_report_[0]["threshold"] < 2.0 < detector.group_report_[1]["threshold"]
    for name in ("easy", "hard"):
        order = np.argsort(losses[groups == name])
        assert (np.diff(proba[groups == name, 1][order]) >= 0.0).all()


def test_a_group_of_one_gets_nearly_the_curve_of_all():
    losses, groups, _ = easy_and_hard(np.random.default_rng(0), hard=0)
    groups = groups.astype(object)
    groups[0] = "rare"
    grid = np.linspace(0.0, 6.0, 50)
    detector = BetaMixtureNoiseDetector().fit(losses, groups=groups)
    rare = detector.predict_proba(grid, groups=["rare"] * 50)
    unseen = detector.predict_proba(grid, groups=["easy", *["never seen"] * 49])[1:]
    plain = BetaMixtureNoiseDetector().fit(losses).predict_proba(grid)
    np.testing.assert_allclose(rare, plain, atol=0.1)
    np.testing.assert_allclose(unseen, plain[1:], atol=1e-12)


def test_the_interval_and_the_thresholds_are_those_of_the_groups():
    losses, groups, _ = easy_and_hard(np.random.default_rng(0))
    detector = BetaMixtureNoiseDetector().fit(losses, groups=pd.Series(groups))
    low, high = detector.noise_rate_interval_
    assert low <= detector.noise_rate_ <= high
    proba = detector.predict_proba(losses, groups=groups)[:, 1]
    cut = detector.threshold_for(budget=500)
    assert cut.count == (cut.threshold <= losses).sum() == 500
    assert cut.precision == pytest.approx(proba[cut.threshold <= losses].mean())


def test_a_fit_without_groups_forgets_them():
    losses, groups, _ = easy_and_hard(np.random.default_rng(0))
    detector = BetaMixtureNoiseDetector().fit(losses, groups=groups).fit(losses)
    assert not hasattr(detector, "group_report_")
    assert detector.predict(losses).shape == losses.shape


@pytest.mark.parametrize("name", [(1, 2), None, True, 3.5, "a"])
def test_groups_of_any_hashable_type(name):
    losses, _, _ = easy_and_hard(np.random.default_rng(0), 500, 500)
    groups = [name] * 500 + ["other"] * 500
    detector = BetaMixtureNoiseDetector().fit(losses, groups=groups)
    proba = detector.predict_proba(losses, groups=groups)[:, 1]
    assert {report["group"] for report in detector.group_report_} == {name, "other"}
    assert proba.mean() == pytest.approx(detector.noise_rate_, abs=1e-12)


def test_fit_transform_passes_groups_on():
    losses, groups, _ = easy_and_hard(np.random.default_rng(0), 500, 500)
    detector = BetaMixtureNoiseDetector()
    table = detector.fit_transform(losses, groups=groups)
    np.testing.assert_array_equal(table, detector.transform(losses, groups=groups))


@pytest.mark.parametrize("mean", [1.2, 1.8, 2.4])
@pytest.mark.parametrize("rate", [0.0, 0.15])
def test_a_hard_class_is_not_taken_for_wrong_more_often_than_without_groups(mean, rate):
    rng = np.random.default_rng(0)
    groups = np.where(rng.random(5000) < 0.1, 0, rng.integers(1, 20, 5000))
    wrong = rng.random(5000) < np.where(groups == 0, rate, 0.15)
    right = np.where(groups == 0, rng.gamma(6, mean / 6, 5000), rng.gamma(1, 0.2, 5000))
    losses = np.where(wrong, rng.normal(4, 0.8, 5000).clip(0), right)
    hard = (groups == 0) & ~wrong
    plain = BetaMixtureNoiseDetector().fit(losses).predict_proba(losses)[:, 1]
    grouped = BetaMixtureNoiseDetector().fit(losses, groups=groups)
    proba = grouped.predict_proba(losses, groups=groups)[:, 1]
    assert (proba[hard] > 0.5).mean() <= (plain[hard] > 0.5).mean() + 0.02
    if rate:
        rare = groups == 0
        assert proba[rare].mean() == pytest.approx(rate, abs=0.05)
        assert np.square(proba - wrong)[rare].mean() < np.square(plain - wrong)[rare].mean() + 0.01
        assert (proba[rare & wrong] > 0.5).mean() >= 0.5


@pytest.mark.parametrize("size", [3, 6, 9, 10, 30, 300])
@pytest.mark.parametrize("make", [BetaMixtureNoiseDetector, GaussianMixtureNoiseDetector])
def test_a_group_whose_labels_are_all_wrong_is_called_wrong(make, size):
    for seed in range(5):
        rng = np.random.default_rng(seed)
        losses = np.concatenate([rng.gamma(1, 0.2, 2700), rng.normal(5, 1, 300 + size)])
        groups = np.arange(len(losses)) >= 3000
        detector = make().fit(losses, groups=groups)
        plain = make().fit(losses).predict(losses)[groups]
        assert plain.mean() > 0.8
        assert detector.predict(losses, groups=groups)[groups].mean() >= plain.mean() - 0.02


@pytest.mark.parametrize("size", [3, 6, 9])
def test_few_losses_that_are_nearly_equal_are_no_kind_of_their_own(size):
    rng = np.random.default_rng(0)
    losses = np.concatenate([rng.gamma(1, 0.2, 2700), rng.normal(5, 1, 300), np.full(size, 4.8)])
    losses[-1] += 0.1
    groups = np.arange(len(losses)) >= 3000
    detector = BetaMixtureNoiseDetector().fit(losses, groups=groups)
    assert detector.predict(losses, groups=groups)[groups].all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda d, x, g: d.fit(x, groups=g[:-1]),
            "The 'groups' parameter of BetaMixtureNoiseDetector.fit must be of length 400, one "
            "group for each loss. Got length 399 instead.",
        ),
        (
            lambda d, x, g: d.fit(x).predict(x, groups=g),
            "The 'groups' parameter of BetaMixtureNoiseDetector must be given to fit too, or not "
            "at all. Got groups here only instead.",
        ),
        (
            lambda d, x, g: d.fit(x, groups=g).predict_proba(x),
            "The 'groups' parameter of BetaMixtureNoiseDetector must be given, as they were to "
            "fit. Got None instead.",
        ),
        (
            lambda d, x, g: d.fit(x, groups=g).predict(x, groups=np.arange(len(x)) // 300),
            "The 'groups' parameter of BetaMixtureNoiseDetector must be such as were given to "
            "fit ('easy', 'hard'). Got only others (0, 1) instead.",
        ),
        (
            lambda d, x, g: d.fit(x, groups=g).partial_fit(x),
            "The 'self' parameter of BetaMixtureNoiseDetector.partial_fit must be fitted without "
            "groups. Got a detector that was fitted with groups instead.",
        ),
    ],
)
def test_groups_that_do_not_fit(call, message):
    losses, groups, _ = easy_and_hard(np.random.default_rng(0), 200, 200)
    with pytest.raises(InvalidDataError, match=f"^{re.escape(message)}$"):
        call(BetaMixtureNoiseDetector(), losses, groups)


@pytest.mark.parametrize("unit", ["D", "us", "ns"])
def test_groups_may_be_dates(unit):
    days = np.array(["2024-01-01", "2024-05-02"], f"datetime64[{unit}]")
    losses = np.random.default_rng(0).gamma(1.0, 0.2, size=200)
    losses[:40] += 5.0
    groups = days[np.arange(200) % 2]
    detector = BetaMixtureNoiseDetector().fit(losses, groups=groups)
    assert [one["group"] for one in detector.group_report_] == list(days)
    assert detector.predict(losses, groups=groups).sum() == 40


@pytest.mark.parametrize("table", [pd.Series, pd.DataFrame])
def test_groups_with_another_index_than_the_losses_are_refused(table):
    losses = np.random.default_rng(0).gamma(1.0, 0.2, size=200)
    losses[:40] += 5.0
    groups, losses = pd.Series(np.arange(200) % 2), table(losses)
    detector = BetaMixtureNoiseDetector().fit(losses, groups=groups)
    moved = groups.sample(frac=1.0, random_state=0)
    for method, owner in ((detector.fit, ".fit"), (detector.predict, "")):
        with pytest.raises(InvalidDataError) as caught:
            method(losses, groups=moved)
        assert str(caught.value) == (
            f"The 'groups' parameter of BetaMixtureNoiseDetector{owner} must be in the order of "
            "the losses; align it with groups.loc[X.index], or pass an array. Got another index "
            "instead."
        )


@pytest.mark.parametrize("need", [{"budget": 30_000}, {"recall": 0.5}, {"precision": 0.8}])
def test_one_threshold_divides_large_groups_and_small_ones_alike(need):
    rng = np.random.default_rng(0)
    groups = np.repeat(["a", "b", "c"], [150_000, 150_000, 3_000])
    shift = np.select([groups == "a", groups == "b"], [0.0, 0.037], 0.51)
    losses = shift + np.where(rng.random(len(groups)) < 0.2, 4.0, rng.gamma(1.0, 0.2, len(groups)))
    losses += rng.random(len(groups))
    detector = BetaMixtureNoiseDetector().fit(losses, groups=groups)
    cut = detector.threshold_for(**need)
    assert cut.count == (losses >= cut.threshold).sum() > 0


@pytest.mark.parametrize("size", [200, 1500])
def test_a_hard_class_is_not_worse_off_for_a_curve_of_its_own(size):
    """Its right labels have higher losses, and alone they do not show two populations."""
    rng = np.random.default_rng(0)
    wrong = rng.random(20_000 + size) < np.repeat([0.02, 0.1], [20_000, size])
    right_losses = np.concatenate([rng.gamma(1.5, 0.15, 20_000), rng.gamma(1.5, 0.8, size)])
    losses = np.where(wrong, rng.gamma(16.0, 0.25, 20_000 + size), right_losses)
    hard = np.arange(20_000 + size) >= 20_000
    pooled = BetaMixtureNoiseDetector().fit(losses)
    grouped = BetaMixtureNoiseDetector().fit(losses, groups=hard)
    own = grouped.predict_proba(losses, groups=hard)[hard, 1]
    assert (own <= pooled.predict_proba(losses)[hard, 1] + 1e-12).all()
