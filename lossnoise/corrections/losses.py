"""Losses as pure functions: one float32 value per sample, whatever the type of the logits."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.nn import functional as F

from lossnoise._validation import invalid_data

LARGEST = 80.0  # whose exponential is a float32
IMPOSSIBLE = -1e6  # in place of log 0, a number without gradient; no other logarithm is as low
ROUNDING = 1e-5  # by which a probability may miss [0, 1]


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

    Raises
    ------
    InvalidDataError
        There is not one weight for each sample.

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
    _check_weights("hard_bootstrap", "weights", weights, logits)
    log_probs, weights = F.log_softmax(logits.float(), dim=1), weights.float()
    given = log_probs.gather(1, labels[:, None]).squeeze(1)
    guessed = log_probs.gather(1, guesses[:, None]).squeeze(1)
    return -(1.0 - weights) * given - weights * guessed


def soft_bootstrap(logits: Tensor, labels: Tensor, guesses: Tensor, weights: Tensor) -> Tensor:
    """Return -((1 - w) y + w z) log h of each sample, with z a distribution over the classes.

    The soft bootstrapping loss of Reed et al. (2015), with a weight per sample as in Arazo et
    al. (2019), equation 13.

    Parameters
    ----------
    logits : Tensor of shape (batch, num_classes)
        Scores before the softmax, any float type.
    labels : Tensor of shape (batch,), int64
        The given class y.
    guesses : Tensor of shape (batch, num_classes), float32
        The probability z that the network gives each class; rows sum to 1.
    weights : Tensor of shape (batch,)
        Trust w in the guess, in [0, 1]: P(label wrong).

    Returns
    -------
    losses : Tensor of shape (batch,), float32

    Raises
    ------
    InvalidDataError
        There is not one weight for each sample.

    Examples
    --------
    >>> import torch
    >>> logits, label = torch.tensor([[2.0, 0.0]]), torch.tensor([1])
    >>> soft_bootstrap(logits, label, torch.tensor([[0.5, 0.5]]), torch.tensor([1.0]))
    tensor([1.1269])
    """
    _check_weights("soft_bootstrap", "weights", weights, logits)
    log_probs, weights = F.log_softmax(logits.float(), dim=1), weights.float()
    given = log_probs.gather(1, labels[:, None]).squeeze(1)
    return -(1.0 - weights) * given - weights * _times(guesses, log_probs).sum(dim=1)


def _times(weights: Tensor, log_probs: Tensor) -> Tensor:
    """Return the product, and 0 for a class of weight 0, also where it cannot be: 0 inf is NaN."""
    return weights * log_probs.masked_fill(weights == 0.0, 0.0)


def dynamic_bootstrap(
    logits: Tensor, labels: Tensor, noise_proba: ArrayLike | Tensor, hard: bool = True
) -> Tensor:
    """Return -((1 - w) y + w z) log h of each sample, with z what the logits themselves say.

    The dynamic bootstrapping loss of Arazo et al. (2019) for a training loop of one's own: the
    less probable it is that a label is right, the more the network learns from its own guess, the
    most probable class (hard) or all probabilities (soft). The guess has no gradient. With mixup,
    whose guesses are those of the unmixed inputs, take `hard_bootstrap` and `mix_losses`.

    Parameters
    ----------
    logits : Tensor of shape (batch, num_classes)
        Scores before the softmax, any float type.
    labels : Tensor of shape (batch,), int64
        The given class y.
    noise_proba : Tensor or array-like of shape (batch,), or one number
        P(label wrong) w of each sample, in [0, 1]; 0 is the cross-entropy.
    hard : bool, default=True
        Whether the guess is one class.

    Returns
    -------
    losses : Tensor of shape (batch,), float32

    Raises
    ------
    InvalidDataError
        There is not one P(label wrong) for each sample; or, of those on the host, one is not in
        [0, 1].

    Examples
    --------
    >>> import torch
    >>> logits, label = torch.tensor([[2.0, 0.0]]), torch.tensor([1])
    >>> dynamic_bootstrap(logits, label, torch.tensor([0.0]))  # only the label
    tensor([2.1269])
    >>> dynamic_bootstrap(logits, label, torch.tensor([1.0]))  # only the guess
    tensor([0.1269])
    >>> dynamic_bootstrap(logits, label, torch.tensor([1.0]), hard=False)
    tensor([0.3653])
    """
    weights = _read_noise_proba(noise_proba, logits)
    if hard:
        return hard_bootstrap(logits, labels, logits.detach().argmax(dim=1), weights)
    guesses = F.softmax(logits.detach().float(), dim=1)
    return soft_bootstrap(logits, labels, guesses, weights)


def _read_noise_proba(noise_proba: ArrayLike | Tensor, logits: Tensor) -> Tensor:
    owner = "dynamic_bootstrap"
    weights = torch.as_tensor(noise_proba)
    _check_weights(owner, "noise_proba", weights, logits)
    if weights.device.type == "cpu" and weights.numel():  # elsewhere, to look would be to wait
        low, high = float(weights.min()), float(weights.max())
        if not (low >= -ROUNDING and high <= 1.0 + ROUNDING):
            raise invalid_data(owner, "noise_proba", "in [0, 1]", f"{low:g} to {high:g}")
    return weights.to(logits.device, torch.float32).clamp(0.0, 1.0)


def _check_weights(owner: str, name: str, weights: Tensor, logits: Tensor) -> None:
    if weights.ndim > 0 and weights.shape != logits.shape[:1]:
        expected = f"of shape ({len(logits)},), one probability for each sample"
        raise invalid_data(owner, name, expected, f"shape {tuple(weights.shape)}")


def forward_corrected(logits: Tensor, labels: Tensor, transition: Tensor) -> Tensor:
    """Return -log (T' h)[y] of each sample, T_ij = p(given = j | true = i).

    The forward correction of Patrini et al. (2017), theorem 2: what the network predicts of the
    true class is carried over to the given one before it is compared with the label.

    Parameters
    ----------
    logits : Tensor of shape (batch, num_classes)
        Scores before the softmax, any float type.
    labels : Tensor of shape (batch,), int64
        The given class y.
    transition : Tensor of shape (num_classes, num_classes), float32
        T; rows sum to 1.

    Returns
    -------
    losses : Tensor of shape (batch,), float32

    Examples
    --------
    >>> import torch
    >>> T = torch.tensor([[0.8, 0.2], [0.3, 0.7]])
    >>> forward_corrected(torch.zeros(1, 2), torch.tensor([0]), T)  # -log (0.8 / 2 + 0.3 / 2)
    tensor([0.5978])
    """
    log_probs = F.log_softmax(logits.float(), dim=1)
    # Where T is 0 the logarithm stays finite, and so do gradients of labels that it rules out.
    log_transition = transition.float().clamp_min(torch.finfo(torch.float32).tiny).log()
    return -torch.logsumexp(log_probs + log_transition.T.index_select(0, labels), dim=1)


def backward_corrected(logits: Tensor, labels: Tensor, inverse: Tensor) -> Tensor:
    """Return (T^-1 l)[y] of each sample, l the vector of its cross-entropies with every class.

    The backward correction of Patrini et al. (2017), theorem 1: an unbiased estimate of the loss
    on the true label, which may be negative.

    Parameters
    ----------
    logits : Tensor of shape (batch, num_classes)
        Scores before the softmax, any float type.
    labels : Tensor of shape (batch,), int64
        The given class y.
    inverse : Tensor of shape (num_classes, num_classes), float32
        The inverse of T_ij = p(given = j | true = i).

    Returns
    -------
    losses : Tensor of shape (batch,), float32

    Examples
    --------
    >>> import torch
    >>> backward_corrected(torch.zeros(1, 2), torch.tensor([0]), torch.eye(2))
    tensor([0.6931])
    """
    rows = inverse.float().index_select(0, labels)
    return -_times(rows, F.log_softmax(logits.float(), dim=1)).sum(dim=1)


def soft_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Return -sum_c t_c log h_c of each sample, t a distribution over the classes.

    Parameters
    ----------
    logits : Tensor of shape (batch, num_classes)
        Scores before the softmax, any float type.
    targets : Tensor of shape (batch, num_classes), float32
        The probability t that each class should have; rows sum to 1.

    Returns
    -------
    losses : Tensor of shape (batch,), float32

    Examples
    --------
    >>> import torch
    >>> soft_cross_entropy(torch.tensor([[2.0, 0.0]]), torch.tensor([[0.5, 0.5]]))
    tensor([1.1269])
    """
    return -_times(targets, F.log_softmax(logits.float(), dim=1)).sum(dim=1)


def prediction_entropy(logits: Tensor) -> Tensor:
    """Return -sum_c h_c log h_c of each sample: 0 where the network is certain.

    As a term of a loss it has a network decide (Tanaka et al. 2018, equation 9).

    Parameters
    ----------
    logits : Tensor of shape (batch, num_classes)
        Scores before the softmax, any float type.

    Returns
    -------
    entropies : Tensor of shape (batch,), float32

    Examples
    --------
    >>> import torch
    >>> prediction_entropy(torch.zeros(1, 4))  # log 4
    tensor([1.3863])
    """
    log_probs = F.log_softmax(logits.float(), dim=1)
    return -_times(log_probs.exp(), log_probs).sum(dim=1)


def class_prior_divergence(
    logits: Tensor,
    prior: Tensor | None = None,
    all_mean: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Return R = sum_c p_c log(p_c / hbar_c), hbar the mean softmax of the batch.

    Keeps a network from putting all samples into one class (Tanaka et al. 2018; Arazo et al.
    2019, section 3.2). Biased in small batches: fewer than 2 C samples cannot be spread evenly.
    Classes that no sample of the batch can have, with logits of -inf, have no part in it.

    Parameters
    ----------
    logits : Tensor of shape (batch, num_classes)
        Scores before the softmax, any float type.
    prior : Tensor of shape (num_classes,), float32, optional
        How frequent each class should be, p; sums to 1. Default: all alike, 1 / C.
    all_mean : callable, optional
        Mean of a tensor over all processes, for hbar of a batch that is spread over them.

    Returns
    -------
    divergence : Tensor of shape (), float32

    Examples
    --------
    >>> import torch
    >>> abs(round(float(class_prior_divergence(torch.zeros(8, 4))), 4))
    0.0
    """
    log_probs = F.log_softmax(logits.float(), dim=1).clamp_min(IMPOSSIBLE)
    log_mean = torch.logsumexp(log_probs, dim=0) - math.log(logits.shape[0])
    possible = log_mean > 0.5 * IMPOSSIBLE
    if all_mean is not None:
        # Relative to a common value: a class that nobody predicts has a mean below any float32.
        common = all_mean(log_mean.detach())
        log_mean = common + all_mean((log_mean - common).clamp_max(LARGEST).exp()).log()
    if prior is None:
        number = possible.sum()
        return -(log_mean * possible).sum() / number - number.log()
    return ((torch.xlogy(prior, prior) - prior * log_mean) * possible).sum()
