"""A part of CIFAR-10, at half its size if wanted, with every kind of noise of a comparison."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from _comparison import Noise
from numpy.typing import NDArray
from sklearn.datasets import load_sample_images
from torch import Tensor
from torch.utils.data import TensorDataset

from lossnoise.data import replace_inputs
from lossnoise.data.cifar import ImageArrays
from lossnoise.data.resident import ResidentImages
from lossnoise.noise import inject_noise

NUM_CLASSES = 10
REVIEWED = 0.05  # share of the training pictures with a known label, to methods that need some


class NoisyPictures(NamedTuple):
    """Pictures to train on, many of them under a wrong label."""

    images: NDArray[np.uint8]  # (n, height, width, 3)
    labels: NDArray[np.int64]  # as given
    changed: NDArray[np.bool_]  # which of them are wrong


def part_of(arrays: ImageArrays, n_train: int | None, n_test: int | None, size: int) -> ImageArrays:
    """Return the first pictures, brought to a size by the mean of squares of pixels."""
    return ImageArrays(
        shrink(arrays.x_train[:n_train], size),
        arrays.y_train[:n_train].astype(np.int64),
        shrink(arrays.x_test[:n_test], size),
        arrays.y_test[:n_test].astype(np.int64),
    )


def shrink(images: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Return pictures ``(n, size, size, 3)``; their own size is a multiple of it."""
    factor = images.shape[1] // size
    squares = images.reshape(len(images), size, factor, size, factor, 3)
    return squares.mean(axis=(2, 4)).round().astype(np.uint8)


def with_noise(arrays: ImageArrays, noise: Noise, seed: int) -> NoisyPictures:
    """Return the training pictures with wrong labels, or with foreign pictures in their place."""
    rate, kind, include_true = noise
    images, labels = arrays.x_train, arrays.y_train
    if kind == "open-set":
        dataset = TensorDataset(torch.from_numpy(images), torch.from_numpy(labels))
        foreign = photograph_tiles(images.shape[1])
        replaced, changed = replace_inputs(dataset, foreign, rate, random_state=seed)
        return NoisyPictures(
            np.stack([picture.numpy() for picture, _ in replaced]), labels, changed
        )
    given, changed = inject_noise(
        labels,
        rate,
        kind,
        include_true=include_true,
        num_classes=NUM_CLASSES,
        features=images.reshape(len(images), -1) / 255.0 if kind == "instance" else None,
        random_state=seed,
    )
    return NoisyPictures(images, given, changed)


def photograph_tiles(size: int) -> NDArray[np.uint8]:
    """Return 7,700 tiles of scikit-learn's two photographs, 32 pixels wide, brought to a size."""
    windows = [
        np.lib.stride_tricks.sliding_window_view(photograph, (32, 32), axis=(0, 1))[::8, ::8]
        for photograph in load_sample_images().images
    ]
    tiles = np.concatenate([w.reshape(-1, 3, 32, 32) for w in windows])
    return shrink(np.ascontiguousarray(tiles.transpose(0, 2, 3, 1)), size)


def reviewed_samples(
    pictures: NoisyPictures, true: NDArray[np.int64], seed: int, device: str
) -> TensorDataset:
    """Return some of the training samples with the given and the true label of each."""
    right = ~pictures.changed | (pictures.labels != true)  # a foreign picture has no true label
    count = round(REVIEWED * len(true))
    rows = np.random.default_rng(seed).permutation(np.flatnonzero(right))[:count]
    inputs, given = ResidentImages(pictures.images, pictures.labels, device).batch_at(rows)
    known: Tensor = torch.from_numpy(true[rows]).to(given.device)
    return TensorDataset(inputs, given, known)
