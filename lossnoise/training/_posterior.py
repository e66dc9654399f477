"""A fitted detector as a table on the training device, read without waiting for the device."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lossnoise.detectors import LossMixtureDetector

KNOTS = 512


class PosteriorTable:
    """P(label wrong) as a function of the loss: linear between knots, constant outside.

    Half the knots are quantiles of the losses, where most samples are; half are evenly spaced,
    where the posterior may rise between two groups of losses. Any monotone posterior stays so.

    Parameters
    ----------
    detector : LossMixtureDetector
        Fitted.
    losses : ndarray of shape (n_samples,)
        The losses that it was fitted to.
    device : torch.device
        Where the table lives.
    """

    def __init__(
        self, detector: LossMixtureDetector, losses: NDArray[np.float32], device: torch.device
    ) -> None:
        quantiles = np.quantile(losses, np.linspace(0.0, 1.0, KNOTS))
        spaced = np.linspace(losses.min(), losses.max(), KNOTS)
        knots = np.unique(np.concatenate([quantiles, spaced]).astype(np.float32))
        proba = detector.predict_proba(knots)[:, 1]
        self.knots = torch.from_numpy(knots).to(device)
        self.proba = torch.from_numpy(proba.astype(np.float32)).to(device)

    def __call__(self, losses: Tensor) -> Tensor:
        """Return P(label wrong) for losses ``(batch,)`` on the device of the table, float32."""
        losses = losses.float().clamp(self.knots[0], self.knots[-1])
        right = torch.bucketize(losses, self.knots).clamp(1, len(self.knots) - 1)
        left = right - 1
        share = (losses - self.knots[left]) / (self.knots[right] - self.knots[left])
        return torch.lerp(self.proba[left], self.proba[right], share)
