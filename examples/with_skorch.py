"""A skorch net on handwritten digits of which half the labels were redrawn.

    python examples/with_skorch.py

Compares plain training with dynamic bootstrapping, which is the criterion of the net: the recorder
tells it how probable it is that each label of the batch is wrong. Half a minute; needs the extra
``skorch``.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import torch
from quickstart import load_noisy_digits, small_network
from skorch import NeuralNetClassifier
from torch import Tensor, nn

from lossnoise import audit
from lossnoise.corrections.losses import class_prior_divergence, dynamic_bootstrap
from lossnoise.integrations.skorch import SkorchLossRecorder


class DynamicBootstrap(nn.Module):
    """Learn from the network's own guess where a label is probably wrong."""

    def __init__(self, recorder: SkorchLossRecorder, warmup: int) -> None:
        super().__init__()
        self.recorder, self.warmup = recorder, warmup

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        wrong = self.recorder.batch_noise_proba(warmup=self.warmup)
        return dynamic_bootstrap(logits, labels, wrong).mean() + class_prior_divergence(logits)


def make_net(seed: int, epochs: int, **settings: Any) -> NeuralNetClassifier:
    """Return a classifier with all that both runs have in common."""
    torch.manual_seed(seed)
    return NeuralNetClassifier(
        small_network(),
        max_epochs=epochs,
        batch_size=128,
        optimizer=torch.optim.SGD,
        lr=0.1,
        optimizer__momentum=0.9,
        optimizer__weight_decay=1e-4,
        iterator_train__shuffle=True,
        train_split=None,
        classes=list(range(10)),
        verbose=0,
        **settings,
    )


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--noise", type=float, default=0.5, help="share of labels redrawn")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--warmup", type=int, default=2, help="epochs that trust every label")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)

    digits = load_noisy_digits(options.noise, options.seed)
    images = digits.train.tensors[0].numpy()
    test_images, test_labels = (part.numpy() for part in digits.test.tensors)
    labels = digits.labels.astype(np.int64)

    plain = make_net(options.seed, options.epochs, criterion=nn.CrossEntropyLoss)
    plain.fit(images, labels)
    recorder = SkorchLossRecorder()
    robust = make_net(
        options.seed,
        options.epochs,
        callbacks=[recorder],
        iterator_train=recorder.loader,
        criterion=DynamicBootstrap(recorder, options.warmup),
    )
    robust.fit(images, labels)
    print(f"plain training: accuracy {plain.score(test_images, test_labels):.3f}", end="")
    print(" on clean test labels")
    print(f"dynamic bootstrapping: accuracy {robust.score(test_images, test_labels):.3f}")
    print(audit(digits.labels, losses=recorder.losses_))
    print(f"in truth, {digits.changed.sum()} labels are wrong")


if __name__ == "__main__":
    main()
