"""Open-set noise: samples that belong to none of the classes, under labels of the data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Number
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset

from lossnoise._samples import LABEL_NAMES, is_mapping
from lossnoise._validation import (
    check_random_state,
    check_real,
    invalid_data,
    invalid_parameter,
)
from lossnoise.exceptions import InvalidDataError

_OWNER = "replace_inputs"


def replace_inputs(
    dataset: Dataset[Any] | Sequence[Any],
    foreign: Dataset[Any] | Sequence[Any] | ArrayLike | Tensor,
    rate: float,
    random_state: int | np.random.Generator | np.random.RandomState | None = None,
) -> tuple[Dataset[Any], NDArray[np.bool_]]:
    """Replace the inputs of an exact share of the samples by foreign ones; labels stay.

    That is open-set noise: pictures of a truck or of nothing at all among labelled animals, for
    which no label can be right. Nothing is read or copied here; the view that is returned reads
    a sample when it is asked for.

    Parameters
    ----------
    dataset : Dataset or sequence
        Map-style, of pairs (input, label) or of dicts with an entry ``labels``, ``label``,
        ``targets``, ``target`` or ``y``. Never modified.
    foreign : Dataset, sequence, array or Tensor
        What belongs to none of the classes: samples like those of `dataset`, whose labels are not
        used, or inputs alone. Each is used at most once, so there must be ``round(rate * n)``.
        Inputs must have the shape and the type of those that they stand for; arrays become
        tensors where those are.
    rate : float in [0, 1]
        The exact share of the n samples whose input is replaced: ``round(rate * n)``. Which ones,
        and by which, is drawn.
    random_state : int, Generator, RandomState or None, default=None
        Source of randomness. An int makes the same choice each time; a generator is advanced;
        None draws afresh. Global states are neither used nor touched.

    Returns
    -------
    noisy_dataset : Dataset
        A view of `dataset`, with its length and labels. It can be pickled for the workers of a
        loader if both data sets can. An augmentation inside `dataset` is not applied to foreign
        inputs: give `foreign` its own.
    replaced : ndarray of shape (n,), bool
        Where the input is foreign.

    Raises
    ------
    InvalidParameterError
        `rate` or `random_state` has a value that it cannot have.
    InvalidDataError
        A data set cannot be used, or `foreign` is too small; when a sample is read, if foreign
        samples do not fit to those that they stand for.

    References
    ----------
    Wang et al., "Iterative Learning with Open-set Noisy Labels", CVPR 2018.

    Examples
    --------
    >>> import torch
    >>> from torch.utils.data import TensorDataset
    >>> from lossnoise.data import replace_inputs
    >>> dataset = TensorDataset(torch.zeros(10, 3), torch.arange(10))
    >>> noisy, replaced = replace_inputs(dataset, torch.ones(8, 3), 0.4, random_state=0)
    >>> len(noisy), int(replaced.sum())
    (10, 4)
    >>> noisy[int(replaced.argmax())]
    (tensor([1., 1., 1.]), tensor(2))
    """
    n, available = _check_data("dataset", dataset), _check_data("foreign", foreign)
    needed = round(check_real(_OWNER, "rate", rate, 0.0, 1.0) * n)
    rng = check_random_state(_OWNER, random_state)
    if available < needed:
        expected = f"at least {needed} samples long, of which each is used once"
        raise invalid_data(_OWNER, "foreign", expected, f"{available}")
    foreign_rows = np.full(n, -1, dtype=np.intp)
    rows = rng.choice(n, size=needed, replace=False)
    foreign_rows[rows] = rng.choice(available, size=needed, replace=False)
    return ReplacedInputs(dataset, foreign, foreign_rows), foreign_rows >= 0


class ReplacedInputs(Dataset[Any]):
    """A view of a dataset, with foreign inputs where `foreign_rows` is not -1."""

    def __init__(self, dataset: Any, foreign: Any, foreign_rows: NDArray[np.intp]) -> None:
        self.dataset = dataset
        self.foreign = foreign
        self.foreign_rows = foreign_rows

    def __len__(self) -> int:
        return len(self.foreign_rows)

    def __getitem__(self, index: int) -> Any:
        row = int(self.foreign_rows[index])
        sample = self.dataset[index]
        return sample if row < 0 else with_input(sample, self.foreign[row])


def with_input(sample: Any, other: Any) -> Any:
    """Return a sample with the input of another one, or with the other one where it is an input."""
    if is_mapping(sample) and is_mapping(other):
        return _with_entries(sample, other)
    if isinstance(sample, (tuple, list)) and len(sample) == 2 and not is_mapping(other):
        if not isinstance(other, (tuple, list)) or _is_input_like(sample[0], other):
            return _pair_like(sample, _in_place_of(sample[0], other))
        if len(other) in (1, 2):
            return _pair_like(sample, _in_place_of(sample[0], other[0]))
    raise InvalidDataError(
        "The datasets of replace_inputs must yield pairs (input, label), or both of them dicts; "
        "'foreign' may yield inputs alone. "
        f"Got {_describe(sample)}, to be replaced by {_describe(other)}, instead."
    )


def _is_input_like(own: Any, other: Any) -> bool:
    """Tell whether a list is an input itself, such as token ids, as the sample's own is one."""
    listed = isinstance(own, (tuple, list)) and len(own) > 0 and len(other) > 0
    return listed and type(other[0]) is type(own[0])


