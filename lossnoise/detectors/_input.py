"""What a detector accepts as losses: vectors and histories of every kind, and clear errors."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_array, validate_data

from lossnoise._history import reduce_history
from lossnoise._losses import LOWEST, are_certain
from lossnoise._validation import (
    BFLOAT16_STEP,
    JOIN,
    holds_vectors,
    invalid_data,
    miss_one,
    read_array,
    unmasked,
)
from lossnoise._warnings import warn
from lossnoise.detectors._fit import SampleFit
from lossnoise.detectors._grid import CHUNK
from lossnoise.detectors._histogram import LossHistogram
from lossnoise.detectors._numbers import (
    ODD,
    check_columns,
    check_dense,
    check_numbers,
    is_frame,
)
from lossnoise.detectors._sample import EXACT, LossSample
from lossnoise.detectors._scaling import CEILING
from lossnoise.detectors._separability import measure_separability
from lossnoise.exceptions import InvalidDataError, LayoutWarning, LossScaleWarning

MIN_SAMPLES = 10
MOST_ROWS = 0.95  # of probabilities sum to 1, among a few odd ones
COLUMNS = ("n_features_in_", "feature_names_in_")  # what scikit-learn stores of them

# Of probabilities of given labels, most are high, some low and none above 1. Losses none of which
# is above 1 have a lower median, or, where a model hardly knows two classes, are all near log 2.
USUAL_MEDIAN, NEAR_CHANCE = 0.6, 0.2

# -log(1e-12). Losses of a sum over tokens lie beyond it, and of one prediction hardly ever.
UNLIKELY, FEW_UNLIKELY = 27.6, 0.05
OTHER_SCALE = "use a detector with loss_scale='any' (--loss-scale any on the command line)"

# Of losses that are no cross-entropy: tails from the median to the percentile at either end. Errors
# with a sign have even ones, and over the distance of the quartiles a median near 0, and near their
# middle, and a fifth of the losses close around it. (Margins have two heaps.)
LOPSIDED, EVEN, CENTRAL, MIDDLE, CLOSE = 3.0, 2.0, 0.2, 0.1, 0.42

LEAST_HEAP = 0.01  # share of the highest loss; the default percentiles leave out fewer

UNSURE = 0.15  # of the probability that a model gives labels at most, which noise must explain

# The lowest losses of a network lie far apart, on the scale of the lowest: it is surer of some
# labels than of others. Those that have a floor, as smoothed labels have, crowd above it: from the
# first to the fifth of a hundred they rise by less than so much. Wrong labels do not make them.
LEAST_FLOOR, CROWDED = 0.2, 1.05

# Losses that are the highest, and how many of those next below are different, where it was clipped.
FEWEST_CLIPPED, SHARE_CLIPPED = 20, 0.005
FEWEST_BELOW, MOST_DIFFERENT = 100, 0.9

FIRST_ROWS = 1024  # that are looked at before all others
FEWEST_BATCHES, SMALL_BATCH = 5, 4  # of as many samples that share a loss

BIN_WIDTH = 2.0**-7  # of a bin of a histogram, relative to the losses in it
FEWEST_BINS = 16  # over most losses, to tell them apart


def read_losses(
    detector: Any,
    X: Any,
    *,
    reset: bool,
    minimum: int,
    last: int | None,
    nonnegative: bool,
) -> NDArray[Any]:
    """Return one loss a sample.

    A vector of floats is returned as it is: it may be a memory-mapped file of any size. A history
    goes through scikit-learn's validation and comes back as the mean of its `last` columns. Where
    losses are `nonnegative`, those that rounding put below 0 become 0, in a copy.
    """
    with _columns_kept(detector):
        table = _read_table(detector, X, reset=reset, minimum=minimum)
        if reset and minimum == MIN_SAMPLES:  # all samples, and no part of them
            _warn_of_layout(type(detector).__name__, table, of_vectors=holds_vectors(X))
        losses = reduce_history(table, last)
        if nonnegative:
            losses = _cross_entropies(type(detector).__name__, losses)
    if reset and table.ndim == 1:
        remember_vector(detector)
    return losses


@contextmanager
def _columns_kept(detector: Any) -> Iterator[None]:
    """Give a detector back what it knew of columns, where those of other losses are refused.

    scikit-learn stores them before the losses are looked at.
    """
    before = {name: value for name, value in vars(detector).items() if name in COLUMNS}
    try:
        yield
    except Exception:
        for name in COLUMNS:
            vars(detector).pop(name, None)
        vars(detector).update(before)
        raise


def _read_table(detector: Any, X: Any, *, reset: bool, minimum: int) -> NDArray[Any]:
    """Return a vector of losses, or their history as float64: finite, and no probabilities."""
    owner = type(detector).__name__
    if isinstance(X, LossHistogram):
        raise invalid_data(owner, "X", "losses", "a LossHistogram", "fit_histogram takes it")
    check_dense(owner, "X", X)
    came = unmasked(X) if is_frame(X) else read_array(owner, "X", X)
    if getattr(came, "ndim", 2) == 0:
        raise invalid_data(owner, "X", "a vector of losses, one a sample", f"{X!r}"[:200])
    if getattr(came, "ndim", 2) == 1:
        table = _check_vector(owner, np.asarray(came), minimum)
        if not reset:
            _check_width(detector)
    else:
        table = _check_table(detector, came, reset=reset, minimum=minimum)
        if reset and len(table) > 1:  # one row may sum to 1 by chance
            _check_no_probabilities(owner, table)
    _check_finite(owner, table, getattr(came, "dtype", table.dtype))
    return table


def _check_table(detector: Any, table: Any, *, reset: bool, minimum: int) -> NDArray[np.float64]:
    """Return scikit-learn's copy of a table; its errors keep their words, which its checks know."""
    owner = type(detector).__name__
    if is_frame(table):
        check_columns(owner, "X", table)
    else:
        _check_array(owner, table)
    checks = {"dtype": np.float64, "ensure_all_finite": False, "ensure_min_samples": minimum}
    try:
        if not type(table).__module__.startswith("pyarrow"):
            return np.asarray(validate_data(detector, table, reset=reset, **checks))
        checked = check_array(read_array(owner, "X", table), estimator=detector, **checks)
        validate_data(detector, table, reset=reset, skip_check_array=True)  # names of the columns
        return np.asarray(checked)
    except ValueError as error:
        raise InvalidDataError(str(error)) from error


