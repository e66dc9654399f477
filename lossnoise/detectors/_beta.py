"""Two beta distributions on normalised losses (Arazo et al., ICML 2019, section 3.1)."""

from __future__ import annotations

import numpy as np
from scipy.special import betaln

from lossnoise.detectors._base import LossMixtureDetector
from lossnoise.detectors._scaling import TINY, FloatArray

MIN_RELATIVE_VARIANCE = 1e-6  # of m (1 - m), the largest variance that a mean m allows


def beta_features(values: FloatArray) -> FloatArray:
    """Return log x and log(1 - x) of values in (0, 1): shape (2, n)."""
    return np.array([np.log(values), np.log1p(-values)])


def beta_log_density(features: FloatArray, params: FloatArray) -> FloatArray:
    """Return log Beta(x | a, b) for each row (a, b) of `params`: shape (len(params), n)."""
    a, b = params[:, :1], params[:, 1:]
    log_x, log_rest = features
    log_density: FloatArray = (a - 1.0) * log_x + (b - 1.0) * log_rest - betaln(a, b)
    return log_density


def beta_moments(values: FloatArray, mass: FloatArray, params: FloatArray) -> FloatArray:
    """Return the (a, b) whose mean and variance are those of `values` weighted by each row of mass.

    The weighted method of moments: with mean m and variance v, a = m (m (1 - m) / v - 1) and
    b = a (1 - m) / m. A component that holds nothing keeps its parameters.
    """
    shapes = params.copy()
    for row, held in enumerate(mass.sum(axis=1).tolist()):
        if held > TINY:
            mean = float(mass[row] @ values) / held
            spread = mean * (1.0 - mean)
            variance = float(mass[row] @ (values - mean) ** 2) / held
            concentration = spread / max(variance, MIN_RELATIVE_VARIANCE * spread) - 1.0
            shapes[row] = mean * concentration, (1.0 - mean) * concentration
    return shapes


def one_sided(params: FloatArray) -> FloatArray:
    """Return the components with b >= 2 for right labels and a >= 2 for wrong ones.

    The density of right labels then falls to 0 towards the highest losses, that of wrong ones
    towards the lowest. Moments alone often give a U-shaped component, which takes the far end of
    the other one with it: the rate comes out too low, and more iterations make it worse.
    """
    bounded = params.copy()
    bounded[0, 1] = max(params[0, 1], 2.0)
    bounded[1, 0] = max(params[1, 0], 2.0)
    return bounded


def beta_rising_range(params: FloatArray) -> tuple[float, float]:
    """Return where log Beta(x | a1, b1) - log Beta(x | a0, b0) rises, for sorted components.

    The log-odds c + (a1 - a0) log x + (b1 - b0) log(1 - x) turn at most once, at
    x* = (a1 - a0) / ((a1 - a0) + (b1 - b0)), and inside (0, 1) only where both differences have
    one sign: both negative, they fall until x*; both positive, they fall after it.
    """
    delta_a, delta_b = params[1] - params[0]
    if delta_a < 0.0 and delta_b < 0.0:
        return float(delta_a / (delta_a + delta_b)), 1.0
    if delta_a > 0.0 and delta_b > 0.0:
        return 0.0, float(delta_a / (delta_a + delta_b))
    return 0.0, 1.0


class BetaFamily:
    """Beta distributions, fitted by moments within `one_sided` shapes."""

    temperature = 2.5
    features = staticmethod(beta_features)
    log_density = staticmethod(beta_log_density)
    rising_range = staticmethod(beta_rising_range)

    @staticmethod
    def m_step(values: FloatArray, mass: FloatArray, params: FloatArray) -> FloatArray:
        """Return the parameters of the weighted moments, made one-sided."""
        return one_sided(beta_moments(values, mass, params))

    @staticmethod
    def means(params: FloatArray) -> FloatArray:
        """Return the mean of each component, a / (a + b)."""
        means: FloatArray = params[:, 0] / params.sum(axis=1)
        return means

    @staticmethod
    def inside(params: FloatArray) -> FloatArray:
        """Return 1 for each component: a beta distribution has no values elsewhere."""
        return np.ones(len(params))


class BetaMixtureNoiseDetector(LossMixtureDetector):
    """Find wrong labels by a mixture of two beta distributions fitted to per-sample losses.

    Networks learn right labels before wrong ones, so that during training the losses of the
    wrong ones lie higher. The losses are normalised to [0, 1], two beta distributions are fitted
    by expectation-maximisation with a weighted method of moments as M-step, and the posterior of
    the component with the higher mean is P(label wrong) [1]_. That posterior is made monotone by
    the closed-form turning point of its log-odds, so that a higher loss is never less suspicious.

    Parameters
    ----------
    max_iter : int, default=100
        Number of EM iterations at most. The method-of-moments step is no likelihood
        maximisation: stopping here is the method, not a failure. Fewer than 50 are too few where
        right and wrong labels overlap, and find too little noise there.
    tol : float, default=1e-6
        EM stops when the mean log-likelihood moves by less than this.
    n_bins : int, default=1000
        EM runs on losses counted on a grid of so many cells, equal on the normalised scale, each
        loss shared between the two nodes beside it. More cells cost time and hardly change
        anything.
    hard_fraction : float, default=0.045
        Share of the samples, at most, that is taken to be hard examples: right labels whose
        losses are spread evenly over the normalised scale [2]_. Every model makes some confident
        mistakes, and without this background all of them would be counted as wrong labels. It
        is less where hardly any losses lie between the two heaps. With 0 the model is the two
        components alone, which suits losses recorded in training: the network has seen the
        labels, and few right ones stay hard for it.
    loss_scale : {"cross-entropy", "any"}, default="cross-entropy"
        What the losses are. A cross-entropy loss l is the negative logarithm of a probability,
        which gives it an absolute scale: it becomes 1 - exp(-l / 2.5). Any other loss has no scale
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
    alphas_, betas_ : ndarray of shape (2,)
        Parameters of the two beta distributions on the normalised scale.
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
    GaussianMixtureNoiseDetector : The same with two normal distributions.

    References
    ----------
    .. [1] E. Arazo, D. Ortego, P. Albert, N. O'Connor, K. McGuinness, "Unsupervised Label Noise
       Modeling and Loss Correction", ICML 2019, arXiv:1904.11238.
    .. [2] J. D. Banfield, A. E. Raftery, "Model-based Gaussian and non-Gaussian clustering",
       Biometrics 49, 1993: a uniform background beside the components of a mixture.

    Examples
    --------
    >>> import numpy as np
    >>> from lossnoise import BetaMixtureNoiseDetector
    >>> rng = np.random.default_rng(0)
    >>> losses = np.concatenate([rng.gamma(1.0, 0.2, 700), rng.normal(4.0, 0.8, 300)])
    >>> detector = BetaMixtureNoiseDetector().fit(losses)
    >>> round(detector.noise_rate_, 2)
    0.29
    >>> detector.predict([0.1, 4.2])
    array([0, 1])
    """

    _family = BetaFamily()

    def _store_params(self, params: FloatArray) -> None:
        self.alphas_, self.betas_ = params.T.copy()
