"""The data of a distributed run: the same in every process, of which each trains on a share."""

from __future__ import annotations

from typing import Any

import numpy as np

from lossnoise._validation import invalid_data
from lossnoise.corrections._labelled import split_sample
from lossnoise.data._indexed import IndexedData, is_sharded
from lossnoise.training._distributed import gather_objects, is_distributed
from lossnoise.training._random import kept_globals

OWNER = "NoisyLabelTrainer"
SOME = 32  # samples whose labels are compared: those of other rows, or flipped anew, hardly agree


def check_shares(name: str, data: Any) -> None:
    """Raise where the processes of a distributed run have no shares of the same data.

    Lengths are compared, and labels of some samples, which each process reads.
    """
    if not is_distributed():
        return
    if not is_sharded(data):
        raise invalid_data(
            OWNER,
            name,
            "a map-style dataset in a distributed run, or a loader with a DistributedSampler",
            f"a {type(data).__name__}",
            "every process would train on the same samples",
        )
    whole = IndexedData(data, SOME)
    lengths = gather_objects(whole.num_samples)
    expected = "the same whole dataset in every process, which takes its own share of it"
    if len(set(lengths)) > 1:
        got = f"{', '.join(map(str, lengths))} samples"
        raise invalid_data(OWNER, name, expected, got, "give each of them all samples")
    rows = np.linspace(0, lengths[0] - 1, min(lengths[0], SOME)).astype(int)
    if others := _disagreements(gather_objects(_labels_of(whole, rows))):
        first = f"first of sample {rows[others[0]]},"
        got = f"other labels of {len(others)} in {len(rows)} samples, {first}"
        advice = "a split, or labels that are made wrong on purpose, needs one seed in all of them"
        raise invalid_data(OWNER, name, expected, got, advice)


def _labels_of(data: IndexedData, rows: np.ndarray) -> list[Any]:
    with kept_globals():  # random augmentation draws from them
        labels: list[Any] = split_sample(data.batch_of(rows.tolist()))[1].tolist()
    return labels


def _disagreements(labels: list[list[Any]]) -> list[int]:
    """Return where the lists of the processes differ; NaN, refused later, is the same here."""
    found = enumerate(zip(*labels, strict=True))
    return [place for place, several in found if len(set(map(repr, several))) > 1]