def _check_array(owner: str, table: NDArray[Any]) -> None:
    """Refuse a table of what is no losses; in scikit-learn's words where its checks know them."""
    try:
        check_numbers(owner, "X", table)
    except InvalidDataError as error:
        if table.dtype.kind == "c":
            raise InvalidDataError(f"Complex data not supported. {error}") from None
        others = table.flat if table.dtype.kind == "O" else ()
        if any(not isinstance(entry, (*ODD, Real)) for entry in others):
            raise TypeError(f"argument must be a string or a real number. {error}") from None
        raise


def number_of_rows(X: Any) -> int:
    """Return the number of rows of anything that has rows, else 0."""
    try:
        return len(X)
    except TypeError:
        return 0


def _check_vector(owner: str, losses: NDArray[Any], minimum: int) -> NDArray[Any]:
    losses = check_numbers(owner, "X", losses)
    if len(losses) < minimum:
        raise invalid_data(owner, "X", f"at least {minimum} losses", str(len(losses)))
    if losses.dtype.kind == "f" and losses.dtype.itemsize <= 8:
        return losses
    return losses.astype(np.float64)


def _check_width(detector: Any) -> None:
    """Compare the number of columns with that of fit, as scikit-learn does for tables."""
    if detector.n_features_in_ != 1:
        name, width = type(detector).__name__, detector.n_features_in_
        raise invalid_data(
            name, "X", f"a loss history of {width} columns, as in fit", "a vector of losses"
        )


def remember_vector(detector: Any) -> None:
    """Have a detector expect losses without the names of columns."""
    detector.n_features_in_ = 1
    detector.__dict__.pop("feature_names_in_", None)


