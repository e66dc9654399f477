"""Small sets of pictures that lie on the training device, for GPUs that wait for their loader."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from lossnoise._validation import check_int, invalid_data
from lossnoise.data.cifar import CIFAR10_MEAN, CIFAR10_STD, normalisation

OWNER = "ResidentImages"


class ResidentImages(Dataset[tuple[Tensor, Tensor]]):
    """Pictures as uint8 on the device: whole batches are cropped, flipped and normalised there.

    A dataset of ``(picture, label)`` pairs like any other, and besides ``batch_at``, which
    `NoisyLabelTrainer` uses: no workers, no copies, one gather a batch. CIFAR-10 takes 150 MB, and
    240 MB with a border to crop from.

    Parameters
    ----------
    images : ndarray of shape (n_samples, height, width, channels), uint8
        Pictures.
    labels : array-like of shape (n_samples,), integers
        Labels from 0.
    device : str or torch.device
        Where they lie.
    mean, std : sequence of float, one for each channel
        What pictures, scaled to [0, 1], are normalised by. Default: those of CIFAR-10.
    augment : bool, default=False
        Crop at random from a black border, and flip half of the pictures. Draws come from torch's
        global generator of the device.
    padding : int, default=4
        Width of that border in pixels.

    Raises
    ------
    InvalidDataError
        Pictures or labels have another shape or type.

    Examples
    --------
    >>> import numpy as np
    >>> from lossnoise.data.resident import ResidentImages
    >>> images = np.zeros((10, 32, 32, 3), dtype=np.uint8)
    >>> dataset = ResidentImages(images, np.arange(10), "cpu", augment=True)
    >>> pictures, labels = dataset.batch_at([0, 3])
    >>> pictures.shape, labels
    (torch.Size([2, 3, 32, 32]), tensor([0, 3]))
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        device: str | torch.device,
        *,
        mean: Sequence[float] = CIFAR10_MEAN,
        std: Sequence[float] = CIFAR10_STD,
        augment: bool = False,
        padding: int = 4,
    ) -> None:
        if not isinstance(images, np.ndarray) or images.ndim != 4 or images.dtype != np.uint8:
            got = f"a {type(images).__name__}"
            if isinstance(images, np.ndarray):
                got = f"an array of shape {images.shape} and dtype {images.dtype}"
            raise invalid_data(OWNER, "images", "a 4-D array (n, h, w, channels) of uint8", got)
        classes = np.asarray(labels)
        if classes.shape != (len(images),) or classes.dtype.kind not in "iu":
            got = f"an array of shape {classes.shape} and dtype {classes.dtype}"
            raise invalid_data(OWNER, "labels", f"{len(images)} integers", got)
        self.augment = augment
        self.padding = check_int(OWNER, "padding", padding, 0) if augment else 0
        self.height, self.width = images.shape[1:3]
        border = ((0, 0), (self.padding, self.padding), (self.padding, self.padding), (0, 0))
        self.images = torch.from_numpy(np.pad(images, border)).to(device)
        self.labels = torch.from_numpy(classes.astype(np.int64)).to(device)
        scale, shift = normalisation(OWNER, mean, std, images.shape[-1])
        self._scale = torch.tensor(scale, dtype=torch.float32, device=device)
        self._shift = torch.tensor(shift, dtype=torch.float32, device=device)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        if not -len(self) <= index < len(self):  # by which a loop over the set ends
            raise IndexError(f"There are {len(self)} pictures. Got index {index} instead.")
        pictures, labels = self.batch_at([index])
        return pictures[0], labels[0]

    def batch_at(self, indices: Sequence[int] | Tensor) -> tuple[Tensor, Tensor]:
        """Return pictures and labels at these positions, on the device.

        Parameters
        ----------
        indices : sequence of int
            Positions in the set.

        Returns
        -------
        pictures : Tensor of shape (len(indices), channels, height, width), float32
            Normalised, in channels-last layout.
        labels : Tensor of shape (len(indices),), int64
        """
        device = self.images.device
        rows = torch.as_tensor(indices).to(device, non_blocking=True)
        pixels = self._crop_and_flip(rows) if self.augment else self.images[rows]
        pictures = pixels.float().mul_(self._scale).add_(self._shift)
        return pictures.permute(0, 3, 1, 2), self.labels[rows]

    def _crop_and_flip(self, rows: Tensor) -> Tensor:
        device, n = rows.device, len(rows)
        top, left = torch.randint(2 * self.padding + 1, (2, n, 1), device=device)
        flip = torch.randint(2, (n, 1), device=device, dtype=torch.bool)
        down = top + torch.arange(self.height, device=device)
        across = torch.arange(self.width, device=device)
        right = left + torch.where(flip, self.width - 1 - across, across)
        cropped: Tensor = self.images[rows[:, None, None], down[:, :, None], right[:, None, :]]
        return cropped
