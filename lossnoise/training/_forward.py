"""What a model makes of inputs: the number of classes, predictions, and errors that say why not."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lossnoise._samples import is_mapping
from lossnoise._validation import invalid_data, invalid_parameter
from lossnoise._warnings import warn
from lossnoise.corrections._labelled import SECOND_IS_LABEL, split_sample
from lossnoise.corrections._logits import bare
from lossnoise.corrections._modes import eval_mode
from lossnoise.corrections._nested import iter_tensors
from lossnoise.corrections.base import Batch
from lossnoise.corrections.losses import cross_entropy
from lossnoise.data._indexed import IndexedData
from lossnoise.exceptions import InvalidDataError, ModelOutputWarning
from lossnoise.training._checks import check_data
from lossnoise.training._distributed import sum_over_ranks
from lossnoise.training._engine import TrainingEngine
from lossnoise.training._loops import (
    device_batches,
    sweep,
    synchronise_buffers,
    without_batches,
)

OWNER = "The datasets of NoisyLabelTrainer"

# Types of inputs that most models do not take, how torch calls them, and what to do.
UNUSUAL = {
    torch.float64: (
        ("Double", "double"),
        "convert them with .float(), or .astype(np.float32) before they become tensors",
    ),
    torch.uint8: (
        ("Byte", "unsigned char"),
        "images of bytes become floats in [0, 1] by .float() / 255",
    ),
    torch.int64: (("Long", "long"), "convert numbers with .float(); token ids need an embedding"),
    torch.int32: (("Int", "int"), "convert numbers with .float()"),
    torch.int16: (("Short", "short"), "convert numbers with .float()"),
    torch.bool: (("Bool", "bool"), "convert them with .float()"),
    torch.float16: (("Half", "half"), "convert them with .float()"),
}

SOFT_SUM = 0.02  # by how much the sum of a softmax in bfloat16 may miss 1

# What errors about the shape of inputs speak of.
SIZES = ("shape", "size", "dimension", "channels", "D input")


def count_classes(engine: TrainingEngine, loader: DataLoader[Any]) -> int:
    """Return the number of columns of the models' output, by a forward pass of one batch."""
    _, sample = next(iter(loader))
    inputs, labels = split_sample(sample)
    inputs = engine.to_device(inputs)
    logits, *others = (_first_logits(bare(model), inputs, engine) for model in engine.models)
    if any(other.shape != logits.shape for other in others):
        raise InvalidDataError(
            f"All {len(engine.models)} models must return logits of one shape. Got "
            f"{', '.join(str(tuple(each.shape)) for each in (logits, *others))} instead."
        )
    if not (logits.ndim == 2 and len(logits) == len(labels)):
        raise InvalidDataError(
            "The 'model' parameter of NoisyLabelTrainer must return logits of shape (batch, "
            f"num_classes). Got a tensor of shape {tuple(logits.shape)} for a batch of "
            f"{len(labels)} samples instead."
        )
    warn_of_probabilities(logits)
    return int(logits.shape[1])


def check_inputs(name: str, engine: TrainingEngine, data: IndexedData, num_classes: int) -> None:
    """Raise, before the first epoch and not after it, where the model does not take samples."""
    owner = f"The {name!r} dataset of NoisyLabelTrainer"
    for _, sample in data.as_given():
        inputs, labels = split_sample(sample, owner=owner)
        logits = _first_logits(bare(engine.model), engine.to_device(inputs), engine, owner)
        if logits.shape != (len(labels), num_classes):
            raise InvalidDataError(
                f"{owner} must yield inputs like those of training, for which the model returns "
                f"{num_classes} logits a sample. Got logits of shape {tuple(logits.shape)} for a "
                f"batch of {len(labels)} samples instead."
            )
        return


class Evaluation(NamedTuple):
    """What a model makes of the samples of a loader.

    Attributes
    ----------
    accuracy : float
        The share whose highest logit is their label.
    loss : float
        Their mean cross-entropy, in nats; NaN where logits are, or a label is out of range.
    """

    accuracy: float
    loss: float


