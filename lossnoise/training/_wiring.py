"""From the settings of a trainer to a run that is ready to begin."""

from __future__ import annotations

import copy
import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import partial
from numbers import Integral
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lossnoise._fingerprint import fingerprint
from lossnoise._validation import check_random_state, invalid_parameter
from lossnoise.corrections import CORRECTIONS, Correction
from lossnoise.corrections._logits import as_written
from lossnoise.detectors._base import LossMixtureDetector
from lossnoise.detectors._choice import make_detector
from lossnoise.training._checks import (
    check_optimizer,
    check_several_models,
    read_device,
    read_precision,
)
from lossnoise.training._distributed import gather_objects, rank_and_size
from lossnoise.training._engine import OptimizerFactory, SchedulerFactory, TrainingEngine
from lossnoise.training._forward import check_inputs
from lossnoise.training._random import RunGenerators, kept_globals
from lossnoise.training._run import Data, TrainingRun
from lossnoise.training._schedules import check_schedule

if TYPE_CHECKING:
    from lossnoise.training.trainer import NoisyLabelTrainer

# A network is fitted to the very labels whose losses it gives, and few right ones stay hard for it.
TRAINING_HARD_FRACTION = 0.0

# Of the groups of an optimizer: what says how it computes, which another device may do otherwise.
NO_SETTINGS = ("params", "initial_lr", "foreach", "fused", "capturable", "differentiable")


def draw_seed(random_state: Any) -> int:
    """Return the seed of a run, the same in every process."""
    seed = int(check_random_state("NoisyLabelTrainer", random_state).integers(2**31))
    return int(gather_objects(seed)[0])


def make_run(trainer: NoisyLabelTrainer, train: Data, val: Data | None, seed: int) -> TrainingRun:
    """Return a run of a trainer's settings on its data."""
    correction = make_correction(trainer.correction)
    engine = make_engine(trainer, correction)
    run = TrainingRun(
        engine,
        correction,
        detector_of(trainer),
        train,
        val,
        batch_size=trainer.batch_size,
        num_epochs=trainer.epochs,
        generators=RunGenerators(seed, engine.device, rank_and_size()[0]),
    )
    if run.val_data is not None:
        with kept_globals():
            check_inputs("val", engine, run.val_data, run.context.num_classes)
    return run


def detector_of(trainer: NoisyLabelTrainer) -> LossMixtureDetector:
    """Return the detector of a trainer's settings, not fitted."""
    owner = "NoisyLabelTrainer"
    return make_detector(owner, trainer.detector, hard_fraction=TRAINING_HARD_FRACTION)


def make_engine(trainer: NoisyLabelTrainer, correction: Correction) -> TrainingEngine:
    """Return models, optimizers and schedules for a correction."""
    check_several_models(trainer, correction)
    return TrainingEngine(
        trainer.model,
        num_models=correction.num_models,
        optimizer=read_optimizer(trainer.optimizer),
        scheduler=read_scheduler(trainer.scheduler),
        device=read_device(trainer.device),
        precision=read_precision(trainer.precision),
        num_epochs=trainer.epochs,
        keep_initial=correction.needs_restart,
        model_factory=read_model_factory(trainer, correction),
    )


def read_optimizer(
    given: OptimizerFactory | Optimizer | None,
) -> OptimizerFactory | Optimizer | None:
    """Return an optimizer, or a factory whose optimizers are checked when it has made them."""
    if given is None or isinstance(given, Optimizer):
        return given

    def make(parameters: Iterable[nn.Parameter]) -> Optimizer:
        own = list(parameters)
        made = given(own)
        check_optimizer(made, own)
        return made

    return make


def read_scheduler(
    given: SchedulerFactory | LRScheduler | None,
) -> SchedulerFactory | LRScheduler | None:
    """Return a schedule, or a factory whose schedules are checked when it has made them."""
    if given is None or isinstance(given, LRScheduler):
        return given

    return partial(_make_scheduler, given)  # no closure: a fitted trainer can be pickled


def _make_scheduler(factory: SchedulerFactory, optimizer: Optimizer) -> LRScheduler:
    made = factory(optimizer)
    check_schedule(made, optimizer)
    return made


def read_model_factory(
    trainer: NoisyLabelTrainer, correction: Correction
) -> Callable[[], nn.Module] | None:
    """Return what makes the models beside the user's, checked when it has made one."""
    factory, owner = correction.model_factory, type(correction).__name__
    if factory is None:
        return None
    if isinstance(factory, nn.Module):
        expected = "a callable without arguments that returns a model, such as a function"
        raise invalid_parameter(owner, "model_factory", expected, type(factory))

    def make() -> nn.Module:
        made = factory()
        if not isinstance(made, nn.Module) or made is trainer.model:
            expected = "a callable that returns a torch.nn.Module, another one than the trainer's"
            raise invalid_parameter(owner, "model_factory", expected, type(made))
        if not made.training:  # as pretrained models come; of the trainer's own, fit sees to it
            made.train()
        return made

    return make


