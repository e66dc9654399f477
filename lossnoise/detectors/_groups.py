"""One curve of P(wrong) for each group of samples, such as each class."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lossnoise._labels import as_list, encode_labels, label_array
from lossnoise._pandas import check_aligned
from lossnoise._validation import invalid_data
from lossnoise.detectors._fit import (
    Curve,
    Part,
    SampleFit,
    are_contradicted,
    doubted_only,
    finds_both,
    fit_grid,
    separability_of,
)
from lossnoise.detectors._grid import nodes
from lossnoise.detectors._input import MIN_SAMPLES
from lossnoise.detectors._mixture import Family, Mixture, fit_weights, wrong_proba
from lossnoise.detectors._sample import EXACT, LossBins, LossSample
from lossnoise.detectors._scaling import FloatArray, Scaling
from lossnoise.detectors._settings import FitSettings
from lossnoise.detectors._threshold import crossing

# The weights of a group's components are fitted together with so many samples divided as all are:
# a small group has the noise rate of all samples, and a large one its own.
SHRINKAGE = 100.0

# A gain in log-likelihood by components of its own that says that a group's losses are of another
# kind than those of all samples, as those of a class that the model finds hard. It is a gain over
# the components of all samples with the weights that suit the group best: labels that are all
# wrong are no other kind of losses, only more of one.
OTHER_KIND = 12.0
NO_PRIOR = 1e-6  # samples; with none at all a component without weight would be 0 / 0


def read_groups(owner: str, groups: Any, X: Any, n: int) -> NDArray[Any]:
    """Return one group a sample, of `n` losses that came as `X`."""
    check_aligned(owner, "groups", groups, X, what="losses", called="X")
    array = label_array(owner, groups, name="groups")
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
    """Fit a curve to each group: the components of all samples, with weights of its own.

    A group whose losses are of another kind gets components of its own. Where its losses alone do
    not show two populations, these may divide right labels, and the lowest curve counts: that of
    these, or of the components of all samples with the weights of the group, or of all.
    """
    names, codes = encode_labels(groups)
    bins = LossBins.over(losses) if np.bincount(codes).max() > EXACT else None
    parts: dict[Hashable, Part] = {}
    for code, name in enumerate(as_list(names)):
        sample = LossSample.of_losses(losses[codes == code])
        curve = _curve_of_group(sample, pooled, family, settings)
        shown = sample.values, sample.weights, sample.lows
        if bins is not None:  # the same in all groups, which one threshold then divides alike
            shown = bins.tally(sample.losses)
        parts[name] = Part(*shown, curve)
    return parts


def _curve_of_group(
    sample: LossSample, pooled: SampleFit, family: Family, settings: FitSettings
) -> Curve:
    grid, grid_nodes = sample.on_grid(pooled.scaling, settings.n_bins), nodes(settings.n_bins)
    shared = fit_weights(grid_nodes, grid, pooled.result.mixture, family, prior=SHRINKAGE)
    proba = wrong_proba(grid_nodes, shared.mixture, family)
    own = _own_components(grid, pooled, family, settings)
    if own is not None:
        alone = wrong_proba(grid_nodes, own, family)
        told = finds_both(Curve(grid, alone), pooled.scaling, separability_of(sample, settings))
        if pooled.probabilities:
            told = told and are_contradicted(Curve(grid, alone), pooled.scaling)
        proba = alone if told else np.minimum(np.minimum(alone, proba), pooled.mixture_curve.proba)
    if not pooled.separability.separable:
        return Curve(grid, np.zeros_like(proba))
    curve = Curve(grid, proba)
    return doubted_only(curve, pooled.scaling) if pooled.probabilities else curve


def _own_components(
    grid: FloatArray, pooled: SampleFit, family: Family, settings: FitSettings
) -> Mixture | None:
    """Return a mixture of a group's own; None where its losses are of the kind of all samples.

    Of fewer losses than a detector can be fitted to, nothing of their own is known: two spikes on
    those that happen to be nearly equal would fit them better than any components do.
    """
    size = grid.sum()
    if size < MIN_SAMPLES:
        return None
    shared = fit_weights(
        nodes(settings.n_bins), grid, pooled.result.mixture, family, prior=NO_PRIOR
    )
    own = fit_grid(grid, family, settings)
    gain = size * (own.log_likelihood - shared.log_likelihood)
    return own.mixture if gain > OTHER_KIND else None


def codes_of(owner: str, groups: NDArray[Any], parts: dict[Hashable, Part]) -> NDArray[np.intp]:
    """Return the place of each group among those that were fitted; -1 for one that was not."""
    names, codes = encode_labels(groups)
    places = {name: place for place, name in enumerate(parts)}
    known = np.array([places.get(name, -1) for name in as_list(names)], dtype=np.intp)
    if (known < 0).all():
        expected = f"such as were given to fit ({_some(list(parts))})"
        got = f"only others ({_some(as_list(names))})"
        raise invalid_data(owner, "groups", expected, got)
    return np.asarray(known[codes])


def _some(names: list[Hashable], most: int = 5) -> str:
    return ", ".join([*map(repr, names[:most]), *["..."] * (len(names) > most)])


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
