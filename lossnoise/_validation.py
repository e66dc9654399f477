"""Border checks that scikit-learn's validators do not give.

One message form everywhere: *The 'name' parameter of Owner must be <expected>. Got <value>
instead.* Checks run once, where a public call begins; inside, the code trusts its input.
"""

from __future__ import annotations

from collections.abc import Collection
from difflib import get_close_matches
from importlib import import_module
from numbers import Integral, Real
from types import ModuleType
from typing import Any

import numpy as np

from lossnoise.exceptions import InvalidDataError, InvalidParameterError, MissingExtraError

# By which rows of probabilities may miss a sum of 1, and at most where few digits explain it.
ROW_SUM_TOLERANCE, FEW_DIGITS = 1e-3, 0.2
BFLOAT16_STEP = 2.0**-8  # by which a bfloat16 may be off, relative to itself


def invalid_parameter(
    owner: str, name: str, expected: str, got: object, advice: str = ""
) -> InvalidParameterError:
    """Return the error for a parameter whose value is not allowed."""
    shown = got if isinstance(got, type) else repr(got)
    ending = f": {advice}" if advice else ""
    return InvalidParameterError(
        f"The {name!r} parameter of {owner} must be {expected}. Got {shown} instead{ending}."
    )


def nearest_name(value: object, names: Collection[str], likeness: float = 0.6) -> str:
    """Return advice for a name that is nearly one of `names`, or nothing."""
    if not isinstance(value, str):
        return ""
    spelled = {_loosely(name): name for name in names}
    close = get_close_matches(_loosely(value), spelled, n=1, cutoff=likeness)
    return f"the nearest is {spelled[close[0]]!r}" if close else ""


def _loosely(name: str) -> str:
    return name.casefold().replace("_", "-")


def invalid_data(
    owner: str, name: str, expected: str, got: str, advice: str = ""
) -> InvalidDataError:
    """Return the error for data that cannot be used; `got` describes what came, in words."""
    ending = f": {advice}" if advice else ""
    return InvalidDataError(
        f"The {name!r} parameter of {owner} must be {expected}. Got {got} instead{ending}."
    )


