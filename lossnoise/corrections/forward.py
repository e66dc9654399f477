"""Forward loss correction (Patrini et al., 2017)."""

from __future__ import annotations

from torch import Tensor

from lossnoise.corrections._transition import TransitionCorrection
from lossnoise.corrections.losses import forward_corrected


class ForwardCorrection(TransitionCorrection):
    """Predict the given label through a transition matrix; registry name ``"forward"``.

    The loss is -log (T' h)[y] with T_ij = p(given = j | true = i): the network predicts the true
    class, and T carries its prediction over to the given one (Patrini et al., CVPR 2017).

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
    >>> from lossnoise.corrections import ForwardCorrection
    >>> ForwardCorrection(transition=[[0.9, 0.1], [0.2, 0.8]]).estimation
    0.2
    """

    def corrected_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return -log (T' h)[y] of each sample, shape (batch,)."""
        assert self.transition_ is not None  # the caller has it
        return forward_corrected(logits, labels, self.transition_)
