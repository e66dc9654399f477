"""Tables of the corrections: what the head of each page says of its own, and figures beside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from _quoted import NOISE_NAMES, markdown, result

from lossnoise.corrections import CORRECTIONS

PAGES = Path(__file__).parents[2] / "docs" / "methods"


def head_of(name: str) -> dict[str, str]:
    """Return what the page of a correction says of it between its first two lines of dashes."""
    _, head, _ = (PAGES / f"{name}.md").read_text("utf-8").split("---\n", 2)
    return dict(line.split(": ", 1) for line in head.splitlines())


def overview() -> str:
    """Return each correction in a line: when to choose it, accuracy, detection and cost."""
    cells = result("methods_digits")["cells"]
    found = {(cell["correction"], cell["noise_name"]): cell["summary"] for cell in cells}
    costs = result("epoch_cost")["models"]["small"]["summary"]
    noises = ("symmetric-0", "symmetric-0.5", "symmetric-0.8", "pair-0.4")
    rows = []
    for name in CORRECTIONS:
        head = head_of(name)
        choice = head["choose it if"] + (f"; needs {head['needs']}" if "needs" in head else "")
        accuracies = [_figure(found.get((name, n)), "last") for n in noises]
        detection = _figure(found.get((name, "symmetric-0.5")), "auroc")
        cost = f"{costs[name]['over_bare_loop']['median']:.1f}" if name in costs else ""
        rows.append([_link(name), choice, *accuracies, detection, cost])
    names = [NOISE_NAMES[n].replace(" %", "\N{NO-BREAK SPACE}%") for n in noises]
    return markdown(["", "choose it if", *names, "AUROC", "cost"], rows)


def _figure(summary: dict[str, Any] | None, name: str) -> str:
    """Return a mean to two places, or nothing where it was not measured."""
    return "" if summary is None or name not in summary else f"{summary[name]['mean']:.2f}"


def _link(name: str) -> str:
    return f"[`{name}`]({name}.md)"


def ideas() -> str:
    """Return the idea of each correction, and how many passes over the data an epoch takes."""
    rows = []
    for name, kind in CORRECTIONS.items():
        head, needs = head_of(name), "yes" if kind.needs_detector else "no"
        rows.append([_link(name), head["idea"], needs, head["passes an epoch"]])
    return markdown(["name", "idea", "needs the detector", "passes an epoch"], rows)


def toctree() -> str:
    """Return the list of the pages, for the sidebar."""
    return "\n".join(["```{toctree}", ":hidden:", "", *CORRECTIONS, "```", ""])
