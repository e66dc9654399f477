"""What labels and outputs the steps of training met: labels should stay, and outputs be logits."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lossnoise._validation import to_numpy
from lossnoise._warnings import warn
from lossnoise.exceptions import LayoutWarning
from lossnoise.training._distributed import gather_rows
from lossnoise.training._seen import UNSEEN

MOSTLY = 0.5  # of the samples, by outputs that are hardly logits
FEWEST = 20  # samples by which that can be told


class OutputWatch:
    """Class labels and first choices of a model, looked at once an epoch.

    Parameters
    ----------
    owner : str
        The recorder that warnings name.
    advice : str
        How to say which output has the logits.
    """

    def __init__(self, owner: str, advice: str) -> None:
        self._owner = owner
        self._advice = advice
        self._labels: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self._pending: list[tuple[Tensor, Tensor, Tensor]] = []
        self._width = 0
        self._told: set[str] = set()

    def begin(self) -> None:
        """Forget the steps of an epoch that was broken off."""
        self._pending = []

    def add(self, indices: Tensor, labels: Tensor, logits: Tensor | None) -> None:
        """Note a batch, on its device.

        Indices of samples and labels are of shape (batch,), what should be logits (batch, C).
        """
        chosen = labels
        if logits is not None:
            self._width, chosen = logits.shape[1], logits.detach().argmax(dim=1)
        self._pending.append((indices, labels, chosen))

    def look(self, n: int, epoch: int) -> None:
        """Look at the steps since the last time, of all of n samples; all processes together."""
        if not self._pending:  # of all processes or of none
            return
        columns = zip(*self._pending, strict=True)
        rows, labels, chosen = (to_numpy(gather_rows(torch.cat(part).long())) for part in columns)
        self._pending = []
        known = (rows >= 0) & (labels >= 0)
        rows, labels, chosen = rows[known], labels[known], chosen[known]
        before = self._labels if len(self._labels) else np.full(n, UNSEEN, dtype=np.int64)
        self._labels = before.copy()
        self._labels[rows] = labels
        changed = (before[rows] != labels) & (before[rows] != UNSEEN)
        changed |= self._labels[rows] != labels  # of a sample that came twice
        self._watch_labels(rows[changed], n)
        if epoch > 1 and len(rows) >= FEWEST:  # an untrained model may choose anything
            self._watch_choices(chosen)

    def state(self) -> Tensor:
        """Return the label of each sample that came."""
        return torch.from_numpy(self._labels.copy())

    def restore(self, state: Tensor) -> None:
        """Take back what `state` returned."""
        self._labels, self._pending = to_numpy(state).astype(np.int64), []

    def _watch_labels(self, changed: NDArray[np.int64], n: int) -> None:
        if len(changed):
            many = len(np.unique(changed))
            self._tell(
                "labels",
                f"{self._owner}: {many} of {n} samples, the first of them sample {changed.min()}, "
                "came with one label and then with another, in this run or the one that it "
                "resumes: their losses are of different samples or against different labels. A "
                "dataset must give a sample the same label each time, and not another sample for "
                "one that it cannot read; corrected labels need a new recorder.",
            )

    def _watch_choices(self, chosen: NDArray[np.int64]) -> None:
        """Warn where the largest output is one that no label asks for: training would lower it."""
        classes = np.unique(self._labels[self._labels != UNSEEN])
        strange = float(np.mean(~np.isin(chosen, classes)))
        if strange > MOSTLY:
            self._tell(
                "choices",
                f"{self._owner}: of {strange:.0%} of the samples the largest of {self._width} "
                f"outputs is that of a class that no label has; the labels are of {len(classes)} "
                "classes. Outputs that are trained as logits are not like that, but embeddings "
                f"are: {self._advice}.",
            )

    def _tell(self, what: str, message: str) -> None:
        if what not in self._told:
            self._told.add(what)
            warn(message, LayoutWarning)
