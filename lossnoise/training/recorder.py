"""Losses of each sample, epoch by epoch, for people who keep their own training loop."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lossnoise._validation import check_int, invalid_data, to_numpy
from lossnoise._warnings import warn
from lossnoise.exceptions import InvalidDataError, LayoutWarning, NonFiniteLossError

FIRST_EPOCHS = 8  # room at the first growth; doubled from there

# Batches of so many equal losses, not of memorised labels, hold the mean instead of single losses.
FEWEST_EQUAL, MEMORISED = 4, 1e-3


class LossRecorder:
    """Keep the loss of each training sample in each epoch of a training loop.

    The loop stays as it is: one call of `update` a batch, with the indices of its samples and
    their losses. What comes out is what the detectors and `lossnoise.audit` take.

    Parameters
    ----------
    n : int
        Number of training samples. Indices go from 0 to ``n - 1``.

    Attributes
    ----------
    epoch_ : int
        The present epoch, counted from 1; 0 before the first.
    loss_history_ : ndarray of shape (n, epochs), float32
        One column an epoch, NaN where the sample was not seen in it. A read-only view of what is
        being recorded: copy it to keep it as it is now.
    losses_ : ndarray of shape (n,), float32
        Newest loss of each sample, NaN where it was never seen. A read-only view too.

    Notes
    -----
    `update` copies from the device to the host, and so waits for the device once a batch.
    Memory: 4 bytes a sample and epoch, and while the table grows the same once more.

    Of several processes each records the samples that it sees: gather indices and losses first,
    where one recorder shall hold them all.

    Examples
    --------
    >>> from lossnoise import LossRecorder
    >>> recorder = LossRecorder(4)
    >>> recorder.update([0, 1], [0.5, 2.0])
    >>> recorder.update([2, 3], [0.25, 1.0])
    >>> recorder.update([1, 0], [4.0, 0.5])  # seen before: this begins the second epoch
    >>> recorder.loss_history_
    array([[0.5 , 0.5 ],
           [2.  , 4.  ],
           [0.25,  nan],
           [1.  ,  nan]], dtype=float32)
    >>> recorder.reduce()
    array([0.5 , 3.  , 0.25, 1.  ])
    """

    _mean: float | None = None  # of the first batch whose losses were all equal
    _told = False

    def __init__(self, n: int) -> None:
        self.n = check_int("LossRecorder", "n", n, 1)
        self.epoch_ = 0
        # One row an epoch, so that an epoch is written to memory that lies together.
        self._table: NDArray[np.float32] = np.empty((0, self.n), dtype=np.float32)
        self._newest: NDArray[np.float32] = np.full(self.n, np.nan, dtype=np.float32)

    @property
    def loss_history_(self) -> NDArray[np.float32]:
        """Losses of each sample, one column an epoch; a read-only view."""
        return _read_only(self._table[: self.epoch_].T)

    @property
    def losses_(self) -> NDArray[np.float32]:
        """Newest loss of each sample; a read-only view."""
        return _read_only(self._newest[:])

    def update(self, indices: ArrayLike, losses: ArrayLike, epoch: int | None = None) -> None:
        """Record the losses of a batch.

        Parameters
        ----------
        indices : array-like or Tensor of shape (batch,), int
            Which samples these are. Of a sample that is there twice, the last loss counts.
        losses : array-like or Tensor of shape (batch,)
            Their losses, not averaged: on any device, with or without gradient, bfloat16 too.
            May be negative; must be finite.
        epoch : int, optional
            The epoch of this batch, from 1 and never lower than before; epochs that are passed
            over stay NaN. Without it, a batch with a sample that was already seen in the present
            epoch begins the next one. So give it where samples are drawn with replacement.

        Raises
        ------
        InvalidDataError
            The indices or losses cannot be used. Nothing is recorded then.
        NonFiniteLossError
            A loss is NaN or infinite. Nothing is recorded then.

        Warns
        -----
        LayoutWarning
            The losses of several batches are all equal in each, as means over a batch are.
        """
        rows = self._read_indices(indices)
        values = _read_losses("update", losses, rows)
        if epoch is None and not len(rows):
            return
        if epoch is not None:
            target = self._read_epoch("update", epoch)
        elif self.epoch_ == 0 or not np.isnan(self._table[self.epoch_ - 1, rows]).all():
            target = self.epoch_ + 1
        else:
            target = self.epoch_
        self._begin(target)
        self._table[target - 1, rows] = values
        self._newest[rows] = values
        self._watch_means(values)

    def record_epoch(self, losses: ArrayLike, epoch: int | None = None) -> None:
        """Record the losses of all samples at once, such as those of a pass in eval mode.

        Parameters
        ----------
        losses : array-like or Tensor of shape (n,)
            Losses in the order of the samples; finite.
        epoch : int, optional
            The epoch, from 1 and never lower than before. Default: the next one.

        Raises
        ------
        InvalidDataError
            There is not one loss for each sample. Nothing is recorded then.
        NonFiniteLossError
            A loss is NaN or infinite. Nothing is recorded then.
        """
        values = _read_losses("record_epoch", losses, np.arange(self.n))
        given = epoch is not None
        target = self._read_epoch("record_epoch", epoch) if given else self.epoch_ + 1
        self._begin(target)
        self._table[target - 1] = values
        self._newest[:] = values

    def reduce(self, last: int | None = None) -> NDArray[np.float64]:
        """Return one loss a sample: the mean over the epochs in which it was seen.

        Averages separate right from wrong labels better than the losses of one epoch do.

        Parameters
        ----------
        last : int, optional
            How many epochs to average, counted back from the newest in which the sample was seen.
            Default: all.

        Returns
        -------
        losses : ndarray of shape (n,), float64

        Raises
        ------
        InvalidDataError
            Some samples were never seen.
        """
        limit = self.epoch_ if last is None else check_int("LossRecorder.reduce", "last", last, 1)
        total = np.zeros(self.n)
        count = np.zeros(self.n, dtype=np.int64)
        for row in self._table[: self.epoch_][::-1]:
            used = ~np.isnan(row) & (count < limit)
            total[used] += row[used]
            count += used
        never = np.flatnonzero(count == 0)
        if len(never):
            raise InvalidDataError(
                f"LossRecorder.reduce needs a loss of each of the {self.n} samples. {len(never)} "
                f"were never seen; the first are samples {never[:5].tolist()}. A pass over the "
                "samples whose losses go to record_epoch has them all, as in eval mode."
            )
        means: NDArray[np.float64] = total / count
        return means

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of all that is recorded, for a checkpoint.

        Returns
        -------
        state : dict
            Plain data and tensors, which ``torch.load(..., weights_only=True)`` accepts.
        """
        import torch  # only here: losses may come from loops that do without it

        return {"loss_history": torch.from_numpy(self._table[: self.epoch_].T.copy())}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` returned; what was recorded here is lost.

        Parameters
        ----------
        state : dict
            From a recorder of as many samples.

        Raises
        ------
        InvalidDataError
            It is none of a recorder, or from one of another number of samples.
        """
        owner, history = "LossRecorder.load_state_dict", state.get("loss_history")
        table = np.empty(0) if history is None else to_numpy(history).T
        if table.ndim != 2:
            entries = ", ".join(map(repr, state))
            got = f"one with the entries {entries}" if entries else "an empty one"
            raise invalid_data(owner, "state", "what state_dict returned", got)
        if table.shape[1] != self.n:
            raise invalid_data(
                owner,
                "state",
                f"that of a recorder of {self.n} samples",
                f"one of {table.shape[1]} samples",
            )
        self._table = np.array(table, dtype=np.float32, order="C")
        self.epoch_ = len(table)
        self._newest = np.full(self.n, np.nan, dtype=np.float32)
        for row in self._table:
            np.copyto(self._newest, row, where=~np.isnan(row))

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_table": self._table[: self.epoch_]}  # not the room for more

    def _begin(self, epoch: int) -> None:
        """Go on to an epoch; room is doubled, so that each loss is moved about once in all."""
        if epoch > len(self._table):
            room = max(epoch, 2 * len(self._table), FIRST_EPOCHS)
            try:
                grown = np.empty((room, self.n), dtype=np.float32)  # unwritten pages cost nothing
            except (MemoryError, ValueError):
                expected = "the number of an epoch, of which each has a column in memory"
                raise invalid_data("LossRecorder", "epoch", expected, f"{epoch:,}") from None
            grown[: self.epoch_] = self._table[: self.epoch_]
            self._table = grown
        self._table[self.epoch_ : epoch] = np.nan
        self.epoch_ = epoch

    def _watch_means(self, values: NDArray[np.float32]) -> None:
        """Warn, once, of batches that hold one loss; a single one may be of an untrained model."""
        if self._told or len(values) < FEWEST_EQUAL or values.min() != values.max():
            return
        value = float(values[0])
        if self._mean is None:
            self._mean = value
        elif value != self._mean and abs(value) > MEMORISED:
            self._told = True
            warn(
                f"LossRecorder.update got {len(values)} equal losses ({value:.6g}) for a batch, "
                "not for the first time, as a mean over the batch is: that says little about a "
                "single label. Losses of single samples are torch's with reduction='none'.",
                LayoutWarning,
            )

    def _read_epoch(self, method: str, epoch: object) -> int:
        number = check_int(f"LossRecorder.{method}", "epoch", epoch, 1)
        if number < self.epoch_:
            raise invalid_data(
                f"LossRecorder.{method}",
                "epoch",
                f"{self.epoch_}, the present epoch, or a later one",
                str(number),
            )
        return number

    def _read_indices(self, indices: Any) -> NDArray[np.int64]:
        rows = to_numpy(indices)
        if rows.ndim != 1 or (rows.dtype.kind not in "iu" and rows.size):
            raise invalid_data(
                "LossRecorder.update",
                "indices",
                "a vector of integers",
                f"an array of shape {rows.shape} and dtype {rows.dtype}",
            )
        outside = (rows < 0) | (rows >= self.n)
        if outside.any():
            raise invalid_data(
                "LossRecorder.update",
                "indices",
                f"integers in the range [0, {self.n})",
                str(rows[outside][0]),
            )
        return rows.astype(np.int64)


def _read_losses(method: str, losses: Any, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    values = to_numpy(losses)
    if values.shape != rows.shape or (values.dtype.kind not in "fiu" and values.size):
        raise invalid_data(
            f"LossRecorder.{method}",
            "losses",
            f"a vector of {len(rows)} numbers, one a sample",
            f"an array of shape {values.shape} and dtype {values.dtype}",
            "torch's losses are one a sample with reduction='none'" if values.ndim == 0 else "",
        )
    with np.errstate(over="ignore"):  # what float32 cannot hold is refused below
        single = values.astype(np.float32)
    bad = np.flatnonzero(~np.isfinite(single))
    if len(bad):
        first = bad[0]
        raise NonFiniteLossError(
            f"The 'losses' parameter of LossRecorder.{method} must be finite in float32. Got "
            f"{values[first]} for sample {rows[first]} instead ({len(bad)} of {len(rows)} losses "
            "are not finite)."
        )
    return single


def _read_only(view: NDArray[np.float32]) -> NDArray[np.float32]:
    view.flags.writeable = False
    return view
