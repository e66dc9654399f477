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
from lossnoise._validation import to_numpy
from lossnoise.audit._cards import Inputs
from lossnoise.audit._inputs import is_pandas

if TYPE_CHECKING:
    import pandas as pd


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
    groups: dict[Hashable, list[int]] = {}
    for row, content in enumerate(_contents(inputs, positions)):
        groups.setdefault(content, []).append(row)
    return [
        positions[rows].tolist() for rows in groups.values() if len(set(codes[rows].tolist())) > 1
    ]


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
    rows = map(inputs.get, positions.tolist())
    return (content_of(row, are_paths=inputs.are_paths) for row in rows)


def _hash_rows(data: pd.DataFrame | pd.Series) -> NDArray[Any]:
    import pandas as pd

    return pd.util.hash_pandas_object(data, index=False).to_numpy()


def _add(digest: Any, value: Any, are_paths: bool) -> None:
    """Add a value to a digest, with its type and length: two values never look like one."""
    if isinstance(value, PathLike) or (are_paths and isinstance(value, str)):
        value = _read(fspath(value))
    if isinstance(value, (str, bytes)):
        content = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
    elif isinstance(value, Mapping):
        return _add(digest, [part for item in value.items() for part in item], are_paths)
    elif hasattr(value, "tobytes") and hasattr(value, "mode"):  # a picture of Pillow
        return _add(digest, [value.mode, value.size, value.tobytes()], are_paths)
    elif hasattr(value, "shape") and (array := to_numpy(value)).dtype.kind != "O":
        return _add(digest, [array.dtype.str, repr(array.shape), array.tobytes()], are_paths)
    elif isinstance(value, (list, tuple)):
        digest.update(b"[%d" % len(value))
        for part in value:
            _add(digest, part, are_paths)
        return None
    else:
        content = repr(value).encode("utf-8", "surrogatepass")
    digest.update(b"%s %d:" % (type(value).__name__.encode(), len(content)) + content)
    return None


def _read(path: Any) -> Any:
    """Return the bytes of a file; the path itself where there is none."""
    try:
        return Path(path).read_bytes()
    except OSError:
        return path
