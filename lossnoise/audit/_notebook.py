"""A report in a notebook: the verdict and the first rows, without any package beside numpy."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from lossnoise.audit._rows import Row
from lossnoise.audit._words import can_tell, explanation, headline, percent

if TYPE_CHECKING:
    from lossnoise.audit._report import AuditReport

ROWS = 10


def render_notebook(report: AuditReport) -> str:
    """Return a report as a piece of HTML in which all of the data is escaped."""
    header = report._rows_known.ids.header
    names = (header, "given label", "suggested label", "P(wrong)", "loss")
    heads = "".join(f'<th scope="col">{escape(name)}</th>' for name in names)
    lines = "".join(_line(report, row) for row in report.iter_rows(ROWS))
    rest = len(report) - min(ROWS, len(report))
    more = f"<p>and {rest:,} more rows</p>" if rest else ""
    return (
        f"<div><p><strong>{escape(headline(report.summary))}</strong><br>"
        f"{escape(explanation(report.summary))}</p>"
        f"<table><thead><tr>{heads}</tr></thead><tbody>{lines}</tbody></table>{more}</div>"
    )


def _line(report: AuditReport, row: Row) -> str:
    nothing = row.suggested_label is None and row.suggested_confidence is None
    cells = (
        str(row.index),
        report.show_label(row.given_label),
        "" if nothing else report.show_label(row.suggested_label),
        percent(row.p_noisy) if can_tell(report.summary) else "",
        "" if row.loss is None else f"{row.loss:.4g}",
    )
    return "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"
