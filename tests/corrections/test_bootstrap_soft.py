"""Static soft bootstrapping against numpy in float64."""

import re

import numpy as np
import pytest
import torch

from lossnoise.corrections import BootstrapSoft, CrossEntropy
from lossnoise.exceptions import InvalidParameterError


@pytest.mark.parametrize("detach", [True, False])
@pytest.mark.parametrize("weight", [0.05, 0.7, 1])
def test_loss_against_numpy(make_batch, make_context, reference, weight, detach):
    model, batch = torch.nn.Linear(2, 3), make_batch()
    log_h = reference.log_probs(model, batch.inputs.double().numpy())
    target = (1.0 - weight) * reference.one_hot(batch.labels) + weight * np.exp(log_h)
    losses = BootstrapSoft(weight=weight, detach=detach).loss(model, batch, make_context())
    assert losses.dtype == torch.float32
    np.testing.assert_allclose(losses.detach(), -(target * log_h).sum(axis=1), rtol=1e-5)


@pytest.mark.parametrize("detach", [True, False])
def test_the_guess_is_a_constant_to_the_gradient_unless_asked_otherwise(
    make_batch, make_context, reference, detach
):
    """With h as z, -w h log h has the gradient -w h_j (log h_j + entropy) more."""
    batch, w = make_batch(), 0.4
    logits = torch.randn(12, 3, generator=torch.Generator().manual_seed(2)).requires_grad_()
    correction = BootstrapSoft(weight=w, detach=detach)
    correction.loss(lambda inputs: logits, batch, make_context()).sum().backward()
    log_h = reference.log_softmax(logits.detach().double().numpy())
    h = np.exp(log_h)
    expected = h - (1.0 - w) * reference.one_hot(batch.labels) - w * h
    if not detach:
        entropy = -(h * log_h).sum(axis=1, keepdims=True)
        expected -= w * h * (log_h + entropy)
    np.testing.assert_allclose(logits.grad, expected, atol=1e-6)


def test_a_weight_of_0_is_cross_entropy(make_net, make_batch, make_context):
    ours, plain = (
        correction.loss(make_net(), make_batch(), make_context())
        for correction in (BootstrapSoft(weight=0.0), CrossEntropy())
    )
    torch.testing.assert_close(ours, plain)


@pytest.mark.parametrize("weight", [-0.1, 1.1, True, "0.05", None, float("nan")])
def test_a_weight_out_of_range(make_context, weight):
    message = (
        "The 'weight' parameter of BootstrapSoft must be a float in the range [0.0, 1.0]. "
        f"Got {weight!r} instead."
    )
    with pytest.raises(InvalidParameterError, match=f"^{re.escape(message)}$"):
        BootstrapSoft(weight=weight).setup(make_context())


@pytest.mark.parametrize("detach", ["no", None, 0])
def test_whether_guesses_are_detached_is_yes_or_no(make_context, detach):
    message = (
        f"The 'detach' parameter of BootstrapSoft must be True or False. Got {detach!r} instead."
    )
    with pytest.raises(InvalidParameterError, match=f"^{re.escape(message)}$"):
        BootstrapSoft(detach=detach).setup(make_context())
