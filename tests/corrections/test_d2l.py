"""D2L against slow versions in numpy in float64, and its way through a run."""

import contextlib
import copy
import math
import re

import numpy as np
import pytest
import torch

from lossnoise import NoisyLabelTrainer
from lossnoise.corrections import D2L, CrossEntropy
from lossnoise.corrections.d2l import is_turning_point, label_trust, local_dimensionality
from lossnoise.exceptions import InvalidParameterError
from lossnoise.training import Callback


def brute_force_lid(points, k):
    """LID(x) = -(1/k sum_j log(r_j / r_k))^-1, point by point."""
    found = []
    for i, x in enumerate(points):
        others = [math.dist(x, y) for j, y in enumerate(points) if j != i]
        nearest = sorted(r for r in others if r > 0.0)[:k]
        found.append(-1.0 / np.mean([math.log(r / nearest[-1]) for r in nearest]))
    return found


@pytest.mark.parametrize(("rows", "features", "neighbors"), [(40, 3, 20), (40, 8, 5), (12, 4, 20)])
def test_dimensionality_by_brute_force(rows, features, neighbors):
    points = torch.randn(rows, features, generator=torch.Generator().manual_seed(1))
    expected = brute_force_lid(points.double().numpy(), min(neighbors, rows - 1))
    np.testing.assert_allclose(local_dimensionality(points, neighbors), expected, rtol=1e-4)


def test_it_is_that_of_the_subspace_whatever_the_scale():
    plane = torch.randn(3000, 2, generator=torch.Generator().manual_seed(0))
    turned = torch.linalg.qr(torch.randn(50, 50, generator=torch.Generator().manual_seed(1)))[0]
    points = 1000.0 * plane @ turned[:2]
    assert local_dimensionality(points, 100).median() == pytest.approx(2.0, abs=0.15)


def test_a_copy_is_no_neighbour():
    points = torch.randn(30, 3, generator=torch.Generator().manual_seed(2))
    points[1] = points[0]
    expected = brute_force_lid(points.double().numpy(), 5)
    np.testing.assert_allclose(local_dimensionality(points, 5), expected, rtol=1e-4)


@pytest.mark.parametrize(
    "points", [torch.ones(30, 4), torch.eye(6), torch.zeros(2, 3), torch.zeros(0, 3)]
)
def test_without_distances_to_compare_it_is_not_finite(points):
    assert not local_dimensionality(points, 5).isfinite().any()


@pytest.mark.parametrize(
    ("last", "found"), [(5.0, False), (5.0 + 1.99 * 0.2, False), (5.0 + 2.01 * 0.2, True)]
)
def test_a_rise_of_two_standard_deviations_is_a_turning_point(last, found):
    """The window's standard deviation is 0.2, the mean 5; what lies before it does not count."""
    assert is_turning_point([9.0, 1.0, 4.8, 5.2, 4.8, 5.2, last], window=4) is found


def test_the_window_must_be_full():
    assert not is_turning_point([1.0, 1.0, 9.0], window=3)
    assert is_turning_point([1.0, 1.0, 1.0, 9.0], window=3)


def test_trust_against_the_formula():
    assert label_trust([6.0, 4.0, 8.0], 0.3) == pytest.approx(math.exp(-0.3 * 8.0 / 4.0))
    assert label_trust([6.0, 4.0, 3.0], 0.3) == pytest.approx(math.exp(-0.3 * 3.0 / 4.0))
    assert label_trust([6.0], 0.1) == pytest.approx(math.exp(-0.1))


# -- the correction -----------------------------------------------------------------------------


class Engine:
    """Counts snapshots; the model's weights are the epoch in which they were made."""

    def __init__(self, model):
        self.model, self.calls = model, []

    def autocast(self, *, no_grad=False):
        return contextlib.nullcontext()

    def snapshot(self):
        self.calls.append("snapshot")
        return copy.deepcopy(self.model.state_dict())

    def rollback(self, snapshot):
        self.calls.append("rollback")
        self.model.load_state_dict(snapshot)


@pytest.fixture
def follow(make_net, make_batch, make_context, monkeypatch):
    """Give a correction a LID for each epoch, and return it after them, with its engine."""

    def run(correction, lids, num_epochs=10):
        engine = Engine(make_net())
        monkeypatch.setattr(D2L, "_measure", lambda self, context: lids[context.epoch - 1])
        for epoch in range(1, len(lids) + 1):
            context = make_context(epoch=epoch, num_epochs=num_epochs, engine=engine)
            if epoch == 1:
                correction.setup(context)
            correction.begin_epoch(context)
            with torch.no_grad():
                engine.model[0].bias.fill_(epoch)
            correction.end_epoch(context)
        return correction, engine

    return run


RISING = [5.0, 5.1, 4.9, 5.0, 6.0, 6.5]


