"""Figures of a report as people read them."""

from __future__ import annotations

from typing import Any

from lossnoise.audit._summary import TRAINER, precision_range

SPACE = "\N{NO-BREAK SPACE}"


def percent(share: float | None) -> str:
    """Return a share in percent; one that is not quite all or nothing does not look like it."""
    if share is None:
        return "unknown"
    for edge, sign, bound in ((share, "<", 0.1), (1.0 - share, ">", 99.9)):
        if 0.0 < edge < 0.0005:
            return f"{sign}{bound}{SPACE}%"
    return f"{100.0 * share:.1f}{SPACE}%"


def headline(summary: dict[str, Any]) -> str:
    """Return the outcome of an audit in one line."""
    if summary["separable"] is False:
        return "Cannot tell from these losses"
    count, n = summary["num_issues"], summary["n"]
    if not count:
        return f"None of {n:,} labels is more likely wrong than right"
    return f"{count:,} of {n:,} labels {'is' if count == 1 else 'are'} likely wrong"


def explanation(summary: dict[str, Any]) -> str:
    """Return the verdict without what the headline says already."""
    verdict = str(summary["verdict"])
    rest = verdict.removeprefix(f"{headline(summary)}: ")
    return rest[0].upper() + rest[1:]


def can_tell(summary: dict[str, Any]) -> bool:
    """Return whether the probabilities say anything: 0 throughout is no statement."""
    return summary["separable"] is not False or summary["num_issues"] > 0


def groups_to_show(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the groups; none where they are the classes, which are shown anyway."""
    groups: list[dict[str, Any]] = summary["per_group"]
    classes = [one | {"group": one["label"]} for one in summary["per_class"]]
    same = len(groups) == len(classes) and all(
        a.items() <= b.items() for a, b in zip(groups, classes, strict=True)
    )
    return [] if same else groups


def tiles(summary: dict[str, Any], mean_proba: float, shown: int) -> list[tuple[str, str, str]]:
    """Return name, figure and explanation of what matters most."""
    on_page = f"worst rows, of which {percent(mean_proba)} are expected to be wrong"
    if summary["separable"] is False:
        on_page = "worst rows" if summary["num_issues"] else "rows with the highest losses"
    return [
        _flagged(summary),
        _rate(summary),
        _precision(summary),
        ("On this page", f"{shown:,}", on_page),
    ]


def _flagged(summary: dict[str, Any]) -> tuple[str, str, str]:
    count, n = summary["num_issues"], summary["n"]
    if not can_tell(summary):
        return "Flagged rows", "none", "because these losses cannot tell"
    return "Flagged rows", f"{count:,}", f"{percent(count / n)} of {n:,} labels"


def _precision(summary: dict[str, Any]) -> tuple[str, str, str]:
    name = "Expected precision"
    if not summary["num_issues"]:
        return name, "unknown", "no row is flagged"
    if summary["separable"] is False:
        return name, "unknown", "because these losses cannot tell"
    share = precision_range(summary).replace(" %", f"{SPACE}%")
    return name, share, "of the flagged labels are wrong; with the others, the model errs"


def _rate(summary: dict[str, Any]) -> tuple[str, str, str]:
    name = "Wrong labels, estimated"
    interval = summary["noise_rate_interval"]
    if interval is None:
        return name, percent(summary["noise_rate"]), "by the given probabilities"
    low, high = map(percent, interval)
    if summary["separable"]:
        trained = summary["settings"].get("source") == TRAINER
        kind = "by its losses" if trained else f"90{SPACE}% interval"
        return name, percent(summary["noise_rate"]), f"{kind}: {low} to {high}"
    return name, "unknown", f"up to {high} could be wrong, or more"