def _pair_like(sample: Any, its_input: Any) -> Any:
    if hasattr(sample, "_fields"):  # a named tuple
        return type(sample)(its_input, sample[1])
    return [its_input, sample[1]] if isinstance(sample, list) else (its_input, sample[1])


def _with_entries(sample: Any, other: Any) -> dict[Any, Any]:
    names = list(sample.keys())
    inputs = [name for name in names if name not in LABEL_NAMES]
    missing = [name for name in inputs if name not in other.keys()]  # noqa: SIM118  # mapping-like
    if missing:
        expected = f"of dicts with the entries {', '.join(map(repr, inputs))}"
        got = f"one without {', '.join(map(repr, missing))}"
        raise invalid_data(_OWNER, "foreign", expected, got)
    return {
        name: _in_place_of(sample[name], other[name]) if name in inputs else sample[name]
        for name in names
    }


def _in_place_of(own: Any, other: Any) -> Any:
    """Return a foreign input as a tensor where the sample's own is one, of the same type.

    Collating would not say anything: bytes of 0 to 255 among floats of 0 to 1 become floats.
    """
    if isinstance(own, Tensor) and isinstance(other, (np.ndarray, np.generic)):
        other = torch.as_tensor(other)
    if hasattr(own, "dtype") and hasattr(other, "dtype") and own.dtype != other.dtype:
        expected = f"of inputs of type {own.dtype}, as those of 'dataset' are"
        raise invalid_data(_OWNER, "foreign", expected, f"{other.dtype}")
    if hasattr(own, "shape") and (hasattr(other, "shape") or isinstance(other, Number)):
        needed, shape = tuple(own.shape), tuple(np.shape(other))
        if shape != needed:
            expected = f"of inputs of shape {needed}, as those of 'dataset' are"
            raise invalid_data(_OWNER, "foreign", expected, f"{shape}")
    return other


def _describe(sample: Any) -> str:
    size = f" of {len(sample)}" if isinstance(sample, (tuple, list, Mapping)) else ""
    return f"a {type(sample).__name__}{size}"


def _check_data(name: str, data: Any) -> int:
    """Return the length of a map-style dataset, or of anything that can be indexed."""
    streams = isinstance(data, IterableDataset)
    if streams or is_mapping(data) or not hasattr(data, "__getitem__"):
        expected = "a map-style dataset or a sequence of samples"
        raise invalid_parameter(_OWNER, name, expected, type(data))
    try:
        return len(data)
    except TypeError:
        got = f"an object of type {type(data).__name__} without one"
        raise invalid_data(_OWNER, name, "of a known length", got) from None
