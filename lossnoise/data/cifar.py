"""CIFAR-10 and other sets of small pictures that fit in memory as arrays."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, NamedTuple
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.utils.data import Dataset

from lossnoise._validation import invalid_data, invalid_parameter, to_numpy
from lossnoise.exceptions import InvalidDataError

__all__ = [
    "CIFAR10_MEAN",
    "CIFAR10_STD",
    "ImageArrayDataset",
    "ImageArrays",
    "load_arrays",
    "load_cifar10",
]

#: Mean of each channel on the scale [0, 1], as in the paper's experiments.
CIFAR10_MEAN = (0.4914, 0.4822, 0.4465)

#: Standard deviation of each channel on the scale [0, 1], as in the paper's experiments.
CIFAR10_STD = (0.2023, 0.1994, 0.2010)

_PAD = 4  # pixels on each side, of which the crop takes its choice
_SHIFTS = 2 * _PAD + 1


class ImageArrays(NamedTuple):
    """Pictures (uint8, NHWC) and labels (integers) of a training and a test set."""

    x_train: NDArray[np.uint8]
    y_train: NDArray[np.integer[Any]]
    x_test: NDArray[np.uint8]
    y_test: NDArray[np.integer[Any]]


def load_arrays(path: str | os.PathLike[str]) -> ImageArrays:
    """Read pictures and labels from an ``.npz`` file.

    Parameters
    ----------
    path : str or path-like
        A file with the arrays ``x_train`` and ``x_test`` (uint8, NHWC), ``y_train`` and
        ``y_test`` (integers, one a picture). Pickled objects in it are never loaded.

    Returns
    -------
    arrays : ImageArrays
        The four arrays ``(x_train, y_train, x_test, y_test)``.

    Raises
    ------
    InvalidDataError
        The file holds something else.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> x, y = np.zeros((6, 32, 32, 3), np.uint8), np.arange(6)
    >>> with tempfile.NamedTemporaryFile(suffix=".npz") as file:
    ...     np.savez(file.name, x_train=x, y_train=y, x_test=x[:2], y_test=y[:2])
    ...     load_arrays(file.name).x_test.shape
    (2, 32, 32, 3)
    """
    with open(path, "rb") as file:
        try:
            # A lone .npy file would give an array, which has no names in it.
            archive = dict(np.load(file, allow_pickle=False))
        except (ValueError, TypeError, EOFError, BadZipFile) as cause:
            raise invalid_data("load_arrays", "path", _ARCHIVE, f"{path} ({cause})") from cause
    missing = [name for name in ImageArrays._fields if name not in archive]
    if missing:
        got = f"{path} without {', '.join(missing)}"
        raise invalid_data("load_arrays", "path", _ARCHIVE, got)
    for part in ("train", "test"):
        error = _pair_error(archive[f"x_{part}"], archive[f"y_{part}"])
        if error is not None:
            in_labels, expected, got = error
            name = f"{'y' if in_labels else 'x'}_{part}"
            raise InvalidDataError(
                f"The {name!r} array of {path} must be {expected}. Got {got} instead."
            )
    return ImageArrays(*(archive[name] for name in ImageArrays._fields))


_ARCHIVE = "an .npz file with the arrays x_train, y_train, x_test and y_test"


def load_cifar10(root: str | os.PathLike[str], *, download: bool = False) -> ImageArrays:
    """Read CIFAR-10 with torchvision.

    Parameters
    ----------
    root : str or path-like
        Folder that holds, or will hold, ``cifar-10-batches-py``.
    download : bool, default=False
        Whether to download the pictures if they are not there.

    Returns
    -------
    arrays : ImageArrays
        The four arrays ``(x_train, y_train, x_test, y_test)``: 50,000 and 10,000 pictures of
        32x32 pixels.

    Examples
    --------
    >>> from lossnoise.data.cifar import load_cifar10
    >>> arrays = load_cifar10("data", download=True)  # doctest: +SKIP
    """
    from torchvision.datasets import CIFAR10  # slow to load, and only needed here

    train = CIFAR10(os.fspath(root), train=True, download=download)
    test = CIFAR10(os.fspath(root), train=False, download=download)
    return ImageArrays(train.data, np.asarray(train.targets), test.data, np.asarray(test.targets))


class ImageArrayDataset(Dataset[tuple[Tensor, int]]):
    """Pictures in memory as a map-style dataset, with the augmentation of the paper.

    Augmentation is a crop of the picture padded by 4 black pixels, and a horizontal flip of every
    other picture. It draws from torch's global generator, which `NoisyLabelTrainer` seeds.

    Parameters
    ----------
    images : array-like of shape (n, height, width, channels), uint8
        Pictures.
    labels : array-like of shape (n,), int
        Labels as given.
    augment : bool
        Whether to crop and flip at random.
    mean, std : sequence of float, one a channel
        What a picture on the scale [0, 1] is normalised by, after the crop.

    Raises
    ------
    InvalidDataError
        Pictures or labels have another shape or type.
    InvalidParameterError
        There is not one mean and one positive standard deviation for each channel.

    Examples
    --------
    >>> import numpy as np
    >>> from lossnoise.data.cifar import ImageArrayDataset
    >>> dataset = ImageArrayDataset(np.zeros((5, 32, 32, 3), np.uint8), [0, 1, 2, 3, 4])
    >>> image, label = dataset[3]
    >>> image.shape, image.dtype, label
    (torch.Size([3, 32, 32]), torch.float32, 3)
    """

    def __init__(
        self,
        images: ArrayLike,
        labels: ArrayLike,
        augment: bool = False,
        mean: Sequence[float] = CIFAR10_MEAN,
        std: Sequence[float] = CIFAR10_STD,
    ) -> None:
        pictures, classes = to_numpy(images), to_numpy(labels)
        error = _pair_error(pictures, classes)
        if error is not None:
            in_labels, expected, got = error
            name = "labels" if in_labels else "images"
            raise invalid_data("ImageArrayDataset", name, expected, got)
        channels = pictures.shape[-1]
        self._augment = augment
        # One multiplication and one addition take bytes to normalised floats.
        scale, shift = normalisation("ImageArrayDataset", mean, std, channels)
        self._scale = torch.tensor(scale, dtype=torch.float32).view(-1, 1, 1)
        self._shift = torch.tensor(shift, dtype=torch.float32).view(-1, 1, 1)
        self._labels = classes.tolist()
        self._height, self._width = pictures.shape[1:3]
        if augment:
            # Padded once, as bytes: 1.6 times the memory, and no padding for every picture.
            pictures = np.pad(pictures, ((0, 0), (_PAD, _PAD), (_PAD, _PAD), (0, 0)))
        self._images = torch.from_numpy(pictures.transpose(0, 3, 1, 2).copy())

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = self._images[index]
        if self._augment:
            image = self._crop_and_flip(image)
        return torch.addcmul(self._shift, image.float(), self._scale), self._labels[index]

    def _crop_and_flip(self, padded: Tensor) -> Tensor:
        # One draw for both shifts and the flip: three would cost more than the rest of this.
        draw, flip = divmod(int(torch.randint(2 * _SHIFTS * _SHIFTS, ())), 2)
        top, left = divmod(draw, _SHIFTS)
        image = padded[:, top : top + self._height, left : left + self._width]
        return image.flip(-1) if flip else image


def normalisation(
    owner: str, mean: Sequence[float], std: Sequence[float], channels: int
) -> tuple[list[float], list[float]]:
    """Return the factor and the addend of ``(byte / 255 - mean) / std``, for each channel."""
    expected = f"{channels} numbers, one a channel"
    if np.shape(mean) != (channels,):
        raise invalid_parameter(owner, "mean", expected, mean)
    if np.shape(std) != (channels,) or not all(value > 0 for value in std):
        expected = f"{channels} numbers above 0, one a channel"
        raise invalid_parameter(owner, "std", expected, std)
    shift = [-m / s for m, s in zip(mean, std, strict=True)]
    return [1.0 / (255.0 * s) for s in std], shift


def _pair_error(images: np.ndarray, labels: np.ndarray) -> tuple[bool, str, str] | None:
    """Return whether the labels are at fault (else the pictures), what was expected, what came."""
    if images.ndim != 4 or images.dtype != np.uint8:
        return False, "uint8 pictures (n, height, width, channels)", _describe(images)
    if labels.shape != (len(images),) or labels.dtype.kind not in "iu":
        return True, f"{len(images)} integers, one a picture", _describe(labels)
    return None


def _describe(array: np.ndarray) -> str:
    return f"an array of shape {array.shape} and dtype {array.dtype}"
