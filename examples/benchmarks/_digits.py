"""The digits of the quickstart with every kind of noise that the benchmark knows."""

from __future__ import annotations

import numpy as np
import torch
from _comparison import Noise
from quickstart import NoisyDigits, load_noisy_digits
from sklearn.datasets import load_digits, load_sample_images
from torch import Tensor
from torch.utils.data import TensorDataset

from lossnoise.data import replace_inputs

REVIEWED = 100  # training samples whose true label is known, to methods that need some


def load_digits_with(noise: Noise, seed: int) -> NoisyDigits:
    """Return digits with wrong labels, or with pictures of no digit where that is the kind."""
    rate, kind, include_true = noise
    if kind != "open-set":
        return load_noisy_digits(rate, seed, kind=kind, include_true=include_true)
    digits = load_noisy_digits(0.0, seed)
    train, replaced = replace_inputs(digits.train, photograph_tiles(), rate, random_state=seed)
    return digits._replace(train=train, changed=replaced)


def reviewed_samples(digits: NoisyDigits, seed: int) -> TensorDataset:
    """Return some of the training samples with the given and the true label of each."""
    target = load_digits().target[digits.index]
    replaced = digits.changed & (digits.labels == target)  # a picture of no digit has no true label
    rows = np.random.default_rng(seed).permutation(np.flatnonzero(~replaced))[:REVIEWED]
    pictures = torch.stack([digits.train[row][0] for row in rows])
    return TensorDataset(pictures, torch.tensor(digits.labels[rows]), torch.tensor(target[rows]))


def photograph_tiles() -> Tensor:
    """Return 2080 grey tiles of scikit-learn's two photographs at half size, from 0 to 1."""
    grey = np.stack(load_sample_images().images).mean(axis=3)[:, :416]
    half = grey.reshape(2, 208, 2, 320, 2).mean(axis=(2, 4))
    tiles = half.reshape(2, 26, 8, 40, 8).swapaxes(2, 3).reshape(-1, 1, 8, 8)
    darkest = tiles.min(axis=(2, 3), keepdims=True)
    contrast = np.maximum(np.ptp(tiles, axis=(2, 3), keepdims=True), 1.0)
    return torch.tensor((tiles - darkest) / contrast, dtype=torch.float32)
