"""Labels as a person corrected them: `AuditReport.apply_review`, and the same for files."""

from __future__ import annotations

import os
from collections.abc import Container, Iterable, Mapping, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lossnoise._labels import as_list, object_array, one_dimensional
from lossnoise._names import loosely, number_of
from lossnoise._pandas import is_pandas
from lossnoise._validation import invalid_data, nearest_name
from lossnoise._warnings import warn
from lossnoise.audit._csv import ReviewFile, ReviewRow, fingerprint, read_review, writable
from lossnoise.audit._inputs import as_cells
from lossnoise.exceptions import NewLabelWarning

# Of a new label and another: a letter more, less or, of four, another one. "cat" and "rat" differ.
NEARLY = 0.75

PathOrPaths: TypeAlias = "str | os.PathLike[str] | Iterable[str | os.PathLike[str]]"


class LabelChange(NamedTuple):
    """One label that a review changed.

    Attributes
    ----------
    position : int
        Row, from 0, in the order of the labels.
    index : object
        What names the row.
    given_label, new_label : object
        The label before and after.
    """

    position: int
    index: Any
    given_label: Any
    new_label: Any


class ReviewedLabels(NamedTuple):
    """Labels after a review.

    Attributes
    ----------
    labels : ndarray, Series, Index or Categorical of shape (n,)
        All labels in the order that they were given: a pandas object where one was given, else an
        array of the same dtype, or of a wider one where a new label needs it.
    changes : list of LabelChange
        Labels that differ from the given ones, in the order of the rows.
    num_reviewed : int
        Rows that somebody looked at, whether or not the label changed.
    is_reviewed : ndarray of shape (n,), bool
        Which rows those are, in the order of the labels.
    """

    labels: Any
    changes: list[LabelChange]
    num_reviewed: int
    is_reviewed: NDArray[np.bool_]


def review_files(owner: str, parameter: str, paths: PathOrPaths) -> list[ReviewFile]:
    """Return the review files that one path names, or several."""
    if hasattr(paths, "columns"):
        advice = "save it first, as to_csv(path, index=False) of pandas does"
        expected = "the path of a review, or several"
        raise invalid_data(owner, parameter, expected, f"a {type(paths).__name__}", advice)
    several = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
    if not several:
        raise invalid_data(owner, parameter, "the path of a review, or several", "none")
    return [ReviewFile(owner, parameter, Path(path)) for path in several]


def review_labels(
    files: Sequence[ReviewFile],
    labels: Any,
    *,
    known: Iterable[Any],
    names: dict[Any, str],
    index_of: Mapping[int, Any],
    allow_new: bool,
) -> ReviewedLabels:
    """Apply the reviews in files to labels.

    `known` are the labels that a review may name, and `index_of` has what names the audited rows,
    by position.
    """
    given = one_dimensional(labels)
    cells = as_list(given)
    texts = LabelTexts(known, names, allow_new=allow_new and _all_strings(given))
    chosen: dict[int, Any] = {}
    places: dict[int, str] = {}
    mark = fingerprint(labels)
    for file in files:
        rows = list(read_review(file, mark))
        reviewed = [row for row in rows if row.review.strip()]
        _check_audited(reviewed, index_of)
        kept = check_given(rows, cells, texts)
        _check_suggested(rows, texts)
        texts.check_known(reviewed)
        for row in reviewed:
            label = texts.label_of(row, kept=kept)
            place = places.setdefault(row.position, row.place)
            if chosen.setdefault(row.position, label) != label:
                both = f"{chosen[row.position]!r} ({place}) and {label!r} ({row.place})"
                raise row.file.refuse("one label for a row", f"{both} for row {row.position}")
    changes = [
        LabelChange(at, index_of[at], cells[at], label)
        for at, label in sorted(chosen.items())
        if label != cells[at]
    ]
    is_reviewed = np.zeros(len(cells), dtype=bool)
    is_reviewed[list(chosen)] = True
    return ReviewedLabels(replace_labels(labels, given, changes), changes, len(chosen), is_reviewed)


def _check_audited(rows: Iterable[ReviewRow], audited: Container[int]) -> None:
    for row in rows:
        if row.position not in audited:
            got = f"row {row.position} in {row.place}, which was not audited"
            raise row.file.refuse("a review of rows that were audited", got)


