"""Losses as pure functions: one float32 value per sample, whatever the type of the logits."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return -log h[y] of each sample, h = softmax(logits).

    Parameters
    ----------
    logits : Tensor of shape (batch, num_classes)
        Scores before the softmax, any float type.
    labels : Tensor of shape (batch,), int64
        Class of each sample.

    Returns
    -------
    losses : Tensor of shape (batch,), float32

    Examples
    --------
    >>> import torch
    >>> cross_entropy(torch.zeros(1, 4), torch.tensor([2]))
    tensor([1.3863])
    """
    return F.cross_entropy(logits.float(), labels, reduction="none")


def hard_bootstrap(logits: Tensor, labels: Tensor, guesses: Tensor, weights: Tensor) -> Tensor:
    """Return -((1 - w) y + w z) log h of each sample, with z the one-hot guess.

    The hard bootstrapping loss of Reed et al. (2015), with a weight per sample as in Arazo et
    al. (2019), equation 12.

    Parameters
    ----------
    logits : Tensor of shape (batch, num_classes)
        Scores before the softmax, any float type.
    labels, guesses : Tensor of shape (batch,), int64
        The given class y and the class z that the network believes in.
    weights : Tensor of shape (batch,)
        Trust w in the guess, in [0, 1]: P(label wrong).

    Returns
    -------
    losses : Tensor of shape (batch,), float32

    Examples
    --------
    >>> import torch
    >>> logits = torch.tensor([[2.0, 0.0]])
    >>> label, guess = torch.tensor([1]), torch.tensor([0])
    >>> hard_bootstrap(logits, label, guess, torch.tensor([0.0]))  # only the label
    tensor([2.1269])
    >>> hard_bootstrap(logits, label, guess, torch.tensor([1.0]))  # only the guess
    tensor([0.1269])
    """
    log_probs = F.log_softmax(logits.float(), dim=1)
    given = log_probs.gather(1, labels[:, None]).squeeze(1)
    guessed = log_probs.gather(1, guesses[:, None]).squeeze(1)
    return -(1.0 - weights) * given - weights * guessed


def class_prior_divergence(logits: Tensor) -> Tensor:
    """Return R = sum_c p_c log(p_c / hbar_c), p_c = 1 / C, hbar the mean softmax of the batch.

    Keeps a network from putting all samples into one class (Tanaka et al. 2018; Arazo et al.
    2019, section 3.2). Biased in small batches: fewer than 2 C samples cannot be spread evenly.

    Parameters
    ----------
    logits : Tensor of shape (batch, num_classes)
        Scores before the softmax, any float type.

    Returns
    -------
    divergence : Tensor of shape (), float32

    Examples
    --------
    >>> import torch
    >>> abs(round(float(class_prior_divergence(torch.zeros(8, 4))), 4))
    0.0
    """
    log_probs = F.log_softmax(logits.float(), dim=1)
    log_mean = torch.logsumexp(log_probs, dim=0) - math.log(logits.shape[0])
    num_classes = logits.shape[1]
    return -log_mean.mean() - math.log(num_classes)
