"""Which columns of a file are labels, losses and probabilities, and their rows in pieces."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lossnoise._history import reduce_history
from lossnoise._labels import missing_values
from lossnoise._losses import LOWEST
from lossnoise._names import loosely, match_names, name_of, number_of, without_name
from lossnoise._validation import ROW_SUM_TOLERANCE, miss_one, nearest_name
from lossnoise.audit._classes import BY_NUMBER
from lossnoise.audit._files import ArraySource, Source, bad_file, kind_of
from lossnoise.audit._inputs import FloatArray, as_cells

# Columns that are taken where no option names one.
DEFAULTS = {
    "--labels": ("label", "labels"),
    "--column": ("label", "labels"),  # of `lossnoise review`
    "--losses": ("loss", "losses"),
    "--pred-probs": ("pred_probs",),
}
CLASS_NAMES = "class_names"  # the array of an NPZ file that names the columns of its table

LEFT_OUT = "leave such rows out of the file"  # what has no loss cannot be judged
_SHOWN = 20


class Selection(NamedTuple):
    """Names of columns.

    Attributes
    ----------
    labels, losses, ids, groups : str or None
        None where the file has no such column, or none is needed.
    pred_probs : list of str
        Empty where losses are given.
    class_texts : list of str, or None
        Ends of the names in `pred_probs`, which may be the labels that they belong to.
    """

    labels: str | None
    losses: str | None
    pred_probs: list[str]
    ids: str | None
    groups: str | None
    class_texts: list[str] | None

    @property
    def names(self) -> list[str]:
        """Return every column once."""
        named = (self.labels, self.losses, *self.pred_probs, self.ids, self.groups)
        return list(dict.fromkeys(name for name in named if name is not None))


class Chunk(NamedTuple):
    """Some rows of a file; `start` is the position of the first of them."""

    start: int
    labels: np.ndarray
    ids: np.ndarray
    losses: FloatArray | None
    probs: FloatArray | None
    groups: np.ndarray | None = None


def select(
    source: Source,
    *,
    labels: str | None,
    losses: str | None,
    pred_probs: str | None,
    index: str | None,
    groups: str | None = None,
) -> Selection:
    """Return the columns that options name, or those that can only be meant."""
    if losses is None and pred_probs is None:
        losses, pred_probs = _values_by_default(source)
    names, texts = _columns_of_classes(source, pred_probs) if pred_probs is not None else ([], None)
    for name in (losses, index, labels, groups):
        if name is not None:
            check_column(source, name)
    if labels is None and not _losses_only(source, losses, index, groups):
        labels = by_default(source, "--labels")
    return Selection(labels, losses, names, index, groups, texts)


def by_default(source: Source, option: str) -> str:
    """Return the only column that has the name of a default."""
    found = [name for name in source.columns if name in DEFAULTS[option]]
    if len(found) == 1:
        return found[0]
    count = "more than one" if found else "no"
    wanted = " or ".join(repr(name) for name in DEFAULTS[option])
    problem = f"{count} column is called {wanted}: name it with {option} COL"
    raise bad_file(source.path, f"{problem}; {columns_of(source)}")


def check_column(source: Source, name: str) -> None:
    """Refuse a name that is no column, or that of two."""
    count = source.columns.count(name)
    if count > 1:
        raise bad_file(source.path, f"{count} columns are called {name!r}: rename all but one")
    if count or name.endswith(".npy"):
        return
    advice = "; ".join(filter(None, [nearest_name(name, source.columns), columns_of(source)]))
    raise bad_file(source.path, f"no column is called {name!r}: {advice}")


def columns_of(source: Source) -> str:
    """Return what columns there are, in words."""
    shown = ", ".join(repr(name) for name in source.columns[:_SHOWN])
    return f"its columns are {shown}" + (", ..." if len(source.columns) > _SHOWN else "")


def read_chunks(source: Source, selection: Selection, size: int) -> Iterator[Chunk]:
    """Yield the rows of a file in pieces, after checking their numbers."""
    start = 0
    for block in source.blocks(selection.names, size):
        n = len(next(iter(block.values())))
        yield Chunk(
            start,
            _labels(source, selection.labels, block, start, n),
            np.arange(start, start + n) if selection.ids is None else block[selection.ids],
            _losses(source, selection.losses, block, start),
            _probs(source, selection.pred_probs, block, start),
            _groups(source, selection.groups, block),
        )
        start += n


class ColumnNames(NamedTuple):
    """The label of each column of probabilities.

    `doubt` is what to do about them where they were taken by their place, else nothing.
    """

    labels: list[Any]
    doubt: str = ""


def class_names(
    source: Source, selection: Selection, classes: list[Any], width: int
) -> ColumnNames:
    """Return the label of each column of probabilities.

    By the names of the columns where those are the labels, by the array ``class_names`` of an NPZ
    file, or else in the order of the sorted labels (numbers in text in that of the numbers).
    """
    if isinstance(source, ArraySource) and CLASS_NAMES in source.columns:
        names = _as_many(source, _listed_names(source), width)
        if numbered_names(source, classes):
            return ColumnNames(list(range(width)), BY_NUMBER)
        if not set(classes) <= set(names):
            stranger = next(label for label in classes if label not in names)
            raise bad_file(source.path, f"no {stranger!r} among {CLASS_NAMES!r}, but in the labels")
        return ColumnNames(names, f"{CLASS_NAMES!r} must be in it")
    if selection.class_texts is not None:
        named = _by_text(source, selection.class_texts, classes)
        if named is not None:
            return ColumnNames(named)
    return ColumnNames(_as_many(source, _in_order(source, classes), width), how_to_name(source))


def numbered_names(source: Source, classes: list[Any]) -> dict[Any, str]:
    """Return names by label, where an NPZ file has names of the labels 0, 1, ..., else nothing."""
    if not isinstance(source, ArraySource) or CLASS_NAMES not in source.columns:
        return {}
    names = _listed_names(source)
    if set(classes) <= set(names) or not all(_is_number_below(c, len(names)) for c in classes):
        return {}
    return {i: str(name) for i, name in enumerate(names)}


def _listed_names(source: ArraySource) -> list[Any]:
    names: list[Any] = as_cells(source.array(CLASS_NAMES)).tolist()
    if source.array(CLASS_NAMES).ndim == 1 and len(set(names)) == len(names):
        return names
    raise bad_file(source.path, f"{CLASS_NAMES!r} must be one name a column, each another one")


# -- names ------------------------------------------------------------------------------------


def _values_by_default(source: Source) -> tuple[str | None, str | None]:
    """Return the column of losses, or that of probabilities."""
    known = {*DEFAULTS["--losses"], *DEFAULTS["--pred-probs"]}
    found = [name for name in source.columns if name in known]
    if len(found) == 1:
        is_loss = found[0] in DEFAULTS["--losses"]
        return (found[0], None) if is_loss else (None, found[0])
    problem = f"both {found[0]!r} and {found[1]!r} are there" if found else "no losses are found"
    advice = "name what to use with --losses COL or --pred-probs COLS"
    raise bad_file(source.path, f"{problem}: {advice}; {columns_of(source)}")


def _losses_only(source: Source, losses: str | None, index: str | None, groups: str | None) -> bool:
    """Tell whether there is nothing in the file that could be labels.

    The numbers of the rows, which pandas writes into a column without a name, are none.
    """
    if losses is None:
        return False
    known = {losses, index, groups, "", "__index_level_0__"}
    others = set(source.columns) - (known - set(DEFAULTS["--labels"]))  # groups may be labels too
    return kind_of(source.path) == ".npy" or not others


def _columns_of_classes(source: Source, wanted: str) -> tuple[list[str], list[str] | None]:
    """Return the columns of probabilities, and the ends of their names."""
    if wanted in source.columns or wanted.endswith(".npy"):
        check_column(source, wanted)
        return [wanted], None
    names, texts = [], []
    for part in wanted.split(","):
        before, star, after = part.partition("*")
        if not star or part in source.columns:
            before, found, after = "", [part], ""
        else:
            found = [name for name in source.columns if fnmatchcase(name, part)]
        if not found:
            raise bad_file(source.path, f"no column is like {part!r}; {columns_of(source)}")
        for name in found:
            check_column(source, name)
        names += found
        texts += [name[len(before) : len(name) - len(after)] for name in found]
    if len(set(names)) < len(names):
        raise bad_file(source.path, f"--pred-probs {wanted} names a column twice")
    return names, texts


def _by_text(source: Source, texts: list[str], classes: list[Any]) -> list[Any] | None:
    """Return the labels that the names of columns end with; None where they are other names."""
    found = match_names(classes, texts)
    if found is not None:
        named = zip(found.places, found.ends, strict=True)
        return [_like(end, classes) if at is None else classes[at] for at, end in named]
    ends = Counter(map(loosely, texts))
    labels = sorted(map(name_of, classes))
    spelt: dict[Any, str] = {}
    for label in labels:
        first = spelt.setdefault(loosely(label), label)
        if first != label and ends[loosely(label)] == 1:
            problem = f"the labels {first!r} and {label!r} are two spellings for one column"
            raise bad_file(source.path, f"{problem} of --pred-probs: correct one of them")
    known = [label for label in labels if loosely(label) in ends]
    missing = [label for label in labels if label not in known] or sorted({*labels} - {*texts})
    if not known and (missing := without_name(classes, texts)):
        known = [label for label in classes if label not in missing]
    if known and missing:
        problem = f"a column for the label {known[0]!r} but none for {missing[0]!r}"
        raise bad_file(source.path, f"--pred-probs has {problem}{_of_nulls(classes)}")
    return None


def _like(text: str, classes: list[Any]) -> Any:
    """Return a label that does not occur in the type of those that do."""
    kind, number = type(classes[0]), number_of(text)
    if number is None or kind not in (int, float) or kind(number) != number:
        return text
    return kind(number)


def _in_order(source: Source, classes: list[Any]) -> list[Any]:
    try:
        if all(isinstance(label, str) and number_of(label) is not None for label in classes):
            return sorted(classes, key=lambda label: (number_of(label), label))
        return sorted(classes)
    except TypeError:
        problem = "labels of several types have no order: name the columns of --pred-probs by them"
        raise bad_file(source.path, f"{problem}{_of_nulls(classes)}") from None


def _of_nulls(classes: list[Any]) -> str:
    """Return what to do about labels that are null, where some are."""
    advice = (
        ". Some labels are null, which counts as the label None: leave out rows without a label"
    )
    return advice if None in classes else ""


def _as_many(source: Source, names: list[Any], width: int) -> list[Any]:
    if len(names) == width and width > 1:
        return names
    shown = ", ".join(repr(str(name)) for name in names[:_SHOWN])
    more = ", ..." if len(names) > _SHOWN else ""
    problem = f"{width} columns of probabilities do not fit {len(names)} labels ({shown}{more})"
    raise bad_file(source.path, f"{problem}: {how_to_name(source)}")


def how_to_name(source: Source) -> str:
    """Return how a file says which columns of probabilities are whose."""
    if isinstance(source, ArraySource):
        return f"add an array {CLASS_NAMES!r} with the label of each column"
    return "name the columns by their labels (p_cat,p_dog)"


# -- values -----------------------------------------------------------------------------------


def _labels(source: Source, name: str | None, block: Any, start: int, n: int) -> np.ndarray:
    if name is None:
        return np.full(n, "", dtype=object)  # not known
    labels = np.asarray(block[name])
    if labels.ndim != 1:
        raise _bad_array(source, name, "one label a row", labels)
    if labels.dtype.kind == "U" or set(map(type, labels.tolist())) == {str}:
        missing = labels == ""  # how a CSV file says that there is none
    else:
        missing = missing_values(labels)
    if missing.any():
        row = start + int(missing.argmax())
        raise bad_file(source.path, f"column {name!r} has no label in row {row} (from 0)")
    return labels


def _groups(source: Source, name: str | None, block: Any) -> np.ndarray | None:
    if name is None:
        return None
    groups = np.asarray(block[name])
    if groups.ndim != 1:
        raise _bad_array(source, name, "one group a row", groups)
    return as_cells(groups)


def _losses(source: Source, name: str | None, block: Any, start: int) -> FloatArray | None:
    """Return one loss a row: the mean of a history."""
    if name is None:
        return None
    table = _numbers(source, name, block[name], start)
    if table.ndim > 2 or 0 in table.shape[1:]:
        raise _bad_array(source, name, "one loss a row, or one column an epoch", table)
    if table.ndim == 2 and table.shape[1] > 2 and np.allclose(table.sum(axis=1), 1.0, atol=1e-3):
        problem = f"the rows of {name!r} sum to 1, which losses do not"
        raise bad_file(source.path, f"{problem}: give probabilities with --pred-probs")
    advice = "losses are cross-entropies here; a log-probability needs a minus sign"
    _check(source, name, table, table >= LOWEST, start, advice)
    return np.asarray(np.maximum(reduce_history(table), 0.0))


def _probs(source: Source, names: Sequence[str], block: Any, start: int) -> FloatArray | None:
    if not names:
        return None
    columns = [_numbers(source, name, block[name], start) for name in names]
    table = columns[0] if len(columns) == 1 else np.stack(columns, axis=-1)
    shown = names[0] if len(names) == 1 else f"{names[0]}, ..., {names[-1]}"
    if table.ndim != 2:
        advice = ": of two classes, write two columns, 1 - p and p" if table.ndim == 1 else ""
        raise _bad_array(source, shown, "a probability for each class in a row", table, advice)
    advice = "probabilities lie between 0 and 1"
    inside = (table >= 0.0) & (table <= 1.0 + ROW_SUM_TOLERANCE)
    for i, name in enumerate(names):
        part = np.s_[:, i : i + 1] if len(names) > 1 else np.s_[:]
        _check(source, name, table[part], inside[part], start, advice)
    off = miss_one(table)
    if off.any():
        row = int(off.argmax())
        total = f"sum to {table[row].sum():.6g} in row {start + row} (from 0)"
        advice = "--pred-probs must name all classes"
        raise bad_file(source.path, f"the probabilities {total}, not to 1: {advice}")
    return table


def _numbers(source: Source, name: str, values: np.ndarray, start: int) -> FloatArray:
    """Return finite numbers, or say in which row there are none."""
    try:
        if np.iscomplexobj(values):
            raise TypeError
        table = np.asarray(values).astype(np.float64)
        if values.dtype.kind in "OU" and not _are_plain(values.tolist()):
            raise TypeError
    except (TypeError, ValueError):
        cells = enumerate(values.tolist(), start)
        row, cell = next((i, v) for i, v in cells if not _is_number(v))
        what = f"column {name!r} has {str(cell)[:50]!r} in row {row} (from 0), which is no number"
        if cell is None or not str(cell).strip():
            what += f": {LEFT_OUT}"
        elif number_of(str(cell).replace(",", ".")) is not None:
            what += ": write decimal points"
        raise bad_file(source.path, what) from None
    finite = np.isfinite(table)
    advice = LEFT_OUT
    if not finite.all() and table[~finite][0] == np.inf:
        advice = "write 27.6 for such a loss, -log of 1e-12"
    _check(source, name, table, finite, start, advice)
    return table


def _are_plain(cells: list[Any]) -> bool:
    """Tell whether no cell is a number to Python only, such as 1_0."""
    text = "".join(cell for cell in cells if isinstance(cell, str))
    return (text.isascii() and "_" not in text) or all(map(_is_number, cells))


def _is_number_below(label: Any, end: int) -> bool:
    return isinstance(label, int) and not isinstance(label, bool) and 0 <= label < end


def _is_number(cell: Any) -> bool:
    try:
        value = float(cell)
    except (TypeError, ValueError):
        return False
    return not (isinstance(cell, str) and np.isfinite(value)) or number_of(cell) is not None


def _check(
    source: Source, name: str, table: FloatArray, good: np.ndarray, start: int, advice: str
) -> None:
    if not good.all():
        where = tuple(np.argwhere(~good)[0])
        got = f"{table[where]:.6g} in row {start + where[0]} (from 0)"
        raise bad_file(source.path, f"column {name!r} has {got}: {advice}")


def _bad_array(
    source: Source, name: str, expected: str, got: np.ndarray, advice: str = ""
) -> Exception:
    path = Path(name) if name.endswith(".npy") else source.path
    has = f"shape {got.shape[1:]}" if got.ndim > 1 else "one number"
    return bad_file(path, f"{name!r} must be {expected}, and has {has} a row{advice}")
