"""Rules that the detectors are compared with: losses in, P(label wrong) out."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
from scipy.stats import beta
from sklearn.mixture import GaussianMixture

PUBLISHED_ITERATIONS = 10
PUBLISHED_TABLE = 100  # P(wrong) is read from a table of so many entries
SMALLEST_VARIANCE = 1e-12


def published_beta(losses: np.ndarray) -> np.ndarray:
    """Return P(wrong) by the beta mixture as published (Arazo et al., ICML 2019, section 3.1).

    The 5th and the 95th percentile of the losses become 0 and 1, and the mixture is fitted to
    the losses between them. P(wrong) stays at its maximum above the place of that maximum.
    """
    low, high = np.percentile(losses, [5, 95])
    middle = losses[(losses >= low) & (losses <= high)]
    parameters = _fit_betas(np.clip(_normalise(middle, low, high), 1e-4, 1.0 - 1e-4))
    joint = _joint(np.clip(np.linspace(0.0, 1.0, PUBLISHED_TABLE), 1e-4, 1.0 - 1e-4), *parameters)
    wrong = joint[1] / joint.sum(axis=0)
    top = wrong.argmax()
    wrong[top:] = wrong[top]
    place = (_normalise(losses, low, high) * PUBLISHED_TABLE).astype(np.intp)
    return np.clip(wrong[np.minimum(place, PUBLISHED_TABLE - 1)], 1e-4, 1.0 - 1e-4)


def _normalise(losses: np.ndarray, low: float, high: float) -> np.ndarray:
    place = (losses - low - 1e-5) / max(high - low - 1e-5 + 1e-6, 1e-6)
    return np.where(place >= 1.0, 1.0 - 1e-3, np.where(place <= 0.0, 1e-3, place))


def _fit_betas(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a, b and the weights of two betas: EM with a weighted method of moments."""
    a, b, weights = np.array([1.0, 2.0]), np.array([2.0, 1.0]), np.array([0.5, 0.5])
    for _ in range(PUBLISHED_ITERATIONS):
        joint = _joint(values, a, b, weights)
        responsibilities = joint / joint.sum(axis=0)
        mass = responsibilities.sum(axis=1)
        mean = responsibilities @ values / mass
        variance = (responsibilities * (values - mean[:, None]) ** 2).sum(axis=1) / mass
        a = mean * (mean * (1.0 - mean) / np.maximum(variance, SMALLEST_VARIANCE) - 1.0)
        b = a * (1.0 - mean) / mean
        weights = mass / mass.sum()
    return a, b, weights


def _joint(values: np.ndarray, a: np.ndarray, b: np.ndarray, weights: np.ndarray) -> np.ndarray:
    densities = weights[:, None] * beta.pdf(values, a[:, None], b[:, None])
    return np.maximum(densities, 1e-12)


def dividemix(losses: np.ndarray) -> np.ndarray:
    """Return P(wrong) by DivideMix's mixture of two normal distributions (Li et al., ICLR 2020)."""
    values = ((losses - losses.min()) / (losses.max() - losses.min()))[:, None]
    mixture = GaussianMixture(2, max_iter=10, tol=1e-2, reg_covar=5e-4, random_state=0)
    return mixture.fit(values).predict_proba(values)[:, mixture.means_.argmax()]


def cut(losses: np.ndarray) -> np.ndarray:
    """Return 1 where the given label has a probability below 0.05, else 0."""
    return (losses > -np.log(0.05)).astype(np.float64)


def cleanlab_version() -> str | None:
    """Return the version of cleanlab, or None where it is not installed."""
    if find_spec("cleanlab") is None:
        return None
    import cleanlab

    return str(cleanlab.__version__)


def cleanlab(labels: np.ndarray, pred_probs: np.ndarray) -> np.ndarray:
    """Return 1 where cleanlab's default rule flags a label, else 0."""
    from cleanlab.filter import find_label_issues

    return find_label_issues(labels, pred_probs, n_jobs=1).astype(np.float64)