def _check_finite(owner: str, losses: NDArray[Any], came: Any) -> None:
    """Refuse NaN and infinity, in losses that came in a dtype."""
    rows = losses if losses.ndim == 1 else losses.sum(axis=1)  # NaN and inf show in the sum
    if all(np.isfinite(rows[i : i + CHUNK]).all() for i in range(0, len(rows), CHUNK)):
        return
    bad = ~np.isfinite(losses).reshape(len(losses), -1).all(axis=1)
    if not bad.any():  # a sum that overflowed
        return
    row = int(np.flatnonzero(bad)[0])
    below = (losses[row] == -np.inf).any()
    kind = "NaN" if np.isnan(losses[row]).any() else "-inf" if below else "inf"
    advice = ""
    if kind == "-inf":
        advice = "log of a probability of 0 perhaps, so clip probabilities at 1e-12, and pass -log"
    elif kind == "inf" and came == np.float16:
        advice = "float16 has nothing above 65504, so compute the losses in float32"
    elif kind == "inf":
        advice = "-log of a probability of 0 perhaps, so clip probabilities at 1e-12, or losses at "
        advice += str(UNLIKELY)
    elif losses.ndim == 2:
        advice = "of epochs that did not see all rows, LossRecorder.reduce() gives the means"
    count = f"{kind} in {int(bad.sum())} of {len(losses)} rows, first in row {row}"
    raise invalid_data(owner, "X", "finite losses", count, advice)


def _cross_entropies(owner: str, losses: NDArray[Any]) -> NDArray[Any]:
    """Return losses with 0 for those that rounding put below it, or say that they are no such."""
    lowest = losses.min(initial=0.0)
    if lowest < LOWEST:
        raise InvalidDataError(
            f"Negative values in data: the 'X' parameter of {owner} must be cross-entropy "
            f"losses, which are at least 0. Got {lowest:.6g} instead: a log-probability needs a "
            "minus sign, and only for another loss, where higher is worse, use loss_scale='any'."
        )
    return np.maximum(losses, 0.0) if lowest < 0.0 else losses


def check_counted(owner: str, name: str, lowest: float) -> None:
    """Refuse counts of losses that are no cross-entropies: rounding puts none that far below 0."""
    if lowest < LOWEST:
        expected = "of cross-entropy losses, which are at least 0"
        advice = "use loss_scale='any' for other losses"
        raise invalid_data(owner, name, expected, f"{lowest:.6g}", advice)


