"""Picture of the losses of right and of wrong labels over the epochs; matplotlib loads on use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from lossnoise._validation import invalid_data, invalid_parameter, require_extra, to_numpy
from lossnoise.detectors._display import RIGHT, WRONG

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from lossnoise.training.trainer import NoisyLabelTrainer

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

OWNER = "LossHistoryDisplay"
PANEL = (4.2, 3.2)  # inches


class LossHistoryDisplay:
    """Losses of right and of wrong labels over the epochs: medians, and bands of the middle half.

    The picture of whether a network memorises wrong labels [1]_: then their losses fall to those
    of right labels. One panel for each run, side by side on one scale of losses, such as plain
    training beside a correction. Made by `from_trainer` or `from_history`, as scikit-learn's
    displays are.

    Parameters
    ----------
    loss_histories : dict of str to ndarray of shape (n_samples, n_epochs)
        Losses by the title of their panel ("" is none). NaN where a sample was not seen.
    wrong : dict of str to ndarray of shape (n_samples,), bool
        Which labels count as wrong, by the same titles.
    by_truth : bool
        Whether `wrong` is the truth, and not P(label wrong) > 0.5.

    Attributes
    ----------
    quartiles_ : dict of str to dict
        For each title, under "right" and "wrong", what is drawn: an array of shape (3, n_epochs),
        the lower quartile, median and upper quartile in each epoch. NaN where no loss is known.
    axes_ : ndarray of matplotlib Axes
        One a panel.
    ax_ : matplotlib Axes
        The first of them.
    figure_ : matplotlib Figure

    Notes
    -----
    Only the truth shows memorisation. P(label wrong) comes from losses itself: labels that were
    memorised count as right, and what counts as wrong has high losses by its definition.

    References
    ----------
    .. [1] E. Arazo, D. Ortego, P. Albert, N. O'Connor, K. McGuinness, "Unsupervised Label Noise
       Modeling and Loss Correction", ICML 2019, arXiv:1904.11238, figure 1.

    Examples
    --------
    >>> import numpy as np
    >>> from lossnoise import LossHistoryDisplay
    >>> rng = np.random.default_rng(0)
    >>> changed = rng.random(300) < 0.4
    >>> start = rng.gamma(20.0, 0.1, (300, 1))
    >>> epochs = np.arange(30)
    >>> learned = start * np.exp(-0.3 * epochs)
    >>> memorised = start * np.exp(-0.1 * epochs)
    >>> plain = np.where(changed[:, None], memorised, learned)
    >>> corrected = np.where(changed[:, None], start + 0.05 * epochs, learned)
    >>> display = LossHistoryDisplay.from_history(
    ...     {"plain training": plain, "with correction": corrected}, changed
    ... )
    >>> [ax.get_title() for ax in display.axes_]
    ['plain training', 'with correction']
    >>> bool(display.quartiles_["plain training"]["wrong"][1, -1] < 0.2)
    True
    """

    def __init__(
        self,
        loss_histories: dict[str, NDArray[Any]],
        wrong: dict[str, BoolArray],
        by_truth: bool,
    ) -> None:
        self.loss_histories = loss_histories
        self.wrong = wrong
        self.by_truth = by_truth

    @classmethod
    def from_trainer(
        cls,
        trainer: NoisyLabelTrainer | Mapping[str, NoisyLabelTrainer],
        changed: ArrayLike | None = None,
        *,
        ax: Axes | ArrayLike | None = None,
    ) -> LossHistoryDisplay:
        """Draw the losses that trainers kept while they were fitted.

        Parameters
        ----------
        trainer : NoisyLabelTrainer or dict of str to NoisyLabelTrainer
            Fitted. Several, by the titles of their panels, are drawn side by side.
        changed : array-like of shape (n_samples,), bool, optional
            Which labels are wrong, where it is known. Without it, those with P(label wrong) > 0.5
            count as wrong, of each trainer by its own `noise_proba_`.
        ax : matplotlib Axes or array-like of Axes, optional
            Where to draw, one a trainer; a new figure without it.

        Returns
        -------
        display : LossHistoryDisplay
        """
        trainers = trainer if isinstance(trainer, Mapping) else {"": trainer}
        if not trainers or not all(hasattr(fitted, "get_params") for fitted in trainers.values()):
            expected = "a trainer, or a dict of some by the titles of their panels"
            got: Any = {} if isinstance(trainer, Mapping) and not trainer else type(trainer)
            raise invalid_parameter(f"{cls.__name__}.from_trainer", "trainer", expected, got)
        needed = ["loss_history_"] if changed is not None else ["loss_history_", "noise_proba_"]
        for fitted in trainers.values():
            check_is_fitted(fitted, needed)
        histories = {title: fitted.loss_history_ for title, fitted in trainers.items()}
        _check_recorded(trainers)
        probas = None
        if changed is None:
            probas = {title: fitted.noise_proba_ for title, fitted in trainers.items()}
        return cls._make("from_trainer", histories, changed, probas).plot(ax=ax)

    @classmethod
    def from_history(
        cls,
        loss_history: ArrayLike | Mapping[str, ArrayLike],
        changed: ArrayLike | None = None,
        noise_proba: ArrayLike | Mapping[str, ArrayLike] | None = None,
        *,
        ax: Axes | ArrayLike | None = None,
    ) -> LossHistoryDisplay:
        """Draw losses from anywhere, such as those of a `LossRecorder`.

        Parameters
        ----------
        loss_history : array-like of shape (n_samples, n_epochs), or dict of str to such
            Losses, NaN where a sample was not seen. Several histories, by the titles of their
            panels, are drawn side by side.
        changed : array-like of shape (n_samples,), bool, optional
            Which labels are wrong, where it is known.
        noise_proba : array-like of shape (n_samples,), or dict of str to such, optional
            P(label wrong), used where `changed` is not given: above 0.5 a label counts as wrong.
            A dict has the titles of `loss_history`.
        ax : matplotlib Axes or array-like of Axes, optional
            Where to draw, one a history; a new figure without it.

        Returns
        -------
        display : LossHistoryDisplay
        """
        several = isinstance(loss_history, Mapping)
        histories = loss_history if isinstance(loss_history, Mapping) else {"": loss_history}
        probas: Any = noise_proba
        if noise_proba is not None and not isinstance(noise_proba, Mapping):
            probas = dict.fromkeys(histories, noise_proba)
        if changed is None and (probas is None or set(probas) != set(histories)):
            expected = "P(label wrong) of each sample where 'changed' is not given"
            expected += ", for each title of 'loss_history'" if several else ""
            got = None if probas is None else list(probas)
            raise invalid_parameter(f"{OWNER}.from_history", "noise_proba", expected, got)
        return cls._make("from_history", histories, changed, probas).plot(ax=ax)

    @classmethod
    def _make(
        cls,
        method: str,
        histories: Mapping[str, ArrayLike],
        changed: ArrayLike | None,
        probas: Mapping[str, ArrayLike] | None,
    ) -> LossHistoryDisplay:
        owner = f"{OWNER}.{method}"
        checked = {title: _read_history(owner, history) for title, history in histories.items()}
        if not checked:
            raise invalid_data(owner, "loss_history", "at least one history", "none")
        wrong = {}
        for title, history in checked.items():
            if changed is not None:
                wrong[title] = _read_changed(owner, changed, len(history))
            elif probas is not None:
                wrong[title] = _read_proba(owner, probas[title], len(history)) > 0.5
        return cls(checked, wrong, by_truth=changed is not None)

    def plot(self, *, ax: Axes | ArrayLike | None = None) -> LossHistoryDisplay:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes or array-like of Axes, optional
            Where to draw, one a panel; a new figure without it.

        Returns
        -------
        self : LossHistoryDisplay
        """
        self.quartiles_ = {
            title: {
                "right": _quartiles(history[~self.wrong[title]]),
                "wrong": _quartiles(history[self.wrong[title]]),
            }
            for title, history in self.loss_histories.items()
        }
        self.axes_ = self._make_axes() if ax is None else self._check_axes(ax)
        self.ax_: Any = self.axes_[0]
        self.figure_ = self.ax_.figure
        for title, axes in zip(self.loss_histories, self.axes_, strict=True):
            self._draw_panel(title, axes)
        self._finish_panels()
        if ax is None:
            for axes in self.axes_:
                axes.label_outer()
        return self

    def _make_axes(self) -> NDArray[np.object_]:
        pyplot = require_extra("matplotlib.pyplot", "plot", OWNER)
        count = len(self.loss_histories)
        size = (PANEL[0] * count, PANEL[1])
        _, axes = pyplot.subplots(
            1, count, figsize=size, sharey=True, squeeze=False, layout="constrained"
        )
        made: NDArray[np.object_] = axes[0]
        return made

    def _check_axes(self, ax: Any) -> NDArray[np.object_]:
        axes = np.asarray(ax, dtype=object).reshape(-1)
        count = len(self.loss_histories)
        if len(axes) != count:
            expected = f"{count} Axes, one a panel"
            raise invalid_data(f"{OWNER}.plot", "ax", expected, f"{len(axes)}")
        return axes

    def _draw_panel(self, title: str, axes: Any) -> None:
        wrong = self.wrong[title]
        names = ("right labels", "wrong labels")
        if not self.by_truth:
            names = ("≤ 0.5", "> 0.5")
        for key, name, count, color, style in (
            ("wrong", names[1], wrong.sum(), WRONG, "--"),
            ("right", names[0], (~wrong).sum(), RIGHT, "-"),
        ):
            if count:
                label = f"{name} (n = {count})"
                _draw_group(axes, self.quartiles_[title][key], label, color, style)
        axes.set_title(title)
        axes.set_xlabel("epoch")
        axes.set_ylabel("loss")
        axes.xaxis.get_major_locator().set_params(integer=True)

    def _finish_panels(self) -> None:
        """Set scales and legends when all is drawn.

        Panels share their scale: a limit set earlier would cut off what the later ones draw.
        """
        drawn = [quartiles for groups in self.quartiles_.values() for quartiles in groups.values()]
        if min(np.nanmin(q, initial=np.inf) for q in drawn) >= 0.0:
            for axes in self.axes_:
                axes.set_ylim(bottom=0.0)
        heading = None if self.by_truth else "P(label wrong)"
        before: list[str] = []
        for axes in self.axes_:
            labels = axes.get_legend_handles_labels()[1]
            if labels != before:
                axes.legend(frameon=False, title=heading, alignment="left")
            before = labels


