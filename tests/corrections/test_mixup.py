"""Mixup on a linear model, against numpy in float64."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lossnoise.corrections import Mixup
from lossnoise.corrections.mixing import draw_mixing_weight, draw_partners
from lossnoise.exceptions import InvalidParameterError


@pytest.mark.parametrize("alpha", [0.4, 32.0])
def test_loss_against_numpy(make_batch, make_context, alpha):
    model, batch = torch.nn.Linear(2, 3), make_batch()
    losses = Mixup(alpha=alpha).loss(model, batch, make_context(seed=5))

    same = make_context(seed=5)
    d = draw_mixing_weight(alpha, same.rng)
    q = draw_partners(12, same.generator).numpy()
    x, y = batch.inputs.double().numpy(), batch.labels.numpy()
    weight, bias = (p.detach().double().numpy() for p in model.parameters())
    logits = (d * x + (1.0 - d) * x[q]) @ weight.T + bias
    log_h = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    rows = np.arange(12)
    expected = -d * log_h[rows, y] - (1.0 - d) * log_h[rows, y[q]]
    np.testing.assert_allclose(losses.detach(), expected, rtol=1e-5)


@pytest.mark.parametrize("alpha", [0.0, -1.0, float("inf"), "32"])
def test_alpha_must_be_positive(make_context, alpha):
    message = (
        "The 'alpha' parameter of Mixup must be a float in the range (0.0, inf). "
        f"Got {alpha!r} instead."
    )
    with pytest.raises(InvalidParameterError, match=f"^{re.escape(message)}$"):
        Mixup(alpha=alpha).setup(make_context())


def test_what_a_module_returns_is_mixed_in_place_of_the_inputs(make_batch, make_context):
    """After a linear layer that is the same thing; after a ReLU it is another."""
    torch.manual_seed(0)  # of some weights, no sample of the batch has the ReLU bend
    model, batch = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.ReLU()), make_batch()
    model.append(torch.nn.Linear(4, 3))

    def loss(correction):
        correction.setup(make_context(engine=SimpleNamespace(model=model)))
        return correction.loss(model, batch, make_context(seed=2))

    torch.testing.assert_close(loss(Mixup(mix_at="0")), loss(Mixup()))
    assert not torch.allclose(loss(Mixup(mix_at="1")), loss(Mixup()))


@pytest.mark.parametrize(
    ("model", "names"),
    [
        (torch.nn.Linear(2, 3), "it has none"),
        (torch.nn.Sequential(torch.nn.Linear(2, 3)), "'0'"),
        (torch.nn.Sequential(*[torch.nn.ReLU()] * 5, torch.nn.Tanh()), "'0', '5'"),
        (torch.nn.ModuleList([torch.nn.ReLU() for _ in range(6)]), "'0', '1', '2', '3', '4', ..."),
    ],
)
@pytest.mark.parametrize("value", ["embedding", "", 7])
def test_mix_at_must_be_a_module(make_context, model, names, value):
    message = (
        f"The 'mix_at' parameter of Mixup must be the name of a module of the model ({names}). "
        f"Got {value!r} instead."
    )
    with pytest.raises(InvalidParameterError, match=f"^{re.escape(message)}$"):
        Mixup(mix_at=value).setup(make_context(engine=SimpleNamespace(model=model)))
