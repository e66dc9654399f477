"""The audit of files that do not fit in memory: passes to count, and to judge.

The losses are counted in a histogram, whose bins have a relative width of 2^-7, and the detector is
fitted to that; then each row is judged, and only the worst are kept.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from lossnoise._labels import are_targets, encode_labels, object_array
from lossnoise._losses import losses_from_probs
from lossnoise._validation import invalid_data
from lossnoise.audit._audit import suggestions
from lossnoise.audit._classes import (
    Choices,
    Columns,
    distance_from_one,
    warn_of_labels,
    warn_of_order,
    warn_of_scaling,
)
from lossnoise.audit._csv import LabelMark
from lossnoise.audit._doubts import doubt_of, unlearned_classes
from lossnoise.audit._files import bad_file
from lossnoise.audit._inputs import FloatArray, RowIds, as_cells
from lossnoise.audit._mistakes import OwnClass, Places
from lossnoise.audit._report import AuditReport
from lossnoise.audit._rows import AuditRows
from lossnoise.audit._select import Chunk, ColumnNames
from lossnoise.audit._summary import (
    ORDER,
    THRESHOLD,
    Figures,
    cautious_proba,
    complete_summary,
    count_contradicted,
    rank_pairs,
)
from lossnoise.audit._whole_rows import (
    Contradicted,
    SelfConfidence,
    Suspected,
    cannot_tell,
    evidence_of,
    shift_to,
    shifted,
    suspicions,
)
from lossnoise.exceptions import LossScaleWarning, NoSeparableNoiseWarning

if TYPE_CHECKING:
    from lossnoise.detectors._histogram import LossHistogram

KEPT = 10_000  # rows of the report
MOST_CLASSES = 100_000  # more are no classes, and would not fit in memory either

Chunks = Callable[[str], Iterable[Chunk]]  # a new pass over the rows, for the work so named


class StreamedReport(AuditReport):
    """The worst rows of a file that was never in memory as a whole.

    `summary` is that of all rows; everything else knows the rows that were kept only.

    Parameters
    ----------
    rows : AuditRows
        The rows that were kept.
    positions : ndarray of shape (n_kept,), intp
        Where they stand in the file, ascending.
    detector : LossMixtureDetector
        The fitted detector.
    summary : dict
        Headline figures of all rows.
    names : dict
        How labels are shown, where that is not by themselves.
    fingerprint : str
        What tells the labels of the file, in their order, from others.
    counted : tuple of LossHistogram
        Losses of all rows, and of all label issues.
    """

    def __init__(
        self,
        rows: AuditRows,
        *,
        positions: NDArray[np.intp],
        detector: Any,
        summary: dict[str, Any],
        names: dict[Any, str],
        fingerprint: str,
        counted: tuple[Any, Any],
    ) -> None:
        super().__init__(
            rows,
            detector=detector,
            all_labels=range(summary["n"]),  # as many as there are; they themselves were not kept
            positions=positions,
            names=names,
            settings=summary["settings"],
        )
        self.summary = summary
        self.fingerprint = fingerprint
        self._counted = counted

    def apply_review(self, path: object, *, allow_new: bool = False) -> NoReturn:
        """Refuse: the labels are in a file."""
        expected = "of labels in memory; those of a file are corrected by `lossnoise review`"
        got = "a report of a file that was read in pieces"
        raise invalid_data("AuditReport.apply_review", "self", expected, got)


class Census:
    """Number of rows, classes and fingerprint of labels that come in pieces."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._mark = LabelMark()
        self.sizes: Counter[Any] = Counter()

    def add(self, labels: np.ndarray) -> None:
        """Count more labels."""
        cells = as_cells(labels).tolist()
        self._mark.add(map(str, cells))
        self.sizes.update(cells)
        if len(self.sizes) > MOST_CLASSES:
            problem = f"more than {MOST_CLASSES:,} different labels: is that the right column?"
            raise bad_file(self._path, problem)

    def check_classes(self) -> None:
        """Refuse the targets of a regression, of which each would become a class of its own."""
        if are_targets(list(self.sizes), self.sizes.total()):
            found = f"{len(self.sizes):,} different numbers with fractions as labels"
            problem = "they are no classes, and a regression has none"
            advice = "numbers that do name classes can have a letter before them"
            raise bad_file(self._path, f"{found}: {problem} ({advice})")

    @property
    def classes(self) -> list[Any]:
        """Return the labels that occur, sorted where they can be."""
        return list(encode_labels(object_array(list(self.sizes)))[0])

    @property
    def fingerprint(self) -> str:
        """Return what tells the labels from others."""
        return self._mark.hexdigest()


