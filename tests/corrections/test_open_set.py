"""Open-set learning against slow versions in numpy in float64, and its way through a run."""

import math
import re
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lossnoise import NoisyLabelTrainer
from lossnoise.corrections import CrossEntropy, OpenSet
from lossnoise.corrections.open_set import LARGEST, contrastive_loss, outlier_proba
from lossnoise.exceptions import InvalidParameterError, ScheduleWarning

# -- outlier probabilities ------------------------------------------------------------------------


def slow_lof(points, k):
    """The local outlier factor of Breunig et al. (2000), point by point."""
    n = len(points)
    distance = np.array([[math.dist(x, y) for y in points] for x in points])
    order = [sorted((j for j in range(n) if j != i), key=distance[i].__getitem__) for i in range(n)]
    nearest = [others[:k] for others in order]
    radius = [distance[i][nearest[i][-1]] for i in range(n)]
    density = [
        1.0 / np.mean([max(radius[j], distance[i][j]) for j in nearest[i]]) for i in range(n)
    ]
    return np.array([np.mean([density[j] for j in nearest[i]]) / density[i] for i in range(n)])


def slow_proba(points, k):
    excess = slow_lof(points, k) - 1.0
    spread = math.sqrt(sum(p * p for p in excess) / len(excess))
    return [max(0.0, math.erf(p / (math.sqrt(2.0) * spread))) for p in excess]


@pytest.mark.parametrize(("neighbors", "used"), [(5, (5, 5)), (0.5, (20, 10)), (99, (39, 19))])
def test_outlier_probabilities_by_hand(neighbors, used):
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat([0, 1], [40, 20]))
    points = rng.normal(size=(60, 3)) + 5.0 * labels[:, None]
    found = outlier_proba(points, labels, neighbors)
    assert found.dtype == np.float64
    for label, k in enumerate(used):
        np.testing.assert_allclose(found[labels == label], slow_proba(points[labels == label], k))


def test_a_fraction_of_the_class_finds_what_a_few_neighbours_do_not():
    """Five wrong rows that look alike are no outliers among their own."""
    rng = np.random.default_rng(0)
    points = 0.3 * rng.normal(size=(60, 2))
    points[:6] = rng.normal(size=(6, 2)) + 6.0
    wrong = np.arange(60) < 6
    labels = np.zeros(60, dtype=np.int64)
    assert ((outlier_proba(points, labels) > 0.5) == wrong).all()
    assert (outlier_proba(points, labels, 4)[wrong] > 0.5).sum() < 6


@pytest.mark.parametrize("size", [1, 2, 9])
def test_of_a_small_class_nothing_is_said(size):
    points = np.random.default_rng(0).normal(size=(40, 2))
    points[0] = 50.0
    labels = (np.arange(40) >= size).astype(np.int64)
    found = outlier_proba(points, labels)
    assert (found[:size] == 0.0).all()
    assert (found[size:] > 0.0).any()


def test_classes_may_be_missing():
    points = np.random.default_rng(0).normal(size=(30, 2))
    np.testing.assert_array_equal(
        outlier_proba(points, np.full(30, 7)), outlier_proba(points, np.zeros(30, dtype=int))
    )


def test_equal_rows_are_no_outliers():
    """Also where a class has more copies of a row than it has neighbours."""
    points = np.zeros((30, 2))
    assert (outlier_proba(points, np.zeros(30, dtype=int)) == 0.0).all()
    points[0] = 1.0
    found = outlier_proba(points, np.zeros(30, dtype=int), 0.2)
    assert found.argmax() == 0
    assert (found[1:] < 0.5).all()


def test_a_large_class_is_compared_in_parts(monkeypatch):
    assert LARGEST == 1000
    points = np.random.default_rng(0).normal(size=(50, 2))
    monkeypatch.setattr("lossnoise.corrections.open_set.LARGEST", 20)
    found = outlier_proba(points, np.zeros(50, dtype=int), 0.5)
    factors = np.empty(50)
    for part in range(3):
        rows = points[part::3]
        factors[part::3] = slow_lof(rows, round(0.5 * len(rows)))
    excess = factors - 1.0
    expected = [max(0.0, math.erf(p / math.sqrt(2.0 * np.mean(excess**2)))) for p in excess]
    np.testing.assert_allclose(found, expected)


# -- the contrastive loss -------------------------------------------------------------------------


