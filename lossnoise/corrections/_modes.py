"""Train and eval mode of a model, put back as they were."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


class ModesOf:
    """The modes that the modules of a model were in."""

    def __init__(self, model: nn.Module) -> None:
        self._modes = {module: module.training for module in model.modules()}

    def restore(self) -> None:
        """Put every module back into its mode."""
        for module, mode in self._modes.items():
            module.training = mode


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Put a model in eval mode, and every module back into its own mode at the end."""
    modes = ModesOf(model)
    model.eval()
    try:
        yield
    finally:
        modes.restore()
