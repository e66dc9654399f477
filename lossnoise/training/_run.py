"""One run of training: what `fit` holds while it goes from epoch to epoch."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset

from lossnoise._labels import effective_classes, has_collapsed
from lossnoise._warnings import warn
from lossnoise.corrections._nested import iter_tensors
from lossnoise.corrections.base import Batch, Correction, EpochContext, SweepFunction
from lossnoise.corrections.losses import cross_entropy
from lossnoise.data._indexed import IndexedData
from lossnoise.detectors import LossMixtureDetector
from lossnoise.exceptions import (
    CollapseWarning,
    LayoutWarning,
    LossNoiseWarning,
    LossScaleWarning,
    NonFiniteLossWarning,
    NoSeparableNoiseWarning,
    ScheduleWarning,
)
from lossnoise.training._distributed import (
    gather_objects,
    mean_over_ranks,
    rank_and_size,
)
from lossnoise.training._divergence import TrainingLosses, diverged
from lossnoise.training._engine import TrainingEngine
from lossnoise.training._forward import Evaluation, count_classes, evaluate, warn_of_sigmoid
from lossnoise.training._loops import (
    check_device_labels,
    sweep,
    train_epoch,
)
from lossnoise.training._posterior import PosteriorTable
from lossnoise.training._random import RunGenerators, kept_globals
from lossnoise.training._schedules import RateWatch
from lossnoise.training._seen import (
    RunningLosses,
    SeenLabels,
    are_batch_means,
    check_same_labels,
)
from lossnoise.training.recorder import LossRecorder

BatchHook = Callable[[int, int], None]
Data = Dataset[Any] | DataLoader[Any]

# The trainer's attributes that `found` gives, and those that its files keep.
RESULTS = ("losses_", "noise_proba_", "labels_", "suggested_labels_")
FEW_OTHERS, SHARE_OF_OTHERS = 5, 0.01  # samples of classes that no label has, which may be chance
NO_RESULTS = (
    "This %(name)s has no complete results: they come when fit ends, before the on_train_end of "
    "its callbacks."
)


class TrainingRun:
    """Train by epochs: the correction learns, the losses are swept, the mixture is fitted.

    Attributes
    ----------
    context : EpochContext
        What the correction sees.
    recorder : LossRecorder
        The losses of every epoch that knew them.
    """

    def __init__(
        self,
        engine: TrainingEngine,
        correction: Correction,
        detector: LossMixtureDetector,
        train: Data,
        val: Data | None,
        *,
        batch_size: int,
        num_epochs: int,
        generators: RunGenerators,
    ) -> None:
        self.engine = engine
        self.correction = correction
        self.detector = detector
        self.generators = generators
        on_cuda = engine.device.type == "cuda"
        resident = on_cuda and is_on_device(train)
        pin = on_cuda and not resident
        shard = rank_and_size()
        self.train_data = IndexedData(train, batch_size, pin_memory=pin, shard=shard)
        self.val_data = None
        if val is not None:
            self.val_data = IndexedData(val, batch_size, pin_memory=pin, shard=shard)
        self._train_loader = self.train_data.shuffled(generators.order)
        self._sweep_loader = self.train_data.in_order(generators.sweeps)
        self._losses: NDArray[np.float32] | None = None  # that the mixture is fitted to
        self._proba: NDArray[np.float64] | None = None  # P(wrong) by that mixture
        self._given: NDArray[np.int64] | None = None
        self._suggested: NDArray[np.int64] | None = None
        self._told: set[str] = set()  # what was warned of, once in a run
        self._has_recorded = False  # whether a correction has handed over losses
        self._running = RunningLosses(self.train_data.num_samples, engine.device)
        self._seen = SeenLabels(self.train_data.num_samples, engine.device)
        self._trained = TrainingLosses(self.train_data.num_samples, engine.device)
        self._resumed: Tensor | None = None  # labels of the run that this one goes on with
        self.recorder = LossRecorder(self.train_data.num_samples)
        num_classes = count_classes(engine, self._sweep_loader)
        if resident:
            check_device_labels(self._sweep_loader, num_classes)
        self.context = self._make_context(num_classes, num_epochs)

    def epoch(self, epoch: int, on_batch_end: BatchHook) -> dict[str, Any]:
        """Train one epoch; return its entry of the history."""
        begun = time.perf_counter()
        self.context = replace(self.context, epoch=epoch)
        self._running.reset()
        self._trained.reset()
        self.train_data.begin_epoch(epoch)
        self.correction.begin_epoch(self.context)

        def on_batch(batch: Batch, losses: Tensor, number: int, num_batches: int) -> None:
            self._seen.record(batch.indices, batch.labels)
            self._trained.record(batch.indices, losses, number)
            on_batch_end(number, num_batches)

        watch = RateWatch(self.engine)
        train_loss = train_epoch(
            self.engine, self._train_loader, self.correction, self.context, on_batch
        )
        self._check_resumed(self._seen.collect)
        self._watch_labels()
        rate = self.engine.learning_rate
        if problem := watch.end_epoch(epoch, self.context.num_epochs):
            self._tell_once("learning rate", problem, ScheduleWarning)
        self._take_losses(train_loss)
        record = self._record(epoch, train_loss) | {"learning_rate": rate}
        self.correction.end_epoch(self.context)
        return record | {"seconds": time.perf_counter() - begun}

    def finish(self) -> None:
        """Sweep the losses of the trained model, and fit the mixture to them."""

        def judge(model: nn.Module, batch: Batch) -> Tensor:
            logits = model(batch.inputs).float()
            losses = cross_entropy(logits, batch.labels)
            others = logits.scatter(1, batch.labels[:, None], -torch.inf).argmax(dim=1)
            classes = [logits.argmax(dim=1), others, batch.labels]
            found = [losses, *classes, logits.amin(dim=1), logits.amax(dim=1), logits.sum(dim=1)]
            return torch.stack([column.double() for column in found], dim=1)

        judged = self._sweep_exactly(judge).cpu().numpy()
        predicted, suggested, given = np.ascontiguousarray(judged[:, 1:4].astype(np.int64).T)
        warn_of_sigmoid(judged[:, 4:])
        self._given, self._suggested = given, suggested
        self._check_resumed(lambda: torch.from_numpy(given))
        self._watch_labels(torch.from_numpy(given))
        self._told.clear()  # what is true of the trained model is said again
        self._fit(judged[:, 0].astype(np.float32))
        warn_of_collapse(predicted, given)
        warn_of_outputs(self.engine.models[0], self.context.num_classes, predicted, given)
        self.correction.end_run(predicted, given)
        if not (self.detector.separable_ or "all equal" in self._told):
            warn(
                "The losses of the trained model cannot tell right labels from wrong ones. "
                "noise_proba_ ranks the samples, and says little about how many labels are "
                f"wrong.{self._advice_on_means()}",
                NoSeparableNoiseWarning,
            )

    def _advice_on_means(self) -> str:
        """Return where losses of earlier epochs are, if there are such."""
        if self.recorder.epoch_ <= 1:
            return ""
        left_out = not np.isfinite(self.recorder.losses_).all()
        before = (
            ", after recorder_.record_epoch(losses_) for those that the sampler left out"
            if left_out
            else ""
        )
        return (
            " Losses of earlier epochs may tell more: fit a BetaMixtureNoiseDetector to "
            f"recorder_.reduce(), their means{before}."
        )

    def found(self) -> dict[str, Any]:
        """Return what is known of the samples so far, by the trainer's attributes."""
        arrays = (self._losses, self._proba, self._given, self._suggested)
        known = zip(RESULTS, arrays, strict=True)
        return {name: array for name, array in known if array is not None}

    def state_dict(self) -> dict[str, Any]:
        """Return all that a resumed run needs, as tensors and plain data."""
        newest = self._losses
        equal = None if newest is None or not are_equal(newest) else float(newest[0])
        return {
            "epoch": self.context.epoch,
            "engine": self.engine.state_dict(),
            "correction": self.correction.state_dict(),
            "generators": gather_objects(self.generators.state_dict()),
            "data": gather_objects(self.train_data.state_dict()),
            "val_data": gather_objects(self.val_data.state_dict() if self.val_data else {}),
            "losses": self.context.losses,  # that the mixture in use was fitted to
            "equal_losses": equal,  # all of one value, which came after those
            "labels": self._seen.state(),
            "recorder": self.recorder.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` returned; the mixture is fitted anew to the same losses."""
        self.context = replace(self.context, epoch=state["epoch"])
        self.engine.load_state_dict(state["engine"])
        self.correction.load_state_dict(state["correction"])
        self.recorder.load_state_dict(state["recorder"])
        if state["losses"] is not None:
            self._fit(state["losses"].cpu().numpy())
        if state["equal_losses"] is not None:
            num_samples = self.context.num_samples
            self._fit(np.full(num_samples, state["equal_losses"], dtype=np.float32))
        self._resumed = state["labels"]
        self._seen.restore(state["labels"])
        rank = rank_and_size()[0]
        self.train_data.load_state_dict(state["data"][rank])
        if self.val_data is not None:
            self.val_data.load_state_dict(state["val_data"][rank])
        self.generators.load_state_dict(state["generators"][rank])

    def _check_resumed(self, labels: Callable[[], Tensor]) -> None:
        """Raise, once, where the data of a resumed run have other labels than its first part."""
        if self._resumed is not None:
            check_same_labels(self._resumed, labels())
            self._resumed = None

    def _watch_labels(self, swept: Tensor | None = None) -> None:
        """Warn, once in a run, where a sample does not keep its label."""
        if message := self._seen.describe_changes(swept):
            self._tell_once("labels change", message, LayoutWarning)

    def _take_losses(self, train_loss: float) -> None:
        """Record the losses that the epoch gave; fit the mixture to them, or else to swept ones.

        The two are never mixed in one fit: BatchNorm normalises them by different statistics.
        """
        epoch = self.context.epoch
        losses, seen = self._running.collect()
        if np.isfinite(losses).all() and not math.isfinite(train_loss):
            raise diverged(epoch, None, self._trained, self._sweep_loader)
        if seen.any() and not self._has_recorded:
            self._has_recorded = True
            self._watch_means(losses[seen])
        if self.correction.needs_detector and not seen.all():
            losses, seen = self._sweep_losses(), np.ones_like(seen)
        elif epoch == 1 and (self.train_data.is_stream or not seen.all()):
            self._check_finite(self._sweep_losses())  # what the end needs is asked for now
        self._check_finite(losses)
        if seen.all():
            self.recorder.record_epoch(losses, epoch)
        elif seen.any():  # the sampler left some out
            (rows,) = seen.nonzero()
            self.recorder.update(rows, losses[rows], epoch)
        if self.correction.needs_detector:
            self._fit(losses)

    def _watch_means(self, recorded: NDArray[np.float32]) -> None:
        """Warn where the first losses that a correction recorded are means over batches."""
        processes = self.context.shard[1]
        num_batches = len(self._train_loader) * processes
        if are_batch_means(recorded, num_batches, processes):
            name = type(self.correction).__name__
            warn(
                f"The losses that {name} recorded of {len(recorded)} samples have "
                f"{len(np.unique(recorded))} different values in {num_batches} batches, as the "
                "mean over a batch has: that says little about a single label. context.record "
                "takes the losses of single samples, such as torch's with reduction='none'.",
                LayoutWarning,
            )

    def _check_finite(self, losses: NDArray[np.float32]) -> None:
        if not np.isfinite(losses).all():
            raise diverged(self.context.epoch, losses, self._trained, self._sweep_loader)

    def _fit(self, losses: NDArray[np.float32]) -> None:
        """Fit the mixture to losses, and give it to the correction."""
        self._check_finite(losses)
        self._losses = losses
        with warnings.catch_warnings():  # in most epochs the losses look like one population
            warnings.simplefilter("ignore", NoSeparableNoiseWarning)
            warnings.simplefilter("ignore", LossScaleWarning)  # of a network that diverges
            self.detector.fit(losses)
        if are_equal(losses):
            self._cannot_tell(len(losses))
            return
        self._proba = self.detector.posterior(losses)
        self._watch_flags(float((self._proba > 0.5).mean()))
        self.context = replace(
            self.context,
            noise_proba=PosteriorTable(self.detector, losses, self.engine.device),
            noise_rate=float(self._proba.mean()),
            evidence=evidence(self._proba),
            losses=torch.from_numpy(losses),
        )

    def _watch_flags(self, flagged: float) -> None:
        """Warn, once in a run, where P(wrong) of a method that lives by it chooses nothing."""
        size, needed = self.context.num_samples, self.correction.needs_detector
        by = f"by the losses of epoch {self.context.epoch}: P(wrong) then chooses nothing"
        if needed and flagged == 0.0:
            self._tell_once(
                "none flagged",
                f"None of the {size} labels looks wrong {by}, and every label is trusted. If some "
                "are wrong, the network has not begun to tell them, or has memorised them already: "
                "end the warmup earlier.",
            )
        if needed and flagged == 1.0:
            self._tell_once(
                "all flagged",
                f"All {size} labels look wrong {by}. A network that has not begun to learn, or "
                "whose predictions have collapsed, gives such losses; a lower learning rate or a "
                "longer warmup may help.",
            )

    def _tell_once(
        self, what: str, message: str, category: type[LossNoiseWarning] = NoSeparableNoiseWarning
    ) -> None:
        if what not in self._told:
            self._told.add(what)
            warn(message, category)

    def _cannot_tell(self, num_samples: int) -> None:
        """Let the correction go on with the last mixture, or without one: nothing was divided."""
        self._tell_once(
            "all equal",
            f"Cannot tell right from wrong labels from the losses of epoch {self.context.epoch}: "
            f"all {num_samples} are the same. The model may have memorised the labels, or there is "
            "one class only.",
        )
        self._proba = np.zeros(num_samples)

    def _record(self, epoch: int, train_loss: float) -> dict[str, Any]:
        fitted = self.detector if self.correction.needs_detector else None
        found = None if self.val_data is None else self._validate(self.val_data)
        return {
            "epoch": epoch,
            "train_loss": train_loss,
            "val_loss": None if found is None else found.loss,
            "val_accuracy": None if found is None else found.accuracy,
            "noise_rate": None if fitted is None else self.context.noise_rate,
            "separable": getattr(fitted, "separable_", None),
        }

    def _validate(self, val: IndexedData) -> Evaluation:
        with kept_globals():  # a loader that shuffles draws from them
            found = evaluate(self.engine, val.as_given(), self.context.num_classes)
        if not math.isfinite(found.loss):
            self._tell_once(
                "val loss",
                f"The validation loss of epoch {self.context.epoch} is {found.loss}: the model has "
                "no finite loss for some samples of 'val', whose inputs may not be finite. Such "
                "samples without an answer count as wrong in val_accuracy.",
                NonFiniteLossWarning,
            )
        return found

    def _sweep_losses(self) -> NDArray[np.float32]:
        losses = self._sweep(lambda model, batch: cross_entropy(model(batch.inputs), batch.labels))
        swept: NDArray[np.float32] = losses.cpu().numpy()
        return swept

    def _sweep(self, function: SweepFunction) -> Tensor:
        def judge(model: nn.Module, batch: Batch) -> Tensor:
            with self.engine.autocast(no_grad=True):
                return function(model, batch)

        return self._sweep_exactly(judge)

    def _sweep_exactly(self, function: SweepFunction) -> Tensor:
        return sweep(self.engine, self._sweep_loader, function, self.context.num_classes)

    def _make_context(self, num_classes: int, num_epochs: int) -> EpochContext:
        return EpochContext(
            epoch=0,
            num_epochs=num_epochs,
            num_classes=num_classes,
            num_samples=self.train_data.num_samples,
            batch_size=self.train_data.batch_size,
            device=self.engine.device,
            rng=self.generators.numpy,
            generator=self.generators.device,
            engine=self.engine,
            sweep=self._sweep,
            record=self._running.record,
            all_mean=mean_over_ranks,
            shard=rank_and_size(),
        )


def are_equal(losses: NDArray[np.float32]) -> bool:
    """Tell whether losses have nothing to divide."""
    return bool(losses.min() == losses.max())


def evidence(noise_proba: NDArray[np.float64]) -> float:
    """Return the variance of P(wrong) over the largest that its mean allows, in [0, 1]."""
    mean = float(noise_proba.mean())
    largest = mean * (1.0 - mean)
    return float(noise_proba.var()) / largest if largest > 0.0 else 0.0


def is_on_device(data: Data) -> bool:
    """Tell whether a dataset yields tensors that are on a CUDA device already."""
    if isinstance(data, (DataLoader, IterableDataset)):
        return False
    return any(tensor.is_cuda for tensor in iter_tensors(data[0]))


def warn_of_collapse(predicted: NDArray[np.int64], given: NDArray[np.int64]) -> None:
    """Warn where a model predicts few of the classes that the labels have.

    Samples inside and outside those classes then form two heaps of losses, which look like right
    and wrong labels, and are not.
    """
    spread, usual = effective_classes(predicted), effective_classes(given)
    if has_collapsed(predicted, given):
        warn(
            f"The trained model predicts {spread:.1f} classes (effective number), where the labels "
            f"have {usual:.1f}: its losses and noise_proba_ say nothing about single labels. A "
            "lower learning rate, larger batches or a longer warmup may help.",
            CollapseWarning,
        )


def warn_of_outputs(
    model: nn.Module, num_classes: int, predicted: NDArray[np.int64], given: NDArray[np.int64]
) -> None:
    """Warn where a model has outputs for classes that no label has, and they are no logits or harm.

    Samples for which it predicts such classes look as if their labels were wrong.
    """
    classes = np.unique(given)
    outputs = f"it has {num_classes} outputs, and the labels are of {len(classes)} classes"
    if num_classes > len(classes) and _has_idle_head(model, len(classes)):
        warn(
            f"A layer of the model with {len(classes)} outputs learned nothing in the last batch, "
            f"and {outputs}: what it returns first may not be the logits, but features. Return the "
            "logits alone, or first of a tuple, or as 'logits' of a dict.",
            LayoutWarning,
        )
    others = np.count_nonzero(~np.isin(predicted, classes))
    if others > max(FEW_OTHERS, SHARE_OF_OTHERS * len(predicted)):
        warn(
            f"The trained model predicts classes that no label has for {others} of "
            f"{len(predicted)} samples: {outputs}. Labels of these samples look wrong, right or "
            "not. Give the model as many outputs as there are classes; methods that suppose equal "
            "classes want class_prior='labels' where some are missing.",
            LayoutWarning,
        )


def _has_idle_head(model: nn.Module, num_classes: int) -> bool:
    """Tell whether a layer with an output a class had no gradient, where others had."""
    learning = [p for p in model.parameters() if p.requires_grad]
    heads = [p for p in learning if p.ndim > 1 and len(p) == num_classes]
    return any(p.grad is not None for p in learning) and any(p.grad is None for p in heads)
