"""One curve of P(wrong) for each group of samples, such as each class."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lossnoise._labels import encode_labels, label_array
from lossnoise._validation import invalid_data
from lossnoise.detectors._fit import Curve, Part, SampleFit, curve_of
from lossnoise.detectors._mixture import Family
from lossnoise.detectors._sample import LossSample
from lossnoise.detectors._scaling import Scaling
from lossnoise.detectors._settings import FitSettings
from lossnoise.detectors._threshold import crossing

# Each group is fitted together with so many samples of all groups. A small group so learns most
# of its curve from the others, and a large one hardly any.
SHRINKAGE = 200.0


def read_groups(owner: str, groups: Any, n: int) -> NDArray[Any]:
    """Return one group a sample."""
    array = label_array(owner, groups)
    if len(array) != n:
        expected = f"of length {n}, one group for each loss"
        raise invalid_data(owner, "groups", expected, f"length {len(array)}")
    return array


def fit_groups(
    losses: NDArray[Any],
    groups: NDArray[Any],
    pooled: SampleFit,
    family: Family,
    settings: FitSettings,
) -> dict[Hashable, Part]:
    """Fit a curve to each group, shrunk towards that of all samples."""
    names, codes = encode_labels(groups)
    everything = pooled.mixture_curve
    background = everything.grid * (SHRINKAGE / everything.grid.sum())
    parts: dict[Hashable, Part] = {}
    for code, name in enumerate(names.tolist()):
        sample = LossSample.of_losses(losses[codes == code])
        grid = sample.on_grid(pooled.scaling, settings.n_bins)
        curve = curve_of(grid + background, family, settings)
        told = curve.proba if pooled.separability.separable else np.zeros_like(curve.proba)
        parts[name] = Part(sample.values, sample.weights, Curve(grid, told))
    return parts


def report_groups(parts: dict[Hashable, Part], scaling: Scaling) -> list[dict[str, Any]]:
    """Return what was found in each group."""
    return [
        {
            "group": name,
            "n": int(part.weights.sum()),
            "noise_rate": part.curve.rate,
            "threshold": crossing(part.curve.proba, scaling),
        }
        for name, part in parts.items()
    ]
