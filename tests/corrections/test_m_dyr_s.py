"""M-DYR-S on small models, against numpy in float64; the rest is in test_dynamic.py."""

import numpy as np
import pytest
import torch

from lossnoise.corrections import DyrS, MDyrS
from lossnoise.corrections.mixing import draw_mixing_weight, draw_partners


@pytest.mark.parametrize(("class_balance", "eta"), [("auto", 1.0), (0.0, 0.0)])
def test_loss_against_numpy(make_batch, make_context, reference, class_balance, eta):
    """Equation 14 of Arazo et al. with soft guesses of the unmixed samples, plus eta R."""
    model, batch = torch.nn.Linear(2, 3), make_batch()
    x, y, same = batch.inputs.double().numpy(), batch.labels.numpy(), make_context(seed=3)
    d, q = draw_mixing_weight(4.0, same.rng), draw_partners(12, same.generator).numpy()
    unmixed = reference.log_probs(model, x)
    w = reference.posterior(-unmixed[np.arange(12), y])[:, None]
    targets = (1.0 - w) * reference.one_hot(y) + w * np.exp(unmixed)
    log_h = reference.log_probs(model, d * x + (1.0 - d) * x[q])
    expected = -((d * targets + (1.0 - d) * targets[q]) * log_h).sum(axis=1)
    expected += eta * reference.divergence(log_h)
    context = make_context(seed=3, epoch=3, noise_proba=reference.posterior)
    losses = MDyrS(alpha=4.0, warmup=2, class_balance=class_balance).loss(model, batch, context)
    assert losses.dtype == torch.float32
    np.testing.assert_allclose(losses.detach(), expected, rtol=1e-5)


def test_with_a_share_of_1_nothing_is_mixed(make_batch, make_context, reference, monkeypatch):
    monkeypatch.setattr("lossnoise.corrections.m_dyr_h.draw_mixing_weight", lambda *draw: 1.0)
    model, batch = torch.nn.Linear(2, 3), make_batch()
    ours, unmixed = (
        correction.loss(model, batch, make_context(noise_proba=reference.posterior))
        for correction in (MDyrS(warmup=0), DyrS(warmup=0))
    )
    torch.testing.assert_close(ours, unmixed)
