"""Train on handwritten digits of which four in five labels were redrawn, and find the wrong ones.

Compares plain cross-entropy, mixup and M-DYR-H on the same small network, and writes two figures
and the table of suspicious labels to ``quickstart_output/``. About a minute on two cores::

    python examples/quickstart.py
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.metrics import precision_score, recall_score, roc_auc_score
from sklearn.model_selection import train_test_split
from torch import nn
from torch.utils.data import Dataset, TensorDataset

from lossnoise import LossHistoryDisplay, LossMixtureDisplay, NoisyLabelTrainer, audit
from lossnoise.noise import inject_noise

CORRECTIONS = ("cross-entropy", "mixup", "m-dyr-h")


class NoisyDigits(NamedTuple):
    """Digits with wrong labels to train on, and with right ones to test on."""

    train: Dataset[Any]
    test: Dataset[Any]
    labels: np.ndarray  # as given, many of them wrong
    changed: np.ndarray  # which of them are wrong
    index: np.ndarray  # the row of each training sample in scikit-learn's data set


def load_noisy_digits(
    rate: float, seed: int, *, kind: str = "symmetric", include_true: bool = True
) -> NoisyDigits:
    """Return scikit-learn's digits (8 x 8 scans) with a share of the training labels redrawn."""
    digits = load_digits()
    images = torch.tensor(digits.images[:, None] / 16.0, dtype=torch.float32)
    train, test = train_test_split(
        np.arange(len(images)), test_size=0.25, random_state=0, stratify=digits.target
    )
    labels, changed = inject_noise(
        digits.target[train],
        rate,
        kind,
        include_true=include_true,
        features=digits.data[train] if kind == "instance" else None,
        random_state=seed,
    )
    return NoisyDigits(
        TensorDataset(images[train], torch.as_tensor(labels)),
        TensorDataset(images[test], torch.as_tensor(digits.target[test])),
        labels,
        changed,
        train,
    )


def small_network() -> nn.Module:
    """Return a convolutional network with BatchNorm for 8 x 8 pictures, 58,000 parameters."""
    return nn.Sequential(
        *(nn.Conv2d(1, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU()),
        *(nn.Conv2d(32, 64, 3, padding=1, stride=2, bias=False), nn.BatchNorm2d(64), nn.ReLU()),
        *(nn.Conv2d(64, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(256, 10)),
    )


def train(digits: NoisyDigits, correction: Any, seed: int, **settings: Any) -> NoisyLabelTrainer:
    """Train the small network from the same first weights with one correction."""
    torch.manual_seed(seed)
    trainer = NoisyLabelTrainer(
        small_network(), correction=correction, random_state=seed, **settings
    )
    return trainer.fit(digits.train, digits.test)


def measure(trainer: NoisyLabelTrainer, changed: np.ndarray) -> dict[str, float]:
    """Return accuracies on clean test labels, and how well the wrong labels were found."""
    accuracies = [epoch["val_accuracy"] for epoch in trainer.history_]
    flagged = trainer.noise_proba_ > 0.5
    result = {
        "last": accuracies[-1],
        "best": max(accuracies),  # chosen on the test set: for comparison only
        "noise_rate": float(trainer.noise_proba_.mean()),
        "true_rate": float(changed.mean()),
    }
    if changed.any():
        result["auroc"] = roc_auc_score(changed, trainer.losses_)
        result["precision"] = precision_score(changed, flagged, zero_division=0.0)
        result["recall"] = recall_score(changed, flagged)
    return {name: float(value) for name, value in result.items()}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="lossnoise on handwritten digits")
    parser.add_argument("--noise", type=float, default=0.8, help="share of labels redrawn")
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("quickstart_output"))
    options = parser.parse_args(arguments)

    digits = load_noisy_digits(options.noise, options.seed)
    print(
        f"{len(digits.labels)} training pictures, {options.noise:.0%} of the labels redrawn: "
        f"{digits.changed.sum()} are wrong\n"
    )
    print("                 accuracy on clean test labels     wrong labels found")
    print("correction       last epoch   (best)               AUROC   precision   recall")
    trainers = {}
    for correction in CORRECTIONS:
        trainer = train(digits, correction, options.seed, epochs=options.epochs)
        trainers[correction] = trainer
        r = measure(trainer, digits.changed)
        print(
            f"{correction:<16} {r['last']:.3f}        ({r['best']:.3f})              "
            f"{r['auroc']:.3f}   {r['precision']:.3f}       {r['recall']:.3f}"
        )

    options.out.mkdir(parents=True, exist_ok=True)
    compared = {"plain training": trainers["cross-entropy"], "M-DYR-H": trainers["m-dyr-h"]}
    history = LossHistoryDisplay.from_trainer(compared, digits.changed)
    history.figure_.savefig(options.out / "loss_history.png", dpi=150)
    display = LossMixtureDisplay.from_estimator(trainer.detector_, trainer.losses_)
    display.ax_.set_title("Losses after training with M-DYR-H, and the mixture fitted to them")
    display.figure_.savefig(options.out / "losses.png", dpi=150)
    report = audit(
        digits.labels,
        losses=trainer.losses_,
        noise_proba=trainer.noise_proba_,
        pred_probs=trainer.predict_proba(digits.train),
        index=digits.index,
    )
    report.to_csv(options.out / "audit.csv")
    print(f"\n{report}\n\nwritten to {options.out}/: loss_history.png, losses.png, audit.csv")


if __name__ == "__main__":
    main()
