"""The review file: what a cell looks like in it, and how it comes back from a spreadsheet.

A row is found again by its key, ``row-<fingerprint>-<suggestion>-<position>``, which no spreadsheet
changes; the other cells are for people.
"""

from __future__ import annotations

import codecs
import csv
import io
import os
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from itertools import zip_longest
from pathlib import Path
from typing import IO, Any, NamedTuple

from lossnoise._files import atomic_open
from lossnoise._labels import one_dimensional
from lossnoise._names import loosely, number_of
from lossnoise._validation import invalid_data
from lossnoise.audit._inputs import as_cells
from lossnoise.exceptions import InvalidDataError

# In the order of the file; a person writes into ``review``.
ISSUE_COLUMNS = (
    "given_label",
    "suggested_label",
    "review",
    "suggested_confidence",
    "loss",
    "p_noisy",
    "is_label_issue",
    "rank",
    "label_score",
    "row_key",
)
GIVEN, SUGGESTED, REVIEW, KEY = "given_label", "suggested_label", "review", "row_key"
COLUMNS_READ = (GIVEN, SUGGESTED, REVIEW, KEY)

# A spreadsheet runs a cell that begins so as a formula; the apostrophe itself, so that a cell
# that begins with one comes back as well. https://owasp.org/www-community/attacks/CSV_Injection
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "'")

_SEPARATORS = (",", ";", "\t")
_LONGEST_CELL = (1 << 31) - 1  # the csv module stops at 128 KB, which is less than a long text


class ReviewFile(NamedTuple):
    """A review file, and what reads it: by which parameter of which owner."""

    owner: str
    parameter: str
    path: Path

    def refuse(self, expected: str, got: str, advice: str = "") -> InvalidDataError:
        """Return the error for a file that is no review, or none of these labels."""
        return invalid_data(self.owner, self.parameter, expected, got, advice)


class ReviewRow(NamedTuple):
    """What a review file says of one row.

    The given and the suggested label are empty where it has no such column; `is_edited` tells
    whether somebody wrote another suggestion, and `is_bare` whether there is such a column, but
    nothing in its cell for the given label.
    """

    file: ReviewFile
    line: int
    position: int
    review: str
    given: str = ""
    suggested: str = ""
    is_edited: bool = False
    is_bare: bool = False

    @property
    def place(self) -> str:
        """Return where the row stands, in words."""
        return f"line {self.line} of {self.file.path.name}"


def harmless(cell: Any) -> str:
    """Return the text of a cell that no spreadsheet runs as a formula; numbers stay as they are."""
    if isinstance(cell, (int, float)):
        return str(cell)
    text = writable(cell)
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text


def writable(cell: Any) -> str:
    """Return the text of a cell in which halves of characters, as in some paths, are spelt out."""
    text = str(cell)
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")


def restore(cell: str) -> str:
    """Return the text that `harmless` made a cell of."""
    return cell[1:] if cell.startswith("'") and cell[1:].startswith(FORMULA_STARTS) else cell


def fingerprint(labels: Any) -> str:
    """Return what tells labels, in their order, from others: by their text, as files keep it."""
    return fingerprint_of_texts(map(str, as_cells(one_dimensional(labels)).tolist()))


def fingerprint_of_texts(texts: Iterable[str]) -> str:
    """Return the fingerprint of labels that are known by their text."""
    mark = LabelMark()
    mark.add(texts)
    return mark.hexdigest()


class LabelMark:
    """Fingerprint of labels that come in pieces."""

    def __init__(self) -> None:
        self._found = blake2b(digest_size=6)

    def add(self, texts: Iterable[str]) -> None:
        """Go on with the texts of more labels."""
        texts = list(texts)
        coded = {text: _coded(text) for text in set(texts)}  # few labels, many times
        self._found.update(b"".join(map(coded.__getitem__, texts)))

    def hexdigest(self) -> str:
        """Return 12 characters that change when a label or the order does."""
        return self._found.hexdigest()


def _coded(text: str) -> bytes:
    raw = text.encode("utf-8", "surrogatepass")
    return len(raw).to_bytes(4, "little") + raw