def test_it_goes_back_to_the_end_of_the_epoch_before_the_rise(follow):
    correction, engine = follow(D2L(startup=0, window=3), RISING[:5])
    assert correction.turning_epoch_ == 5
    assert (engine.model[0].bias == 4).all()
    assert engine.calls == ["snapshot", "snapshot", "rollback"]  # after epochs 3 and 4
    assert correction.alpha_ == pytest.approx(math.exp(-0.5 * 6.0 / 4.9))
    assert correction.lid_ == RISING[:5]


def test_afterwards_the_labels_count_for_less_and_less(follow):
    correction, engine = follow(D2L(startup=0, window=3), [*RISING, 9.0])
    assert engine.calls.count("rollback") == 1
    assert correction.alpha_ == pytest.approx(math.exp(-0.7 * 9.0 / 4.9))


@pytest.mark.parametrize("startup", [5, 0.5])
def test_during_startup_no_rise_is_seen(follow, startup):
    correction, engine = follow(D2L(startup=startup, window=3), RISING[:5])
    assert correction.turning_epoch_ is None
    assert correction.alpha_ == 1.0
    assert engine.calls == ["snapshot"]  # for the first epoch that counts
    assert follow(D2L(startup=startup, window=3), RISING)[0].turning_epoch_ == 6


@pytest.mark.parametrize(("window", "turning"), [(4, 5), (0.4, 5), (2, 5), (0.0, 5)])
def test_the_window_is_a_number_or_a_fraction_and_at_least_two(follow, window, turning):
    correction, _ = follow(D2L(startup=0, window=window), [5.0, 5.1, 4.9, 5.05, 6.0])
    assert correction.turning_epoch_ == turning


def test_the_last_epoch_is_not_undone(follow):
    """Its accuracy is recorded already, and nothing comes after it."""
    correction, engine = follow(D2L(startup=0, window=3), RISING[:5], num_epochs=5)
    assert correction.turning_epoch_ is None
    assert (engine.model[0].bias == 5).all()


def test_an_epoch_without_a_measurement_is_left_out(follow):
    lids = [5.0, math.nan, 5.1, 4.9, 5.0, 6.0, math.nan]
    correction, _ = follow(D2L(startup=0, window=3), lids)
    assert correction.turning_epoch_ == 6
    assert correction.alpha_ == pytest.approx(math.exp(-0.7 * 6.0 / 4.9))
    np.testing.assert_array_equal(correction.lid_, lids)


def test_loss_against_numpy(follow, make_batch, make_context, reference):
    correction, _ = follow(D2L(startup=0, window=3), RISING)
    model, batch, recorded = torch.nn.Linear(2, 3), make_batch(), []
    context = make_context(record=lambda *pair: recorded.append(pair))
    losses = correction.loss(model, batch, context)
    log_h = reference.log_probs(model, batch.inputs.double().numpy())
    alpha = math.exp(-0.6 * 6.5 / 4.9)
    guesses = reference.one_hot(log_h.argmax(axis=1))
    targets = alpha * reference.one_hot(batch.labels) + (1.0 - alpha) * guesses
    assert losses.dtype == torch.float32
    np.testing.assert_allclose(losses.detach(), -(targets * log_h).sum(axis=1), rtol=1e-5)
    ((indices, plain),) = recorded
    assert torch.equal(indices, batch.indices)
    np.testing.assert_allclose(plain, -log_h[np.arange(12), batch.labels], rtol=1e-5)


def test_until_then_it_is_cross_entropy(follow, make_net, make_batch, make_context):
    correction, _ = follow(D2L(startup=0, window=3), RISING[:4])
    ours, plain = (
        each.loss(make_net(), make_batch(), make_context()) for each in (correction, CrossEntropy())
    )
    assert torch.equal(ours, plain)


@pytest.mark.parametrize(
    ("sizes", "groups"),
    [([100] * 14, 10), ([128] * 11 + [80], 10), ([3000, 700], 10), ([40, 40], 1), ([100, 40], 1)],
)
def test_what_is_measured(make_net, make_batch, make_context, sizes, groups):
    """The last 1,280 samples, in eval mode, in groups of 128 where there are."""
    engine = Engine(make_net())
    correction = D2L(neighbors=7)
    context = make_context(engine=engine, batch_size=sizes[0], num_epochs=10)
    correction.setup(context)
    correction.begin_epoch(context)
    batches = [make_batch(size=size, seed=seed) for seed, size in enumerate(sizes)]
    for batch in batches:
        correction.loss(engine.model, batch, context)
    correction.end_epoch(context)
    assert engine.model.training
    engine.model.eval()
    inputs = torch.cat([batch.inputs for batch in batches])[-1280:]
    with torch.no_grad():
        features = engine.model[:-1](inputs)
    size = min(128, len(features))
    parts = [features[size * i : size * (i + 1)].double().numpy() for i in range(groups)]
    expected = np.concatenate([brute_force_lid(part, 7) for part in parts])
    assert len(expected) == groups * size
    np.testing.assert_allclose(correction.lid_, [expected.mean()], rtol=1e-4)


