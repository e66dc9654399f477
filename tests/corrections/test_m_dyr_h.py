"""M-DYR-H on small models, against numpy in float64."""

import itertools
import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from lossnoise.corrections import MDyrH, Mixup
from lossnoise.corrections.mixing import draw_mixing_weight, draw_partners
from lossnoise.exceptions import CollapseWarning, InvalidParameterError, SmallBatchWarning

ROWS = np.arange(12)


def posterior(losses):
    """Stand in for the fitted mixture."""
    return torch.sigmoid(2.0 * (losses - 1.0))


def log_softmax(logits):
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def expected_losses(model, batch, context, alpha, eta):
    """Equation 14 of Arazo et al. with hard guesses, plus eta R."""
    weight, bias = (p.detach().double().numpy() for p in model.parameters())
    x, y = batch.inputs.double().numpy(), batch.labels.numpy()
    unmixed = log_softmax(x @ weight.T + bias)
    z, w = unmixed.argmax(axis=1), 1.0 / (1.0 + np.exp(-2.0 * (-unmixed[ROWS, y] - 1.0)))
    d = draw_mixing_weight(alpha, context.rng)
    q = draw_partners(12, context.generator).numpy()
    log_h = log_softmax((d * x + (1.0 - d) * x[q]) @ weight.T + bias)
    targets = (1.0 - w)[:, None] * np.eye(3)[y] + w[:, None] * np.eye(3)[z]
    losses = -((d * targets + (1.0 - d) * targets[q]) * log_h).sum(axis=1)
    mean = np.exp(log_h).mean(axis=0)
    return losses + eta * (np.log(1.0 / 3.0 / mean) / 3.0).sum()


@pytest.mark.parametrize(
    ("class_balance", "eta"), [("auto", 1.0), (0.0, 0.0), (1.0, 1.0), (0.25, 0.25)]
)
def test_loss_against_numpy(make_batch, make_context, class_balance, eta):
    model, batch = torch.nn.Linear(2, 3), make_batch()
    correction = MDyrH(alpha=4.0, warmup=2, class_balance=class_balance)
    context = make_context(seed=3, epoch=3, noise_proba=posterior)
    losses = correction.loss(model, batch, context)
    expected = expected_losses(model, batch, make_context(seed=3), 4.0, eta)
    np.testing.assert_allclose(losses.detach(), expected, rtol=1e-5)


@pytest.mark.parametrize(("class_balance", "eta"), [("auto", 0.0), (1.0, 1.0)])
def test_a_batch_too_small_to_balance(make_batch, make_context, class_balance, eta):
    """Five samples cannot be spread over three classes: "auto" leaves the term out."""
    model, batch = torch.nn.Linear(2, 3), make_batch(size=5)
    with_term, without = (
        MDyrH(warmup=0, class_balance=balance).loss(
            model, batch, make_context(noise_proba=posterior)
        )
        for balance in (class_balance, 0.0)
    )
    difference = (with_term - without).detach()
    assert torch.allclose(difference, difference.mean().expand(5), atol=1e-6)
    assert (difference.mean() > 1e-4) == bool(eta)


WARM_UP = pytest.mark.parametrize(
    ("warmup", "epoch", "fitted"), [(3, 1, True), (3, 3, True), (0.5, 5, True), (0, 1, False)]
)


@WARM_UP
@pytest.mark.parametrize("sweep", ["running", "epoch"])
def test_warm_up_is_mixup(make_net, make_batch, make_context, warmup, epoch, fitted, sweep):
    noise_proba = posterior if fitted else None
    results = []
    for correction in (MDyrH(alpha=7.0, warmup=warmup, sweep=sweep), Mixup(alpha=7.0)):
        model, context = make_net(), make_context(seed=1, epoch=epoch, noise_proba=noise_proba)
        losses = correction.loss(model, make_batch(), context)
        losses.mean().backward()
        results.append([losses, model[0].weight.grad, context.generator.get_state()])
        if sweep == "epoch":  # no forward pass of unmixed inputs, which BatchNorm would notice
            results[-1] += list(model.state_dict().values())
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize("sweep", ["running", "epoch"])
@pytest.mark.parametrize("epoch", [1, 2, 3, 4])
def test_losses_are_recorded_from_the_last_warm_up_epoch_on(
    make_net, make_batch, make_context, epoch, sweep
):
    recorded = []
    context = make_context(
        epoch=epoch, noise_proba=posterior, record=lambda *pair: recorded.append(pair)
    )
    batch = make_batch()
    MDyrH(warmup=3, sweep=sweep).loss(make_net(), batch, context)
    assert len(recorded) == (sweep == "running" and epoch >= 3)
    for indices, losses in recorded:
        expected = torch.nn.functional.cross_entropy(
            make_net()(batch.inputs), batch.labels, reduction="none"
        )
        assert torch.equal(indices, batch.indices)
        assert torch.equal(losses, expected.detach())
        assert not losses.requires_grad


