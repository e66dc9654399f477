"""What a fitted detector says beside probabilities; each is computed when it is asked for."""

from __future__ import annotations

from collections.abc import Hashable
from functools import cached_property
from typing import ClassVar

from sklearn.utils.validation import check_is_fitted

from lossnoise.detectors._fit import (
    Part,
    SampleFit,
    curve_of,
    mean_log_density,
)
from lossnoise.detectors._interval import rate_interval
from lossnoise.detectors._mixture import Family
from lossnoise.detectors._scaling import FloatArray, Scaling
from lossnoise.detectors._threshold import Threshold, choose_threshold, scores_of


class FitResults:
    """Mixin of `LossMixtureDetector`: what follows from a fit without its losses."""

    _family: ClassVar[Family]
    _sample_fit: SampleFit
    _parts: dict[Hashable, Part]
    noise_rate_: float
    scaling_: Scaling

    @cached_property
    def lower_bound_(self) -> float:
        """Return the mean log-density of the fitted losses, computed on first access."""
        check_is_fitted(self)
        return mean_log_density(self._parts.values(), self._sample_fit, self._family)

    @cached_property
    def noise_rate_interval_(self) -> tuple[float, float]:
        """Return the 90 % interval for the share of wrong labels, computed on first access."""
        check_is_fitted(self)
        low, high = rate_interval(self._sample_fit, self._family)
        shift = self.noise_rate_ - self._sample_fit.curve.rate  # of groups against all samples
        return max(0.0, low + shift), min(1.0, high + shift)

    def threshold_for(
        self,
        *,
        precision: float | None = None,
        recall: float | None = None,
        budget: int | None = None,
    ) -> Threshold:
        """Return the loss above which to call labels wrong, chosen by one need.

        Parameters
        ----------
        precision : float in (0, 1], optional
            Expected share of wrong labels among those called wrong, at least. The lowest
            threshold that gives it even if twice as many samples are hard examples (with
            ``hard_fraction=0`` as many as by default); where there is none, the lowest that
            gives it as it is, and not below the losses that are then the surest.
        recall : float in (0, 1], optional
            Expected share of the wrong labels that are called wrong, at least. The highest
            threshold that gives it.
        budget : int, optional
            Number of labels that somebody can look at, at most. The lowest threshold for it.

        Returns
        -------
        cut : Threshold
            Named tuple ``(threshold, precision, recall, count)``: labels with a loss of at least
            ``threshold``, and what to expect of them, over the fitted losses. The threshold is inf
            where the need cannot be met.

        Raises
        ------
        InvalidParameterError
            None or several needs were given, or one is out of range.

        Warns
        -----
        UnattainableThresholdWarning
            No threshold meets the need.
        """
        check_is_fitted(self)
        return choose_threshold(
            f"{type(self).__name__}.threshold_for",
            scores_of(self._parts.values(), self.scaling_, self._cautious_table),
            precision=precision,
            recall=recall,
            budget=budget,
        )

    @cached_property
    def _cautious_table(self) -> FloatArray:
        """Return P(wrong) of all samples if more of them were hard examples."""
        fit = self._sample_fit
        return curve_of(fit.curve.grid, self._family, fit.settings.with_more_hard()).proba
