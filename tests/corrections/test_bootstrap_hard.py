"""Static hard bootstrapping against numpy in float64."""

import re

import numpy as np
import pytest
import torch

from lossnoise.corrections import BootstrapHard, CrossEntropy
from lossnoise.exceptions import InvalidParameterError


@pytest.mark.parametrize("weight", [0.2, 0.7, 1])
def test_loss_against_numpy(make_batch, make_context, reference, weight):
    model, batch = torch.nn.Linear(2, 3), make_batch()
    log_h = reference.log_probs(model, batch.inputs.double().numpy())
    guesses = log_h.argmax(axis=1)
    assert (guesses != batch.labels.numpy()).any()
    target = (1.0 - weight) * reference.one_hot(batch.labels) + weight * reference.one_hot(guesses)
    losses = BootstrapHard(weight=weight).loss(model, batch, make_context())
    assert losses.dtype == torch.float32
    np.testing.assert_allclose(losses.detach(), -(target * log_h).sum(axis=1), rtol=1e-5)


def test_a_weight_of_0_is_cross_entropy(make_net, make_batch, make_context):
    ours, plain = (
        correction.loss(make_net(), make_batch(), make_context())
        for correction in (BootstrapHard(weight=0.0), CrossEntropy())
    )
    torch.testing.assert_close(ours, plain)


@pytest.mark.parametrize("weight", [-0.1, 1.1, True, "0.2", None, float("nan")])
def test_a_weight_out_of_range(make_context, weight):
    message = (
        "The 'weight' parameter of BootstrapHard must be a float in the range [0.0, 1.0]. "
        f"Got {weight!r} instead."
    )
    with pytest.raises(InvalidParameterError, match=f"^{re.escape(message)}$"):
        BootstrapHard(weight=weight).setup(make_context())
