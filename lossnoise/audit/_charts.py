"""Charts of the page as plain geometry: a histogram with its curves, and a matrix of counts."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lossnoise.audit._inputs import FloatArray

if TYPE_CHECKING:
    from lossnoise.audit._report import AuditReport
    from lossnoise.detectors._histogram import LossHistogram

# Units of the drawing, which the page stretches to the space that it has.
WIDTH, HEIGHT = 1000.0, 300.0
BARS, POINTS = 60, 240

# A bar this much higher than all beyond the first eighth would hide them: it is cut off.
TALLEST = 6.0
# Beyond this share of the values, a tail that is longer than all the rest is one bar.
BULK = 0.995

MAX_CLASSES = 20
SHADES = 8


class Bar(NamedTuple):
    """A bar of the histogram, with the part of it that is flagged at its foot."""

    x: float
    width: float
    height: float
    flagged_height: float
    title: str


class Chart(NamedTuple):
    """A histogram of losses, or of probabilities where losses are not known.

    Attributes
    ----------
    quantity : str
        What is on the axis.
    bars : list of Bar
        From left to right.
    ticks : list of str
        Numbers at equal distances along the axis.
    curves : dict
        SVG paths of the fitted components, by name.
    cut_x, cut : float or None
        Where the threshold is on the drawing, and its value.
    cut_off : bool
        Whether a bar is higher than the drawing.
    has_tail : bool
        Whether the last bar holds all higher values too.
    """

    quantity: str
    bars: list[Bar]
    ticks: list[str]
    curves: dict[str, str]
    cut_x: float | None
    cut: float | None
    cut_off: bool
    has_tail: bool


class Cell(NamedTuple):
    """A number of the matrix; `shade` is from 0 (none) to `SHADES` (the highest)."""

    given: Any
    suggested: Any
    number: int
    shade: int


# -- histogram --------------------------------------------------------------------------------


def draw_losses(report: AuditReport) -> Chart | None:
    """Return the histogram of a report; None where it has nothing to show."""
    rows = report._rows_known
    flagged = rows.noise_proba > report.summary["threshold"]
    if np.isnan(rows.losses).all():
        quantity, wrong = "probability that the label is wrong", rows.noise_proba
        return _draw(quantity, Values(wrong), Values(wrong[flagged]), None)
    detector = report.detector if hasattr(report.detector, "_sample_fit") else None
    if report._counted is not None:  # the rows that were kept are not all
        counted, issues = map(Bins, report._counted)
        return _draw("loss", counted, issues, detector)
    return _draw("loss", Values(rows.losses), Values(rows.losses[flagged]), detector)


class Values:
    """Numbers that are all known."""

    def __init__(self, values: FloatArray) -> None:
        self._values = values
        self.size = len(values)

    def quantile(self, share: float) -> float:
        """Return the value below which a share of all is."""
        return float(np.quantile(self._values, share))

    def count(self, edges: FloatArray) -> NDArray[np.intp]:
        """Return how many are in each bar, those beyond the edges in the first or last one."""
        return np.asarray(np.histogram(np.clip(self._values, edges[0], edges[-1]), edges)[0])


class Bins:
    """Numbers that were counted: those within a bin count as evenly spread."""

    def __init__(self, histogram: LossHistogram) -> None:
        self._histogram = histogram
        self.size = len(histogram)

    def quantile(self, share: float) -> float:
        """Return the value below which a share of all is."""
        return float(self._histogram.quantile(share))

    def count(self, edges: FloatArray) -> NDArray[np.intp]:
        """Return how many are in each bar, those beyond the edges in the first or last one."""
        if not self.size:
            return np.zeros(len(edges) - 1, dtype=np.intp)
        middles, counts = self._histogram.bins()
        lows, totals = self._histogram.lower_edges(), counts.cumsum()
        ends = np.stack([lows, 2.0 * middles - lows], axis=1).ravel()
        below = np.interp(edges, ends, np.stack([totals - counts, totals], axis=1).ravel())
        below[0], below[-1] = 0.0, self.size
        return np.asarray(np.diff(np.rint(below).astype(np.intp)))


def nice_ticks(low: float, high: float, most: int = 8) -> FloatArray:
    """Return round numbers at equal distances, from at most `low` to at least `high`."""
    span = high - low or 1.0
    power = 10.0 ** math.floor(math.log10(span / most))
    steps = [power * factor for factor in (1.0, 2.0, 2.5, 5.0, 10.0, 20.0)]
    for step in steps:
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        if last - first <= most:
            break
    return np.asarray(step * np.arange(first, max(last, first + 1) + 1))


def _draw(quantity: str, values: Values | Bins, flagged: Values | Bins, detector: Any) -> Chart:
    bottom, bulk, top = map(values.quantile, (0.0, BULK, 1.0))
    has_tail = detector is not None and top > 2.0 * bulk > 0.0
    ticks = nice_ticks(bottom, bulk if has_tail else top)
    low, high = float(ticks[0]), float(ticks[-1])
    edges = np.linspace(low, high, BARS + 1)
    counts = values.count(edges)
    flags = np.minimum(flagged.count(edges), counts)  # bins are divided, and both rounded
    limit = _limit_of(counts)
    # A density of 1 is as many values a bar as this.
    scale = HEIGHT / limit * values.size * (high - low) / BARS
    curves, cut = {}, None
    if detector is None:
        cut = 0.5 if quantity != "loss" else None
    else:
        curves = _curves(detector, low, high, scale)
        cut = _cut_of(detector, low, high) if detector.separable_ or flagged.size else None
    return Chart(
        quantity,
        _bars(edges, counts, flags, HEIGHT / limit),
        [f"{tick:.6g}" for tick in ticks],
        curves,
        None if cut is None else WIDTH * (cut - low) / (high - low),
        cut,
        bool(counts.max() > limit),
        bool(has_tail and top > high),
    )


def _limit_of(counts: np.ndarray) -> float:
    """Return the count that the drawing is high: a heap at 0 must not hide the rest."""
    rest = counts[BARS // 8 :].max()
    return 1.08 * float(min(counts.max(), TALLEST * rest) if rest else counts.max())


def _bars(edges: FloatArray, counts: np.ndarray, flags: np.ndarray, scale: float) -> list[Bar]:
    width = WIDTH / BARS
    return [
        Bar(
            x=round(i * width, 2),
            width=round(0.86 * width, 2),
            height=round(min(HEIGHT, scale * count), 2),
            flagged_height=round(min(HEIGHT, scale * flag), 2),
            title=f"{edges[i]:.3g} to {edges[i + 1]:.3g}: {count:,} rows, {flag:,} flagged",
        )
        for i, (count, flag) in enumerate(zip(counts.tolist(), flags.tolist(), strict=True))
        if count
    ]


def _curves(detector: Any, low: float, high: float, scale: float) -> dict[str, str]:
    """Return the paths of the weighted densities of right and of wrong labels."""
    from lossnoise.detectors._fit import log_densities

    losses = np.linspace(low, high, POINTS)
    found = log_densities(losses, detector._sample_fit, detector._family)
    across = np.linspace(0.0, WIDTH, POINTS)
    return {
        name: _path(across, HEIGHT - scale * np.exp(density))
        for name, density in zip(("right", "wrong"), found[:2], strict=True)
    }


def _path(across: FloatArray, down: FloatArray) -> str:
    # A density may be infinite at its border; what is far outside the drawing is not seen.
    points = zip(across.tolist(), np.maximum(np.nan_to_num(down), -HEIGHT).tolist(), strict=True)
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def _cut_of(detector: Any, low: float, high: float) -> float | None:
    """Return the loss at which a label is as likely wrong as right, by the drawn curves."""
    from lossnoise.detectors._threshold import crossing

    cut = crossing(detector._sample_fit.mixture_curve.proba, detector.scaling_)
    return cut if low < cut < high else None


# -- matrix -----------------------------------------------------------------------------------


def draw_matrix(pairs: list[dict[str, Any]], classes: list[Any]) -> list[list[Cell]] | None:
    """Return counts of given (rows) and suggested (columns) labels; None for too many classes."""
    labels = list(dict.fromkeys([*classes, *(pair["suggested"] for pair in pairs)]))
    if not pairs or len(labels) > MAX_CLASSES:
        return None
    counts = {(pair["given"], pair["suggested"]): pair["count"] for pair in pairs}
    most = max(counts.values())
    return [
        [Cell(g, s, number := counts.get((g, s), 0), shade(number, most)) for s in labels]
        for g in labels
    ]


def shade(number: int, most: int) -> int:
    """Return how dark a number is; any but 0 is seen."""
    return math.ceil(SHADES * number / most)
