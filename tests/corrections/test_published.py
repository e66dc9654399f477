"""The published mixture: against the rule of the benchmarks, and for losses of any kind."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lossnoise.corrections._dynamic import PublishedLookup
from lossnoise.corrections._published import fit_published

BASELINES = Path(__file__).parents[2] / "examples" / "benchmarks" / "_baselines.py"


@pytest.fixture(scope="module")
def published_beta():
    spec = importlib.util.spec_from_file_location("baselines_of_the_benchmarks", BASELINES)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.published_beta


def draw(noise, size=5000, seed=0):
    """Return losses of which a share is of wrong labels."""
    rng = np.random.default_rng(seed)
    wrong = rng.uniform(size=size) < noise
    return np.where(wrong, rng.gamma(9.0, 0.4, size), rng.gamma(0.7, 0.5, size))


@pytest.mark.parametrize("noise", [0.0, 0.05, 0.2, 0.5, 0.8])
def test_it_is_the_rule_of_the_benchmarks(published_beta, noise):
    """In float32 a loss at the edge of a cell may fall into the next one."""
    losses = draw(noise)
    expected = published_beta(losses)
    found = PublishedLookup(torch.tensor(losses), torch.device("cpu"))(torch.tensor(losses))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    low = PublishedLookup(torch.tensor(losses).float(), torch.device("cpu"))
    found = low(torch.tensor(losses).float()).numpy()
    assert np.isclose(found, expected, rtol=1e-3, atol=1e-4).mean() > 0.995


def test_it_trims_and_is_flat_on_the_right():
    losses = draw(0.5)
    table = fit_published(losses)
    assert (table.low, table.high) == tuple(np.percentile(losses, [5, 95]))
    assert table.proba.shape == (100,)
    top = table.proba.argmax()
    assert (table.proba[top:] == table.proba[top]).all()
    lookup = PublishedLookup(torch.tensor(losses), torch.device("cpu"))
    outside = lookup(torch.tensor([0.0, table.low, table.high, 1e9]))
    expected = table.proba[[0, 0, 99, 99]]
    np.testing.assert_allclose(outside, expected, rtol=1e-6)


@given(
    arrays(
        np.float32,
        st.integers(10, 60),
        elements=st.one_of(
            st.floats(0, 100, width=32),
            st.sampled_from([0.0, 1.0]),
            st.floats(0, 2.0**99, width=32),
        ),
    )
)
def test_any_losses_give_probabilities(losses):
    tensor = torch.from_numpy(losses)
    found = PublishedLookup(tensor, torch.device("cpu"))(tensor)
    assert found.dtype == torch.float32
    assert ((found >= 0.99e-4) & (found <= 1.0)).all()


def test_a_loss_that_is_not_finite_is_left_to_the_trainer_to_report():
    """On a CUDA device an index outside the table would kill the process's context."""
    losses = torch.tensor(draw(0.5, size=200))
    found = PublishedLookup(losses, torch.device("cpu"))(torch.tensor([float("nan"), float("inf")]))
    assert found.isfinite().all()