def check_int(owner: str, name: str, value: object, minimum: int) -> int:
    """Return `value` as an int of at least `minimum`; booleans are refused."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < minimum:
        raise invalid_parameter(owner, name, f"an int in the range [{minimum}, inf)", value)
    return int(value)


def check_real(
    owner: str, name: str, value: object, low: float, high: float, *, closed: str = "both"
) -> float:
    """Return `value` as a float between `low` and `high`; `closed` names the closed ends."""
    left = "[" if closed in ("both", "left") else "("
    right = "]" if closed in ("both", "right") else ")"
    if not isinstance(value, bool) and isinstance(value, Real):
        number = float(value)
        above = number >= low if left == "[" else number > low
        below = number <= high if right == "]" else number < high
        if above and below:
            return number
    raise invalid_parameter(owner, name, f"a float in the range {left}{low}, {high}{right}", value)


def check_random_state(owner: str, random_state: object) -> np.random.Generator:
    """Return a numpy generator of a seed; one that is given is advanced by what is drawn."""
    if random_state is None:
        return np.random.default_rng()
    if isinstance(random_state, np.random.Generator):
        return random_state
    if isinstance(random_state, np.random.RandomState):
        return np.random.default_rng(random_state.randint(2**31 - 1, size=4))
    if isinstance(random_state, bool) or not isinstance(random_state, Integral):
        expected = "None, an int, a numpy.random.Generator or a numpy.random.RandomState"
        raise invalid_parameter(owner, "random_state", expected, random_state)
    return np.random.default_rng(check_int(owner, "random_state", random_state, 0))


def check_choice(owner: str, name: str, value: object, choices: Collection[str]) -> str:
    """Return `value`, which must be one of the strings in `choices`."""
    if not isinstance(value, str) or value not in choices:
        expected = "one of " + ", ".join(repr(c) for c in sorted(choices))
        raise invalid_parameter(owner, name, expected, value, nearest_name(value, choices))
    return value


def require_extra(module: str, extra: str, owner: str) -> ModuleType:
    """Import an optional dependency, or say which extra of lossnoise brings it."""
    try:
        return import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        missing = isinstance(error, ModuleNotFoundError) and error.name in (module, package)
        state = "is not installed" if missing else f"cannot be imported ({error})"
        raise MissingExtraError(
            f"{owner} needs {package}, which {state}: pip install 'lossnoise[{extra}]'"
        ) from error


def to_numpy(values: Any) -> np.ndarray:
    """Return `values` as a numpy array, leaving its dtype alone where numpy knows it.

    Understands torch tensors (on any device, with gradient, bfloat16), and lists of them, without
    importing torch.
    """
    if isinstance(values, (list, tuple)) and holds_tensors(values):
        return np.asarray([to_numpy(value) for value in values])
    if hasattr(values, "detach") and hasattr(values, "cpu"):
        values = values.detach().cpu()
        if "bfloat16" in str(values.dtype):  # numpy has no bfloat16
            values = values.float()
        return np.asarray(values.numpy())
    array = np.asarray(unmasked(values))
    if array.dtype.kind == "O" and array.ndim == 2 and hasattr(values, "dtypes"):
        kinds = {getattr(dtype, "kind", "O") for dtype in values.dtypes}
        if kinds <= set("fiub"):  # a frame of pandas' nullable numbers, or Arrow's
            array = values.to_numpy(dtype=np.float64, na_value=np.nan)
    return array


def holds_tensors(values: Any) -> bool:
    """Tell whether `values` are torch tensors: one, or a list that begins with one."""
    first = values[0] if isinstance(values, (list, tuple)) and values else values
    return hasattr(first, "detach")


def read_array(owner: str, name: str, values: Any) -> np.ndarray:
    """Return `values` as a numpy array, or say that they are no such."""
    try:
        return to_numpy(values)
    except (TypeError, ValueError, RuntimeError):
        if hasattr(values, "detach"):
            kind = "nested" if values.is_nested else f"{values.layout}".removeprefix("torch.")
            got = f"a {kind} tensor of {values.dtype} on {values.device}"
            raise invalid_data(owner, name, "a dense tensor of numbers", got) from None
        expected = "an array, or rows of one length"
        got = f"a {type(values).__name__} that is no array, such as rows of several lengths,"
        raise invalid_data(owner, name, expected, got, JOIN * holds_vectors(values)) from None


JOIN = "batches are joined by np.concatenate, or torch.cat of tensors"


def holds_vectors(values: Any) -> bool:
    """Tell whether `values` are a list of vectors, as a loop over batches collects them."""
    first = values[0] if isinstance(values, (list, tuple)) and values else None
    return getattr(first, "ndim", None) == 1


def unmasked(values: Any) -> Any:
    """Return masked entries as NaN: numpy would drop the mask, and take what is under it."""
    if not np.ma.is_masked(values):
        return values
    return values.astype(np.float64 if values.dtype.kind in "biuf" else object).filled(np.nan)


def check_probability_rows(owner: str, name: str, values: Any) -> np.ndarray:
    """Return a table of probabilities as float64, each row scaled to sum to 1.

    Rows that miss 1 by more than rounding are refused: they are another quantity.
    """
    table = read_array(owner, name, values)
    if table.ndim != 2 or table.dtype.kind not in "fiub":
        got = f"an array of shape {table.shape} and dtype {table.dtype}"
        raise invalid_data(owner, name, "a 2-D array of probabilities", got)
    table = table.astype(np.float64)
    outside = ~((table >= 0.0) & (table <= 1.0 + ROW_SUM_TOLERANCE))  # true for NaN as well
    if outside.any():
        row, column = np.argwhere(outside)[0]
        got = f"{table[row, column]:.6g} in row {row}"
        raise invalid_data(owner, name, "probabilities in [0, 1]", got)
    sums = table.sum(axis=1, keepdims=True)
    wrong = miss_one(table)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        got = f"a sum of {sums[row, 0]:.6g} in row {row} ({wrong.sum()} of {len(table)} rows)"
        raise invalid_data(owner, name, "probabilities whose rows sum to 1", got)
    return np.asarray(table / sums)


def miss_one(table: np.ndarray) -> np.ndarray:
    """Return which rows miss a sum of 1 by more than rounding: to 1e-3, or to two or three digits.

    A row whose numbers all have so few digits may miss it by half of the last one in each column.
    One of bfloat16 numbers, also where they came from there, by as much as these may be off.
    """
    off = np.abs(table.sum(axis=1) - 1.0)
    missed = ~(off <= ROW_SUM_TOLERANCE + 1e-6)  # of float32 too; and NaN
    for unit in (0.001, 0.01) if missed.any() else ():
        steps = table[missed] / unit
        with np.errstate(invalid="ignore"):  # of what is infinite
            rounded = (np.abs(steps - np.rint(steps)) < 1e-4).all(axis=1)
        allowed = min(FEW_DIGITS, 0.5 * unit * table.shape[1]) + 1e-6
        missed[missed] = ~(rounded & (off[missed] <= allowed))
    if missed.any():
        short = _are_bfloat16(table[missed]).all(axis=1)
        missed[missed] = ~(short & (off[missed] <= BFLOAT16_STEP))
    return np.asarray(missed)


def _are_bfloat16(table: np.ndarray) -> np.ndarray:
    """Return which numbers have no more digits than a bfloat16: the upper half of a float32."""
    with np.errstate(over="ignore", invalid="ignore"):
        narrow = np.ascontiguousarray(table, dtype=np.float32)
    return np.asarray((narrow == table) & (narrow.view(np.uint32) & 0xFFFF == 0))
