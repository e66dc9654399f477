"""Train on CIFAR-10 with known label noise, and measure what was learned and what was found.

With torchvision's copy of the data set, and with arrays in an ``.npz`` file (``x_train y_train
x_test y_test``, uint8 NHWC)::

    python examples/train_cifar.py --data data --download --noise 0.5 --epochs 300
    python examples/train_cifar.py --arrays cifar.npz --model small --limit 5000 --epochs 40

On several devices (``--batch-size`` is that of each), going on where it was interrupted::

    torchrun --nproc_per_node=2 examples/train_cifar.py --arrays cifar.npz --checkpoint-dir run
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
import torch
from sklearn.metrics import precision_score, recall_score, roc_auc_score
from torch import nn

import lossnoise
from lossnoise import NoisyLabelTrainer
from lossnoise._files import atomic_open
from lossnoise.corrections import CORRECTIONS
from lossnoise.data.cifar import ImageArrayDataset, ImageArrays, load_arrays, load_cifar10
from lossnoise.models import preact_resnet18
from lossnoise.noise import inject_noise


def small_cnn(num_classes: int) -> nn.Sequential:
    """Three stages of 16, 32 and 64 channels: some seconds an epoch of 5,000 pictures on a CPU."""
    layers: list[nn.Module] = []
    for in_channels, out_channels in ((3, 16), (16, 32), (32, 64)):
        layers += [
            nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
        ]
    return nn.Sequential(
        *layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * 64, num_classes)
    )


DEFAULT_LR = 0.1  # the trainer's own

MODELS = {"preact_resnet18": preact_resnet18, "small": small_cnn}


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--data", type=Path, metavar="DIR", help="folder of torchvision's CIFAR-10")
    source.add_argument("--arrays", type=Path, metavar="FILE.npz", help="pictures as arrays")
    add("--download", action="store_true", help="with --data: download what is not there")
    add("--noise", type=float, default=0.5, help="share of labels redrawn over all classes")
    add("--correction", choices=sorted(CORRECTIONS), default="m-dyr-h")
    add("--model", choices=sorted(MODELS), default="preact_resnet18")
    add("--epochs", type=int, default=300)
    add("--batch-size", type=int, default=128)
    add("--lr", type=float, default=DEFAULT_LR, help="learning rate of SGD at the start")
    add("--limit", type=int, metavar="N", help="train on the first N pictures")
    add("--limit-test", type=int, metavar="N", help="test on the first N pictures")
    add("--checkpoint-dir", type=Path, metavar="DIR", help="go on from there, if it holds a run")
    add("--no-augment", action="store_true", help="no random crops and flips")
    add("--seed", type=int, default=0, help="of the training")
    add("--noise-seed", type=int, default=0, help="of the label noise")
    add("--out", type=Path, metavar="FILE.json", help="write figures, arguments and versions")
    options = parser.parse_args(arguments)
    if options.download and options.arrays is not None:
        parser.error("argument --download: not allowed with argument --arrays")
    return options


def load(options: argparse.Namespace) -> ImageArrays:
    if options.arrays is not None:
        arrays = load_arrays(options.arrays)
    else:
        arrays = load_cifar10(options.data, download=options.download)
    n, m = options.limit, options.limit_test
    return ImageArrays(arrays.x_train[:n], arrays.y_train[:n], arrays.x_test[:m], arrays.y_test[:m])


def optimizer_factory(lr: float) -> Callable[..., torch.optim.Optimizer] | None:
    """Return None, which is the trainer's default optimizer, unless the learning rate differs."""
    if lr == DEFAULT_LR:
        return None
    return partial(torch.optim.SGD, lr=lr, momentum=0.9, weight_decay=1e-4)


def train(options: argparse.Namespace, arrays: ImageArrays) -> tuple[NoisyLabelTrainer, np.ndarray]:
    """Return the trainer after its last epoch, and which training labels were wrong."""
    num_classes = int(max(arrays.y_train.max(), arrays.y_test.max())) + 1
    noisy, changed = inject_noise(
        arrays.y_train, options.noise, num_classes=num_classes, random_state=options.noise_seed
    )
    torch.manual_seed(options.seed)  # the first weights
    trainer = NoisyLabelTrainer(
        MODELS[options.model](num_classes),
        correction=options.correction,
        epochs=options.epochs,
        batch_size=options.batch_size,
        optimizer=optimizer_factory(options.lr),
        checkpoint_dir=options.checkpoint_dir,
        random_state=options.seed,
        verbose=1,
    )
    trainer.fit(
        ImageArrayDataset(arrays.x_train, noisy, augment=not options.no_augment),
        ImageArrayDataset(arrays.x_test, arrays.y_test),
        resume=options.checkpoint_dir is not None,
    )
    return trainer, changed


def figures(trainer: NoisyLabelTrainer, changed: np.ndarray) -> dict[str, Any]:
    accuracies = [epoch["val_accuracy"] for epoch in trainer.history_]
    best = int(np.argmax(accuracies))
    result = {
        "last_test_accuracy": accuracies[-1],
        "best_test_accuracy": accuracies[best],
        "best_epoch": trainer.history_[best]["epoch"],
        "seconds_per_epoch": float(np.median([epoch["seconds"] for epoch in trainer.history_])),
        "wrong_labels": int(changed.sum()),
        "flagged_labels": len(trainer.noisy_indices_),
        "mean_noise_proba": float(np.mean(trainer.noise_proba_)),
    }
    if 0 < changed.sum() < len(changed):  # else there is nothing to tell apart
        flagged = np.isin(np.arange(len(changed)), trainer.noisy_indices_)
        result["auroc"] = float(roc_auc_score(changed, trainer.noise_proba_))
        result["precision"] = float(precision_score(changed, flagged, zero_division=0))
        result["recall"] = float(recall_score(changed, flagged))
    return result


def print_figures(result: dict[str, Any]) -> None:
    print(f"test accuracy, last epoch   {result['last_test_accuracy']:.4f}")
    print(
        f"test accuracy, best epoch   {result['best_test_accuracy']:.4f} "
        f"(epoch {result['best_epoch']}, chosen on the test set itself)"
    )
    print(f"seconds an epoch (median)   {result['seconds_per_epoch']:.2f}")
    print(f"wrong labels, truly         {result['wrong_labels']:,}")
    print(f"wrong labels, flagged       {result['flagged_labels']:,}")
    for name in ("auroc", "precision", "recall"):
        if name in result:
            print(f"wrong labels, {name:<14}{result[name]:.4f}")


def write_json(path: Path, result: dict[str, Any], options: argparse.Namespace) -> None:
    """Write the result whole or not at all."""
    arguments = {
        name: value
        for name, value in vars(options).items()
        if name not in ("data", "arrays", "out", "checkpoint_dir")  # folders of one machine
    }
    versions = {
        "lossnoise": lossnoise.__version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "scikit-learn": sklearn.__version__,
        "python": platform.python_version(),
    }
    document = {"figures": result, "arguments": arguments, "versions": versions}
    with atomic_open(path, encoding="utf-8") as file:
        json.dump(document, file, indent=2)
        file.write("\n")


def main(arguments: list[str] | None = None) -> None:
    options = parse_arguments(arguments)
    trainer, changed = train(options, load(options))
    if int(os.environ.get("RANK", "0")) > 0:  # the first process speaks for all
        return
    device = str(next(trainer.model.parameters()).device)
    result = figures(trainer, changed) | {"device": device, "history": trainer.history_}
    print_figures(result)
    if options.out is not None:
        write_json(options.out, result, options)


if __name__ == "__main__":
    main()