@pytest.mark.parametrize("margin", [0.5, 1.0, 2.0])
def test_contrastive_loss_pair_by_pair(margin):
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(14, 4, generator=generator)
    labels = torch.randint(3, (14,), generator=generator)
    noisy = torch.rand(14, generator=generator) < 0.4
    labels[0] = 3  # alone
    unit = F.normalize(features.double()).numpy()
    expected = []
    for i in range(14):
        pairs = []
        for j in range(14):
            if i == j or labels[i] != labels[j] or (noisy[i] and noisy[j]):
                continue
            d = math.dist(unit[i], unit[j])
            pulled = not noisy[i] and not noisy[j]
            pairs.append(d**2 / 2 if pulled else max(0.0, margin - d) ** 2 / 2)
        expected.append(np.mean(pairs) if pairs else 0.0)
    found = contrastive_loss(features, labels, noisy, margin)
    assert found.dtype == torch.float32
    assert found[0] == 0.0
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_its_gradient_pulls_clean_ones_together_and_pushes_noisy_ones_away():
    features = torch.tensor([[1.0, 0.2, 0.0], [1.0, -0.2, 0.0], [1.0, 0.0, 0.1]])
    features.requires_grad_()
    labels, noisy = torch.zeros(3, dtype=torch.int64), torch.tensor([False, False, True])
    for _ in range(500):
        (gradient,) = torch.autograd.grad(
            contrastive_loss(features, labels, noisy, 1.0).sum(), features
        )
        features = (features - 0.05 * gradient).detach().requires_grad_()
    unit = F.normalize(features.detach())
    assert (unit[0] - unit[1]).norm() < 0.1
    assert min((unit[2] - unit[0]).norm(), (unit[2] - unit[1]).norm()) > 0.9


def test_its_gradient_is_finite_for_equal_and_for_vanished_features():
    features = torch.ones(6, 3)
    features[3:] = 0.0
    features.requires_grad_()
    noisy = torch.tensor([False, True, False, True, False, False])
    contrastive_loss(features, torch.zeros(6, dtype=torch.int64), noisy, 1.0).sum().backward()
    assert features.grad.abs().max() < 1e4


def test_it_is_in_float32_under_autocast():
    generator = torch.Generator().manual_seed(0)
    features, noisy = torch.randn(14, 4, generator=generator), torch.arange(14) % 3 == 0
    labels = torch.arange(14) % 2
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = contrastive_loss(features, labels, noisy, 1.0)
    assert torch.equal(found, contrastive_loss(features, labels, noisy, 1.0))


# -- the correction -------------------------------------------------------------------------------


def judged(correction, scores):
    correction.load_state_dict({"score": torch.tensor(scores), "looks": 1})
    return correction


SCORES = [0.0, 0.9, 0.3, 0.5, 0.51, 0.0, 0.0, 1.0, 0.2, 0.7, 0.0, 0.6]


@pytest.mark.parametrize("contrast", [0.0, 0.3])
def test_loss_against_numpy(make_batch, make_context, reference, contrast):
    model, batch, recorded = nn.Linear(2, 3), make_batch(), []
    context = make_context(record=lambda *pair: recorded.append(pair))
    losses = judged(OpenSet(contrast=contrast, margin=0.7), SCORES).loss(model, batch, context)
    log_h = reference.log_probs(model, batch.inputs.double().numpy())
    plain = -log_h[np.arange(12), batch.labels]
    weights = np.array([1.0 - score if score > 0.5 else 1.0 for score in SCORES])
    noisy = torch.tensor(SCORES) > 0.5
    pairs = contrastive_loss(batch.inputs, batch.labels, noisy, 0.7).numpy()
    assert losses.dtype == torch.float32
    np.testing.assert_allclose(
        losses.detach(), weights * plain + contrast * pairs, rtol=1e-4, atol=1e-6
    )
    ((indices, given),) = recorded
    assert torch.equal(indices, batch.indices)
    np.testing.assert_allclose(given, plain, rtol=1e-5)


def test_during_the_warm_up_it_is_cross_entropy(make_net, make_batch, make_context):
    ours, plain = (
        each.loss(make_net(), make_batch(), make_context()) for each in (OpenSet(), CrossEntropy())
    )
    assert torch.equal(ours, plain)


