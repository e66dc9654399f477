"""Write the figures of the committed results into the tables of the documentation.

    python examples/benchmarks/tables.py

Each table stands between ``<!-- table: NAME -->`` and ``<!-- end -->``. A test checks that the
pages say what the results say.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from _detector_tables import (
    averaging,
    cost,
    coverage,
    detection,
    errors,
    false_alarms,
    over_sets,
    rare_groups,
    two_populations,
    unseen,
)
from _method_tables import ideas, overview, toctree
from _quoted import NOISE_NAMES, QUOTED, SETS, markdown, result

from lossnoise.corrections import CORRECTIONS

DOCS = Path(__file__).parents[2] / "docs"
PAGES = [
    DOCS / "explanation" / "benchmarks.md",
    DOCS / "methods" / "index.md",
    DOCS / "how_to" / "hard_classes.md",
]
TABLE = re.compile(r"(<!-- table: (?P<name>[\w-]+) -->\n).*?(<!-- end -->)", re.S)


def provenance() -> str:
    """Return when, with which seeds, on what and with which versions the results were made."""
    rows, machines = [], []
    for name in QUOTED:
        content = result(name)
        made, settings = content["environment"], content.get("settings", {})
        experiments = settings.get("experiments", {"": settings})
        seeds = [
            f"{experiment} {', '.join(map(str, e['seeds']))}".strip()
            for experiment, e in experiments.items()
            if "seeds" in e
        ] + ([str(settings["seed"])] if "seed" in settings else [])
        packages = ("numpy", "scipy", "sklearn", "torch")
        versions = ", ".join(f"{package} {made['versions'][package]}" for package in packages)
        device = f", {made['cuda']}" if made["cuda"] else ""
        machine = f"{made['processor']}, {made['cores']} cores{device}; {versions}"
        machines += [] if machine in machines else [machine]
        number = str(machines.index(machine) + 1)
        threads = str(made["torch_threads"])
        rows.append([f"`{name}.json`", made["date"], "; ".join(seeds), threads, number])
    table = markdown(["result", "date", "seeds", "cores used", "machine"], rows)
    return "\n".join([table, *(f"{n}. {machine}" for n, machine in enumerate(machines, 1)), ""])


def long_runs() -> list[dict[str, Any]]:
    """Return the runs of the paper's network."""
    return [result(name) for name in QUOTED if name.startswith("cifar10/")]


def paper_losses() -> str:
    """Return what the losses of plain training tell, with the paper's network on CIFAR-10."""
    rows = []
    for run in long_runs():
        figures, settings = run["figures"], run["settings"]
        if settings["correction"] != "cross-entropy":
            continue
        for found in figures["detectors"].values():
            parts = [found["histories"][h] for h in ("single", "last 5", "all")]
            aurocs = [f"{part['auroc']:.3f}" for part in parts]
            errors_ = [f"{part['methods']['posterior']['error']:+.3f}" for part in parts]
            published = f"{parts[0]['methods']['published']['error']:+.3f}"
            name = f"{figures['true_rate']:.0%} wrong, {found['epoch']} of {settings['epochs']}"
            accurate = f"{found['accuracy']:.0%}"
            rows.append([name, accurate, *aurocs, *errors_, published])
    kinds = ["one epoch", "last 5", "all so far"]
    header = ["labels, epochs", "accuracy", *(f"AUROC, {k}" for k in kinds)]
    header += [f"error of the rate, {k}" for k in kinds]
    return markdown([*header, "published betas, one epoch"], rows)


def paper_network() -> str:
    """Return accuracy and detection of runs of the paper's network."""
    rows = []
    for run in long_runs():
        figures, settings = run["figures"], run["settings"]
        name = f"`{settings['correction']}`, {settings['noise']:.0%}, {settings['epochs']} epochs"
        rates = f"{figures['noise_rate']:.3f}, {figures['true_rate']:.3f}"
        accuracy = f"{figures['last']:.3f} / {figures['best']:.3f}"
        rows.append([name, accuracy, f"{figures['auroc']:.3f}", rates])
    return markdown(["", "accuracy", "AUROC", "noise rate, true one"], rows)


