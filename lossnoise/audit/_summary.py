"""The headline figures of an audit as plain Python values, and what they mean in words."""

from __future__ import annotations

import platform
from collections import Counter
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lossnoise._labels import encode_labels
from lossnoise.audit._doubts import (
    AGREED,
    OTHER_SHAPES,
    REASONS,
    TOO_FEW,
    are_among,
    listed,
    reason_of,
    unlearned_classes,
)
from lossnoise.audit._inputs import FloatArray, as_cells

if TYPE_CHECKING:
    from lossnoise.audit._rows import AuditRows

# A label is an issue where it is more likely wrong than right.
THRESHOLD = 0.5
FEW_MISTAKES = 0.1  # of the issues: hardly worth a sentence
HARDLY = 0.8  # of the labels: a model that gives fewer is wrong often, or the labels are
WHOLE_ROWS = "pred_probs"  # the source that knows more than a loss of each row
TRAINER = "trainer"  # the source of losses and probabilities of the labels that were learned
ORDER = "order"  # the setting that says that columns look as if they were in another order
FEW_ROWS = 1000  # of fewer, losses hardly ever show two populations

_PACKAGES = ("lossnoise", "numpy", "scipy", "scikit-learn")


class Figures(NamedTuple):
    """What is counted over the rows, in memory or in pieces of a file.

    `contradicted` is the number of labels that are not the model's first choice, None if not known.
    """

    n: int
    contradicted: int | None
    noise_rate: float
    num_issues: int
    expected_precision: float | None
    cautious_precision: float | None
    per_class: list[dict[str, Any]]
    per_group: list[dict[str, Any]]
    given_to_suggested: list[dict[str, Any]]
    unlearned: list[Any]
    like_mistakes: float


def count_rows(rows: AuditRows, detector: Any) -> Figures:
    """Return the figures of rows in memory."""
    given, noise_proba, groups = rows.given, rows.noise_proba, rows.groups
    issues = noise_proba > THRESHOLD
    wrong = noise_proba[issues]
    classes = per_value("label", given, noise_proba, issues)
    pairs = count_pairs(given, rows.suggested, issues)
    unlearned = [] if detector is None else unlearned_classes(classes, pairs)
    cautious = cautious_proba(detector, rows.losses[issues], wrong)
    cautious = np.where(are_among(given[issues], unlearned), 0.0, cautious)
    cautious = cautious * (1.0 - rows.like_mistakes)
    return Figures(
        n=len(given),
        contradicted=count_contradicted(rows.confidence, rows.label_score),
        noise_rate=float(noise_proba.mean()),
        num_issues=int(issues.sum()),
        expected_precision=float(wrong.mean()) if issues.any() else None,
        cautious_precision=float(cautious.mean()) if issues.any() else None,
        per_class=classes,
        per_group=[] if groups is None else per_value("group", groups, noise_proba, issues),
        given_to_suggested=pairs,
        unlearned=unlearned,
        like_mistakes=rows.like_mistakes,
    )


def complete_summary(
    figures: Figures, detector: Any, settings: dict[str, Any], names: dict[Any, str]
) -> dict[str, Any]:
    """Return a summary: the figures, and what the detector and the words say.

    `names` is how labels are shown, where that is not by themselves.
    """
    separable = interval = None
    if detector is not None:
        doubts = REASONS.keys() & settings.keys()
        separable = bool(detector.separable_) and not doubts
        interval = interval_of(detector, figures.noise_rate, separable)
        mistakes = figures.like_mistakes * figures.num_issues * (figures.expected_precision or 0.0)
        interval = max(0.0, interval[0] - mistakes / figures.n), interval[1]
        if separable and settings.get("source") == WHOLE_ROWS:
            assert figures.contradicted is not None  # a detector does not know them
            most = max(figures.contradicted / figures.n, figures.noise_rate)
            interval = interval[0], min(interval[1], most)
        if AGREED in settings and detector.separable_:  # a model learns any labels
            interval = 0.0, 1.0
        elif doubts:  # what the model contradicts may be wrong, whatever its losses
            interval = 0.0, max(interval[1], (figures.contradicted or 0) / figures.n)
    tells = separable is not False
    against = figures.contradicted
    found: dict[str, Any] = {
        "n": figures.n,
        "dropped": 0,
        "noise_rate": figures.noise_rate,
        "noise_rate_interval": interval,
        "separable": separable,
        "num_issues": figures.num_issues,
        "expected_precision": figures.expected_precision if tells else None,
        "cautious_precision": figures.cautious_precision if tells else None,
        "threshold": THRESHOLD,
        "per_class": figures.per_class,
        "per_group": figures.per_group,
        "given_to_suggested": figures.given_to_suggested,
        "unlearned_classes": figures.unlearned,
        "like_mistakes": figures.like_mistakes,
        "agreement": None if against is None else 1.0 - against / figures.n,
        "versions": {"python": platform.python_version(), **_versions()},
        "settings": dict(settings),
    }
    return found | {"verdict": verdict(found, names)}


