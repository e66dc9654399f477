"""What was labelled, one entry a label, and what a card shows of it: picture, text or table row."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from numbers import Number
from os import PathLike
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lossnoise._labels import is_missing, one_dimensional
from lossnoise._pandas import check_aligned, is_pandas
from lossnoise._validation import invalid_data, to_numpy
from lossnoise.audit._inputs import as_cells

if TYPE_CHECKING:
    from lossnoise.audit._pictures import Limits, Picture

# What a card has room for; a page of 2,000 cards must still open at once.
MAX_TEXT, MAX_FIELDS, MAX_VALUE = 2000, 24, 160
LONG_FIELD = 100  # characters of a field that is the text of a row, not one of its cells

# Entries looked at to tell paths from texts, and in which range pictures of floats are.
SAMPLE = 64

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm")
LABEL_NAMES = frozenset({"label", "labels", "target"})  # of an entry: a card has the label anyway
_NUMBERS = (Number, np.bool_)


class Inputs(NamedTuple):
    """What was labelled.

    Attributes
    ----------
    size : int
        Number of entries.
    get : callable
        Returns the entry at a position, without its label.
    data : object
        What was given.
    are_paths : bool
        Whether strings are paths of picture files.
    in_memory : bool
        Whether all entries can be read at little cost.
    """

    size: int
    get: Callable[[int], Any]
    data: Any
    are_paths: bool
    in_memory: bool


class Shown(NamedTuple):
    """What a card shows of an entry; `problem` says why a picture cannot be opened."""

    picture: Picture | None = None
    text: str = ""
    fields: tuple[tuple[str, str], ...] = ()
    problem: str = ""


# -- reading ----------------------------------------------------------------------------------


def open_inputs(owner: str, inputs: Any, labels: Any) -> Inputs:
    """Return how to read what has these labels, or say why it cannot be read."""
    check_aligned(owner, "inputs", inputs, labels)
    n = len(labels)
    if hasattr(inputs, "batch_sampler") and hasattr(inputs, "dataset"):  # a torch DataLoader
        inputs = inputs.dataset
    inputs = _without_labels(inputs, labels)
    try:
        size, get = _reader(inputs)
    except TypeError:
        expected = "a dataset, an array, a table, or a sequence of paths, pictures or texts"
        raise invalid_data(owner, "inputs", expected, f"a {type(inputs).__name__}") from None
    if size != n:
        raise invalid_data(owner, "inputs", f"of length {n}, one entry per label", f"length {size}")
    held = _is_held(inputs)
    are_paths = held and all(map(is_path, map(get, range(min(size, SAMPLE)))))
    return Inputs(size, get, inputs, are_paths, held and not are_paths)


def is_path(value: Any) -> bool:
    """Return whether a value looks like the path of a picture file."""
    if isinstance(value, PathLike):
        return True
    if not isinstance(value, str) or len(value) > 1024 or "\n" in value:
        return False
    return value.lower().endswith(PICTURE_SUFFIXES)


def input_of(entry: Any) -> Any:
    """Return an entry without its label: the first of a pair, a mapping without labels."""
    if isinstance(entry, (str, np.ndarray)):  # before the slower questions
        return entry
    if isinstance(entry, tuple) and entry and not isinstance(entry[0], _NUMBERS):
        return entry[0] if len(entry) == 2 or not isinstance(entry[0], str) else entry
    if isinstance(entry, Mapping):
        kept = {name: value for name, value in entry.items() if name not in LABEL_NAMES}
        return kept or entry
    return entry


def _without_labels(data: Any, labels: Any) -> Any:
    """Return a table without a column of these labels: by it, equal rows would be different ones.

    A column that has such a name and other entries, as targets of opinions do, is one of the input.
    """
    names = {*LABEL_NAMES, getattr(labels, "name", None)}
    columns = _columns_of(data)
    candidates = [name for name in columns if name in names]
    texts = _texts(labels) if candidates else []
    same = {name for name in candidates if _texts(data[name]) == texts}
    kept = [name for name in columns if name not in same]
    if not same or not kept:
        return data
    if isinstance(data, Mapping):
        return {name: data[name] for name in kept}
    return data[kept] if is_pandas(data, "DataFrame") else data.select(kept)


def _texts(column: Any) -> list[str]:
    return list(map(str, as_cells(one_dimensional(column)).tolist()))


def _columns_of(data: Any) -> list[Any]:
    """Return the names of the columns of a table; nothing of anything else."""
    if isinstance(data, Mapping):
        return list(data)
    if is_pandas(data, "DataFrame") or hasattr(data, "row") or hasattr(data, "to_pylist"):
        return list(getattr(data, "column_names", getattr(data, "columns", [])))
    return []


def _reader(data: Any) -> tuple[int, Callable[[int], Any]]:
    """Return the number of entries and what reads one of them."""
    if is_pandas(data, "DataFrame"):
        columns = {str(name): data.iloc[:, i] for i, name in enumerate(data.columns)}
        return len(data), partial(_read_columns, {n: c.iloc for n, c in columns.items()})
    if is_pandas(data, "Series"):
        return len(data), data.iloc.__getitem__
    if hasattr(data, "columns") and hasattr(data, "row"):  # of polars
        return len(data), partial(data.row, named=True)
    if hasattr(data, "to_pylist"):  # of Arrow
        return len(data), lambda position: data.slice(position, 1).to_pylist()[0]
    if isinstance(data, Mapping):  # of columns
        sizes = {len(column) for column in data.values()}
        if len(sizes) == 1:
            return sizes.pop(), partial(_read_columns, data)
    if isinstance(data, (str, bytes, Mapping)) or not hasattr(data, "__getitem__"):
        raise TypeError("no sequence")
    return len(data), lambda position: input_of(data[position])


def _read_columns(columns: Mapping[Any, Any], position: int) -> dict[str, Any]:
    return {str(name): column[position] for name, column in columns.items()}


def _is_held(data: Any) -> bool:
    """Return whether all of the data is in memory."""
    if isinstance(data, (list, tuple, Mapping)) or is_pandas(data, "DataFrame", "Series"):
        return True
    if isinstance(data, np.ndarray):
        return not isinstance(data, np.memmap)
    # Tensors, torch's dataset of tensors, and the tables of polars and Arrow.
    return any(hasattr(data, name) for name in ("detach", "tensors", "to_pylist", "to_arrow"))


# -- showing ----------------------------------------------------------------------------------


class Viewer:
    """Turns entries into what cards show.

    Parameters
    ----------
    inputs : Inputs
        What was labelled.
    positions : sequence of int
        Entries that will be shown. Those in other ranges than 0 to 1 or 0 to 255 are shown in
        the range of the first of them.
    """

    def __init__(self, inputs: Inputs, positions: Sequence[int]) -> None:
        self._inputs = inputs
        self._limits = _limits_of(map(inputs.get, positions[:SAMPLE]))

    def show(self, position: int) -> Shown:
        """Return what to show of the entry at a position."""
        return self._show(self._inputs.get(position))

    def _show(self, value: Any) -> Shown:
        if isinstance(value, Mapping):
            return self._show_fields(value)
        if isinstance(value, (bytes, PathLike)) or (self._inputs.are_paths and is_path(value)):
            return _show_file(value)
        if isinstance(value, str):
            return Shown(text=clip(value, MAX_TEXT))
        return self._show_object(value)

    def _show_object(self, value: Any) -> Shown:
        from lossnoise.audit._pictures import encode_array, encode_image, is_image

        if is_image(value):
            return Shown(picture=encode_image(value))
        if isinstance(value, (list, tuple)) and all(isinstance(v, str) for v in value):
            return Shown(text=clip(" ".join(value), MAX_TEXT))
        array = _as_array(value)
        if array is None or array.ndim == 0:
            return Shown(text=clip(cell_text(value), MAX_TEXT))
        if array.ndim == 1:
            return Shown(fields=_some_fields(enumerate(array.tolist())))
        picture = encode_array(array, self._limits, is_tensor=hasattr(value, "detach"))
        return Shown(picture=picture, text="" if picture else _describe(array))

    def _show_fields(self, row: Mapping[Any, Any]) -> Shown:
        """Return the picture and the text of a row, if it has any, and its other cells."""
        if len(row) == 1:
            return self._show(*row.values())
        picture, problem, cells = None, "", {}
        for name, value in row.items():
            is_cell = isinstance(value, (str, Number, Mapping)) and not _is_stored_file(value)
            shown = Shown() if is_cell else self._show(value)
            problem = problem or shown.problem
            if shown.picture is None:
                cells[name] = value
            picture = picture or shown.picture
        texts = {name: value for name, value in cells.items() if isinstance(value, str)}
        longest = max(texts, key=lambda name: len(texts[name]), default=None)
        text = ""
        if longest is not None and len(texts[longest]) > LONG_FIELD:
            text = clip(cells.pop(longest), MAX_TEXT)
        return Shown(picture, text, _some_fields(cells.items()), problem)


def show_inputs(owner: str, inputs: Inputs, positions: Sequence[int]) -> list[Shown]:
    """Return what to show of entries.

    Raises
    ------
    InvalidDataError
        None of them can be opened; single ones say so on their cards.
    """
    viewer = Viewer(inputs, positions)
    shown = [viewer.show(position) for position in positions]
    if shown and all(one.problem and not one.fields for one in shown):
        got = f"{inputs.get(positions[0])!r} in row {positions[0]} ({shown[0].problem})"
        raise invalid_data(owner, "inputs", "pictures of which at least one can be opened", got)
    return shown


def clip(text: str, most: int) -> str:
    """Return the beginning of a text, with an ellipsis where something is left out."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def cell_text(value: Any) -> str:
    """Return a cell of a table as people read it."""
    if isinstance(value, (float, np.floating)):
        return "NA" if value != value else f"{value:.6g}"
    if value is None or (not isinstance(value, (str, list, dict)) and _is_na(value)):
        return "NA"
    array = None if isinstance(value, (str, Number)) else _as_array(value)
    return _describe(array) if array is not None and array.ndim > 1 else str(value)


