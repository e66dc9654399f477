"""Mixup as functions: the draws, the mixtures, the refusal of integers."""

import re

import numpy as np
import pytest
import torch
from scipy import stats

from lossnoise.corrections.mixing import (
    draw_mixing_weight,
    draw_partners,
    mix_inputs,
    mix_losses,
)
from lossnoise.exceptions import InvalidDataError


@pytest.mark.parametrize("alpha", [0.5, 32.0])
def test_mixing_weights_follow_the_beta_distribution(alpha):
    rng = np.random.default_rng(0)
    weights = [draw_mixing_weight(alpha, rng) for _ in range(2000)]
    assert stats.kstest(weights, stats.beta(alpha, alpha).cdf).pvalue > 0.01


def test_partners_are_a_permutation_drawn_from_the_generator():
    first, again = (draw_partners(50, torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(first, again)
    assert first.dtype == torch.int64
    assert first.sort().values.tolist() == list(range(50))
    assert first.tolist() != list(range(50))


@pytest.mark.parametrize("shape", [(4, 3), (4, 2, 3, 3)])
@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_inputs_are_mixed_with_their_partners(shape, weight):
    inputs = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    partners = torch.tensor([2, 3, 1, 0])
    before = inputs.clone()
    x = inputs.double().numpy()
    expected = weight * x + (1.0 - weight) * x[partners]
    np.testing.assert_allclose(mix_inputs(inputs, partners, weight), expected, atol=1e-6)
    assert torch.equal(inputs, before)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_mixed_inputs_keep_their_type(dtype):
    assert mix_inputs(torch.ones(2, 3, dtype=dtype), torch.tensor([1, 0]), 0.4).dtype == dtype


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_losses_are_mixed_by_the_same_weight(weight):
    own, partner = torch.tensor([1.0, 2.0]), torch.tensor([3.0, 7.0])
    expected = [weight + (1.0 - weight) * 3.0, weight * 2.0 + (1.0 - weight) * 7.0]
    np.testing.assert_allclose(mix_losses(own, partner, weight), expected, rtol=1e-6)


def test_without_mixing_nothing_changes():
    inputs, losses = torch.randn(4, 3), torch.rand(4)
    partners = torch.tensor([1, 0, 3, 2])
    assert torch.equal(mix_inputs(inputs, partners, 1.0), inputs)
    assert torch.equal(mix_losses(losses, losses[partners], 1.0), losses)


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool])
def test_integers_cannot_be_averaged(dtype):
    message = (
        f"The 'inputs' parameter of mixup must be floating-point tensors. Got {dtype} instead: "
        "inputs such as token ids cannot be averaged. Name the module whose output can be, such as "
        "mix_at='embedding', or use a correction that does not mix, such as 'dyr-h' or "
        "'cross-entropy'."
    )
    with pytest.raises(InvalidDataError, match=f"^{re.escape(message)}$"):
        mix_inputs(torch.ones(2, 3, dtype=dtype), torch.tensor([1, 0]), 0.5)
