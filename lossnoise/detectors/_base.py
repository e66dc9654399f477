"""What every two-component mixture on losses shares: input, scaling, the EM driver, predictions.

A family of distributions (see ``_beta.py``) adds a few small functions. The EM driver works on
``(values, weights)``, so that raw losses and histogram counts are one code path.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit
from sklearn.base import BaseEstimator, DensityMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from lossnoise._history import reduce_history
from lossnoise._validation import (
    check_choice,
    check_int,
    check_real,
    invalid_data,
    invalid_parameter,
    to_numpy,
)
from lossnoise.detectors._histogram import LossHistogram
from lossnoise.detectors._scaling import (
    EDGE,
    CrossEntropyScaling,
    FloatArray,
    PercentileScaling,
    Scaling,
)
from lossnoise.exceptions import InvalidDataError

MIN_SAMPLES = 10


class Mixture(NamedTuple):
    """Two weighted components: ``weights`` (2,) and ``params``, one row a component."""

    weights: FloatArray
    params: FloatArray


class EMResult(NamedTuple):
    """What EM ended with; `log_likelihood` is the weighted mean of the log-density."""

    mixture: Mixture
    log_likelihood: float
    n_iter: int
    converged: bool


class Family(Protocol):
    """Two components of one family of distributions: all that EM must know about them."""

    def log_density(self, values: FloatArray, params: FloatArray) -> FloatArray:
        """Return the log-densities ``(2, n)`` of the components at normalised losses."""

    def m_step(self, values: FloatArray, mass: FloatArray, params: FloatArray) -> FloatArray:
        """Return new parameters from the responsibilities ``mass`` ``(2, n)``, which sum to 1."""

    def rising_range(self, params: FloatArray) -> tuple[float, float]:
        """Return the stretch of normalised losses where the log-odds of "wrong" rise."""


def expectation_maximization(
    values: FloatArray,
    counts: FloatArray | None,
    start: Mixture,
    family: Family,
    *,
    max_iter: int,
    tol: float,
) -> EMResult:
    """Fit a mixture of two components to `values`, each of which stands for `counts` samples.

    Responsibilities are the monotone posterior that predictions use too. Stops when the mean
    log-likelihood moves by less than `tol`, or after `max_iter` iterations; both are regular
    ends, because the M-step need not maximise the likelihood.
    """
    share = np.full(len(values), 1.0) if counts is None else counts
    share = share / share.sum()
    mixture, converged, n_iter = start, False, 0
    log_likelihood = _mean_log_likelihood(values, share, mixture, family)
    while n_iter < max_iter and not converged:
        upper = wrong_proba(values, mixture, family)
        mass = np.stack([(1.0 - upper) * share, upper * share])
        mixture = Mixture(mass.sum(axis=1), family.m_step(values, mass, mixture.params))
        previous = log_likelihood
        log_likelihood = _mean_log_likelihood(values, share, mixture, family)
        converged = abs(log_likelihood - previous) < tol
        n_iter += 1
    return EMResult(mixture, log_likelihood, n_iter, converged)


def wrong_proba(values: FloatArray, mixture: Mixture, family: Family) -> FloatArray:
    """Return the posterior of the second component, flat beyond the turn of its log-odds."""
    low, high = family.rising_range(mixture.params)
    rising = np.clip(values, min(low, 1.0 - EDGE), max(high, EDGE))
    joint = log_joint(rising, mixture, family)
    posterior: FloatArray = expit(joint[1] - joint[0])
    return posterior


def log_joint(values: FloatArray, mixture: Mixture, family: Family) -> FloatArray:
    """Return the log of the weighted densities ``(2, n)`` of the components."""
    with np.errstate(divide="ignore"):  # a weight of 0 is log-weight -inf, which is right
        log_weights = np.log(mixture.weights)
    return family.log_density(values, mixture.params) + log_weights[:, None]


def _mean_log_likelihood(
    values: FloatArray, share: FloatArray, mixture: Mixture, family: Family
) -> float:
    joint = log_joint(values, mixture, family)
    return float(share @ np.logaddexp(joint[0], joint[1]))


class LossMixtureDetector(DensityMixin, BaseEstimator, ABC):  # type: ignore[misc]  # sklearn is untyped
    """Base of the detectors: a mixture of two components on normalised losses.

    A subclass stores its parameters (``max_iter``, ``tol``, ``loss_scale``, ``percentiles``,
    ``history_reduction``) and gives the family of distributions by the abstract methods below.
    """

    max_iter: int
    tol: float
    loss_scale: str
    percentiles: tuple[float, float]
    history_reduction: int

    # -- what a subclass adds ---------------------------------------------------------------

    _family: ClassVar[Family]

    @abstractmethod
    def _start(self, values: FloatArray, counts: FloatArray | None) -> Mixture:
        """Return the mixture that EM starts from, the component of right labels first."""

    @abstractmethod
    def _component_means(self, params: FloatArray) -> FloatArray:
        """Return the mean ``(2,)`` of each component on the normalised scale."""

    @abstractmethod
    def _store_params(self, params: FloatArray) -> None:
        """Store the sorted parameters in the family's own public attributes."""

    @abstractmethod
    def _mixture(self) -> Mixture:
        """Return the fitted mixture, from the public attributes."""

    # -- scikit-learn's interface -----------------------------------------------------------

    def fit(self, X: ArrayLike, y: object = None) -> LossMixtureDetector:
        """Fit the mixture to losses.

        Parameters
        ----------
        X : array-like of shape (n_samples,) or (n_samples, n_epochs)
            Per-sample losses, or their history with one column an epoch, which is reduced to
            the mean of the last `history_reduction` columns. At least 10 samples, finite.
        y : None
            Ignored; here because scikit-learn expects it.

        Returns
        -------
        self : object
            The fitted detector.

        Raises
        ------
        InvalidParameterError
            A parameter of the constructor is out of range.
        InvalidDataError
            The losses are not finite, or all the same.
        """
        self._check_params()
        losses = self._reduce(X, reset=True)
        return self._fit(losses, None, lambda: np.percentile(losses, self.percentiles))

    def fit_histogram(self, histogram: LossHistogram) -> LossMixtureDetector:
        """Fit the mixture to counted losses: a stream, or the sum of histograms of many machines.

        Parameters
        ----------
        histogram : LossHistogram
            At least 10 losses, of which not all fall into one bin.

        Returns
        -------
        self : object
            The detector, fitted as to the middles of the bins; bins are so narrow that it
            differs little from one fitted to the losses themselves.

        Raises
        ------
        InvalidParameterError
            A parameter of the constructor is out of range, or no histogram was given.
        InvalidDataError
            There are too few losses, or all fall into one bin.
        """
        self._check_params()
        owner = f"{type(self).__name__}.fit_histogram"
        if not isinstance(histogram, LossHistogram):
            raise invalid_parameter(owner, "histogram", "a LossHistogram", type(histogram))
        if len(histogram) < MIN_SAMPLES:
            raise invalid_data(
                owner, "histogram", f"of at least {MIN_SAMPLES} losses", f"{len(histogram)}"
            )
        self.n_features_in_ = 1
        losses, counts = histogram.bins()
        shares = np.divide(self.percentiles, 100.0)
        return self._fit(losses, counts.astype(np.float64), lambda: histogram.quantile(shares))

    def predict_proba(self, X: ArrayLike) -> FloatArray:
        """Return the probabilities that each label is right and that it is wrong.

        Parameters
        ----------
        X : array-like of shape (n_samples,) or (n_samples, n_epochs)
            Losses in the form given to `fit`.

        Returns
        -------
        proba : ndarray of shape (n_samples, 2), float64
            Columns ``[P(right), P(wrong)]``; each row sums to 1. P(wrong) never falls as the
            loss rises.
        """
        check_is_fitted(self)
        wrong = self._wrong_proba(self._reduce(X, reset=False))
        return np.column_stack([1.0 - wrong, wrong])

    def predict(self, X: ArrayLike) -> NDArray[np.int64]:
        """Return 1 where the label is more likely wrong than right, else 0.

        Parameters
        ----------
        X : array-like of shape (n_samples,) or (n_samples, n_epochs)
            Losses in the form given to `fit`.

        Returns
        -------
        wrong : ndarray of shape (n_samples,), int64
        """
        proba: FloatArray = self.predict_proba(X)
        return (proba[:, 1] > 0.5).astype(np.int64)

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
        """
        check_is_fitted(self)
        joint = self._log_joint_density(self._reduce(X, reset=False))
        log_density: FloatArray = np.logaddexp(joint[0], joint[1])
        return log_density

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

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.positive_only = self.loss_scale == "cross-entropy"
        return tags

    # -- inside -----------------------------------------------------------------------------

    def _check_params(self) -> None:
        owner = type(self).__name__
        check_int(owner, "max_iter", self.max_iter, 1)
        check_real(owner, "tol", self.tol, 0.0, np.inf, closed="left")
        check_int(owner, "history_reduction", self.history_reduction, 1)
        check_choice(owner, "loss_scale", self.loss_scale, {"cross-entropy", "any"})
        expected = "a pair of percentiles (low, high) with 0 <= low < high <= 100"
        try:
            low, high = (p + 0.0 for p in self.percentiles)  # a string is no number
        except (TypeError, ValueError):
            raise invalid_parameter(owner, "percentiles", expected, self.percentiles) from None
        if not 0.0 <= low < high <= 100.0:
            raise invalid_parameter(owner, "percentiles", expected, self.percentiles)

    def _reduce(self, X: Any, *, reset: bool) -> FloatArray:
        """Return one finite loss a sample, as float64."""
        if hasattr(X, "detach") or np.ndim(X) == 1:
            X = to_numpy(X)
            X = X[:, None] if X.ndim == 1 else X
        table = validate_data(
            self,
            X,
            reset=reset,
            dtype=np.float64,
            ensure_all_finite=False,
            ensure_min_samples=MIN_SAMPLES if reset else 1,
        )
        self._check_finite(table)
        return reduce_history(table, self.history_reduction)

    def _check_finite(self, table: FloatArray) -> None:
        bad = ~np.isfinite(table).all(axis=1)
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            kind = "NaN" if np.isnan(table[row]).any() else "inf"
            raise InvalidDataError(
                f"The 'X' parameter of {type(self).__name__} must be finite losses. Got {kind} "
                f"in {int(bad.sum())} of {len(table)} rows, first in row {row}, instead."
            )

    def _fit(
        self,
        losses: FloatArray,
        counts: FloatArray | None,
        find_range: Callable[[], FloatArray],
    ) -> LossMixtureDetector:
        """Fit to losses that stand for `counts` samples each, or for one where that is None."""
        self.scaling_ = self._fit_scaling(losses, find_range)
        values = self.scaling_.normalise(losses)
        result = expectation_maximization(
            values,
            counts,
            self._start(values, counts),
            self._family,
            max_iter=self.max_iter,
            tol=self.tol,
        )
        self._store(result, float(np.average(self.scaling_.log_slope(values), weights=counts)))
        self.noise_rate_ = float(np.average(self._wrong_proba(losses), weights=counts))
        return self

    def _fit_scaling(self, losses: FloatArray, find_range: Callable[[], FloatArray]) -> Scaling:
        owner = type(self).__name__
        if losses.min() == losses.max():
            raise InvalidDataError(
                f"The 'X' parameter of {owner} must be losses that differ. Got {len(losses)} "
                f"times {losses[0]:.6g} instead: a constant cannot be divided into right and "
                "wrong labels."
            )
        with np.errstate(over="ignore"):
            spread = losses.max() - losses.min()
        if not np.isfinite(spread):
            raise InvalidDataError(
                f"The 'X' parameter of {owner} must be losses whose range is finite. Got losses "
                f"from {losses.min():.6g} to {losses.max():.6g} instead."
            )
        if self.loss_scale == "any":
            return PercentileScaling.fit(losses, find_range())
        if losses.min() < 0.0:
            raise InvalidDataError(
                f"Negative values in data: the 'X' parameter of {owner} must be cross-entropy "
                f"losses, which are at least 0. Got {losses.min():.6g} instead: use "
                "loss_scale='any' for other losses."
            )
        return CrossEntropyScaling()

    def _store(self, result: EMResult, log_slope: float) -> None:
        # The wrong component is the higher one because responsibilities never fall with the loss,
        # from the first guess on: nothing has to be sorted, and rounding cannot swap equal means.
        self.weights_ = result.mixture.weights
        self._store_params(result.mixture.params)
        self.means_ = self.scaling_.losses_at(self._component_means(result.mixture.params))
        self.n_iter_ = result.n_iter
        self.converged_ = result.converged
        self.lower_bound_ = result.log_likelihood + log_slope
        self.classes_ = np.array([0, 1])

    def _log_joint_density(self, losses: FloatArray) -> FloatArray:
        """Return the log of the weighted component densities ``(2, n)``, per unit of loss."""
        values = self.scaling_.normalise(losses)
        joint = log_joint(values, self._mixture(), self._family)
        return joint + self.scaling_.log_slope(values)

    def _wrong_proba(self, losses: FloatArray) -> FloatArray:
        return wrong_proba(self.scaling_.normalise(losses), self._mixture(), self._family)