@pytest.mark.parametrize(
    ("warmup", "every", "num_epochs", "expected"),
    [
        (0.1, 0.1, 10, [1, 2, 3, 4, 5, 6, 7, 8, 9]),
        (2, 3, 10, [2, 5, 8]),
        (0.5, 0.2, 10, [5, 7, 9]),
        (0, 0, 4, [1, 2, 3]),
        (0.1, 0.1, 1, []),
        (1.0, 1, 10, []),
    ],
)
def test_when_it_looks(monkeypatch, make_context, warmup, every, num_epochs, expected):
    looked = []
    monkeypatch.setattr(OpenSet, "_look", lambda self, context: looked.append(context.epoch))
    correction = OpenSet(warmup=warmup, every=every)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        correction.setup(make_context(num_epochs=num_epochs))
    assert [w.category for w in told] == [ScheduleWarning] * (not expected)
    for epoch in range(1, num_epochs + 1):
        correction.end_epoch(make_context(epoch=epoch, num_epochs=num_epochs))
    assert looked == expected


def test_scores_are_the_mean_over_the_looks(make_batch, make_context):
    batch, expected = make_batch(size=96), []
    correction = OpenSet(warmup=1, every=1)
    for epoch in range(1, 4):
        torch.manual_seed(epoch)
        model = nn.Sequential(nn.Linear(2, 5), nn.Linear(5, 3))
        context = make_context(
            epoch=epoch,
            engine=SimpleNamespace(model=model),
            sweep=lambda function, model=model: function(model, batch).detach(),
        )
        if epoch == 1:
            correction.setup(context)
        correction.end_epoch(context)
        unit = F.normalize(model[0](batch.inputs)).detach().numpy()
        expected.append(outlier_proba(unit, batch.labels.numpy(), 0.5))
        np.testing.assert_allclose(
            correction.outlier_score_, np.mean(expected, axis=0), rtol=1e-4, atol=1e-5
        )


def test_every_process_takes_the_mean_of_all(make_batch, make_context):
    batch, correction = make_batch(size=96), OpenSet(warmup=1)
    context = make_context(
        sweep=lambda function: function(nn.Linear(2, 3), batch).detach(),
        all_mean=lambda tensor: torch.full_like(tensor, 0.25),
    )
    correction.end_epoch(context)
    assert (correction.outlier_score_ == 0.25).all()


def test_state(make_batch, make_context):
    first, second = judged(OpenSet(), SCORES), OpenSet()
    second.load_state_dict(first.state_dict())
    assert torch.equal(second.outlier_score_, first.outlier_score_)
    fresh = OpenSet()
    fresh.load_state_dict(OpenSet().state_dict())
    assert fresh.outlier_score_ is None


def test_resumed_scores_come_to_the_training_device(make_context):
    """Checkpoints are read on the host, whatever the device of the run."""
    correction = OpenSet()
    correction.setup(make_context(device=torch.device("meta")))
    assert judged(correction, SCORES).outlier_score_.device.type == "meta"


EPOCHS = "a number of epochs (int >= 0) or a fraction of the run in [0.0, 1.0]"
NEIGHBORS = "a number of neighbours (int >= 1) or a fraction of a class in (0.0, 1.0)"


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("warmup", 1.5, EPOCHS),
        ("warmup", "auto", EPOCHS),
        ("every", -1, EPOCHS),
        ("neighbors", 0, NEIGHBORS),
        ("neighbors", True, NEIGHBORS),
        ("neighbors", 1.0, NEIGHBORS),
        ("neighbors", "auto", NEIGHBORS),
        ("contrast", -0.1, "a float in the range [0.0, inf)"),
        ("contrast", math.inf, "a float in the range [0.0, inf)"),
        ("margin", 0.0, "a float in the range (0.0, 2.0]"),
        ("margin", 2.5, "a float in the range (0.0, 2.0]"),
    ],
)
def test_parameters_out_of_range(make_context, name, value, expected):
    message = f"The {name!r} parameter of OpenSet must be {expected}. Got {value!r} instead."
    with pytest.raises(InvalidParameterError, match=f"^{re.escape(message)}$"):
        OpenSet(**{name: value}).setup(make_context())


def test_in_a_run_the_wrong_labels_are_found(make_net, make_data):
    data = make_data(size=300)
    changed = data.tensors[1] != torch.arange(300) % 3
    trainer = NoisyLabelTrainer(
        make_net(), correction="open-set", epochs=10, batch_size=32, device="cpu", random_state=0
    )
    trainer.fit(data, make_data(size=300, noise=0.0, seed=1))
    scores = trainer.correction_.outlier_score_
    assert scores.shape == (300,)
    assert scores[changed].mean() > 0.6 > 0.3 > scores[~changed].mean()
    assert trainer.history_[-1]["val_accuracy"] > 0.95