def _check_suggested(rows: Iterable[ReviewRow], texts: LabelTexts) -> None:
    """Refuse labels that were written over the suggested ones, where they would count for nothing.

    A text that is no label may be what a spreadsheet has made of the suggestion.
    """
    for row in rows:
        is_text = bool(row.suggested.strip())  # to clear the cell says nothing
        if row.is_edited and is_text and not row.review.strip() and texts.find(row.suggested):
            got = f"{row.suggested!r} in place of another suggested label ({row.place})"
            advice = "write it into the column 'review', and nothing into others"
            raise row.file.refuse("a review whose other columns are as they were", got, advice)


def check_given(rows: Sequence[ReviewRow], labels: Sequence[Any], texts: LabelTexts) -> bool:
    """Return whether the given labels in a file are still spelt as they were written.

    A given label that is another one than that of its row, by its key, was moved, and is refused;
    one that is none of them, such as a date of a spreadsheet, tells nothing of its row. None at
    all is refused: what took it away, as pandas does "None", took reviews with it.
    """
    kept = True
    for row in rows:
        if not (row.given or row.is_bare) or row.position >= len(labels):
            continue
        label = labels[row.position]
        if label in texts.exactly(row.given):
            continue
        if row.is_bare:
            _check_bare(row, texts.shown(label))
            continue
        kept = False
        found = texts.exactly(row.given) | texts.roughly(row.given)
        if found and label not in found:
            expected = "a review whose rows still have their own key and given label"
            got = f"{row.given!r} in {row.place}, whose key is that of a row with {str(label)!r}"
            advice = "sort all columns together, and write into the column 'review' only"
            raise row.file.refuse(expected, got, advice)
    return kept


def _check_bare(row: ReviewRow, label: str) -> None:
    """Refuse a row whose given label is gone, unless nobody can see it either."""
    if label.strip():
        got = f"an empty cell in place of {label!r} in {row.place}"
        advice = "pandas empties cells such as 'NA', also reviews: read with keep_default_na=False"
        raise row.file.refuse("a review whose given labels are still there", got, advice)


class LabelTexts:
    """What a person may write for each label.

    The text of the label, or the name that is shown for it. Spreadsheets turn ``007`` into 7 and
    ``true`` into TRUE: a number or a word in another case counts where it fits one label only.
    """

    def __init__(self, known: Iterable[Any], names: dict[Any, str], *, allow_new: bool) -> None:
        self._exact: dict[str, set[Any]] = {}
        self._loose: dict[Any, set[Any]] = {}
        self._allow_new = allow_new
        self._new: set[str] = set()
        self._names = names
        for label in {*known, *names}:
            for text in map(writable, {str(as_text(label)), names.get(label, str(label))}):
                self._exact.setdefault(text, set()).add(label)
                self._loose.setdefault(loosely(text), set()).add(label)

    def shown(self, label: Any) -> str:
        """Return what stands in a file for a label."""
        return self._names.get(label, as_text(label))

    def exactly(self, text: str) -> set[Any]:
        """Return the labels that are written so."""
        return self._exact.get(text, set())

    def roughly(self, text: str) -> set[Any]:
        """Return the labels that a spreadsheet may have turned into a text."""
        return self._loose.get(loosely(text), set())

    def find(self, text: str) -> set[Any]:
        """Return the labels that a text fits."""
        exact = self.exactly(text)
        return exact if len(exact) == 1 else self.roughly(text)

    def check_known(self, rows: Sequence[ReviewRow]) -> None:
        """Refuse the texts of a file that fit no label, all of them at once."""
        strange: dict[str, list[ReviewRow]] = {}
        for row in [] if self._allow_new else rows:
            if not self.find(row.review) and not self.roughly(row.review):
                strange.setdefault(row.review.strip(), []).append(row)
        if strange:
            first = next(iter(strange.values()))[0]
            advice = nearest_name(first.review, self._exact) or f"labels are {_some(self._exact)}"
            known = "a review with labels that occur, and nothing where nobody can tell"
            raise first.file.refuse(known, _listed(strange), advice)

    def label_of(self, row: ReviewRow, *, kept: bool = True) -> Any:
        """Return the label that a review names.

        Where a spreadsheet has changed what stood in the file (not `kept`), a number is also that
        of each label that it may have made it of: 1.10 and 1.1 are both 1.1.
        """
        is_sure = kept or number_of(row.review) is None
        found = self.find(row.review) if is_sure else self.roughly(row.review)
        if self._allow_new and not self.exactly(row.review) and not _of_spreadsheet(row.review):
            found = set()
        if len(found) == 1:
            return next(iter(found))
        if found:
            got = f"{row.review!r} in {row.place}, which fits {len(found)} labels"
            raise row.file.refuse("a review of labels that differ as text", got)
        self.check_known([row])
        return self._new_label(row)

    def _new_label(self, row: ReviewRow) -> str:
        """Return a label that did not occur; warn, once, of one that may be a typing error."""
        label = row.review.strip()
        is_told = label in self._new or number_of(label) is not None  # all numbers are alike
        if not is_told and (near := nearest_name(label, self._exact, NEARLY)):
            new = f"A review names the new label {label!r} ({row.place})"
            warn(f"{new}: {near}. Write that if it was meant.", NewLabelWarning)
        self._new.add(label)
        return label