def by_noise(name: str, show: Callable[[dict[str, Any]], str]) -> str:
    """Return what is shown of each cell of a comparison, by correction and kind of noise."""
    shown: dict[str, dict[str, str]] = {}
    for cell in result(name)["cells"]:
        shown.setdefault(cell["correction"], {})[cell["noise_name"]] = show(cell)
    noises = [noise for noise in NOISE_NAMES if any(mine.get(noise) for mine in shown.values())]
    names = [c for c in CORRECTIONS if c in shown] + [c for c in shown if c not in CORRECTIONS]
    rows = [[f"`{name}`", *(shown[name].get(noise, "") for noise in noises)] for name in names]
    return markdown(["", *(NOISE_NAMES[noise] for noise in noises)], rows)


def means(*figures: str) -> Callable[[dict[str, Any]], str]:
    """Return a function that shows figures of a cell: their means, and the spread of `last`."""

    def show(cell: dict[str, Any]) -> str:
        summary = cell["summary"]
        if figures[0] not in summary:
            return "diverged" if summary["diverged"] else ""
        first, *others = (summary[name] for name in figures)
        spread = f" ± {first['std']:.3f}" if figures[0] == "last" else ""
        lost = f" ({summary['diverged']} diverged)" if summary["diverged"] else ""
        shown = [f"{first['mean']:.3f}{spread}", *(f"{other['mean']:.3f}" for other in others)]
        return " / ".join(shown) + lost

    return show


def gains(cell: dict[str, Any]) -> str:
    """Return by how much a cell's last accuracy exceeds those of the baselines."""
    over = cell["over"]
    return " / ".join(_gain(over.get(name)) for name in ("cross-entropy", "mixup")) if over else ""


def _gain(gain: dict[str, float] | None) -> str:
    """Return a mean difference and its standard error."""
    return "-" if gain is None else f"{gain['mean']:+.3f} ({gain['standard_error']:.3f})"


def pictures_long() -> str:
    """Return accuracies of the long runs on pictures, and gains over the baselines: a line each."""
    rows = []
    for cell in result("methods_cifar_long")["cells"]:
        name = f"`{cell['correction']}`, {NOISE_NAMES[cell['noise_name']]}"
        over = [_gain(cell["over"].get(baseline)) for baseline in ("cross-entropy", "mixup")]
        given = means("accuracy_on_given_labels")(cell)
        rows.append([name, means("last", "best")(cell), *over, given, means("auroc")(cell)])
    ahead = ["over cross-entropy", "over mixup"]
    return markdown(["", "last / best", *ahead, "on given labels", "AUROC"], rows)


def rare_classes() -> str:
    """Return what methods do to rare classes: a line each, with right labels and wrong ones."""
    found: dict[str, list[str]] = {}
    for cell in result("methods_imbalanced")["cells"]:
        summary = cell["summary"]
        balanced, flagged = summary["balanced_accuracy"], summary["flagged"]["mean"]
        cells = [f"{balanced['mean']:.3f} ± {balanced['std']:.3f}"]
        cells.append(f"{summary['accuracy']['mean']:.3f}")
        if "auroc" in summary:
            cells.append(f"{summary['auroc']['mean']:.3f}")
            cells.append(f"{flagged:.3f} / {summary['wrong']['mean']:.3f}")
        found.setdefault(cell["method"], [f"`{cell['method']}`"]).extend(cells)
    wrong = ["balanced", "accuracy", "AUROC", "flagged / wrong"]
    header = ["right labels: balanced", "accuracy", f"a fifth wrong: {wrong[0]}", *wrong[1:]]
    return markdown(["", *header], [*found.values()])


def epoch_cost(name: str = "epoch_cost") -> str:
    """Return what an epoch of each correction costs over a bare loop, by network."""
    models = result(name)["models"]
    names = list(next(iter(models.values()))["summary"])
    rows = [[name, *(_ratio(m["summary"][name]) for m in models.values())] for name in names]
    return markdown(["", *models], rows)


def epoch_cost_cuda() -> str:
    """Return the same on CUDA, by the size of the batches, and with CUDA graphs."""
    summaries = {}
    for found in map(result, (name for name in QUOTED if name.startswith("epoch_cost_cuda"))):
        settings = found["settings"]
        graphs = ", CUDA graphs" if settings.get("compile") == "reduce-overhead" else ""
        summaries[f"batches of {settings['batch_size']}{graphs}"] = found
    parts = [found["models"]["preact_resnet18"]["summary"] for found in summaries.values()]
    rows = [
        [name, *(_ratio(part[name]) if name in part else "-" for part in parts)]
        for name in parts[0]
    ]
    return markdown(["", *summaries], rows)