def test_over_processes_it_is_the_mean_of_all_samples(make_net, make_batch, make_context):
    """Here those of the others have a sum of 900 and are 60."""
    own, correction = [], D2L(neighbors=7)

    def all_mean(total):
        own.append(total)
        return (total + torch.tensor([900.0, 60.0])) / 2.0

    context = make_context(engine=Engine(make_net()), all_mean=all_mean)
    correction.setup(context)
    correction.begin_epoch(context)
    correction.loss(context.engine.model, make_batch(size=40), context)
    correction.end_epoch(context)
    ((added, number),) = own
    assert correction.lid_ == pytest.approx([(float(added) + 900.0) / (float(number) + 60.0)])


def test_a_collapsed_network_is_not_measured(make_net, make_batch, make_context):
    engine, correction = Engine(make_net()), D2L()
    context = make_context(engine=engine)
    correction.setup(context)
    correction.begin_epoch(context)
    correction.loss(engine.model, make_batch(), context)
    with torch.no_grad():
        engine.model[0].weight.zero_()
    correction.end_epoch(context)
    np.testing.assert_array_equal(correction.lid_, [math.nan])
    assert correction.alpha_ == 1.0


@pytest.mark.parametrize("epochs", [4, 6])
def test_state(follow, epochs):
    """Before the rise it has a snapshot to go back to, after it a weight of the labels."""
    first, _ = follow(D2L(startup=0, window=3), RISING[:epochs])
    second = D2L(startup=0, window=3)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    assert (second.lid_, second.alpha_) == (first.lid_, first.alpha_)
    assert second.turning_epoch_ == first.turning_epoch_
    assert (first.state_dict()["snapshot"] is None) == (epochs == 6)


def test_a_second_run_begins_afresh(follow, make_context):
    for epochs in (4, 6):
        correction, _ = follow(D2L(startup=0, window=3), RISING[:epochs])
        correction.setup(make_context())
        assert correction.state_dict() == D2L().state_dict()


EPOCHS = "a number of epochs (int >= 0) or a fraction of the run in [0.0, 1.0]"


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("startup", 1.5, EPOCHS),
        ("startup", -1, EPOCHS),
        ("startup", "auto", EPOCHS),
        ("window", 1.5, EPOCHS),
        ("window", 1, "an int in the range [2, inf)"),
        ("window", "5", "an int in the range [2, inf)"),
        ("neighbors", 1, "an int in the range [2, inf)"),
        ("neighbors", 0.5, "an int in the range [2, inf)"),
    ],
)
def test_parameters_out_of_range(make_context, name, value, expected):
    message = f"The {name!r} parameter of D2L must be {expected}. Got {value!r} instead."
    with pytest.raises(InvalidParameterError, match=f"^{re.escape(message)}$"):
        D2L(**{name: value}).setup(make_context())


class PowerCut(Callback):
    def __init__(self, epoch):
        self.epoch = epoch

    def on_epoch_begin(self, trainer, epoch):
        if epoch == self.epoch + 1:
            raise RuntimeError("power cut")


@pytest.fixture
def train(make_net, make_data):
    """Train on points in the plane, a third of whose labels are wrong and get memorised."""

    def run(*, net_seed=0, seed=0, resume=False, **settings):
        trainer = NoisyLabelTrainer(
            make_net(seed=net_seed),
            correction=D2L(startup=1, window=2),
            epochs=20,
            batch_size=16,
            device="cpu",
            random_state=seed,
            **settings,
        )
        return trainer.fit(make_data(size=300), resume=resume)

    return run


def test_in_a_run_the_rise_is_found(train):
    trainer = train()
    correction = trainer.correction_
    assert len(correction.lid_) == 20
    assert 3 <= correction.turning_epoch_ < 20
    assert 0.0 < correction.alpha_ < 1.0
    assert trainer.loss_history_.shape == (300, 20)


@pytest.mark.parametrize("before", [1, 0])
def test_a_run_that_ends_about_the_rise_is_resumed_to_the_same_bits(train, tmp_path, before):
    """The epoch to go back to is in the checkpoint, and what was gone back to."""
    unbroken = train()
    epoch = unbroken.correction_.turning_epoch_ - before
    with pytest.raises(RuntimeError, match="power cut"):
        train(checkpoint_dir=tmp_path, callbacks=[PowerCut(epoch)])
    resumed = train(checkpoint_dir=tmp_path, resume=True, net_seed=7, seed=None)
    assert resumed.correction_.turning_epoch_ == unbroken.correction_.turning_epoch_
    assert resumed.correction_.lid_ == unbroken.correction_.lid_
    np.testing.assert_array_equal(resumed.losses_, unbroken.losses_)
