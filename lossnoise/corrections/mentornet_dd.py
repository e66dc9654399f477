"""MentorNet with a learnt curriculum: a network tells which labels are right (Jiang et al.)."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lossnoise._validation import check_int
from lossnoise.corrections._clean import (
    CleanSamples,
    CleanSet,
    TakesCleanSet,
    forward_without_trace,
)
from lossnoise.corrections._mentor import MentorNet
from lossnoise.corrections._mentor_network import EPOCH_PARTS, Lesson, Mentor, fit_mentor
from lossnoise.corrections.base import EpochContext
from lossnoise.corrections.losses import cross_entropy
from lossnoise.noise import inject_noise

RATES = (0.05, 0.95)  # of injected noise: the mentor has to see wrong labels, and right ones


class MentorNetDD(TakesCleanSet, MentorNet):
    """Learn from labels that a learnt mentor takes for right; registry name ``"mentornet-dd"``.

    The data-driven curriculum of MentorNet (Jiang et al., ICML 2018): the student's loss is the
    mean of v_i l_i, and v = g(loss, loss - moving percentile, part of the run, given label) is
    what a small network g answers. Before every epoch g is fitted to v* = 1[given == true] on the
    losses that the student has on `clean_set`.

    Where that set has true labels only, v* would be 1 everywhere. Then labels of a copy of them
    are redrawn by chance among the other classes, at the noise rate that the detector found,
    between 5 and 95 %; from the end of the warm-up on they stay, and the student learns the copy
    as it does the training set, weighed by the mentor, or its losses would be no example.

    Parameters
    ----------
    clean_set : Dataset or DataLoader
        Samples with known true labels, a hundred or more, of every class: a map-style dataset of
        ``(input, true label)`` or of ``(input, given label, true label)``, or of dicts with the
        true label, or with the given one and the true one as ``clean_labels``. Of a loader, the
        dataset and the collate function are used. Needed: without it `fit` raises.
    percentile : float, default=75.0
        Of the losses of a batch, in (1, 100], from which the mentor sees the distance.
    decay : float, default=0.5
        Of its moving average, in [0, 1): how much a batch leaves of what was before.
    warmup : int or float, default=0.1
        Epochs with v = 1, in which the mentor only learns: a number of epochs (int) or a fraction
        of the run (float). It should end before the student begins to memorise.
    steps : int, default=100
        Steps of the mentor's fit before every epoch, with batches of 256.
    dropout : pair of floats, default=(0.5, 0.05)
        Share of the samples that have no part in a step, by chance: early, and later.
    dropout_until : int or float, default=0.17
        The last epoch that is early, as for `warmup`.

    Attributes
    ----------
    clean_labels_ : ndarray of shape (n,), int64, or None
        True labels of the clean set; None before a run. A resumed run needs the same.
    sample_weights_ : Tensor of shape (num_samples,), float32, or None
        v of each training sample in the last epoch: what the mentor thinks the probability is
        that its label is right. None before the end of an epoch.

    Examples
    --------
    >>> import torch
    >>> from torch.utils.data import TensorDataset
    >>> from lossnoise.corrections import MentorNetDD
    >>> clean = TensorDataset(torch.randn(30, 2), torch.arange(30) % 3)
    >>> MentorNetDD(clean_set=clean).needs_clean_batch
    True
    """

    needs_detector = True

    _mentor: Mentor | None = None  # on the host, where it learns
    _acting: Mentor | None = None  # its copy on the device, from the first fit on
    _past: Lesson | None = None
    _redrawn: NDArray[np.int64] | None = (
        None  # labels of the copy, where true ones are all there is
    )

    def __init__(
        self,
        *,
        clean_set: CleanSet | None = None,
        percentile: float = 75.0,
        decay: float = 0.5,
        warmup: float = 0.1,
        steps: int = 100,
        dropout: Sequence[float] = (0.5, 0.05),
        dropout_until: float = 0.17,
    ) -> None:
        self.clean_set = clean_set
        self.percentile = percentile
        self.decay = decay
        self.warmup = warmup
        self.steps = steps
        self.dropout = dropout
        self.dropout_until = dropout_until

    def setup(self, context: EpochContext) -> None:
        """Check the parameters and the clean set; make the mentor."""
        super().setup(context)
        owner = type(self).__name__
        check_int(owner, "steps", self.steps, 1)
        self._samples = CleanSamples(owner, self.clean_set, context.num_classes)
        self._samples.check_forward(context)
        self._mentor = Mentor(context.num_classes, _host_generator(context))
        self._acting = self._past = self._redrawn = None

    def begin_epoch(self, context: EpochContext) -> None:
        """Teach the mentor what the student's losses on the clean set are now."""
        super().begin_epoch(context)
        given = self._given(context)
        if given is None or self._average is None:
            return
        order = context.rng.permutation(len(given))  # sets in order of class have odd batches
        present = self._make_lesson(order, given, context)
        past = [present] if self._past is None else [self._past, present]
        self._past = Lesson(*(torch.cat(parts) for parts in zip(*past, strict=True)))
        self._teach(present, context)
        if self._redrawn is not None and context.epoch > self._epochs("warmup", context):
            self._learn_copy(order, self._redrawn, context)

    def weigh(self, losses: Tensor, diffs: Tensor, labels: Tensor, context: EpochContext) -> Tensor:
        """Return v of each sample, shape (batch,); 1 where the mentor has learnt nothing yet."""
        if self._acting is None:
            return torch.ones_like(losses)
        parts = torch.full_like(labels, _part(context))
        with torch.no_grad(), torch.autocast(losses.device.type, enabled=False):
            logits: Tensor = self._acting(losses, diffs, labels, parts)
        return logits.sigmoid()

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs beside the constructor's arguments."""
        assert self._mentor is not None  # setup made it
        return super().state_dict() | {
            "mentor": self._mentor.state_dict(),
            "past": None if self._past is None else list(self._past),
            "redrawn": None if self._redrawn is None else torch.from_numpy(self._redrawn),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` returned."""
        super().load_state_dict(state)
        assert self._mentor is not None  # setup made it
        self._mentor.load_state_dict(state["mentor"])
        if state["redrawn"] is not None:
            self._redrawn = state["redrawn"].cpu().numpy()
        if state["past"] is not None:
            self._past = Lesson(*(column.cpu() for column in state["past"]))
            self._acting = copy.deepcopy(self._mentor).to(self._device)

    # -- lessons ----------------------------------------------------------------------------

    def _given(self, context: EpochContext) -> NDArray[np.int64] | None:
        """Return the labels that the clean set gives, with wrong ones; None if it is too early."""
        assert self._samples is not None  # setup has them
        true, given = self._samples.labels, self._samples.given
        if given is not None and (given != true).any():
            return given
        settled = self._redrawn is not None and context.epoch > self._epochs("warmup", context) + 1
        if context.noise_rate is not None and not settled:
            self._redrawn, _ = inject_noise(
                true,
                float(np.clip(context.noise_rate, *RATES)),
                include_true=False,
                num_classes=context.num_classes,
                random_state=context.rng,
            )
        return self._redrawn

    @torch.no_grad()
    def _make_lesson(
        self, order: NDArray[np.int64], given: NDArray[np.int64], context: EpochContext
    ) -> Lesson:
        """Return what the mentor sees of the clean set, as the student sees training batches."""
        assert self._samples is not None  # setup has them
        assert self._average is not None  # the caller has looked
        found = []
        for batch in self._samples.batches(order, given, context):
            assert batch.given is not None  # as asked for
            with context.engine.autocast():
                logits = forward_without_trace(context.engine.model, batch.inputs)
            found.append(cross_entropy(logits, batch.given))
        losses = context.all_mean(torch.cat(found))  # each process has a dropout of its own
        labels = torch.from_numpy(given[order])
        return Lesson(
            losses.cpu(),
            (losses - self._average).cpu(),
            labels,
            torch.full_like(labels, _part(context)),
            torch.from_numpy(given == self._samples.labels)[order].float(),
        )

    def _learn_copy(
        self, order: NDArray[np.int64], given: NDArray[np.int64], context: EpochContext
    ) -> None:
        """Have the student learn the copy, as if it were a part of the training set."""
        assert self._samples is not None  # setup has them
        assert self._average is not None  # the caller has looked
        engine = context.engine
        for batch in self._samples.batches(order, given, context):
            assert batch.given is not None  # as asked for
            with engine.autocast():
                losses = cross_entropy(engine.model(batch.inputs), batch.given)
            known = losses.detach()
            weights = self.weigh(known, known - self._average, batch.given, context)
            engine.step((weights * self._drawn(len(known), context) * losses).mean())

    def _teach(self, present: Lesson, context: EpochContext) -> None:
        assert self._past is not None  # the caller has added to it
        assert self._mentor is not None  # setup made it
        fit_mentor(self._mentor, self._past, present, self.steps, _host_generator(context))
        self._acting = copy.deepcopy(self._mentor).to(context.device)
        with torch.no_grad():  # processors differ in the last bit
            for own, acting in zip(
                self._mentor.parameters(), self._acting.parameters(), strict=True
            ):
                acting.copy_(context.all_mean(acting))
                own.copy_(acting)


def _part(context: EpochContext) -> int:
    """Return which hundredth of the run the present epoch begins in."""
    return EPOCH_PARTS * (context.epoch - 1) // context.num_epochs


def _host_generator(context: EpochContext) -> torch.Generator:
    """Return a generator on the host, the same in every process."""
    return torch.Generator().manual_seed(int(context.rng.integers(2**31)))
