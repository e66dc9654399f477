"""torchvision's ResNet-18, unchanged, on pictures with wrong labels.

    python examples/train_resnet.py

The pictures are made up: ten patterns under noise, 40 % of the labels redrawn, so that nothing has
to be downloaded. Some minutes on two cores; with a GPU some seconds. For real pictures see
``train_cifar.py``.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
import torchvision
from torch.utils.data import DataLoader, TensorDataset

from lossnoise import NoisyLabelTrainer
from lossnoise.noise import inject_noise

NUM_CLASSES = 10


def draw_pictures(n: int, size: int, seed: int) -> tuple[torch.Tensor, np.ndarray]:
    """Return pictures (n, 3, size, size), and which pattern each shows."""
    rng = np.random.default_rng(seed)
    patterns = np.random.default_rng(0).normal(size=(NUM_CLASSES, 3, 8, 8))
    classes = rng.integers(0, NUM_CLASSES, n)
    enlarged = patterns[classes].repeat(size // 8, axis=2).repeat(size // 8, axis=3)
    pictures = enlarged + rng.normal(size=enlarged.shape)
    return torch.tensor(pictures, dtype=torch.float32), classes


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--noise", type=float, default=0.4, help="share of labels redrawn")
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--size", type=int, default=32, help="of the pictures, in pixels")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)

    pictures, classes = draw_pictures(options.samples, options.size, seed=1)
    given, changed = inject_noise(classes, options.noise, random_state=options.seed)
    test_pictures, test_classes = draw_pictures(300, options.size, seed=2)
    train = TensorDataset(pictures, torch.as_tensor(given))
    loader = DataLoader(train, batch_size=64, shuffle=True)  # a ready loader does as well

    torch.manual_seed(options.seed)
    model = torchvision.models.resnet18(num_classes=NUM_CLASSES)
    trainer = NoisyLabelTrainer(
        model,
        epochs=options.epochs,
        optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.02, momentum=0.9),
        random_state=options.seed,
        verbose=1,
    )
    trainer.fit(loader, TensorDataset(test_pictures, torch.as_tensor(test_classes)))
    flagged = trainer.noisy_indices_
    print(f"accuracy on clean test labels {trainer.history_[-1]['val_accuracy']:.3f}")
    print(f"{changed.sum()} labels are wrong, {len(flagged)} are flagged")
    if len(flagged):
        print(f"of the flagged ones {changed[flagged].mean():.0%} are really wrong")


if __name__ == "__main__":
    main()
