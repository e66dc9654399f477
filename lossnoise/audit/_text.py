"""A report as text: for a terminal, and in short."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from lossnoise.audit._words import SPACE, groups_to_show, percent

if TYPE_CHECKING:
    from lossnoise.audit._report import AuditReport

WIDTH = 80
REPR_WIDTH, REPR_ROWS, REPR_CELL = 88, 5, 60
SHOWN, ROWS, PAIRS = 20, 10, 5  # at most: classes or groups, rows, pairs
CELL = 24  # characters of a label or an id


def report_text(report: AuditReport, source: str) -> str:
    """Return verdict, classes, confusions and worst rows of a report."""
    summary = report.summary
    known = [found for found in summary["per_class"] if found["label"] != ""]
    counts = f"{summary['n']:,} rows" + (f", {_count(known)}" if known else "")
    parts = [f"{source}: {counts}", textwrap.fill(summary["verdict"], WIDTH)]
    told = summary["separable"] is not False
    tells = told or summary["num_issues"]
    if known and tells:
        names = ((report.show_label(one["label"]), one) for one in known)
        parts.append(_rates("class", "classes", names, told=told))
    if tells and (groups := groups_to_show(summary)):
        named = ((one["group"], one) for one in groups)
        parts.append(_rates("group", "groups", named, told=told))
    if summary["given_to_suggested"]:
        parts.append(_pairs(summary["given_to_suggested"], report.show_label))
    title = "worst rows:" if tells else "rows with the highest losses:"
    parts.append(_worst(report, title, has_labels=bool(known)))
    return "\n\n".join(parts)


def report_repr(report: AuditReport) -> str:
    """Return verdict and worst rows, by the names of the columns of the table."""
    header = report._rows_known.ids.header
    names = (header, "given_label", "suggested_label", "loss", "p_noisy", "rank")
    suggests = report._rows_known.suggested is not None
    rows = []
    for row in report.iter_rows(REPR_ROWS):
        suggested = report.show_label(row.suggested_label) if suggests else "NA"
        loss = "NA" if row.loss is None else f"{row.loss:.6g}"
        cells = (row.index, report.show_label(row.given_label), suggested, loss)
        shown = (plain(cell, REPR_CELL) for cell in cells)
        rows.append((*shown, f"{row.p_noisy:.4g}", str(row.rank)))
    rest = len(report) - len(rows)
    more = [f"... and {rest:,} more"] if rest else []
    verdict = textwrap.fill(f"AuditReport: {report.summary['verdict']}", REPR_WIDTH)
    return "\n".join([verdict, *_align([names, *rows], left=0), *more])


def expectation(report: AuditReport, budget: int) -> str:
    """Return how many of the worst rows should be wrong, where the losses can tell."""
    first = report._ranking[:budget]
    rows = f"{len(first):,} worst {'row' if len(first) == 1 else 'rows'}"
    if report.summary["separable"] is False:
        return f"{rows}: these losses cannot tell how many of the labels are wrong."
    share = percent(float(report._rows_known.noise_proba[first].mean())).replace(SPACE, " ")
    return f"{rows}: {share} of the labels are expected to be wrong."


def plain(value: Any, most: int = CELL) -> str:
    """Return a cell in one line: nothing in a label can move the cursor or change colours."""
    shown = printable(value)
    return shown if len(shown) <= most else f"{shown[: most - 3]}..."


def _count(classes: list[Any]) -> str:
    return "1 class" if len(classes) == 1 else f"{len(classes):,} classes"


def printable(value: Any) -> str:
    """Return a text whose control characters, line ends among them, are spelt out."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(value))


def _rates(what: str, many: str, named: Iterable[tuple[Any, dict[str, Any]]], *, told: bool) -> str:
    """Return a table of classes or groups: all, or those with the highest rates of many."""
    known = list(named)
    shown, measure = known, "noise_rate" if told else "num_issues"
    if len(known) > SHOWN:
        shown = sorted(known, key=lambda pair: -pair[1][measure])[:SHOWN]
    rows = [
        (
            plain(name),
            f"{found['n']:,}",
            f"{found['num_issues']:,}",
            f"{100.0 * found['noise_rate']:.1f} %" if told else "unknown",
        )
        for name, found in shown
    ]
    more = len(known) - len(shown)
    less = "less noise" if told else "fewer flagged rows"
    rest = [f"... and {more:,} more {many} with {less}"] if more else []
    return "\n".join([*_align([(what, "rows", "flagged", "noise rate"), *rows], left=1), *rest])


def _pairs(pairs: list[dict[str, Any]], show: Callable[[Any], str]) -> str:
    rows = [
        (plain(show(p["given"])), plain(show(p["suggested"])), f"{p['count']:,}")
        for p in pairs[:PAIRS]
    ]
    header = ("given", "suggested", "flagged")
    return "\n".join(["most frequent pairs:", *_align([header, *rows], left=2)])


def _worst(report: AuditReport, title: str, *, has_labels: bool) -> str:
    suggests = bool(report.summary["given_to_suggested"])
    labels = ["given"] * has_labels + ["suggested"] * suggests
    header = ("index", *labels, "loss", "P(wrong)")
    rows = []
    for row in report.iter_rows(ROWS):
        shown = [plain(report.show_label(row.given_label))] if has_labels else []
        shown += [plain(report.show_label(row.suggested_label))] if suggests else []
        loss = "" if row.loss is None else f"{row.loss:.3f}"
        rows.append((plain(row.index), *shown, loss, f"{row.p_noisy:.3f}"))
    return "\n".join([title, *_align([header, *rows], left=len(header) - 2)])


def _align(rows: Iterable[tuple[str, ...]], left: int) -> list[str]:
    """Return lines of aligned cells, the first `left` columns to the left."""
    lines = list(rows)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
