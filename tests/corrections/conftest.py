from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lossnoise.corrections.base import Batch, EpochContext


@pytest.fixture
def make_context():
    """A context that a correction can draw from; the same seed gives the same draws."""

    def make(seed=0, learning_rate=0.1, **given):
        model = torch.nn.Linear(2, 3)
        settings = {
            "epoch": 1,
            "num_epochs": 10,
            "num_classes": 3,
            "num_samples": 96,
            "batch_size": 12,
            "device": torch.device("cpu"),
            "rng": np.random.default_rng(seed),
            "generator": torch.Generator().manual_seed(seed),
            "engine": SimpleNamespace(
                model=model, learning_rate=learning_rate, autocast=lambda **_: nullcontext()
            ),
            "sweep": None,
        }
        return EpochContext(**(settings | given))

    return make


@pytest.fixture
def make_uneven(make_data):
    """A dataset with so many samples of each class, all with the right label."""

    def make(counts):
        inputs, labels = make_data(size=3 * max(counts), noise=0.0).tensors
        kept = torch.cat([torch.nonzero(labels == c)[:n, 0] for c, n in enumerate(counts)])
        return torch.utils.data.TensorDataset(inputs[kept], labels[kept])

    return make


def log_softmax(logits):
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def one_hot(classes, num_classes=3):
    return np.eye(num_classes)[classes]


def linear_logits(model, inputs):
    weight, bias = (p.detach().double().numpy() for p in model.parameters())
    return inputs @ weight.T + bias


def linear_log_probs(model, inputs):
    return log_softmax(linear_logits(model, inputs))


def divergence(log_probs, prior=None):
    """R = sum_c p_c log(p_c / hbar_c), straight from the formula."""
    mean = np.exp(log_probs).mean(axis=0)
    prior = np.full(len(mean), 1.0 / len(mean)) if prior is None else np.asarray(prior)
    return sum(p * np.log(p / h) for p, h in zip(prior, mean, strict=True) if p > 0.0)


def posterior(losses):
    """Stand in for the fitted mixture; losses may be torch's or numpy's."""
    if isinstance(losses, torch.Tensor):
        return torch.sigmoid(2.0 * (losses - 1.0))
    return 1.0 / (1.0 + np.exp(-2.0 * (losses - 1.0)))


@pytest.fixture
def reference():
    """The formulae in numpy, in float64, for models that are one linear layer."""
    return SimpleNamespace(
        log_softmax=log_softmax,
        one_hot=one_hot,
        logits=linear_logits,
        log_probs=linear_log_probs,
        divergence=divergence,
        posterior=posterior,
    )


@pytest.fixture
def make_batch():
    def make(size=12, num_classes=3, features=2, seed=0):
        generator = torch.Generator().manual_seed(seed)
        return Batch(
            torch.randn(size, features, generator=generator),
            torch.randint(num_classes, (size,), generator=generator),
            torch.arange(size),
        )

    return make
