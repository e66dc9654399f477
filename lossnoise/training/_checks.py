"""Checks at the border of `NoisyLabelTrainer`: once, before anything is trained."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.nn.parameter import UninitializedParameter
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader, IterableDataset

from lossnoise._samples import is_mapping
from lossnoise._validation import check_int, invalid_data, invalid_parameter, nearest_name
from lossnoise._warnings import warn
from lossnoise.corrections import CORRECTIONS, Correction
from lossnoise.corrections._logits import bare, user_model
from lossnoise.detectors._choice import make_detector
from lossnoise.exceptions import TrainedModelWarning
from lossnoise.training._distributed import local_device
from lossnoise.training._engine import DTYPES, Precision
from lossnoise.training._schedules import (
    EXAMPLE,
    check_schedule,
    needs_arguments,
    steps_with_arguments,
)
from lossnoise.training.callbacks import Callback, watcher_of_validation
from lossnoise.training.checkpoint import Checkpoints, list_checkpoints

if TYPE_CHECKING:
    from lossnoise.training.trainer import NoisyLabelTrainer

OWNER = "NoisyLabelTrainer"
EXAMPLES = {
    "optimizer": "lambda parameters: torch.optim.Adam(parameters, lr=0.001)",
    "scheduler": EXAMPLE,
}
DATASET = (
    "a map-style dataset with __len__ and __getitem__ that yields (input, label), such as "
    "torch.utils.data.TensorDataset(inputs, labels), or a DataLoader of one"
)
INPUTS = (
    "a map-style dataset with __len__ and __getitem__ that yields inputs, alone or with a label, a "
    "DataLoader of one, or inputs as a tensor or an array"
)
MIN_SAMPLES = 10  # what a mixture can be fitted to


def has_trained(trainer: NoisyLabelTrainer) -> bool:
    """Tell whether a trainer has trained the model that it has."""
    engine = getattr(trainer, "engine_", None)
    return engine is not None and user_model(engine.model) is bare(trainer.model)


def warn_of_trained(trainer: NoisyLabelTrainer) -> None:
    """Warn where a clone of a trainer would not begin where that one began."""
    if has_trained(trainer):
        warn(
            "A clone of a trainer that was fitted begins with the weights of its trained model: "
            "in a cross-validation, it has seen the rows that are held out. Clone trainers before "
            "they are fitted, or make one with a new model.",
            TrainedModelWarning,
        )


def check_trainer(trainer: NoisyLabelTrainer) -> None:
    """Raise `InvalidParameterError` for the first setting that cannot be used."""
    if not isinstance(trainer.model, nn.Module):
        is_class = isinstance(trainer.model, type) and issubclass(trainer.model, nn.Module)
        advice = "that is the class, and a call of it makes a model" if is_class else ""
        raise invalid_parameter(OWNER, "model", "a torch.nn.Module", trainer.model, advice)
    check_int(OWNER, "epochs", trainer.epochs, 1)
    check_int(OWNER, "batch_size", trainer.batch_size, 1)
    if not isinstance(trainer.verbose, bool):
        check_int(OWNER, "verbose", trainer.verbose, 0)
    read_precision(trainer.precision)
    read_device(trainer.device)
    _check_name_or("correction", trainer.correction, CORRECTIONS, Correction)
    make_detector(OWNER, trainer.detector)
    _check_ready_or_factory("optimizer", trainer.optimizer, Optimizer)
    _check_ready_or_factory("scheduler", trainer.scheduler, LRScheduler)
    _check_ready_objects(trainer)
    _check_callbacks(trainer.callbacks)


def check_trainable(model: nn.Module) -> None:
    """Raise where a model has nothing that could learn, or not here, or not yet."""
    if not torch.is_grad_enabled():
        expected = "trained outside of torch.no_grad() and torch.inference_mode()"
        raise invalid_parameter(OWNER, "model", expected, type(model))
    if any(isinstance(p, UninitializedParameter) for p in model.parameters()):
        expected = "a model whose lazy layers have their shapes, as after a call with one batch"
        raise invalid_parameter(OWNER, "model", expected, type(model))
    if any(p.is_inference() for p in model.parameters()):
        expected = "a model that was made outside of torch.inference_mode(), or copied there since"
        raise invalid_parameter(OWNER, "model", expected, type(model))
    if not any(p.requires_grad for p in model.parameters()):
        expected = "a model of which some parameter requires a gradient"
        raise invalid_parameter(OWNER, "model", expected, type(model))


def read_device(device: Any) -> torch.device:
    """Return the device that `device` means; None is the one of this process."""
    if device is None:
        return local_device()
    try:
        read = torch.device(device)
    except (RuntimeError, TypeError):
        expected = "a device such as 'cpu', 'cuda' or 'cuda:1'"
        raise invalid_parameter(OWNER, "device", expected, device) from None
    if read.type == "meta":
        raise invalid_parameter(OWNER, "device", "a device that computes", device)
    if read.type == "cuda" and not torch.cuda.is_available():
        expected = "a device of this machine, on which torch sees no CUDA"
        raise invalid_parameter(OWNER, "device", expected, device)
    return read


def read_precision(precision: object) -> Precision:
    """Return what `precision` means: the name of a type, or a `Precision`."""
    given = Precision(precision) if isinstance(precision, str) else precision
    known = (*DTYPES, None)
    if not isinstance(given, Precision) or given.dtype not in DTYPES or given.no_grad not in known:
        names = ", ".join(map(repr, DTYPES))
        expected = f"one of {names}, or a Precision of types of these names"
        raise invalid_parameter(OWNER, "precision", expected, precision)
    return given


def _check_name_or(name: str, value: object, names: Collection[str], kind: type) -> None:
    if not isinstance(value, kind) and not (isinstance(value, str) and value in names):
        listed = ", ".join(repr(n) for n in sorted(names))
        expected = f"one of {listed}, or an instance of {kind.__name__}"
        advice = nearest_name(value, names)
        if isinstance(value, type) and issubclass(value, kind):
            advice = f"{value.__name__}() makes one of this class"
        raise invalid_parameter(OWNER, name, expected, value, advice)


def _check_ready_or_factory(name: str, value: object, ready: type) -> None:
    wanted = value is None or callable(value) or isinstance(value, ready)
    if not wanted or (isinstance(value, type) and needs_arguments(value, given=1)):
        expected = f"a factory such as {EXAMPLES[name]}, a ready {ready.__name__} or None"
        raise invalid_parameter(OWNER, name, expected, value)


def _check_ready_objects(trainer: NoisyLabelTrainer) -> None:
    """Refuse ready objects that would train something else than the model."""
    optimizer, scheduler = trainer.optimizer, trainer.scheduler
    if isinstance(optimizer, Optimizer):
        check_optimizer(optimizer, trainer.model.parameters())
    if isinstance(scheduler, LRScheduler):
        check_schedule(scheduler, optimizer)


def check_optimizer(optimizer: object, parameters: Iterable[nn.Parameter]) -> None:
    """Raise where this is no optimizer that can train a model of these parameters."""
    expected = ""
    if not isinstance(optimizer, Optimizer):
        expected = f"a factory that returns an Optimizer, such as {EXAMPLES['optimizer']}"
    elif {id(p) for g in optimizer.param_groups for p in g["params"]}.isdisjoint(
        map(id, parameters)
    ):
        expected = (
            "an optimizer of the model's parameters (a copy of the trainer has a copy of the "
            "model): a factory is given those to train"
        )
    elif steps_with_arguments(optimizer):
        expected = "an optimizer that steps without a closure"
    if expected:
        raise invalid_parameter(OWNER, "optimizer", expected, type(optimizer))


def check_several_models(trainer: NoisyLabelTrainer, correction: Correction) -> None:
    """Raise where a correction trains several models, and what was given serves one alone."""
    owner, factory = type(correction).__name__, correction.model_factory
    if factory is not None and not callable(factory):
        expected = "a callable that returns a torch.nn.Module"
        raise invalid_parameter(owner, "model_factory", expected, factory)
    if correction.num_models == 1:
        return
    for name, kind in (("optimizer", Optimizer), ("scheduler", LRScheduler)):
        given = getattr(trainer, name)
        if isinstance(given, kind):
            expected = f"a factory, as {owner} trains {correction.num_models} models"
            raise invalid_parameter(OWNER, name, expected, type(given))


def _check_callbacks(callbacks: object) -> None:
    expected = "a sequence of instances of Callback"
    if not isinstance(callbacks, (list, tuple)):
        raise invalid_parameter(OWNER, "callbacks", expected, callbacks)
    for callback in callbacks:
        if not isinstance(callback, Callback):
            raise invalid_parameter(OWNER, "callbacks", expected, callback)


def read_checkpoint_dir(given: object, resume: bool) -> Checkpoints | None:
    """Return where checkpoints go, or raise where they would fall among those of another run."""
    if given is None:
        if resume:
            expected = "a folder when fit is called with resume=True"
            raise invalid_parameter(OWNER, "checkpoint_dir", expected, None)
        return None
    folder = given.folder if isinstance(given, Checkpoints) else given
    if not isinstance(folder, (str, Path)) or folder == "" or Path(folder).is_file():
        raise invalid_parameter(OWNER, "checkpoint_dir", "the path of a folder", folder)
    checkpoints = given if isinstance(given, Checkpoints) else Checkpoints(folder)
    if not resume:
        check_unused(checkpoints.folder)
    return checkpoints


def check_unused(folder: Path) -> None:
    """Raise where a folder has checkpoints, of another run."""
    if list_checkpoints(folder):
        expected = (
            "a folder without checkpoints, unless fit is called with resume=True to go on from them"
        )
        raise invalid_parameter(OWNER, "checkpoint_dir", expected, str(folder))


def check_data(name: str, data: Any, minimum: int = 1, *, needs_labels: bool = True) -> None:
    """Raise where `data` is no dataset, nor a loader of one, of at least `minimum` samples."""
    dataset: Any = data.dataset if isinstance(data, DataLoader) else data
    if isinstance(data, DataLoader):
        _check_loader(name, data)
    _check_kind(name, dataset, needs_labels)
    if len(dataset) < minimum:
        raise invalid_data(
            OWNER, name, f"a dataset of at least {minimum} samples", str(len(dataset))
        )
    if isinstance(data, DataLoader) and not _is_stream(dataset) and len(data) == 0:
        drops = data.drop_last or getattr(data.batch_sampler, "drop_last", False)
        why = "drop_last" if drops else "a sampler without positions"
        got = f"one without a batch: {len(dataset)} samples, and {why}"
        raise invalid_data(OWNER, name, "a loader of at least one batch", got)


def check_labelled(X: Any, y: object) -> None:
    """Raise where `X` is no dataset that has its labels, such as where they come beside it."""
    check_data("X", X)
    if y is not None:
        expected = "None: the labels are those of the dataset 'X'"
        raise invalid_parameter(f"{OWNER}.score", "y", expected, type(y))


def _check_kind(name: str, dataset: Any, needs_labels: bool) -> None:
    """Raise where this does not say how many samples it has, and which is which."""
    expected = DATASET if needs_labels else INPUTS
    rows = isinstance(dataset, (torch.Tensor, np.ndarray)) and not needs_labels
    if _is_stream(dataset):
        if not hasattr(dataset, "__len__"):
            raise invalid_parameter(
                OWNER,
                name,
                "a dataset that says which sample is which: map-style, or an IterableDataset with "
                "__len__ that yields (index, (input, label))",
                type(dataset),
            )
    elif not hasattr(dataset, "__getitem__") or (_is_table(dataset) and not rows):
        raise invalid_parameter(OWNER, name, expected, type(dataset), _how_to_convert(dataset))
    if not hasattr(dataset, "__len__"):
        raise invalid_parameter(OWNER, name, expected, type(dataset))


def check_validation(val: Any, callbacks: Iterable[Callback]) -> None:
    """Raise where the validation set is no dataset, or is missing and a callback watches it."""
    if val is not None:
        check_data("val", val)
    elif (watcher := watcher_of_validation(callbacks)) is not None:
        expected = f"a validation set, for {type(watcher).__name__} watches {watcher.monitor!r}"
        raise invalid_data(OWNER, "val", expected, "None")


def _check_loader(name: str, loader: DataLoader[Any]) -> None:
    """Raise where the parts of a loader would not do what the loader does."""
    expected = advice = ""
    if loader.batch_size is None and loader.batch_sampler is None:
        expected = "a DataLoader that makes batches itself (batch_size is not None)"
    elif type(loader).__iter__ is not DataLoader.__iter__:
        expected = "a DataLoader without an __iter__ of its own, as its parts alone are used"
        advice = "pass its dataset, or change the samples there or in collate_fn"
    elif not (_is_stream(loader.dataset) or _is_sized(loader)):
        expected = "a DataLoader whose sampler, or batch_sampler, has __len__"
    if expected:
        raise invalid_parameter(OWNER, name, expected, type(loader), advice)


def _is_sized(loader: DataLoader[Any]) -> bool:
    try:
        len(loader)
    except TypeError:
        return False
    return True


def check_path(method: str, path: object) -> Path:
    """Return the path of a file, which `save` or `load` got."""
    if not isinstance(path, (str, os.PathLike)) or not Path(path).name or Path(path).is_dir():
        raise invalid_parameter(f"{OWNER}.{method}", "path", "the path of a file", path)
    return Path(path)


def check_no_nan(name: str, proba: np.ndarray) -> None:
    """Raise where a model has no answer: the highest of NaN would be the first class."""
    bad = np.flatnonzero(np.isnan(proba).any(axis=1))
    if len(bad):
        expected = "samples for which the model returns no NaN"
        got = f"{len(bad)} of {len(proba)} for which it does (such as {bad[:5].tolist()})"
        raise invalid_data(OWNER, name, expected, got, "their inputs may not be finite")


def _is_table(dataset: object) -> bool:
    """Tell whether these are inputs alone, or columns: an array, a data frame, a dict."""
    arrays = isinstance(dataset, (torch.Tensor, np.ndarray, tuple)) or hasattr(dataset, "iloc")
    return arrays or hasattr(dataset, "tocsr") or _is_dict_of_columns(dataset)


def _is_dict_of_columns(dataset: Any) -> bool:
    """Tell whether a dict, or what is like one, has other keys than the positions of samples."""
    return is_mapping(dataset) and 0 not in dataset.keys()  # noqa: SIM118  # mapping-like


def _how_to_convert(dataset: object) -> str:
    """Return how to make samples of columns, or nothing where that is not known."""
    if hasattr(dataset, "tocsr"):
        return "a sparse matrix becomes an array of inputs by .toarray()"
    if hasattr(dataset, "iloc"):
        return (
            "a data frame of numbers becomes one by "
            "TensorDataset(torch.tensor(frame.to_numpy(dtype='float32')), torch.tensor(labels))"
        )
    if _is_dict_of_columns(dataset):
        samples = "[{name: column[i] for name, column in data.items()} for i in range(n)]"
        return f"a dict of columns becomes a list of samples by {samples}"
    return ""


def _is_stream(dataset: object) -> bool:
    return isinstance(dataset, IterableDataset)
