"""Learning to reweight: weigh each sample by what a step on it does for clean ones (Ren et al.)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from lossnoise._validation import check_int, invalid_parameter
from lossnoise.corrections._clean import (
    CleanSamples,
    CleanSet,
    TakesCleanSet,
    forward_without_trace,
)
from lossnoise.corrections._logits import as_written, bare
from lossnoise.corrections._weights import WeightingCorrection
from lossnoise.corrections.base import Batch, Engine, EpochContext
from lossnoise.corrections.losses import cross_entropy

CleanLoss = Callable[[dict[str, Tensor]], Tensor]


def _unchanged(tensor: Tensor) -> Tensor:
    """Return a mean over one process."""
    return tensor


def example_gradients(
    losses: Tensor,
    parameters: Mapping[str, Tensor],
    clean_loss: CleanLoss,
    all_mean: Callable[[Tensor], Tensor] = _unchanged,
) -> Tensor:
    """Return how much a step on each sample alone lowers the loss of clean samples.

    g_i = -d L(theta - d/d theta sum_j eps_j l_j) / d eps_i at eps = 0: equations 6 and 7 of Ren et
    al. (ICML 2018), with a virtual step of length 1. At eps = 0 its length is but a factor of g,
    which the weights do not know.

    Parameters
    ----------
    losses : Tensor of shape (batch,)
        Losses l of the training samples, with their graph, which is kept for a backward pass.
    parameters : dict of Tensors
        The parameters theta that they depend on, by name.
    clean_loss : callable
        Returns the loss L of clean samples, a scalar, for parameters by name.
    all_mean : callable
        Mean over all processes, with gradient: the virtual step is one on the samples of all.

    Returns
    -------
    gradients : Tensor of shape (batch,)
        g, of the type of the losses; no graph.

    Examples
    --------
    >>> import torch
    >>> theta = torch.tensor(1.0, requires_grad=True)
    >>> losses = (theta - torch.tensor([0.0, 1.0, 2.0])) ** 2
    >>> example_gradients(losses, {"theta": theta}, lambda new: (new["theta"] - 0.5) ** 2)
    tensor([ 2.,  0., -2.])
    """
    shares = torch.zeros_like(losses, requires_grad=True)
    steps = torch.autograd.grad(
        (shares * losses).sum(),
        list(parameters.values()),
        create_graph=True,
        materialize_grads=True,
    )
    virtual = {
        name: parameter.detach() - all_mean(step)
        for (name, parameter), step in zip(parameters.items(), steps, strict=True)
    }
    (gradients,) = torch.autograd.grad(clean_loss(virtual), [shares])
    return -gradients


def example_weights(gradients: Tensor, total: Tensor | None = None) -> Tensor:
    """Return max(g, 0) / sum max(g, 0): weights that sum to 1, or all 0 where no g is positive.

    Equations 8 and 9 of Ren et al. (ICML 2018).

    Parameters
    ----------
    gradients : Tensor of shape (batch,)
        g of `example_gradients`.
    total : Tensor of shape (), optional
        What to divide by, in place of the sum of these samples.

    Returns
    -------
    weights : Tensor of shape (batch,)

    Examples
    --------
    >>> import torch
    >>> example_weights(torch.tensor([3.0, -1.0, 1.0]))
    tensor([0.7500, 0.0000, 0.2500])
    >>> example_weights(torch.tensor([-1.0, 0.0]))
    tensor([0., 0.])
    """
    helpful = gradients.clamp_min(0.0)
    divisor = helpful.sum() if total is None else total
    return helpful / torch.where(divisor > 0.0, divisor, torch.ones_like(divisor))


class LearningToReweight(TakesCleanSet, WeightingCorrection):
    """Weigh samples by a clean set; registry name ``"learning-to-reweight"``.

    In every step, each sample of the batch is weighted by how much a small step on it alone would
    lower the loss of a batch of clean samples (`example_gradients`); those that would raise it
    have the weight 0, and the others sum to 1 (Ren et al., ICML 2018). Where every sample would
    raise it, the step is skipped. The clean samples themselves are not learnt from; they may be
    samples of the training set.

    Parameters
    ----------
    clean_set : Dataset or DataLoader
        Samples with known true labels, some tens or hundreds, of every class: a map-style dataset
        of ``(input, true label)``, whose inputs are as those of the training set. Of a loader,
        the dataset and the collate function are used. Needed: without it `fit` raises.
    clean_batch_size : int, optional
        Clean samples a step, of each process, drawn anew every time. Default: the trainer's
        batch size, or the whole set where it is smaller.

    Attributes
    ----------
    clean_labels_ : ndarray of shape (n,), int64, or None
        True labels of the clean set; None before a run. A resumed run needs the same.
    sample_weights_ : Tensor of shape (num_samples,), float32, or None
        Mean weight of each training sample in the last epoch, in units of 1 / batch: 1 is the
        mean. None before the end of an epoch.

    Examples
    --------
    >>> import torch
    >>> from torch.utils.data import TensorDataset
    >>> from lossnoise.corrections import LearningToReweight
    >>> clean = TensorDataset(torch.randn(30, 2), torch.arange(30) % 3)
    >>> LearningToReweight(clean_set=clean)
    LearningToReweight(clean_set=<TensorDataset of 30 samples>, clean_batch_size=None)
    """

    def __init__(
        self, *, clean_set: CleanSet | None = None, clean_batch_size: int | None = None
    ) -> None:
        self.clean_set = clean_set
        self.clean_batch_size = clean_batch_size

    def setup(self, context: EpochContext) -> None:
        """Check the parameters and the clean set."""
        super().setup(context)
        owner = type(self).__name__
        if self.clean_batch_size is not None:
            check_int(owner, "clean_batch_size", self.clean_batch_size, 2)
        self._samples = CleanSamples(owner, self.clean_set, context.num_classes)
        self._samples.check_forward(context)

    def loss(self, model: nn.Module, batch: Batch, context: EpochContext) -> Tensor:
        """Return the cross-entropy of each sample, shape (batch,), before it is weighted."""
        losses = cross_entropy(model(batch.inputs), batch.labels)
        context.record(batch.indices, losses.detach())
        return losses

    def train_step(self, engine: Engine, batch: Batch, context: EpochContext) -> Tensor:
        """Learn from one batch by its weights; return the weighted loss of each sample.

        Their mean is what was learned from: the weights of a batch are n times as large.
        """
        with engine.autocast(), sdpa_kernel(SDPBackend.MATH):  # fused attention has one gradient
            losses = self.loss(engine.model, batch, context)
        gradients = self._gradients(losses, engine, context)
        total = context.all_mean(gradients.clamp_min(0.0).sum())
        weights = example_weights(gradients, total)
        self.keep_weights(batch.indices, weights * len(weights))
        engine.step((weights * losses).sum(), skip=total == 0.0)
        return weights * len(weights) * losses.detach()

    def _gradients(self, losses: Tensor, engine: Engine, context: EpochContext) -> Tensor:
        assert self._samples is not None  # setup has them
        clean = self._samples.draw(self.clean_batch_size or max(2, context.batch_size), context)
        own = bare(engine.model)
        parameters = {name: p for name, p in own.named_parameters() if p.requires_grad}

        def clean_loss(virtual: dict[str, Tensor]) -> Tensor:
            with engine.autocast(), sdpa_kernel(SDPBackend.MATH):
                logits = forward_without_trace(own, clean.inputs, virtual)
            return cross_entropy(logits, clean.labels).mean()

        try:
            return example_gradients(losses, parameters, clean_loss, context.all_mean)
        except RuntimeError as error:  # of a layer such as EmbeddingBag
            if not ("derivative" in str(error) and "not implemented" in str(error)):
                raise
            owner = type(self).__name__
            expected = f"a model of layers that torch can differentiate twice, for {owner}"
            advice = "torch.nn.Embedding and a mean do what EmbeddingBag does"
            reason = f"{advice}. torch says: {error}"
            model = type(as_written(engine.model))
            raise invalid_parameter(
                "NoisyLabelTrainer", "model", expected, model, reason
            ) from error