def row_key(mark: str, position: int, suggested: str) -> str:
    """Return the key of a row of the labels with this fingerprint, and of what is suggested."""
    return f"row-{mark}-{_suggestion_mark(suggested)}-{position}"


def _suggestion_mark(text: str) -> str:
    """Return what changes when a suggestion does, but not when a spreadsheet spells it anew."""
    number = number_of(text)
    spelt = str(loosely(text) if number is None else float(number))  # 7 and 7.0 are the same
    return blake2b(spelt.encode(), digest_size=2).hexdigest()


def write_issues(
    target: ReviewFile,
    header: str,
    rows: Iterable[Any],
    mark: str,
    names: dict[Any, str],
    *,
    overwrite: bool,
) -> None:
    """Write rows of a report as a file to review, whole or not at all.

    `header` names the index; `names` are shown in place of labels that have one.

    Raises
    ------
    InvalidDataError
        Somebody has written into the file that stands there, and `overwrite` is not set.
    """
    if not overwrite and target.path.is_file() and (written := count_written(target)):
        expected = "a file that nobody has filled in, unless overwrite=True"
        got = f"{target.path.name} with {written:,} reviews or notes that would be lost"
        raise target.refuse(expected, got, "apply them with apply_review, or write another file")
    with atomic_open(os.path.realpath(target.path), newline="", encoding="utf-8-sig") as file:
        _write_rows(file, header, rows, mark, names)


def _write_rows(
    file: IO[str], header: str, rows: Iterable[Any], mark: str, names: dict[Any, str]
) -> None:
    writer = csv.writer(file)
    writer.writerow([harmless(header), *ISSUE_COLUMNS])
    for row in rows:
        known = row._asdict() | {"review": ""}
        for label in ("given_label", "suggested_label") if names else ():
            known[label] = names.get(known[label], known[label])
        if row.suggested_confidence is None and row.suggested_label is None:
            known["suggested_label"] = ""  # nothing suggested, where None may be a label
        known["row_key"] = row_key(mark, row.position, writable(known["suggested_label"]))
        numbers = {"suggested_confidence", "loss", "label_score"}
        cells = (known[name] for name in ("index", *ISSUE_COLUMNS))
        named = zip(("index", *ISSUE_COLUMNS), cells, strict=True)
        writer.writerow("" if c is None and n in numbers else harmless(c) for n, c in named)


def read_review(file: ReviewFile, mark: str) -> Iterator[ReviewRow]:
    """Yield the rows of a review file, also those without a review.

    Raises
    ------
    InvalidDataError
        The file is no review of these labels.
    """
    header, rows = _read_cells(file)
    for line, cells in rows:
        row = dict(zip(header, cells, strict=False))
        key = row.get(KEY, "").strip()
        if not any(cell.strip() for cell in cells):
            continue  # spreadsheets leave empty lines
        position, suggestion = _read_key(file, line, key, mark)
        review, given, suggested = (
            restore(row.get(name, "")) for name in (REVIEW, GIVEN, SUGGESTED)
        )
        is_edited = SUGGESTED in row and suggestion != _suggestion_mark(suggested)
        is_bare = GIVEN in row and not given.strip()
        yield ReviewRow(file, line, position, review, given, suggested, is_edited, is_bare)


def read_mark(file: ReviewFile) -> str:
    """Return the fingerprint of the labels that a review file belongs to; empty without rows."""
    header, rows = _read_cells(file)
    for _, cells in rows:
        kind, mark, *_ = _split_key(dict(zip(header, cells, strict=False)).get(KEY, "").strip())
        if kind == "row":
            return mark
    return ""


def count_written(file: ReviewFile) -> int:
    """Return how many rows of a file somebody wrote into, whatever else is wrong with it."""
    try:
        text = _decode(file)
    except InvalidDataError:  # a spreadsheet may save other than UTF-8
        text = file.path.read_bytes().decode("latin-1")
    header, rows = _parse(text)
    return sum(_is_written(header, cells) for _, cells in rows) if KEY in header else 0


