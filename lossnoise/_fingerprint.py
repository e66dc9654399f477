"""What tells data and settings apart from one process to the next, in a few characters."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Any

import numpy as np

from lossnoise._validation import to_numpy

# How something is computed, not what.
_NO_MATTER = frozenset({"device", "n_jobs", "verbose"})
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


def fingerprint(value: Any) -> str:
    """Return 16 characters that change when `value` does.

    All bytes of arrays and data frames count, and all parameters of estimators but those that say
    how something is computed (``n_jobs``, ``verbose``); of other objects their text does.
    """
    try:
        text = _describe(value)
    except RecursionError:  # an object that holds itself
        text = _text(value)
    return _digest(text.encode())


def _describe(value: Any) -> str:
    """Return a text of `value` that is the same in another process."""
    if isinstance(value, (np.ndarray, np.generic)) or hasattr(value, "detach"):
        return _describe_array(to_numpy(value))
    if hasattr(value, "tocsr"):
        rows = value.tocsr()
        return _describe(("sparse", rows.shape, rows.data, rows.indices, rows.indptr))
    if hasattr(value, "columns") and hasattr(value, "shape"):  # a data frame
        names = getattr(value, "column_names", value.columns)
        return _describe([(name, np.asarray(value[name])) for name in names])
    if hasattr(value, "to_numpy"):  # a column of one
        return _describe_array(np.asarray(value))
    if hasattr(value, "get_params") and not isinstance(value, type):
        settings = value.get_params(deep=False)
        kept = {name: setting for name, setting in settings.items() if name not in _NO_MATTER}
        return _describe((type(value), kept))
    return _describe_plain(value)


def _describe_plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"{{{_join(f'{_describe(k)}: {_describe(v)}' for k, v in value.items())}}}"
    if isinstance(value, (set, frozenset)):  # in no order that lasts
        return f"{{{_join(sorted(map(_describe, value)))}}}"
    if isinstance(value, (list, tuple)):
        return f"[{_join(map(_describe, value))}]"
    if hasattr(value, "__code__"):
        return _describe((value.__code__, value.__defaults__, value.__kwdefaults__, _closed(value)))
    if hasattr(value, "co_code"):  # two functions of one name may do two things
        return _describe((value.co_name, value.co_code, value.co_names, value.co_consts))
    if isinstance(value, np.random.RandomState):
        return _describe((type(value), value.get_state(legacy=False)))
    if isinstance(value, np.random.Generator):
        return _describe((type(value), value.bit_generator.state))
    if hasattr(value, "__array_interface__"):  # a picture
        return _describe_array(np.asarray(value))
    plain = type(value).__repr__ is object.__repr__  # type: ignore[comparison-overlap]  # is for some
    if plain:  # its text says nothing but the type
        return _describe((type(value), getattr(value, "__dict__", None)))
    return _text(value)


def _closed(function: Any) -> list[Any]:
    """Return what a function took from where it was made."""
    try:
        return [cell.cell_contents for cell in getattr(function, "__closure__", None) or ()]
    except ValueError:  # it was made before that had a value
        return []


def _text(value: Any) -> str:
    return _ADDRESS.sub("", repr(value))


def _describe_array(array: np.ndarray) -> str:
    content: bytes | memoryview
    if array.dtype.kind == "O":
        content = _join(map(_describe, array.ravel().tolist())).encode()
    else:
        content = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
    return f"array({array.shape}, {array.dtype}, {_digest(content)})"


def _join(texts: Iterable[str]) -> str:
    return ", ".join(texts)


def _digest(content: bytes | memoryview) -> str:
    return blake2b(content, digest_size=8).hexdigest()
