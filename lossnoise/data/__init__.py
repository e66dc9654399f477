"""Data sets: pictures in memory, known open-set noise, and batches that know their rows."""

from __future__ import annotations

from lossnoise.data._open_set import replace_inputs

__all__ = ["replace_inputs"]
