"""A recorder for skorch's nets: a callback, and a loader that says which samples come."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset

from lossnoise.exceptions import InvalidDataError
from lossnoise.integrations._recording import (
    EpochLog,
    LossFunction,
    RecordsLosses,
    check_dataset,
    labels_of,
    paired_loader,
    take_ids,
)

try:
    from skorch import NeuralNetClassifier
    from skorch.callbacks import Callback
except ImportError:  # the public module says so; the documentation is built without it
    Callback = NeuralNetClassifier = object

OWNER = "SkorchLossRecorder"


class SkorchLossRecorder(RecordsLosses, Callback):
    """Record the loss of every training sample of a skorch net.

    It is one of the net's callbacks, and its `loader` the net's ``iterator_train``.

    Parameters
    ----------
    loss_fn : callable, optional
        ``loss_fn(y_pred, labels)`` returns the loss to record, one a sample. Default: the
        cross-entropy of what the module returns, (batch, num_classes), with labels (batch,).
        As skorch has it, that are logits; with the criterion `torch.nn.NLLLoss` probabilities of
        a `NeuralNetClassifier`, and their logarithms of another net.

    Attributes
    ----------
    losses_ : ndarray of shape (n,), float32
        Newest loss of each sample that ``fit`` was given, NaN where it was never seen.
    loss_history_ : ndarray of shape (n, epochs), float32
        One column an epoch, NaN where the sample was not seen in it.
    recorder_ : LossRecorder
        What holds them.
    batch_ids_ : Tensor of shape (batch,), int64, or None
        Positions of the samples of the present training batch, for a loss of one's own; None
        outside of one.

    Notes
    -----
    skorch trains on four fifths of the data by default, and the others stay NaN:
    ``train_split=None`` trains on all. A new ``fit`` of the net begins anew, while
    ``partial_fit`` goes on.

    Losses are those of the training steps, in train mode. They come to the host once an epoch.
    Samples with the label -100, which PyTorch's loss leaves out, count as not seen, and so do
    losses that are not finite, with a warning.

    Examples
    --------
    ::

        recorder = SkorchLossRecorder()
        net = NeuralNetClassifier(
            Module, callbacks=[recorder], iterator_train=recorder.loader, train_split=None
        )
        net.fit(X, labels)
        lossnoise.audit(labels, losses=recorder.losses_)
    """

    _given: Any = None  # to fit, while that runs

    def __init__(self, *, loss_fn: LossFunction | None = None) -> None:
        self.loss_fn = loss_fn
        self.log_ = EpochLog(OWNER)

    @staticmethod
    def loader(dataset: Dataset[Any], **options: Any) -> DataLoader[Any]:
        """Return a loader whose batches say which samples they hold: ``iterator_train``.

        Parameters
        ----------
        dataset : Dataset
            Of ``(X, y)``, as skorch makes it.
        **options
            As for `torch.utils.data.DataLoader`.

        Returns
        -------
        loader : DataLoader
        """
        return paired_loader(OWNER, dataset, options)

    # -- the net's events -------------------------------------------------------------------

    def initialize(self) -> SkorchLossRecorder:
        """Forget what was recorded: the net begins anew."""
        self.log_ = EpochLog(OWNER)
        self.batch_ids_ = None
        return self

    def on_train_begin(self, net: Any, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        """See what ``fit`` was given, which the net may split."""
        self._given = X

    def on_train_end(self, net: Any, **kwargs: Any) -> None:
        """Keep no data."""
        self._given = None

    def on_epoch_begin(self, net: Any, dataset_train: Any = None, **kwargs: Any) -> None:
        """Begin a column of the history."""
        whole, self.positions_ = _resolve(dataset_train, self._given)
        self.log_.hold(check_dataset(OWNER, whole))
        self.log_.begin(1)

    def on_batch_begin(
        self, net: Any, batch: Any = None, training: bool | None = None, **kwargs: Any
    ) -> None:
        """Take the indices out of the batch, so that the net sees what it knows."""
        if not training:
            return
        indices = take_ids(batch)
        if indices is None:
            raise InvalidDataError(
                f"{OWNER} found no indices in a batch. Give the net its loader too: "
                "iterator_train=recorder.loader."
            )
        self.batch_ids_ = indices if self.positions_ is None else self.positions_[indices]

    @torch.no_grad()
    def on_batch_end(
        self, net: Any, batch: Any = None, training: bool | None = None, **kwargs: Any
    ) -> None:
        """Keep the losses of the batch."""
        if not training or self.batch_ids_ is None:
            return
        output = kwargs["y_pred"]
        output = output[0] if isinstance(output, tuple) else output
        labels = labels_of(OWNER, batch).to(output.device)
        if isinstance(net.criterion_, nn.NLLLoss) and self.loss_fn is None:
            output = _log_proba(net, output)  # logits like any others: their softmax is the same
        self.log_.add_output(self.batch_ids_, output, labels, self.loss_fn)
        self.batch_ids_ = None

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        """Record the losses of the epoch."""
        self.log_.end()


def _log_proba(net: Any, output: Tensor) -> Tensor:
    """Return what `torch.nn.NLLLoss` gets of a net's output: skorch takes a classifier's log."""
    if not isinstance(net, NeuralNetClassifier):
        return output
    return output.float().clamp_min(torch.finfo(torch.float32).tiny).log()


def _resolve(dataset: Any, given: Any) -> tuple[Any, Tensor | None]:
    """Return the dataset that ``fit`` was given, and the positions in it that are trained on."""
    positions: Tensor | None = None
    while isinstance(dataset, Subset) and dataset is not given:
        outer = torch.as_tensor(dataset.indices)
        positions = outer if positions is None else outer[positions]
        dataset = dataset.dataset
    return dataset, positions
