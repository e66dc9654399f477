"""Corrections compared on scikit-learn's digits: accuracy, and how well wrong labels are found.

    python examples/benchmarks/methods_digits.py

Each run of one seed starts from the same first weights and the same noise for every correction,
with the trainer's defaults; only `epochs` is set. Some hours on two cores; with ``--cache``
the command can be stopped and started again, and ``--reuse`` fills the cache with the runs of an
earlier result. The result goes to ``results/methods_digits.json``.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # runs are made side by side, one core each
sys.path.insert(0, str(Path(__file__).parents[1]))  # for the quickstart's data and network

import _results
import torch
from _comparison import (
    NOISES,
    OTHERS,
    SYMMETRIC,
    Case,
    Noise,
    add_arguments,
    compare,
    figures_of,
    name_of,
)
from _digits import load_digits_with, reviewed_samples
from _weighting import AllEvidence, Gate, LastSeparable
from quickstart import train

from lossnoise.corrections import CORRECTIONS, MDyrH
from lossnoise.training import Precision

OF_THE_PAPER = [*SYMMETRIC, OTHERS[0]]  # of which there are variants of the main method
CLEAN_SEEDS = 5  # at least: without noise the methods differ by little

# The main method with another source of its losses, as published, with a warm-up of its own, with
# guesses in fewer bits, and with other weights where the losses cannot tell.
VARIANTS = {
    "m-dyr-h, own sweep": partial(MDyrH, sweep="epoch"),
    "m-dyr-h, published": partial(MDyrH, compat="published"),
    "m-dyr-h, auto warm-up": partial(MDyrH, warmup="auto"),
    "m-dyr-h, bfloat16 guesses": MDyrH,
    "m-dyr-h, all evidence": AllEvidence,
    "m-dyr-h, gate": MDyrH,
    "m-dyr-h, last separable": MDyrH,
}
SETTINGS: dict[str, dict[str, Any]] = {
    "m-dyr-h, bfloat16 guesses": {"precision": Precision(no_grad="bfloat16")},
    "m-dyr-h, gate": {"detector": Gate(hard_fraction=0.0)},
    "m-dyr-h, last separable": {"detector": LastSeparable(hard_fraction=0.0)},
}


def train_one(epochs: int, correction: str, noise: Noise, seed: int) -> dict[str, Any]:
    """Train one correction with one kind of noise and one seed."""
    torch.set_num_threads(1)
    digits = load_digits_with(noise, seed)
    method = VARIANTS[correction]() if correction in VARIANTS else CORRECTIONS[correction]()
    if method.needs_clean_batch:
        method.clean_set = reviewed_samples(digits, seed)
    settings = SETTINGS.get(correction, {})
    return figures_of(train(digits, method, seed, epochs=epochs, **settings), digits.changed)


def cases_of(options: argparse.Namespace) -> Iterator[Case]:
    """Yield what is to be run: more seeds without noise, variants where the paper has figures."""
    for noise in NOISES:
        if name_of(noise) not in options.noise:
            continue
        more = range(max(options.seeds) + 1, CLEAN_SEEDS) if noise[0] == 0.0 else ()
        seeds = [*options.seeds, *(more if len(options.seeds) > 1 else ())]
        corrections = [c for c in options.corrections if c not in VARIANTS or noise in OF_THE_PAPER]
        yield from product(corrections, [noise], seeds)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_arguments(parser, [*CORRECTIONS, *VARIANTS], _results.RESULTS / "methods_digits.json")
    parser.add_argument("--epochs", type=int, default=100)
    options = parser.parse_args(arguments)
    train = partial(train_one, options.epochs)
    result = compare(options, {"epochs": options.epochs}, train, cases_of(options))
    _results.write(options.out, result)


if __name__ == "__main__":
    main()
