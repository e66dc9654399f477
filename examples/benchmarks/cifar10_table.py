"""The paper's table on CIFAR-10, one run a command: published numbers beside our own.

    python examples/benchmarks/cifar10_table.py --arrays cifar.npz --noise 0.5 \\
        --correction m-dyr-h --run-dir DIR
    python examples/benchmarks/cifar10_table.py --table

A run is the paper's recipe (`lossnoise.training.paper_recipe`), with its network and augmentation;
``--epochs`` scales it. It is checkpointed in ``--run-dir``, and the same command goes on where it
was stopped; ``--minutes`` ends it in time, to be continued. Each run that has reached its last
epoch is one file in ``results/cifar10/``. ``--table`` prints them as Markdown, beside the published
numbers (those of "bootstrapping" and "loss correction" stand at the hard and the forward one).
A run also says how well detectors tell wrong labels by the losses of its epochs, if it has them.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # for the networks of train_cifar.py

import _results
import numpy as np
import torch
from _reporting import environment, rounded
from detector_training_losses import judge
from quickstart import measure
from train_cifar import MODELS

from lossnoise import NoisyLabelTrainer
from lossnoise._files import atomic_open
from lossnoise.corrections import CORRECTIONS
from lossnoise.data.cifar import load_arrays, load_cifar10
from lossnoise.data.resident import ResidentImages
from lossnoise.noise import inject_noise
from lossnoise.training import Callback, Checkpoints, Precision, paper_recipe

FOLDER = _results.RESULTS / "cifar10"
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
NUM_CLASSES = 10
NOISES = (0.0, 0.2, 0.5, 0.8, 0.9)

# Best and last test accuracy in percent, noise over all classes (Arazo et al., ICML 2019, table 4).
PUBLISHED = {
    "bootstrap-hard": ["94.7/94.6", "86.8/82.9", "79.8/58.4", "63.3/26.8", "42.9/17.0"],
    "forward": ["94.7/94.6", "86.8/83.1", "79.8/59.4", "63.3/26.2", "42.9/18.8"],
    "mixup": ["95.3/95.2", "95.6/92.3", "87.1/77.6", "71.6/46.7", "52.2/43.9"],
    "m-dyr-h": ["93.6/93.4", "94.0/93.8", "92.0/91.9", "86.8/86.6", "40.8/9.9"],
    "md-dyr-sh": ["93.6/92.7", "93.8/93.6", "90.6/90.3", "82.4/77.8", "69.1/68.7"],
}


class EndInTime(Callback):
    """Asks for an end after so many minutes."""

    def __init__(self, minutes: float | None) -> None:
        self.end = None if minutes is None else time.monotonic() + 60.0 * minutes

    def on_epoch_end(self, trainer: NoisyLabelTrainer, record: dict[str, Any]) -> None:
        if self.end is not None and time.monotonic() > self.end:
            trainer.request_stop()


def train(options: argparse.Namespace) -> dict[str, Any] | None:
    """Return the figures of a finished run, or None where it is to be continued."""
    arrays = (
        load_arrays(options.arrays)
        if options.arrays is not None
        else load_cifar10(options.data, download=options.download)
    )
    n, m = options.limit, options.limit_test
    clean = arrays.y_train[:n].astype(np.int64)
    labels, changed = inject_noise(
        clean, options.noise, num_classes=NUM_CLASSES, random_state=options.noise_seed
    )
    torch.backends.cudnn.benchmark = True  # there are few sizes of batches
    torch.manual_seed(options.seed)  # the first weights
    settings = paper_recipe(options.correction, epochs=options.epochs)
    model = MODELS[options.model](NUM_CLASSES)
    trainer = NoisyLabelTrainer(
        torch.compile(model, mode=options.compile, dynamic=False) if options.compile else model,
        precision=Precision(options.precision, channels_last=DEVICE == "cuda"),
        callbacks=[EndInTime(options.minutes)],
        checkpoint_dir=Checkpoints(options.run_dir, every=options.checkpoint_every),
        random_state=options.seed,
        verbose=1,
        **settings,
    )
    trainer.fit(
        ResidentImages(arrays.x_train[:n], labels, DEVICE, augment=True),
        ResidentImages(arrays.x_test[:m], arrays.y_test[:m], DEVICE),
        resume=True,
    )
    if len(trainer.history_) < trainer.epochs:
        return None
    seconds = [epoch["seconds"] for epoch in trainer.history_]
    accuracy = [epoch["val_accuracy"] for epoch in trainer.history_]
    losses = trainer.loss_history_  # none of methods that look at no losses of single samples
    if options.losses is not None:
        with atomic_open(options.losses, "wb") as file:
            np.savez_compressed(file, losses=losses.astype(np.float16), changed=changed)
    return {
        **measure(trainer, changed),
        "seconds_per_epoch": _results.quartiles(seconds),
        "detectors": judge(losses, accuracy, changed) if losses.shape[1] else None,
        "history": trainer.history_,
    }


def show_table() -> str:
    """Return the published numbers, and beside them those of the committed whole runs."""
    runs = [json.loads(path.read_text("utf-8")) for path in sorted(FOLDER.glob("*.json"))]
    runs = [run for run in runs if run["settings"]["limit"] is None]
    lines = ["| | " + " | ".join(f"{noise:.0%}" for noise in NOISES) + " |", "|---" * 6 + "|"]
    for name in CORRECTIONS:
        mine = [run for run in runs if run["settings"]["correction"] == name]
        if name not in PUBLISHED and not mine:
            continue
        published = PUBLISHED.get(name, ["-"] * len(NOISES))
        lines.append(f"| {name}, published | " + " | ".join(published) + " |")
        for epochs in sorted({run["settings"]["epochs"] for run in mine}):
            own = [_entry(mine, noise, epochs) for noise in NOISES]
            lines.append(f"| {name}, ours, {epochs} epochs | " + " | ".join(own) + " |")
    return "\n".join(lines)


def _entry(runs: list[dict[str, Any]], noise: float, epochs: int) -> str:
    chosen = [
        r["figures"]
        for r in runs
        if r["settings"]["noise"] == noise and r["settings"]["epochs"] == epochs
    ]
    if not chosen:
        return "-"
    best, last = (100.0 * np.mean([run[name] for run in chosen]) for name in ("best", "last"))
    return f"{best:.1f}/{last:.1f}" + (f" ({len(chosen)} seeds)" if len(chosen) > 1 else "")


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--table", action="store_true", help="print the table of the committed runs, and end")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--data", type=Path, metavar="DIR", help="folder of torchvision's CIFAR-10")
    source.add_argument("--arrays", type=Path, metavar="FILE.npz", help="pictures as arrays")
    add("--download", action="store_true", help="with --data: download what is not there")
    add("--correction", choices=list(CORRECTIONS), default="m-dyr-h")
    add("--noise", type=float, default=0.5, help="share of labels redrawn over all classes")
    add("--epochs", type=int, help="of the run; default: the paper's")
    add("--seed", type=int, default=0, help="of the training")
    add("--noise-seed", type=int, default=0, help="of the label noise")
    add("--model", choices=sorted(MODELS), default="preact_resnet18")
    add("--precision", choices=["float32", "bfloat16"], default="bfloat16")
    add(
        "--compile",
        nargs="?",
        const="default",
        metavar="MODE",
        help="with torch.compile, which pays in long runs, as reduce-overhead",
    )
    add("--limit", type=int, metavar="N", help="train on the first N pictures")
    add("--limit-test", type=int, metavar="N", help="test on the first N pictures")
    add("--run-dir", type=Path, metavar="DIR", help="folder of the run's checkpoints")
    add("--checkpoint-every", type=int, default=5, metavar="EPOCHS")
    add("--minutes", type=float, help="end after so long, to be continued")
    add("--losses", type=Path, metavar="FILE.npz", help="keep losses, and which labels are wrong")
    add("--out", type=Path, metavar="FILE.json", help="default: in results/cifar10/")
    options = parser.parse_args(arguments)
    if not options.table and (options.run_dir is None or not (options.data or options.arrays)):
        parser.error("a run needs --run-dir, and --data or --arrays")
    return options


def main(arguments: list[str] | None = None) -> None:
    options = parse_arguments(arguments)
    if options.table:
        print(show_table())
        return
    figures = train(options)
    if figures is None:
        print(f"not finished; the same command goes on from {options.run_dir}")
        return
    names = ("correction", "noise", "seed", "noise_seed", "model", "precision", "compile", "limit")
    settings = {name: getattr(options, name) for name in names}
    settings["epochs"] = len(figures["history"])
    result = {"environment": environment(options), "settings": settings, "figures": figures}
    name = f"{options.correction}_{options.noise:g}_{settings['epochs']}_{options.seed}.json"
    _results.write(options.out or FOLDER / name, rounded(result))
    print(f"best {figures['best']:.4f}, last {figures['last']:.4f}")


if __name__ == "__main__":
    main()
