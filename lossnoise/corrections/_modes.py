"""Train and eval mode of a model, put back as they were.

Always by the modules' own `train`, which may do more than to set a flag: fold an adapter into a
weight and out again, or keep a part frozen.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager

from torch import nn


class ModesOf:
    """The modes that the modules of a model were in."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._modes = {module: module.training for module in model.modules()}

    def restore(self) -> None:
        """Put every module back into its mode."""
        self._model.train(self._modes[self._model])
        self._restore_parts()

    def begin_training(self) -> None:
        """Put the model in train mode.

        Where it is so already, parts in eval mode are so on purpose, such as frozen BatchNorm, and
        stay so; and those that its own `train` puts in eval mode.
        """
        self._model.train()
        if self._modes[self._model]:
            frozen = {part for part, mode in self._modes.items() if mode and not part.training}
            self._restore_parts(frozen)

    def _restore_parts(self, but: Collection[nn.Module] = ()) -> None:
        for part, mode in self._modes.items():  # each comes before the parts that it consists of
            if part.training != mode and part not in but:
                part.train(mode)


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Put a model in eval mode, and every module back into its own mode at the end."""
    modes = ModesOf(model)
    model.eval()
    try:
        yield
    finally:
        modes.restore()