def cautious_proba(detector: Any, losses: FloatArray, noise_proba: FloatArray) -> FloatArray:
    """Return P(wrong) if twice as many right labels were hard for the model, where it is less.

    How many are is not known from losses; where no detector was fitted, nothing is known of it.
    """
    if detector is None or not len(losses):
        return noise_proba
    width = detector.n_features_in_  # of a history; its mean is what is known
    seen = losses if width == 1 else np.broadcast_to(losses[:, None], (len(losses), width))
    return np.asarray(np.minimum(noise_proba, detector.posterior(seen, cautious=True)))


def expected_proba(
    rows: AuditRows, detector: Any, promise: dict[str, Any] | None = None
) -> tuple[FloatArray, FloatArray]:
    """Return P(wrong) of each row, and the cautious one; to promise a precision, by a summary."""
    wrong, kept = rows.noise_proba, 1.0
    if promise is not None:
        doubtful = are_among(rows.given, promise["unlearned_classes"])
        doubtful |= promise["separable"] is False
        wrong, kept = np.where(doubtful, 0.0, wrong), 1.0 - promise["like_mistakes"]
    return kept * wrong, kept * cautious_proba(detector, rows.losses, wrong)


def interval_of(detector: Any, noise_rate: float, separable: bool) -> tuple[float, float]:
    """Return the detector's 90 % interval, moved by what the report knows beside the losses."""
    low, high = detector.noise_rate_interval_
    shift = noise_rate - detector.noise_rate_
    if not separable:
        return 0.0, max(high, noise_rate)
    return max(0.0, min(low + shift, noise_rate)), min(1.0, max(high + shift, noise_rate))


def count_contradicted(confidence: FloatArray | None, label_score: FloatArray) -> int | None:
    """Return how many labels are less probable than the most probable other class."""
    return None if confidence is None else int(np.count_nonzero(confidence > label_score))


def per_value(
    name: str, values: np.ndarray, noise_proba: FloatArray, issues: NDArray[np.bool_]
) -> list[dict[str, Any]]:
    """Return size, noise rate and number of issues of each class or group, in their order."""
    classes, codes = encode_labels(values)
    sizes = np.bincount(codes, minlength=len(classes))
    flagged = np.bincount(codes, weights=issues, minlength=len(classes))
    rates = np.bincount(codes, weights=noise_proba, minlength=len(classes)) / sizes
    found = zip(as_cells(classes).tolist(), sizes, rates, flagged, strict=True)
    return [
        {name: label, "n": int(n), "noise_rate": float(rate), "num_issues": int(count)}
        for label, n, rate, count in found
    ]


def count_pairs(
    given: np.ndarray, suggested: np.ndarray | None, issues: NDArray[np.bool_]
) -> list[dict[str, Any]]:
    """Return how often which label is suggested in place of which, over the issues, most first."""
    if suggested is None:
        return []
    # As labels, not as their numbers: given and suggested ones may be of different dtypes.
    columns = (as_cells(column[issues]).tolist() for column in (given, suggested))
    return rank_pairs(Counter(zip(*columns, strict=True)))


