"""Learning-rate schedules that users bring: whether they are for the epochs of a run."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, LinearLR, PolynomialLR

from lossnoise._validation import invalid_data, invalid_parameter
from lossnoise._warnings import warn
from lossnoise.exceptions import ScheduleWarning

if TYPE_CHECKING:
    from lossnoise.training._engine import TrainingEngine

OWNER = "NoisyLabelTrainer"
EXAMPLE = "lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 30)"

BATCHES_IN_EPOCH = 3  # at least; a schedule of fewer steps may be for two runs
DEFAULT_STEPS = 5  # of PyTorch's LinearLR and PolynomialLR, which nobody chose
LEAST_SHARE = 0.2  # of the optimizer's rate; a warm-up by batches does not come so far in a run
ABSOLUTE = 1.0  # the optimizer's rate where a function gives the rates themselves

BY_BATCH = (
    "in the on_batch_end of a callback, with "
    "scheduler=lambda optimizer: torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0) for "
    "the trainer, which then leaves the rate alone"
)
GIVE_IT_EPOCHS = f"Give it the epochs of the run, or step it {BY_BATCH}."


def check_schedule(scheduler: object, optimizer: object) -> None:
    """Raise where this is no schedule of the optimizer that can be stepped once an epoch."""
    expected = advice = ""
    if not callable(getattr(scheduler, "step", None)):
        expected = f"a factory that returns a schedule, such as {EXAMPLE}"
    elif getattr(scheduler, "optimizer", optimizer) is not optimizer:
        expected = "a factory, or a ready schedule of the optimizer that is given beside it"
    elif steps_with_arguments(scheduler):
        expected = "a schedule that steps without a metric"
        advice = "step it in the on_epoch_end of a callback, with what 'record' has"
    if expected:
        raise invalid_parameter(OWNER, "scheduler", expected, type(scheduler), advice)


def check_length(schedule: Any, num_epochs: int, *, done: int) -> None:
    """Raise where a schedule ends before the run; warn where it looks made for its batches."""
    made_for = getattr(schedule, "total_steps", None)  # of OneCycleLR, which refuses to go on
    left, before = num_epochs - done, getattr(schedule, "last_epoch", 0)
    if made_for is not None and before + left > made_for:
        expected = f"a schedule for {left} epochs more: it is stepped once an epoch"
        got = f"one of {made_for} steps, of which {before} are done,"
        raise invalid_data(OWNER, "scheduler", expected, got)
    problem = ""
    longest = max(_planned_steps(schedule), default=0)
    turn = schedule.T_max if isinstance(schedule, CosineAnnealingLR) and not done else math.inf
    if longest >= BATCHES_IN_EPOCH * num_epochs:
        problem = f"is made for {longest} steps, and this run makes {num_epochs}, one an epoch: "
        problem += "most of it is left out"
    elif 0 < before <= turn < before + left:  # of another run
        problem = f"has made {before} of its {turn} steps, and this run makes {left} more: the "
        problem += "learning rate rises again"
    if problem:
        warn(f"The schedule {problem}. {GIVE_IT_EPOCHS}", ScheduleWarning)


def _planned_steps(schedule: Any) -> Iterator[int]:
    """Yield how long a schedule, and those that it consists of, go on without a turn."""
    for name in ("total_steps", "T_max"):
        if isinstance(steps := getattr(schedule, name, None), int):
            yield steps
    if isinstance(schedule, (LinearLR, PolynomialLR)) and schedule.total_iters > DEFAULT_STEPS:
        yield schedule.total_iters
    for part in getattr(schedule, "_schedulers", ()):
        yield from _planned_steps(part)


def steps_with_arguments(stepped: Any) -> bool:
    """Tell whether the `step` of an object has a parameter without a default."""
    # Of the class: a schedule puts a wrapper into the optimizer, whose signature lacks the first.
    own = inspect.getattr_static(type(stepped), "step", None)
    if inspect.isfunction(own):
        return needs_arguments(own, given=1)
    return needs_arguments(stepped.step)


def needs_arguments(function: Callable[..., Any], given: int = 0) -> bool:
    """Tell whether a function has parameters without a default beside the first that are given."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # not written in Python
        return False
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return any(p.default is p.empty and p.kind in positional for p in parameters[given:])


class RateWatch:
    """Notices what is wrong with the learning rates of an epoch, as they are."""

    def __init__(self, engine: TrainingEngine) -> None:
        self._engine = engine
        self._before = self._state()

    def end_epoch(self, epoch: int, num_epochs: int) -> str:
        """Step the schedules; return in words what is wrong, nothing if all is well."""
        problem = self._two_schedules()
        before = self._engine.learning_rate
        self._engine.step_schedules()
        return problem or (self._slow_warm_up(before, num_epochs) if epoch == 1 else "")

    def _slow_warm_up(self, before: float, num_epochs: int) -> str:
        """Tell of a function of the step that would need more epochs than there are."""
        after = self._engine.learning_rate
        whole = float(self._engine.optimizers[0].param_groups[0].get("initial_lr", ABSOLUTE))
        by_function = any(isinstance(schedule, LambdaLR) for schedule in self._engine.schedulers)
        reached = before + (after - before) * num_epochs
        if not by_function or whole == ABSOLUTE or not before < after:
            return ""
        if reached >= LEAST_SHARE * whole:
            return ""
        return (
            f"The learning rate rises from {before:.3g} to {after:.3g} in the first of "
            f"{num_epochs} epochs, too slowly for the optimizer's {whole:g}: the schedule looks "
            f"made for batches. {GIVE_IT_EPOCHS}"
        )

    def _two_schedules(self) -> str:
        """Tell of a callback that steps a schedule while the trainer goes on with its own."""
        (rate, steps), (before, made) = self._state(), self._before
        if rate == before or not (self._engine.has_default_schedule or steps != made):
            return ""
        return (
            "The learning rate changes within an epoch, and the trainer's schedule changes it "
            f"after each epoch as well. Step a schedule {BY_BATCH}."
        )

    def _state(self) -> tuple[float, list[Any]]:
        schedules = self._engine.schedulers
        return self._engine.learning_rate, [getattr(s, "last_epoch", None) for s in schedules]
