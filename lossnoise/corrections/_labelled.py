"""Inputs and labels of a collated batch, and the check of the labels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lossnoise._samples import LABEL_NAMES, is_mapping
from lossnoise._validation import ROW_SUM_TOLERANCE
from lossnoise.corrections._nested import iter_tensors
from lossnoise.exceptions import InvalidDataError

WITHOUT_LABEL = "((a, b),) without labels or ((a, b), label)"
SECOND_IS_LABEL = (
    "the second part of a pair is taken for its label, and several inputs are one part, "
    f"{WITHOUT_LABEL}; of labels that are no classes, pass the inputs alone"
)


def split_sample(
    sample: Any, *, needs_labels: bool = True, owner: str = "The datasets of NoisyLabelTrainer"
) -> tuple[Any, Tensor]:
    """Return inputs and labels of a collated batch: of a pair, or of a dict with the labels."""
    inputs, labels = _parts_of(sample, needs_labels)
    first = next(iter_tensors(inputs), None)
    if first is not None and not needs_labels:
        if not is_mapping(sample) and _is_input(labels):
            raise _refused(sample, owner, needs_labels, f": {SECOND_IS_LABEL}")
        return inputs, _labels_or_none(labels, first)
    if first is not None and isinstance(labels, Tensor) and labels.ndim == 1:
        return inputs, labels
    advice = _advice_on_inputs(sample, needs_labels) if first is None else _advice(labels)
    raise _refused(sample, owner, needs_labels, advice)


def _parts_of(sample: Any, needs_labels: bool) -> tuple[Any, Any]:
    """Return inputs and labels, each of them None where there are none."""
    if is_mapping(sample):
        names = [name for name in LABEL_NAMES if name in sample.keys()]  # noqa: SIM118  # mapping-like
        inputs = {key: sample[key] for key in sample.keys() if key not in names}  # noqa: SIM118  # same
        return inputs, sample[names[0]] if len(names) == 1 else None
    if isinstance(sample, (tuple, list)) and len(sample) == 2:
        return sample[0], sample[1]
    if isinstance(sample, Tensor) and not needs_labels:
        return sample, None
    if isinstance(sample, (tuple, list)) and len(sample) == 1 and not needs_labels:
        return sample[0], None
    return None, None


def _is_input(labels: Any) -> bool:
    """Tell whether what stands in the place of labels can be none, and may be a second input."""
    if not isinstance(labels, Tensor):
        return False
    if labels.ndim > 1:
        return not are_shares(labels)
    # NaN and infinity, which say that no label is known, have no fractions
    return labels.is_floating_point() and bool((labels - labels.floor() > 0).any())


def are_shares(rows: Tensor) -> bool:
    """Tell whether rows are labels with one column a class: they sum to 1, and none is negative."""
    sums = rows.double().sum(dim=-1)
    return bool((rows >= 0).all() and ((sums - 1.0).abs() < ROW_SUM_TOLERANCE).all())


def _labels_or_none(labels: Any, inputs: Tensor) -> Tensor:
    if isinstance(labels, Tensor) and labels.ndim == 1:
        return labels
    return torch.zeros(len(inputs), dtype=torch.int64)


def _refused(sample: Any, owner: str, needs_labels: bool, advice: str) -> InvalidDataError:
    names = ", ".join(map(repr, LABEL_NAMES))
    expected = (
        f"pairs (input, label), or dicts with one of {names}, that collate to tensors and a vector "
        "of integer labels"
        if needs_labels
        else "inputs, alone, in pairs (input, label) or in dicts, that collate to tensors, and "
        "labels, where there are some, to a vector"
    )
    return InvalidDataError(
        f"{owner} must yield {expected}. Got a batch that is {_describe_batch(sample)} "
        f"instead{advice}."
    )


def _advice_on_inputs(sample: Any, needs_labels: bool) -> str:
    several = isinstance(sample, (tuple, list)) and len(sample) > 2
    whole = "((a, b), label)" if needs_labels else WITHOUT_LABEL
    return f": several inputs are a part of their own, {whole}" if several else ""


def _advice(labels: Any) -> str:
    """Return how to make a vector of integers of labels that are none, where that is known."""
    if isinstance(labels, Tensor) and labels.ndim == 2:
        return f": {_advice_on_rows(labels)}"
    if isinstance(labels, Tensor) and labels.ndim == 3 and labels.dtype == torch.int64:
        return ": a label for each pixel is not supported, other than in a loop of your own"
    if isinstance(labels, (list, tuple)) and {type(label) for label in labels} == {str}:
        return ": names become integers by sklearn.preprocessing.LabelEncoder"
    return ""


def _advice_on_rows(labels: Tensor) -> str:
    if labels.shape[1] == 1:
        return "a column of labels becomes a vector by .squeeze(1)"
    if are_shares(labels):
        return "labels with one column a class become integers by .argmax(dim=1)"
    if ((labels == 0) | (labels == 1)).all():
        return "a sample has one class, and several at once (multi-label) are not supported"
    of_tokens = "a label for each token is not supported, other than in a loop of your own"
    return of_tokens if labels.dtype == torch.int64 else "of a pair, the input comes first"


def _describe_batch(sample: Any) -> str:
    name = type(sample).__name__
    if is_mapping(sample):
        names = sample.keys()
        return f"a {name} of ({', '.join(f'{k}: {_describe(sample[k])}' for k in names)})"
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
        label = int(labels[first])
        advice = "labels begin at 0, and the model needs an output for each class"
        if label < 0:
            two = "-1 and 1 become 0 and 1; " if label == -1 and num_classes == 2 else ""
            advice = (
                f"{two}samples without a label (ignore_index) are to be left out of the dataset, "
                "such as by torch.utils.data.Subset"
            )
        elif num_classes == 1:
            advice = "a model of two classes needs two outputs, not one as binary cross-entropy has"
        raise InvalidDataError(
            f"The labels of {owner} must be in the range [0, {num_classes}), "
            f"as the model has {num_classes} outputs. Got {label} at sample {int(indices[first])} "
            f"instead: {advice}."
        )
