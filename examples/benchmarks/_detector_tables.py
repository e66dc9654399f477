"""The tables of the detectors: rates, probabilities, intervals, cost."""

from __future__ import annotations

from statistics import stdev
from typing import Any

from _quoted import METHODS, SETS, markdown, result

SHOWN_RATE = 0.2


def over_sets(figure: str) -> str:
    """Return a table of one figure, averaged over the noise rates: a line for each set."""
    summary = result("detector_rates")["summary"]
    rows = []
    for name, methods in [*summary["sets"].items(), ("all", summary["all"])]:
        figures = {method: methods[method][figure] for method in METHODS}
        lowest = min(figures.values())
        cells = [f"**{v:.3f}**" if v == lowest else f"{v:.3f}" for v in figures.values()]
        rows.append([SETS.get(name, "all cells"), *cells])
    return markdown(["", *METHODS.values()], rows)


def errors() -> str:
    """Return the detector's error of the rate by set and noise rate, with its spread."""
    rates_result = result("detector_rates")
    cells = rates_result["summary"]["cells"]
    runs: dict[tuple[str, float], list[float]] = {}
    for run in rates_result["runs"]:
        error = run["methods"]["beta"]["error"]
        runs.setdefault((run["set"], run["rate"]), []).append(error)
    rates = list(dict.fromkeys(cell["rate"] for cell in cells))
    rows = []
    for name in dict.fromkeys(cell["set"] for cell in cells):
        mine = {cell["rate"]: cell for cell in cells if cell["set"] == name}
        clean = mine[0.0]
        first = [SETS[name], f"{clean['n']:,}", f"{clean['accuracy']:.1%}"]
        errors_ = (_error(mine[r], runs[name, r]) if r in mine else "" for r in rates)
        rows.append([*first, *errors_])
    header = ["", "samples", "accuracy", *(f"{rate:.0%}" for rate in rates)]
    return markdown(header, rows)


def _error(cell: dict[str, Any], runs: list[float]) -> str:
    if cell["separable"] == 0.0:
        return "cannot tell"
    partly = "" if cell["separable"] == 1.0 else f" ({cell['separable']:.0%} told)"
    spread = f" ± {stdev(runs):.3f}" if len(runs) > 1 else ""
    return f"{cell['methods']['beta']['error']:+.3f}{spread}{partly}"


def unseen() -> str:
    """Return mean errors of the rate on tasks that no constant was chosen on."""
    summary = result("detector_unseen")["summary"]
    rows = []
    groups = {
        "accurate": "at least 92 % accurate",
        "border": "as accurate, many at the border",
        "others": "less accurate",
    }
    for name, words in groups.items():
        for rate, found in summary[name].items():
            told = [f"{found[share]:.0%}" for share in ("separable", "near", "covered")]
            errors_ = [f"{found['mean_abs_error'][method]:.3f}" for method in METHODS]
            rows.append([f"{words}, {float(rate):.0%}", str(found["runs"]), *told, *errors_])
    return markdown(["", "runs", "told", "near", "covered", *METHODS.values()], rows)


def averaging() -> str:
    """Return how well losses rank wrong labels: of one epoch, and averaged over epochs."""
    summary = result("detector_training_losses")["summary"]
    rows = []
    for name, content in summary.items():
        for point in ("early", "middle", "half", "last"):
            parts = [content["overall"][f"{point}, {h}"] for h in ("single", "last 5", "all")]
            aurocs = [f"{part['auroc']:.3f}" for part in parts]
            errors_ = [f"{part['methods']['posterior']['mean_abs_error']:.3f}" for part in parts]
            rows.append([f"{SETS.get(name, name)}, {point}", *aurocs, *errors_])
    kinds = ["one epoch", "last 5", "all so far"]
    header = ["", *(f"AUROC, {k}" for k in kinds), *(f"error of the rate, {k}" for k in kinds)]
    return markdown(header, rows)


def coverage() -> str:
    """Return how often the interval covers the truth, and how wide it is."""
    scales = result("detector_calibration")["coverage"]["summary"]
    rows = [
        [scale, f"{s['covered']} of {s['draws']}", f"{s['median_width']:.3f}"]
        for scale, s in scales.items()
    ]
    return markdown(["`loss_scale`", "interval covers the truth", "median width"], rows)


def false_alarms() -> str:
    """Return how often clean losses are taken for two populations."""
    cells = result("detector_calibration")["false_alarms"]["summary"]
    rows = [
        [name, f"{c['separable']:.2%}", f"{c['largest_mean_rate']:.4f}", f"{c['largest_rate']:.3f}"]
        for name, c in cells.items()
    ]
    header = ["losses", "called separable", "largest mean rate", "largest rate of a single draw"]
    return markdown(header, rows)


def cost() -> str:
    """Return seconds of fit and predict_proba by the number of losses."""
    speed = result("detector_speed")
    rows = [
        [f"{row['n']:,}", *(_seconds(row, m) for m in ("fit", "predict_proba", "histogram"))]
        for row in speed["cost"]
    ]
    return markdown(["losses (float32)", "`fit`", "`predict_proba`", "`np.histogram`"], rows)


def _seconds(row: dict[str, Any], method: str) -> str:
    return f"{1e3 * row['seconds'][method]['median']:,.1f} ms"


def detection() -> str:
    """Return what is found where a fifth of the labels is wrong: precision and recall, by set."""
    rows = []
    for cell in result("detector_rates")["summary"]["cells"]:
        if cell["rate"] != SHOWN_RATE:
            continue
        found = [_found(cell["methods"][method]) for method in METHODS]
        rows.append([SETS[cell["set"]], f"{cell['auroc']:.3f}", *found])
    return markdown(["", "AUROC of the loss", *METHODS.values()], rows)


def _found(figures: dict[str, Any]) -> str:
    if figures["precision"] is None:
        return "none flagged"
    return f"{figures['precision']:.2f} / {figures['recall']:.2f}"


def two_populations() -> str:
    """Return how well populations of known families are told apart."""
    scales = result("detector_calibration")["two_populations"]["summary"]
    rows = []
    for scale, parts in scales.items():
        for name, words in {"easy": "hardly overlap", "all": "all"}.items():
            part = parts[name]
            shares = [
                f"{part[figure]:.1%}"
                for figure in ("error_above_0.05", "accuracy_below_0.97", "recall_below_0.8")
            ]
            errors_ = [f"{part['mean_abs_error']:.4f}", f"{part['largest_abs_error']:.3f}"]
            rows.append([f"{scale}, {words}", str(part["cells"]), *errors_, *shares])
    header = ["losses", "cells", "mean error of the rate", "largest", "error above .05"]
    return markdown([*header, "accuracy below .97", "recall below .8"], rows)


def rare_groups() -> str:
    """Return what is found among classes of few rows, with and without groups."""
    balances = result("detector_calibration")["rare_classes"]["summary"]
    rows = []
    for name, words in {"balanced": "as many rows as others", "rare": "20 to 1"}.items():
        for method, how in {"plain": "plain fit", "groups": "`groups=labels`"}.items():
            figures = balances[name][method]
            cells = [
                f"{figures[figure]['mean']:.3f} ± {figures[figure]['std']:.3f}"
                for figure in ("recall", "precision", "right_called_wrong")
            ]
            rows.append([f"{words}, {how}", *cells])
    return markdown(["", "recall", "precision", "right labels called wrong"], rows)
