"""What a correction may make of losses that cannot tell, beside what the library makes of them.

The library weights by P(wrong) times the evidence of the mixture, in every epoch.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from lossnoise import BetaMixtureNoiseDetector
from lossnoise.corrections import MDyrH
from lossnoise.detectors._grid import read_table

KEPT = 5  # epochs for which the last mixture of separable losses is used


class AllEvidence(MDyrH):
    """M-DYR-H weighted by P(wrong), however little the mixture separates."""

    def _wrong(self, losses: Tensor, context: Any) -> Tensor:
        assert context.noise_proba is not None  # the callers bootstrap
        return context.noise_proba(losses)


class Gate(BetaMixtureNoiseDetector):
    """The trainer's detector, by which no label is wrong where the losses are not separable."""

    def posterior(self, X: Any, *, cautious: bool = False) -> np.ndarray:
        return self.separable_ * super().posterior(X, cautious=cautious)


class LastSeparable(BetaMixtureNoiseDetector):
    """The same, but for some epochs by the last mixture of losses that were separable."""

    def fit(self, X: Any, y: object = None, groups: Any = None) -> LastSeparable:
        super().fit(X, y, groups)
        if self.separable_:
            self._last, self._age = (self._sample_fit.mixture_curve.proba, self.scaling_), 0
        else:
            self._age = getattr(self, "_age", KEPT) + 1
        return self

    def posterior(self, X: Any, *, cautious: bool = False) -> np.ndarray:
        if self._age > KEPT:
            return np.zeros(len(X))
        table, scaling = self._last
        return read_table(table, np.asarray(X), scaling)
