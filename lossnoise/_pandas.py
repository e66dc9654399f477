"""What is asked of pandas objects, without importing pandas."""

from __future__ import annotations

import sys
from typing import Any

from lossnoise._validation import invalid_data


def is_pandas(values: object, *types: str) -> bool:
    """Return whether `values` is of one of these pandas types."""
    pandas = sys.modules.get("pandas")  # an object of its types exists only once it is loaded
    return pandas is not None and isinstance(values, tuple(getattr(pandas, t) for t in types))


def check_aligned(
    owner: str, name: str, values: Any, others: Any, *, what: str = "labels", called: str = "labels"
) -> None:
    """Refuse pandas objects whose rows are in another order than those of others."""
    if not all(is_pandas(one, "Series", "DataFrame") for one in (values, others)):
        return
    if not values.index.equals(others.index):
        expected = f"in the order of the {what}; align it with {name}.loc[{called}.index], or pass"
        raise invalid_data(owner, name, f"{expected} an array", "another index")
