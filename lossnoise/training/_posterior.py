"""A fitted detector as a table on the training device, read without waiting for the device."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lossnoise.detectors import LossMixtureDetector

TOLERANCE = 1e-3
HIGHEST = 100.0  # losses in train mode can exceed all that were fitted; this covers them


class PosteriorTable:
    """P(label wrong) as a function of the loss: linear between knots, constant outside.

    It is the plain posterior of the mixture: during training the losses of most epochs look like
    one population, and a network that waits until they do not has memorised them by then.

    A monotone posterior stays monotone, and is met to within `TOLERANCE` wherever the losses lie.

    Parameters
    ----------
    detector : LossMixtureDetector
        Fitted.
    losses : ndarray of shape (n_samples,)
        The losses that it was fitted to, at least 0.
    device : torch.device
        Where the table lives.
    """

    def __init__(
        self, detector: LossMixtureDetector, losses: NDArray[np.float32], device: torch.device
    ) -> None:
        knots, proba = _knots(detector, 0.0, max(float(losses.max()), HIGHEST))
        self.low, self.high = float(knots[0]), float(knots[-1])
        self.knots = torch.from_numpy(knots[1:-1]).to(device)  # between the ends
        heights = proba.astype(np.float32)
        stretches = [knots[:-1], np.diff(knots), heights[:-1], heights[1:]]
        self.stretches = torch.from_numpy(np.stack(stretches, axis=1)).to(device)

    def __call__(self, losses: Tensor) -> Tensor:
        """Return P(label wrong) for losses ``(batch,)`` on the device of the table, float32."""
        losses = losses.float().clamp(self.low, self.high)
        stretch = self.stretches[torch.bucketize(losses, self.knots)]
        left, width, at_left, at_right = stretch.unbind(1)
        return torch.lerp(at_left, at_right, (losses - left) / width)


def _knots(
    detector: LossMixtureDetector, low: float, high: float
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Return losses from `low` to `high` between which P(wrong) rises little, and P(wrong) there.

    Stretches with a larger rise are halved again and again, in the bit patterns of float32, which
    have the order of the losses: one loss of 1e30 costs a few rounds, and no precision elsewhere.
    """
    ends = np.array([low, high], dtype=np.float32) + np.float32(0.0)  # of -0.0, makes 0.0
    bits = ends.view(np.int32).astype(np.int64)
    bits[1] = max(bits[1], bits[0] + 1)  # two knots, even where all losses are equal
    proba = _wrong_at(detector, bits)
    while (steep := (np.diff(proba) > TOLERANCE) & (np.diff(bits) > 1)).any():
        middle = (bits[:-1] + bits[1:])[steep] // 2
        bits, first = np.unique(np.concatenate([bits, middle]), return_index=True)
        proba = np.concatenate([proba, _wrong_at(detector, middle)])[first]
    return _losses(bits), proba


def _wrong_at(detector: LossMixtureDetector, bits: NDArray[np.int64]) -> NDArray[np.float64]:
    return detector.posterior(_losses(bits))


def _losses(bits: NDArray[np.int64]) -> NDArray[np.float32]:
    return bits.astype(np.int32).view(np.float32)
