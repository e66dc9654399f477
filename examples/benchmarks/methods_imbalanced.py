"""Rare classes: what the methods do to them, with right labels and with wrong ones.

    python examples/benchmarks/methods_imbalanced.py

Two of scikit-learn's digits are a class each, and all others a third one, some twenty times as
large: another pair for each seed. Runs of one seed start from the same first weights and the same
labels. "Drawn evenly" means that each epoch draws as many samples of each given label, by a
`WeightedRandomSampler`. The result goes to ``results/methods_imbalanced.json``.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")  # runs are made side by side, one core each
sys.path.insert(0, str(Path(__file__).parents[1]))  # for the quickstart's network

import _results
import numpy as np
import torch
from _reporting import environment, rounded
from joblib import Parallel, delayed
from quickstart import load_noisy_digits, small_network
from sklearn.metrics import accuracy_score, balanced_accuracy_score, roc_auc_score
from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler

from lossnoise import NoisyLabelTrainer
from lossnoise.corrections import CORRECTIONS, MDyrH
from lossnoise.noise import inject_noise

PAIRS = ((3, 8), (4, 9), (1, 7), (5, 6), (0, 2))  # the two rare digits, by seed
KEPT = 0.4  # share of their pictures: 20 to 1
NOISES = (0.0, 0.3)  # share of labels redrawn over three classes: of 30 %, a fifth is wrong


class Method(NamedTuple):
    """A correction, and whether samples are drawn evenly over the given labels."""

    make: Callable[[], Any]
    evenly: bool = False


METHODS = {
    "cross-entropy": Method(CORRECTIONS["cross-entropy"]),
    "cross-entropy, drawn evenly": Method(CORRECTIONS["cross-entropy"], evenly=True),
    "mixup": Method(CORRECTIONS["mixup"]),
    "m-dyr-h": Method(MDyrH),
    'm-dyr-h, class_prior="labels"': Method(lambda: MDyrH(class_prior="labels")),
    "m-dyr-h, drawn evenly": Method(MDyrH, evenly=True),
}


class Pictures(NamedTuple):
    """Pictures with given labels, which of them are wrong, and some with right ones."""

    train: TensorDataset
    wrong: np.ndarray
    test: TensorDataset


def load_pictures(noise: float, seed: int) -> Pictures:
    """Return digits of which two are rare classes, and the others one frequent class."""
    digits = load_noisy_digits(0.0, seed)
    pair = PAIRS[seed % len(PAIRS)]

    def by_pair(target: np.ndarray) -> np.ndarray:
        return np.where(target == pair[0], 1, np.where(target == pair[1], 2, 0))

    images, target = digits.train.tensors
    true = by_pair(target.numpy())
    kept = (true == 0) | (np.random.default_rng(seed).random(len(true)) < KEPT)
    labels, wrong = inject_noise(true[kept], noise, random_state=seed)
    shown, answers = digits.test.tensors
    return Pictures(
        TensorDataset(images[kept], torch.as_tensor(labels)),
        wrong,
        TensorDataset(shown, torch.as_tensor(by_pair(answers.numpy()))),
    )


def train_one(name: str, noise: float, seed: int, epochs: int) -> dict[str, Any]:
    """Train by one method, and measure on pictures with right labels."""
    torch.set_num_threads(1)
    pictures, method = load_pictures(noise, seed), METHODS[name]
    labels = pictures.train.tensors[1].numpy()
    data: Any = pictures.train
    if method.evenly:
        weights = 1.0 / np.bincount(labels)[labels]
        generator = torch.Generator().manual_seed(seed)
        sampler = WeightedRandomSampler(weights.tolist(), len(labels), generator=generator)
        data = DataLoader(pictures.train, batch_size=128, sampler=sampler)
    torch.manual_seed(seed)
    network = small_network()
    network[-1] = torch.nn.Linear(256, 3)
    trainer = NoisyLabelTrainer(
        network, correction=method.make(), epochs=epochs, random_state=seed
    ).fit(data)
    shown, answers = pictures.test.tensors[0], pictures.test.tensors[1].numpy()
    predicted = trainer.predict(shown)
    found = {
        "accuracy": accuracy_score(answers, predicted),
        "balanced_accuracy": balanced_accuracy_score(answers, predicted),
        "flagged": (trainer.noise_proba_ > 0.5).mean(),
        "wrong": pictures.wrong.mean(),
    }
    if pictures.wrong.any():
        found["auroc"] = roc_auc_score(pictures.wrong, trainer.losses_)
    print(f"{noise:.0%}  {name:<32}seed {seed}  {found['balanced_accuracy']:.3f}", flush=True)
    return {"seed": seed, **{figure: float(value) for figure, value in found.items()}}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--methods", nargs="+", choices=[*METHODS], default=[*METHODS])
    parser.add_argument("--noise", type=float, nargs="+", default=NOISES)
    parser.add_argument("--seeds", type=int, nargs="+", default=range(len(PAIRS)))
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--jobs", type=int, help="runs side by side; default: as many as cores")
    parser.add_argument("--out", type=Path, default=_results.RESULTS / "methods_imbalanced.json")
    options = parser.parse_args(arguments)
    cases = list(product(options.noise, options.methods, options.seeds))
    runs = Parallel(options.jobs or os.cpu_count())(
        delayed(train_one)(name, noise, seed, options.epochs) for noise, name, seed in cases
    )
    cells = []
    for noise, name in product(options.noise, options.methods):
        mine = [run for run, case in zip(runs, cases, strict=True) if case[:2] == (noise, name)]
        figures = [figure for figure in mine[0] if figure != "seed"]
        summary = {figure: _results.spread([run[figure] for run in mine]) for figure in figures}
        cells.append({"noise": noise, "method": name, "summary": summary, "runs": mine})
    settings = {"epochs": options.epochs, "kept": KEPT, "seeds": list(options.seeds)}
    made = {"environment": environment(options), "settings": settings}
    _results.write(options.out, made | {"cells": rounded(cells)})


if __name__ == "__main__":
    main()