def make_correction(correction: str | Correction) -> Correction:
    """Return a correction of that name, or a copy of a correction."""
    if isinstance(correction, Correction):
        return copy.deepcopy(correction)
    return CORRECTIONS[correction]()


def settings_of(trainer: NoisyLabelTrainer, run: TrainingRun) -> dict[str, Any]:
    """Return what a resumed run must have in common with the one that was interrupted.

    Before either begins to train.
    """
    return {
        "correction": repr(make_correction(trainer.correction)),
        "detector": repr(run.detector),
        "optimizer": [type(optimizer).__name__ for optimizer in run.engine.optimizers],
        "scheduler": [type(scheduler).__name__ for scheduler in run.engine.schedulers],
        "precision": str(read_precision(trainer.precision)),
        "epochs": int(trainer.epochs),
        "batch_size": int(run.context.batch_size),
        "number of processes": rank_and_size()[1],
        "number of samples": run.context.num_samples,
        "number of classes": run.context.num_classes,
        "shapes of the parameters": [list(p.shape) for p in trainer.model.parameters()],
        "modules of the correction": {
            name: fingerprint(_settings_of_module(part))
            for name, part in vars(make_correction(trainer.correction)).items()
            if isinstance(part, nn.Module)
        },
        **_seed_of(trainer.random_state),
        "labels of the clean set": fingerprint(getattr(run.correction, "clean_labels_", None)),
        **_hyperparameters(trainer, run.engine),
    }


def layers_of(model: nn.Module) -> list[str]:
    """Return what a model consists of, a line each, without addresses of objects.

    Layers may describe themselves by what they have learnt, and some cannot at all.
    """
    try:
        described = repr(as_written(model))
    except Exception:  # a user's own code, which may raise anything; nothing hangs on it
        return []
    return re.sub(r"( at)? 0[xX][0-9a-fA-F]+", "", described).splitlines()


def circumstances_of(trainer: NoisyLabelTrainer, run: TrainingRun) -> dict[str, list[str]]:
    """Return what a resumed run should have in common with the one that was interrupted.

    It may be right all the same where callbacks have changed the model.
    """
    written = as_written(trainer.model)
    return {
        "frozen parameters": [n for n, p in written.named_parameters() if not p.requires_grad],
        "samplers": run.train_data.sampler_names(),
    }


def layers_now(trainer: NoisyLabelTrainer) -> dict[str, list[str]]:
    """Return the model's layers as one more circumstance, to be compared at equal weights."""
    # Another version of torch may describe the same model in other words.
    name, lines = f"layers, as torch {torch.__version__} describes them", layers_of(trainer.model)
    return {name: lines} if lines else {}


def _seed_of(random_state: Any) -> dict[str, int]:
    """Return the seed that was asked for; a run without one may go on with any."""
    return {"random_state": int(random_state)} if isinstance(random_state, Integral) else {}


def _settings_of_module(module: nn.Module) -> list[Any]:
    """Return what a loss function computes by, which its text lacks: no weights that learn."""
    return [
        (
            name,
            type(part),
            {key: vars(part)[key] for key in vars(part) if key[0] != "_" and key != "training"},
            dict(part.named_buffers(recurse=False)),
        )
        for name, part in module.named_modules()
    ]


def _hyperparameters(trainer: NoisyLabelTrainer, engine: TrainingEngine) -> dict[str, Any]:
    """Return what optimizers and schedules begin with, of all groups and models, by name.

    A ready schedule may have begun already: only the first learning rate stays as it was.
    """
    ready = isinstance(trainer.scheduler, LRScheduler)
    found = defaultdict(list)
    for group in (g for optimizer in engine.optimizers for g in optimizer.param_groups):
        first = group | {"lr": group.get("initial_lr", group.get("lr"))}
        for name in ["lr"] if ready else [name for name in first if name not in NO_SETTINGS]:
            found[f"{name} of the optimizer"].append(_plain_parts(first[name]))
    for scheduler in [] if ready else engine.schedulers:
        for name, value in _plain_parts(scheduler.state_dict()).items():
            found[f"{name} of the schedule"].append(value)
    return dict(found)


def _plain_parts(value: Any) -> Any:
    """Return numbers and text, also those in lists and dicts, and None for all else."""
    if isinstance(value, dict):
        return {key: _plain_parts(part) for key, part in value.items() if key != "_last_lr"}
    if isinstance(value, (list, tuple)):
        return [_plain_parts(part) for part in value]
    if isinstance(value, torch.Tensor) and value.numel() == 1:  # a learning rate may be one
        return value.item()
    return value if isinstance(value, (bool, int, float, str)) else None
