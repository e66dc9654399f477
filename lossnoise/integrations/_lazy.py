"""Where each recorder is, and which framework it needs; loaded on use (PEP 562)."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from lossnoise._validation import require_extra

# Module, which is the name of the extra too -> the framework, and the one public name.
RECORDERS = {
    "huggingface": ("transformers", "HuggingFaceLossRecorder"),
    "lightning": ("lightning", "LightningLossRecorder"),
    "skorch": ("skorch", "SkorchLossRecorder"),
}


def load_recorder(module: str, name: str) -> Any:
    """Return the recorder that a public module has by this name, or name the missing extra."""
    extra = module.rpartition(".")[2]
    framework, recorder = RECORDERS[extra]
    if name != recorder:
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    require_extra(framework, extra, recorder)
    return getattr(import_module(f"lossnoise.integrations._{extra}"), recorder)
