"""`AuditReport`: what was found of each row, one summary, and thin renderers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lossnoise._files import atomic_open
from lossnoise._labels import as_list, missing_values, one_dimensional
from lossnoise._validation import check_choice, check_int, invalid_data, require_extra
from lossnoise.audit._classes import declared_classes
from lossnoise.audit._csv import ReviewFile, fingerprint, write_issues
from lossnoise.audit._inputs import FloatArray
from lossnoise.audit._review import PathOrPaths, ReviewedLabels, review_files, review_labels
from lossnoise.audit._rows import AuditRows, Row
from lossnoise.audit._summary import Figures, complete_summary, count_rows, expected_proba
from lossnoise.audit._text import report_repr

if TYPE_CHECKING:
    import pandas as pd

    from lossnoise.detectors._threshold import Threshold

BACKENDS = ("pandas", "polars")


class AuditReport:
    """The rows whose labels are likely wrong, worst first; made by `audit`.

    Rows are ranked by the probability that their label is wrong, ties by loss, further ties by
    position. A row is a label issue where that probability is above .5.

    Parameters
    ----------
    rows : AuditRows
        What is known of each audited row.
    detector : LossMixtureDetector, optional
        The fitted detector that the probabilities come from.
    all_labels : array-like of shape (n_given,)
        Labels of all rows, also of those that were left out of the audit.
    positions : ndarray of shape (n,), intp
        Where the audited rows stand among all.
    names : dict
        How labels are shown, where that is not by themselves.
    settings : dict
        What the audit was asked for.

    Attributes
    ----------
    detector : LossMixtureDetector or None
        The fitted detector.
    noise_proba : ndarray of shape (n_given,), float64
        Probability that each label is wrong, in the order of the labels; NaN in rows left out.
    losses : ndarray of shape (n_given,), float64
        Losses in the order of the labels.
    order : ndarray of shape (n,), intp
        Positions of the audited rows, worst first.
    noisy_indices : ndarray of shape (n_issues,), intp
        Positions of the label issues, worst first.
    summary : dict
        Headline figures.
    table : pandas.DataFrame
        One line a row, worst first.

    Examples
    --------
    >>> from lossnoise import audit
    >>> report = audit([0, 1, 1, 0], noise_proba=[0.1, 0.9, 0.2, 0.7], losses=[0.1, 5, 0.3, 2])
    >>> report.noisy_indices
    array([1, 3])
    >>> report.summary["num_issues"]
    2
    """

    _counted: Any = None  # losses of all rows and of the issues, where not all rows were kept

    def __init__(
        self,
        rows: AuditRows,
        *,
        detector: Any = None,
        all_labels: Any,
        positions: NDArray[np.intp],
        names: dict[Any, str],
        settings: dict[str, Any],
    ) -> None:
        self.detector = detector
        self._rows_known = rows
        self._ranking = rows.ranking()  # among the audited rows
        self._all_labels = all_labels
        self._positions = positions
        self._names = names
        self._settings = settings

    @classmethod
    def from_trainer(cls, trainer: Any, dataset: Any, **options: Any) -> AuditReport:
        """Audit the labels that a trainer learned from, by its own losses and probabilities.

        Parameters
        ----------
        trainer : NoisyLabelTrainer
            Fitted to `dataset`.
        dataset : Dataset or DataLoader
            What it was fitted to. Pictures should come without augmentation: where what is
            predicted of them is not what the trainer's losses say, they are judged anew, by
            losses of these predictions. So are they by another model than that of the losses.
        **options : object
            ``index`` and ``class_names`` of `audit`, these in the order of the model's outputs.

        Returns
        -------
        report : AuditReport

        Raises
        ------
        InvalidDataError
            The dataset has another number of rows than the trainer has seen, or other labels.
        NotFittedError
            The trainer has no complete results, as inside its `fit`.
        """
        from lossnoise.audit._trainer import audit_trainer

        return audit_trainer("AuditReport.from_trainer", trainer, dataset, **options)

    @cached_property
    def noise_proba(self) -> FloatArray:
        """Return the probability that each label is wrong; NaN in rows that were left out."""
        return self._spread(self._rows_known.noise_proba)

    @cached_property
    def losses(self) -> FloatArray:
        """Return the loss of each row; NaN where it is not known."""
        return self._spread(self._rows_known.losses)

    @cached_property
    def order(self) -> NDArray[np.intp]:
        """Return the positions of the audited rows, worst first."""
        return np.asarray(self._positions[self._ranking])

    @property
    def noisy_indices(self) -> NDArray[np.intp]:
        """Return the positions of the rows whose label is more likely wrong than right."""
        return self.order[: self.summary["num_issues"]]

    @cached_property
    def summary(self) -> dict[str, Any]:
        """Return the headline figures as plain Python values.

        ``n`` audited rows and ``dropped`` ones; ``noise_rate`` (the mean probability of a wrong
        label), its ``noise_rate_interval`` (90 %) and ``separable`` (whether the losses show two
        populations), both None where no detector was needed; ``num_issues`` (rows above the
        ``threshold``), their ``expected_precision`` (the mean probability of a wrong label
        among them) and ``cautious_precision`` (the same if twice as many right labels are hard
        examples), both None where the losses cannot tell; ``per_class`` (a list of dicts with
        ``label``, ``n``, ``noise_rate`` and ``num_issues``) and ``per_group`` (the same of the
        `groups`, by ``group``); ``given_to_suggested`` (a list of dicts with ``given``,
        ``suggested`` and ``count`` over the issues, most first); ``unlearned_classes`` (most of
        whose labels are issues) and ``like_mistakes`` (the share of the issues that may be the
        model's, by how unlikely they are to it beside others), which count as right for
        ``cautious_precision``; ``agreement`` (the share of labels that the model gives itself, if
        known); ``verdict`` in words; ``versions``; ``settings``.
        """
        found = complete_summary(self._figures, self.detector, self._settings, self._names)
        return found | {"dropped": len(self._all_labels) - len(self._positions)}

    @cached_property
    def _figures(self) -> Figures:
        return count_rows(self._rows_known, self.detector)

    @cached_property
    def table(self) -> pd.DataFrame:
        """Return one line a row, worst first, with the index and the dtypes that were given.

        Columns: ``given_label``; ``suggested_label``, the most probable one other than the given
        one (NA where nothing is suggested), and its probability ``suggested_confidence``;
        ``loss``; ``p_noisy``; ``is_label_issue``; ``rank`` (from 1); ``label_score``, the
        probability of the given label, which cleanlab calls so (``exp(-loss)`` where only losses
        are known, NaN where they are no cross-entropy). Needs the ``audit`` extra (pandas).
        """
        return self._pandas(self._ranking, "AuditReport.table")

    def head(self, budget: int = 200) -> pd.DataFrame:
        """Return the rows to look at first, for somebody who can look at so many.

        Parameters
        ----------
        budget : int, default=200
            Number of rows.

        Returns
        -------
        rows : pandas.DataFrame
            The first rows of `table`. Its ``attrs`` hold the ``expected_precision``: the share
            of wrong labels to expect among them; None where the losses cannot tell.
        """
        first = self._ranking[: check_int("AuditReport.head", "budget", budget, 1)]
        rows = self._pandas(first, "AuditReport.head")
        expected = float(self._rows_known.noise_proba[first].mean())
        rows.attrs["expected_precision"] = None if self.summary["separable"] is False else expected
        return rows

    def threshold_for(
        self,
        *,
        precision: float | None = None,
        recall: float | None = None,
        budget: int | None = None,
    ) -> Threshold:
        """Return the probability above which to call labels wrong, chosen by one need.

        Parameters
        ----------
        precision : float in (0, 1], optional
            Expected share of wrong labels among those called wrong, at least. Where the losses
            cannot tell, all count as right, else ``unlearned_classes`` and ``like_mistakes``.
        recall : float in (0, 1], optional
            Expected share of the wrong labels that are called wrong, at least.
        budget : int, optional
            Number of labels that somebody can look at, at most. Rows with the same ``p_noisy``
            stay together, and often many have the highest one: `head` takes as many as wanted.

        Returns
        -------
        cut : Threshold
            Named tuple ``(threshold, precision, recall, count)``: rows whose ``p_noisy`` is at
            least ``threshold``, and what to expect of them. The threshold is inf where the need
            cannot be met. For a `precision`, all of these go by what was said of it.

        Raises
        ------
        InvalidParameterError
            None or several needs were given, or one is out of range.

        Warns
        -----
        UnattainableThresholdWarning
            No threshold meets the need.
        """
        from lossnoise.detectors._threshold import Scores, choose_threshold

        rows = self._rows_known
        promise = None if precision is None else self.summary
        wrong, cautious = expected_proba(rows, self.detector, promise)
        return choose_threshold(
            "AuditReport.threshold_for",
            Scores(rows.noise_proba, np.ones(len(cautious)), wrong, cautious),
            precision=precision,
            recall=recall,
            budget=budget,
            advice="look at the noise rate and at separable in summary",
            tied_advice=f"head({budget}) takes the first of them",
        )

    # -- files ------------------------------------------------------------------------------

    def to_frame(self, backend: str = "pandas") -> Any:
        """Return the table as a data frame.

        Parameters
        ----------
        backend : {"pandas", "polars"}, default="pandas"
            A polars frame has the index as its first column.

        Returns
        -------
        table : pandas.DataFrame or polars.DataFrame
        """
        owner = "AuditReport.to_frame"
        if check_choice(owner, "backend", backend, BACKENDS) == "pandas":
            return self.table
        require_extra("polars", "polars", f"{owner}(backend='polars')")
        from lossnoise.audit._polars import build_table

        return build_table(self._rows_known.columns(), self._ranking, self._rows_known.ids)

    def to_csv(
        self, path: str | os.PathLike[str], *, budget: int | None = None, overwrite: bool = False
    ) -> None:
        """Write the table as a CSV file for a person to review, whole or not at all.

        The index is the first column; ``review`` is empty, for the label that a person finds
        right (see `apply_review`), and the last one, ``row_key``, tells which row it is. In UTF-8
        with a byte order mark, which spreadsheets need; cells that a spreadsheet would run as
        formulas begin with an apostrophe. Needs no pandas.

        Parameters
        ----------
        path : str or path-like
            Where to write; a file there is replaced, unless somebody has written into it.
        budget : int, optional
            Number of rows, worst first; by default all.
        overwrite : bool, default=False
            Whether to replace it nevertheless.

        Raises
        ------
        InvalidDataError
            The file holds reviews or notes.
        """
        target = ReviewFile("AuditReport.to_csv", "path", Path(path))
        if budget is not None:
            check_int(target.owner, "budget", budget, 1)
        header, rows = self._rows_known.ids.header, self.iter_rows(budget)
        write_issues(target, header, rows, self.fingerprint, self._names, overwrite=overwrite)

    def to_html(
        self,
        path: str | os.PathLike[str],
        inputs: Any = None,
        *,
        budget: int = 200,
        title: str = "Label audit",
    ) -> None:
        """Write one offline HTML file to look at and to review labels in, whole or not at all.

        It shows the verdict, the losses with the fitted mixture, the classes, which label is
        suggested for which, and a card for each of the worst rows, where a person can choose a
        label; the choices are downloaded as a file for `apply_review`. It loads nothing from
        elsewhere.

        Parameters
        ----------
        path : str or path-like
            Where to write; a file there is replaced.
        inputs : dataset, array, DataFrame or sequence, optional
            What was labelled, in the order of the labels: pictures (arrays, tensors, PIL images,
            or paths of files), texts, or rows of a table; also as a dataset of ``(input, label)``
            pairs. A table may hold the labels too. Only the rows shown are read, and all of them
            where they are in memory, to find equal inputs with different labels.
        budget : int, default=200
            Number of cards.
        title : str, default="Label audit"
            Heading of the page.

        Raises
        ------
        InvalidDataError
            `inputs` has another length than the labels, or an input cannot be shown.
        """
        owner = "AuditReport.to_html"
        require_extra("jinja2", "audit", owner)
        from lossnoise.audit._html import render_report

        check_int(owner, "budget", budget, 1)
        page = render_report(self, inputs, budget=budget, title=title)
        with atomic_open(os.path.realpath(path), encoding="utf-8") as file:
            file.write(page)

    def find_conflicts(self, inputs: Any) -> list[list[int]]:
        """Return the positions of rows whose inputs are equal although their labels differ.

        Parameters
        ----------
        inputs : dataset, array, DataFrame or sequence
            As for `to_html`; all of them are read, also from files.

        Returns
        -------
        conflicts : list of list of int
            Groups of positions, in the order of the labels.
        """
        from lossnoise.audit._cards import open_inputs
        from lossnoise.audit._conflicts import find_conflicts

        data = open_inputs("AuditReport.find_conflicts", inputs, self._all_labels)
        return find_conflicts(data, self._rows_known.given, self._positions)

    def to_parquet(self, path: str | os.PathLike[str]) -> None:
        """Write the table as a Parquet file, whole or not at all.

        Parameters
        ----------
        path : str or path-like
            Where to write; a file there is replaced.

        Raises
        ------
        InvalidDataError
            Parquet has no type for these labels, such as numbers mixed with strings.
        """
        owner = "AuditReport.to_parquet"
        require_extra("pyarrow", "audit", owner)
        table = self._pandas(self._ranking, owner)
        with atomic_open(os.path.realpath(path), "wb") as file:
            try:
                table.to_parquet(file, engine="pyarrow")
            except (ValueError, TypeError, NotImplementedError) as error:  # Arrow subclasses them
                got = f"labels that Arrow cannot hold ({error})"
                raise invalid_data(owner, "self", "a report of labels of one type", got) from error

    def apply_review(self, path: PathOrPaths, *, allow_new: bool = False) -> ReviewedLabels:
        """Return the labels as people corrected them in the file of `to_csv`.

        Only what stands in its ``review`` column counts: the text of a label corrects (or
        confirms) the row, nothing leaves it. Rows may be missing and in any order. The audited
        labels themselves are not changed.

        Parameters
        ----------
        path : str or path-like, or several of them
            The edited file; also as a spreadsheet saved it, with another separator. Several where
            people shared the rows: what two of them looked at must be the same label for both.
        allow_new : bool, default=False
            Whether a review may name a label that did not occur, and that is no class of the
            probabilities, where labels are strings. One that is nearly another, as by a typing
            error, is warned of (`NewLabelWarning`).

        Returns
        -------
        reviewed : ReviewedLabels
            ``labels`` and ``is_reviewed`` in the order of the labels, and ``changes``.

        Raises
        ------
        InvalidDataError
            A file is no review, belongs to other labels, contradicts itself or another one, has
            keys at other rows, or names a label that does not exist or that is not sure.
        """
        rows = self._rows_known
        occurring = one_dimensional(self._all_labels)
        known = as_list(occurring[~missing_values(occurring)])
        for column in (rows.suggested, rows.classes):
            known += [] if column is None else as_list(column)
        known += as_list(declared_classes(self._all_labels))
        return review_labels(
            review_files("AuditReport.apply_review", "path", path),
            self._all_labels,
            known=known,
            names=self._names,
            index_of=dict(zip(self._positions.tolist(), rows.ids.values.tolist(), strict=True)),
            allow_new=allow_new,
        )

    @cached_property
    def fingerprint(self) -> str:
        """Return what tells these labels, in their order, from others."""
        return fingerprint(self._all_labels)

    def iter_rows(self, budget: int | None = None) -> Iterator[Row]:
        """Return an iterator of the rows as plain values, worst first.

        Parameters
        ----------
        budget : int, optional
            How many; by default all.

        Returns
        -------
        rows : iterator of Row
            Named tuples of the cells of `table`, with ``index`` before and ``position`` after
            them.
        """
        at = self._ranking[:budget]
        return self._rows_known.cells(at, self._positions[at])

    def show_label(self, label: Any) -> str:
        """Return how a label is shown: its class name where it is the number of one.

        Parameters
        ----------
        label : object
            A given or suggested label.

        Returns
        -------
        text : str
        """
        return self._names.get(label, str(label)) if self._names else str(label)

    def __len__(self) -> int:
        return len(self._positions)

    def __repr__(self) -> str:
        return report_repr(self)

    def _repr_html_(self) -> str:
        from lossnoise.audit._notebook import render_notebook

        return render_notebook(self)

    # -- inside -----------------------------------------------------------------------------

    def _spread(self, values: FloatArray) -> FloatArray:
        """Return values of the audited rows at the positions of all rows."""
        spread = np.full(len(self._all_labels), np.nan)
        spread[self._positions] = values
        return spread

    def _pandas(self, ranking: NDArray[np.intp], owner: str) -> pd.DataFrame:
        require_extra("pandas", "audit", owner)
        from lossnoise.audit._table import build_table

        ids = self._rows_known.ids
        return build_table(self._rows_known.columns(), ranking, ids.source, ids.name)
