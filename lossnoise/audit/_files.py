"""Files of rows, read in pieces: CSV, Parquet, NPY and NPZ under one interface.

The rows of an NPY or NPZ file are the entries of its arrays. Cells of a CSV file stay text, so that
leading zeros survive.
"""

from __future__ import annotations

import csv
import gzip
import io
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np

from lossnoise._labels import object_array
from lossnoise._validation import require_extra
from lossnoise.audit._csv import read_header
from lossnoise.exceptions import InvalidDataError, LossNoiseError

Block = dict[str, np.ndarray]

LOSSES = "losses"  # what the only array of an NPY file is called

# Rows of a CSV file that are lists at a time: Python's garbage collector would look at more of
# them again and again.
AT_ONCE = 1 << 11

# What the readers raise for files that are damaged, or of another kind than their name says.
UNREADABLE = (
    ValueError,
    EOFError,
    NotImplementedError,
    csv.Error,
    zlib.error,
    zipfile.BadZipFile,
    gzip.BadGzipFile,
)


def bad_file(path: Path, problem: str) -> InvalidDataError:
    """Return the error for a file that cannot be used."""
    return InvalidDataError(f"{path}: {problem}")


class Source(ABC):
    """A file with one row a label, which may be larger than the memory.

    Parameters
    ----------
    path : Path
        The file.

    Attributes
    ----------
    columns : list of str
        What it holds, by name.
    """

    columns: list[str]

    def __init__(self, path: Path) -> None:
        self.path = path

    def blocks(self, names: Sequence[str], size: int) -> Iterator[Block]:
        """Yield the columns of some names, at most `size` rows at a time.

        A name that is no column, and ends in ``.npy``, is that of another file with as many rows.
        """
        others = {name: load_npy(Path(name)) for name in names if name not in self.columns}
        own = [name for name in names if name in self.columns] or self.columns[:1]
        start = 0
        for block in self._blocks(own, size):
            stop = start + len(block[own[0]])
            yield block | {name: array[start:stop] for name, array in others.items()}
            start = stop
            self._check_lengths(others, at_least=start)
        self._check_lengths(others, at_least=start, at_most=start)

    def of_length(self, names: list[str], other: str) -> list[str]:
        """Return those of the columns that have as many rows as another one."""
        return names

    @abstractmethod
    def _blocks(self, names: list[str], size: int) -> Iterator[Block]:
        """Yield columns of the file itself."""

    def _check_lengths(
        self, others: Block, *, at_least: int, at_most: int | float = float("inf")
    ) -> None:
        for name, array in others.items():
            if not at_least <= len(array) <= at_most:
                raise bad_file(Path(name), f"{len(array):,} rows, not as many as {self.path}")


class CsvSource(Source):
    """A CSV file whose first line names the columns; also compressed, as ``.csv.gz``."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        with reading(path), open_text(path) as file:
            self.separator, self.columns = read_header(file)
        if not self.columns:
            raise bad_file(path, "the file is empty: its first line must name the columns")

    def _blocks(self, names: list[str], size: int) -> Iterator[Block]:
        at = [self.columns.index(name) for name in names]
        with reading(self.path), open_text(self.path) as file:
            rows = csv.reader(file, delimiter=self.separator)
            next(rows)
            start = 0
            while cells := self._cells(rows, at, size, start):
                start += len(cells[0])
                columns = (np.array(column, dtype=object) for column in cells)
                yield dict(zip(names, columns, strict=True))

    def _cells(self, rows: Any, at: list[int], size: int, start: int) -> list[list[str]]:
        """Return some columns of the next rows; no column at the end of the file."""
        columns: list[list[str]] = [[] for _ in at]
        while len(columns[0]) < size and (piece := list(islice(rows, min(size, AT_ONCE)))):
            if set(map(len, piece)) != {len(self.columns)}:
                piece = [row for row in piece if row]  # no blank lines
                self._check_widths(piece, start + len(columns[0]))
            for column, i in zip(columns, at, strict=True):
                column += [row[i] for row in piece]
        return columns if columns[0] else []

    def _check_widths(self, rows: list[list[str]], start: int) -> None:
        width = len(self.columns)
        for i, row in enumerate(rows, start):
            if len(row) != width:
                problem = f"row {i} (from 0) has {len(row)} cells, but the header has {width}"
                raise bad_file(self.path, f"{problem}: quote cells that hold {self.separator!r}")


class ParquetSource(Source):
    """A Parquet file, read in batches."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.columns = list(self._open().schema_arrow.names)

    def _open(self) -> Any:
        parquet = require_extra("pyarrow.parquet", "audit", f"Reading {self.path.name}")
        with reading(self.path):
            return parquet.ParquetFile(self.path)

    def _blocks(self, names: list[str], size: int) -> Iterator[Block]:
        with self._open() as file, reading(self.path):
            for batch in file.iter_batches(batch_size=size, columns=names):
                yield {name: from_arrow(batch.column(name)) for name in names}