def replace_labels(labels: Any, given: np.ndarray, changes: list[LabelChange]) -> Any:
    """Return a copy of labels with the changes made."""
    at = np.array([change.position for change in changes], dtype=np.intp)
    new = [change.new_label for change in changes]
    if is_pandas(labels, "Series", "Categorical", "Index"):
        return _replace_in_pandas(labels, at, new)
    corrected = given.astype(_wide_enough(given.dtype, new))  # a copy
    corrected[at] = object_array(new) if corrected.dtype.kind == "O" else new
    return corrected


def as_text(label: Any) -> str:
    """Return a label as it stands in a file."""
    return str(as_cells(np.asarray([label])).tolist()[0]) if hasattr(label, "dtype") else str(label)


def _replace_in_pandas(labels: Any, at: NDArray[np.intp], new: list[Any]) -> Any:
    if is_pandas(labels, "Index"):
        series = labels.to_series()
        return type(labels)(_replace_in_pandas(series, at, new), name=labels.name)
    corrected = labels.copy()
    if is_pandas(corrected.dtype, "CategoricalDtype"):
        categorical = corrected.cat if is_pandas(corrected, "Series") else corrected
        strangers = [label for label in dict.fromkeys(new) if label not in categorical.categories]
        corrected = categorical.add_categories(strangers)
    corrected = corrected.astype(_wide_in_pandas(corrected.dtype, new))
    for position, label in zip(at.tolist(), new, strict=True):
        if is_pandas(corrected, "Series"):
            corrected.iloc[position] = label
        else:
            corrected[position] = label
    return corrected


def _wide_enough(dtype: np.dtype[Any], new: list[Any]) -> np.dtype[Any]:
    """Return the dtype, or one that has place for new labels too."""
    if dtype.kind in "US" and new:
        return np.promote_types(dtype, np.asarray(new).dtype)
    if dtype.kind not in "iu":
        return dtype
    if not all(isinstance(label, Integral) for label in new):
        return np.dtype(object)
    info = np.iinfo(dtype)
    return np.result_type(
        dtype, *(np.min_scalar_type(label) for label in new if not info.min <= label <= info.max)
    )


def _wide_in_pandas(dtype: Any, new: list[Any]) -> Any:
    """Return the dtype of pandas, or one of the same kind that has place for new labels too."""
    narrow = getattr(dtype, "numpy_dtype", dtype)
    if getattr(dtype, "kind", "") not in ("i", "u"):
        return dtype
    wide = _wide_enough(narrow, new)
    if wide == narrow:
        return dtype
    if narrow is dtype or wide.kind == "O":
        return wide
    if str(dtype).endswith("[pyarrow]"):
        return f"{wide.name}[pyarrow]"
    return wide.name.replace("uint", "UInt").replace("int", "Int")


def _of_spreadsheet(text: str) -> bool:
    """Tell whether a text is what a spreadsheet may make of another: 7 of 007, not 07 of 7."""
    number = number_of(text)
    return number is None or text.strip() in (str(number), str(float(number)))


def _all_strings(given: np.ndarray) -> bool:
    return given.dtype.kind == "U" or all(isinstance(label, str) for label in given.tolist())


def _listed(strange: dict[str, list[ReviewRow]], most: int = 5) -> str:
    """Return texts that fit no label, and where each stands."""
    shown = [
        f"{text!r} in {rows[0].place}" + (f" and {len(rows) - 1:,} more" if len(rows) > 1 else "")
        for text, rows in list(strange.items())[:most]
    ]
    rest = len(strange) - most
    return "; ".join([*shown, *([f"and {rest:,} more"] if rest > 0 else [])])


def _some(texts: Iterable[str], most: int = 20) -> str:
    shown = [repr(text) for text in sorted(texts)]
    return ", ".join(shown[:most]) + (", ..." if len(shown) > most else "")
