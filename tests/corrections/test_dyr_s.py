"""DYR-S on small models, against numpy in float64; the rest is in test_dynamic.py."""

import numpy as np
import pytest
import torch

from lossnoise.corrections import DyrS


@pytest.mark.parametrize(("class_balance", "eta"), [("auto", 1.0), (0.0, 0.0)])
def test_loss_against_numpy(make_batch, make_context, reference, class_balance, eta):
    model, batch = torch.nn.Linear(2, 3), make_batch()
    log_h = reference.log_probs(model, batch.inputs.double().numpy())
    w = reference.posterior(-log_h[np.arange(12), batch.labels])[:, None]
    targets = (1.0 - w) * reference.one_hot(batch.labels) + w * np.exp(log_h)
    expected = -(targets * log_h).sum(axis=1) + eta * reference.divergence(log_h)
    context = make_context(epoch=3, noise_proba=reference.posterior)
    losses = DyrS(warmup=2, class_balance=class_balance).loss(model, batch, context)
    assert losses.dtype == torch.float32
    np.testing.assert_allclose(losses.detach(), expected, rtol=1e-5)


def test_the_gradient_is_that_of_fixed_targets(make_batch, make_context, reference):
    batch = make_batch()
    logits = torch.randn(12, 3, generator=torch.Generator().manual_seed(2)).requires_grad_()
    context = make_context(noise_proba=reference.posterior)
    correction = DyrS(warmup=0, class_balance=0.0)
    correction.loss(lambda inputs: logits, batch, context).sum().backward()
    log_h = reference.log_softmax(logits.detach().double().numpy())
    w = reference.posterior(-log_h[np.arange(12), batch.labels])[:, None]
    targets = (1.0 - w) * reference.one_hot(batch.labels) + w * np.exp(log_h)
    np.testing.assert_allclose(logits.grad, np.exp(log_h) - targets, atol=1e-6)
