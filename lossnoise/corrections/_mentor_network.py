"""The network that learns from losses which labels are right, and how it is fitted."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

EPOCH_PARTS = 100  # of a run, that the mentor tells apart
LSTM_SIZE = 10
HIDDEN = 20
BATCH = 256
LEARNING_RATE = 0.01


class Lesson(NamedTuple):
    """What a mentor sees of samples, and what it is to answer.

    Attributes
    ----------
    losses, diffs : Tensor of shape (n,), float32
        Loss against the given label, and by how much it exceeds the moving percentile.
    labels : Tensor of shape (n,), int64
        The given label.
    parts : Tensor of shape (n,), int64
        The part of the run, from 0 to 99.
    right : Tensor of shape (n,), float32
        v*: 1 where the given label is the true one, else 0.
    """

    losses: Tensor
    diffs: Tensor
    labels: Tensor
    parts: Tensor
    right: Tensor


class Mentor(nn.Module):
    """P(label right) by the loss, the label, and how much of the run is over.

    A bidirectional LSTM reads (loss, diff) as a sequence of one step; what it says, an embedding
    of the label (2) and one of the part of the run (5) go through a layer of 20 with tanh to one
    logit (Jiang et al., ICML 2018, section 4.1). One step begins with a state of zeros: there is
    nothing to recur to or to forget, and each direction is o tanh(i tanh(c)) with two gates.

    Parameters
    ----------
    num_classes : int
    generator : torch.Generator
        For the first weights, on the host.
    """

    def __init__(self, num_classes: int, generator: torch.Generator) -> None:
        super().__init__()
        self.reader = nn.Linear(2, 2 * 3 * LSTM_SIZE)  # of two directions the gates and the cell
        self.label = nn.Embedding(num_classes, 2)
        self.part = nn.Embedding(EPOCH_PARTS, 5)
        self.hidden = nn.Linear(2 * LSTM_SIZE + 7, HIDDEN)
        self.answer = nn.Linear(HIDDEN, 1)
        with torch.no_grad():
            for parameter in self.parameters():
                bound = parameter.shape[-1] ** -0.5
                parameter.uniform_(-bound, bound, generator=generator)
        self.float()  # as the losses are, whatever torch's default type

    def forward(self, losses: Tensor, diffs: Tensor, labels: Tensor, parts: Tensor) -> Tensor:
        """Return the logit of v of each sample, shape (n,)."""
        gates, out, cell = self.reader(torch.stack([losses, diffs], dim=1)).chunk(3, dim=1)
        read = out.sigmoid() * torch.tanh(gates.sigmoid() * cell.tanh())
        seen = torch.cat([read, self.label(labels), self.part(parts)], dim=1)
        logits: Tensor = self.answer(torch.tanh(self.hidden(seen)))[:, 0]
        return logits


def fit_mentor(
    mentor: Mentor, past: Lesson, present: Lesson, steps: int, generator: torch.Generator
) -> None:
    """Fit a mentor to v* by cross-entropy, with Adam, half to this epoch and half to all so far.

    Parameters
    ----------
    mentor : Mentor
        Fitted in place, from its present weights.
    past, present : Lesson
        Of all epochs so far and of this one, on the host.
    steps : int
        Of batches of 256, drawn with replacement.
    generator : torch.Generator
        For these draws.
    """
    optimizer = torch.optim.Adam(mentor.parameters(), lr=LEARNING_RATE)
    for _ in range(steps):
        halves = [_draw(lesson, BATCH // 2, generator) for lesson in (past, present)]
        batch = Lesson(*(torch.cat(parts) for parts in zip(*halves, strict=True)))
        loss = F.binary_cross_entropy_with_logits(mentor(*batch[:-1]), batch.right)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch ships it untyped
        optimizer.step()


def _draw(lesson: Lesson, size: int, generator: torch.Generator) -> Lesson:
    rows = torch.randint(len(lesson.losses), (size,), generator=generator)
    return Lesson(*(column[rows] for column in lesson))
