"""Run by test_kill.py, which kills it: train with checkpoints, go on where it was, write the end.

python kill_me.py CORRECTION FOLDER
"""

import random
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset

from lossnoise import NoisyLabelTrainer
from lossnoise.training import EarlyStopping

EPOCHS = 30


class Jittered(Dataset):
    """Points in the plane; the transform draws as users' do: from global generators and its own."""

    def __init__(self, size=300):
        generator = torch.Generator().manual_seed(0)
        self.own = np.random.default_rng(0)
        self.labels = torch.arange(size) % 3
        centres = 3.0 * torch.eye(3)[:, :2]
        self.inputs = centres[self.labels] + 0.3 * torch.randn(size, 2, generator=generator)
        moved = torch.rand(size, generator=generator) < 0.3
        self.labels = torch.where(moved, (self.labels + 1) % 3, self.labels)

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        shift = np.random.standard_normal() + random.gauss(0.0, 1.0)  # noqa: NPY002
        shift += self.own.standard_normal()
        return self.inputs[index] + 0.05 * torch.randn(2) + 0.05 * shift, self.labels[index]


def main(correction, folder):
    torch.set_num_threads(1)
    layers = [nn.Linear(2, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 3)]
    trainer = NoisyLabelTrainer(
        nn.Sequential(*layers),  # of random weights: the checkpoint has the run's own
        correction=correction,
        epochs=EPOCHS,
        batch_size=16,
        device="cpu",
        checkpoint_dir=folder / "run",
        callbacks=[EarlyStopping("train_loss", patience=100)],
        random_state=0 if not (folder / "run").exists() else None,
    )
    if not (folder / "run").exists():
        torch.manual_seed(0)
        for layer in layers:
            getattr(layer, "reset_parameters", int)()
    trainer.fit(Jittered(), Jittered(90), resume=True)
    names = [name for name in trainer.history_[0] if name != "seconds"]
    history = [[float(record[name] or 0.0) for name in names] for record in trainer.history_]
    weights = {f"weight {name}": t.numpy() for name, t in trainer.model.state_dict().items()}
    np.savez(
        folder / "result.npz",
        losses=trainer.losses_,
        noise_proba=trainer.noise_proba_,
        suggested=trainer.suggested_labels_,
        loss_history=trainer.loss_history_,
        history=history,
        **weights,
    )


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