def evaluate(
    engine: TrainingEngine, loader: DataLoader[Any], num_classes: int, *, alone: bool = False
) -> Evaluation:
    """Return how well a model gives the labels of a loader."""
    right, loss = (
        torch.zeros((), dtype=t, device=engine.device) for t in (torch.int64, torch.float32)
    )
    count = 0
    if not alone:
        synchronise_buffers(engine)
    model = bare(engine.model)
    with eval_mode(model), torch.no_grad(), engine.autocast():
        for batch in device_batches(loader, engine, num_classes):
            logits = _telling_forward(model, batch.inputs)
            known = ~logits.isnan().any(dim=1)  # the highest of NaN would be the first class
            right += (known & (logits.argmax(dim=1) == batch.labels)).sum()
            inside = batch.labels.clamp(0, logits.shape[1] - 1)  # on a device they are not checked
            losses = cross_entropy(logits, inside)
            loss += losses.where(inside == batch.labels, torch.nan).sum()
            count += len(batch.labels)
    counts = torch.stack([right, right.new_tensor(count)])
    if not alone:
        counts, loss = sum_over_ranks(counts), sum_over_ranks(loss)
    num_right, seen = counts.tolist()
    if not seen:
        raise without_batches()
    return Evaluation(num_right / seen, float(loss) / seen)


def predicted_logits(model: nn.Module, batch: Batch) -> Tensor:
    """Return the logits of a batch that may be of another kind than those of training."""
    logits = _telling_forward(model, batch.inputs)
    if not (logits.ndim == 2 and len(logits) == len(batch.indices)):
        raise InvalidDataError(
            "The 'X' parameter of NoisyLabelTrainer must have samples like those of training, a "
            f"single one as X[None]. Got logits of shape {tuple(logits.shape)} for a batch of "
            f"{len(batch.indices)} samples instead."
        )
    return logits


def predict_rows(engine: TrainingEngine, data: IndexedData) -> NDArray[np.float32]:
    """Return the class probabilities of a dataset, in its order."""
    return _as_proba(sweep(engine, data.in_order(), predicted_logits, alone=True))


