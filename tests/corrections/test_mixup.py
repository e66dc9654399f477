"""Mixup on a linear model, against numpy in float64."""

import re

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
