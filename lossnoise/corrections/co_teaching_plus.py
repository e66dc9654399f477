"""Co-teaching+: two networks that teach each other where they disagree (Yu et al., 2019)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from lossnoise._validation import check_real, invalid_parameter
from lossnoise.corrections.base import (
    Batch,
    Correction,
    Engine,
    EpochContext,
    resolve_epochs,
    warn_of_schedule,
)
from lossnoise.corrections.losses import cross_entropy


def share_to_keep(noise_rate: float, epoch: int, ramp: int) -> float:
    """Return R = 1 - tau min(e / ramp, 1): the share of samples to learn from in an epoch.

    Parameters
    ----------
    noise_rate : float
        tau, the share of wrong labels.
    epoch : int
        e, counted from 1.
    ramp : int
        Epoch from which on all of tau is left out.

    Returns
    -------
    share : float
        In [0, 1].
    """
    return 1.0 - noise_rate * min(epoch / max(ramp, 1), 1.0)


def find_disagreement(first: Tensor, second: Tensor) -> Tensor:
    """Return which samples two networks put into different classes; all, where there is none.

    Parameters
    ----------
    first, second : Tensor of shape (batch, num_classes)
        Logits of the two networks.

    Returns
    -------
    candidates : Tensor of shape (batch,), bool
    """
    differs = first.argmax(dim=1) != second.argmax(dim=1)
    return differs | ~differs.any()


def select_small_losses(losses: Tensor, candidates: Tensor, share: float) -> Tensor:
    """Return which samples have the smallest losses among the candidates.

    Parameters
    ----------
    losses : Tensor of shape (batch,)
    candidates : Tensor of shape (batch,), bool
        Those to choose from, at least one.
    share : float
        How many of them to choose, in [0, 1]; rounded to a number of samples, and at least one.

    Returns
    -------
    chosen : Tensor of shape (batch,), bool
    """
    count = (share * candidates.sum()).round().clamp_min(1.0)
    order = losses.masked_fill(~candidates, torch.inf).argsort(stable=True)
    return order.argsort() < count


class CoTeachingPlus(Correction):
    """Two networks, each taught what the other chose; registry name ``"co-teaching-plus"``.

    Of each batch, the samples on which the two networks disagree are candidates. Each network
    chooses those with the smallest losses, a share R(e) = 1 - tau min(e / ramp, 1) of them in
    epoch e, and the other learns these with cross-entropy (Yu et al., ICML 2019, algorithm 1). In
    the warm-up, and where the two agree on all of a batch, all of it are candidates.

    The first network is the user's model: the one that predicts, and whose losses are measured.

    Parameters
    ----------
    noise_rate : float, optional
        tau, the share of wrong labels, in [0, 1). Default: the detector's of the epoch before,
        times the evidence of its mixture (`EpochContext.evidence`).
    warmup : int or float, default=0.1
        Epochs in which the networks choose from all samples: a number of epochs (int) or a
        fraction of the run (float).
    ramp : int or float, default=0.1
        Epochs over which the share of samples that is left out rises to tau. The paper has 10 of
        200.
    model_factory : callable, optional
        Returns the second network, a `torch.nn.Module` for the same inputs and classes. Default:
        a copy of the model, whose layers draw new parameters with their ``reset_parameters``,
        unless they are frozen.

    Examples
    --------
    >>> from lossnoise.corrections import CoTeachingPlus
    >>> CoTeachingPlus(noise_rate=0.4).num_models
    2
    """

    needs_detector = True
    num_models = 2

    def __init__(
        self,
        *,
        noise_rate: float | None = None,
        warmup: float = 0.1,
        ramp: float = 0.1,
        model_factory: Callable[[], nn.Module] | None = None,
    ) -> None:
        self.noise_rate = noise_rate
        self.warmup = warmup
        self.ramp = ramp
        self.model_factory = model_factory

    def setup(self, context: EpochContext) -> None:
        """Check the parameters, and that there are two networks."""
        owner = type(self).__name__
        if self.noise_rate is not None:
            check_real(owner, "noise_rate", self.noise_rate, 0.0, 1.0, closed="left")
        for name in ("warmup", "ramp"):
            self._epochs(name, context)
        warn_of_schedule(owner, self.epochs_before(context), context.num_epochs)
        self._check_networks(owner, *context.engine.models)

    def loss(self, model: nn.Module, batch: Batch, context: EpochContext) -> Tensor:
        """Return the cross-entropy of each sample, shape (batch,), before any is chosen."""
        return cross_entropy(model(batch.inputs), batch.labels)

    def train_step(self, engine: Engine, batch: Batch, context: EpochContext) -> Tensor:
        """Teach each network what the other chose; return the losses of the first, detached.

        The mean of what is returned is the loss that the first network learned from: samples that
        were not chosen for it count 0.
        """
        with engine.autocast():
            first, second = (model(batch.inputs) for model in engine.models)
        own, other = (cross_entropy(logits, batch.labels) for logits in (first, second))
        context.record(batch.indices, own.detach())
        candidates = self._candidates(first, second, context)
        share = self.share_to_keep(context)
        for_other, for_own = (
            select_small_losses(losses.detach(), candidates, share) for losses in (own, other)
        )
        own, other = _taught(own, for_own, context), _taught(other, for_other, context)
        engine.step(own.mean(), 0)
        engine.step(other.mean(), 1)
        return own.detach()

    def share_to_keep(self, context: EpochContext) -> float:
        """Return R of the present epoch, by the rate that is given, or by the detector's."""
        rate = self.noise_rate
        if rate is None:  # no mixture in the first epoch
            rate = context.evidence * (context.noise_rate or 0.0)
        return share_to_keep(rate, context.epoch, self._epochs("ramp", context))

    def _check_networks(self, owner: str, first: nn.Module, second: nn.Module) -> None:
        is_copy = self.model_factory is None
        other = "a callable that returns a network with other parameters than the model's"
        expected = ""
        if _share_parameters(first, second):
            expected = "a callable that returns a network that trains no parameter of the model's"
        elif is_copy and _is_parametrized(first):
            expected = f"{other}, as layers with a parametrization, such as weight_norm, draw none"
        elif _are_alike(first, second):
            reason = ", whose layers have no reset_parameters to draw new ones with"
            expected = other + (reason if is_copy else "")
        if expected:
            raise invalid_parameter(owner, "model_factory", expected, self.model_factory)

    def _candidates(self, first: Tensor, second: Tensor, context: EpochContext) -> Tensor:
        if context.epoch > self._epochs("warmup", context):
            return find_disagreement(first, second)
        return torch.ones(len(first), dtype=torch.bool, device=first.device)

    def epochs_before(self, context: EpochContext) -> int:
        """Return the epochs of the warm-up."""
        return self._epochs("warmup", context)

    def _epochs(self, name: str, context: EpochContext) -> int:
        value = getattr(self, name)
        return resolve_epochs(type(self).__name__, name, value, context.num_epochs)


def _taught(losses: Tensor, chosen: Tensor, context: EpochContext) -> Tensor:
    """Return losses whose mean is that of the chosen ones, over all processes."""
    count = context.all_mean(chosen.sum().float())
    return losses * chosen * (len(losses) / count)


def _share_parameters(first: nn.Module, second: nn.Module) -> bool:
    """Tell whether two networks would both train the same parameter."""
    own = {id(p) for p in first.parameters() if p.requires_grad}
    return any(id(p) in own for p in second.parameters())


def _is_parametrized(network: nn.Module) -> bool:
    """Tell whether weights that learn are made of others, which layers do not draw anew."""
    return any(
        (is_parametrized(module) or _has_original(module))
        and any(p.requires_grad for p in module.parameters())
        for module in network.modules()
    )


def _has_original(module: nn.Module) -> bool:
    """Tell of what the older `spectral_norm` and pruning make weights."""
    return any(name.endswith("_orig") for name, _ in module.named_parameters(recurse=False))


def _are_alike(first: nn.Module, second: nn.Module) -> bool:
    """Tell whether two networks have the same parameters."""
    pairs = list(zip(first.parameters(), second.parameters(), strict=False))
    return all(a.shape == b.shape and torch.equal(a, b) for a, b in pairs)
