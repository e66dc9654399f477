"""Per-sample losses of a training run of Lightning; needs the extra ``lightning``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lossnoise.integrations._lazy import load_recorder

if TYPE_CHECKING:
    from lossnoise.integrations._lightning import LightningLossRecorder

__all__ = ["LightningLossRecorder"]


def __getattr__(name: str) -> Any:
    return load_recorder(__name__, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