def test_bootstrapping_is_suspended_after_a_collapse_for_longer_each_time(make_batch, make_context):
    correction, batch = MDyrH(warmup=1), make_batch()
    model = torch.nn.Sequential(torch.nn.Linear(2, 3))
    angles = 2.0 * torch.pi * torch.arange(3) / 3  # each class has a third of the plane
    model[0].weight.data = torch.stack([angles.cos(), angles.sin()], dim=1)
    epoch, now = itertools.count(1), [0.1]

    def train(favourite=None, *, as_mixup, rate=0.1):
        """Train one batch with a network that guesses one class, or as it was made.

        The next epoch has the learning rate `rate`.
        """
        number = next(epoch)
        with torch.no_grad():
            model[-1].bias.zero_()
            if favourite is not None:
                model[-1].bias[favourite] = 100.0
        context = make_context(
            seed=1, epoch=number, num_epochs=24, noise_proba=posterior, learning_rate=now[0]
        )
        now[0] = rate
        correction.begin_epoch(context)
        losses = correction.loss(model, batch, context)
        context = make_context(seed=1, epoch=number, num_epochs=24, learning_rate=rate)
        assert torch.equal(losses, Mixup().loss(model, batch, context)) == as_mixup
        correction.end_epoch(context)

    train(as_mixup=True)  # warm-up
    train(as_mixup=False)
    until = "until the learning rate has halved, for"
    with pytest.warns(CollapseWarning, match=rf"on 1\.0 of 3 .* epoch 3, .* {until} 1 to 6 epochs"):
        train(0, as_mixup=False)
    train(1, as_mixup=True, rate=0.05)  # it has halved, but the guesses have not spread
    train(as_mixup=True, rate=0.05)
    with pytest.warns(CollapseWarning, match=rf"on 1\.0 of 3 .* epoch 6, .* {until} 2 to 6 epochs"):
        train(2, as_mixup=False, rate=0.01)  # from the next epoch on: it collapsed at 0.05
    state = correction.state_dict()
    correction = MDyrH(warmup=1)
    correction.load_state_dict(state)
    assert correction.state_dict() == state
    train(as_mixup=True, rate=0.01)  # they have spread, and it has halved, but not for long enough
    train(as_mixup=True, rate=0.01)
    train(as_mixup=False, rate=0.01)
    with pytest.warns(CollapseWarning, match=rf"epoch 10, .* {until} 4 to 6 epochs"):
        train(0, as_mixup=False, rate=0.01)
    for as_mixup in (True, True, True, True, True, True, False):  # it never halves again
        train(as_mixup=as_mixup, rate=0.006)
    with pytest.warns(CollapseWarning, match=r"epoch 18, .* for the rest of the run"):
        train(0, as_mixup=False)
    for _ in range(6):
        train(as_mixup=True, rate=0.0)


@pytest.mark.parametrize("sweep", ["running", "epoch"])
@pytest.mark.parametrize("num_classes", [2, 3])
def test_a_collapse_as_bootstrapping_begins_is_seen(make_batch, make_context, num_classes, sweep):
    """Of two classes too, and where the warm-up made no guesses to compare with."""
    correction = MDyrH(warmup=2, sweep=sweep)
    batch = make_batch(num_classes=num_classes)
    model = torch.nn.Linear(2, num_classes)
    context = replace(make_context(noise_proba=posterior), num_classes=num_classes)
    for number in (1, 2, 3):
        with torch.no_grad():
            model.weight.copy_(torch.eye(3, 2)[:num_classes] * (number < 3))
            model.bias.copy_(torch.tensor([100.0, 0.0, 0.0])[:num_classes] * (number == 3))
        correction.begin_epoch(replace(context, epoch=number))
        correction.loss(model, batch, replace(context, epoch=number))
        if number < 3:
            correction.end_epoch(replace(context, epoch=number))
    with pytest.warns(CollapseWarning, match=rf"on 1\.0 of {num_classes} classes"):
        correction.end_epoch(replace(context, epoch=3))
    assert correction.state_dict()["least"] == 1


