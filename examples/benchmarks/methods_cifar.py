"""Corrections on a part of CIFAR-10, trained until plain training has memorised the labels.

    python examples/benchmarks/methods_cifar.py --arrays cifar.npz --cache DIR

Pictures at half their size and a small network, so that the four methods of the paper take about
half an hour on two cores at 50 and 80 % redrawn labels; ``--corrections`` and ``--noise`` make
other runs, also of `VARIANTS` that are told something of the truth. The same pictures, epochs,
schedule and first weights for each, no augmentation. Twice as many pictures, for 100 epochs, take
about two hours::

    python examples/benchmarks/methods_cifar.py --arrays cifar.npz --cache DIR --long

On a GPU at full size, with the paper's network: ``--full`` in its place. The result goes to
``results/methods_cifar.json`` (``methods_cifar_long.json``, ``methods_cifar_full.json``).
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # runs are made side by side, one core each
sys.path.insert(0, str(Path(__file__).parents[1]))  # for the networks of train_cifar.py

import _results
import numpy as np
import torch
from _comparison import NOISES, Noise, add_arguments, compare, figures_of, name_of
from _pictures import NUM_CLASSES, NoisyPictures, part_of, reviewed_samples, with_noise
from sklearn.metrics import roc_auc_score
from train_cifar import MODELS, optimizer_factory

from lossnoise import NoisyLabelTrainer
from lossnoise.corrections import CORRECTIONS, Correction, CoTeachingPlus, EpochContext, OpenSet
from lossnoise.corrections.open_set import NOISY
from lossnoise.data.cifar import ImageArrays, load_arrays
from lossnoise.data.resident import ResidentImages
from lossnoise.training import Precision

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
OF_THE_PAPER = ["cross-entropy", "mixup", "m-dyr-h", "md-dyr-sh"]
SMALL = {"model": "small", "size": 16, "limit": 5000, "limit_test": 2000, "epochs": 60}
SMALL |= {"batch_size": 64, "lr": 0.02, "precision": "float32", "augment": False}
LONG = SMALL | {"limit": 10_000, "epochs": 100}
FULL = {"model": "preact_resnet18", "size": 32, "limit": 50_000, "limit_test": 10_000}
FULL |= {"epochs": 100, "batch_size": 128, "lr": 0.1, "precision": "bfloat16", "augment": True}
PRESETS = {"": SMALL, "_long": LONG, "_full": FULL}


class Told(OpenSet):
    """`OpenSet` with a score for each wrong label, and none for the right ones, from outside."""

    def __init__(self, is_wrong: np.ndarray, score: float) -> None:
        super().__init__()
        self.is_wrong = is_wrong
        self.score = score

    def _look(self, context: EpochContext) -> None:
        """Take the truth in the place of the features."""
        scores = torch.as_tensor(self.is_wrong * self.score, dtype=torch.float32)
        self._score = scores.to(context.device)


# Methods that know something of the truth: what they would be worth if they found it themselves.
VARIANTS: dict[str, Callable[[np.ndarray], Correction]] = {
    "co-teaching-plus, rate given": lambda wrong: CoTeachingPlus(noise_rate=float(wrong.mean())),
    "open-set, wrong labels known": lambda wrong: Told(wrong, 1.0),
    "open-set, wrong labels known, weight 0.35": lambda wrong: Told(wrong, 0.65),
}


def train_one(
    settings: dict[str, Any], arrays: ImageArrays, correction: str, noise: Noise, seed: int
) -> dict[str, Any]:
    """Train one correction with one kind of noise and one seed."""
    pictures = with_noise(arrays, noise, seed)
    method = make_correction(correction, pictures)
    if method.needs_clean_batch:
        method.clean_set = reviewed_samples(pictures, arrays.y_train, seed, DEVICE)
    torch.manual_seed(seed)  # the first weights
    trainer = NoisyLabelTrainer(
        MODELS[settings["model"]](NUM_CLASSES),
        correction=method,
        epochs=settings["epochs"],
        batch_size=settings["batch_size"],
        optimizer=optimizer_factory(settings["lr"]),
        precision=Precision(settings["precision"], channels_last=True),
        random_state=seed,
    )
    given = ResidentImages(pictures.images, pictures.labels, DEVICE, augment=settings["augment"])
    trainer.fit(given, ResidentImages(arrays.x_test, arrays.y_test, DEVICE))
    plain = ResidentImages(pictures.images, pictures.labels, DEVICE)
    figures = figures_of(trainer, pictures.changed)
    figures["accuracy_on_given_labels"] = trainer.score(plain)
    if isinstance(trainer.correction_, OpenSet) and pictures.changed.any():
        figures |= outliers_found(trainer.correction_, pictures.changed)
    return figures | {"test_accuracy": [epoch["val_accuracy"] for epoch in trainer.history_]}


def make_correction(name: str, pictures: NoisyPictures) -> Correction:
    """Return a correction with its defaults, or one that is told something of the truth."""
    return VARIANTS[name](pictures.changed) if name in VARIANTS else CORRECTIONS[name]()


def outliers_found(method: OpenSet, is_wrong: np.ndarray) -> dict[str, float]:
    """Return how well the scores of features tell wrong labels, and the weight that these keep."""
    scores = np.asarray(method.outlier_score_.cpu())
    weights = np.where(scores > NOISY, 1.0 - scores, 1.0)
    auroc = float(roc_auc_score(is_wrong, scores))
    return {"score_auroc": auroc, "weight_of_wrong": float(weights[is_wrong].mean())}


def parse_arguments(arguments: list[str] | None) -> tuple[argparse.Namespace, dict[str, Any]]:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--arrays", type=Path, required=True, metavar="FILE.npz", help="pictures as arrays")
    preset = parser.add_mutually_exclusive_group()
    preset.set_defaults(preset="")
    chosen = partial(preset.add_argument, dest="preset", action="store_const")
    chosen("--long", const="_long", help="more pictures, and more epochs")
    chosen("--full", const="_full", help="all pictures, the paper's network, augmentation")
    add("--epochs", type=int)
    add("--limit", type=int, metavar="N", help="train on the first N pictures")
    add("--limit-test", type=int, metavar="N", help="test on the first N pictures")
    add_arguments(parser, OF_THE_PAPER, _results.RESULTS / "methods_cifar.json")
    parser.set_defaults(noise=["symmetric-0.5", "symmetric-0.8"])
    options = parser.parse_args(arguments)
    if options.out == parser.get_default("out"):
        options.out = _results.RESULTS / f"methods_cifar{options.preset}.json"
    options.jobs = options.jobs or (1 if options.preset == "_full" else None)
    changed = {name: getattr(options, name) for name in ("epochs", "limit", "limit_test")}
    settings = PRESETS[options.preset]
    return options, settings | {name: n for name, n in changed.items() if n is not None}


def main(arguments: list[str] | None = None) -> None:
    options, settings = parse_arguments(arguments)
    arrays, n, m = load_arrays(options.arrays), settings["limit"], settings["limit_test"]
    if len(arrays.x_train) < n or len(arrays.x_test) < m:
        sys.exit(
            f"{options.arrays} holds {len(arrays.x_train)} pictures to train on and "
            f"{len(arrays.x_test)} to test on: lower --limit or --limit-test"
        )
    train = partial(train_one, settings, part_of(arrays, n, m, settings["size"]))
    noises = [noise for noise in NOISES if name_of(noise) in options.noise]
    cases = (
        (c, noise, seed) for noise, seed, c in product(noises, options.seeds, options.corrections)
    )
    _results.write(options.out, compare(options, settings, train, cases))


if __name__ == "__main__":
    main()
