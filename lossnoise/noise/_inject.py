"""Injected label noise: pure functions on class codes, and one on labels of any type."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lossnoise._labels import (
    as_list,
    counted_classes,
    counting_labels,
    encode_labels,
    is_missing,
    label_array,
    match_classes,
    object_array,
    one_dimensional,
)
from lossnoise._names import check_order
from lossnoise._pandas import check_aligned
from lossnoise._validation import (
    check_choice,
    check_int,
    check_probability_rows,
    check_random_state,
    check_real,
    invalid_data,
    invalid_parameter,
    read_array,
)

Codes = NDArray[np.intp]

_OWNER = "inject_noise"
_KINDS = ("asymmetric", "instance", "matrix", "pair", "symmetric")
_HOMES = {"mapping": "asymmetric", "matrix": "matrix", "features": "instance"}  # their kind
_HELD_AT_ONCE = 1 << 20  # numbers of a chunk of features or of logits: 8 MB
_LARGEST = 1e100  # of the features: the sum of their squares stays a float


def inject_noise(
    labels: Any,
    rate: float,
    kind: str = "symmetric",
    *,
    include_true: bool = True,
    num_classes: int | None = None,
    mapping: Mapping[Any, Any] | None = None,
    matrix: ArrayLike | None = None,
    features: Any = None,
    random_state: int | np.random.Generator | np.random.RandomState | None = None,
) -> tuple[np.ndarray, NDArray[np.bool_]]:
    r"""Replace an exact share of the labels by drawn ones.

    Parameters
    ----------
    labels : array-like of shape (n,)
        True labels of any hashable type: list, numpy array, pandas or polars Series, tensor.
        None is a label like any other; NaN is refused. Never modified.
    rate : float in [0, 1]
        The exact share of rows whose label is redrawn: ``round(rate * n)`` rows for the kinds
        "symmetric", "pair" and "instance", ``round(rate * n_c)`` of the ``n_c`` rows of each
        source class for "asymmetric" and "matrix". Which rows, is drawn.
    kind : {"symmetric", "asymmetric", "pair", "matrix", "instance"}, default="symmetric"
        - "symmetric": uniformly over all classes, or all but the true one (`include_true`).
        - "asymmetric": to the class that `mapping` names; other classes stay as they are.
        - "pair": to the next class in sorted order, the last one to the first.
        - "matrix": class i becomes j with probability :math:`T_{ij}` of `matrix`.
        - "instance": to another class that depends on the row's `features`, as mistakes of people
          do: rows of a class that look alike are confused with the same classes. See Notes.
    include_true : bool, default=True
        For "symmetric" only: whether a redrawn label may be the true one. If so, the share of
        wrong labels is about ``rate * (1 - 1 / C)`` for C classes, else it is `rate`. Results
        under the two protocols must never be compared with each other. The other kinds do not
        know False.
    num_classes : int, optional
        Number of classes for integer labels, which are then ``0, ..., num_classes - 1``. By
        default the classes are the labels that occur, sorted (in order of first appearance
        where they cannot be compared).
    mapping : dict of {source: target}, optional
        For "asymmetric". Targets may be classes that do not occur in `labels`.
    matrix : array-like of shape (C, C), optional
        For "matrix": :math:`T_{ij} = p(\text{given} = j \mid \text{true} = i)`, rows and columns
        in the order of the classes; rows sum to 1 (within rounding, and are then scaled). A data
        frame that has the names of the classes in another order is refused.
        Integer labels below C may leave classes out.
    features : array-like of shape (n, ...), optional
        For "instance": finite numbers that describe each row, such as pixels; more dimensions
        than two are flattened. They are standardised inside, column by column, in float64 and
        a chunk of rows at a time: only `features` themselves need to fit in memory. Of pandas, with
        another index than `labels` of pandas, they are refused.
    random_state : int, Generator, RandomState or None, default=None
        Source of randomness. An int gives the same noise each time; a generator is advanced;
        None draws afresh. numpy's global state is neither used nor touched.

    Returns
    -------
    noisy_labels : ndarray of shape (n,)
        The labels with noise, in the dtype of the given ones, which is widened where a new label
        would not fit.
    changed : ndarray of shape (n,), bool
        Where `noisy_labels` differs from `labels`.

    Raises
    ------
    InvalidParameterError
        A parameter has a value that it cannot have, or belongs to another kind.
    InvalidDataError
        The labels, the matrix or the features cannot be used.

    Notes
    -----
    The kind "instance" follows part-dependent label noise (Xia et al., Algorithm 2). Each true
    class i has a projection :math:`W_i` of the d standardised features onto the C classes,
    with entries from N(0, 1), and a chosen row x of class i becomes

    .. math:: p(\text{given} = j \mid x, \text{true} = i) = \text{softmax}_{j \ne i}(x W_i)_j

    so that the true class is never drawn. In the paper a row is chosen with a flip rate of its own
    from :math:`N(\text{rate}, 0.1^2)` cut to [0, 1]. Since that is drawn without looking at x and
    used once, every row is chosen with the same probability, the mean of that distribution:
    `rate` from about 0.3 to 0.7, but .129 for a rate of .1. Here exactly ``round(rate * n)`` rows
    are chosen instead, all with the same probability. With many features nearly all the weight
    is on one class: the projection has a standard deviation of about :math:`\sqrt{d}`.

    References
    ----------
    Arazo et al., "Unsupervised Label Noise Modeling and Loss Correction", ICML 2019, for the
    symmetric protocols. Patrini et al., "Making Deep Neural Networks Robust to Label Noise",
    CVPR 2017, for the matrix T. Xia et al., "Part-dependent Label Noise: Towards
    Instance-dependent Label Noise", NeurIPS 2020.

    Examples
    --------
    >>> from lossnoise.noise import inject_noise
    >>> labels = ["cat", "dog", "horse", "dog"] * 25
    >>> noisy, changed = inject_noise(labels, 0.4, include_true=False, random_state=0)
    >>> int(changed.sum())
    40
    >>> noisy, changed = inject_noise(labels, 0.5, "asymmetric", mapping={"cat": "wildcat"})
    >>> int((noisy == "wildcat").sum())
    12
    >>> sizes = [[4.0], [6.0], [80.0], [7.0]] * 25
    >>> noisy, changed = inject_noise(labels, 0.4, "instance", features=sizes, random_state=0)
    >>> int(changed.sum())
    40
    """
    given = label_array(_OWNER, labels)
    rate = check_real(_OWNER, "rate", rate, 0.0, 1.0)
    _check_kind(kind, include_true, mapping=mapping, matrix=matrix, features=features)
    rng = check_random_state(_OWNER, random_state)
    classes, codes = _classes(given, num_classes)
    if kind == "asymmetric":
        classes, targets = _map_classes(classes, _check_mapping(mapping, classes, num_classes))
        noisy = redraw_mapped(codes, targets, rate, rng)
    elif kind == "matrix":
        classes, codes, rows = _match_matrix(matrix, classes, codes, num_classes)
        noisy = redraw_matrix(codes, rows, rate, rng)
    elif kind == "pair":
        _check_two_classes(classes, "kind='pair'")
        noisy = redraw_pair(codes, len(classes), rate, rng)
    elif kind == "instance":
        _check_two_classes(classes, "kind='instance'")
        check_aligned(_OWNER, "features", features, labels)
        table = _check_features(features, len(codes))
        noisy = redraw_instance(codes, table, len(classes), rate, rng)
    else:
        if not include_true:
            _check_two_classes(classes, "include_true=False")
        noisy = redraw_symmetric(codes, len(classes), rate, rng, include_true=include_true)
    return _relabel(given, classes, codes, noisy)


# -- the noise, on class codes ----------------------------------------------------------------


def redraw_symmetric(
    codes: Codes, num_classes: int, rate: float, rng: np.random.Generator, *, include_true: bool
) -> Codes:
    """Redraw ``round(rate * n)`` codes uniformly over all classes, or over all but their own."""
    rows = _draw_rows(len(codes), rate, rng)
    noisy = codes.copy()
    if include_true:
        noisy[rows] = rng.integers(num_classes, size=len(rows))
    else:
        step = 1 + rng.integers(num_classes - 1, size=len(rows))
        noisy[rows] = (codes[rows] + step) % num_classes
    return noisy


def redraw_pair(codes: Codes, num_classes: int, rate: float, rng: np.random.Generator) -> Codes:
    """Move ``round(rate * n)`` codes to the next class, the last class to the first."""
    rows = _draw_rows(len(codes), rate, rng)
    noisy = codes.copy()
    noisy[rows] = (codes[rows] + 1) % num_classes
    return noisy


def redraw_mapped(codes: Codes, targets: Codes, rate: float, rng: np.random.Generator) -> Codes:
    """Move ``round(rate * n_c)`` codes of each class c to ``targets[c]``, unless that is -1."""
    noisy = codes.copy()
    for source, members in _rows_by_class(codes):
        if targets[source] >= 0:
            noisy[members[_draw_rows(len(members), rate, rng)]] = targets[source]
    return noisy


def redraw_matrix(
    codes: Codes, matrix: NDArray[np.float64], rate: float, rng: np.random.Generator
) -> Codes:
    """Redraw ``round(rate * n_c)`` codes of each class c with the probabilities ``matrix[c]``."""
    noisy = codes.copy()
    for source, members in _rows_by_class(codes):
        rows = members[_draw_rows(len(members), rate, rng)]
        noisy[rows] = rng.choice(len(matrix), size=len(rows), p=matrix[source])
    return noisy


def redraw_instance(
    codes: Codes, features: np.ndarray, num_classes: int, rate: float, rng: np.random.Generator
) -> Codes:
    """Move ``round(rate * n)`` codes to other classes, drawn by projections of the features."""
    chosen = np.zeros(len(codes), dtype=bool)
    chosen[_draw_rows(len(codes), rate, rng)] = True
    mean, deviation = column_moments(features)
    noisy = codes.copy()
    for source, members in _rows_by_class(codes):
        weights = rng.standard_normal((len(mean), num_classes))
        for rows in _chunks(members[chosen[members]], max(weights.shape)):
            logits = (_flat(features[rows]) - mean) / deviation @ weights
            noisy[rows] = draw_other_class(logits, source, rng)
    return noisy


def draw_other_class(
    logits: NDArray[np.float64], source: int, rng: np.random.Generator
) -> NDArray[np.intp]:
    """Draw one class a row from the softmax of its logits, without the class `source`."""
    scores = logits + rng.gumbel(size=logits.shape)  # whose maximum is distributed like that
    scores[:, source] = -np.inf
    return np.asarray(scores.argmax(axis=1))


def column_moments(features: np.ndarray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and standard deviation of each column; 1 for those that are constant."""
    origin = _flat(features[:1])[0]  # sums from there are exactly 0 where a column is constant
    total, squares = np.zeros_like(origin), np.zeros_like(origin)
    for rows in _chunks(np.arange(len(features)), len(origin)):
        shifted = _flat(features[rows]) - origin
        total += shifted.sum(axis=0)
        squares += (shifted**2).sum(axis=0)
    mean = total / len(features)
    deviation = np.sqrt(np.maximum(squares / len(features) - mean**2, 0.0))
    return origin + mean, np.where(deviation > 0.0, deviation, 1.0)


