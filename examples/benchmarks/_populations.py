"""Losses drawn from named distributions: one population of them, or two."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

TEMPERATURE = 2.5  # of the detector's map from cross-entropy losses to the normalised scale

KINDS: dict[str, Callable[..., np.ndarray]] = {
    "gamma": lambda rng, n, shape, scale: rng.gamma(shape, scale, n),
    "exponential": lambda rng, n, scale: rng.exponential(scale, n),
    "lognormal": lambda rng, n, mean, deviation: rng.lognormal(mean, deviation, n),
    "uniform": lambda rng, n, low, high: rng.uniform(low, high, n),
    "Weibull": lambda rng, n, shape: rng.weibull(shape, n),
    "half-normal": lambda rng, n, scale: np.abs(rng.normal(0.0, scale, n)),
    "log-logistic": lambda rng, n, shape: np.exp(rng.logistic(-1.0, 1.0 / shape, n)),
    "Pareto": lambda rng, n, shape, low: low * (1.0 + rng.pareto(shape, n)),
    "Lomax": lambda rng, n, shape, scale: scale * rng.pareto(shape, n),
    "normal": lambda rng, n, mean, deviation: np.abs(rng.normal(mean, deviation, n)),
    "beta": lambda rng, n, a, b, low, high: low + (high - low) * rng.beta(a, b, n),
}


class Population(NamedTuple):
    """A distribution of `KINDS` with its parameters."""

    kind: str
    parameters: tuple[float, ...]

    @property
    def name(self) -> str:
        """Return the distribution as one writes it."""
        return f"{self.kind}({', '.join(f'{value:g}' for value in self.parameters)})"

    def draw(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """Return n losses."""
        return KINDS[self.kind](rng, n, *self.parameters)


def _populations(*settings: tuple[str, list[tuple[float, ...]]]) -> list[Population]:
    return [Population(kind, parameters) for kind, many in settings for parameters in many]


# One population: every label is right.
CLEAN = _populations(
    ("gamma", [(0.3, 0.5), (0.5, 0.3), (1.5, 0.2), (2.0, 1.0), (5.0, 0.5)]),
    ("exponential", [(0.01,), (0.2,), (1.0,), (3.0,)]),
    ("lognormal", [(-4.0, 2.0), (-3.0, 1.0), (-1.0, 0.7), (0.0, 1.0), (0.5, 0.3)]),
    ("uniform", [(0.0, 0.5), (0.0, 1.0), (0.0, 5.0), (2.0, 3.0)]),
    ("Weibull", [(0.5,), (1.5,), (3.0,)]),
    ("half-normal", [(0.3,), (2.0,)]),
    ("log-logistic", [(1.5,), (3.0,)]),
    ("Pareto", [(1.5, 0.1), (3.0, 1.0)]),
    ("Lomax", [(1.5, 0.2), (3.0, 0.5)]),
)

# Two populations: each of right labels with each of wrong ones.
RIGHT = _populations(
    ("gamma", [(1.0, 0.2), (0.5, 0.3), (2.0, 0.3)]),
    ("exponential", [(0.1,), (0.02,)]),
    ("lognormal", [(-3.0, 1.0), (-1.0, 0.5)]),
    ("half-normal", [(0.3,)]),
    ("beta", [(2.0, 8.0, 0.0, 3.0), (2.0, 5.0, 0.0, 2.0)]),
    ("uniform", [(0.0, 0.5)]),
)
WRONG = _populations(
    ("normal", [(4.0, 0.8), (2.5, 0.5), (1.5, 0.25), (8.0, 2.0)]),
    ("gamma", [(20.0, 0.2)]),
    ("uniform", [(3.0, 6.0)]),
    ("beta", [(8.0, 2.0, 1.0, 4.0)]),
)

# Two betas on the normalised scale: the detector's own model.
BETAS = {
    "well separated": (Population("beta", (1.2, 12, 0, 1)), Population("beta", (8, 2, 0, 1))),
    "separated": (Population("beta", (1, 8, 0, 1)), Population("beta", (6, 3, 0, 1))),
    "touching": (Population("beta", (1.5, 6, 0, 1)), Population("beta", (5, 3, 0, 1))),
    "overlapping": (Population("beta", (2, 5, 0, 1)), Population("beta", (5, 2.5, 0, 1))),
}


class LabelledLosses(NamedTuple):
    """Losses, and which of them are of wrong labels."""

    losses: np.ndarray
    changed: np.ndarray


def draw_two(
    right: Population, wrong: Population, rate: float, n: int, rng: np.random.Generator
) -> LabelledLosses:
    """Return n losses, a share `rate` of them of wrong labels."""
    count = round(rate * n)
    losses = np.concatenate([right.draw(rng, n - count), wrong.draw(rng, count)])
    return LabelledLosses(losses, np.arange(n) >= n - count)


def as_cross_entropy(values: np.ndarray) -> np.ndarray:
    """Return the cross-entropy losses whose normalised values are `values`."""
    return -TEMPERATURE * np.log1p(-values)


def best_accuracy(losses: np.ndarray, changed: np.ndarray) -> float:
    """Return the share of labels that the best threshold on the loss puts right."""
    wrong = changed[np.argsort(losses)]
    above = wrong.sum() - np.concatenate([[0], np.cumsum(wrong)])
    below = np.concatenate([[0], np.cumsum(~wrong)])
    return float((above + below).max() / len(losses))
