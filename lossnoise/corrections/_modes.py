"""Train and eval mode of a model, put back as they were.

Always by the modules' own `train`, which may do more than to set a flag: fold an adapter into a
weight and out again, or keep a part frozen. What several threads use at a time the last one puts
back: another would put it into train mode under their hands.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager

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
    """Have a model in eval mode, and every module back in its own mode at the end.

    Other threads may use it at the same time: the last one puts the modules back.
    """
    use = _Use(model, trains=False)
    try:
        _uses.begin(use, model)
        yield
    finally:
        _uses.end(use)


@contextmanager
def trained_here(model: nn.Module) -> Iterator[None]:
    """Keep other threads from using a model that this one trains: they are refused.

    Those that use it already come to an end before.
    """
    use = _Use(model, trains=True)
    try:
        _uses.begin_training(use)
        yield
    finally:
        _uses.end(use)


class _Use:
    """One thread's use of a model, with the modes to be put back when nobody uses it any more."""

    def __init__(self, model: nn.Module, *, trains: bool) -> None:
        self.parts = set(map(id, as_written(model).modules()))
        self.thread = threading.get_ident()
        self.trains = trains
        self.modes: ModesOf | None = None
        self.is_over = False

    def conflicts(self, other: _Use) -> bool:
        """Tell whether another thread uses a part of the model, or has not put back its mode."""
        return (other.thread != self.thread or other.is_over) and self.overlaps(other)

    def overlaps(self, other: _Use) -> bool:
        return not self.parts.isdisjoint(other.parts)


class _Uses:
    """The models in use, in the order in which that began."""

    def __init__(self) -> None:
        self.begin_anew()

    def begin_anew(self) -> None:
        """Forget all uses: in a forked process the other threads are no more."""
        self._changed = threading.Condition()
        self._uses: list[_Use] = []

    def begin(self, use: _Use, model: nn.Module) -> None:
        """Put a model in eval mode."""
        with self._changed:
            self._refuse_trained(use)
            self._uses.append(use)
            if any(part.training for part in as_written(model).modules()):
                use.modes = ModesOf(model)
                model.eval()

    def begin_training(self, use: _Use) -> None:
        """Wait until no other thread uses the model, and let none begin to."""
        with self._changed:
            self._refuse_trained(use)
            self._uses.append(use)
            self._changed.wait_for(lambda: not any(map(use.conflicts, self._uses)))

    def end(self, use: _Use) -> None:
        """End a use, also before it began, and put back the modes of what nobody needs now."""
        use.is_over = True  # before the lock: waiting for it may be interrupted
        with self._changed:
            try:
                for ended in [each for each in reversed(self._uses) if each.is_over]:
                    if ended.modes is None or not self._is_needed(ended):
                        self._put_back(ended)
            finally:
                self._changed.notify_all()

    def _put_back(self, ended: _Use) -> None:
        """Put back modes; what is interrupted here the next end of a use does again."""
        try:
            if ended.modes is not None:
                ended.modes.restore()
        except Exception:  # of the model's own `train`, which may fail every time
            self._uses.remove(ended)
            raise
        self._uses.remove(ended)

    def _is_needed(self, ended: _Use) -> bool:
        """Tell whether the modes of a use cannot be put back yet.

        The modes of overlapping uses are undone in reverse, the last that began first.
        """
        later = self._uses[self._uses.index(ended) + 1 :]
        return any(
            use.overlaps(ended) and (use in later or not use.is_over)
            for use in self._uses
            if use is not ended and not use.trains
        )

    def _in_use(self) -> list[_Use]:
        return [use for use in self._uses if not use.is_over]

    def _refuse_trained(self, use: _Use) -> None:
        """Raise where another thread trains a part of the model, or waits to.

        A thread that uses it already may do so again: the other one waits for it to end.
        """
        if any(mine.thread == use.thread and mine.overlaps(use) for mine in self._in_use()):
            return
        if any(other.trains and use.conflicts(other) for other in self._uses):
            raise InvalidParameterError(
                "The 'model' parameter of NoisyLabelTrainer must be left to the thread that trains "
                "it, until fit has ended. Got a call by another thread instead: callbacks are "
                "called by the same one, and may predict, or make a copy for others "
                "(copy.deepcopy)."
            )


_uses = _Uses()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_uses.begin_anew)
