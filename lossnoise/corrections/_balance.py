"""The class-prior term, as the methods that have it set it up and add it to their losses."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from lossnoise._validation import check_choice, check_real, invalid_parameter, miss_one, to_numpy
from lossnoise._warnings import warn
from lossnoise.corrections.base import EpochContext
from lossnoise.corrections.losses import class_prior_divergence
from lossnoise.exceptions import ClassPriorWarning, SmallBatchWarning

Weight = float | Literal["auto"]

UNEVEN = 0.8  # of the classes above one: fewer of them, effectively, are far from uniform
EVEN = 0.95  # of them: as many are drawn by a sampler that draws all classes alike
FEW = 20  # samples a class: with fewer, chance alone makes them uneven


def check_balance(owner: str, weight: Weight, context: EpochContext, usual: float = 1.0) -> None:
    """Check the weight of the term; warn where batches are too small for it."""
    if weight != "auto":
        if isinstance(weight, str):
            raise invalid_parameter(owner, "class_balance", "'auto' or a float >= 0", weight)
        check_real(owner, "class_balance", weight, 0.0, math.inf, closed="left")
        return
    if not is_balanced(weight, context, usual):
        warn(
            f"Batches of {_whole_batch(context)} samples are too small to balance "
            f"{context.num_classes} classes: the class-balance term of {owner} is off. Use "
            f"batch_size >= {2 * context.num_classes}, or set class_balance={usual} to have it.",
            SmallBatchWarning,
        )


def is_balanced(weight: Weight, context: EpochContext, usual: float = 1.0) -> bool:
    """Tell whether whole batches have the term."""
    return balance_weight(weight, _whole_batch(context), context.num_classes, usual) > 0.0


def _whole_batch(context: EpochContext) -> int:
    return min(context.batch_size, context.num_samples)


def balance_weight(weight: Weight, batch_size: int, num_classes: int, usual: float) -> float:
    """Return eta. "auto" is the `usual` one, and 0 for batches of fewer than 2 C samples."""
    if weight == "auto":
        return usual if batch_size >= 2 * num_classes else 0.0
    return weight


def balance_term(
    logits: Tensor,
    weight: Weight,
    prior: Tensor | None,
    context: EpochContext,
    usual: float = 1.0,
) -> Tensor | float:
    """Return the weighted class-prior divergence of a batch, over all processes."""
    eta = balance_weight(weight, len(logits), logits.shape[1], usual)
    if not eta:
        return 0.0
    alone = context.shard[1] == 1
    return eta * class_prior_divergence(logits, prior, None if alone else context.all_mean)


def warn_of_prior(owner: str, counts: Tensor, prior: Tensor | None) -> None:
    """Warn where labels that were drawn, counted by class, contradict the prior.

    That is uniform (None), and the labels are far from it; or that of the given labels, and the
    batches have all classes alike.
    """
    if float(counts.sum()) < FEW * len(counts):
        return
    share = counts / counts.sum()
    if prior is None and _evenness(share) < UNEVEN:
        warn(
            f"{owner} supposes that all classes are alike frequent (class_prior='uniform'). The "
            f"given labels are not: the share of a class is {float(share.min()):.2g} to "
            f"{float(share.max()):.2g}. Right labels of frequent classes may be taken for wrong "
            f"ones: use correction={owner}(class_prior='labels'), at some cost to rare classes "
            "whose labels are right, or pass the frequencies of the true labels there, if you know "
            "them.",
            ClassPriorWarning,
        )
    elif prior is not None and _evenness(prior) < UNEVEN and _evenness(share) > EVEN:
        warn(
            f"{owner} takes the classes to be as frequent as in the given labels "
            f"(class_prior='labels'), {float(prior.min()):.2g} to {float(prior.max()):.2g}, and "
            "the sampler draws them evenly: predictions for such batches are pulled back to the "
            "frequent classes. Use one of the two, the sampler or class_prior='labels'.",
            ClassPriorWarning,
        )


def _evenness(share: Tensor) -> float:
    """Return how far shares are alike, from 0 (a single class) to 1, by their effective number."""
    if len(share) < 2:
        return 1.0
    return (float(torch.special.entr(share).sum().exp()) - 1.0) / (len(share) - 1.0)


def read_prior(owner: str, prior: Any, context: EpochContext) -> Tensor | None:
    """Return the frequencies of the classes that `class_prior` means, or None for uniform ones."""
    if isinstance(prior, str):
        check_choice(owner, "class_prior", prior, {"uniform", "labels"})
        if prior == "uniform":
            return None
        labels = context.sweep(lambda model, batch: batch.labels)
        counts = torch.bincount(labels, minlength=context.num_classes).float()
        return counts / counts.sum()
    expected = (
        f"'uniform', 'labels', or {context.num_classes} frequencies of the classes that sum to 1"
    )
    try:
        array = to_numpy(prior).astype(np.float64)
    except (TypeError, ValueError):
        raise invalid_parameter(owner, "class_prior", expected, prior) from None
    if array.shape != (context.num_classes,) or not np.isfinite(array).all() or (array < 0.0).any():
        raise invalid_parameter(owner, "class_prior", expected, prior)
    if miss_one(array[None]).any():
        raise invalid_parameter(owner, "class_prior", expected, prior)
    return torch.as_tensor(array / array.sum(), dtype=torch.float32, device=context.device)
