"""Labels of a file as a person corrected them: everything else in it stays as it was."""

from __future__ import annotations

import csv
import gzip
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from lossnoise._files import atomic_open
from lossnoise._names import loosely, number_of
from lossnoise._validation import require_extra
from lossnoise.audit._csv import (
    ReviewFile,
    ReviewRow,
    fingerprint,
    read_mark,
    read_review,
    writable,
)
from lossnoise.audit._files import (
    ArraySource,
    CsvSource,
    Source,
    bad_file,
    kind_of,
    open_source,
    open_text,
    reading,
)
from lossnoise.audit._inputs import as_cells
from lossnoise.audit._review import LabelTexts, PathOrPaths, review_files, review_labels
from lossnoise.audit._select import by_default, check_column, numbered_names

OWNER = "lossnoise review"


class FileReview(NamedTuple):
    """What a review changed.

    Attributes
    ----------
    num_reviewed : int
        Rows that somebody looked at.
    num_changed : int
        Labels that are now others than in the file.
    num_applied : int
        Labels that the file had corrected before.
    """

    num_reviewed: int
    num_changed: int
    num_applied: int


def review_file(
    reviews: PathOrPaths, file: Path, *, column: str | None, output: Path
) -> FileReview:
    """Write a file again with its labels corrected, whole or not at all.

    A review that was applied before changes nothing: its corrections are recognised, because with
    the labels as they were given the file is again the one that was audited.

    Parameters
    ----------
    reviews : Path, or several of them
        What `AuditReport.to_csv` wrote, and a person edited; several where people shared the rows.
    file : Path
        The labels that were audited, in their order.
    column : str, optional
        Which column they are; by default ``label`` or ``labels``.
    output : Path
        A file of the same kind, and another one.

    Raises
    ------
    InvalidDataError
        A review does not belong to these labels, contradicts itself or another one, or names a
        label that does not exist.
    """
    tables = review_files(OWNER, "CSV", reviews)
    if kind_of(output) != kind_of(file):
        raise bad_file(output, f"the corrected labels of {file} need the ending {kind_of(file)}")
    if any(_same_file(output, read) for read in (file, *(table.path for table in tables))):
        raise bad_file(output, "is read too: write to another file, so that nothing is lost")
    source = open_source(file)
    name = _label_column(source, column)
    stored = _read_labels(source, name)
    labels = as_cells(stored)  # dates by their text, as the review has them
    rows = [row for table in tables for row in _read_rows(table, labels, file)]
    names = numbered_names(source, list(set(labels.tolist())))
    known = {*labels.tolist()}
    if not names:  # else their numbers are known, and these texts are names
        kept = [row for row in rows if not row.is_edited]
        known |= _others("suggested", kept, labels)
    given = _as_audited(rows, labels, known, names, file)
    done = review_labels(
        tables,
        given,
        known=known | {*given.tolist()},
        names=names,
        index_of={row.position: row.position for row in rows},
        allow_new=False,
    )
    changed = np.flatnonzero(np.asarray(done.labels != labels))
    corrected = done.labels if labels is stored else done.labels.astype(stored.dtype)
    _write(source, name, output, corrected, changed)
    applied = len(done.changes) - len(changed)
    return FileReview(done.num_reviewed, len(changed), applied)


# -- what was audited -------------------------------------------------------------------------


def _label_column(source: Source, column: str | None) -> str:
    if kind_of(source.path) == ".npy":
        return source.columns[0]
    if column is None:
        return by_default(source, "--column")
    check_column(source, column)
    return column


def _read_labels(source: Source, name: str) -> np.ndarray:
    """Return all labels; equal texts are kept once."""
    once: dict[Any, Any] = {}
    pieces = []
    for block in source.blocks([name], 1 << 16):
        labels = block[name]
        if labels.ndim != 1:
            raise bad_file(source.path, f"{name!r} must be one label a row")
        if labels.dtype.kind == "O":
            kept = (once.setdefault(label, label) for label in labels.tolist())
            labels = np.fromiter(kept, dtype=object, count=len(labels))
        pieces.append(labels)
    if not pieces:
        raise bad_file(source.path, "no rows, and so no labels to correct")
    return np.concatenate(pieces)


def _read_rows(review: ReviewFile, labels: np.ndarray, file: Path) -> list[ReviewRow]:
    """Return the rows with a review, whatever labels they belong to."""
    rows = [row for row in read_review(review, read_mark(review)) if row.review.strip()]
    if any(row.position >= len(labels) for row in rows):
        raise _other_labels(review, file)
    return rows


def _others(column: str, rows: list[ReviewRow], labels: np.ndarray) -> set[Any]:
    """Return the labels in a column of reviews that do not occur in the file.

    Where a spreadsheet has spelt given labels anew, TRUE for True or 7 for 007, others in such a
    spelling are none: they are those that occur.
    """
    occurring = set(map(str, set(labels.tolist())))  # of any type: dates have no other text
    texts = {getattr(row, column) for row in rows} - occurring - {""}
    respelt = (row.given for row in rows if _is_respelt(row, str(labels[row.position])))
    of_numbers = {_is_number(text) for text in respelt}
    same = set(map(loosely, occurring)) if of_numbers else set()
    kept = (
        text for text in texts if loosely(text) not in same or _is_number(text) not in of_numbers
    )
    return {_like(text, labels) for text in kept}