def rank_pairs(counts: Counter[tuple[Any, Any]]) -> list[dict[str, Any]]:
    """Return counted pairs of a given and a suggested label, most first."""
    ranked = counts.most_common()
    return [{"given": g, "suggested": s, "count": count} for (g, s), count in ranked]


def verdict(summary: dict[str, Any], names: dict[Any, str]) -> str:
    """Return what the figures mean, in words."""
    order = summary["settings"].get(ORDER, "")
    return f"{_verdict(summary, names)} {order}".rstrip()


def _verdict(summary: dict[str, Any], names: dict[Any, str]) -> str:
    rate = 100.0 * summary["noise_rate"]
    if summary["separable"] is None:
        about = f"By the given probabilities, {rate:.1f} % of the labels are wrong."
        return f"{about} {_flagged(summary, names)}"
    low, high = (100.0 * end for end in summary["noise_rate_interval"])
    if summary["separable"]:
        interval = f"(90 % interval: {low:.1f} to {high:.1f} %)"
        if summary["settings"].get("source") == TRAINER:
            interval = (
                f"({low:.1f} to {high:.1f} % by its losses, and more if it learned wrong ones)"
            )
        about = f"About {rate:.1f} % of the labels are probably wrong {interval}."
        return f"{about} {_flagged(summary, names)}"
    few = ", as is usual with so few rows" if summary["n"] < FEW_ROWS else ""
    known = [name for name in REASONS if name in summary["settings"]]
    why = f"they look like one population{few}"
    if known:
        why = reason_of(known[0], summary["unlearned_classes"], names)
    cannot = (
        f"Cannot tell from these losses: {why}. That is no proof that the labels are right; "
        f"up to {high:.1f} % could be wrong, and more if the wrong ones follow the inputs."
    )
    by_probs = summary["settings"].get("source") == WHOLE_ROWS
    if by_probs and known in ([], [TOO_FEW], [AGREED], [OTHER_SHAPES]):
        cannot += f" By whole rows of probabilities, {rate:.1f} % look wrong."
    if not summary["num_issues"]:
        return f"{cannot} Rows are ranked{', worst first' if by_probs else ' by their loss'}."
    return f"{cannot} {_unsure(summary)}"


def _unsure(summary: dict[str, Any]) -> str:
    """Return how many rows are flagged by losses that cannot tell how many of them are wrong."""
    return (
        f"{_rows(summary)}: if labels are wrong, most likely these, but all may be errors of the "
        "model."
    )


def _flagged(summary: dict[str, Any], names: dict[Any, str]) -> str:
    if not summary["num_issues"]:
        none = ": no label is more likely wrong than right" if summary["noise_rate"] else ""
        return f"{_rows(summary)}{none}. The rows are ranked, worst first."
    precision = precision_range(summary)
    unless = "the model is often wrong"
    if ORDER in summary["settings"]:
        unless += " or the columns are in another order"
    ending = f"{precision} of those should be label errors, fewer if {unless}."
    if unlearned := summary["unlearned_classes"]:
        ending += f" Most labels of {listed(unlearned, names)} are among them: right ones "
        ending += "too, if the model has not learned to tell them."
    if summary["like_mistakes"] > FEW_MISTAKES:
        ending += " Many of these labels are less unlikely to the model than labels at random "
        ending += "would be: as where it errs, and where people err in doubtful rows."
    if (agreement := summary["agreement"]) is not None and agreement < HARDLY:
        ending += f" The model itself gives {100.0 * agreement:.0f} % of all labels."
    return f"{_rows(summary)}; {ending}"


def _rows(summary: dict[str, Any]) -> str:
    count, n = summary["num_issues"], summary["n"]
    return f"{count:,} of {n:,} rows {'is' if count == 1 else 'are'} flagged"


def precision_range(summary: dict[str, Any]) -> str:
    """Return the expected share of label errors among the issues: from cautious to plain."""
    low = f"{100.0 * summary['cautious_precision']:.0f}"
    high = f"{100.0 * summary['expected_precision']:.0f}"
    if low == "100":
        return "nearly all"
    return f"{high} %" if low == high else f"{low} to {high} %"


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # run from a checkout that is not installed
            found[package] = "unknown"
    return found
