"""Iterative learning with open-set noisy labels (Wang et al., CVPR 2018)."""

from __future__ import annotations

import math
import warnings
from numbers import Integral
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import erf
from sklearn.neighbors import LocalOutlierFactor
from torch import Tensor, nn
from torch.nn import functional as F

from lossnoise._validation import check_real, invalid_parameter
from lossnoise.corrections._features import check_features_at, forward_features, try_features
from lossnoise.corrections.base import (
    Batch,
    Correction,
    EpochContext,
    resolve_epochs,
    warn_of_schedule,
)
from lossnoise.corrections.losses import cross_entropy

FEWEST = 10  # rows of a class among which an outlier can be told
LARGEST = 1000  # rows that are compared with each other: the cost grows with their square
NOISY = 0.5  # the score above which a label is taken for wrong
SHORTEST = 1e-3  # features that are scaled to length 1: the gradient grows with the scale


def outlier_proba(
    features: NDArray[Any], labels: NDArray[np.int64], neighbors: float = 0.5
) -> NDArray[np.float64]:
    """Return how probably each sample is an outlier of its class.

    max(0, erf(P / (sqrt(2) rms(P)))) with P = LOF - 1, and the root mean square over the class:
    the local outlier probability of Kriegel et al. (2009), with the local outlier factor (LOF) of
    scikit-learn in the place of theirs.

    Parameters
    ----------
    features : ndarray of shape (n, num_features)
        Finite.
    labels : ndarray of shape (n,), int64
        The class of each row. Rows of a class with fewer than 10 are no outliers; a class with
        more than 1,000 is dealt out to parts of at most so many, which are compared within.
    neighbors : int or float, default=0.5
        How many neighbours a row's density is compared with: a number (int), or a fraction of the
        rows that it is compared with (float).

    Returns
    -------
    scores : ndarray of shape (n,), float64
        In [0, 1].

    Examples
    --------
    >>> import numpy as np
    >>> points = np.random.default_rng(0).normal(size=(50, 2))
    >>> points[7] = [9.0, 9.0]
    >>> int(outlier_proba(points, np.zeros(50, dtype=np.int64)).argmax())
    7
    """
    scores = np.zeros(len(labels))
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        if len(rows) >= FEWEST:
            excess = _outlier_factors(features[rows], neighbors) - 1.0
            scale = math.sqrt(2.0 * float(np.square(excess).mean()))
            scores[rows] = np.maximum(0.0, erf(excess / max(scale, 1e-12)))
    return scores


def contrastive_loss(features: Tensor, labels: Tensor, noisy: Tensor, margin: float) -> Tensor:
    """Return the mean loss of each sample over its pairs with others of the same label.

    D^2 / 2 of two clean samples, which are pulled together; max(0, margin - D)^2 / 2 of a clean
    and a noisy one, which are pushed apart; nothing of two noisy ones. D is the distance of
    features of length 1 (Wang et al. 2018, section 3.3).

    Parameters
    ----------
    features : Tensor of shape (batch, num_features), float32
    labels : Tensor of shape (batch,), int64
        The labels as given.
    noisy : Tensor of shape (batch,), bool
        Whether each is taken for wrong.
    margin : float
        Distance at which pushing ends; no two samples are farther apart than 2.

    Returns
    -------
    losses : Tensor of shape (batch,), float32
        0 for a sample without a pair.

    Examples
    --------
    >>> import torch
    >>> features = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 2.0]])
    >>> noisy = torch.tensor([False, False, True])
    >>> contrastive_loss(features, torch.zeros(3, dtype=torch.int64), noisy, margin=2.0)
    tensor([0.5858, 1.5000, 1.0858])
    """
    unit = F.normalize(features, eps=SHORTEST)
    # Not by way of a matrix product, which would be made in low precision under autocast.
    distance = torch.cdist(unit, unit, compute_mode="donot_use_mm_for_euclid_dist")
    alike = (labels[:, None] == labels).fill_diagonal_(False)
    pull = alike & ~(noisy[:, None] | noisy)
    push = alike & (noisy[:, None] ^ noisy)
    losses = 0.5 * (pull * distance.square() + push * F.relu(margin - distance).square())
    return losses.sum(dim=1) / (pull | push).sum(dim=1).clamp_min(1)


