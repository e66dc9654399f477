"""Models, optimizers, schedules, precision and device: what a training step acts on."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, MultiStepLR

from lossnoise.corrections._logits import LogitsModel, bare, user_model
from lossnoise.corrections._nested import map_tensors
from lossnoise.exceptions import InvalidDataError
from lossnoise.training._distributed import is_distributed
from lossnoise.training.checkpoint import (
    load_transient_buffers,
    load_weights,
    transient_buffers,
)

ModelFactory = Callable[[], nn.Module]
OptimizerFactory = Callable[[Iterable[nn.Parameter]], Optimizer]
SchedulerFactory = Callable[[Optimizer], LRScheduler]

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Precision(NamedTuple):
    """How forward passes compute; parameters and losses are float32 always.

    Attributes
    ----------
    dtype : {"float32", "bfloat16", "float16"}
        Type of the forward passes (autocast). With "float16" the loss is scaled, which waits for
        the device in every step.
    channels_last : bool
        Whether model and pictures are laid out with their channels last, which convolutions on
        CUDA are fastest with.
    no_grad : {"float32", "bfloat16", "float16"} or None
        Type of the passes within an epoch that have no gradients: for the guesses z and losses of
        the dynamic methods, and sweeps. None is `dtype`, as is always what the trainer tells of the
        model in the end: accuracies, predictions, ``losses_`` and ``noise_proba_``.

    Examples
    --------
    >>> Precision("bfloat16", channels_last=True).dtype
    'bfloat16'
    >>> Precision(no_grad="bfloat16")
    Precision(dtype='float32', channels_last=False, no_grad='bfloat16')
    """

    dtype: str = "float32"
    channels_last: bool = False
    no_grad: str | None = None


def default_optimizer(params: Iterable[nn.Parameter]) -> Optimizer:
    """Return the optimizer of the paper's recipe: SGD .1, momentum .9, weight decay 1e-4.

    On CUDA in one kernel for all parameters.
    """
    params = list(params)
    fused = all(p.is_cuda and p.is_floating_point() for p in params)
    return torch.optim.SGD(params, lr=0.1, momentum=0.9, weight_decay=1e-4, fused=fused or None)


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
        With more than one, the others are copies with fresh parameters, or made by the factory.
    optimizer, scheduler : factory, ready object or None
        None is the default of `default_optimizer` and `default_scheduler`.
    device : torch.device
    precision : Precision
    num_epochs : int
        Length of the default schedule.
    keep_initial : bool
        Keep copies of the first states, so that `restart` is possible.
    model_factory : callable, optional
        Returns a model beside the user's.

    Attributes
    ----------
    first_epoch : int
        The epoch from which on the present weights were trained: 1, or the one after a restart.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        num_models: int,
        optimizer: OptimizerFactory | Optimizer | None,
        scheduler: SchedulerFactory | LRScheduler | None,
        device: torch.device,
        precision: Precision,
        num_epochs: int,
        keep_initial: bool = False,
        model_factory: ModelFactory | None = None,
    ) -> None:
        self.device = device
        self.dtype = DTYPES[precision.dtype]
        self._no_grad_dtype = DTYPES[precision.no_grad or precision.dtype]
        self._channels_last = precision.channels_last
        self._scheduler = scheduler
        self.first_epoch = 1
        layout = torch.channels_last if precision.channels_last else torch.preserve_format
        own = bare(model)
        make = model_factory or partial(_fresh_copy, own)
        modules = [own, *(make() for _ in range(num_models - 1))]
        for module in modules:
            module.to(device, memory_format=layout)  # type: ignore[call-overload]  # torch's stub
        self.models = [_wrap(LogitsModel(module), model) for module in modules]
        self.optimizers = [_make_optimizer(optimizer, module) for module in modules]
        rates = [group.get("lr") for group in self._groups()]  # before a schedule scales them
        self.schedulers = self._make_schedulers(num_epochs)
        self.scalers = [self._make_scaler() for _ in modules]
        self._held = False
        self._pending: dict[str, Any] = {}  # what the next epoch begins with
        self._initial: dict[str, Any] | None = None
        if keep_initial:
            self._initial = copy.deepcopy(self.state_dict() | {"rates": rates})

    @property
    def model(self) -> nn.Module:
        """The model that is being trained, called with a batch's inputs for its logits."""
        return self.models[0]

    @property
    def learning_rate(self) -> float:
        """Of the first parameters of the first model; 0 where an optimizer finds its own."""
        return float(self.optimizers[0].param_groups[0].get("lr") or 0.0)

    @property
    def has_default_schedule(self) -> bool:
        """Whether the learning rates follow `default_scheduler`."""
        return self._scheduler is None

    @property
    def awaits_restart(self) -> bool:
        """Whether the weights will begin afresh in a later epoch, as far as it is known."""
        return self._held or "restart" in self._pending

    def to_device(self, inputs: Any) -> Any:
        """Return inputs on the device, in the layout of the model."""

        def move(tensor: Tensor) -> Tensor:
            images = self._channels_last and tensor.ndim == 4
            layout = torch.channels_last if images else torch.preserve_format
            return tensor.to(self.device, non_blocking=True, memory_format=layout)

        return map_tensors(move, inputs)

    def autocast(self, *, no_grad: bool = False) -> AbstractContextManager[Any]:
        """Return the context of forward passes; with `no_grad`, of those that serve training only.

        What is told of a model is computed in its own type.
        """
        dtype = self._no_grad_dtype if no_grad else self.dtype
        # No cache: older releases would keep weights that a gradient-free forward cast, and the
        # training forward in the same context would learn nothing from them.
        return torch.autocast(
            self.device.type, dtype=dtype, enabled=dtype != torch.float32, cache_enabled=False
        )

    def step(self, loss: Tensor, index: int = 0, *, skip: Tensor | None = None) -> None:
        """Backpropagate a scalar loss and update model number `index`.

        Where `skip`, a bool scalar on the device, is True, model and optimizer stay as they are;
        it must be the same on all processes.
        """
        if not loss.requires_grad:
            raise InvalidDataError(
                "The loss of NoisyLabelTrainer's correction depends on no parameter that learns: "
                "the model's logits are not the first of what it returns, or something was "
                "detached, as by .detach() or torch.no_grad()."
            )
        optimizer, scaler = self.optimizers[index], self.scalers[index]
        optimizer.zero_grad(set_to_none=True)
        scaler.scale(loss).backward()  # type: ignore[no-untyped-call]  # torch ships it untyped
        if skip is not None and skip.device.type == "cpu":  # to look at it waits for nothing
            if skip:
                return
            skip = None
        with nullcontext() if skip is None else unchanged_where(skip, optimizer):
            scaler.step(optimizer)
        scaler.update()

    def step_schedules(self) -> None:
        """Move the learning rates on by one epoch."""
        for scheduler in [] if self._held else self.schedulers:
            scheduler.step()

    def hold_schedules(self) -> None:
        """Keep the learning rates as they are until `restart`."""
        self._held = True

    def restart(self, num_epochs: int) -> None:
        """Start the next epoch afresh: first weights and optimizers, a schedule of `num_epochs`."""
        if self._initial is None:
            raise RuntimeError("only a correction with needs_restart = True can restart")
        self._pending = {"restart": num_epochs}

    def rollback(self, snapshot: dict[str, Any]) -> None:
        """Begin the next epoch from a state that `snapshot` returned."""
        self._pending = {"rollback": copy.deepcopy(snapshot)}

    def begin_epoch(self, epoch: int) -> None:
        """Do what the end of the last epoch asked for, before epoch number `epoch`.

        Not at once: the model that an epoch trained stays for callbacks, and where a run ends.
        """
        pending, self._pending = self._pending, {}
        if "restart" in pending:
            self._start_afresh(pending["restart"])
            self.first_epoch = epoch
        elif "rollback" in pending:
            self.load_state_dict(pending["rollback"])

    def _start_afresh(self, num_epochs: int) -> None:
        assert self._initial is not None  # `restart` sees to it
        initial = copy.deepcopy(self._initial)
        self.load_state_dict(initial)
        self._held = False
        if isinstance(self._scheduler, LRScheduler):  # its state goes with the optimizer's
            return
        for group, rate in zip(self._groups(), initial["rates"], strict=True):
            if rate is not None:
                group["lr"] = rate
        self.schedulers = self._make_schedulers(num_epochs)

    def snapshot(self) -> dict[str, Any]:
        """Return a copy of the state of models, optimizers and schedules."""
        return copy.deepcopy(self.state_dict())

    def state_dict(self) -> dict[str, Any]:
        """Return the state of models, optimizers and schedules, not copied."""
        state: dict[str, Any] = {
            "models": [user_model(m).state_dict() for m in self.models],
            "buffers": [transient_buffers(user_model(m)) for m in self.models],
            "optimizers": [o.state_dict() for o in self.optimizers],
            "schedulers": [s.state_dict() for s in self.schedulers],
            "scalers": [s.state_dict() for s in self.scalers],
            "held": self._held,
            "pending": self._pending,
            "first_epoch": self.first_epoch,
        }
        if self._initial is not None:
            state["initial"] = self._initial
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` returned."""
        self._held, self._pending = state["held"], state["pending"]
        self.first_epoch = state["first_epoch"]
        self._initial = state.get("initial", self._initial)
        for model, model_state in zip(self.models, state["models"], strict=True):
            load_weights(
                user_model(model),
                model_state,
                "NoisyLabelTrainer",
                "model",
                "of the same kind as the one of the run that is resumed",
                "another network needs another checkpoint_dir",
            )
        for model, buffers in zip(self.models, state["buffers"], strict=True):
            load_transient_buffers(user_model(model), buffers)
        for key in ("optimizers", "schedulers", "scalers"):
            for part, part_state in zip(getattr(self, key), state[key], strict=True):
                part.load_state_dict(part_state)
        _mend_milestones(self.schedulers)

    def _groups(self) -> list[dict[str, Any]]:
        return [group for optimizer in self.optimizers for group in optimizer.param_groups]

    def _make_scaler(self) -> torch.amp.GradScaler:
        """Return what keeps small gradients of float16 from vanishing; idle for other types."""
        return torch.amp.GradScaler(self.device.type, enabled=self.dtype == torch.float16)

    def _make_schedulers(self, num_epochs: int) -> list[LRScheduler]:
        if isinstance(self._scheduler, LRScheduler):
            return [self._scheduler]
        if self._scheduler is None:
            return [default_scheduler(o, num_epochs) for o in self.optimizers]
        return [self._scheduler(o) for o in self.optimizers]


def _mend_milestones(schedulers: Iterable[LRScheduler]) -> None:
    """Give `MultiStepLR` the counter that it needs inside a `SequentialLR`, and files have not."""
    for scheduler in schedulers:
        if isinstance(scheduler, MultiStepLR):
            scheduler.milestones = Counter(scheduler.milestones)
        _mend_milestones(getattr(scheduler, "_schedulers", ()))


@contextmanager
def unchanged_where(skip: Tensor, optimizer: Optimizer) -> Iterator[None]:
    """Undo what happens to an optimizer and its parameters where `skip` is True.

    Without waiting for the device, at the cost of a copy of both. State that the first step makes
    is zero where that step is undone, which is what it is for the optimizers of torch; counters
    that are kept on the host, as Adam's are unless it is fused or capturable, count the step.
    """
    before = {key: tensor.clone() for key, tensor in _tensors_of(optimizer)}
    yield
    for key, tensor in _tensors_of(optimizer):
        if tensor.device == skip.device:
            kept = before[key] if key in before else torch.zeros_like(tensor)
            tensor.copy_(torch.where(skip, kept, tensor))


def _tensors_of(optimizer: Optimizer) -> Iterator[tuple[tuple[int, str], Tensor]]:
    """Yield parameters and state of an optimizer, and for each what it may be found again by."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for number, parameter in enumerate(parameters):
        yield (number, ""), parameter.detach()
        for name, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, Tensor):
                yield (number, name), value


def _wrap(model: LogitsModel, given: nn.Module) -> nn.Module:
    """Return the model as it is trained: by `DistributedDataParallel` in a distributed run.

    One that the user's model came in says whether some parameters may go unused.
    """
    if not is_distributed() or not any(p.requires_grad for p in model.parameters()):
        return model
    unused = getattr(given, "find_unused_parameters", False)
    return DistributedDataParallel(model, find_unused_parameters=unused)


def _make_optimizer(optimizer: OptimizerFactory | Optimizer | None, model: nn.Module) -> Optimizer:
    if isinstance(optimizer, Optimizer):
        return optimizer
    return (optimizer or default_optimizer)(list(model.parameters()))  # to be read twice


def _fresh_copy(model: nn.Module) -> nn.Module:
    """Return a copy of `model` whose layers have drawn new parameters, unless they are frozen."""
    fresh = copy.deepcopy(model)
    for module in fresh.modules():
        own = list(module.parameters(recurse=False)) or list(module.parameters())
        learns = any(p.requires_grad for p in own) if own else module.training
        if not learns:
            continue  # it is of use as it is
        reset = getattr(module, "reset_parameters", getattr(module, "_reset_parameters", None))
        if callable(reset):
            reset()
    return fresh
