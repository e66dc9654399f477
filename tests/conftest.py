import os
import sys

import pytest
from hypothesis import settings

# Set before anybody imports Matplotlib: tests draw, and nobody looks.
os.environ["MPLBACKEND"] = "Agg"

# Set before anybody imports torch: the networks of the tests are so small that a second thread
# only costs, and on a busy machine it costs a scheduler's time slice at every operation.
os.environ["OMP_NUM_THREADS"] = "1"

# A slow machine is no failure; in CI the same examples are drawn every time.
settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")


@pytest.fixture(autouse=True)
def close_figures():
    yield
    if "matplotlib.pyplot" in sys.modules:  # most tests never import it
        sys.modules["matplotlib.pyplot"].close("all")


@pytest.fixture
def make_data():
    """Three groups of points in the plane, some of them with another group's label."""
    import torch
    from torch.utils.data import TensorDataset

    def make(size=96, noise=0.3, seed=0):
        generator = torch.Generator().manual_seed(seed)
        clean = torch.arange(size) % 3
        centres = 3.0 * torch.eye(3)[:, :2]
        inputs = centres[clean] + 0.3 * torch.randn(size, 2, generator=generator)
        moved = torch.rand(size, generator=generator) < noise
        return TensorDataset(inputs, torch.where(moved, (clean + 1) % 3, clean))

    return make


@pytest.fixture
def with_clean_set(make_data):
    """Return what a trainer takes for a correction: with clean samples where it needs some."""
    from lossnoise.corrections import CORRECTIONS

    def supply(correction, clean_set=None):
        kind = CORRECTIONS[correction] if isinstance(correction, str) else type(correction)
        if not kind.needs_clean_batch:
            return correction
        correction = kind() if isinstance(correction, str) else correction
        if correction.clean_set is None:
            correction.clean_set = make_data(48, 0.0, seed=9) if clean_set is None else clean_set
        return correction

    return supply


@pytest.fixture
def make_net():
    """A network with all that carries state of its own: BatchNorm and, on request, dropout."""
    import torch
    from torch import nn

    def make(seed=0, dropout=0.0, num_classes=3):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return nn.Sequential(
                nn.Linear(2, 16),
                nn.BatchNorm1d(16),
                nn.ReLU(),
                nn.Dropout(dropout),
                nn.Linear(16, num_classes),
            )

    return make
