"""Learning-rate schedules that users bring: whether they are for the epochs of a run."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Iterator
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
LEAST_SHARE = 0.2  # of the optimizer's rate; a warm-up by batches does not come so far in a run

BY_BATCH = (
    "in the on_batch_end of a callback, with "
    "scheduler=lambda optimizer: torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0) for "
    "the trainer, which then leaves the rate alone"
)


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
    problem = _problem(schedule, num_epochs, range(before, before + left))
    if problem:
        warn(
            f"The schedule {problem}. Give it the epochs of the run, or step it {BY_BATCH}.",
            ScheduleWarning,
        )


def _problem(schedule: Any, num_epochs: int, steps: range) -> str:
    """Return in words what a schedule of so many epochs, of which `steps` are left, is not for."""
    longest = max(_planned_steps(schedule), default=0)
    if longest >= BATCHES_IN_EPOCH * num_epochs:
        made_for = f"is made for {longest} steps, and this run makes {num_epochs}, one an epoch"
        return f"{made_for}: most of it is left out"
    if (share := _largest_share(schedule, steps)) < LEAST_SHARE:
        return (
            f"lets the learning rate reach {share:.0%} of the optimizer's at most in {len(steps)} "
            "steps, one an epoch"
        )
    turn = schedule.T_max if isinstance(schedule, CosineAnnealingLR) else math.inf
    if steps.start > 0 and steps.stop > turn:
        return (
            f"has made {steps.start} of its {turn} steps, and this run makes {len(steps)} more: "
            "the learning rate rises again"
        )
    return ""


def _planned_steps(schedule: Any) -> Iterator[int]:
    """Yield how long a schedule, and those that it consists of, go on without a turn."""
    names = ["total_steps", "T_max"]
    if isinstance(schedule, (LinearLR, PolynomialLR)):
        names.append("total_iters")
    for name in names:
        if isinstance(steps := getattr(schedule, name, None), int):
            yield steps
    for part in getattr(schedule, "_schedulers", ()):
        yield from _planned_steps(part)


def _largest_share(schedule: Any, steps: Iterable[int]) -> float:
    """Return how much of the optimizer's rates a function of the step lets through at most."""
    factors = schedule.lr_lambdas if isinstance(schedule, LambdaLR) else []
    return max((float(factor(step)) for factor in factors for step in steps), default=1.0)


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
    """Notices a callback that steps a schedule while the trainer goes on with its own."""

    def __init__(self, engine: TrainingEngine) -> None:
        self._engine = engine
        self._before = self._state()

    def problem(self) -> str:
        """Return in words what is wrong with the learning rate of the epoch that ends."""
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
