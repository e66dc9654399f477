"""Train on a folder of pictures whose labels are partly wrong, and write a report to look at.

    python examples/train_folder.py DIR --model resnet18 --out run

``DIR`` has one folder a class, as torchvision's ``ImageFolder`` takes them. A run that was
interrupted goes on where it was. On several devices (``--batch-size`` is that of each)::

    torchrun --nproc_per_node=2 examples/train_folder.py DIR --model resnet18 --out run

``run`` then holds ``audit.html`` (open it in a browser), ``issues.csv`` (all rows, worst first, and
a column to review), ``losses.npz``, ``history.csv``, ``trainer.pt`` and the checkpoints.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
import torch
import torchvision
from torch import nn
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2
from train_cifar import small_cnn

from lossnoise import AuditReport, NoisyLabelTrainer
from lossnoise._files import atomic_open
from lossnoise.corrections import CORRECTIONS
from lossnoise.training import CSVLogger

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet: near those of most photos


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("folder", type=Path, metavar="DIR", help="one folder of pictures a class")
    add("--model", default="resnet18", help="of torchvision, by name; 'small' for small pictures")
    add("--out", type=Path, required=True, metavar="DIR", help="where everything is written")
    add("--correction", choices=sorted(CORRECTIONS), default="m-dyr-h")
    add("--epochs", type=int, default=60)
    add("--batch-size", type=int, default=64)
    add("--size", type=int, default=224, help="pictures are scaled and cropped to so many pixels")
    add("--lr", type=float, default=0.05, help="learning rate of SGD at the start")
    add("--workers", type=int, default=0, help="processes that read pictures")
    add("--cards", type=int, default=200, help="pictures in the report")
    add("--no-augment", action="store_true", help="no random crops and flips")
    add("--seed", type=int, default=0)
    return parser.parse_args(arguments)


def make_model(name: str, num_classes: int) -> nn.Module:
    if name == "small":
        return small_cnn(num_classes)
    model: nn.Module = torchvision.models.get_model(name, weights=None, num_classes=num_classes)
    return model


def pictures(folder: Path, size: int, *, augment: bool) -> ImageFolder:
    steps = [v2.Resize(size), v2.CenterCrop(size)]
    if augment:
        steps += [v2.RandomCrop(size, padding=size // 8), v2.RandomHorizontalFlip()]
    steps += [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
    return ImageFolder(folder, v2.Compose(steps))


def train(options: argparse.Namespace) -> NoisyLabelTrainer:
    data = pictures(options.folder, options.size, augment=not options.no_augment)
    torch.manual_seed(options.seed)  # the first weights
    trainer = NoisyLabelTrainer(
        make_model(options.model, len(data.classes)),
        correction=options.correction,
        epochs=options.epochs,
        batch_size=options.batch_size,
        optimizer=lambda parameters: torch.optim.SGD(
            parameters, lr=options.lr, momentum=0.9, weight_decay=1e-4
        ),
        callbacks=[CSVLogger(options.out / "history.csv")],
        checkpoint_dir=options.out / "checkpoints",
        random_state=options.seed,
        verbose=1,
    )
    source: torch.utils.data.Dataset | torch.utils.data.DataLoader = data
    if options.workers:
        source = torch.utils.data.DataLoader(
            data, options.batch_size, shuffle=True, num_workers=options.workers
        )
    return trainer.fit(source, resume=True)


def write_results(trainer: NoisyLabelTrainer, options: argparse.Namespace) -> AuditReport:
    plain = pictures(options.folder, options.size, augment=False)
    files = [path for path, _ in plain.samples]
    report = AuditReport.from_trainer(
        trainer,
        plain,
        index=[os.path.relpath(file, options.folder) for file in files],
        class_names=plain.classes,
    )
    report.to_html(options.out / "audit.html", inputs=files, budget=options.cards)
    report.to_csv(options.out / "issues.csv")
    with atomic_open(options.out / "losses.npz", "wb") as file:
        np.savez(
            file,
            losses=trainer.losses_,
            noise_proba=trainer.noise_proba_,
            loss_history=trainer.loss_history_,
            labels=trainer.labels_,
        )
    trainer.save(options.out / "trainer.pt")
    return report


def main(arguments: list[str] | None = None) -> None:
    options = parse_arguments(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    trainer = train(options)
    if int(os.environ.get("RANK", "0")) > 0:  # the first process writes for all
        return
    print(write_results(trainer, options))
    print(
        f"\nwritten to {options.out}/: audit.html, issues.csv, losses.npz, history.csv, trainer.pt"
    )


if __name__ == "__main__":
    main()