def _chunks(rows: Codes, width: int) -> Iterator[Codes]:
    """Yield the rows in parts, so that a table of them has at most some million numbers."""
    size = max(1, _HELD_AT_ONCE // width)
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def _flat(features: np.ndarray) -> NDArray[np.float64]:
    return features.reshape(len(features), -1).astype(np.float64)


def _draw_rows(n: int, rate: float, rng: np.random.Generator) -> Codes:
    return rng.choice(n, size=round(rate * n), replace=False, shuffle=False)


def _rows_by_class(codes: Codes) -> Iterator[tuple[int, Codes]]:
    """Yield each class that occurs and its rows, in one sort whatever the number of classes."""
    order = np.argsort(codes, kind="stable")
    sources, starts = np.unique(codes[order], return_index=True)
    yield from zip(sources.tolist(), np.split(order, starts[1:]), strict=True)


# -- from labels to codes and back ------------------------------------------------------------


def _classes(given: np.ndarray, num_classes: int | None) -> tuple[np.ndarray, Codes]:
    classes, codes = encode_labels(given)
    if num_classes is None:
        return classes, codes
    size = check_int(_OWNER, "num_classes", num_classes, 2)
    if not counting_labels(classes):
        expected = "None unless all labels are integers of at least 0"
        raise invalid_parameter(_OWNER, "num_classes", expected, num_classes)
    if classes.max() >= size:
        expected = f"greater than the largest label, {classes.max()}"
        raise invalid_parameter(_OWNER, "num_classes", expected, num_classes)
    return counted_classes(classes, size), classes.astype(np.intp)[codes]


def _map_classes(
    classes: np.ndarray, mapping: Mapping[Hashable, Hashable]
) -> tuple[np.ndarray, Codes]:
    """Return the classes with new targets added, and for each the code of its target or -1."""
    code_of: dict[Hashable, int] = {label: code for code, label in enumerate(classes)}
    known = len(code_of)
    targets = np.full(known, -1, dtype=np.intp)
    for source, target in mapping.items():
        if source in code_of and code_of[source] < known:
            targets[code_of[source]] = code_of.setdefault(target, len(code_of))
    return _with_new_classes(classes, list(code_of)[known:]), targets


def _with_new_classes(classes: np.ndarray, new: list[Hashable]) -> np.ndarray:
    """Return all classes in one array that holds each of them exactly."""
    if not new:
        return classes
    added = one_dimensional(new)
    if classes.dtype.kind in "iuf" and added.dtype.kind in "iuf":
        with np.errstate(invalid="ignore", over="ignore"):  # what does not fit shows as unequal
            cast = added.astype(classes.dtype)
        if np.array_equal(cast, added):
            return np.concatenate([classes, cast])
    if _family(classes) == _family(added):
        dtype = np.promote_types(classes.dtype, added.dtype)
        if dtype.kind in _family(classes):  # int64 and uint64 would meet in float64
            return np.concatenate([classes.astype(dtype), added.astype(dtype)])
    return object_array([*as_list(classes), *as_list(added)])


def _family(array: np.ndarray) -> str:
    return "iu" if array.dtype.kind in "iu" else array.dtype.kind


def _match_matrix(
    matrix: ArrayLike | None, classes: np.ndarray, codes: Codes, num_classes: int | None
) -> tuple[np.ndarray, Codes, NDArray[np.float64]]:
    rows = check_probability_rows(_OWNER, "matrix", matrix)
    matched = match_classes(classes, codes, len(rows))
    if num_classes is not None and len(rows) != num_classes:
        matched = None
    if rows.shape[0] != rows.shape[1] or matched is None:
        expected = f"a square matrix with one row for each of the {len(classes)} classes"
        raise invalid_data(_OWNER, "matrix", expected, f"an array of shape {rows.shape}")
    for kind, names in _names_of(matrix).items():
        check_order(_OWNER, "matrix", kind, names, matched[0].tolist())
    return (*matched, rows)


def _names_of(matrix: Any) -> dict[str, list[Any]]:
    """Return the names of the rows and the columns of a data frame; of an array there are none."""
    if not hasattr(matrix, "columns"):
        return {}
    rows = list(matrix.index) if hasattr(matrix, "loc") else []
    return {"row": rows, "column": list(matrix.columns)}


def _relabel(
    given: np.ndarray, classes: np.ndarray, codes: Codes, noisy: Codes
) -> tuple[np.ndarray, NDArray[np.bool_]]:
    changed = noisy != codes
    labels = given.astype(classes.dtype)  # a copy
    labels[changed] = classes[noisy[changed]]
    return labels, changed


# -- what was asked for -----------------------------------------------------------------------


def _check_kind(kind: str, include_true: object, **options: object) -> None:
    check_choice(_OWNER, "kind", kind, _KINDS)
    if not isinstance(include_true, (bool, np.bool_)):
        raise invalid_parameter(_OWNER, "include_true", "a bool", include_true)
    if not include_true and kind != "symmetric":
        expected = f"True for kind={kind!r}; False belongs to kind='symmetric'"
        raise invalid_parameter(_OWNER, "include_true", expected, include_true)
    for name, value in options.items():
        home = _HOMES[name]
        if value is None and kind == home:
            raise invalid_parameter(_OWNER, name, f"given for kind={home!r}", value)
        if value is not None and kind != home:
            expected = f"None for kind={kind!r}; it belongs to kind={home!r}"
            got = value if isinstance(value, dict) else type(value)
            raise invalid_parameter(_OWNER, name, expected, got)


def _check_mapping(
    mapping: object, classes: np.ndarray, num_classes: int | None
) -> Mapping[Hashable, Hashable]:
    expected = "a dict {source: target} of labels"
    if not isinstance(mapping, Mapping):
        raise invalid_parameter(_OWNER, "mapping", expected, mapping)
    known = set(as_list(classes))
    for source, target in mapping.items():
        if not isinstance(target, Hashable) or is_missing(target):
            raise invalid_parameter(_OWNER, "mapping", expected, mapping)
        if source == target:
            expected = "a dict {source: target} without labels that map to themselves"
            raise invalid_parameter(_OWNER, "mapping", expected, mapping)
        if num_classes is not None and target not in known:
            expected = f"a dict {{source: target}} with targets below num_classes={num_classes}"
            raise invalid_parameter(_OWNER, "mapping", expected, mapping)
    if not set(mapping) & known:
        expected = "a dict {source: target} with at least one source among the labels"
        raise invalid_parameter(_OWNER, "mapping", expected, mapping)
    return mapping


def _check_features(features: Any, n: int) -> np.ndarray:
    array = read_array(_OWNER, "features", features)
    if array.shape[:1] != (n,) or array.size == 0 or array.dtype.kind not in "biuf":
        got = f"an array of shape {array.shape} and dtype {array.dtype}"
        raise invalid_data(_OWNER, "features", f"{n} rows of numbers, one a label", got)
    for rows in _chunks(np.arange(n), array.size // n):
        values = _flat(array[rows])
        usable = np.abs(values) <= _LARGEST  # false for NaN as well
        if not usable.all():
            row, column = np.argwhere(~usable)[0]
            got = f"{values[row, column]:.6g} in row {rows[row]}"
            expected = f"finite numbers of at most {_LARGEST:g} in size"
            raise invalid_data(_OWNER, "features", expected, got)
    return array


def _check_two_classes(classes: np.ndarray, reason: str) -> None:
    if len(classes) < 2:
        expected = f"of at least two classes for {reason}"
        raise invalid_data(_OWNER, "labels", expected, f"only the class {as_list(classes)[0]!r}")
