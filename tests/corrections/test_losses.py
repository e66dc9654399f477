"""The per-sample losses against numpy in float64, written from the formulae."""

import numpy as np
import pytest
import torch

from lossnoise.corrections.losses import class_prior_divergence, cross_entropy, hard_bootstrap


def log_softmax(logits):
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def draw(batch, num_classes, seed=0, scale=3.0):
    rng = np.random.default_rng(seed)
    logits = torch.tensor(rng.normal(scale=scale, size=(batch, num_classes)), dtype=torch.float32)
    labels, guesses = torch.tensor(rng.integers(num_classes, size=(2, batch)))
    return logits, labels, guesses, torch.tensor(rng.uniform(size=batch), dtype=torch.float32)


def divergence(logits):
    """R = sum_c p_c log(p_c / hbar_c) with p_c = 1 / C, straight from the formula."""
    mean = np.exp(log_softmax(logits)).mean(axis=0)
    prior = 1.0 / logits.shape[1]
    return sum(prior * np.log(prior / h) for h in mean)


def divergence_gradient(logits):
    """dR/ds_ij = sum_c -(1 / (C hbar_c)) h_ic (delta_cj - h_ij) / n."""
    h = np.exp(log_softmax(logits))
    n, num_classes = h.shape
    outer = -1.0 / (num_classes * h.mean(axis=0)) / n
    return h * (outer - (h * outer).sum(axis=1, keepdims=True))


@pytest.mark.parametrize("num_classes", [2, 10, 100])
def test_cross_entropy_is_minus_the_log_probability(num_classes):
    logits, labels, *_ = draw(32, num_classes)
    expected = -log_softmax(logits.double().numpy())[np.arange(32), labels]
    np.testing.assert_allclose(cross_entropy(logits, labels), expected, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("num_classes", [2, 10, 100])
def test_hard_bootstrap_mixes_label_and_guess(num_classes):
    logits, labels, guesses, weights = draw(32, num_classes)
    log_h, w = log_softmax(logits.double().numpy()), weights.double().numpy()
    target = (1.0 - w)[:, None] * np.eye(num_classes)[labels]
    target += w[:, None] * np.eye(num_classes)[guesses]
    expected = -(target * log_h).sum(axis=1)
    losses = hard_bootstrap(logits, labels, guesses, weights)
    np.testing.assert_allclose(losses, expected, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_weights_of_0_and_1_are_cross_entropy_with_label_and_guess(weight):
    logits, labels, guesses, _ = draw(32, 10)
    losses = hard_bootstrap(logits, labels, guesses, torch.full((32,), weight))
    expected = cross_entropy(logits, guesses if weight else labels)
    torch.testing.assert_close(losses, expected)


@pytest.mark.parametrize("num_classes", [10, 100])
def test_class_prior_divergence_and_its_gradient(num_classes):
    logits = draw(64, num_classes)[0].requires_grad_()
    value = class_prior_divergence(logits)
    value.backward()
    reference = logits.detach().double().numpy()
    assert value.item() == pytest.approx(divergence(reference), rel=1e-4)
    np.testing.assert_allclose(logits.grad, divergence_gradient(reference), rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("num_classes", [10, 100])
def test_class_prior_divergence_is_0_for_evenly_spread_predictions(num_classes):
    even = 8.0 * torch.eye(num_classes).repeat(3, 1)
    assert class_prior_divergence(even).item() == pytest.approx(0.0, abs=1e-5)
    assert class_prior_divergence(even[:2]).item() > 1.0


def one_of_each(logits, labels, guesses, weights):
    return {
        "cross-entropy": cross_entropy(logits, labels),
        "bootstrap": hard_bootstrap(logits, labels, guesses, weights),
        "class prior": class_prior_divergence(logits),
    }


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_losses_are_float32_whatever_the_logits_are(dtype):
    logits, labels, guesses, weights = draw(32, 10)
    low = one_of_each(logits.to(dtype), labels, guesses, weights)
    high = one_of_each(logits.to(dtype).float(), labels, guesses, weights)
    for name, losses in low.items():
        assert losses.dtype == torch.float32, name
        assert torch.equal(losses, high[name]), name


@pytest.mark.parametrize("scale", [1e-3, 1e3, 1e30])
def test_values_and_gradients_are_finite_for_extreme_logits(scale):
    logits, labels, guesses, weights = draw(32, 10, scale=scale)
    for name in one_of_each(logits, labels, guesses, weights):
        leaf = logits.clone().requires_grad_()
        value = one_of_each(leaf, labels, guesses, weights)[name].sum()
        value.backward()
        assert value.isfinite(), name
        assert leaf.grad.isfinite().all(), name
