"""What the commands of `lossnoise.cli` do: files in, files out, a text and an exit status."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from lossnoise._validation import require_extra
from lossnoise._warnings import warn
from lossnoise.audit._csv import ReviewFile, count_written
from lossnoise.audit._file_audit import FileAudit, Limits, audit_file
from lossnoise.audit._file_review import review_file
from lossnoise.audit._files import bad_file
from lossnoise.audit._text import expectation, printable, report_text
from lossnoise.audit._ticker import Ticker
from lossnoise.exceptions import UnattainableThresholdWarning

FINE, TOO_MUCH_NOISE, BAD_INPUT, CANNOT_TELL = range(4)

OTHER_KINDS = {".xlsx", ".xls", ".ods", ".parquet", ".json", ".npy", ".npz", ".pdf"}

CARDS = 200  # of the HTML report, where nobody says how many


class Outcome(NamedTuple):
    """How a command ended.

    Attributes
    ----------
    status : int
        Exit status.
    text : str
        For stdout.
    note : str
        For stderr; may be empty.
    """

    status: int
    text: str
    note: str = ""


def run_audit(
    file: str,
    *,
    labels: str | None,
    losses: str | None,
    pred_probs: str | None,
    index: str | None,
    groups: str | None,
    loss_scale: str,
    output: str | None,
    csv: str | None,
    budget: int | None,
    precision: float | None,
    json: bool,
    max_noise: float | None,
    quiet: bool,
    limits: Limits | None = None,
) -> Outcome:
    """Run ``lossnoise audit``; the parameters are its options."""
    path = Path(file)
    others = (
        Path(name) for name in (labels, losses, pred_probs, index, groups) if name is not None
    )
    _check_results([path, *others], csv, output)
    limits = limits or Limits()
    found = audit_file(
        path,
        labels=labels,
        losses=losses,
        pred_probs=pred_probs,
        index=index,
        groups=groups,
        loss_scale=loss_scale,
        ticker=Ticker(quiet=quiet),
        limits=limits._replace(kept=max(limits.kept, budget or 0)),
    )
    rows = budget if precision is None else count_precise(found, precision)
    written = [] if rows == 0 else _write(found, csv, output, rows)
    status, note = judge_noise(found.report.summary, max_noise)
    text = _as_json(found.report.summary) if json else _as_text(found, path, written, rows)
    return Outcome(status, text, note)


def run_review(reviews: list[str], *, labels: str, column: str | None, output: str) -> Outcome:
    """Run ``lossnoise review``; the parameters are its options."""
    paths = [Path(review) for review in reviews]
    _check_outputs([Path(labels), *paths], [Path(output)])
    done = review_file(paths, Path(labels), column=column, output=Path(output))
    text = f"{done.num_changed:,} labels changed, of {done.num_reviewed:,} rows with a review"
    if not done.num_reviewed:
        text = f"0 labels changed: the column 'review' of {' and of '.join(reviews)} is empty"
    if done.num_applied:
        text += f"; {done.num_applied:,} changes were already applied"
    return Outcome(FINE, f"{text}\nwrote {printable(output)}")


def judge_noise(summary: dict[str, Any], max_noise: float | None) -> tuple[int, str]:
    """Return the exit status that the estimated noise gives, whatever its interval, and why."""
    if max_noise is None:
        return FINE, ""
    if summary["separable"] is False:
        return CANNOT_TELL, "cannot tell from these losses whether there is more noise than allowed"
    rate = summary["noise_rate"]
    if rate <= max_noise:
        return FINE, ""
    low, high = (100.0 * end for end in summary["noise_rate_interval"])
    found = f"about {100.0 * rate:.3g} % of the labels are wrong"
    interval = f"(90 % interval: {low:.3g} to {high:.3g} %)"
    allowed = f"{100.0 * max_noise:.3g} % are allowed"
    return TOO_MUCH_NOISE, f"too much noise: {found} {interval}, {allowed}"


def count_precise(found: FileAudit, precision: float) -> int:
    """Return how many of the worst rows are as precise; warn where none are, or more may be."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnattainableThresholdWarning)  # it speaks of Python
        count = found.report.threshold_for(precision=precision).count
    if not count:
        why = f"No rows are so likely wrong that --precision {precision:g} is met"
        advice = "ask for less, or for the worst rows by --budget N"
        warn(f"{why}, and nothing was written: {advice}.", UnattainableThresholdWarning)
    elif found.streamed and count == len(found.report):
        why = f"All {count:,} rows that were kept meet --precision {precision:g}"
        advice = "--budget N keeps as many as it says"
        warn(f"{why}, and others may: {advice}.", UnattainableThresholdWarning)
    return count


def _write(found: FileAudit, csv: str | None, output: str | None, rows: int | None) -> list[str]:
    """Write the table and the page that were asked for, and return their names."""
    if csv is not None:
        found.report.to_csv(csv, budget=rows)
    if output is not None:
        cards = rows or CARDS
        found.report.to_html(output, inputs=found.inputs(cards), budget=cards)
    return [target for target in (csv, output) if target is not None]


def _as_text(found: FileAudit, path: Path, written: Iterable[str], rows: int | None) -> str:
    parts = [report_text(found.report, printable(path.name))]
    if rows:
        parts.append(expectation(found.report, rows))
    if found.streamed:
        kept = f"only its {len(found.report):,} worst rows were kept"
        parts.append(f"The file was read in pieces, and {kept}.")
    if notes := [f"wrote {printable(target)}" for target in written]:
        parts.append("\n".join(notes))
    return "\n\n".join(parts)


def _as_json(summary: dict[str, Any]) -> str:
    return json.dumps(_finite(summary), indent=2, default=str, allow_nan=False)


def _finite(value: Any) -> Any:
    """Return plain values with numbers that JSON does not know, such as inf, as text."""
    if isinstance(value, dict):
        return {name: _finite(entry) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(entry) for entry in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _check_results(read: list[Path], csv: str | None, output: str | None) -> None:
    """Refuse, before the work, a table or a page that could not be written."""
    written = [Path(target) for target in (csv, output) if target is not None]
    _check_outputs(read, written)
    for target in written:
        _check_reviews(target)
        ending = target.suffix.lower()
        if ending == ".gz":
            raise bad_file(target, "tables and reports are not compressed: leave out the ending")
        if ending in OTHER_KINDS:
            kinds = "tables are CSV and reports HTML, whatever their names"
            raise bad_file(target, f"{kinds}: choose another ending than {ending}")
    if output is not None:
        require_extra("jinja2", "audit", "-o")


def _check_outputs(read: list[Path], written: list[Path]) -> None:
    """Refuse, before the work, what could not be written or would be lost."""
    if len({target.resolve() for target in written}) < len(written):
        raise bad_file(written[0], "is named twice: the table and the report are two files")
    for target in written:
        if any(target.exists() and path.exists() and target.samefile(path) for path in read):
            raise bad_file(target, "is read too: write to another file, so that nothing is lost")
        if target.is_dir():
            raise bad_file(target, "is a folder: name a file in it")
        if target.exists() and not target.is_file():  # a device or a pipe
            raise bad_file(target, "is no file that could be replaced: name another one")
        if not target.parent.is_dir():
            raise bad_file(target, f"there is no folder {target.parent}: make it first")


def _check_reviews(path: Path) -> None:
    """Refuse to write over what a person filled in."""
    if path.is_file() and (written := count_written(ReviewFile("audit", "--csv", path))):
        advice = "apply them with `lossnoise review`, or write to another file"
        raise bad_file(path, f"holds {written:,} reviews or notes that would be lost: {advice}")
