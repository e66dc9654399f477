"""Known label noise, injected on purpose, to measure what finds it or learns in spite of it."""

from __future__ import annotations

from lossnoise.noise._inject import inject_noise

__all__ = ["inject_noise"]
