"""Train and eval mode of a model, put back as they were.

Always by the modules' own `train`, which may do more than to set a flag: fold an adapter into a
weight and out again, or keep a part frozen. And by one thread at a time: what one has put in eval
mode, another would put back into train mode under its hands.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from weakref import WeakKeyDictionary

from torch import nn

from lossnoise.corrections._logits import as_written
from lossnoise.exceptions import InvalidParameterError


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
    """Put a model in eval mode, and every module back into its own mode at the end.

    Other threads wait for that. A model that is in eval mode anyway they use at the same time.
    """
    turns = _turns_of(model)
    with ExitStack() as stack:
        stack.enter_context(turns.lock)
        turns.check()
        if any(part.training for part in as_written(model).modules()):
            stack.callback(ModesOf(model).restore)
            model.eval()
        else:
            stack.close()
        yield


@contextmanager
def trained_here(model: nn.Module) -> Iterator[None]:
    """Keep other threads from using a model that this one trains: they are refused."""
    turns = _turns_of(model)
    with turns.lock:
        turns.check()
        before, turns.trained_by = turns.trained_by, threading.get_ident()
    try:
        yield
    finally:
        turns.trained_by = before


class _Turns:
    """Whose turn it is to change the modes of a model."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.trained_by: int | None = None

    def check(self) -> None:
        """Raise where another thread trains the model."""
        if self.trained_by not in (None, threading.get_ident()):
            raise InvalidParameterError(
                "The 'model' parameter of NoisyLabelTrainer must be left to the thread that trains "
                "it, until fit has ended. Got a call by another thread instead: callbacks are "
                "called by the same one, and may predict, or make a copy for others "
                "(copy.deepcopy)."
            )


_turns: WeakKeyDictionary[nn.Module, _Turns] = WeakKeyDictionary()
_turns_lock = threading.Lock()


def _turns_of(model: nn.Module) -> _Turns:
    with _turns_lock:
        return _turns.setdefault(as_written(model), _Turns())
