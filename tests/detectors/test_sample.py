"""Many losses, counted in bins: who reaches the lower end of a bin is in it or above it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lossnoise.detectors._histogram import NUM_BINS, bin_edges
from lossnoise.detectors._sample import count_losses

DTYPES = [np.float16, np.float32, np.float64]


def count_plainly(losses):
    """Number of losses in each bin that holds one, by the float32 nearest to each distance."""
    wide = np.float64 if losses.dtype == np.float64 else np.float32
    with np.errstate(over="ignore"):
        distances = losses.astype(wide) - losses.min().astype(wide) + 0.0  # no -0.0
    nearest = np.minimum(distances, 3.4e38).astype(np.float32)
    keys, counts = np.unique(nearest.view(np.uint32) // 2**16, return_counts=True)
    assert (keys < NUM_BINS / 2).all()
    return keys, counts


def check(losses):
    keys, expected = count_plainly(losses)
    middles, counts, lows = count_losses(losses, losses.min())
    np.testing.assert_array_equal(counts, expected)
    np.testing.assert_array_equal(middles, sum(bin_edges(keys)) / 2.0 + float(losses.min()))
    reached = [(losses >= low).sum() for low in lows.astype(losses.dtype)]
    np.testing.assert_array_equal(reached, counts[::-1].cumsum()[::-1])
    assert lows[0] == losses.min()


@given(st.data(), st.sampled_from(DTYPES))
def test_any_losses(data, dtype):
    numbers = st.floats(allow_nan=False, allow_infinity=False, width=8 * np.dtype(dtype).itemsize)
    check(data.draw(arrays(dtype, st.integers(1, 30), elements=numbers)))


@given(st.data(), st.sampled_from(DTYPES), st.sampled_from([0.0, 0.3, 4.0, 1000.0]))
def test_losses_next_to_each_other(data, dtype, lowest):
    """Their distances are a few of the smallest steps that numbers of this type make."""
    steps = data.draw(st.lists(st.integers(0, 20), min_size=1, max_size=30))
    step = np.spacing(dtype(lowest))
    check((dtype(lowest) + np.array(steps) * step).astype(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("lowest", [0.0, 0.3, -7.0])
def test_losses_where_bins_begin(dtype, lowest):
    edges = np.array([2.0**power * share for power in range(-12, 5) for share in (1.0, 1.5)])
    around = [edges, np.nextafter(edges, 0.0), np.nextafter(edges, 9.0), edges * (1 - 2.0**-25)]
    check((lowest + np.concatenate([[0.0], *around])).astype(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("lowest", [-1024.0, -1e4])
def test_losses_near_zero_above_one_far_below_it(dtype, lowest):
    """There are many more numbers near zero than distances from a number far away."""
    near = np.concatenate([[0.0], np.geomspace(1e-7, 1e-2, 30)])
    check(np.concatenate([[lowest], near, -near, 1024.0 + near, 4.0 * near]).astype(dtype))