def _check_no_probabilities(owner: str, table: NDArray[np.float64]) -> None:
    if table.shape[1] <= 2 or table.min() < 0.0:
        return
    if miss_one(table[:: -(-len(table) // 1000)]).mean() > 0.5:  # of losses, most do
        return
    missed = miss_one(table)
    close = np.abs(table.sum(axis=1) - 1.0) <= BFLOAT16_STEP
    if not missed.any() or (close.mean() >= MOST_ROWS and np.isfinite(table).all()):
        raise invalid_data(
            owner,
            "X",
            "losses of shape (n_samples,), or their history of shape (n_samples, n_epochs)",
            f"{np.count_nonzero(~missed)} rows of {table.shape[1]} numbers that sum to 1",
            "these look like predicted probabilities. Pass -log of the probability of each "
            "given label, or call lossnoise.audit(labels, pred_probs=...)",
        )


def _warn_of_layout(owner: str, table: NDArray[Any], *, of_vectors: bool) -> None:
    """Warn of what is transposed, no loss at all, or a loss of more than one sample."""
    if table.ndim == 2 and table.shape[1] > table.shape[0]:
        rows, columns = table.shape
        warn(
            f"The loss history of {owner} has {rows} rows and {columns} columns, which are "
            f"{rows} samples and {columns} epochs: if it is the other way round, pass its "
            "transpose, X.T.",
            LayoutWarning,
        )
    elif of_vectors and table.ndim == 2 and table.shape[1] > 1:
        warn(
            f"The losses of {owner} are a list of {len(table)} arrays, which are the losses of so "
            f"many samples in {table.shape[1]} epochs: {JOIN}.",
            LayoutWarning,
        )
    if _are_flags(table[:FIRST_ROWS]) and _are_flags(table) and table.min() < table.max():
        warn(
            f"All losses of {owner} are 0 or 1, as are flags of right and wrong predictions, which "
            "say little of the labels, and where 1 is right the opposite. Pass -log p of each "
            "given label.",
            LossScaleWarning,
        )
    size = _batch_size(table if table.ndim == 1 else table[:, 0])
    if size:
        warn(
            f"The losses of {owner} come in {-(-len(table) // size)} runs of {size} equal ones, "
            "as the mean over a batch does, repeated for its samples: that says little about a "
            "single label. Take the losses of single samples, such as torch's with "
            "reduction='none'.",
            LayoutWarning,
        )


def _are_flags(losses: NDArray[Any]) -> bool:
    return bool(((losses == 0.0) | (losses == 1.0)).all())


def _batch_size(losses: NDArray[Any]) -> int:
    """Return the length of the runs of equal neighbours that losses consist of; 0 of others."""
    if len(losses) < 2 or losses[0] != losses[1]:
        return 0
    starts = np.flatnonzero(losses[1:] != losses[:-1]) + 1
    if len(starts) < FEWEST_BATCHES - 1:
        return 0
    size = int(starts[0])
    all_alike = (starts == size * np.arange(1, len(starts) + 1)).all()
    return size if size >= SMALL_BATCH and all_alike and len(losses) - starts[-1] <= size else 0


def warn_of_losses(sample: LossSample, *, are_cross_entropy: bool) -> None:
    """Warn of losses that say little, whatever is fitted to them."""
    if are_cross_entropy:  # others may have a highest value of their own
        _warn_of_scale(sample)
        _warn_of_clipping(sample)
    else:
        _warn_of_sign(sample)
        _warn_of_heap(sample)


def _warn_of_scale(sample: LossSample) -> None:
    """Warn where losses are hardly cross-entropy in nats: another unit, or probabilities."""
    median = float(sample.percentiles([50.0])[0])
    beyond = _share_beyond(UNLIKELY, sample)
    problem = ""
    if median > CEILING:
        problem = (
            f"Half of the losses are above {CEILING:.0f}, where cross-entropy in nats hardly ever "
            "is. Of other losses"
        )
    elif beyond > FEW_UNLIKELY:
        problem = (
            f"{beyond:.0%} of the losses are above {UNLIKELY}, a probability of 1e-12 for the "
            "given label, where cross-entropy in nats hardly ever is. Of sums over tokens or "
            "pixels, pass each of them; of other losses"
        )
    elif sample.lows[0] < NEAR_CHANCE and median > USUAL_MEDIAN and sample.highest <= 1.0:
        problem = (
            f"Half of the losses are above {USUAL_MEDIAN}, and none above 1: are they "
            "probabilities? Of the given labels, pass -log of them; of mistakes"
        )
    if problem:
        logarithm = "; of perplexities, pass the logarithm" if sample.lows[0] >= 1.0 else ""
        warn(f"{problem}, where higher is worse, {OTHER_SCALE}{logarithm}.", LossScaleWarning)
    if are_certain(sample.values, sample.weights):
        warn(
            "Nearly all losses are those of probabilities of 0 and 1, such as a fully grown tree "
            "or a single neighbour gives: every mistake of the model looks like a wrong label. "
            "Take a model that says how sure it is.",
            LossScaleWarning,
        )


def _warn_of_sign(sample: LossSample) -> None:
    """Warn where other losses than cross-entropy hardly are high where the label is suspicious."""
    lowest, median, highest = sample.percentiles([1.0, 50.0, 99.0])
    below, above = median - lowest, highest - median
    if sample.highest <= 0.0 and below > LOPSIDED * above:
        problem = (
            "No loss is above 0, and the lowest are far below most: are they scores, of which "
            "higher ones are better? Of such, pass the negative"
        )
    elif below < EVEN * above and above < EVEN * below and _are_around_0(sample):
        problem = (
            "The losses are as far below 0 as above it, as signed errors are: of such, pass the "
            "size, np.abs of them"
        )
    else:
        return
    warn(f"{problem}. A loss is high where the label is suspicious.", LossScaleWarning)


def _warn_of_heap(sample: LossSample) -> None:
    """Warn where a heap of one value, far above all others, hides two populations of these."""
    heap = int(np.searchsorted(sample.values, sample.values[-1]))
    share = float(sample.weights[heap:].sum() / sample.weights.sum())
    values, weights = sample.values[:heap], sample.weights[:heap]
    if share < LEAST_HEAP or len(values) < MIN_SAMPLES:
        return
    low, top, high = values[0], values[-1], sample.values[-1]
    others = LossSample(values, weights, values, weights, sample.lows[:heap])
    if high - top > top - low > 0.0 and measure_separability(others, low, top - low).separable:
        warn(
            f"{share:.1%} of the losses are the highest, {high:.4g}, and no other is above "
            f"{top:.4g}: they press the others together, which show two populations by "
            f"themselves. Where they are -log of a probability of 0, use "
            "loss_scale='cross-entropy'; else bring them nearer to the others (np.minimum).",
            LossScaleWarning,
        )


def _are_around_0(sample: LossSample) -> bool:
    """Tell whether losses are one heap around 0, as far below as above it."""
    quarter, lower, median, upper, third = sample.percentiles([25.0, 40.0, 50.0, 60.0, 75.0])
    width = third - quarter
    off_the_middle = abs(median - (quarter + third) / 2.0)
    return bool(
        abs(median) < CENTRAL * width
        and off_the_middle < MIDDLE * width
        and upper - lower < CLOSE * width
    )


def warn_of_floor(sample: LossSample, fit: SampleFit) -> None:
    """Warn where a model is less sure of all labels than the wrong ones among them explain.

    With a share r of wrong labels, one that has learned is sure of a right label by up to 1 - r,
    and of some more than of others.
    """
    if not (fit.probabilities and fit.separability.separable):
        return
    (floor, low), rate = sample.percentiles([1.0, 5.0]).tolist(), fit.curve.rate
    problem = ""
    if 1.0 - math.exp(-floor) - rate > UNSURE:
        problem = f"{rate:.0%} wrong labels do not explain why the model is so unsure of the others"
    elif LEAST_FLOOR < floor < low < CROWDED * floor:
        problem = "the lowest of them crowd there, which wrong labels do not explain"
    if problem:
        warn(
            f"99 % of the losses are above {floor:.2g}, which is a probability of "
            f"{math.exp(-floor):.0%}: {problem}, and the rate may be off. A model that has "
            "learned little, or has many classes to choose from, may be so; and losses that hold "
            "more than cross-entropy, such as label smoothing or a regulariser (pass -log p of "
            "each given label, or use loss_scale='any'), and perplexities (pass their logarithm).",
            LossScaleWarning,
        )


def _warn_of_clipping(sample: LossSample) -> None:
    """Warn where the highest loss is that of many samples, and others are hardly ever equal."""
    losses = sample.losses[:: -(-len(sample.losses) // EXACT)]
    top = losses.max()
    clipped = int(np.count_nonzero(losses == top))
    few = clipped < max(FEWEST_CLIPPED, SHARE_CLIPPED * len(losses))
    if few or float(top) >= CEILING or sample.counts is not None:
        return
    below = np.sort(losses[losses < top])[-FEWEST_BELOW:]
    if len(np.unique(below)) > MOST_DIFFERENT * FEWEST_BELOW:
        warn(
            f"{clipped / len(losses):.2%} of the losses are the highest, {float(top):.4g}, and few "
            "others are equal: they look clipped, and such a heap looks like wrong labels. Pass "
            "them as they are, of probabilities of 1e-12 or more.",
            LossScaleWarning,
        )


def _share_beyond(loss: float, sample: LossSample) -> float:
    """Return the share of losses above one, but for a heap at the very top: clipped zeros."""
    beyond = (sample.lows > loss) & (sample.lows < sample.lows[-1])
    return float(sample.weights[beyond].sum() / sample.weights.sum())


def warn_of_bins(sample: LossSample) -> None:
    """Warn where counted losses lie so far from 0 that few bins of a histogram tell them apart."""
    low, middle, high = sample.percentiles([1.0, 50.0, 99.0])
    width = abs(middle) * BIN_WIDTH
    if FEWEST_BINS * width > high - low:
        place = f"between {low:.6g} and {high:.6g}" if high > low else f"in one, around {low:.6g}"
        warn(
            f"The bins of a LossHistogram are {width:.2g} wide where most losses lie, {place}: too "
            "wide to tell them apart. Take a number near the lowest loss from all of them before "
            "they are counted.",
            LossScaleWarning,
        )


def check_range(owner: str, sample: LossSample) -> None:
    """Refuse losses whose differences overflow."""
    low, high = sample.values[0], sample.values[-1]
    with np.errstate(over="ignore"):
        finite = np.isfinite(high - low)
    if not finite:
        got = f"losses from {low:.6g} to {high:.6g}"
        raise invalid_data(owner, "X", "losses whose range is finite", got)
