"""The table of P(label wrong): as good as the detector, on every kind of losses."""

import numpy as np
import pytest
import torch

from lossnoise import BetaMixtureNoiseDetector
from lossnoise.training._posterior import TOLERANCE, PosteriorTable

RNG = np.random.default_rng(0)
LOW, HIGH = RNG.gamma(1.0, 0.2, 700), RNG.normal(4.0, 0.8, 300)
DATA = {
    "two groups": np.concatenate([LOW, HIGH]),
    "a wide gap": np.concatenate([LOW / 10.0, 4.0 + (HIGH - 4.0) / 10.0]),
    "an outlier": np.concatenate([LOW, HIGH, [1e30]]),
    "nearly all learnt": np.concatenate([RNG.gamma(1.0, 1e-3, 900), RNG.gamma(10.0, 2.0, 100)]),
    "overlapping": np.concatenate([RNG.gamma(1.0, 0.5, 500), RNG.gamma(4.0, 0.6, 500)]),
    "zeros": np.concatenate([np.zeros(500), LOW]),
    "two values": np.repeat([0.1, 2.0], 20),
}
everywhere = pytest.mark.parametrize("name", DATA)
pytestmark = pytest.mark.filterwarnings("ignore::lossnoise.exceptions.NoSeparableNoiseWarning")


def fitted(name):
    losses = np.abs(DATA[name]).astype(np.float32)
    detector = BetaMixtureNoiseDetector().fit(losses)
    return losses, detector, PosteriorTable(detector, losses, torch.device("cpu"))


def grid(losses):
    """The losses, and points between them, also where there are none."""
    spaced = np.linspace(losses.min(), min(losses.max(), 30.0), 5001)
    return np.sort(np.concatenate([losses, spaced.astype(np.float32)]))


@everywhere
def test_agrees_with_the_detector(name):
    losses, detector, table = fitted(name)
    points = grid(losses)
    expected = detector.posterior(points)
    np.testing.assert_allclose(table(torch.from_numpy(points)), expected, atol=TOLERANCE)
    assert TOLERANCE <= 1e-3


@everywhere
def test_never_falls(name):
    losses, _, table = fitted(name)
    proba = table(torch.from_numpy(grid(losses)))
    assert proba.diff().min() >= -1e-6
    assert proba.min() >= 0.0
    assert proba.max() <= 1.0


@everywhere
def test_reaches_beyond_the_losses_and_is_small(name):
    _, detector, table = fitted(name)
    ends = torch.tensor([0.0, 100.0])
    outside = table(torch.tensor([-1e30, float("inf")]))
    assert torch.equal(outside, table(ends))
    np.testing.assert_allclose(outside, detector.posterior(ends.double()), atol=TOLERANCE)
    assert len(table.knots) < 10_000


class Halfway:
    """A detector of losses that are all the same."""

    def posterior(self, losses):
        return np.full(len(losses), 0.5)


@pytest.mark.parametrize("loss", [0.0, -0.0, 1.5])
def test_equal_losses_are_no_division_by_zero(loss):
    table = PosteriorTable(Halfway(), np.full(2, loss, np.float32), torch.device("cpu"))
    assert table(torch.tensor([0.0, loss, 9.0])).tolist() == [0.5, 0.5, 0.5]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_takes_losses_of_every_float_type(dtype):
    *_, table = fitted("two groups")
    losses = torch.tensor([0.1, 1.5, 4.0], dtype=dtype)
    proba = table(losses)
    assert proba.dtype == torch.float32
    assert torch.equal(proba, table(losses.float()))
