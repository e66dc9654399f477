"""Models, optimizers, schedules, precision and device: what a training step acts on."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, MultiStepLR

OptimizerFactory = Callable[[Iterable[nn.Parameter]], Optimizer]
SchedulerFactory = Callable[[Optimizer], LRScheduler]

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def default_optimizer(params: Iterable[nn.Parameter]) -> Optimizer:
    """Return the optimizer of the paper's recipe: SGD .1, momentum .9, weight decay 1e-4."""
    return torch.optim.SGD(params, lr=0.1, momentum=0.9, weight_decay=1e-4)


def default_scheduler(optimizer: Optimizer, num_epochs: int) -> LRScheduler:
    """Return the default schedule: a tenth at 1/2 and again at 5/6 of the run.

    The paper drops first at 1/3, together with the start of bootstrapping; on small sets the
    network then has too little left to learn from its corrected labels.
    """
    milestones = [max(1, round(num_epochs / 2)), max(2, round(num_epochs * 5 / 6))]
    return MultiStepLR(optimizer, milestones, gamma=0.1)


class TrainingEngine:
    """Hold the models with their optimizers and schedules, and make optimizer steps.

    Parameters
    ----------
    model : nn.Module
        The user's model; trained in place.
    num_models : int
        With more than one, the others are copies with fresh parameters.
    optimizer, scheduler : factory, ready object or None
        None is the default of `default_optimizer` and `default_scheduler`.
    device : torch.device
    precision : {"float32", "bfloat16"}
    num_epochs : int
        Length of the default schedule.
    keep_initial : bool
        Keep copies of the first states, so that `restart` is possible.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        num_models: int,
        optimizer: OptimizerFactory | Optimizer | None,
        scheduler: SchedulerFactory | LRScheduler | None,
        device: torch.device,
        precision: str,
        num_epochs: int,
        keep_initial: bool = False,
    ) -> None:
        self.device = device
        self.dtype = PRECISIONS[precision]
        self._scheduler = scheduler
        self.models = [model.to(device)]
        self.models += [_fresh_copy(model) for _ in range(num_models - 1)]
        self.optimizers = [_make_optimizer(optimizer, m) for m in self.models]
        self.schedulers = self._make_schedulers(num_epochs)
        self._held = False
        self._initial = self.snapshot() if keep_initial else None

    @property
    def model(self) -> nn.Module:
        """The model that is being trained; the first of `models`."""
        return self.models[0]

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the context in which forward passes run."""
        low_precision = self.dtype != torch.float32
        # No cache: older releases would keep weights that a gradient-free forward cast, and the
        # training forward in the same context would learn nothing from them.
        return torch.autocast(
            self.device.type, dtype=self.dtype, enabled=low_precision, cache_enabled=False
        )

    def step(self, loss: Tensor, index: int = 0) -> None:
        """Backpropagate a scalar loss and update model number `index`."""
        optimizer = self.optimizers[index]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch ships it without types
        optimizer.step()

    def step_schedules(self) -> None:
        """Move the learning rates on by one epoch."""
        for scheduler in [] if self._held else self.schedulers:
            scheduler.step()

    def hold_schedules(self) -> None:
        """Keep the learning rates as they are until `restart`."""
        self._held = True

    def restart(self, num_epochs: int) -> None:
        """Start afresh, with initial weights and optimizers, and a schedule of `num_epochs`."""
        if self._initial is None:
            raise RuntimeError("only a correction with needs_restart = True can restart")
        self.rollback(self._initial)
        self._held = False
        if not isinstance(self._scheduler, LRScheduler):
            self.schedulers = self._make_schedulers(num_epochs)

    def snapshot(self) -> dict[str, Any]:
        """Return a copy of the state of models, optimizers and schedules."""
        return copy.deepcopy(self.state_dict())

    def rollback(self, snapshot: dict[str, Any]) -> None:
        """Go back to a state that `snapshot` returned."""
        self.load_state_dict(copy.deepcopy(snapshot))

    def state_dict(self) -> dict[str, Any]:
        """Return the state of models, optimizers and schedules, not copied."""
        return {
            "models": [m.state_dict() for m in self.models],
            "optimizers": [o.state_dict() for o in self.optimizers],
            "schedulers": [s.state_dict() for s in self.schedulers],
            "held": self._held,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` returned."""
        self._held = state["held"]
        for key in ("models", "optimizers", "schedulers"):
            for part, part_state in zip(getattr(self, key), state[key], strict=True):
                part.load_state_dict(part_state)

    def _make_schedulers(self, num_epochs: int) -> list[LRScheduler]:
        if isinstance(self._scheduler, LRScheduler):
            return [self._scheduler]
        if self._scheduler is None:
            return [default_scheduler(o, num_epochs) for o in self.optimizers]
        return [self._scheduler(o) for o in self.optimizers]


def _make_optimizer(optimizer: OptimizerFactory | Optimizer | None, model: nn.Module) -> Optimizer:
    if isinstance(optimizer, Optimizer):
        return optimizer
    return (optimizer or default_optimizer)(model.parameters())


def _fresh_copy(model: nn.Module) -> nn.Module:
    """Return a copy of `model` whose layers have drawn new parameters."""
    fresh = copy.deepcopy(model)
    for module in fresh.modules():
        reset = getattr(module, "reset_parameters", None)
        if callable(reset):
            reset()
    return fresh
