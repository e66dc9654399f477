"""The command ``lossnoise``: parse, call one function, print."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

from lossnoise import __version__
from lossnoise.audit._commands import BAD_INPUT, Outcome, run_audit, run_review
from lossnoise.audit._text import printable
from lossnoise.exceptions import LossNoiseError, LossNoiseWarning, NoSeparableNoiseWarning

INTERRUPTED = 130

AUDIT = """\
Find the labels in FILE (CSV, Parquet, NPY, NPZ) that are likely wrong, by the
losses or the predicted probabilities of a model that did not memorise them."""
AUDIT_MORE = """\
An NPY file holds losses; its labels are another one: --labels labels.npy. A
file with losses alone (and row names: --index) is audited without labels.
Exit status: 0 fine, 1 an estimate above --max-noise (whatever its interval),
2 bad input, 3 --max-noise was asked and the losses cannot tell."""
REVIEW = """\
Write FILE again with its labels corrected: by the column `review` of what
`lossnoise audit --csv` wrote, and a person filled in. Nothing else changes.
Several tables are the work of several people: where two of them looked at the
same row, they must agree."""


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` whose errors are one line."""

    def __init__(self, **options: Any) -> None:
        formatter = argparse.RawDescriptionHelpFormatter
        super().__init__(allow_abbrev=False, formatter_class=formatter, **options)

    def error(self, message: str) -> NoReturn:
        """End with the exit status of bad input."""
        self.exit(BAD_INPUT, f"lossnoise: error: {message} (see {self.prog} --help)\n")


def make_parser() -> Parser:
    """Return the parser of the command line."""
    parser = Parser(prog="lossnoise", description="Find wrong labels, and correct them.")
    parser.add_argument("--version", action="version", version=f"lossnoise {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    audit = commands.add_parser(
        "audit", help="find labels that are likely wrong", description=AUDIT, epilog=AUDIT_MORE
    )
    audit.set_defaults(run=run_audit)
    _add_audit_options(audit)
    review = commands.add_parser(
        "review", help="write a file with its labels corrected", description=REVIEW
    )
    review.set_defaults(run=run_review)
    _add_review_options(review)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments; by default those of the process.

    Returns
    -------
    status : int
        Exit status.
    """
    arguments = sys.argv[1:] if argv is None else argv
    parser = make_parser()
    try:
        if not arguments:
            _print(parser.format_help())
            return BAD_INPUT
        return _run(**vars(parser.parse_args(arguments)))
    except KeyboardInterrupt:
        _say("interrupted")
        return INTERRUPTED
    except (LossNoiseError, OSError, MemoryError) as error:
        _say(f"error: {_reason(error)}")
        return BAD_INPUT
    except Exception as error:  # Python's own status, 1, would say "more noise"
        _say(f"error: {_unexpected(error)}")
        return BAD_INPUT


def _run(run: Callable[..., Outcome], **options: Any) -> int:
    quiet = options.get("quiet", False)
    with _warnings_in_one_line(quiet):
        outcome = run(**options)
    _print(outcome.text)
    if outcome.note and not quiet:
        _say(outcome.note)
    return outcome.status


def _add_audit_options(audit: Parser) -> None:
    audit.add_argument("file", metavar="FILE", help="one row a label")
    audit.add_argument("--labels", metavar="COL", help="labels (default: label or labels)")
    values = audit.add_mutually_exclusive_group()
    values.add_argument("--losses", metavar="COL", help="losses (default: loss or losses)")
    values.add_argument(
        "--pred-probs",
        metavar="COLS",
        help="p_cat,p_dog or 'p_*' or an array (default: pred_probs)",
    )
    audit.add_argument(
        "--loss-scale",
        choices=["cross-entropy", "any"],
        default="cross-entropy",
        metavar="any",
        help="for losses that are no cross-entropy",
    )
    audit.add_argument("--index", metavar="COL", help="what names the rows (default: numbers)")
    audit.add_argument("--groups", metavar="COL", help="a noise rate for each, as who labelled")
    audit.add_argument("-o", dest="output", metavar="HTML", help="write a report to look at")
    audit.add_argument("--csv", metavar="CSV", help="write a table to review, worst rows first")
    rows = audit.add_mutually_exclusive_group()
    rows.add_argument(
        "--budget",
        type=_count,
        metavar="N",
        help="write the N worst rows (default: HTML 200, CSV all)",
    )
    rows.add_argument(
        "--precision",
        type=_share_above_0,
        metavar="SHARE",
        help="write the worst rows, at least this share wrong",
    )
    audit.add_argument("--json", action="store_true", help="print the summary as JSON")
    audit.add_argument(
        "--max-noise", type=_share, metavar="SHARE", help="fail if the estimate is above, as 0.05"
    )
    audit.add_argument("--quiet", action="store_true", help="nothing on stderr but errors")


def _add_review_options(review: Parser) -> None:
    review.add_argument(
        "reviews", metavar="CSV", nargs="+", help="the reviewed table; or several of one audit"
    )
    review.add_argument("--labels", metavar="FILE", required=True, help="what was audited")
    review.add_argument("--column", metavar="COL", help="its labels (default: label or labels)")
    review.add_argument(
        "-o", dest="output", metavar="OUT", required=True, help="another file of the same kind"
    )


def _count(text: str) -> int:
    try:
        count = int(text)
    except ValueError:
        count = 0
    if count < 1:
        raise argparse.ArgumentTypeError(f"a number of rows from 1 on is needed, not {text!r}")
    return count


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0.0 <= share <= 1.0:
        raise argparse.ArgumentTypeError(f"a share between 0 and 1 is needed, not {text!r}")
    return share


def _share_above_0(text: str) -> float:
    share = _share(text)
    if not share:
        raise argparse.ArgumentTypeError(f"a share above 0 is needed, not {text!r}")
    return share


def _reason(error: BaseException) -> str:
    """Return what went wrong, in one line."""
    if isinstance(error, MemoryError):
        return "not enough memory: leave out columns or rows of the file"
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split())


def _unexpected(error: Exception) -> str:
    """Return what is no fault of the input, and where it was found, in one line."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{os.path.basename(place.filename)}, line {place.lineno}"
    found = f"{type(error).__name__} {_reason(error)}"
    return f"unexpected {found} ({where}): this is a mistake in lossnoise, please report it"


def _say(line: str) -> None:
    if sys.stderr is not None:  # it was closed, and print would take stdout
        print(f"lossnoise: {printable(line)}", file=sys.stderr)  # noqa: T201  # the command line


def _print(text: str) -> None:
    """Print a result; who stops reading has read enough."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # any label, in any encoding
    try:
        print(text, flush=True)  # noqa: T201  # this is the command line
    except OSError as error:  # Python would complain again as it closes stdout
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            raise


@contextmanager
def _warnings_in_one_line(quiet: bool) -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if not quiet:
            warnings.simplefilter("always", LossNoiseWarning)
        warnings.simplefilter("ignore", NoSeparableNoiseWarning)  # the verdict says it
        warnings.showwarning = lambda message, *_, **__: _say(f"warning: {message}")
        yield
