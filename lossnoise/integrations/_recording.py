"""What the recorders have in common: the losses of an epoch, and the ids that batches carry."""

from __future__ import annotations

import warnings
from collections.abc import Callable, MutableMapping, MutableSequence, Sized
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import NotFittedError
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, default_collate

from lossnoise._samples import LABEL_NAMES, check_collated, is_mapping
from lossnoise._validation import check_int, invalid_data, invalid_parameter, to_numpy
from lossnoise._warnings import warn
from lossnoise.corrections.losses import cross_entropy
from lossnoise.detectors import BetaMixtureNoiseDetector
from lossnoise.exceptions import (
    InvalidDataError,
    LossScaleWarning,
    NonFiniteLossWarning,
    NoSeparableNoiseWarning,
)
from lossnoise.integrations._watch import OutputWatch
from lossnoise.training._distributed import gather_rows
from lossnoise.training._run import evidence
from lossnoise.training._wiring import TRAINING_HARD_FRACTION
from lossnoise.training.recorder import LossRecorder

SAMPLE_ID = "lossnoise_sample_id"  # the key of the ids in batches that are dicts
IGNORED = -100  # torch's label of a sample that has no class, and no loss
NOBODY = -1  # the index of a loss that belongs to no sample

BY_FUNCTION = "a loss_fn can take the logits out of what the model gives"

LossFunction = Callable[[Any, Any], Tensor]

_NOTHING: tuple[NDArray[np.int64], NDArray[np.float32]] = (
    np.zeros(0, dtype=np.int64),
    np.zeros(0, dtype=np.float32),
)


