"""Equal inputs with different labels: at least one label of each group is wrong."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from hashlib import blake2b
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lossnoise._labels import encode_labels
from lossnoise._pandas import is_pandas
from lossnoise._validation import to_numpy
from lossnoise.audit._cards import Inputs

if TYPE_CHECKING:
    import pandas as pd

CHUNK = 2**24  # bytes of an array that are copied at once


def find_conflicts(
    inputs: Inputs, labels: np.ndarray, positions: NDArray[np.intp]
) -> list[list[int]]:
    """Return the positions of equal inputs whose labels differ.

    Parameters
    ----------
    inputs : Inputs
        What was labelled; all of it is read.
    labels : ndarray of shape (n,)
        Labels of some of the inputs.
    positions : ndarray of shape (n,), intp
        Where these stand among the inputs.

    Returns
    -------
    groups : list of list of int
        Positions, ascending; groups in the order of their first one.
    """
    _, codes = encode_labels(labels)
    firsts: dict[Hashable, int] = {}
    groups: dict[int, list[int]] = {}
    for row, content in enumerate(_contents(inputs, positions)):
        first = firsts.setdefault(content, row)
        if first != row:
            groups.setdefault(first, [first]).append(row)
    found = (groups[first] for first in sorted(groups))
    return [positions[rows].tolist() for rows in found if len(set(codes[rows].tolist())) > 1]


def content_of(value: Any, *, are_paths: bool = False) -> bytes:
    """Return what is the same for equal inputs and, in all likelihood, for no others."""
    digest = blake2b(digest_size=16)
    _add(digest, value, are_paths)
    return digest.digest()


def _contents(inputs: Inputs, positions: NDArray[np.intp]) -> Iterator[Hashable]:
    if is_pandas(inputs.data, "DataFrame", "Series") and not inputs.are_paths:
        try:
            return iter(_hash_rows(inputs.data)[positions].tolist())
        except TypeError:  # of cells that have no hash, such as lists
            pass
    is_plain = isinstance(inputs.data, np.ndarray) and inputs.data.dtype.kind != "O"
    if is_plain and not inputs.are_paths:
        return _hash_entries(inputs.data, positions)
    rows = map(inputs.get, positions.tolist())
    return (content_of(row, are_paths=inputs.are_paths) for row in rows)


def _hash_entries(array: np.ndarray, positions: NDArray[np.intp]) -> Iterator[bytes]:
    """Yield what stands for each entry of an array: many times faster than one by one."""
    size = array.nbytes // len(array)
    step = max(1, CHUNK // max(1, size))
    for start in range(0, len(positions), step):
        part = array[positions[start : start + step]]
        content = memoryview(part.tobytes())
        for at in range(len(part)):
            yield blake2b(content[at * size : (at + 1) * size], digest_size=16).digest()


def _hash_rows(data: pd.DataFrame | pd.Series) -> NDArray[Any]:
    import pandas as pd

    return pd.util.hash_pandas_object(data, index=False).to_numpy()


def _add(digest: Any, value: Any, are_paths: bool) -> None:
    """Add a value to a digest, with its type and length: two values never look like one."""
    if isinstance(value, str) and not are_paths:  # first, for it is the usual case
        digest.update(_framed("str", value.encode("utf-8", "surrogatepass")))
        return
    parts = _parts_of(value)
    if parts is not None:
        digest.update(b"[%d" % len(parts))
        for part in parts:
            _add(digest, part, are_paths)
    elif isinstance(value, (bytes, str, PathLike)):
        content = value if isinstance(value, bytes) else _read(fspath(value))
        digest.update(_framed("bytes", content))
    else:
        digest.update(_framed(type(value).__name__, repr(value).encode("utf-8", "surrogatepass")))


def _parts_of(value: Any) -> list[Any] | None:
    """Return what a value is made of; None where it is one thing."""
    if isinstance(value, (list, tuple)):
        return list(value)
    if isinstance(value, Mapping):
        return [part for item in value.items() for part in item]
    if hasattr(value, "tobytes") and hasattr(value, "mode"):  # a picture of Pillow
        return [value.mode.encode(), *value.size, value.tobytes()]
    if hasattr(value, "shape") and (array := to_numpy(value)).dtype.kind != "O":
        return [array.dtype.str.encode(), *array.shape, array.tobytes()]
    return None


def _framed(kind: str, content: bytes) -> bytes:
    return b"%s %d:" % (kind.encode(), len(content)) + content


def _read(path: str) -> bytes:
    """Return what is in a file; its path where it cannot be read."""
    try:
        return Path(path).read_bytes()
    except OSError:
        return path.encode("utf-8", "surrogatepass")