def peak_memory() -> str:
    """Return the memory that training with each correction takes at most, by network."""
    parts = {f"{n}, CPU": m["summary"] for n, m in result("epoch_cost")["models"].items()}
    parts["the paper's, CUDA"] = result("epoch_cost_cuda")["models"]["preact_resnet18"]["summary"]
    rows = [
        [name, *(_megabytes(part.get(name, {})) for part in parts.values())]
        for name in next(iter(parts.values()))
    ]
    return markdown(["megabytes", *parts], rows)


def _megabytes(summary: dict[str, Any]) -> str:
    return f"{summary['peak_megabytes']:.0f}" if "peak_megabytes" in summary else "-"


def _ratio(summary: dict[str, Any]) -> str:
    ratio = summary["over_bare_loop"]
    return f"{ratio['median']:.2f} ({ratio['q1']:.2f} to {ratio['q3']:.2f})"


def audit() -> str:
    """Return how many of the first rows of an audit are wrong, and what else it says of them."""
    rows = []
    for name, found in result("audit_benchmark")["quality"].items():
        runs = found["flipped"]
        shares = [
            _mean([run["precision"][m] for run in runs]) for m in ("audit", "loss", "cleanlab")
        ]
        covered = sum(run["interval_covers"] for run in runs)
        suggested = _mean([run["suggestions_right"] for run in runs])
        rates = f"{_mean([run['rate_error'] for run in runs], '+.3f')}, {covered} of {len(runs)}"
        reviewed = [f"{found['reviewed_auroc'][m]:.3f}" for m in ("audit", "loss", "cleanlab")]
        rows.append([SETS[name], " / ".join(shares), suggested, rates, " / ".join(reviewed)])
    header = ["", "first rows wrong", "suggestions right", "rate error, intervals", "reviewed rows"]
    return markdown(header, rows)


def audit_cost() -> str:
    """Return what a whole audit takes, beside cleanlab on the same rows."""
    speed = result("audit_benchmark")["speed"]
    ratio = speed["audit_over_cleanlab"]
    times = [f"{speed['seconds'][name]['median']:.2f} s" for name in ("audit", "cleanlab")]
    over = f"{ratio['median']:.2f} ({ratio['q1']:.2f} to {ratio['q3']:.2f})"
    rows = f"{speed['n']:,} x {speed['num_classes']}"
    header = ["rows x classes", "audit", "`find_label_issues`", "ratio (quartiles)", "memory"]
    return markdown(header, [[rows, *times, over, f"{speed['memory']['peak_mb']:.0f} MB"]])


def _mean(values: list[float], form: str = ".3f") -> str:
    return f"{sum(values) / len(values):{form}}"


TABLES: dict[str, Callable[[], str]] = {
    "provenance": provenance,
    "errors": errors,
    "unseen": unseen,
    "mean-errors": lambda: over_sets("mean_abs_error"),
    "brier": lambda: over_sets("brier"),
    "averaging": averaging,
    "detection": detection,
    "two-populations": two_populations,
    "rare-groups": rare_groups,
    "coverage": coverage,
    "false-alarms": false_alarms,
    "cost": cost,
    "overview": overview,
    "ideas": ideas,
    "pages-of-methods": toctree,
    "digits-accuracy": lambda: by_noise("methods_digits", means("last", "best")),
    "digits-detection": lambda: by_noise("methods_digits", means("auroc", "recall", "precision")),
    "rare-classes": rare_classes,
    "pictures-accuracy": lambda: by_noise("methods_cifar", means("last", "best")),
    "pictures-long": pictures_long,
    "pictures-gains": lambda: by_noise("methods_cifar", gains),
    "pictures-detection": lambda: by_noise(
        "methods_cifar", means("auroc", "noise_rate", "accuracy_on_given_labels")
    ),
    "epoch-cost": epoch_cost,
    "digits-bfloat16": lambda: by_noise("methods_digits_bfloat16", means("last", "best")),
    "epoch-cost-bfloat16": lambda: epoch_cost("epoch_cost_bfloat16"),
    "epoch-cost-cuda": epoch_cost_cuda,
    "peak-memory": peak_memory,
    "paper-network": paper_network,
    "paper-losses": paper_losses,
    "audit": audit,
    "audit-cost": audit_cost,
}


def filled(page: str) -> str:
    """Return a page with the figures of the committed results in its tables."""
    return TABLE.sub(lambda found: f"{found[1]}\n{TABLES[found['name']]()}\n{found[3]}", page)


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(filled(page.read_text("utf-8")), "utf-8")
