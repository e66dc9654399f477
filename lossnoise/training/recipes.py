"""Published settings as arguments of `NoisyLabelTrainer`."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import MultiStepLR

from lossnoise._validation import check_choice, check_int
from lossnoise.corrections import CORRECTIONS
from lossnoise.corrections._dynamic import DynamicBootstrap
from lossnoise.corrections.m_dyr_h import MDyrH
from lossnoise.corrections.mixup import Mixup

OWNER = "paper_recipe"

# Epochs, epochs of warm-up, and those from which on the learning rate is a tenth.
WITH_MIXUP = (300, 105, (100, 250))
WITHOUT = (120, 30, (30, 80, 110))


def paper_recipe(correction: str = "m-dyr-h", *, epochs: int | None = None) -> dict[str, Any]:
    """Return the settings of Arazo et al. (ICML 2019) for CIFAR-10 and CIFAR-100.

    SGD with learning rate 0.1, momentum 0.9 and weight decay 1e-4, batches of 128. With mixup 300
    epochs, learning rate / 10 from 100 and 250 on, warm-up of 105; without it 120 epochs, / 10
    from 30, 80 and 110 on, warm-up of 30. Another number of epochs keeps the shape. Methods that
    start afresh within the run (`forward`, `backward`, `joint-optimization`) have the trainer's
    schedule, which fits the epochs that are left then.

    The network is not part of it: the paper has `lossnoise.models.preact_resnet18`, with pictures
    cropped at random from a border of 4 pixels and flipped.

    Parameters
    ----------
    correction : str, default="m-dyr-h"
        A name in ``lossnoise.corrections.CORRECTIONS``.
    epochs : int, optional
        Length of the run; default: the paper's.

    Returns
    -------
    settings : dict
        Keyword arguments of `NoisyLabelTrainer`.

    Raises
    ------
    InvalidParameterError
        A parameter is out of range.

    Examples
    --------
    >>> from lossnoise.training import paper_recipe
    >>> settings = paper_recipe("m-dyr-h", epochs=30)
    >>> settings["correction"].warmup, settings["batch_size"]
    (0.35, 128)
    """
    check_choice(OWNER, "correction", correction, CORRECTIONS)
    kind = CORRECTIONS[correction]
    whole, warmup, drops = WITH_MIXUP if issubclass(kind, (Mixup, MDyrH)) else WITHOUT
    length = whole if epochs is None else check_int(OWNER, "epochs", epochs, 1)
    method = kind()
    if isinstance(method, DynamicBootstrap):
        method.warmup = warmup / whole
    milestones = [max(1, round(drop * length / whole) - 1) for drop in drops]
    settings = {
        "correction": method,
        "epochs": length,
        "batch_size": 128,
        "optimizer": partial(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=1e-4),
    }
    if not kind.needs_restart:  # it would be that of the whole run
        settings["scheduler"] = partial(_drop, milestones=milestones)
    return settings


def _drop(optimizer: Optimizer, *, milestones: list[int]) -> MultiStepLR:
    return MultiStepLR(optimizer, milestones, gamma=0.1)
