"""Picture of losses with the mixture fitted to them; matplotlib is loaded on use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from lossnoise._validation import (
    check_int,
    invalid_data,
    invalid_parameter,
    read_array,
    require_extra,
)
from lossnoise.detectors._base import LossMixtureDetector
from lossnoise.detectors._fit import log_densities
from lossnoise.detectors._histogram import LossHistogram
from lossnoise.detectors._input import check_counted
from lossnoise.detectors._scaling import FloatArray
from lossnoise.exceptions import InvalidDataError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ESTIMATOR = "LossMixtureDisplay.from_estimator"
PREDICTIONS = "LossMixtureDisplay.from_predictions"
GRID = 400
TALLEST = 6.0  # times the bars beyond the first eighth of the losses: taller bars are cut off
RIGHT, WRONG, POSTERIOR = "#2a6f97", "#c8553d", "#444444"


class LossMixtureDisplay:
    """Histogram of losses, the two fitted components, P(label wrong), and the cut at one half.

    Made by `from_estimator` or `from_predictions`, as scikit-learn's displays are.

    Parameters
    ----------
    losses : ndarray of shape (n_samples,)
        Losses, one a sample.
    grid : ndarray of shape (n_points,)
        Losses at which the curves are given, ascending.
    noise_proba : ndarray of shape (n_points,)
        P(label wrong) on the grid.
    densities : ndarray of shape (2, n_points), optional
        Weighted densities of the components "right" and "wrong" on the grid.
    separable : bool, optional
        Whether the losses show two populations; False is said in the title.
    counts : ndarray of shape (n_samples,), optional
        How many samples each loss stands for; one each by default.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The losses and the components.
    proba_ax_ : matplotlib Axes
        P(label wrong), on the right-hand scale.
    figure_ : matplotlib Figure

    Examples
    --------
    >>> import numpy as np
    >>> from lossnoise import BetaMixtureNoiseDetector, LossMixtureDisplay
    >>> rng = np.random.default_rng(0)
    >>> losses = np.concatenate([rng.gamma(1.0, 0.2, 700), rng.normal(4.0, 0.8, 300)])
    >>> detector = BetaMixtureNoiseDetector().fit(losses)
    >>> display = LossMixtureDisplay.from_estimator(detector, losses)
    >>> display.ax_.get_xlabel()
    'loss'
    """

    def __init__(
        self,
        losses: FloatArray,
        grid: FloatArray,
        noise_proba: FloatArray,
        densities: FloatArray | None = None,
        separable: bool | None = None,
        counts: FloatArray | None = None,
    ) -> None:
        self.losses = losses
        self.counts = counts
        self.grid = grid
        self.noise_proba = noise_proba
        self.densities = densities
        self.separable = separable

    @classmethod
    def from_estimator(
        cls,
        detector: LossMixtureDetector,
        X: ArrayLike | LossHistogram,
        *,
        bins: int = 60,
        ax: Axes | None = None,
    ) -> LossMixtureDisplay:
        """Draw losses with the mixture of a fitted detector.

        Parameters
        ----------
        detector : LossMixtureDetector
            Fitted.
        X : array-like of shape (n_samples,) or (n_samples, n_epochs), or LossHistogram
            Losses in the form given to its `fit`, or counts of them.
        bins : int, default=60
            Number of bars of the histogram.
        ax : matplotlib Axes, optional
            Where to draw; a new figure without it.

        Returns
        -------
        display : LossMixtureDisplay
        """
        if not hasattr(detector, "posterior"):
            expected = "a detector of lossnoise"
            raise invalid_parameter(ESTIMATOR, "detector", expected, type(detector))
        check_is_fitted(detector)
        counts = None
        if isinstance(X, LossHistogram):
            if not len(X):
                raise invalid_data(ESTIMATOR, "X", "a histogram of losses", "an empty one")
            losses, held = X.bins()
            if detector.loss_scale == "cross-entropy":
                check_counted(ESTIMATOR, "X", losses[0])
            counts = held.astype(np.float64)
        else:
            losses = detector._read(X, reset=False).astype(np.float64)
        grid = np.linspace(losses.min(), losses.max(), GRID)
        cut = np.nextafter(detector.threshold_, np.inf)
        if losses.min() < cut < losses.max():  # the line stands at the threshold, not near it
            grid = np.sort(np.append(grid, [detector.threshold_, cut * (1.0 + 1e-9)]))
        densities = np.exp(log_densities(grid, detector._sample_fit, detector._family)[:2])
        proba = detector._predict_pooled(grid)
        display = cls(losses, grid, proba, densities, detector.separable_, counts)
        return display.plot(bins=bins, ax=ax)

    @classmethod
    def from_predictions(
        cls,
        losses: ArrayLike,
        noise_proba: ArrayLike,
        *,
        bins: int = 60,
        ax: Axes | None = None,
    ) -> LossMixtureDisplay:
        """Draw losses with probabilities from anywhere.

        Parameters
        ----------
        losses : array-like of shape (n_samples,)
            Losses, one a sample.
        noise_proba : array-like of shape (n_samples,)
            P(label wrong) of the same samples.
        bins : int, default=60
            Number of bars of the histogram.
        ax : matplotlib Axes, optional
            Where to draw; a new figure without it.

        Returns
        -------
        display : LossMixtureDisplay

        Raises
        ------
        InvalidDataError
            The vectors are no numbers, of several lengths, empty, not finite, or no probabilities.
        """
        values, proba = _read_drawn("losses", losses), _read_drawn("noise_proba", noise_proba)
        if values.ndim != 1 or values.shape != proba.shape or len(values) == 0:
            raise InvalidDataError(
                f"The 'losses' and 'noise_proba' parameters of {PREDICTIONS} must be vectors of "
                f"one length. Got shapes {values.shape} and {proba.shape} instead."
            )
        _check_drawn("losses", values, np.isfinite(values), "finite")
        inside = (proba >= 0.0) & (proba <= 1.0)
        _check_drawn("noise_proba", proba, inside, "probabilities in [0, 1]")
        order = np.argsort(values, kind="stable")
        return cls(values, values[order], proba[order]).plot(bins=bins, ax=ax)

    def plot(self, *, bins: int = 60, ax: Axes | None = None) -> LossMixtureDisplay:
        """Draw.

        Parameters
        ----------
        bins : int, default=60
            Number of bars of the histogram.
        ax : matplotlib Axes, optional
            Where to draw; a new figure without it.

        Returns
        -------
        self : LossMixtureDisplay
        """
        check_int("LossMixtureDisplay.plot", "bins", bins, 1)
        if ax is None:
            pyplot = require_extra("matplotlib.pyplot", "plot", "LossMixtureDisplay")
            _, ax = pyplot.subplots(figsize=(7.0, 4.0), layout="constrained")
        elif not hasattr(ax, "twinx"):
            raise invalid_parameter("LossMixtureDisplay.plot", "ax", "one Axes or None", type(ax))
        self.ax_: Any = ax
        self.figure_ = ax.figure
        self._draw_losses(bins)
        self._draw_posterior()
        handles, labels = self.ax_.get_legend_handles_labels()
        more_handles, more_labels = self.proba_ax_.get_legend_handles_labels()
        self.proba_ax_.legend(
            handles + more_handles, labels + more_labels, frameon=False, loc="center right"
        )
        return self

    def _draw_losses(self, bins: int) -> None:
        heights, edges, _ = self.ax_.hist(
            self.losses,
            bins=bins,
            weights=self.counts,
            density=True,
            color="#cfd8dc",
            label="losses",
        )
        if self.densities is not None:
            for density, color, name in zip(
                self.densities, (RIGHT, WRONG), ("right labels", "wrong labels"), strict=True
            ):
                self.ax_.plot(self.grid, density, color=color, lw=2, label=f"fit: {name}")
        self._limit_height(heights, edges)
        if self.separable is False:
            self.ax_.set_title(
                "cannot tell right from wrong labels from these losses", size="medium"
            )
        self.ax_.set_xlabel("loss")
        self.ax_.set_ylabel("density")

    def _limit_height(self, heights: FloatArray, edges: FloatArray) -> None:
        """Let the histogram set the scale, and cut off the heap at 0 where it hides the rest.

        A density may be infinite at its border, and nine losses in ten may lie in one bar.
        """
        if self.ax_.get_yscale() == "log":  # of an axis that was given
            self.ax_.set_ylim(heights[heights > 0.0].min() / 2.0, 2.0 * heights.max())
            return
        rest = heights[len(heights) // 8 :].max(initial=0.0)
        limit = min(heights.max(), TALLEST * rest) if rest > 0.0 else heights.max()
        self.ax_.set_ylim(0.0, 1.15 * limit)
        if limit < heights.max():
            beside = edges[1:][heights > limit].max()
            at = beside + 0.03 * np.ptp(self.losses)  # clear of the curve through the bar
            note = f"tallest bar reaches {heights.max():.3g}"
            self.ax_.annotate(note, (at, 1.08 * limit), fontsize="small", color=POSTERIOR)

    def _draw_posterior(self) -> None:
        self.proba_ax_ = self.ax_.twinx()
        self.proba_ax_.plot(
            self.grid, self.noise_proba, color=POSTERIOR, ls="--", lw=1.2, label="P(label wrong)"
        )
        self.proba_ax_.set_ylim(0.0, 1.15)
        self.proba_ax_.set_yticks([0.0, 0.5, 1.0])
        self.proba_ax_.set_ylabel("P(label wrong)")
        flagged = self.noise_proba > 0.5
        if flagged.any() and not flagged.all():
            cut = self.grid[flagged].min()
            self.proba_ax_.axvline(cut, color=POSTERIOR, lw=0.8, label=f"P = 0.5 at {cut:.3g}")


def _read_drawn(name: str, values: ArrayLike) -> FloatArray:
    array = read_array(PREDICTIONS, name, values)
    try:
        return array.astype(np.float64)
    except (TypeError, ValueError):
        got = f"an array of dtype {array.dtype}"
        raise invalid_data(PREDICTIONS, name, "a vector of numbers", got) from None


def _check_drawn(name: str, values: FloatArray, good: NDArray[np.bool_], expected: str) -> None:
    if not good.all():
        row = int(np.flatnonzero(~good)[0])
        raise invalid_data(PREDICTIONS, name, expected, f"{values[row]:.6g} in row {row}")
