"""Lightning's own trainer on handwritten digits of which half the labels were redrawn.

    python examples/with_lightning.py

Compares plain training with mixup and dynamic bootstrapping, in the same `LightningModule`. The
recorder tells its training step how probable it is that each label of the batch is wrong. Half a
minute; needs the extra ``lightning``.
"""

from __future__ import annotations

import argparse
import logging
import warnings

import lightning
import numpy as np
import torch
from quickstart import load_noisy_digits, small_network
from torch import Tensor
from torch.utils.data import DataLoader

from lossnoise import audit
from lossnoise.corrections.losses import class_prior_divergence, cross_entropy, hard_bootstrap
from lossnoise.corrections.mixing import (
    draw_mixing_weight,
    draw_partners,
    mix_inputs,
    mix_losses,
)
from lossnoise.integrations.lightning import LightningLossRecorder


class Digits(lightning.LightningModule):
    """A small network; with a recorder it does not trust every label."""

    def __init__(self, seed: int, recorder: LightningLossRecorder | None = None, warmup: int = 10):
        super().__init__()
        torch.manual_seed(seed)
        self.network, self.recorder, self.warmup = small_network(), recorder, warmup
        self.rng = np.random.default_rng(seed)
        self.generator = torch.Generator().manual_seed(seed)

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        images, labels = batch
        if self.recorder is None:
            return cross_entropy(self(images), labels).mean()
        with torch.no_grad():
            guesses = self(images).argmax(dim=1)  # of the pictures as they are: what is recorded
        return self.mixed_loss(images, labels, guesses)

    def mixed_loss(self, images: Tensor, labels: Tensor, guesses: Tensor) -> Tensor:
        """Return the loss of averages of two pictures, against the labels or the guesses."""
        wrong = self.recorder.batch_noise_proba(warmup=self.warmup)
        weight = draw_mixing_weight(32.0, self.rng)
        partners = draw_partners(len(labels), self.generator)
        logits = self(mix_inputs(images, partners, weight))
        own = hard_bootstrap(logits, labels, guesses, wrong)
        other = hard_bootstrap(logits, labels[partners], guesses[partners], wrong[partners])
        return mix_losses(own, other, weight).mean() + class_prior_divergence(logits)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)


@torch.no_grad()
def accuracy(module: Digits, test: DataLoader) -> float:
    """Return the share of pictures with the right class."""
    module.eval()
    images, labels = next(iter(test))
    return float((module(images).argmax(dim=1) == labels).float().mean())


def fit(module: Digits, loader: DataLoader, epochs: int, callbacks: list) -> Digits:
    """Train a module with Lightning, and with nothing else around it."""
    trainer = lightning.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        devices=1,
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, loader)
    return module


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--noise", type=float, default=0.5, help="share of labels redrawn")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", ".*does not have many workers.*")

    digits = load_noisy_digits(options.noise, options.seed)
    test = DataLoader(digits.test, batch_size=len(digits.test))
    settings = {"batch_size": 128, "shuffle": True}

    plain = fit(
        Digits(options.seed), DataLoader(digits.train, **settings), options.epochs, callbacks=[]
    )
    recorder = LightningLossRecorder()
    robust = fit(
        Digits(options.seed, recorder, warmup=options.epochs // 4),
        recorder.loader(digits.train, **settings),
        options.epochs,
        callbacks=[recorder],
    )
    print(f"plain training: accuracy {accuracy(plain, test):.3f} on clean test labels")
    print(f"mixup and dynamic bootstrapping: accuracy {accuracy(robust, test):.3f}")
    print(audit(digits.labels, losses=recorder.losses_))
    print(f"in truth, {digits.changed.sum()} labels are wrong")


if __name__ == "__main__":
    main()
