"""The report as one offline HTML file. Imports Jinja, so it is loaded on use."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from functools import partial
from hashlib import sha256
from importlib.resources import files
from typing import TYPE_CHECKING, Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined

from lossnoise._labels import encode_labels
from lossnoise.audit._cards import Inputs, Shown, Viewer, open_inputs, show_inputs
from lossnoise.audit._charts import HEIGHT, MAX_CLASSES, WIDTH, draw_losses, draw_matrix
from lossnoise.audit._classes import declared_classes
from lossnoise.audit._conflicts import find_conflicts
from lossnoise.audit._csv import harmless, row_key, writable
from lossnoise.audit._inputs import as_cells
from lossnoise.audit._review import LabelTexts
from lossnoise.audit._rows import Row
from lossnoise.audit._words import (
    can_tell,
    explanation,
    groups_to_show,
    headline,
    percent,
    tiles,
)

if TYPE_CHECKING:
    from lossnoise.audit._report import AuditReport

OWNER = "AuditReport.to_html"

WALL = 24  # pictures
FEWEST_ON_WALL = 4
MAX_PAIRS = 20
MAX_CLASS_ROWS = 200
MAX_CONFLICTS = 20
MAX_CONFLICT_ROWS = 12

# A page may not hold these: NUL and other controls, and halves of characters.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


class Card(NamedTuple):
    """A row of the report with what its card shows."""

    row: Row
    given: str
    suggested: str | None
    shown: Shown


class Conflict(NamedTuple):
    """Equal inputs with different labels: what they are, and ``(id, label)`` of each row."""

    shown: Shown
    rows: list[tuple[str, str]]
    more: int


def render_report(report: AuditReport, inputs: Any, *, budget: int, title: str) -> str:
    """Return a report as a page that loads nothing from elsewhere.

    Parameters
    ----------
    report : AuditReport
        What was found.
    inputs : dataset, array, DataFrame, sequence or None
        What was labelled, in the order of all labels.
    budget : int
        Number of cards.
    title : str
        Heading of the page.

    Returns
    -------
    page : str
        In HTML.
    """
    rows = list(report.iter_rows(budget))
    data = None if inputs is None else open_inputs(OWNER, inputs, report._all_labels)
    cards = make_cards(report, rows, data)
    script, style = _asset("report.js"), _asset("report.css")
    template = _environment().get_template("report.html")
    return template.render(
        _facts(report),
        title=title,
        cards=cards,
        num_missing=max(0, report.summary["num_issues"] - len(rows)),
        tiles=tiles(report.summary, sum(row.p_noisy for row in rows) / len(rows), len(rows)),
        wall=choose_wall(cards),
        conflicts=_show_conflicts(report, data),
        data=page_data(report, cards),
        style=style,
        script=script,
        policy=_policy(script, style),
    )


def make_cards(report: AuditReport, rows: Sequence[Row], data: Inputs | None) -> list[Card]:
    """Return what the cards of rows show."""
    shown = [Shown()] * len(rows)
    if data is not None:
        shown = show_inputs(OWNER, data, [row.position for row in rows])
    names = report.show_label
    return [
        Card(row, names(row.given_label), _suggestion(row, names), one)
        for row, one in zip(rows, shown, strict=True)
    ]


def choose_wall(cards: Sequence[Card]) -> list[Card]:
    """Return flagged pictures with a suggested label: the worst of each class in turn."""
    classes: dict[str, list[Card]] = {}
    for card in cards:
        if card.row.is_label_issue and card.shown.picture and card.suggested is not None:
            classes.setdefault(card.given, []).append(card)
    turns = range(max(map(len, classes.values()), default=0))
    wall = [members[turn] for turn in turns for members in classes.values() if turn < len(members)]
    return wall[:WALL] if len(wall) >= FEWEST_ON_WALL else []


def page_data(report: AuditReport, cards: Sequence[Card]) -> dict[str, Any]:
    """Return what the script of the page needs: labels, and rows as they stand in a review file.

    Cells are harmless to spreadsheets already, so the script only joins them.
    """
    labels = known_labels(report)
    places = {label: place for place, label in enumerate(labels)}
    mark = report.fingerprint
    rows = [
        {
            "key": _key(mark, card),
            "index": harmless(card.row.index),
            "find": str(card.row.index),
            "given": places[card.row.given_label],
            "suggested": -1 if card.suggested is None else places[card.row.suggested_label],
            "loss": card.row.loss,
            "confidence": card.row.suggested_confidence,
            "position": card.row.position,
        }
        for card in cards
    ]
    header = [harmless(report._rows_known.ids.header)]
    columns = ["given_label", "suggested_label", "review", "row_key"]
    texts = LabelTexts(labels, report._names, allow_new=False)
    choices = [_choice(label, report.show_label(label), texts) for label in labels]
    return {"mark": mark, "header": header + columns, "labels": choices, "rows": rows}


def _key(mark: str, card: Card) -> str:
    suggested = "" if card.suggested is None else writable(card.row.suggested_label)
    return row_key(mark, card.row.position, suggested)


def known_labels(report: AuditReport) -> list[Any]:
    """Return the labels that a review may name: given, suggested, declared and named ones."""
    rows = report._rows_known
    columns = [c for c in (rows.given, rows.suggested, rows.classes) if c is not None]
    found = [label for column in columns for label in as_cells(encode_labels(column)[0]).tolist()]
    declared = as_cells(declared_classes(report._all_labels)).tolist()
    return list(dict.fromkeys([*found, *declared, *report._names]))


def _choice(label: Any, text: str, texts: LabelTexts) -> dict[str, str]:
    """Return a label for the script; without `review` where no file could name it."""
    choice = {"text": text, "cell": harmless(label)}
    can_be_written = text.strip() and not _UNPRINTABLE.search(text)
    is_alone = texts.find(text) == {label}
    return choice | ({"review": harmless(text)} if can_be_written and is_alone else {})


def _suggestion(row: Row, show_label: Any) -> str | None:
    nothing = row.suggested_label is None and row.suggested_confidence is None
    return None if nothing else str(show_label(row.suggested_label))


# -- sections ---------------------------------------------------------------------------------


def _facts(report: AuditReport) -> dict[str, Any]:
    """Return what the page says of all rows."""
    summary = report.summary
    classes = summary["per_class"]
    pairs = summary["given_to_suggested"]
    return {
        "summary": summary,
        "headline": headline(summary),
        "verdict": explanation(summary),
        "can_tell": can_tell(summary),
        "chart": draw_losses(report),
        "size": (WIDTH, HEIGHT),
        "has_groups": hasattr(report.detector, "group_report_"),
        "classes": classes,
        "groups": groups_to_show(summary),
        "most_noise": _most_noise,
        "label_of": lambda one: report.show_label(one["label"]),
        "group_of": lambda one: str(one["group"]),
        "matrix": draw_matrix(pairs, [one["label"] for one in classes]),
        "pairs": pairs[:MAX_PAIRS],
        "place": partial(_place_of, {label: i for i, label in enumerate(known_labels(report))}),
        "name": report.show_label,
        "header": report._rows_known.ids.header,
    }


def _most_noise(known: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return all classes or groups, or those with the most flagged rows where they are many."""
    if len(known) <= MAX_CLASSES:
        return known
    ranked = sorted(known, key=lambda one: (-one["num_issues"], -one["noise_rate"]))
    return ranked[:MAX_CLASS_ROWS]


