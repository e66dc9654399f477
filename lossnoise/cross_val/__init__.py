"""Held-out losses: every row is predicted by a model that has not seen it."""

from __future__ import annotations

from lossnoise.cross_val._cross_val import cross_val_losses

__all__ = ["cross_val_losses"]
