"""Two normal distributions on normalised losses, as in DivideMix (Li et al., ICLR 2020)."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr

from lossnoise.detectors._base import LossMixtureDetector
from lossnoise.detectors._scaling import TINY, FloatArray

MIN_DEVIATION = 0.03  # of the normalised scale: no heap of losses is narrower
LOG_SQRT_2_PI = 0.5 * np.log(2.0 * np.pi)


def gaussian_log_density(values: FloatArray, params: FloatArray) -> FloatArray:
    """Return log N(values | m, s^2) for each row (m, s) of `params`: shape (len(params), n)."""
    mean, deviation = params[:, :1], params[:, 1:]
    log_density: FloatArray = (
        -0.5 * ((values - mean) / deviation) ** 2 - np.log(deviation) - LOG_SQRT_2_PI
    )
    return log_density


def gaussian_moments(values: FloatArray, mass: FloatArray, params: FloatArray) -> FloatArray:
    """Return the (mean, deviation) of `values` weighted by each row of mass.

    The maximum-likelihood M-step, with deviations of at least `MIN_DEVIATION`. A component that
    holds nothing keeps its parameters.
    """
    total = mass.sum(axis=1)
    alive = total > TINY
    safe = np.where(alive, total, 1.0)
    mean = mass @ values / safe
    variance = (mass * (values - mean[:, None]) ** 2).sum(axis=1) / safe
    deviation = np.maximum(np.sqrt(variance), MIN_DEVIATION)
    return np.where(alive[:, None], np.column_stack([mean, deviation]), params)


def gaussian_rising_range(params: FloatArray) -> tuple[float, float]:
    """Return where log N(x | m1, s1) - log N(x | m0, s0) rises, for sorted components.

    The log-odds are a parabola with its vertex at
    x* = (m0 s1^2 - m1 s0^2) / (s1^2 - s0^2): it opens upwards where s1 > s0, so that they fall
    until x*; downwards where s1 < s0, so that they fall after it; a line where s1 = s0.
    """
    (mean_0, deviation_0), (mean_1, deviation_1) = params
    spread = deviation_1**2 - deviation_0**2
    if spread == 0.0:
        return 0.0, 1.0
    turn = float((mean_0 * deviation_1**2 - mean_1 * deviation_0**2) / spread)
    return (turn, 1.0) if spread > 0.0 else (0.0, turn)


class GaussianFamily:
    """Normal distributions, fitted by maximum likelihood."""

    temperature = 8.0
    log_density = staticmethod(gaussian_log_density)
    m_step = staticmethod(gaussian_moments)
    rising_range = staticmethod(gaussian_rising_range)

    @staticmethod
    def features(values: FloatArray) -> FloatArray:
        """Return the values themselves."""
        return values

    @staticmethod
    def means(params: FloatArray) -> FloatArray:
        """Return the mean of each component."""
        return params[:, 0].copy()

    @staticmethod
    def inside(params: FloatArray) -> FloatArray:
        """Return the share of each component in [0, 1]."""
        mean, deviation = params.T
        share: FloatArray = ndtr((1.0 - mean) / deviation) - ndtr(-mean / deviation)
        return share


class GaussianMixtureNoiseDetector(LossMixtureDetector):
    """Find wrong labels by a mixture of two normal distributions fitted to per-sample losses.

    The mixture of DivideMix [1]_ and of many methods after it, behind the interface of
    `BetaMixtureNoiseDetector`: the same start, background of hard examples, monotone posterior and
    test for separability. Losses are bounded below and skewed, which betas describe better; on
    the benchmarks of this library the betas' noise rates and probabilities are closer to the
    truth.

    Parameters
    ----------
    max_iter : int, default=100
        Number of EM iterations at most.
    tol : float, default=1e-6
        EM stops when the mean log-likelihood moves by less than this.
    n_bins : int, default=1000
        EM runs on losses counted on a grid of so many cells, equal on the normalised scale, each
        loss shared between the two nodes beside it. More cells cost time and hardly change
        anything.
    hard_fraction : float, default=0.045
        Share of the samples, at most, that is taken to be hard examples: right labels whose
        losses are spread evenly over the normalised scale. Every model makes some confident
        mistakes, and without this background all of them would be counted as wrong labels. It
        is less where hardly any losses lie between the two heaps. With 0 the model is the two
        components alone, which suits losses recorded in training: the network has seen the
        labels, and few right ones stay hard for it.
    loss_scale : {"cross-entropy", "any"}, default="cross-entropy"
        What the losses are. A cross-entropy loss l is the negative logarithm of a probability,
        which gives it an absolute scale: it becomes 1 - exp(-l / 8). Any other loss has no scale
        of its own, and is normalised by `percentiles`.
    percentiles : tuple of two floats, default=(0.0, 99.0)
        For ``loss_scale="any"``: the percentiles of the losses that become 0 and 1; losses
        outside are put on the border.
    history_reduction : int, optional
        For a loss history `(n_samples, n_epochs)`: the mean over this many last columns is used,
        by default over all of them.

    Attributes
    ----------
    noise_rate_ : float
        Estimated share of wrong labels: the mean of P(wrong) over the fitted losses. Of
        cross-entropies below log 2 P(wrong) is at most 1/2: the model itself gives these labels.
    noise_rate_interval_ : tuple of two floats
        90 % interval for the share of wrong labels. Where less than 15 % of the labels look
        wrong to which the model gives less than an even chance, it goes up to the share of these,
        unless they are most labels.
        Computed on first access, which takes about as long as a hundred fits to a thousand losses.
    separable_ : bool
        Whether the losses show two populations, and the mixture found these (and, where they are
        cross-entropies, not just labels that the model would itself give, less surely than others).
        Where not, they cannot tell right labels from wrong ones: P(wrong) and `noise_rate_` are
        then 0, a lower bound, and the interval goes up to what would have gone unnoticed, or to the
        share of labels to which the model gives less than an even chance; up to 1 with
        ``loss_scale="any"``, and of losses that were normalised to [0, 1]. It does not mean that
        the labels are right.
    threshold_ : float
        The loss at which P(wrong) is 1/2 (of float32 losses to within 1e-5); inf where it is
        never reached. With groups, that of the curve of all samples.
    group_report_ : list of dict
        With groups: ``group``, ``n``, ``noise_rate`` and ``threshold`` of each.
    weights_ : ndarray of shape (2,)
        Weights of the components, right labels first. The second is *not* the noise rate.
    locations_, deviations_ : ndarray of shape (2,)
        Mean and standard deviation of the two distributions on the normalised scale.
    means_ : ndarray of shape (2,)
        The loss at the mean of each component, ascending.
    scaling_ : object
        The map from losses to the normalised scale: ``normalise``, ``losses_at``, ``log_slope``.
    n_iter_ : int
        Number of EM iterations made.
    converged_ : bool
        Whether `tol` was reached before `max_iter`.
    lower_bound_ : float
        Mean log-density of the fitted losses, on the scale of the losses.
    classes_ : ndarray of shape (2,)
        ``[0, 1]``: right, wrong.
    n_features_in_ : int
        Number of columns seen in `fit` (1 for a vector).

    See Also
    --------
    BetaMixtureNoiseDetector : The same with two beta distributions; the one to begin with.

    References
    ----------
    .. [1] J. Li, R. Socher, S. C. H. Hoi, "DivideMix: Learning with Noisy Labels as
       Semi-supervised Learning", ICLR 2020, arXiv:2002.07394.

    Examples
    --------
    >>> import numpy as np
    >>> from lossnoise import GaussianMixtureNoiseDetector
    >>> rng = np.random.default_rng(0)
    >>> losses = np.concatenate([rng.gamma(1.0, 0.2, 700), rng.normal(4.0, 0.8, 300)])
    >>> detector = GaussianMixtureNoiseDetector().fit(losses)
    >>> detector.predict([0.1, 4.2])
    array([0, 1])
    """

    _family = GaussianFamily()

    def _store_params(self, params: FloatArray) -> None:
        self.locations_, self.deviations_ = params.T.copy()