def predict_labelled_rows(
    engine: TrainingEngine, data: IndexedData, num_classes: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the class probabilities of a dataset, and its labels, of the same pass."""

    def describe(model: nn.Module, batch: Batch) -> Tensor:
        return torch.cat([predicted_logits(model, batch).float(), batch.labels[:, None]], dim=1)

    found = sweep(engine, data.in_order(), describe, num_classes, alone=True)
    return _as_proba(found[:, :-1]), found[:, -1].cpu().numpy().astype(np.int64)


def _as_proba(logits: Tensor) -> NDArray[np.float32]:
    proba: NDArray[np.float32] = logits.float().softmax(dim=1).cpu().numpy()
    return proba


def _first_logits(
    model: nn.Module, inputs: Any, engine: TrainingEngine, owner: str = OWNER
) -> Tensor:
    with eval_mode(model), torch.no_grad(), engine.autocast():
        return _telling_forward(model, inputs, owner)


def _telling_forward(model: nn.Module, inputs: Any, owner: str = OWNER) -> Tensor:
    """Return the logits of inputs, or say of what type or shape they are."""
    expected = f"{owner} must yield inputs that the model takes."
    try:
        logits: Tensor = model(inputs)
    except (RuntimeError, ValueError) as error:
        types = {tensor.dtype for tensor in iter_tensors(inputs)}
        of_torch = isinstance(error, RuntimeError)
        if of_torch and "type" in str(error):
            _refuse_weights(model, types, error)
        for dtype, (names, advice) in UNUSUAL.items():
            if of_torch and dtype in types and any(name in str(error) for name in names):
                raise InvalidDataError(
                    f"{expected} Got {str(dtype).removeprefix('torch.')} inputs, which most models "
                    f"do not: {advice}. The model says: {error}"
                ) from error
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in iter_tensors(inputs))
        is_plain = type(error) in (RuntimeError, ValueError)  # not that of too little memory
        if shapes and is_plain and any(word in str(error) for word in SIZES):
            raise InvalidDataError(
                f"{expected} Got a batch of shape {shapes}, at which it fails. The model says: "
                f"{error}"
            ) from error
        raise
    except (TypeError, AttributeError) as error:
        if isinstance(error, TypeError) and "forward() " in str(error):  # not from deeper inside
            raise InvalidDataError(f"{expected} {_about_call(inputs, error)}") from error
        lists = _lists_in(inputs)
        if lists and "list" in str(error):
            raise InvalidDataError(
                f"{expected} Got a list of tensors for {lists[0]!r}, as of samples with lists of "
                "numbers, which PyTorch's collate function turns around: let the dataset return "
                f"torch.tensor(...) of them. The model says: {error}"
            ) from error
        raise
    return logits


def _lists_in(inputs: Any) -> list[str]:
    """Return the names of entries of a dict of inputs that are lists of tensors."""
    entries = [(key, inputs[key]) for key in inputs.keys()] if is_mapping(inputs) else ()  # noqa: SIM118  # mapping-like
    return [
        name
        for name, value in entries
        if isinstance(value, (list, tuple)) and value and isinstance(value[0], Tensor)
    ]


def _about_call(inputs: Any, error: TypeError) -> str:
    """Return what a model was called with that takes other arguments."""
    parts = f" of {', '.join(map(str, inputs.keys()))}" if is_mapping(inputs) else ""
    lacks = isinstance(inputs, Tensor) and "missing" in str(error)
    advice = f"; {SECOND_IS_LABEL}" if lacks else ""
    if parts and "unexpected keyword" in str(error):
        advice = "; those that it does not take are dropped in a collate_fn, or taken by **kwargs"
    return (
        f"Got a {type(inputs).__name__}{parts} instead: the entries of a dict become keyword "
        f"arguments, those of a list or tuple positional ones{advice}. The model says: {error}"
    )


def _refuse_weights(model: nn.Module, types: set[torch.dtype], error: Exception) -> None:
    """Raise where it is the model that is of an unusual type: inputs are float32."""
    own = {p.dtype for p in model.parameters() if p.is_floating_point()}
    if torch.float32 in types and len(own) == 1 and torch.float32 not in own:
        name = str(own.pop()).removeprefix("torch.")
        raise InvalidDataError(
            "The 'model' parameter of NoisyLabelTrainer must have weights of the type of the "
            f"inputs, float32. Got weights of {name}: model.float() converts them, and "
            "precision='bfloat16' or 'float16' computes in fewer bits all the same. The model "
            f"says: {error}"
        ) from error


def warn_of_probabilities(logits: Tensor) -> None:
    """Warn where a model seems to end in a softmax."""
    sums = logits.float().sum(dim=1)
    if logits.shape[1] > 1 and bool((logits >= 0.0).all() & ((sums - 1.0).abs() < 1e-3).all()):
        warn(
            "The model returns probabilities: its rows sum to 1. NoisyLabelTrainer needs logits, "
            "to which it applies the softmax itself; leave out the one at the end of the model.",
            ModelOutputWarning,
        )


def warn_of_sigmoid(ranges: NDArray[np.float64]) -> None:
    """Warn where all outputs of a trained model are probabilities, of which rows do not sum to 1.

    Before it is trained its logits may well be such numbers. `ranges` has the lowest output of each
    sample, the highest one and their sum.
    """
    lowest, highest = ranges[:, 0].min(), ranges[:, 1].max()
    if 0.0 < lowest < highest <= 1.0 and np.abs(ranges[:, 2] - 1.0).max() > SOFT_SUM:
        warn(
            f"All outputs of the trained model are between {lowest:.3g} and {highest:.3g}, as "
            "those of a sigmoid are. NoisyLabelTrainer needs logits, to which it applies the "
            "softmax itself: with a sigmoid at its end, a model learns little.",
            ModelOutputWarning,
        )


def read_inputs(X: Any, model: nn.Module) -> Any:
    """Return a dataset, or a loader of one, whose labels are not used: as given, or of an array."""
    if hasattr(X, "iloc"):
        expected = "a dataset, or inputs alone as an array, such as X.to_numpy(dtype='float32')"
        raise invalid_parameter("NoisyLabelTrainer", "X", expected, type(X))
    alone = isinstance(X, (Tensor, np.ndarray))
    dataset = inputs_alone(X, model) if alone else X
    check_data("X", dataset, needs_labels=False)
    return dataset


def inputs_alone(inputs: Any, model: nn.Module | None = None) -> TensorDataset:
    """Return a dataset of inputs without labels; float64 ones become what most models take."""
    taken = {p.dtype for p in model.parameters()} if model is not None else set()
    shrink = torch.float64 not in taken
    if isinstance(inputs, np.ndarray):
        if inputs.dtype.kind not in "fiubc":
            got = f"dtype {inputs.dtype}"
            raise invalid_data("NoisyLabelTrainer", "X", "an array of numbers", got)
        kept = np.float32 if shrink and inputs.dtype == np.float64 else inputs.dtype
        inputs = torch.from_numpy(inputs.astype(kept))
    return TensorDataset(inputs.float() if shrink and inputs.dtype == torch.float64 else inputs)