def _draw_group(axes: Any, quartiles: FloatArray, label: str, color: str, style: str) -> None:
    lower, median, upper = quartiles
    epochs = np.arange(1, len(median) + 1)
    known = np.concatenate([[False], ~np.isnan(median), [False]])
    alone = known[1:-1] & ~known[:-2] & ~known[2:]  # no line goes there
    axes.fill_between(epochs, lower, upper, color=color, alpha=0.2, lw=0)
    axes.vlines(epochs[alone], lower[alone], upper[alone], color=color, alpha=0.4, lw=3)
    axes.plot(epochs[alone], median[alone], color=color, ls="", marker="o", markersize=4)
    axes.plot(epochs, median, color=color, ls=style, lw=1.8, label=label)


def _quartiles(losses: NDArray[Any]) -> FloatArray:
    """Return the quartiles of each column, NaN left out; NaN for a column without losses."""
    found = np.full((3, losses.shape[1]), np.nan)
    for column, values in enumerate(losses.T):
        seen = values[~np.isnan(values)]
        if len(seen):
            found[:, column] = np.quantile(seen.astype(np.float64), (0.25, 0.5, 0.75))
    return found


def _read_history(owner: str, loss_history: Any) -> NDArray[Any]:
    history = to_numpy(loss_history)
    if history.ndim != 2 or history.dtype.kind not in "fiu":
        got = f"an array of shape {history.shape} and dtype {history.dtype}"
        raise invalid_data(owner, "loss_history", "losses of shape (n_samples, n_epochs)", got)
    if np.isinf(history).any():
        row, column = np.argwhere(np.isinf(history))[0]
        got = f"{history[row, column]} in row {row}"
        raise invalid_data(owner, "loss_history", "finite, or NaN for not seen", got)
    if np.isnan(history).all():
        raise invalid_data(owner, "loss_history", "losses of at least one epoch", "none")
    return history