class SeenRows:
    """What a pass over probabilities finds beside the losses.

    Attributes
    ----------
    own : OwnClass
        Rows that others are compared with.
    choices : Choices
        What labels and first choices are together.
    confidence : SelfConfidence
        The probabilities of given labels, by class.
    contradicted : LossHistogram
        The losses of labels that are not the first choice.
    """

    def __init__(self, classes: int) -> None:
        from lossnoise.detectors._histogram import LossHistogram

        self.own, self.choices = OwnClass(classes), Choices()
        self.confidence = SelfConfidence(np.zeros(classes), np.zeros(classes, dtype=np.intp))
        self.contradicted = LossHistogram()

    def add(self, columns: Columns, losses: FloatArray) -> None:
        """Add rows."""
        self.own.add(columns)
        self.choices = self.choices.plus(columns.choices)
        self.confidence = self.confidence.plus(SelfConfidence.of(columns))
        self.contradicted.fill(losses[columns.contradicted])


class Judged(NamedTuple):
    """Rows with what was found of them, in the order of the file."""

    positions: NDArray[np.intp]
    labels: np.ndarray
    ids: np.ndarray
    wrong: FloatArray
    losses: FloatArray
    suggested: np.ndarray | None
    confidence: FloatArray | None
    label_score: FloatArray

    def take(self, rows: np.ndarray) -> Judged:
        """Return some of the rows."""
        return Judged._make(None if column is None else column[rows] for column in self)


class Classes:
    """Labels of the columns of probabilities."""

    def __init__(self, names: list[Any]) -> None:
        self.labels = object_array(names)
        self._place = {label: i for i, label in enumerate(names)}

    def codes(self, labels: np.ndarray) -> NDArray[np.intp]:
        """Return the column of each label."""
        cells = as_cells(labels).tolist()
        return np.fromiter(map(self._place.__getitem__, cells), dtype=np.intp, count=len(cells))

    def columns(self, chunk: Chunk) -> Columns:
        """Return the probabilities of some rows, as they are, with what their columns are."""
        assert chunk.probs is not None
        return Columns(self.labels, self.codes(chunk.labels), chunk.probs)


def audit_stream(
    path: Path,
    chunks: Chunks,
    finder: Any,
    *,
    classes_of: Callable[[list[Any], int], ColumnNames],
    names_of: Callable[[list[Any]], dict[Any, str]],
    settings: dict[str, Any],
    kept: int = KEPT,
    index_name: str | None = None,
) -> StreamedReport:
    """Audit rows that come in pieces, any number of times.

    Parameters
    ----------
    path : Path
        The file, for messages.
    chunks : callable
        ``chunks(work)``: the rows, in pieces, from the beginning, to be read for a work that is
        named so in the progress output.
    finder : LossMixtureDetector
        Not fitted.
    classes_of : callable
        ``classes_of(labels that occur, number of columns)``: the label of each column.
    names_of : callable
        ``names_of(labels that occur)``: how they are shown, where that is not by themselves.
    settings : dict
        What the audit was asked for.
    kept : int
        Rows of the report.
    index_name : str, optional
        Which column names the rows.
    """
    from lossnoise.detectors._histogram import LossHistogram

    census, histogram, width = Census(path), LossHistogram(), 0
    for chunk in chunks("counting"):
        census.add(chunk.labels)
        if chunk.losses is not None:
            histogram.fill(chunk.losses)
        elif chunk.probs is not None:
            width = chunk.probs.shape[1]
    census.check_classes()
    classes, seen = None, SeenRows(width)
    if width:
        names = classes_of(census.classes, width)
        classes = Classes(names.labels)
        _count_from_probs(histogram, seen, chunks("fitting"), classes)
        if names.doubt:
            order = warn_of_order(classes.labels, seen.choices.table, names.doubt)
            settings = settings | ({ORDER: order} if order else {})
    fitted = _fit(finder, histogram, by_rows=classes is not None)
    everything = contradicted = _suspected(fitted, histogram, by_rows=bool(width))
    if width:
        contradicted = _suspected(fitted, seen.contradicted, by_rows=True)
    judge = Judge(fitted, classes, seen.confidence.thresholds)
    sums = Sums(fitted, LossHistogram(), seen.own, judge.highest(contradicted))
    worst = _judge_all(chunks("judging"), judge, kept, sums)
    evidence = evidence_of(fitted, everything, contradicted, seen.choices, sums.by_rows)
    if width and cannot_tell(fitted, evidence):
        judge = judge._replace(shift=shift_to(contradicted, sums.by_rows.share))
        sums = Sums(fitted, LossHistogram(), seen.own, judge.highest(contradicted))
        worst = _judge_all(chunks("judging again"), judge, kept, sums)
    figures = sums.figures(census)
    if doubt := doubt_of(figures, fitted, evidence):
        settings = settings | {doubt: True}
    warn_of_labels(census.classes)
    names_shown = names_of(census.classes)
    return StreamedReport(
        AuditRows(
            worst.labels,
            worst.labels,
            RowIds(worst.ids, index_name, worst.ids),
            *worst[3:],
            None if classes is None else classes.labels,
        ),
        positions=worst.positions,
        detector=fitted,
        summary=complete_summary(figures, fitted, settings, names_shown),
        names=names_shown,
        fingerprint=census.fingerprint,
        counted=(histogram, sums.losses_of_issues),
    )


