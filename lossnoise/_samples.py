"""What a sample of a dataset looks like, wherever one is taken apart."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Number
from typing import Any

from lossnoise.exceptions import InvalidDataError

#: The entries of a dict that may be its label.
LABEL_NAMES = ("labels", "label", "targets", "target", "y")

MOST_PARTS = 8  # of a sample, which are described one by one


def is_mapping(value: object) -> bool:
    """Tell whether a value is a dict, or like one, such as a tokenizer's batch."""
    return isinstance(value, Mapping) or (hasattr(value, "keys") and hasattr(value, "__getitem__"))


def check_alike(owner: str, indices: list[int], samples: list[Any], error: Exception) -> None:
    """Raise where samples make no batch because one is of another kind than the first.

    `error` is torch's, which does not say of which.
    """
    kinds = [_kind_of(sample) for sample in samples]
    other = next((place for place, kind in enumerate(kinds) if kind != kinds[0]), 0)
    if other or isinstance(error, TypeError):  # which it is where samples can be of no batch
        found = [f"{kinds[place]} for sample {indices[place]}" for place in sorted({0, other})]
        raise InvalidDataError(
            f"The datasets of {owner} must yield samples that make a batch: numbers, and tensors "
            f"or arrays of one shape. Got {' and '.join(found)} instead. Where they differ on "
            f"purpose, pass a DataLoader with a collate_fn. torch says: {error}"
        ) from error


def check_collated(owner: str, samples: list[Any], batch: Any) -> None:
    """Raise where a user's collate function has changed the order or the number of samples."""
    name, after = _labels_of(batch)
    if getattr(after, "ndim", None) != 1:
        return
    read = [sample for sample in samples if sample is not None]
    try:
        labels = [int(_label_of(sample, name)) for sample in read]
        found = [int(label) for label in after.tolist()]
    except (TypeError, ValueError, RuntimeError, OverflowError):  # none, or more than a number
        return
    if len(found) != len(samples):
        raise InvalidDataError(
            f"The collate function of {owner}'s loaders must keep every sample. Got {len(found)} "
            f"of {len(samples)} instead. Samples that cannot be read have to be left out of the "
            "dataset, such as by torch.utils.data.Subset."
        )
    if missing := len(samples) - len(read):
        raise InvalidDataError(
            f"The collate function of {owner}'s loaders must keep every sample. Got {missing} of "
            f"{len(samples)} samples that are None, and others in their place, instead: losses "
            "would go to other samples. Leave those that cannot be read out of the dataset, such "
            "as by torch.utils.data.Subset."
        )
    renamed = len({*zip(labels, found, strict=True)}) == len({*labels})  # each class to another
    if not renamed and sorted(found) == sorted(labels):
        raise InvalidDataError(
            f"The collate function of {owner}'s loaders must keep the order of the samples. Got "
            "another one instead: every loss would go to another sample. Sort inside the model."
        )


def _kind_of(value: Any) -> str:
    """Return what a sample consists of, in a few words."""
    if is_mapping(value):
        return f"{{{', '.join(f'{name!r}: {_kind_of(value[name])}' for name in value.keys())}}}"  # noqa: SIM118  # mapping-like
    if isinstance(value, (tuple, list)):
        long = f"{type(value).__name__} of {len(value)}"
        return long if len(value) > MOST_PARTS else f"({', '.join(map(_kind_of, value))})"
    if value is None or isinstance(value, Number):  # torch makes one tensor of all kinds of numbers
        return "None" if value is None else "a number"
    shape = getattr(value, "shape", None)
    return (
        f"{type(value).__name__} {tuple(shape)}"
        if isinstance(shape, tuple)
        else type(value).__name__
    )


def _labels_of(batch: Any) -> tuple[str, Any]:
    """Return what are probably the labels of a batch, and their name in a dict."""
    if is_mapping(batch):
        name = next((name for name in LABEL_NAMES if name in batch.keys()), "")  # noqa: SIM118  # mapping-like
        return name, batch[name] if name else None
    return "", _second(batch)


def _label_of(sample: Any, name: str) -> Any:
    """Return the label of a sample; in a batch it may be called ``labels`` instead."""
    if is_mapping(sample):
        names = (name, "label") if name == "labels" else (name,)
        return next((sample[own] for own in names if own in sample.keys()), None)  # noqa: SIM118  # mapping-like
    return _second(sample)


def _second(pair: Any) -> Any:
    return pair[1] if isinstance(pair, (tuple, list)) and len(pair) == 2 else None
