"""Many losses, counted in bins: who reaches the lower end of a bin is in it or above it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lossnoise.detectors._histogram import NUM_BINS, bin_edges
from lossnoise.detectors._sample import LossBins

DTYPES = [np.float16, np.float32, np.float64]


def unit_of(losses, wide):
    """The range of the losses; without outliers beside which 99 % of the others are nothing."""
    counted = np.sort(losses)
    while True:
        unit = min(float(counted[-1]) - float(counted[0]), float(np.finfo(wide).max))
        near = counted[counted <= counted[0] + losses.dtype.type(unit * 2.0**-100)]
        if len(losses) - len(near) >= 0.01 * len(losses) or near[-1] == near[0]:
            return wide(unit if unit > 0.0 else 1.0)
        counted = near


def count_plainly(losses):
    """Number of losses in each bin that holds one, by the float32 nearest to each distance."""
    wide = np.float64 if losses.dtype == np.float64 else np.float32
    with np.errstate(over="ignore", under="ignore"):
        distances = losses.astype(wide) - losses.min().astype(wide)
        distances = distances / unit_of(losses, wide) + 0.0  # no -0.0
        nearest = np.minimum(distances, 3.4e38).astype(np.float32)
    keys, counts = np.unique(nearest.view(np.uint32) // 2**16, return_counts=True)
    assert (keys < NUM_BINS / 2).all()
    return keys, counts


def check(losses):
    keys, expected = count_plainly(losses)
    bins = LossBins.over(losses)
    middles, counts, lows = bins.tally(losses)
    np.testing.assert_array_equal(counts, expected)
    with np.errstate(over="ignore"):
        places = sum(bin_edges(keys)) / 2.0 * float(bins.unit) + float(losses.min())
    np.testing.assert_array_equal(middles, np.minimum(places, float(losses.max())))
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


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_outliers_leave_the_others_apart(dtype):
    losses = np.concatenate([np.geomspace(1e-3, 10.0, 500), [1e37, 3e38]]).astype(dtype)
    if dtype is np.float64:
        losses = np.concatenate([losses, [1e150, 1e300]])
    check(losses)
    assert len(LossBins.over(losses).tally(losses)[0]) > 400


def test_zeros_below_few_others_keep_the_unit_of_these():
    losses = np.concatenate([np.zeros(1000), [3.0, 5.0]])
    check(losses)
    assert LossBins.over(losses).unit == 5.0


@pytest.mark.parametrize("factor", [3.0, 1e-3, 2.0**-900, 2.0**900])
def test_losses_on_another_scale_are_counted_alike(factor):
    losses = np.random.default_rng(0).gamma(1.0, 1.0, 5000)
    middles, counts, _ = LossBins.over(losses).tally(losses)
    scaled, others, _ = LossBins.over(losses * factor).tally(losses * factor)
    np.testing.assert_array_equal(others, counts)
    np.testing.assert_allclose(scaled, middles * factor, rtol=1e-14)
