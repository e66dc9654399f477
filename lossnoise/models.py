"""The network of the paper's experiments."""

from __future__ import annotations

from collections import OrderedDict
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from lossnoise._validation import check_int

__all__ = ["preact_resnet18"]


def preact_resnet18(num_classes: int = 10) -> nn.Sequential:
    """Return a pre-activation ResNet-18 for small colour images, with torch's default weights.

    A 3x3 stem of 64 channels with batch normalisation and ReLU, four stages of two
    pre-activation blocks with 64, 128, 256 and 512 channels (the last three halve the picture),
    average pooling over what is left of it, a linear layer.

    Two things are as in the published experiments, and not as in the paper of the architecture:
    there is no batch normalisation after the last block, and what skips a block is its activated
    input, in blocks that keep the shape as well. The one needs the other: with the input itself
    what is summed grows from block to block, and SGD with a learning rate of 0.1 diverges.

    Parameters
    ----------
    num_classes : int, default=10
        Number of outputs, at least 2.

    Returns
    -------
    model : torch.nn.Sequential
        Maps float images ``(batch, 3, height, width)`` to logits ``(batch, num_classes)``. Made
        for 32x32 pixels, where the last feature maps are 4x4; other sizes from 8x8 work too.

    Raises
    ------
    InvalidParameterError
        `num_classes` is no int of at least 2.

    References
    ----------
    He, Zhang, Ren, Sun, "Identity Mappings in Deep Residual Networks", ECCV 2016. Arazo et al.,
    "Unsupervised Label Noise Modeling and Loss Correction", ICML 2019.

    Examples
    --------
    >>> import torch
    >>> from lossnoise.models import preact_resnet18
    >>> model = preact_resnet18(num_classes=10)
    >>> sum(parameter.numel() for parameter in model.parameters())
    11171274
    >>> model(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """
    check_int("preact_resnet18", "num_classes", num_classes, 2)
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        stem=nn.Sequential(_conv3x3(3, 64), nn.BatchNorm2d(64), nn.ReLU(inplace=True))
    )
    for number, (in_channels, out_channels) in enumerate(pairwise((64, 64, 128, 256, 512)), 1):
        stride = 1 if in_channels == out_channels else 2
        layers[f"stage{number}"] = nn.Sequential(
            _PreActBlock(in_channels, out_channels, stride),
            _PreActBlock(out_channels, out_channels, 1),
        )
    layers["pool"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["linear"] = nn.Linear(512, num_classes)
    return nn.Sequential(layers)


class _PreActBlock(nn.Module):
    """Two times batch normalisation, ReLU and 3x3 convolution, added to the activated input.

    Where the shape changes, a 1x1 convolution of the activated input takes its place.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(in_channels)
        self.conv1 = _conv3x3(in_channels, out_channels, stride)
        self.norm2 = nn.BatchNorm2d(out_channels)
        self.conv2 = _conv3x3(out_channels, out_channels)
        self.shortcut: nn.Module | None = None
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False)

    def forward(self, inputs: Tensor) -> Tensor:
        active = F.relu(self.norm1(inputs))
        residual: Tensor = self.conv2(F.relu(self.norm2(self.conv1(active))))
        return residual + (active if self.shortcut is None else self.shortcut(active))


def _conv3x3(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
