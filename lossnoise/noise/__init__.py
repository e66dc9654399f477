"""Known label noise, injected on purpose, to measure what finds it or learns in spite of it."""

from __future__ import annotations

from lossnoise.noise._inject import inject_noise
from lossnoise.noise._transition import estimate_transition

__all__ = ["estimate_transition", "inject_noise"]
