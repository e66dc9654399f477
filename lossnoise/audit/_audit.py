"""From labels and losses, probabilities or both to an `AuditReport`."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lossnoise._history import reduce_history
from lossnoise._labels import label_array, one_dimensional
from lossnoise._losses import losses_from_probs
from lossnoise._validation import invalid_data
from lossnoise._warnings import warn
from lossnoise.audit._classes import (
    Columns,
    SureNames,
    are_named,
    match_columns,
    order_remedy,
    read_class_names,
    shown_names,
    warn_of_labels,
    warn_of_order,
    warn_of_other_rows,
    warn_of_reversed,
)
from lossnoise.audit._doubts import REASONS, Evidence, doubt_of, reason_of
from lossnoise.audit._inputs import (
    DROPPED,
    FEWEST,
    OWNER,
    FloatArray,
    RowIds,
    Sources,
    check_rows,
    check_sources,
    complete_rows,
    own_copy,
    read_sources,
    take_labels,
)
from lossnoise.audit._mistakes import OwnClass
from lossnoise.audit._report import AuditReport
from lossnoise.audit._rows import AuditRows
from lossnoise.audit._summary import ORDER, THRESHOLD, WHOLE_ROWS
from lossnoise.audit._whole_rows import judge_whole_rows
from lossnoise.exceptions import LossScaleWarning, NoSeparableNoiseWarning


def audit(
    labels: Any,
    *,
    losses: ArrayLike | None = None,
    pred_probs: ArrayLike | None = None,
    logits: ArrayLike | None = None,
    noise_proba: ArrayLike | None = None,
    index: Any = None,
    class_names: Any = None,
    detector: Any = "auto",
    groups: Any = None,
    on_nan: str = "raise",
) -> AuditReport:
    """Find the labels that are likely wrong.

    At least one of `losses`, `pred_probs`, `logits` and `noise_proba` is needed. They should come
    from a model that did not memorise the labels: held-out predictions, or `NoisyLabelTrainer`.

    Parameters
    ----------
    labels : array-like of shape (n,)
        Labels as given, of any hashable type: list, numpy array, pandas, polars or Arrow column,
        tensor. None is a label like any other; NaN is refused.
    losses : array-like of shape (n,) or (n, k), optional
        Loss of each row against its given label, or a history of them with one column an epoch,
        whose mean counts (that of the last ones by the `history_reduction` of the detector). By
        default ``-log(p)``, where p is the probability of the given label in `pred_probs`, raised
        to 1e-12 where it is lower.
    pred_probs : array-like of shape (n, C), optional
        Predicted probabilities of the classes, C >= 2. Rows sum to 1 (within 1e-3, or
        the rounding of numbers of two or three digits, 0.2 at most; they are scaled, with a warning
        where it matters). A table whose columns have the names of the labels (also ``p_cat`` for
        ``Cat``) in another order, or of half of them and more but not of all, is refused.
    logits : array-like of shape (n, C), optional
        In place of `pred_probs`: their softmax.
    noise_proba : array-like of shape (n,), optional
        Probability that each given label is wrong. By default from a detector fitted to the
        losses, which claims nothing (0) where they cannot tell. Where the losses come
        from `pred_probs`, whole rows are known: a label that is the model's own first choice gets
        0, any other the plain posterior of the detector. Where the losses cannot tell, or whole
        rows speak for a quarter more wrong labels, its log-odds are moved until as many of these
        labels are wrong as confident learning counts [1]_: mistakes of the model are among them.
    index : array-like of shape (n,), optional
        What names the rows in the report. By default the index of `labels` if that is a pandas
        Series, else the positions from 0.
    class_names : array-like of shape (C,), optional
        The labels in the order of the columns of `pred_probs`; for integer labels 0, ..., C - 1
        also what to show for them. By default the categories of a pandas categorical, or the
        sorted labels that occur, if there are as many of them as columns; categories of polars
        and Arrow are sorted too.
    detector : {"auto", "beta", "gaussian"} or LossMixtureDetector, default="auto"
        What turns losses into probabilities. "auto" is the family that did best on the benchmarks
        of this library, at present "beta". An instance is cloned.
    groups : array-like of shape (n,), optional
        Group of each row, for instance its label: a noise rate for each of them (see the `fit`
        of the detector).
    on_nan : {"raise", "drop"}, default="raise"
        What to do with rows in which a number or the label is NaN, or null in a column of pandas,
        polars or Arrow (None in a list is a label): refuse them, or leave them out of the
        report. `AuditReport.summary` has their number.

    Returns
    -------
    report : AuditReport
        The rows, worst first, and a summary.

    Raises
    ------
    InvalidParameterError
        None of the sources was given, no such detector exists, or `on_nan` is another word.
    InvalidDataError
        An argument has the wrong shape or length, a pandas index other than that of the labels,
        is not finite, is not a probability, or the columns of `pred_probs` cannot be matched to
        the labels. There are fewer than 10 rows to fit a detector to.

    Warns
    -----
    NoSeparableNoiseWarning
        The losses look like one population, or like two others than the mixture found; of the
        losses of `pred_probs` only the verdict says so where no label looks wrong. Or the
        model gives most of the labels itself that look wrong by its losses, as one does that has
        learned from these rows. Or nearly all its probabilities are 0 or 1, or only labels with 0
        look wrong and it counts few rows for each prediction. Or most of what looks wrong are all
        labels of a class or two, as of rare ones that the model has not learned. Or labels and
        first choices agree as often as by chance. Or whole rows speak for many more wrong labels.
    RenormalizedWarning
        Rows of `pred_probs` did not sum to 1.
    LayoutWarning
        Most labels, or most of some classes, would be the most probable class of their row if the
        columns of `pred_probs` were in another order, more than frequent classes are by chance, and
        names of the columns do not say theirs. Or losses do not rise as the probability of the
        label falls, or `noise_proba` falls with it, a history of losses looks transposed, or losses
        look like means over batches.
    NewLabelWarning
        Labels differ by case, spaces or how characters or numbers are written only, and count as
        different classes.
    LossScaleWarning
        The given losses are hardly cross-entropy in nats, or flags, 0 or 1, or of probabilities
        that are.

    See Also
    --------
    AuditReport : What is returned.
    cross_val_losses : Held-out losses and probabilities of any classifier.

    References
    ----------
    .. [1] C. Northcutt, L. Jiang, I. Chuang, "Confident Learning: Estimating Uncertainty in Dataset
       Labels", JAIR 70, 2021, section 3.1: the confident joint of the labels that are not the
       model's first choice.

    Examples
    --------
    >>> from lossnoise import audit
    >>> pred_probs = [[0.9, 0.1], [0.2, 0.8], [0.95, 0.05]]
    >>> audit(["cat", "dog", "dog"], pred_probs=pred_probs, noise_proba=[0.1, 0.2, 0.9])
    AuditReport: By the given probabilities, 40.0 % of the labels are wrong. 1 of 3 rows is
    flagged; 90 % of those should be label errors, fewer if the model is often wrong. The
    model itself gives 67 % of all labels.
    index  given_label  suggested_label      loss  p_noisy  rank
        2          dog              cat   2.99573      0.9     1
        1          dog              cat  0.223144      0.2     2
        0          cat              dog  0.105361      0.1     3
    """
    from lossnoise.detectors._choice import make_detector  # scikit-learn: slow to load

    finder = make_detector(OWNER, detector)
    if hasattr(labels, "noise_proba_"):
        advice = "of a trainer, AuditReport.from_trainer(trainer, dataset) makes the report"
        raise invalid_data(OWNER, "labels", "an array or list of labels", str(type(labels)), advice)
    given = one_dimensional(labels)
    if on_nan != "drop" or not given.size:
        label_array(OWNER, labels, remedy=DROPPED)
    n = len(given)
    sources = read_sources(
        labels,
        n,
        losses=losses,
        pred_probs=pred_probs,
        logits=logits,
        noise_proba=noise_proba,
        groups=groups,
    )
    ids = RowIds.of(OWNER, labels, index, n)
    kept = complete_rows(given, sources, on_nan)
    everything = own_copy(labels, given)
    audited = everything
    if len(kept) < n:
        audited, ids, sources = take_labels(everything, kept), ids.take(kept), sources.take(kept)
    check_rows("logits" if pred_probs is None else "pred_probs", sources.pred_probs)
    names = read_class_names(class_names)
    header = logits if pred_probs is None else pred_probs
    rows, fitted, evidence = judge(audited, ids, sources, finder, names, header)
    settings: dict[str, Any] = {
        "detector": repr(finder),
        "source": _source(sources),
        "on_nan": on_nan,
    }
    if evidence.order:
        settings[ORDER] = evidence.order
    report = AuditReport(
        rows,
        detector=fitted,
        all_labels=everything,
        positions=kept,
        names=shown_names(rows.given, names),
        settings=settings,
    )
    if fitted is not None:
        warn_of_labels([known["label"] for known in report._figures.per_class])
        _tell_doubt(report, doubt_of(report._figures, fitted, evidence))
    return report


def _tell_doubt(report: AuditReport, doubt: str) -> None:
    """Have a report say, and warn, that it cannot tell, if there is a reason."""
    if doubt:
        report._settings[doubt] = True
        why = reason_of(doubt, report._figures.unlearned, report._names)
        warn(f"Cannot tell right from wrong labels: {why}.", NoSeparableNoiseWarning)
        return
    by_probs = report._settings["source"] == WHOLE_ROWS  # of losses it was said
    if by_probs and not report.detector.separable_ and report._figures.num_issues:
        warn(
            "Cannot tell right from wrong labels from the losses of these probabilities: they look "
            "like one population, which is no proof that the labels are right. How many of the "
            f"{report._figures.num_issues} rows that are flagged are errors of the model is not "
            "known: look at the first of them.",
            NoSeparableNoiseWarning,
        )


def judge(
    labels: Any, ids: RowIds, sources: Sources, finder: Any, names: list[Any] | None, header: Any
) -> tuple[AuditRows, Any, Evidence]:
    """Return what is known of each row, the fitted detector, and what may speak against it.

    The detector is None where none was needed.
    """
    given = label_array(OWNER, labels)
    check_sources(sources)
    losses, wrong, columns, classes = sources.losses, sources.noise_proba, None, None
    order = ""
    if sources.pred_probs is not None:
        columns = match_columns(sources.pred_probs, labels, given, names, header)
        classes = columns.classes
        if not (isinstance(names, SureNames) or are_named(header, classes)):
            order = warn_of_order(classes, columns.choices.table, order_remedy(names, classes))
        if losses is None:
            losses = losses_from_probs(columns.probs, columns.codes)
    single = np.full(len(given), np.nan)
    if losses is not None:
        single = reduce_history(losses, getattr(finder, "history_reduction", None))
    if columns is not None:
        _warn_of_contradictions(single, sources, columns)
    fitted, evidence, like_mistakes = None, Evidence(), 0.0
    if wrong is None:
        assert losses is not None  # one of the sources was given
        fitted = _fit(finder, losses, sources.groups, by_probs=columns is not None)
        wrong, evidence = _detect(fitted, losses, single, sources, columns)
        if columns is not None:
            like_mistakes = _like_mistakes(columns, wrong > THRESHOLD)
    found = suggestions(columns, single, finder)
    known = (labels, given, ids, wrong, single, *found, classes, sources.groups, like_mistakes)
    rows = AuditRows(*known)
    return rows, fitted, evidence._replace(order=order)


def _warn_of_contradictions(single: FloatArray, sources: Sources, columns: Columns) -> None:
    """Warn where probabilities do not go with losses or P(wrong) that came with them."""
    if sources.losses is not None and sources.groups is None:
        warn_of_other_rows(single, columns)
    if sources.noise_proba is not None and sources.losses is None:
        warn_of_reversed(sources.noise_proba, columns)


def _fit(finder: Any, losses: FloatArray, groups: Any, *, by_probs: bool) -> Any:
    if len(losses) < FEWEST:
        advice = "to fewer no detector can be fitted, and with noise_proba none has to be"
        raise invalid_data(OWNER, "labels", f"of at least {FEWEST} rows", f"{len(losses)}", advice)
    with warnings.catch_warnings():  # said in the words of an audit, where it matters
        warnings.simplefilter("ignore", NoSeparableNoiseWarning)
        if by_probs:  # these losses are cross-entropy, whatever they look like
            warnings.simplefilter("ignore", LossScaleWarning)
        return finder.fit(losses, groups=groups)


def _detect(
    fitted: Any, losses: FloatArray, single: FloatArray, sources: Sources, columns: Columns | None
) -> tuple[FloatArray, Evidence]:
    """Return P(wrong) by a detector, and what may speak against it."""
    if columns is not None and sources.losses is None:
        return judge_whole_rows(fitted, losses, columns, sources.groups)
    wrong = _wrong_by_losses(fitted, losses, sources.groups)
    evidence = Evidence() if columns is None else Evidence(votes=columns.choices.votes)
    if fitted.loss_scale == "cross-entropy":
        evidence = evidence.of_losses(single, single[wrong > THRESHOLD])
    return wrong, evidence


def _like_mistakes(columns: Columns, issues: NDArray[np.bool_]) -> float:
    """Return which share of the issues may be mistakes of the model."""
    own = OwnClass(len(columns.classes))
    own.add(columns)
    highest = float(columns.given[issues].max(initial=0.0))
    return own.places(columns, issues, highest).like_mistakes


def _wrong_by_losses(fitted: Any, losses: FloatArray, groups: Any) -> FloatArray:
    """Return P(wrong) from losses alone, and say where they cannot tell."""
    proba = np.asarray(fitted.predict_proba(losses, groups=groups)[:, 1])
    if not fitted.separable_ and fitted._sample_fit.doubt not in REASONS:  # those are told later
        warn(
            "Cannot tell right from wrong labels from these losses: they look like one "
            "population, which is no proof that the labels are right. p_noisy is 0 throughout; "
            "rows are ranked by their loss.",
            NoSeparableNoiseWarning,
        )
    return proba


# -- pure functions ---------------------------------------------------------------------------


def suggest(pred_probs: FloatArray, codes: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return the most probable class other than the given one; of equals the first."""
    others = pred_probs.copy()
    others[np.arange(len(codes)), codes] = -1.0  # below every probability
    return np.asarray(others.argmax(axis=1))


def suggestions(
    columns: Columns | None, losses: FloatArray, finder: Any
) -> tuple[np.ndarray | None, FloatArray | None, FloatArray]:
    """Return the suggested label, its probability, and that of the given label."""
    if columns is None and finder.loss_scale != "cross-entropy":
        return None, None, np.full(len(losses), np.nan)
    if columns is None:
        return None, None, np.exp(-np.maximum(losses, 0.0))
    rows = np.arange(len(columns.codes))
    best = suggest(columns.probs, columns.codes)
    return columns.classes[best], columns.probs[rows, best], columns.probs[rows, columns.codes]


def _source(sources: Sources) -> str:
    """Return which of the sources the probabilities come from."""
    if sources.noise_proba is not None:
        return "noise_proba"
    return "losses" if sources.losses is not None else WHOLE_ROWS