def _is_respelt(row: ReviewRow, label: str) -> bool:
    """Tell whether a given label is spelt unlike that of its row, which no review has changed."""
    exact = {label, writable(label)}
    return (
        row.given not in exact and row.review not in exact and loosely(row.given) == loosely(label)
    )


def _is_number(text: str) -> bool:
    return number_of(text) is not None


def _as_audited(
    rows: list[ReviewRow], labels: np.ndarray, known: set[Any], names: dict[Any, str], file: Path
) -> np.ndarray:
    """Return the labels as they were audited: without what the reviews corrected before."""
    if not rows:
        return labels
    review = rows[0].file
    mark = read_mark(review)
    if fingerprint(labels) == mark:
        return labels
    gone = set() if names else _others("given", rows, labels)
    texts = LabelTexts(known | gone, names, allow_new=False)
    applied = (row for row in rows if row.given and _is_applied(row, labels, texts))
    before = {r.position: texts.label_of(r._replace(review=r.given)) for r in applied}
    given = labels.copy()
    if given.dtype.kind == "U" and before:
        width = max(map(len, before.values()))
        given = given.astype(np.promote_types(given.dtype, f"U{width}"))
    for position, label in before.items():
        given[position] = label
    if fingerprint(given) != mark:
        raise _other_labels(review, file)
    return given


def _is_applied(row: ReviewRow, labels: np.ndarray, texts: LabelTexts) -> bool:
    return texts.find(row.review) == {labels[row.position]}


def _other_labels(review: ReviewFile, file: Path) -> Exception:
    problem = f"a review of other labels than those of {file}, or of these in another order"
    advice = "give the file and the column that were audited, and all reviews of it at once"
    return bad_file(review.path, f"{problem}: {advice}")


def _like(text: str, labels: np.ndarray) -> Any:
    """Return the label that a text stands for, in the type of the others."""
    first = labels[:1].tolist()[0]
    if isinstance(first, bool):
        return text == "True"
    try:
        return type(first)(text) if isinstance(first, (int, float)) else text
    except ValueError:
        return text


def _same_file(one: Path, other: Path) -> bool:
    return one.exists() and other.exists() and one.samefile(other)


# -- the corrected file -----------------------------------------------------------------------


def _write(
    source: Source, name: str, output: Path, labels: np.ndarray, changed: np.ndarray
) -> None:
    """Write the file again with other labels."""
    with atomic_open(output.resolve(), "wb") as file, reading(source.path):
        if isinstance(source, CsvSource):
            new = dict(zip(changed.tolist(), map(str, labels[changed].tolist()), strict=True))
            _write_csv(source, name, file, new, compress=output.suffix.lower() == ".gz")
        elif not isinstance(source, ArraySource):
            _write_parquet(source, name, file, labels)
        elif kind_of(source.path) == ".npy":
            np.save(file, labels, allow_pickle=False)
        else:
            _write_npz(source, name, file, labels)


def _write_csv(
    source: CsvSource, name: str, file: IO[bytes], new: dict[int, str], *, compress: bool
) -> None:
    """Copy lines as they are, but for those whose label changes."""
    # Without a time, so that the same labels give the same bytes.
    raw: Any = gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) if compress else file
    text = io.TextIOWrapper(raw, encoding="utf-8", newline="")
    with open_text(source.path, encoding="utf-8") as lines:  # a byte order mark stays too
        text.writelines(_corrected(lines, source, source.columns.index(name), new))
    text.flush()
    text.detach()
    if compress:
        raw.close()


def _corrected(lines: IO[str], source: CsvSource, at: int, new: dict[int, str]) -> Iterator[str]:
    """Yield the text of each row, its label replaced where there is a new one."""
    read: list[str] = []

    def recorded() -> Iterator[str]:
        for line in lines:
            read.append(line)
            yield line

    position = -1  # the header is no row
    for i, cells in enumerate(csv.reader(recorded(), delimiter=source.separator)):
        text = "".join(read)
        read.clear()
        position += bool(cells) and i > 0
        if cells and i and position in new:
            cells[at] = new[position]
            text = _line(cells, source.separator, text[len(text.rstrip("\r\n")) :])
        yield text


def _line(cells: list[str], separator: str, ending: str) -> str:
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=separator, lineterminator=ending).writerow(cells)
    return text.getvalue()


def _write_parquet(source: Source, name: str, file: IO[bytes], labels: np.ndarray) -> None:
    arrow = require_extra("pyarrow", "audit", OWNER)
    parquet = require_extra("pyarrow.parquet", "audit", OWNER)
    with parquet.ParquetFile(source.path) as old:
        field = old.schema_arrow.field(name)
        at, start = old.schema_arrow.get_field_index(name), 0
        with parquet.ParquetWriter(file, old.schema_arrow) as writer:
            for i in range(old.num_row_groups):
                table = old.read_row_group(i)
                cells = labels[start : start + len(table)].tolist()
                start += len(table)
                writer.write_table(table.set_column(at, field, arrow.array(cells, field.type)))


def _write_npz(source: Source, name: str, file: IO[bytes], labels: np.ndarray) -> None:
    """Copy the arrays as they are, but for the labels."""
    with zipfile.ZipFile(source.path) as old, zipfile.ZipFile(file, "w") as new:
        for member in old.infolist():
            content = old.read(member)
            if member.filename == f"{name}.npy":
                buffer = io.BytesIO()
                np.lib.format.write_array(buffer, np.asarray(labels), allow_pickle=False)
                content = buffer.getvalue()
            new.writestr(member, content, compress_type=member.compress_type)
