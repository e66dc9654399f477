"""Per-sample losses of a `transformers.Trainer`; needs the extra ``huggingface``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lossnoise.integrations._lazy import load_recorder

if TYPE_CHECKING:
    from lossnoise.integrations._huggingface import HuggingFaceLossRecorder

__all__ = ["HuggingFaceLossRecorder"]


def __getattr__(name: str) -> Any:
    return load_recorder(__name__, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
