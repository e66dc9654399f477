"""Files of `NoisyLabelTrainer.save`: a trained model, and what was found."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from lossnoise._warnings import warn
from lossnoise.corrections import CrossEntropy
from lossnoise.corrections._logits import as_written
from lossnoise.exceptions import CheckpointWarning, InvalidDataError, LossNoiseWarning
from lossnoise.training._checks import check_path
from lossnoise.training._run import RESULTS, are_equal
from lossnoise.training._wiring import detector_of, layers_of, make_engine
from lossnoise.training.checkpoint import (
    first_difference,
    is_other_version,
    read_state,
    write_state,
)
from lossnoise.training.recorder import LossRecorder

if TYPE_CHECKING:
    from lossnoise.training.trainer import NoisyLabelTrainer

KIND = "lossnoise trainer 1"


def write_saved(trainer: NoisyLabelTrainer, path: str | os.PathLike[str]) -> None:
    """Write a fitted trainer's model and results, whole or not at all."""
    file = check_path("save", path)
    content = {
        "kind": KIND,
        "model": as_written(trainer.engine_.model).state_dict(),
        "layers": layers_of(trainer.engine_.model),
        "torch": str(torch.__version__),
        "num_classes": trainer.num_classes_,
        "history": trainer.history_,
        "recorder": trainer.recorder_.state_dict(),
        "found": {name: torch.from_numpy(getattr(trainer, name)) for name in RESULTS},
    }
    write_state(file, content)


def read_saved(trainer: NoisyLabelTrainer, path: str | os.PathLike[str]) -> None:
    """Give a trainer the model and the results in a file."""
    file = check_path("load", path)
    content = _read(file)
    model = as_written(trainer.model)
    if _shapes(content["model"]) != _shapes(model.state_dict()):  # before anything changes
        raise _no_file(file, "has other parameters than the trainer's model")
    model.load_state_dict(content["model"])
    for name in ("detector_", "correction_"):  # of an earlier fit
        trainer.__dict__.pop(name, None)
    trainer.engine_ = make_engine(trainer, CrossEntropy())
    trainer.history_, trainer.num_classes_ = content["history"], content["num_classes"]
    for name in RESULTS:
        setattr(trainer, name, content["found"][name].numpy())
    trainer.recorder_ = LossRecorder(len(trainer.losses_))
    trainer.recorder_.load_state_dict(content["recorder"])
    _fit_detector(trainer)
    _warn_of_layers(file, content, model)


def _fit_detector(trainer: NoisyLabelTrainer) -> None:
    """Give a trainer the detector that found its results, fitted to the same losses.

    None where its settings are other ones now; of equal losses none says anything.
    """
    detector = detector_of(trainer)
    with warnings.catch_warnings():  # said after training
        warnings.simplefilter("ignore", LossNoiseWarning)
        detector.fit(trainer.losses_)
    found = detector.posterior(trainer.losses_)
    if are_equal(trainer.losses_) or np.allclose(found, trainer.noise_proba_, atol=1e-6):
        trainer.detector_ = detector


def _read(path: Path) -> dict[str, Any]:
    try:
        content = read_state(path)
    except OSError:
        raise  # it says which file, and why
    except Exception as error:  # a damaged pickle may raise anything
        raise _no_file(path, f"cannot be read as data ({type(error).__name__})") from error
    kind = content.get("kind") if isinstance(content, dict) else None
    if kind != KIND:
        other = is_other_version(kind, KIND)
        raise _no_file(path, f"is of another {'version of lossnoise' if other else 'kind'}")
    return content


def _warn_of_layers(path: Path, content: dict[str, Any], model: nn.Module) -> None:
    """Warn where a model has the parameters of another one, and computes something else."""
    saved, own = content.get("layers", []), layers_of(model)
    if saved and own and saved != own and content.get("torch") == torch.__version__:
        before, now = first_difference(saved, own)
        warn(
            f"The model in {path} was saved with {before!r}, and this trainer's has {now!r}: it "
            "may predict something else.",
            CheckpointWarning,
        )


def _shapes(state: dict[str, Any]) -> dict[str, Any]:
    return {name: getattr(value, "shape", None) for name, value in state.items()}


def _no_file(path: Path, reason: str) -> InvalidDataError:
    return InvalidDataError(
        "The 'path' parameter of NoisyLabelTrainer.load must be a file of NoisyLabelTrainer.save, "
        f"of a model like this one. {path} {reason}."
    )
