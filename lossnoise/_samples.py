"""What a sample of a dataset looks like, wherever one is taken apart."""

from __future__ import annotations

from collections.abc import Mapping

#: The entries of a dict that may be its label.
LABEL_NAMES = ("labels", "label", "targets", "target", "y")


def is_mapping(value: object) -> bool:
    """Tell whether a value is a dict, or like one, such as a tokenizer's batch."""
    return isinstance(value, Mapping) or (hasattr(value, "keys") and hasattr(value, "__getitem__"))