def test_after_warm_up_it_is_not_mixup(make_net, make_batch, make_context):
    ours, mixup = (
        correction.loss(make_net(), make_batch(), make_context(epoch=4, noise_proba=posterior))
        for correction in (MDyrH(warmup=3), Mixup())
    )
    assert not torch.allclose(ours, mixup)


def test_the_second_opinion_is_in_train_mode_and_without_gradient(make_batch, make_context):
    seen = []

    class Watched(torch.nn.Linear):
        def forward(self, inputs):
            logits = super().forward(inputs)
            seen.append((self.training, torch.is_grad_enabled(), logits.requires_grad, inputs))
            return logits

    model, batch = Watched(2, 3), make_batch()
    model.train()
    losses = MDyrH(warmup=0).loss(model, batch, make_context(noise_proba=posterior))
    opinion, mixed = seen
    assert opinion[:3] == (True, False, False)
    assert torch.equal(opinion[3], batch.inputs)
    assert mixed[:3] == (True, True, True)
    assert losses.requires_grad
    losses.mean().backward()
    assert model.weight.grad.isfinite().all()


def test_the_gradient_is_that_of_fixed_targets(make_batch, make_context):
    """Guess and weight are constants: shifting the posterior's argument moves no gradient path."""
    model, batch = torch.nn.Linear(2, 3), make_batch()

    def gradient(noise_proba):
        model.zero_grad()
        context = make_context(noise_proba=noise_proba)
        MDyrH(warmup=0, class_balance=0.0).loss(model, batch, context).mean().backward()
        return model.weight.grad.clone()

    with torch.no_grad():
        constant = posterior(
            torch.nn.functional.cross_entropy(model(batch.inputs), batch.labels, reduction="none")
        )
    torch.testing.assert_close(gradient(posterior), gradient(lambda losses: constant))


@pytest.mark.parametrize("class_balance", ["auto", 1.0])
@pytest.mark.parametrize("size", [{"batch_size": 5}, {"batch_size": 64, "num_samples": 5}])
def test_small_batches_are_warned_of_once_at_the_start(make_context, class_balance, size, recwarn):
    MDyrH(class_balance=class_balance).setup(make_context(**size))
    messages = [str(warning.message) for warning in recwarn]
    expected = (
        "Batches of 5 samples are too small to balance 3 classes: the class-balance term of MDyrH "
        "is off. Use batch_size >= 6, or set class_balance=1.0 to have it."
    )
    assert messages == ([expected] if class_balance == "auto" else [])
    assert all(warning.category is SmallBatchWarning for warning in recwarn)


def test_large_enough_batches_are_not_warned_of(make_context):
    MDyrH().setup(make_context(batch_size=6))


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("alpha", 0.0, "a float in the range (0.0, inf)"),
        (
            "warmup",
            1.5,
            "'auto', a number of epochs (int >= 0) or a fraction of the run in [0.0, 1.0]",
        ),
        ("sweep", "never", "one of 'epoch', 'running'"),
        ("class_balance", "on", "'auto' or a float >= 0"),
        ("class_balance", -1.0, "a float in the range [0.0, inf)"),
    ],
)
def test_parameters_out_of_range(make_context, name, value, expected):
    message = f"The {name!r} parameter of MDyrH must be {expected}. Got {value!r} instead."
    with pytest.raises(InvalidParameterError, match=f"^{re.escape(message)}$"):
        MDyrH(**{name: value}).setup(make_context())


def test_without_evidence_labels_are_trusted(make_net, make_batch, make_context):
    """Then w is 0, and what is left is mixup, but for the class balance."""
    batch, results = make_batch(), []
    for correction in (MDyrH(warmup=0, class_balance=0.0), Mixup()):
        context = make_context(seed=1, noise_proba=posterior)
        context.evidence = 0.0
        results.append(correction.loss(make_net(), batch, context))
    assert torch.allclose(*results, atol=1e-6)