def _check_recorded(trainers: Mapping[str, NoisyLabelTrainer]) -> None:
    """Raise where a run has no losses of single epochs, such as one by mixup."""
    for title, fitted in trainers.items():
        if not np.isfinite(fitted.loss_history_).any():
            of_run = f" for {title!r}" if title else ""
            got = f"one by {fitted.correction!r}{of_run}, which keeps none"
            expected = "a trainer whose run recorded losses in its epochs"
            advice = "its method saw no unmixed samples, or handed none over"
            raise invalid_data(f"{OWNER}.from_trainer", "trainer", expected, got, advice)


def _read_changed(owner: str, changed: Any, n: int) -> BoolArray:
    wrong = to_numpy(changed)
    if wrong.shape != (n,) or wrong.dtype != np.bool_:
        got = f"an array of shape {wrong.shape} and dtype {wrong.dtype}"
        expected = f"one bool for each of the {n} samples"
        raise invalid_data(owner, "changed", expected, got, _how_to_mask(wrong, n))
    return wrong


def _how_to_mask(wrong: NDArray[Any], n: int) -> str:
    """Return how to make a mask of what was given, where that is known."""
    if wrong.ndim != 1 or wrong.dtype.kind not in "iuf":
        return ""
    if len(wrong) == n and ((wrong == 0) | (wrong == 1)).all():
        return "flags of 0 and 1 become bools by .astype(bool)"
    if wrong.dtype.kind != "f":
        return f"positions of samples become one by np.isin(np.arange({n}), positions)"
    return ""


def _read_proba(owner: str, noise_proba: Any, n: int) -> FloatArray:
    proba = to_numpy(noise_proba)
    if proba.shape != (n,) or proba.dtype.kind not in "fiub":
        got = f"an array of shape {proba.shape} and dtype {proba.dtype}"
        raise invalid_data(owner, "noise_proba", f"one number for each of the {n} samples", got)
    outside = ~((proba >= 0.0) & (proba <= 1.0))  # true for NaN as well
    if outside.any():
        row = int(np.flatnonzero(outside)[0])
        raise invalid_data(
            owner, "noise_proba", "probabilities in [0, 1]", f"{proba[row]} in row {row}"
        )
    return proba.astype(np.float64)
