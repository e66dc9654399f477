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
    after = _label_of(batch)
    if getattr(after, "ndim", None) != 1:
        return
    if len(after) != len(samples):
        raise InvalidDataError(
            f"The collate function of {owner}'s loaders must keep every sample. Got {len(after)} "
            f"of {len(samples)} instead."
        )
    try:
        labels = [int(_label_of(sample)) for sample in samples]
    except (TypeError, ValueError, RuntimeError):  # none, or more than a number
        return
    found = [int(label) for label in after.tolist()]
    if found != labels and sorted(found) == sorted(labels):
        raise InvalidDataError(
            f"The collate function of {owner}'s loaders must keep the order of the samples. Got "
            "another one instead: every loss would go to another sample. Sort inside the model."
        )


def _label_of(sample: Any) -> Any:
    """Return what is probably the label of a sample, or the labels of a batch."""
    if is_mapping(sample):
        return next((sample[name] for name in LABEL_NAMES if name in sample.keys()), None)  # noqa: SIM118  # mapping-like
    if isinstance(sample, (tuple, list)) and len(sample) == 2:
        return sample[1]
    return None
