"""`LossMixtureDetector`: scikit-learn's interface to a mixture of two populations of losses.

What is computed stands in the modules beside this one, as pure functions: ``_input`` reads losses,
``_fit`` fits a sample of them, ``_threshold``, ``_interval`` and ``_groups`` say more about a fit.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, DensityMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from lossnoise._validation import invalid_data, invalid_parameter
from lossnoise._warnings import warn
from lossnoise.detectors._fit import (
    CANNOT_TELL,
    Part,
    SampleFit,
    fit_sample,
    log_densities,
)
from lossnoise.detectors._grid import read_table
from lossnoise.detectors._groups import codes_of, fit_groups, read_groups, report_groups
from lossnoise.detectors._histogram import LossHistogram
from lossnoise.detectors._input import (
    MIN_SAMPLES,
    check_counted,
    check_range,
    number_of_rows,
    read_losses,
    remember_vector,
    warn_of_bins,
    warn_of_floor,
    warn_of_losses,
)
from lossnoise.detectors._mixture import Family
from lossnoise.detectors._results import FitResults
from lossnoise.detectors._sample import LossSample
from lossnoise.detectors._scaling import FloatArray
from lossnoise.detectors._settings import HARD_FRACTION, FitSettings, read_settings
from lossnoise.detectors._threshold import crossing
from lossnoise.exceptions import InvalidDataError, NoSeparableNoiseWarning

# What an earlier fit may have left, and the next one does not set.
FORGOTTEN = (
    "_histogram",
    "_cautious_table",
    "lower_bound_",
    "noise_rate_interval_",
    "group_report_",
)
Detector = TypeVar("Detector", bound="LossMixtureDetector")
DOCUMENTATION = "https://lossnoise.readthedocs.io/en/stable/api.html#lossnoise.{estimator_name}"


class LossMixtureDetector(FitResults, TransformerMixin, DensityMixin, BaseEstimator, ABC):  # type: ignore[misc]  # sklearn is untyped
    """Base of the detectors: a mixture of two components on normalised losses.

    A subclass gives the family of distributions by the members below.
    """

    _doc_link_module = "lossnoise"
    _doc_link_template = DOCUMENTATION

    _parts: dict[Hashable, Part]

    _family: ClassVar[Family]

    @abstractmethod
    def _store_params(self, params: FloatArray) -> None:
        """Store the parameters of the components in the family's own public attributes."""

    def __init__(
        self,
        *,
        max_iter: int = 100,
        tol: float = 1e-6,
        n_bins: int = 1000,
        hard_fraction: float = HARD_FRACTION,
        loss_scale: str = "cross-entropy",
        percentiles: tuple[float, float] = (0.0, 99.0),
        history_reduction: int | None = None,
    ) -> None:
        self.max_iter = max_iter
        self.tol = tol
        self.n_bins = n_bins
        self.hard_fraction = hard_fraction
        self.loss_scale = loss_scale
        self.percentiles = percentiles
        self.history_reduction = history_reduction

    def fit(
        self: Detector, X: ArrayLike, y: object = None, groups: ArrayLike | None = None
    ) -> Detector:
        """Fit the mixture to losses.

        Parameters
        ----------
        X : array-like of shape (n_samples,) or (n_samples, n_epochs)
            Per-sample losses, or their history with one column an epoch, which is reduced to
            the mean of its columns (`history_reduction`). At least 10 samples, finite. Lists,
            arrays of any float or integer type, memory-mapped files, pandas, polars and Arrow
            columns, and tensors on any device.
        y : None
            Ignored; here because scikit-learn expects it.
        groups : array-like of shape (n_samples,), optional
            Group of each sample, for instance its given label. Each group gets a noise rate of
            its own, small ones near that of all samples; and a group whose losses are of another
            kind, such as a class that the model finds hard, a curve of its own.

        Returns
        -------
        self : object
            The fitted detector.

        Raises
        ------
        InvalidParameterError
            A parameter of the constructor is out of range.
        InvalidDataError
            The losses cannot be used: too few, not finite, no numbers, probabilities.

        Warns
        -----
        NoSeparableNoiseWarning
            The losses cannot tell right labels from wrong ones: see `separable_`.
        LossScaleWarning
            The losses are hardly cross-entropy in nats, or hold more than it; were clipped; or are
            flags, 0 or 1, or of probabilities that are.
        LayoutWarning
            A loss history has more epochs than samples, and may be transposed; or losses come in
            runs of equal ones, as means over batches do.
        """
        settings = read_settings(self)
        if groups is not None:  # before anything of the detector changes
            groups = read_groups(f"{type(self).__name__}.fit", groups, X, number_of_rows(X))
        losses = self._read(X, reset=True)
        fit = self._fit(LossSample.of_losses(losses), settings)
        if groups is not None:
            self._parts = fit_groups(losses, groups, fit, self._family, settings)
            self.group_report_ = report_groups(self._parts, fit.scaling)
        return self._finish()

    def partial_fit(self: Detector, X: ArrayLike, y: object = None) -> Detector:
        """Add losses to those that were fitted so far, and fit again.

        Parameters
        ----------
        X : array-like of shape (n_samples,) or (n_samples, n_epochs)
            More losses, in the form given before. Any number; the detector is fitted as soon as
            there are 10 in all.
        y : None
            Ignored; here because scikit-learn expects it.

        Returns
        -------
        self : object
            The detector, fitted to all losses so far as `fit_histogram` fits counted ones.

        Raises
        ------
        InvalidParameterError
            A parameter of the constructor is out of range.
        InvalidDataError
            The losses cannot be used, or groups were given to an earlier `fit`.

        Warns
        -----
        NoSeparableNoiseWarning, LossScaleWarning
            As of `fit`.
        """
        settings = read_settings(self)
        histogram = getattr(self, "_histogram", None) or self._fitted_histogram()
        losses = self._read(X, reset=not hasattr(self, "n_features_in_"), minimum=1)
        histogram = histogram + LossHistogram().fill(losses)
        if len(histogram) >= MIN_SAMPLES:
            return self._fit_histogram(histogram, settings)
        self._histogram = histogram
        return self

    def fit_histogram(self: Detector, histogram: LossHistogram) -> Detector:
        """Fit the mixture to counted losses: a stream, or the sum of histograms of many machines.

        Parameters
        ----------
        histogram : LossHistogram
            At least 10 losses.

        Returns
        -------
        self : object
            The detector, fitted as to the middles of the bins, which are narrow.

        Raises
        ------
        InvalidParameterError
            A parameter of the constructor is out of range, or no histogram was given.
        InvalidDataError
            There are too few losses, or negative ones where they are cross-entropy.

        Warns
        -----
        NoSeparableNoiseWarning, LossScaleWarning
            As of `fit`.
        """
        owner = f"{type(self).__name__}.fit_histogram"
        settings = read_settings(self)
        if not isinstance(histogram, LossHistogram):
            raise invalid_parameter(owner, "histogram", "a LossHistogram", type(histogram))
        histogram = histogram.copy()
        if len(histogram) < MIN_SAMPLES:
            raise invalid_data(
                owner, "histogram", f"of at least {MIN_SAMPLES} losses", f"{len(histogram)}"
            )
        self._fit_histogram(histogram, settings)
        remember_vector(self)
        return self

    def predict_proba(self, X: ArrayLike, groups: ArrayLike | None = None) -> FloatArray:
        """Return the probabilities that each label is right and that it is wrong.

        Parameters
        ----------
        X : array-like of shape (n_samples,) or (n_samples, n_epochs)
            Losses in the form given to `fit`.
        groups : array-like of shape (n_samples,), optional
            Groups, where groups were given to `fit`. One that `fit` did not see gets the curve of
            all samples; that there are only such is an error.

        Returns
        -------
        proba : ndarray of shape (n_samples, 2), float64
            Columns ``[P(right), P(wrong)]``; each row sums to 1. Within a group, P(wrong) never
            falls as the loss rises.

        Raises
        ------
        InvalidDataError
            The losses cannot be used, or groups are missing or too many.
        """
        return self._predict_wrong(X, groups, columns=2)

    def predict(self, X: ArrayLike, groups: ArrayLike | None = None) -> NDArray[np.int64]:
        """Return 1 where the label is more likely wrong than right, else 0.

        Parameters
        ----------
        X : array-like of shape (n_samples,) or (n_samples, n_epochs)
            Losses in the form given to `fit`.
        groups : array-like of shape (n_samples,), optional
            As for `predict_proba`.

        Returns
        -------
        wrong : ndarray of shape (n_samples,), int64
        """
        return (self._predict_wrong(X, groups)[:, 0] > 0.5).astype(np.int64)

    def decision_function(self, X: ArrayLike, groups: ArrayLike | None = None) -> FloatArray:
        """Return P(wrong) - 1/2, by which "roc_auc" and other scorers of scikit-learn >= 1.9 rank.

        Parameters
        ----------
        X : array-like of shape (n_samples,) or (n_samples, n_epochs)
            Losses in the form given to `fit`.
        groups : array-like of shape (n_samples,), optional
            As for `predict_proba`.

        Returns
        -------
        decision : ndarray of shape (n_samples,), float64
            Above 0 where `predict` returns 1.
        """
        return self._predict_wrong(X, groups)[:, 0] - 0.5

    def posterior(self, X: ArrayLike, *, cautious: bool = False) -> FloatArray:
        """Return the plain posterior of the wrong component, whatever `separable_` says.

        `predict_proba` gives less where the losses do not show two populations. Without groups.

        Parameters
        ----------
        X : array-like of shape (n_samples,) or (n_samples, n_epochs)
            Losses in the form given to `fit`.
        cautious : bool, default=False
            Whether to suppose that twice as many samples as `hard_fraction` are hard examples, or
            as many as by default where that is 0.

        Returns
        -------
        posterior : ndarray of shape (n_samples,), float64
            Never falling in the loss.
        """
        check_is_fitted(self)
        table = self._cautious_table if cautious else self._sample_fit.mixture_curve.proba
        return read_table(table, self._read(X, reset=False), self.scaling_)

    def transform(self, X: ArrayLike, groups: ArrayLike | None = None) -> FloatArray:
        """Return P(wrong) as a table of one column, for pipelines.

        Parameters
        ----------
        X : array-like of shape (n_samples,) or (n_samples, n_epochs)
            Losses in the form given to `fit`.
        groups : array-like of shape (n_samples,), optional
            As for `predict_proba`.

        Returns
        -------
        p_noisy : ndarray of shape (n_samples, 1), float64
            A table of pandas or polars after ``set_output``.
        """
        return self._predict_wrong(X, groups)

    def fit_transform(
        self, X: ArrayLike, y: object = None, groups: ArrayLike | None = None
    ) -> FloatArray:
        """Fit, and return P(wrong) as a table of one column.

        Parameters
        ----------
        X, y, groups : array-like
            As for `fit`.

        Returns
        -------
        p_noisy : ndarray of shape (n_samples, 1), float64
            As from `transform`.
        """
        p_noisy: FloatArray = self.fit(X, y, groups).transform(X, groups)
        return p_noisy

    def get_feature_names_out(self, input_features: object = None) -> NDArray[np.object_]:
        """Return the name of the column that `transform` returns.

        Parameters
        ----------
        input_features : None
            Ignored; here because scikit-learn expects it.

        Returns
        -------
        names : ndarray of shape (1,), object
            ``["p_noisy"]``.
        """
        check_is_fitted(self)
        return np.array(["p_noisy"], dtype=object)

    def score_samples(self, X: ArrayLike) -> FloatArray:
        """Return the log-density of the fitted mixture at each loss, on the scale of the losses.

        Losses beyond the ends of the normalised scale count as lying on them.

        Parameters
        ----------
        X : array-like of shape (n_samples,) or (n_samples, n_epochs)
            Losses in the form given to `fit`.

        Returns
        -------
        log_density : ndarray of shape (n_samples,), float64
            Natural logarithm, per unit of loss.
        """
        check_is_fitted(self)
        losses = self._read(X, reset=False)
        return log_densities(losses, self._sample_fit, self._family).both

    def score(self, X: ArrayLike, y: object = None) -> float:
        """Return the mean log-density of the losses under the fitted mixture.

        Parameters
        ----------
        X : array-like of shape (n_samples,) or (n_samples, n_epochs)
            Losses in the form given to `fit`.
        y : None
            Ignored.

        Returns
        -------
        score : float
        """
        return float(self.score_samples(X).mean())

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_sample_fit")  # `partial_fit` waits until there are enough losses

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.positive_only = self.loss_scale == "cross-entropy"
        return tags

    # -- inside -----------------------------------------------------------------------------

    def _read(self, X: Any, *, reset: bool, minimum: int = MIN_SAMPLES) -> NDArray[Any]:
        """Return one loss a sample."""
        return read_losses(
            self,
            X,
            reset=reset,
            minimum=minimum if reset else 1,
            last=self.history_reduction,
            nonnegative=self.loss_scale == "cross-entropy",
        )

    def _fit(self, sample: LossSample, settings: FitSettings) -> SampleFit:
        """Fit to a sample, and store what it says."""
        check_range(type(self).__name__, sample)
        warn_of_losses(sample, are_cross_entropy=settings.loss_scale == "cross-entropy")
        for name in FORGOTTEN:
            self.__dict__.pop(name, None)
        fit = fit_sample(sample, self._family, settings)
        warn_of_floor(sample, fit)
        # The wrong component is the higher one because responsibilities never fall with the loss:
        # nothing has to be sorted, and rounding cannot swap equal means.
        mixture = fit.result.mixture
        self._sample_fit = fit
        self._parts = {None: Part(sample.values, sample.weights, sample.lows, fit.curve)}
        self.scaling_ = fit.scaling
        self.weights_ = mixture.weights
        self._store_params(mixture.params)
        self.means_ = fit.scaling.losses_at(self._family.means(mixture.params))
        self.separable_ = fit.separability.separable
        self.threshold_ = crossing(fit.curve.proba, fit.scaling)
        self.n_iter_ = fit.result.n_iter
        self.converged_ = fit.result.converged
        self.classes_ = np.array([0, 1])
        return fit

    def _fitted_histogram(self) -> LossHistogram:
        """Return the losses that were fitted so far as a histogram."""
        if hasattr(self, "group_report_"):
            owner = f"{type(self).__name__}.partial_fit"
            got = "a detector that was fitted with groups"
            raise invalid_data(owner, "self", "fitted without groups", got)
        histogram = LossHistogram()
        for part in getattr(self, "_parts", {}).values():
            histogram.fill(part.losses, part.weights.astype(np.int64))
        return histogram

    def _fit_histogram(self: Detector, histogram: LossHistogram, settings: FitSettings) -> Detector:
        sample = LossSample.of_histogram(histogram)
        if self.loss_scale == "any":
            warn_of_bins(sample)
        else:
            check_counted(f"{type(self).__name__}.fit_histogram", "histogram", sample.values[0])
            sample = sample.raised_to(0.0)
        self._fit(sample, settings)
        self._histogram = histogram
        return self._finish()

    def _finish(self: Detector) -> Detector:
        """Store the noise rate, and say where the losses cannot tell."""
        curves = [part.curve for part in self._parts.values()]
        wrong = sum(float(curve.grid @ curve.proba) for curve in curves)
        self.noise_rate_ = wrong / sum(float(curve.grid.sum()) for curve in curves)
        if not self.separable_:
            warn(CANNOT_TELL[self._sample_fit.doubt], NoSeparableNoiseWarning)
        return self

    def _predict_wrong(self, X: Any, groups: Any, columns: int = 1) -> FloatArray:
        """Return P(wrong) as a column, or after a column of P(right)."""
        check_is_fitted(self)
        losses = self._read(X, reset=False)
        proba = np.empty((len(losses), columns))
        if not hasattr(self, "group_report_"):
            if groups is not None:
                raise self._groups_error("given to fit too, or not at all", "groups here only")
            self._predict_pooled(losses, proba if columns == 2 else proba[:, 0])
            return proba
        if groups is None:
            raise self._groups_error("given, as they were to fit", "None")
        owner = type(self).__name__
        codes = codes_of(owner, read_groups(owner, groups, X, len(losses)), self._parts)
        curves = [self._sample_fit.curve, *(part.curve for part in self._parts.values())]
        for code, curve in enumerate(curves, start=-1):  # -1: not seen by fit
            members = np.flatnonzero(codes == code)
            proba[members, -1] = read_table(curve.proba, losses[members], self.scaling_)
        if columns == 2:
            np.subtract(1.0, proba[:, 1], out=proba[:, 0])
        return proba

    def _groups_error(self, expected: str, got: str) -> InvalidDataError:
        return invalid_data(type(self).__name__, "groups", expected, got)

    def _predict_pooled(self, losses: NDArray[Any], out: FloatArray | None = None) -> FloatArray:
        return read_table(self._sample_fit.curve.proba, losses, self.scaling_, out)
