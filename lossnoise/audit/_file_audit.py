"""The audit of a file: in memory where it fits, else in pieces."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lossnoise._validation import invalid_parameter
from lossnoise.audit._audit import audit
from lossnoise.audit._classes import SureNames, warn_of_order
from lossnoise.audit._files import Block, Source, bad_file, join_blocks, open_source
from lossnoise.audit._inputs import FEWEST, as_cells
from lossnoise.audit._report import AuditReport
from lossnoise.audit._select import (
    DEFAULTS,
    Chunk,
    Selection,
    class_names,
    numbered_names,
    read_chunks,
    select,
)
from lossnoise.audit._stream import KEPT, Census, Classes, audit_stream
from lossnoise.audit._summary import ORDER, WHOLE_ROWS
from lossnoise.audit._ticker import Ticker


class Limits(NamedTuple):
    """How much of a file is in memory at a time.

    Attributes
    ----------
    rows, cells : int
        A file with more rows, or more numbers in them, is read in pieces.
    chunk : int
        Numbers in a piece.
    kept : int
        Rows of the report on a file that is read in pieces.
    """

    rows: int = 1_000_000
    cells: int = 1 << 24
    chunk: int = 1 << 18
    kept: int = KEPT


class FileAudit(NamedTuple):
    """A report, and where the rows come from."""

    report: AuditReport
    source: Source
    selection: Selection
    streamed: bool

    def inputs(self, budget: int) -> Any:
        """Return the other columns of the rows, for the cards of a report; None without any.

        Of a file that was read in pieces, those of the worst rows only.
        """
        names = _others(self.source, self.selection)
        if not names:
            return None
        blocks = self.source.blocks(names, 1 << 14)
        if self.streamed:
            return WorstRows(blocks, self.report, budget)
        pieces = list(blocks)
        return {name: join_blocks([piece[name] for piece in pieces]) for name in names}


class WorstRows(Sequence[dict[str, Any]]):
    """As many rows as a file has, of which the cells of the worst are known."""

    def __init__(self, blocks: Iterable[Block], report: AuditReport, budget: int) -> None:
        self._size = int(report.summary["n"])
        self._rows: dict[int, dict[str, Any]] = {}
        wanted = np.sort(report.order[:budget])
        start = 0
        for block in blocks:
            stop = start + len(next(iter(block.values())))
            for position in wanted[(wanted >= start) & (wanted < stop)].tolist():
                self._rows[position] = {name: c[position - start] for name, c in block.items()}
            start = stop

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, position: Any) -> Any:
        return self._rows[position]


def audit_file(
    path: Path,
    *,
    labels: str | None = None,
    losses: str | None = None,
    pred_probs: str | None = None,
    index: str | None = None,
    groups: str | None = None,
    loss_scale: str = "cross-entropy",
    ticker: Ticker | None = None,
    limits: Limits | None = None,
) -> FileAudit:
    """Audit the labels in a file.

    Parameters
    ----------
    path : Path
        A CSV, Parquet, NPY or NPZ file.
    labels, losses, index, groups : str, optional
        Columns. By default ``label`` or ``labels``, ``loss`` or ``losses``, the positions, and no
        groups.
    pred_probs : str, optional
        Columns, separated by commas; a pattern such as ``p_*``; or one array with a column a class.
    loss_scale : {"cross-entropy", "any"}
        Of the losses: "any" for others than cross-entropy.
    ticker : Ticker, optional
        Counts the rows.
    limits : Limits, optional
        How much is in memory at a time.

    Returns
    -------
    found : FileAudit
        Beyond the limits its report has the worst rows only, with a summary of all.

    Raises
    ------
    InvalidDataError
        A column is missing, or holds what it should not.
    InvalidParameterError
        A scale of losses was given, and the file has probabilities.
    """
    from lossnoise.detectors._choice import make_detector  # scikit-learn: slow to load

    limits, ticker = limits or Limits(), ticker or Ticker(quiet=True)
    source = open_source(path)
    selection = select(
        source, labels=labels, losses=losses, pred_probs=pred_probs, index=index, groups=groups
    )
    if selection.pred_probs and loss_scale != "cross-entropy":
        expected = "'cross-entropy' where there are probabilities"
        raise invalid_parameter("audit_file", "loss_scale", expected, loss_scale)
    finder = make_detector("audit_file", "auto", loss_scale=loss_scale)
    size = max(1, limits.chunk // _width(source, selection))

    def chunks(work: str) -> Iterator[Chunk]:
        return ticker.count(read_chunks(source, selection, size), work)

    whole = gather(chunks("reading"), limits)
    if whole is not None:
        report = _audit_whole(source, selection, whole, finder)
        return FileAudit(report, source, selection, False)
    if groups is not None:
        problem = "is too large for memory, in which --groups has to compare all rows"
        raise bad_file(path, f"{problem}: leave it out, or audit parts of the file")
    report = _audit_pieces(source, selection, chunks, limits, finder)
    return FileAudit(report, source, selection, True)


def gather(chunks: Iterable[Chunk], limits: Limits) -> Chunk | None:
    """Return all rows as one chunk; None where they are too many."""
    pieces: list[Chunk] = []
    cells = 0
    for piece in chunks:
        pieces.append(piece)
        cells += piece.labels.size if piece.probs is None else piece.probs.size
        if piece.start + len(piece.labels) > limits.rows or cells > limits.cells:
            return None
    if not pieces:
        return Chunk(0, np.empty(0), np.empty(0), None, None)
    columns = zip(*(piece[1:] for piece in pieces), strict=True)
    return Chunk(0, *(None if c[0] is None else np.concatenate(c) for c in columns))  # type: ignore[arg-type]  # of either kind


def _audit_whole(source: Source, selection: Selection, rows: Chunk, finder: Any) -> AuditReport:
    if len(rows.labels) < FEWEST:
        problem = f"{len(rows.labels)} rows are too few: an audit needs {FEWEST} at least"
        raise bad_file(source.path, problem)
    census = Census(source.path)
    census.add(rows.labels)
    census.check_classes()
    order = ""
    names: list[Any] | None = list(numbered_names(source, census.classes).values()) or None
    if rows.probs is not None:
        found = class_names(source, selection, census.classes, rows.probs.shape[1])
        names = names or found.labels
        if found.doubt:
            columns = Classes(found.labels).columns(rows)
            order = warn_of_order(columns.classes, columns.choices.table, found.doubt)
    report = audit(
        as_cells(rows.labels),  # dates by their text, as in `names`
        losses=rows.losses,
        pred_probs=rows.probs,
        index=None if selection.ids is None else rows.ids,
        class_names=names and SureNames(names),
        detector=finder,
        groups=rows.groups,
    )
    if order:
        report._settings[ORDER] = order
    known = report._rows_known
    report._rows_known = known._replace(ids=known.ids._replace(name=selection.ids))
    return report


def _audit_pieces(
    source: Source, selection: Selection, chunks: Any, limits: Limits, finder: Any
) -> AuditReport:
    return audit_stream(
        source.path,
        chunks,
        finder,
        classes_of=partial(class_names, source, selection),
        names_of=partial(numbered_names, source),
        settings={
            "detector": repr(finder),
            "source": WHOLE_ROWS if selection.pred_probs else "losses",
            "on_nan": "raise",
            "rows_kept": limits.kept,
        },
        kept=limits.kept,
        index_name=selection.ids,
    )


def _width(source: Source, selection: Selection) -> int:
    """Return about how many numbers there are in a row."""
    if len(selection.pred_probs) != 1:
        return len(selection.names)
    first = next(iter(source.blocks(selection.pred_probs, 1)), {})
    widths = [int(column[0].size) for column in first.values() if column.ndim > 1]
    return max(widths, default=1)


def _others(source: Source, selection: Selection) -> list[str]:
    """Return the columns that are no part of the audit, and have as many rows.

    Losses beside probabilities are none of them: cards show the loss of the audit.
    """
    names = [name for name in source.columns if source.columns.count(name) == 1]
    known = {*selection.names, *DEFAULTS["--losses"]} - {selection.groups}
    names = [name for name in names if name not in known]
    return source.of_length(names, selection.names[0])
