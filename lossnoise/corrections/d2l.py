"""D2L: dimensionality-driven learning (Ma et al., ICML 2018)."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lossnoise._validation import check_int
from lossnoise.corrections._features import check_features_at, forward_features, try_features
from lossnoise.corrections._logits import LogitsModel, user_model
from lossnoise.corrections._modes import eval_mode
from lossnoise.corrections.base import (
    Batch,
    Correction,
    EpochContext,
    resolve_epochs,
    warn_of_schedule,
)
from lossnoise.corrections.losses import cross_entropy, hard_bootstrap

GROUP = 128  # samples among which the neighbours of each are looked for
MEASURED = 10 * GROUP  # samples an epoch
SHORTEST_WINDOW = 2  # epochs, of which a standard deviation says something


def local_dimensionality(features: Tensor, neighbors: int = 20) -> Tensor:
    """Return the local intrinsic dimensionality of each sample among the others.

    LID(x) = -(1/k sum_j log(r_j / r_k))^-1 with r_1 <= ... <= r_k the distances to the k nearest
    others: how fast the number of neighbours grows with the distance, by maximum likelihood (Ma
    et al. 2018, section 3). Copies of the sample itself are no neighbours of it.

    Parameters
    ----------
    features : Tensor of shape (n, num_features), float32
    neighbors : int, default=20
        The number k of neighbours; all others where there are fewer.

    Returns
    -------
    dimensionality : Tensor of shape (n,), float32
        Not finite where there are fewer than k others that are no copies, or all k are at the
        same distance; NaN with fewer than 3 rows.

    Examples
    --------
    >>> import torch
    >>> square = torch.rand(2000, 2, generator=torch.Generator().manual_seed(0))
    >>> round(float(local_dimensionality(square, 100).median()))
    2
    """
    if len(features) < 3:
        return features.new_full((len(features),), torch.nan)
    # Not by way of matrix products, which lose the distances of close neighbours.
    distances = torch.cdist(features, features, compute_mode="donot_use_mm_for_euclid_dist")
    distances.masked_fill_(distances == 0.0, torch.inf)
    nearest = distances.topk(min(neighbors, len(features) - 1), largest=False).values
    farthest = nearest[:, -1]
    dimensionality = -1.0 / (nearest / farthest[:, None]).log().mean(dim=1)
    return dimensionality.masked_fill(~farthest.isfinite(), torch.nan)


def is_turning_point(history: Sequence[float], window: int) -> bool:
    """Tell whether the last dimensionality stands out above those of the epochs before it.

    LID_t - mean > 2 std, with mean and standard deviation over the `window` epochs before t (Ma
    et al. 2018, section 4).

    Parameters
    ----------
    history : sequence of float
        Mean dimensionality after each epoch so far.
    window : int
        At least 2; with no more than `window` values there is no answer yet.

    Returns
    -------
    found : bool

    Examples
    --------
    >>> is_turning_point([5.0, 5.1, 4.9, 5.0, 5.6], window=4)
    True
    """
    if len(history) <= window:
        return False
    before = np.array(history[-window - 1 : -1])
    return bool(history[-1] - before.mean() > 2.0 * before.std())


def label_trust(history: Sequence[float], progress: float) -> float:
    """Return alpha = exp(-(t/T) LID_t / min LID), the weight of the given labels.

    It falls with time, and the faster the more the dimensionality has risen (Ma et al. 2018,
    section 4).

    Parameters
    ----------
    history : sequence of float
        Mean dimensionality after each epoch so far, LID_t the last; the minimum is over those
        before it.
    progress : float
        Part t/T of the run that is over, in [0, 1].

    Returns
    -------
    alpha : float in (0, 1]

    Examples
    --------
    >>> round(label_trust([4.0, 5.0, 6.0, 8.0], progress=0.5), 4)  # exp(-1/2 * 8/4)
    0.3679
    """
    lowest = min(history[:-1] or history)
    return math.exp(-progress * history[-1] / lowest)


class D2L(Correction):
    """Dimensionality-driven learning; registry name ``"d2l"``.

    The samples' features form a space of few dimensions while a network learns the rule, and of
    more and more while it memorises wrong labels. The local intrinsic dimensionality (LID) of the
    penultimate features is measured after every epoch. Where it begins to rise, the network goes
    back to the end of the epoch before, and from then on learns from alpha y + (1 - alpha) z:
    the given label y and the class z that it believes in, with alpha = exp(-(t/T) LID_t / min LID)
    after epoch t of T (Ma et al., ICML 2018).

    Parameters
    ----------
    startup : int or float, default=0.1
        Epochs in which no rise is looked for: a number of epochs (int) or a fraction of the run
        (float).
    window : int or float, default=5
        Epochs that a LID is compared with: a number (int >= 2) or a fraction of the run (float).
        A rise is more than twice their standard deviation above their mean. In a run of no more
        than one epoch after them none is found, and every label is believed.
    neighbors : int, default=20
        Neighbours of a sample, among 128, that its LID is estimated from.
    features_at : str, default=""
        Name of the module whose input is taken as features. Empty: the last `torch.nn.Linear`
        that the forward pass meets.

    Attributes
    ----------
    lid_ : list of float
        Mean LID after each epoch; NaN where it could not be measured.
    turning_epoch_ : int or None
        The epoch that was undone; None until a rise is found.
    alpha_ : float
        Weight of the given labels in the next epoch; 1 until a rise is found.

    Examples
    --------
    >>> from lossnoise.corrections import D2L
    >>> D2L(startup=3).window
    5
    """

    _history: tuple[float, ...] = ()  # mean LID after each epoch
    _turned: int | None = None
    _alpha = 1.0
    _snapshot: dict[str, Any] | None = None  # of the end of the last epoch, while it is of use
    _untried = True  # no batch has given features yet
    _recent: deque[Any] | None = None  # inputs of the last batches of the epoch

    def __init__(
        self,
        *,
        startup: float = 0.1,
        window: float = 5,
        neighbors: int = 20,
        features_at: str = "",
    ) -> None:
        self.startup = startup
        self.window = window
        self.neighbors = neighbors
        self.features_at = features_at

    @property
    def lid_(self) -> list[float]:
        """Mean LID after each epoch; NaN where it could not be measured."""
        return list(self._history)

    @property
    def turning_epoch_(self) -> int | None:
        """The epoch that was undone; None until a rise is found."""
        return self._turned

    @property
    def alpha_(self) -> float:
        """Weight of the given labels in the next epoch; 1 until a rise is found."""
        return self._alpha

    def setup(self, context: EpochContext) -> None:
        """Check the parameters; begin afresh."""
        owner = type(self).__name__
        self._history, self._turned, self._alpha, self._snapshot = (), None, 1.0, None
        resolve_epochs(owner, "startup", self.startup, context.num_epochs)
        if not isinstance(self.window, float):
            check_int(owner, "window", self.window, SHORTEST_WINDOW)
        self._window_epochs(context)
        check_int(owner, "neighbors", self.neighbors, 2)
        check_features_at(owner, self.features_at, context.engine.model)
        self._untried = True
        warn_of_schedule(
            owner, self.epochs_before(context), context.num_epochs, "startup or window"
        )

    def begin_epoch(self, context: EpochContext) -> None:
        """Begin to keep the inputs of the last batches."""
        # One more than they fill: the last of an epoch may be short.
        self._recent = deque(maxlen=1 + math.ceil(MEASURED / context.batch_size))

    def loss(self, model: nn.Module, batch: Batch, context: EpochContext) -> Tensor:
        """Return the loss of each sample, shape (batch,): cross-entropy until a rise is found."""
        if self._untried:  # what the model lacks is said before it is trained
            try_features(model, batch.inputs, self.features_at)
            self._untried = False
        logits = model(batch.inputs)
        losses = cross_entropy(logits, batch.labels)
        context.record(batch.indices, losses.detach())
        if self._recent is not None:
            self._recent.append(batch.inputs)
        if self._turned is None:
            return losses
        doubt = torch.full_like(losses, 1.0 - self._alpha)
        return hard_bootstrap(logits, batch.labels, logits.argmax(dim=1), doubt)

    def end_epoch(self, context: EpochContext) -> None:
        """Measure the LID; go back by an epoch where it begins to rise, and weigh the labels."""
        self._history = (*self._history, self._measure(context))
        known = [lid for lid in self._history if math.isfinite(lid)]
        if self._turned is None:
            self._look_for_a_rise(known, context)
        if self._turned is not None and known:
            self._alpha = label_trust(known, context.epoch / context.num_epochs)

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs beside the constructor's arguments."""
        return {
            "history": list(self._history),
            "turned": self._turned,
            "alpha": self._alpha,
            "snapshot": self._snapshot,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` returned."""
        self._history = tuple(state["history"])
        self._turned, self._alpha = state["turned"], state["alpha"]
        self._snapshot = state["snapshot"]

    # -- inside -----------------------------------------------------------------------------

    def _look_for_a_rise(self, known: list[float], context: EpochContext) -> None:
        """Go back by an epoch where the LID begins to rise; or else be ready to, after the next.

        Not in the last epoch: nothing comes after it, and its accuracy is recorded already.
        """
        first = self.epochs_before(context)
        is_late = first <= context.epoch < context.num_epochs
        if is_late and self._snapshot and is_turning_point(known, self._window_epochs(context)):
            context.engine.rollback(self._snapshot)
            self._turned, self._snapshot = context.epoch, None
            return
        of_use = first <= context.epoch + 1 < context.num_epochs
        self._snapshot = context.engine.snapshot() if of_use else None

    @torch.no_grad()
    def _measure(self, context: EpochContext) -> float:
        """Return the mean LID of the samples of the last batches, over all processes."""
        model = LogitsModel(user_model(context.engine.model))  # without waiting for the others
        recent, self._recent = self._recent or (), None
        with eval_mode(model), context.engine.autocast():
            parts = [forward_features(model, inputs, self.features_at) for inputs in recent]
        features = torch.cat([part.features for part in parts])[-MEASURED:]
        groups = torch.split(features, GROUP)
        full = [group for group in groups if len(group) == GROUP] or groups[:1]
        lids = torch.cat([local_dimensionality(group, self.neighbors) for group in full])
        lids = lids[lids.isfinite()]
        total = torch.stack([lids.sum(), torch.full_like(lids.sum(), len(lids))])
        added, number = context.all_mean(total).tolist()
        return float(added / number) if number else math.nan

    def epochs_before(self, context: EpochContext) -> int:
        """Return the first epoch that a rise is looked for in."""
        return max(self._startup_epochs(context), self._window_epochs(context)) + 1

    def _startup_epochs(self, context: EpochContext) -> int:
        return resolve_epochs(type(self).__name__, "startup", self.startup, context.num_epochs)

    def _window_epochs(self, context: EpochContext) -> int:
        epochs = resolve_epochs(type(self).__name__, "window", self.window, context.num_epochs)
        return max(SHORTEST_WINDOW, epochs)