class EpochLog:
    """Losses of the present epoch on their device, moved to a `LossRecorder` at its end.

    So the loop waits for the device, and for other processes, once an epoch. Of several
    processes each has the losses of all.

    Parameters
    ----------
    owner : str
        The recorder that error messages name.
    advice : str
        How to say which output has the logits.
    """

    def __init__(self, owner: str, advice: str = BY_FUNCTION) -> None:
        self.owner = owner
        self._watch = OutputWatch(owner, advice)
        self.recorder: LossRecorder | None = None
        self._epoch = 0
        self._pending: list[tuple[Tensor, Tensor]] = []
        self._earlier = _NOTHING  # of the present epoch, before the run was killed
        self._proba: NDArray[np.float32] = np.zeros(0, dtype=np.float32)
        self._proba_epoch = 0  # the epoch whose losses it is by

    def hold(self, n: int) -> None:
        """Have room for a dataset of n samples; losses of one of another size are refused."""
        if self.recorder is None:
            self.recorder = LossRecorder(n)
        elif self.recorder.n != n:
            raise invalid_data(
                self.owner,
                "dataset",
                f"the one of {self.recorder.n} samples that was recorded before",
                f"one of {n} samples",
                "a new dataset needs a new recorder",
            )

    def held(self) -> LossRecorder:
        """Return what the losses go to, once there is a dataset."""
        if self.recorder is None:
            raise NotFittedError(f"This {self.owner} has recorded nothing yet: train first.")
        return self.recorder

    def begin(self, epoch: int) -> None:
        """Begin an epoch, counted from 1; a run after the first one goes on counting."""
        self._pending = []
        self._watch.begin()
        if epoch > self._epoch:
            self.end()  # an epoch that was saved after its last batch
        self._epoch = max(epoch, self.held().epoch_ + 1)

    def add_output(
        self, indices: Tensor, logits: Tensor, labels: Tensor, loss_fn: LossFunction | None
    ) -> None:
        """Keep the losses of a batch, by a function of one's own or else their cross-entropy.

        What has the label -100 has no class: it counts as not seen.
        """
        if loss_fn is not None:
            losses = loss_fn(logits, labels)
        else:
            check_class_labels(self.owner, logits, labels)
            losses = cross_entropy(logits, labels.long())
        if labels.shape == indices.shape:
            indices = indices.to(labels.device).where(labels != IGNORED, NOBODY)
            if _are_classes(logits, labels):
                self._watch.add(indices, labels, logits if loss_fn is None else None)
        self.add(indices, losses)

    def add(self, indices: Tensor, losses: Tensor) -> None:
        """Keep the losses of a batch."""
        if losses.shape != indices.shape:
            raise invalid_data(
                self.owner,
                "loss_fn",
                f"a function that returns one loss a sample, shape {tuple(indices.shape)}",
                f"losses of shape {tuple(losses.shape)}",
            )
        self._pending.append((indices.to(losses.device), losses.detach().float()))

    def end(self) -> None:
        """Record what was kept since the epoch began, on all processes."""
        indices, losses = self._collected()
        if self._pending or len(indices):  # else the rest of an epoch behind a resumed run
            finite = np.isfinite(losses)
            if not finite.all():
                self._warn_not_finite(indices[~finite], losses[~finite])
            self.held().update(indices[finite], losses[finite], self._epoch)
            self._watch.look(self.held().n, self._epoch)
        self._pending, self._earlier = [], _NOTHING

    def _warn_not_finite(self, indices: NDArray[np.int64], losses: NDArray[np.float32]) -> None:
        warn(
            f"{self.owner} leaves out {len(losses)} losses of epoch {self._epoch} that are not "
            f"finite, the first of sample {indices[0]} ({losses[0]}): these samples count as not "
            "seen in it. Training may be diverging.",
            NonFiniteLossWarning,
        )

    def _collected(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        if not self._pending:  # of all processes or of none
            return self._earlier
        indices, losses = (
            to_numpy(gather_rows(torch.cat(part))) for part in zip(*self._pending, strict=True)
        )
        somebody = indices != NOBODY
        earlier_indices, earlier_losses = self._earlier
        return (
            np.append(earlier_indices, indices[somebody]),
            np.append(earlier_losses, losses[somebody]),
        )

    def state_dict(self) -> dict[str, Any]:
        """Return what is recorded, and what was kept since the epoch began.

        All processes call it together.
        """
        if self.recorder is None:
            return {}
        self._watch.look(self.recorder.n, self._epoch)
        indices, losses = (torch.from_numpy(part) for part in self._collected())
        present = {"epoch": self._epoch, "indices": indices, "losses": losses}
        labels = {"labels": self._watch.state()}
        return {"n": self.recorder.n, **self.recorder.state_dict(), **present, **labels}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` returned."""
        self.hold(int(state["n"]))
        self.held().load_state_dict(state)
        self._epoch = int(state["epoch"])
        self._pending, self._proba_epoch = [], 0
        self._earlier = to_numpy(state["indices"]), to_numpy(state["losses"])
        if "labels" in state:  # else of a recorder that did not look at them
            self._watch.restore(state["labels"])

    def noise_proba(self) -> NDArray[np.float32]:
        """Return the w of M-DYR for each sample, by its newest loss; fitted once an epoch."""
        recorder = self.held()
        if self._proba_epoch != recorder.epoch_:
            self._proba, self._proba_epoch = _noise_proba(recorder.losses_), recorder.epoch_
        return self._proba

    def check_seen(self, advice: str) -> None:
        """Raise, after a step of training, where its losses have not come here."""
        if not self._pending:
            raise InvalidDataError(f"{self.owner} saw no losses in this run: {advice}.")


def _noise_proba(losses: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return P(wrong) times the evidence of the mixture; 0 where there is no loss."""
    proba = np.zeros(len(losses), dtype=np.float32)
    seen = ~np.isnan(losses)
    if seen.sum() < 2 or losses[seen].min() == losses[seen].max():
        return proba  # nothing to divide
    detector = BetaMixtureNoiseDetector(hard_fraction=TRAINING_HARD_FRACTION)
    with warnings.catch_warnings():  # in most epochs the losses look like one population
        warnings.simplefilter("ignore", NoSeparableNoiseWarning)
        warnings.simplefilter("ignore", LossScaleWarning)  # of a network that diverges
        detector.fit(losses[seen])
    posterior = detector.posterior(losses[seen])
    proba[seen] = evidence(posterior) * posterior
    return proba


class RecordsLosses:
    """What a user reads from a recorder, whatever the framework.

    A subclass has the `EpochLog` in `log_`.
    """

    log_: EpochLog
    batch_ids_: Tensor | None = None

    @property
    def recorder_(self) -> LossRecorder:
        """The `LossRecorder` that holds the losses of all epochs that have ended."""
        return self.log_.held()

    @property
    def losses_(self) -> NDArray[np.float32]:
        """Newest loss of each sample, shape (n,); NaN where it was never seen."""
        return self.recorder_.losses_

    @property
    def loss_history_(self) -> NDArray[np.float32]:
        """Losses of each sample, one column an epoch, shape (n, epochs)."""
        return self.recorder_.loss_history_

    def reduce(self, last: int | None = None) -> NDArray[np.float64]:
        """Return the mean loss of each sample over its last epochs; see `LossRecorder.reduce`.

        Parameters
        ----------
        last : int, optional
            How many epochs to average. Default: all.

        Returns
        -------
        losses : ndarray of shape (n,), float64
        """
        return self.recorder_.reduce(last)

    def batch_noise_proba(self, warmup: int) -> Tensor:
        """Return P(label wrong) of the samples of the present training batch, to train with.

        A beta mixture is fitted to the newest losses once an epoch. As in `MDyrH`, its posterior
        is multiplied by its evidence, which is small as long as losses hardly separate.

        Parameters
        ----------
        warmup : int
            Recorded epochs before it: as long as there are fewer, all are 0.

        Returns
        -------
        noise_proba : Tensor of shape (batch,), float32
            For `lossnoise.corrections.losses.dynamic_bootstrap`, on the device of `batch_ids_`. A
            single 0 outside of training batches, as when the loop evaluates.
        """
        check_int(type(self).__name__, "warmup", warmup, 1)
        if self.batch_ids_ is None:
            return torch.zeros(())
        ids = self.batch_ids_
        if self.recorder_.epoch_ < warmup:
            return torch.zeros(len(ids), device=ids.device)
        proba = torch.from_numpy(self.log_.noise_proba())
        return proba[ids.cpu()].to(ids.device)


def check_class_labels(owner: str, logits: Tensor, labels: Tensor) -> None:
    """Raise where a batch has no cross-entropy of one class a sample."""
    if _are_classes(logits, labels):
        return
    raise InvalidDataError(
        f"Without a loss_fn {owner} records the cross-entropy of logits (batch, num_classes) with "
        f"class numbers (batch,). Got {_describe(logits)} with {_describe(labels)} instead: give "
        "the recorder loss_fn=..., a function of the two that returns one loss a sample."
    )


def _are_classes(logits: Any, labels: Tensor) -> bool:
    """Tell whether labels are the numbers of columns of a table of outputs."""
    table = isinstance(logits, Tensor) and logits.ndim == 2
    return table and labels.shape == logits.shape[:1] and not labels.is_floating_point()


def _describe(tensor: Tensor) -> str:
    kind = str(tensor.dtype).removeprefix("torch.")
    return f"{kind} of shape {tuple(tensor.shape)}"


def check_dataset(owner: str, dataset: Any) -> int:
    """Return the number of samples of a dataset, which must have a length and positions."""
    if isinstance(dataset, IterableDataset) or not isinstance(dataset, Sized):
        got = f"a {type(dataset).__name__}"
        raise invalid_data(owner, "dataset", "map-style, with a length", got)
    return len(dataset)


class AppendIds:
    """Collate ``(index, sample)`` pairs to the batch of the samples, with their indices added.

    They become the entry ``"lossnoise_sample_id"`` of a dict and the last item of a list.

    Parameters
    ----------
    collate : callable
        Makes a batch of a list of samples, and keeps their order.
    owner : str
        The recorder that error messages name.
    """

    def __init__(
        self, collate: Callable[[list[Any]], Any] = default_collate, owner: str = "The recorder"
    ) -> None:
        self.collate = collate
        self.owner = owner

    def __call__(self, pairs: list[Any]) -> Any:
        if not _is_pair(pairs[0]):
            return self.collate(pairs)  # of another dataset, such as one to evaluate on
        indices = torch.tensor([index for index, _ in pairs])
        samples = [sample for _, sample in pairs]
        batch = self.collate(samples)
        if self.collate is not default_collate:
            check_collated(self.owner, samples, batch)
        if isinstance(batch, MutableMapping):
            batch[SAMPLE_ID] = indices
            return batch
        if isinstance(batch, (tuple, list)) and not hasattr(batch, "_fields"):
            return [*batch, indices]
        raise InvalidDataError(
            "A batch must be a dict, list or tuple, so that the indices of its samples can be "
            f"added. Got a {type(batch).__name__} instead: change what collate_fn returns."
        )


class Pair(tuple[int, Any]):
    """An index and its sample; a type of its own, because users' samples may be pairs too."""

    __slots__ = ()


def _is_pair(item: object) -> bool:
    return isinstance(item, Pair)


class PairDataset(Dataset[Pair]):
    """A view of a map-style dataset that yields each sample with its index."""

    def __init__(self, dataset: Dataset[Any]) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]  # map-style: checked at the border

    def __getitem__(self, index: int) -> Pair:
        return Pair((int(index), self.dataset[index]))

    def __getitems__(self, indices: list[int]) -> list[Pair]:
        """Return the samples of a batch; torch's loader calls it where it exists."""
        many = getattr(self.dataset, "__getitems__", None)
        if not callable(many):
            return [self[index] for index in indices]
        pairs = zip(indices, many(indices), strict=True)
        return [Pair((int(index), sample)) for index, sample in pairs]


def paired_loader(owner: str, dataset: Dataset[Any], options: dict[str, Any]) -> DataLoader[Any]:
    """Return a loader with a user's options whose batches say which samples they hold."""
    if "batch_size" in options and options["batch_size"] is None:
        expected = "an int: a loader that makes no batches has no place for the indices"
        raise invalid_parameter(owner, "batch_size", expected, None)
    collate = options.pop("collate_fn", None) or default_collate
    return DataLoader(PairDataset(dataset), collate_fn=AppendIds(collate, owner), **options)


def take_ids(batch: Any) -> Tensor | None:
    """Take the indices out of a batch, in place; None where it has none that could be theirs."""
    found: Any = None
    if is_mapping(batch):
        found = batch.pop(SAMPLE_ID, None)
    elif isinstance(batch, MutableSequence) and len(batch) > 2:
        found = batch.pop()
    return found if isinstance(found, Tensor) else None


def labels_of(owner: str, batch: Any) -> Tensor:
    """Return the labels in a batch: its last item, or the entry of a usual name."""
    if is_mapping(batch):
        found = next((batch[name] for name in LABEL_NAMES if name in batch), None)
    else:
        found = batch[-1] if len(batch) > 1 else None
    if isinstance(found, Tensor):
        return found
    raise InvalidDataError(
        f"{owner} finds no labels in the batch: they must be its last item, or an entry "
        f"{', '.join(map(repr, LABEL_NAMES))} of a dict."
    )