def _is_written(header: list[str], cells: list[str]) -> bool:
    """Tell whether somebody wrote into a row: a review, a note, or another suggestion."""
    kept = {*ISSUE_COLUMNS} - {REVIEW}
    index = header.index(GIVEN) - 1 if GIVEN in header else 0
    first = 0 if not header[0] else index  # pandas puts its own index before
    named = enumerate(zip_longest(header, cells, fillvalue=""))  # notes may stand under no name
    if any(
        cell.strip() and name not in kept and (name == REVIEW or i not in (first, index))
        for i, (name, cell) in named
    ):
        return True
    row = dict(zip(header, cells, strict=False))
    kind, _, suggestion, number = _split_key(row.get(KEY, "").strip())
    if kind != "row" or not number:
        return any(cell.strip() for cell in cells)  # a line that was written by hand
    suggested = restore(row.get(SUGGESTED, ""))
    return bool(suggested.strip()) and suggestion != _suggestion_mark(suggested)


def _read_key(file: ReviewFile, line: int, key: str, mark: str) -> tuple[int, str]:
    """Return the position of a row, and what tells its suggestion from another."""
    kind, found, suggestion, number = _split_key(key)
    if kind != "row" or not (number.isascii() and number.isdigit() and suggestion):
        expected = f"a file of AuditReport.to_csv, with its {KEY!r} column as it was"
        raise file.refuse(expected, f"{key!r} in line {line} of {file.path.name}")
    if found != mark:
        expected = "a review of the labels that were audited"
        got = f"one of other labels, or of these in another order (line {line} of {file.path.name})"
        advice = "apply it to those labels, unchanged and in their order, or audit again"
        raise file.refuse(expected, got, advice)
    return int(number), suggestion


def _split_key(key: str) -> tuple[str, str, str, str]:
    """Return the kind of a key, the marks of the labels and of the suggestion, the position."""
    kind, found, suggestion, number = (*key.split("-", 3), "", "", "")[:4]
    return kind, found, suggestion, number


def _read_cells(file: ReviewFile) -> tuple[list[str], Iterator[tuple[int, list[str]]]]:
    """Return the header of a file and an iterator of its lines, however a spreadsheet saved it."""
    header, rows = _parse(_decode(file))
    if REVIEW not in header or KEY not in header:
        expected = f"a file of AuditReport.to_csv, with the columns {REVIEW!r} and {KEY!r}"
        raise file.refuse(expected, f"{file.path.name} with the columns {header}")
    if twice := [name for name in COLUMNS_READ if header.count(name) > 1]:
        expected = f"a file of AuditReport.to_csv, with one column {twice[0]!r}"
        got = f"{file.path.name} with {header.count(twice[0])} of them"
        raise file.refuse(expected, got, "keep the one that counts, and give others another name")
    return header, rows


def _parse(text: str) -> tuple[list[str], Iterator[tuple[int, list[str]]]]:
    file = io.StringIO(text, newline="")
    separator, names = read_header(file)
    reader = csv.reader(file, delimiter=separator)
    next(reader, None)
    return _own_names(names), ((reader.line_num, row) for row in reader)


def _own_names(header: list[str]) -> list[str]:
    """Return the names of columns; those that are read in the case that they were written in.

    The index, before the given labels, may be called as any of them.
    """
    names = [restore(name).strip() for name in header]
    names = [name.casefold() if name.casefold() in COLUMNS_READ else name for name in names]
    if names[1:2] == [GIVEN] and names[0] in names[1:]:
        names[0] = "index"
    return names


def read_header(file: IO[str]) -> tuple[str, list[str]]:
    """Return the separator of a file and its columns, which are the most with it, and rewind."""
    csv.field_size_limit(_LONGEST_CELL)
    headers = []
    for separator in _SEPARATORS:  # quoted names may hold others, and line ends
        headers.append((separator, next(csv.reader(file, delimiter=separator), [])))
        file.seek(0)
    return max(headers, key=lambda header: (KEY in header[1], len(header[1])))


def _decode(file: ReviewFile) -> str:
    raw = file.path.read_bytes()
    wide = raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return raw.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        expected = "in UTF-8; spreadsheets call it 'CSV UTF-8' when they save"
        got = f"other bytes in {file.path.name} (at {error.start})"
        raise file.refuse(expected, got) from error
