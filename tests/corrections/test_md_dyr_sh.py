"""MD-DYR-SH on small models, against numpy in float64: the loss and its temperature."""

import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lossnoise.corrections import MDDyrH, MDDyrSH
from lossnoise.corrections.base import EpochContext
from lossnoise.corrections.mixing import draw_partners
from lossnoise.exceptions import InvalidParameterError


@pytest.mark.parametrize(("epoch", "temperature"), [(2, 1.0), (4, 0.5005), (6, 0.001), (10, 0.001)])
def test_loss_against_numpy(make_batch, make_context, reference, epoch, temperature):
    """As MD-DYR-H, with z = softmax(s / T) of the unmixed logits s."""
    model, batch = torch.nn.Linear(2, 3), make_batch()
    x, y = batch.inputs.double().numpy(), batch.labels.numpy()
    q = draw_partners(12, make_context(seed=3).generator).numpy()
    logits = reference.logits(model, x)
    w = reference.posterior(-reference.log_softmax(logits)[np.arange(12), y])[:, None]
    guesses = np.exp(reference.log_softmax(logits / temperature))
    targets = (1.0 - w) * reference.one_hot(y) + w * guesses
    share = (1.0 - w) / ((1.0 - w) + (1.0 - w[q]))
    log_h = reference.log_probs(model, share * x + (1.0 - share) * x[q])
    expected = -((targets + targets[q]) / 2.0 * log_h).sum(axis=1) + reference.divergence(log_h)
    correction = MDDyrSH(warmup=1, dynamic_mixup=0, anneal=4)
    context = make_context(seed=3, epoch=epoch, noise_proba=reference.posterior)
    assert correction.temperature(context) == pytest.approx(temperature, rel=1e-12)
    losses = correction.loss(model, batch, context)
    assert losses.dtype == torch.float32
    np.testing.assert_allclose(losses.detach(), expected, rtol=1e-4)


def temperatures(correction, num_epochs, epochs=None):
    """Return T of each epoch, from 1."""
    context = EpochContext(0, num_epochs, 3, 96, 12, None, None, None, None, None)
    found = {}
    for context.epoch in epochs or range(1, num_epochs + 1):
        found[context.epoch] = correction.temperature(context)
    return found


@pytest.mark.parametrize(
    "correction",
    [
        MDDyrSH(warmup=105, dynamic_mixup=5, anneal=88),
        MDDyrSH(warmup=105 / 300),  # the defaults are those of the paper, as fractions
    ],
)
def test_the_temperature_of_the_papers_recipe(correction):
    for epoch, temperature in temperatures(correction, 300).items():
        expected = 1.0 - 0.999 * min(max(epoch - 111, 0), 88) / 88
        assert temperature == pytest.approx(expected, rel=1e-12), epoch


@given(
    num_epochs=st.integers(2, 400),
    warmup=st.one_of(st.integers(0, 400), st.floats(0.0, 1.0)),
    dynamic=st.one_of(st.integers(0, 20), st.floats(0.0, 0.1)),
    anneal=st.one_of(st.integers(1, 400), st.floats(0.3, 1.0)),
)
def test_the_temperature_falls_from_1_to_one_thousandth(num_epochs, warmup, dynamic, anneal):
    """Whatever the length of the run: it is 1 in the first epoch that bootstraps, and ends cold."""
    correction = MDDyrSH(warmup=warmup, dynamic_mixup=dynamic, anneal=anneal)

    def resolve(value):
        return round(value * num_epochs) if isinstance(value, float) else value

    first = resolve(warmup) + (max(1, resolve(dynamic)) if dynamic else 0) + 1
    last = first + resolve(anneal)
    found = temperatures(correction, num_epochs, range(1, last + 3))
    assert all(found[epoch] == 1.0 for epoch in range(1, first + 1))
    assert all(found[epoch] == pytest.approx(0.001) for epoch in range(last, last + 3))
    falling = [found[epoch] for epoch in range(first, last + 1)]
    np.testing.assert_allclose(np.diff(falling), -0.999 / resolve(anneal), rtol=1e-6)


def test_without_annealing_it_is_cold_at_once():
    assert temperatures(MDDyrSH(warmup=2, dynamic_mixup=0, anneal=0), 5)[3] == 0.001


def test_at_the_end_it_is_the_hard_method(make_batch, make_context, reference):
    model, batch = torch.nn.Linear(2, 3), make_batch()
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[12.0, 3.0], [-9.0, 14.0], [-4.0, -16.0]]))
        model.bias.copy_(torch.tensor([0.3, -0.2, 0.1]))  # no two classes are nearly as probable
    settings = {"warmup": 1, "dynamic_mixup": 1}
    ours, hard = (
        correction.loss(model, batch, make_context(epoch=9, noise_proba=reference.posterior))
        for correction in (MDDyrSH(**settings, anneal=2), MDDyrH(**settings))
    )
    torch.testing.assert_close(ours, hard, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("precision", [None, torch.bfloat16])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_gradients_are_finite_at_the_lowest_temperature(
    make_net, make_batch, make_context, reference, precision, scale
):
    model, batch = make_net(), make_batch()
    with torch.no_grad():
        model[-1].weight.mul_(scale)
    context = make_context(epoch=9, noise_proba=reference.posterior)
    correction = MDDyrSH(warmup=0, dynamic_mixup=0, anneal=1)
    assert correction.temperature(context) == pytest.approx(0.001)
    with torch.autocast("cpu", dtype=precision, enabled=precision is not None, cache_enabled=False):
        losses = correction.loss(model, batch, context)
    assert losses.dtype == torch.float32
    losses.mean().backward()
    assert losses.isfinite().all()
    for name, parameter in model.named_parameters():
        assert parameter.grad.isfinite().all(), name
    assert model[0].weight.grad.abs().sum() > 0.0


@pytest.mark.parametrize("value", [-1, 1.5, True, "88", None])
def test_anneal_out_of_range(make_context, value):
    message = (
        "The 'anneal' parameter of MDDyrSH must be a number of epochs (int >= 0) or a fraction "
        f"of the run in [0.0, 1.0]. Got {value!r} instead."
    )
    with pytest.raises(InvalidParameterError, match=f"^{re.escape(message)}$"):
        MDDyrSH(anneal=value).setup(make_context())
