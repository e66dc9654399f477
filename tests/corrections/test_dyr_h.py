"""DYR-H on small models, against numpy in float64; the rest is in test_dynamic.py."""

import numpy as np
import pytest
import torch

from lossnoise.corrections import CrossEntropy, DyrH


@pytest.mark.parametrize(
    ("class_balance", "eta"), [("auto", 1.0), (0.0, 0.0), (1.0, 1.0), (0.25, 0.25)]
)
def test_loss_against_numpy(make_batch, make_context, reference, class_balance, eta):
    model, batch = torch.nn.Linear(2, 3), make_batch()
    log_h = reference.log_probs(model, batch.inputs.double().numpy())
    w = reference.posterior(-log_h[np.arange(12), batch.labels])[:, None]
    guesses = reference.one_hot(log_h.argmax(axis=1))
    targets = (1.0 - w) * reference.one_hot(batch.labels) + w * guesses
    expected = -(targets * log_h).sum(axis=1) + eta * reference.divergence(log_h)
    context = make_context(epoch=3, noise_proba=reference.posterior)
    losses = DyrH(warmup=2, class_balance=class_balance).loss(model, batch, context)
    assert losses.dtype == torch.float32
    np.testing.assert_allclose(losses.detach(), expected, rtol=1e-5)


def test_the_gradient_is_that_of_fixed_targets(make_batch, make_context, reference):
    batch = make_batch()
    logits = torch.randn(12, 3, generator=torch.Generator().manual_seed(2)).requires_grad_()
    context = make_context(noise_proba=reference.posterior)
    correction = DyrH(warmup=0, class_balance=0.0)
    correction.loss(lambda inputs: logits, batch, context).sum().backward()
    log_h = reference.log_softmax(logits.detach().double().numpy())
    w = reference.posterior(-log_h[np.arange(12), batch.labels])[:, None]
    guesses = reference.one_hot(log_h.argmax(axis=1))
    targets = (1.0 - w) * reference.one_hot(batch.labels) + w * guesses
    np.testing.assert_allclose(logits.grad, np.exp(log_h) - targets, atol=1e-6)


def test_one_forward_pass_gives_the_loss_and_what_it_is_made_of(
    make_net, make_batch, make_context, reference
):
    model, batch, calls, recorded = make_net(), make_batch(), [], []
    model.register_forward_hook(lambda *call: calls.append(call))
    context = make_context(
        noise_proba=reference.posterior, record=lambda *pair: recorded.append(pair)
    )
    DyrH(warmup=0).loss(model, batch, context)
    assert len(calls) == 1
    ((indices, losses),) = recorded
    plain = CrossEntropy().loss(make_net(), batch, make_context())
    assert torch.equal(indices, batch.indices)
    assert torch.equal(losses, plain.detach())
    assert not losses.requires_grad


@pytest.mark.parametrize(("sweep", "expected"), [("running", 1), ("epoch", 0)])
@pytest.mark.parametrize("epoch", [1, 3, 4])
def test_every_epoch_records_its_losses(
    make_net, make_batch, make_context, reference, sweep, expected, epoch
):
    recorded = []
    context = make_context(
        epoch=epoch, noise_proba=reference.posterior, record=lambda *pair: recorded.append(pair)
    )
    DyrH(warmup=3, sweep=sweep).loss(make_net(), make_batch(), context)
    assert len(recorded) == expected
