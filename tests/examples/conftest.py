"""What several tests of examples train on."""

import numpy as np
import pytest


@pytest.fixture
def pictures(tmp_path):
    """A file of a handful of random pictures, as the examples for CIFAR-10 take it."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, size=(80, 16, 16, 3), dtype=np.uint8)
    labels = np.arange(80, dtype=np.uint8) % 10
    path = tmp_path / "pictures.npz"
    np.savez(path, x_train=images, y_train=labels, x_test=images, y_test=labels)
    return path