def _place_of(places: dict[Any, int], label: Any) -> int | str:
    """Return the number of a label; nothing for one whose rows were not kept."""
    return places.get(label, "")


def _show_conflicts(report: AuditReport, data: Inputs | None) -> dict[str, Any] | None:
    """Return equal inputs with different labels; None where they were not looked for."""
    if data is None or not data.in_memory:
        return None
    given = report._rows_known.given
    groups = find_conflicts(data, given, report._positions)
    viewer = Viewer(data, [group[0] for group in groups[:MAX_CONFLICTS]])
    ids = report._rows_known.ids.values.tolist()
    rows = {position: row for row, position in enumerate(report._positions.tolist())}
    labels = given.tolist()
    shown = []
    for group in groups[:MAX_CONFLICTS]:
        members = [rows[position] for position in group[:MAX_CONFLICT_ROWS]]
        named = [(str(ids[row]), report.show_label(labels[row])) for row in members]
        shown.append(Conflict(viewer.show(group[0]), named, len(group) - len(members)))
    return {"count": len(groups), "shown": shown, "rows": sum(map(len, groups))}


# -- the file ---------------------------------------------------------------------------------


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("lossnoise.audit", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_printable,
    )
    environment.filters |= {"percent": percent}
    return environment


def _printable(value: Any) -> Any:
    if hasattr(value, "__html__") or not isinstance(value, str):  # escaped, or a number
        return value
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", value)


def _asset(name: str) -> str:
    return files("lossnoise.audit").joinpath("templates", name).read_text("utf-8").strip()


def _policy(script: str, style: str) -> str:
    """Return a policy under which the page runs its own script and style, and loads nothing."""
    return (
        "default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; "
        f"script-src '{_hash(script)}'; style-src '{_hash(style)}'"
    )


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(sha256(text.encode()).digest()).decode("ascii")