class ArraySource(Source):
    """Arrays of an NPY or NPZ file: the former stays on disk, of the latter those asked for."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._arrays: Block = {}
        if kind_of(path) == ".npy":
            self._arrays[LOSSES] = load_npy(path)
            self.columns = [LOSSES]
        else:
            with reading(path), self._open() as archive:
                self.columns = list(archive.files)

    @contextmanager
    def _open(self) -> Iterator[Any]:
        with open(self.path, "rb") as file:  # numpy leaves it open where it is no archive
            archive = np.load(file, allow_pickle=False)
            if not hasattr(archive, "files"):
                raise bad_file(self.path, "no NPZ file, in spite of its name")
            yield archive

    def array(self, name: str) -> np.ndarray:
        """Return one array, whole."""
        if name not in self._arrays:
            with reading(self.path), self._open() as archive:
                self._arrays[name] = archive[name]
        if not self._arrays[name].ndim:
            raise bad_file(self.path, f"{name!r} is a single value, not an array")
        return self._arrays[name]

    def of_length(self, names: list[str], other: str) -> list[str]:
        """Return those of the arrays that have as many entries as another one."""
        n = len(self.array(other)) if other in self.columns else -1
        return [name for name in names if self._length(name) == n]

    def _length(self, name: str) -> int:
        try:
            return len(self.array(name))
        except InvalidDataError:  # a single value, or Python objects
            return -2

    def _blocks(self, names: list[str], size: int) -> Iterator[Block]:
        lengths = {name: len(self.array(name)) for name in names}
        if len(set(lengths.values())) > 1:
            found = ", ".join(f"{name!r} has {n:,} rows" for name, n in lengths.items())
            raise bad_file(self.path, f"arrays of one length are needed, but {found}")
        for start in range(0, lengths[names[0]], size):
            yield {name: self.array(name)[start : start + size] for name in names}


KINDS: dict[str, type[Source]] = {
    ".csv": CsvSource,
    ".csv.gz": CsvSource,
    ".tsv": CsvSource,
    ".parquet": ParquetSource,
    ".npy": ArraySource,
    ".npz": ArraySource,
}


def kind_of(path: Path) -> str:
    """Return the ending that says what kind of file it is."""
    for ending in KINDS:
        if path.name.lower().endswith(ending):
            return ending
    raise bad_file(path, f"an unknown kind of file; known are {', '.join(KINDS)}")


def open_source(path: Path) -> Source:
    """Return the file as columns."""
    return KINDS[kind_of(path)](path)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Say which file could not be read, and why, in one line."""
    try:
        yield
    except LossNoiseError:
        raise
    except UnicodeDecodeError as error:
        advice = "save it in UTF-8, which spreadsheets call 'CSV UTF-8'"
        raise bad_file(path, f"not in UTF-8 (byte {error.start}): {advice}") from error
    except UNREADABLE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        if "allow_pickle" in reason:  # numpy's advice would run code in the file
            reason = "no arrays of numbers or text are in it"
            if "Object arrays" in str(error):  # such as the text of pandas
                reason = (
                    "an array in it holds Python objects: save text by np.array(labels, dtype=str)"
                )
        raise bad_file(path, f"cannot be read as a {kind_of(path)} file: {reason}") from error


def load_npy(path: Path) -> np.ndarray:
    """Return the array of an NPY file, which stays on disk."""
    with reading(path):
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        if not isinstance(array, np.ndarray) or not array.ndim:
            raise bad_file(path, "no NPY file with an array, in spite of its name")
        return array


def open_text(path: Path, encoding: str = "utf-8-sig") -> IO[str]:
    """Open a CSV file, compressed or not."""
    if path.suffix.lower() == ".gz":
        return io.TextIOWrapper(gzip.open(path), encoding=encoding, newline="")
    return open(path, encoding=encoding, newline="")


def from_arrow(column: Any) -> np.ndarray:
    """Return a column of Arrow as an array; lists of one length become rows of a table."""
    if hasattr(column, "dictionary"):
        column = column.dictionary_decode()
    if hasattr(column.type, "value_type"):
        return _from_lists(column.to_pylist())
    array: np.ndarray = column.to_numpy(zero_copy_only=False)
    if array.dtype.kind in "biuO" or (array.dtype.kind == "f" and not column.null_count):
        return array
    return object_array(column.to_pylist())


def _from_lists(rows: list[Any]) -> np.ndarray:
    """Return lists of as many numbers as a table, others as they are."""
    try:
        return np.array(rows, dtype=np.float64)
    except (TypeError, ValueError):  # of texts, of several lengths, or missing ones
        return object_array(rows)


def join_blocks(pieces: Sequence[np.ndarray]) -> np.ndarray:
    """Return the pieces of a column as one array."""
    if len({piece.shape[1:] for piece in pieces}) == 1:
        return np.concatenate(pieces)
    return object_array([row for piece in pieces for row in piece])
