"""Inputs and labels of a collated batch, and the check of the labels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lossnoise._samples import LABEL_NAMES, is_mapping
from lossnoise._validation import ROW_SUM_TOLERANCE
from lossnoise.corrections._nested import iter_tensors
from lossnoise.exceptions import InvalidDataError


def split_sample(
    sample: Any, *, needs_labels: bool = True, owner: str = "The datasets of NoisyLabelTrainer"
) -> tuple[Any, Tensor]:
    """Return inputs and labels of a collated batch: of a pair, or of a dict with the labels."""
    inputs: Any = None
    labels: Any = None
    if is_mapping(sample):
        names = [name for name in LABEL_NAMES if name in sample.keys()]  # noqa: SIM118  # mapping-like
        inputs = {key: sample[key] for key in sample.keys() if key not in names}  # noqa: SIM118  # same
        labels = sample[names[0]] if len(names) == 1 else None
    elif isinstance(sample, (tuple, list)) and len(sample) == 2:
        inputs, labels = sample
    elif isinstance(sample, Tensor) and not needs_labels:
        inputs = sample
    elif isinstance(sample, (tuple, list)) and len(sample) == 1 and not needs_labels:
        inputs = sample[0]
    first = next(iter_tensors(inputs), None)
    if first is not None and isinstance(labels, Tensor) and labels.ndim == 1:
        return inputs, labels
    if first is not None and not needs_labels:
        return inputs, torch.zeros(len(first), dtype=torch.int64)
    raise InvalidDataError(
        f"{owner} must yield pairs (input, label), or dicts with one of "
        f"{', '.join(map(repr, LABEL_NAMES))}, that collate to tensors and a vector of integer "
        f"labels. Got a batch that is {_describe_batch(sample)} instead"
        f"{_advice_on_inputs(sample) if first is None else _advice(labels)}."
    )


def _advice_on_inputs(sample: Any) -> str:
    several = isinstance(sample, (tuple, list)) and len(sample) > 2
    return ": several inputs are a part of their own, ((a, b), label)" if several else ""


def _advice(labels: Any) -> str:
    """Return how to make a vector of integers of labels that are none, where that is known."""
    if isinstance(labels, Tensor) and labels.ndim == 2:
        return f": {_advice_on_rows(labels)}"
    if isinstance(labels, (list, tuple)) and {type(label) for label in labels} == {str}:
        return ": names become integers by sklearn.preprocessing.LabelEncoder"
    return ""


def _advice_on_rows(labels: Tensor) -> str:
    if labels.shape[1] == 1:
        return "a column of labels becomes a vector by .squeeze(1)"
    if (labels.double().sum(dim=1) - 1.0).abs().max() < ROW_SUM_TOLERANCE:
        return "labels with one column a class become integers by .argmax(dim=1)"
    if ((labels == 0) | (labels == 1)).all():
        return "a sample has one class, and several at once (multi-label) are not supported"
    return "of a pair, the input comes first"


def _describe_batch(sample: Any) -> str:
    name = type(sample).__name__
    if is_mapping(sample):
        return f"a {name} of ({', '.join(f'{k}: {_describe(sample[k])}' for k in sample)})"
    if isinstance(sample, (tuple, list)):
        return f"a {name} of ({', '.join(_describe(part) for part in sample)})"
    return f"a {name}"


def _describe(part: object) -> str:
    return f"Tensor {tuple(part.shape)}" if isinstance(part, Tensor) else type(part).__name__


def check_labels(
    labels: Tensor,
    indices: Tensor,
    num_classes: int | None,
    *,
    owner: str = "NoisyLabelTrainer's datasets",
) -> None:
    """Raise where a label, still on the host, is no integer in the range of the logits.

    Without a number of classes the labels are not used, and may be anything.
    """
    if num_classes is None:
        return
    if labels.is_floating_point() and (labels != labels.floor()).any():
        raise InvalidDataError(
            f"The labels of {owner} must be integers. Got {labels.dtype} with fractions instead: "
            "they are classes, and regression is not supported."
        )
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise InvalidDataError(
            f"The labels of {owner} must be integers. Got {labels.dtype} instead: whole numbers "
            "become integers by .long(), or .astype(np.int64)."
        )
    labels = labels.to(torch.int64)  # not every integer type can be compared
    wrong = (labels < 0) | (labels >= num_classes)
    if wrong.any():
        first = int(wrong.nonzero()[0])
        raise InvalidDataError(
            f"The labels of {owner} must be in the range [0, {num_classes}), "
            f"as the model has {num_classes} outputs. Got {int(labels[first])} at sample "
            f"{int(indices[first])} instead: labels begin at 0, and the model needs an output for "
            "each class."
        )
