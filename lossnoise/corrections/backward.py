"""Backward loss correction (Patrini et al., 2017)."""

from __future__ import annotations

from torch import Tensor

from lossnoise.corrections._transition import TransitionCorrection, invert
from lossnoise.corrections.losses import backward_corrected


class BackwardCorrection(TransitionCorrection):
    """Weigh the losses of all classes by an inverse; registry name ``"backward"``.

    The loss is (T^-1 l)[y], with l the cross-entropies against every class and T_ij = p(given = j
    | true = i): on average over the noise it is the loss on the true label (Patrini et al., CVPR
    2017). It may be negative, and is noisy where T is close to singular.

    Parameters
    ----------
    transition : array-like of shape (num_classes, num_classes), optional
        T; rows sum to 1. Default: it is estimated (`lossnoise.noise.estimate_transition`) after a
        first part of the run with cross-entropy, and the network starts afresh.
    estimation : int or float, default=0.2
        Epochs of that first part: a number of epochs (int) or a fraction of the run (float).
    percentile : float or "auto", default="auto"
        Of the predicted probability of a class, in (1, 100], at which a sample stands for it in the
        estimate (`lossnoise.noise.estimate_transition`).

    Attributes
    ----------
    transition_ : Tensor of shape (num_classes, num_classes), float32, or None
        T as it is used; None until it is estimated.

    Examples
    --------
    >>> from lossnoise.corrections import BackwardCorrection
    >>> BackwardCorrection(transition=[[0.9, 0.1], [0.2, 0.8]]).estimation
    0.2
    """

    _inverse: Tensor | None = None

    def use(self, transition: Tensor) -> None:
        """Use T from now on; raise where it has no inverse."""
        super().use(transition)
        self._inverse = invert(transition)

    def corrected_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return (T^-1 l)[y] of each sample, shape (batch,)."""
        assert self._inverse is not None  # the caller has T
        return backward_corrected(logits, labels, self._inverse)