class OpenSet(Correction):
    """Iterative learning with open-set noisy labels; registry name ``"open-set"``.

    Whose features lie apart from the rest of its class is taken for wrongly labelled, whatever it
    is: also a picture that is of no class at all. After a warm-up with cross-entropy, and again
    every few epochs, each sample gets an outlier probability among the penultimate features of
    its class; its score is the mean of those so far. A label with a score above 1/2 counts as
    noisy: its cross-entropy has the weight 1 - score, and a contrastive loss keeps its features
    away from the clean ones of its class, which are pulled together (Wang et al., CVPR 2018).

    Parameters
    ----------
    warmup : int or float, default=0.1
        Epochs before the first scores, at least 1: a number of epochs (int) or a fraction of the
        run (float).
    every : int or float, default=0.1
        Epochs from one look at the features to the next, at least 1; a number or a fraction.
    neighbors : int or float, default=0.5
        Neighbours whose density that of a sample is compared with: a number (int), or a fraction
        of its class (float). It should be no more than the right labels of a class, and more than
        the wrong ones that look like each other.
    contrast : float, default=1.0
        Weight of the contrastive loss; 0 leaves it out.
    margin : float, default=1.0
        Distance, of features of length 1, beyond which noisy samples are not pushed; at most 2.
    features_at : str, default=""
        Name of the module whose input is taken as features. Empty: the last `torch.nn.Linear`
        that the forward pass meets.

    Attributes
    ----------
    outlier_score_ : Tensor of shape (num_samples,), float32, or None
        The scores, in [0, 1], on the training device; None until the first look.

    Examples
    --------
    >>> from lossnoise.corrections import OpenSet
    >>> OpenSet(every=5, contrast=0.0).neighbors
    0.5
    """

    _score: Tensor | None = None  # the mean over the looks so far
    _looks = 0
    _untried = True  # no batch has given features yet
    _device = torch.device("cpu")  # of the run

    def __init__(
        self,
        *,
        warmup: float = 0.1,
        every: float = 0.1,
        neighbors: float = 0.5,
        contrast: float = 1.0,
        margin: float = 1.0,
        features_at: str = "",
    ) -> None:
        self.warmup = warmup
        self.every = every
        self.neighbors = neighbors
        self.contrast = contrast
        self.margin = margin
        self.features_at = features_at

    @property
    def outlier_score_(self) -> Tensor | None:
        """The scores, in [0, 1], on the training device; None until the first look."""
        return self._score

    def setup(self, context: EpochContext) -> None:
        """Check the parameters; begin afresh."""
        owner = type(self).__name__
        self._score, self._looks = None, 0
        warn_of_schedule(owner, self.epochs_before(context), context.num_epochs)
        self._epochs("every", self.every, context)
        _check_neighbors(owner, self.neighbors)
        check_real(owner, "contrast", self.contrast, 0.0, math.inf, closed="left")
        check_real(owner, "margin", self.margin, 0.0, 2.0, closed="right")
        check_features_at(owner, self.features_at, context.engine.model)
        self._untried = True
        self._device = context.device

    def loss(self, model: nn.Module, batch: Batch, context: EpochContext) -> Tensor:
        """Return the loss of each sample, shape (batch,): the cross-entropy during warm-up."""
        if self._untried:  # what the model lacks is said before it is trained
            try_features(model, batch.inputs, self.features_at)
            self._untried = False
        if self._score is None or not self.contrast:
            losses = cross_entropy(model(batch.inputs), batch.labels)
            context.record(batch.indices, losses.detach())
            return losses if self._score is None else losses * self._weights(batch)
        found = forward_features(model, batch.inputs, self.features_at)
        losses = cross_entropy(found.logits, batch.labels)
        context.record(batch.indices, losses.detach())
        noisy = self._score[batch.indices] > NOISY
        apart = contrastive_loss(found.features, batch.labels, noisy, self.margin)
        return losses * self._weights(batch) + self.contrast * apart

    def end_epoch(self, context: EpochContext) -> None:
        """Look at the features when it is time; after the last epoch nothing would come of it."""
        since = context.epoch - self._epochs("warmup", self.warmup, context)
        due = since >= 0 and since % self._epochs("every", self.every, context) == 0
        if due and context.epoch < context.num_epochs:
            self._look(context)

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs beside the constructor's arguments."""
        return {"score": self._score, "looks": self._looks}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` returned."""
        self._looks = state["looks"]
        if state["score"] is not None:
            self._score = state["score"].to(self._device)  # checkpoints are read on the host

    # -- inside -----------------------------------------------------------------------------

    def _weights(self, batch: Batch) -> Tensor:
        """Return the weight of each sample's cross-entropy, shape (batch,)."""
        assert self._score is not None  # the callers have it
        scores = self._score[batch.indices]
        return torch.where(scores > NOISY, 1.0 - scores, torch.ones_like(scores))

    def _look(self, context: EpochContext) -> None:
        """Average the outlier probabilities of the features as they are into the scores."""

        def describe(model: nn.Module, batch: Batch) -> Tensor:
            features = forward_features(model, batch.inputs, self.features_at).features
            unit = F.normalize(features, eps=SHORTEST)
            return torch.cat([unit, batch.labels[:, None].float()], dim=1)

        described = context.sweep(describe).cpu().numpy()
        features, labels = described[:, :-1], described[:, -1].astype(np.int64)
        proba = torch.as_tensor(outlier_proba(features, labels, self.neighbors))
        # A mean, as other machines may round differently: every process has the same scores.
        proba = context.all_mean(proba.float().to(context.device))
        self._looks += 1
        before = proba if self._score is None else self._score
        self._score = before + (proba - before) / self._looks

    def epochs_before(self, context: EpochContext) -> int:
        """Return the epochs of the warm-up."""
        return self._epochs("warmup", self.warmup, context)

    def _epochs(self, name: str, value: float, context: EpochContext) -> int:
        return max(1, resolve_epochs(type(self).__name__, name, value, context.num_epochs))


def _check_neighbors(owner: str, neighbors: object) -> None:
    number = isinstance(neighbors, Integral) and not isinstance(neighbors, bool)
    if number and neighbors >= 1:  # type: ignore[operator]  # an integer
        return
    if isinstance(neighbors, float) and 0.0 < neighbors < 1.0:
        return
    expected = "a number of neighbours (int >= 1) or a fraction of a class in (0.0, 1.0)"
    raise invalid_parameter(owner, "neighbors", expected, neighbors)


def _outlier_factors(rows: NDArray[Any], neighbors: float) -> NDArray[np.float64]:
    """Return the local outlier factor of each row of a class: 1 where it is as dense as around."""
    factors = np.empty(len(rows))
    parts = -(-len(rows) // LARGEST)
    for part in range(parts):
        some = rows[part::parts]
        wanted = round(neighbors * len(some)) if isinstance(neighbors, float) else int(neighbors)
        lof = LocalOutlierFactor(n_neighbors=min(max(1, wanted), len(some) - 1))
        with warnings.catch_warnings():  # more copies of a row than it has neighbours: an inlier
            warnings.filterwarnings("ignore", "Duplicate values", UserWarning)
            factors[part::parts] = -lof.fit(some).negative_outlier_factor_
    return factors