def _is_stored_file(value: Any) -> bool:
    """Tell whether a cell is a file as Hugging Face datasets keep pictures in tables."""
    return isinstance(value, Mapping) and value.keys() == {"bytes", "path"}


def _show_file(source: Any) -> Shown:
    from lossnoise.audit._pictures import UNREADABLE, encode_file

    name = f"{len(source)} bytes" if isinstance(source, bytes) else str(source)
    try:
        return Shown(picture=encode_file(source))
    except UNREADABLE as error:
        reason = getattr(error, "strerror", None) or str(error)
        return Shown(text=clip(name, MAX_VALUE), problem=f"cannot be opened: {reason}")


def _some_fields(cells: Iterable[tuple[Any, Any]]) -> tuple[tuple[str, str], ...]:
    fields = [(str(name), clip(cell_text(value), MAX_VALUE)) for name, value in cells]
    more = len(fields) - MAX_FIELDS
    rest = [("…", f"and {more:,} more")] if more > 0 else []
    return (*fields[:MAX_FIELDS], *rest)


def _limits_of(values: Iterable[Any]) -> Limits | None:
    """Return the range of the arrays among values, also of those in rows."""
    cells = (c for v in values for c in (v.values() if isinstance(v, Mapping) else [v]))
    arrays = ((c, _as_array(c)) for c in cells if not isinstance(c, (str, Number)))
    found = [(a, hasattr(c, "detach")) for c, a in arrays if a is not None and a.ndim > 1]
    if not found:
        return None
    from lossnoise.audit._pictures import measure_limits

    return measure_limits(found)


def _as_array(value: Any) -> np.ndarray | None:
    """Return an array of numbers, or None where a value is none."""
    if not (isinstance(value, (list, tuple)) or hasattr(value, "shape")):
        return None
    try:
        array = to_numpy(value)
    except (TypeError, ValueError):  # of ragged lists
        return None
    return array if array.dtype.kind in "fiubUO" else None


def _is_na(value: Any) -> bool:
    return not hasattr(value, "shape") and is_missing(value)


def _describe(array: np.ndarray) -> str:
    return f"array of shape {array.shape}, {array.dtype}"
