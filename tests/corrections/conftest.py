from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lossnoise.corrections.base import Batch, EpochContext


@pytest.fixture
def make_context():
    """A context that a correction can draw from; the same seed gives the same draws."""

    def make(seed=0, **given):
        settings = {
            "epoch": 1,
            "num_epochs": 10,
            "num_classes": 3,
            "num_samples": 96,
            "batch_size": 12,
            "device": torch.device("cpu"),
            "rng": np.random.default_rng(seed),
            "generator": torch.Generator().manual_seed(seed),
            "engine": SimpleNamespace(model=torch.nn.Linear(2, 3)),
            "sweep": None,
        }
        return EpochContext(**(settings | given))

    return make


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