def _fit(finder: Any, histogram: LossHistogram, *, by_rows: bool) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NoSeparableNoiseWarning)  # the verdict says so
        if by_rows:  # these losses are cross-entropy, whatever they look like
            warnings.simplefilter("ignore", LossScaleWarning)
        return finder.fit_histogram(histogram)


def _suspected(fitted: Any, histogram: LossHistogram, *, by_rows: bool) -> Suspected:
    """Return how wrong labels look whose losses were counted."""
    losses, counts = histogram.bins()
    proba = suspicions(fitted, losses) if by_rows else fitted.predict_proba(losses)[:, 1]
    return Suspected(losses, proba, counts)


def _count_from_probs(
    histogram: LossHistogram, seen: SeenRows, chunks: Iterable[Chunk], classes: Classes
) -> None:
    """Fill a histogram with the losses of probabilities, and say by how much they missed 1."""
    off = 0.0
    for chunk in chunks:
        columns = classes.columns(chunk)
        off = max(off, distance_from_one(columns.probs))
        columns = columns.scaled()
        losses = losses_from_probs(columns.probs, columns.codes)
        histogram.fill(losses)
        seen.add(columns, losses)
    warn_of_scaling(off)


class Judge(NamedTuple):
    """What turns losses into P(wrong).

    Attributes
    ----------
    fitted : LossMixtureDetector
        The detector.
    classes : Classes or None
        Of the columns of probabilities, if there are any.
    thresholds : ndarray of shape (C,), float64
        How sure the model is of each class on average (`SelfConfidence`).
    shift : float or None
        By how much log-odds of contradicted labels are moved, if they are.
    """

    fitted: Any
    classes: Classes | None
    thresholds: FloatArray
    shift: float | None = None

    def highest(self, contradicted: Suspected) -> float:
        """Return the highest probability of a label that may look wrong; 0 where none does."""
        issues = self._moved(contradicted.proba) > THRESHOLD
        return float(np.exp(-contradicted.losses[issues].min(initial=np.inf)))

    def _moved(self, suspected: FloatArray) -> FloatArray:
        return suspected if self.shift is None else shifted(suspected, self.shift)

    def rows(self, chunk: Chunk, sums: Sums) -> Judged:
        """Judge rows as `audit` does, and add up what is known of them."""
        positions = np.arange(chunk.start, chunk.start + len(chunk.labels))
        found = (positions, as_cells(chunk.labels), as_cells(np.asarray(chunk.ids)))
        if self.classes is None or chunk.probs is None:
            assert chunk.losses is not None
            wrong = self.fitted.predict_proba(chunk.losses)[:, 1]
            known = suggestions(None, chunk.losses, self.fitted)
            return Judged(*found, wrong, chunk.losses, *known)
        columns = self.classes.columns(chunk).scaled()
        losses = losses_from_probs(columns.probs, columns.codes)
        wrong = np.zeros(len(losses))
        suspected = suspicions(self.fitted, losses[columns.contradicted])
        wrong[columns.contradicted] = self._moved(suspected)
        sums.add_columns(columns, wrong > THRESHOLD, self.thresholds)
        return Judged(*found, wrong, losses, *suggestions(columns, losses, self.fitted))


