"""What a sample of a dataset looks like, wherever one is taken apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lossnoise.exceptions import InvalidDataError

#: The entries of a dict that may be its label.
LABEL_NAMES = ("labels", "label", "targets", "target", "y")


def is_mapping(value: object) -> bool:
    """Tell whether a value is a dict, or like one, such as a tokenizer's batch."""
    return isinstance(value, Mapping) or (hasattr(value, "keys") and hasattr(value, "__getitem__"))


def check_collated(owner: str, samples: list[Any], batch: Any) -> None:
    """Raise where a user's collate function has changed the order or the number of samples."""
    name, after = _labels_of(batch)
    if getattr(after, "ndim", None) != 1:
        return
    try:
        labels = [int(_label_of(sample, name)) for sample in samples]
        found = [int(label) for label in after.tolist()]
    except (TypeError, ValueError, RuntimeError, OverflowError):  # none, or more than a number
        return
    if len(found) != len(samples):
        raise InvalidDataError(
            f"The collate function of {owner}'s loaders must keep every sample. Got {len(found)} "
            f"of {len(samples)} instead."
        )
    renamed = len({*zip(labels, found, strict=True)}) == len({*labels})  # each class to another
    if not renamed and sorted(found) == sorted(labels):
        raise InvalidDataError(
            f"The collate function of {owner}'s loaders must keep the order of the samples. Got "
            "another one instead: every loss would go to another sample. Sort inside the model."
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