def _judge_all(chunks: Iterable[Chunk], judge: Judge, kept: int, sums: Sums) -> Judged:
    """Return the worst rows, in the order of the file, and add up all."""
    worst = None
    for chunk in chunks:
        judged = judge.rows(chunk, sums)
        sums.add(judged)
        worst = judged if worst is None else merge_worst(worst, judged, kept)
    assert worst is not None  # the detector refuses too few losses
    worst = worst.take(_ranking(worst)[:kept])
    return worst.take(np.argsort(worst.positions))


def _ranking(rows: Judged) -> NDArray[np.intp]:
    """Return rows worst first; of equals the first one."""
    return np.lexsort((rows.positions, -rows.losses, -rows.wrong))


def merge_worst(worst: Judged, more: Judged, kept: int) -> Judged:
    """Return the worst of both, and perhaps some more."""
    if len(worst.wrong) > kept:
        worst = worst.take(_ranking(worst)[:kept])
    if len(worst.wrong) == kept:
        last = _ranking(worst)[-1]
        limit, loss = worst.wrong[last], worst.losses[last]
        more = more.take((more.wrong > limit) | ((more.wrong == limit) & (more.losses > loss)))
    pairs = zip(worst, more, strict=True)
    return Judged._make(None if a is None else np.concatenate([a, b]) for a, b in pairs)


class Sums:
    """What the summary needs of all rows, and the chart: the losses of the issues are counted."""

    def __init__(
        self, detector: Any, losses_of_issues: LossHistogram, own: OwnClass, highest: float
    ) -> None:
        self._detector = detector
        self.losses_of_issues = losses_of_issues
        self._wrong: Counter[Any] = Counter()
        self._issues: Counter[Any] = Counter()
        self._pairs: Counter[tuple[Any, Any]] = Counter()
        self.by_rows = Contradicted()
        self._wrong_in_issues = 0.0
        self._contradicted: int | None = None
        self._own, self._highest = own, highest
        self._places = Places()
        self._cautious: Counter[Any] = Counter()  # in the issues of each class

    def add(self, rows: Judged) -> None:
        """Add up more rows."""
        issues = rows.wrong > THRESHOLD
        wrong, cautious = rows.wrong[issues], np.zeros(len(issues))
        cautious[issues] = cautious_proba(self._detector, rows.losses[issues], wrong)
        classes, codes = encode_labels(rows.labels)
        labels = classes.tolist()
        counters = (self._wrong, rows.wrong), (self._issues, issues), (self._cautious, cautious)
        for counter, weights in counters:
            totals = np.bincount(codes, weights=weights, minlength=len(labels)).tolist()
            for label, total in zip(labels, totals, strict=True):
                counter[label] += total
        self.losses_of_issues.fill(rows.losses[issues])
        self._wrong_in_issues += float(wrong.sum())
        if (more := count_contradicted(rows.confidence, rows.label_score)) is not None:
            self._contradicted = (self._contradicted or 0) + more
        if rows.suggested is not None:
            given, instead = rows.labels[issues].tolist(), rows.suggested[issues].tolist()
            self._pairs.update(zip(given, instead, strict=True))

    def add_columns(
        self, columns: Columns, issues: NDArray[np.bool_], thresholds: FloatArray
    ) -> None:
        """Add what whole rows say of more labels, and where issues stand among them."""
        self._places = self._places.plus(self._own.places(columns, issues, self._highest))
        self.by_rows = self.by_rows.plus(Contradicted.of(columns, thresholds))

    def figures(self, census: Census) -> Figures:
        """Return the figures of a summary."""
        n, issues = census.sizes.total(), int(self._issues.total())
        classes, pairs = list(self._classes(census)), rank_pairs(self._pairs)
        unlearned = unlearned_classes(classes, pairs)
        lost = set(unlearned)
        like_mistakes = self._places.like_mistakes
        known = sum(total for label, total in self._cautious.items() if label not in lost)
        cautious = known * (1.0 - like_mistakes)
        return Figures(
            n=n,
            contradicted=self._contradicted,
            noise_rate=float(self._wrong.total()) / n,
            num_issues=issues,
            expected_precision=self._wrong_in_issues / issues if issues else None,
            cautious_precision=cautious / issues if issues else None,
            per_class=classes,
            per_group=[],
            given_to_suggested=pairs,
            unlearned=unlearned,
            like_mistakes=like_mistakes,
        )

    def _classes(self, census: Census) -> Iterator[dict[str, Any]]:
        for label in census.classes:
            n = census.sizes[label]
            rate, issues = self._wrong[label] / n, int(self._issues[label])
            yield {"label": label, "n": n, "noise_rate": rate, "num_issues": issues}
