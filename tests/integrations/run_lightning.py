"""A small network in Lightning's own trainer; a script for torchrun, too.

torchrun --nproc_per_node=2 run_lightning.py FOLDER SAMPLES
"""

import os
import sys
from pathlib import Path

import lightning
import numpy as np
import torch
from by_hand import ByHand
from torch import nn
from torch.utils.data import Dataset, TensorDataset

from lossnoise.integrations.lightning import LightningLossRecorder

NUM_CLASSES = 3


def make_labels(n):
    return np.random.default_rng(0).integers(0, NUM_CLASSES, n)


def make_data(n):
    """Points whose first coordinate is the number of the sample."""
    inputs = torch.randn(n, 3, generator=torch.Generator().manual_seed(0))
    inputs[:, 0] = torch.arange(n)
    return TensorDataset(inputs, torch.from_numpy(make_labels(n)))


class AsDicts(Dataset):
    """The same samples as dicts."""

    def __init__(self, data):
        self.data = data

    def __len__(self):
        return len(self.data)

    def __getitem__(self, index):
        inputs, label = self.data[index]
        return {"inputs": inputs, "label": label}


class Module(lightning.LightningModule):
    """Works out by hand what a recorder should record."""

    def __init__(self, n):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.2), nn.Linear(8, NUM_CLASSES))
        self.by_hand = ByHand(make_labels(n))

    def forward(self, inputs):
        return self.net(inputs / torch.tensor([10.0, 1.0, 1.0]))

    def training_step(self, batch, batch_idx):
        inputs, labels = batch.values() if isinstance(batch, dict) else batch
        logits = self(inputs)
        self.by_hand.add(inputs[:, 0], logits, self.current_epoch + 1)
        loss = nn.functional.cross_entropy(logits, labels)
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)


def make_trainer(folder, *callbacks, **settings):
    defaults = {"max_epochs": 2, "accelerator": "cpu", "devices": 1, "logger": False}
    quiet = {"enable_progress_bar": False, "enable_model_summary": False}
    settings = defaults | quiet | {"enable_checkpointing": False} | settings
    return lightning.Trainer(default_root_dir=folder, callbacks=list(callbacks), **settings)


def run(folder, n, *, dataset=None, loader=None, **settings):
    module, recorder = Module(n), LightningLossRecorder()
    options = {"batch_size": 4, "shuffle": True} | (loader or {})
    data = recorder.loader(make_data(n) if dataset is None else dataset, **options)
    make_trainer(folder, recorder, **settings).fit(module, data)
    return recorder, module.by_hand


def main(folder, samples):
    two = {"devices": 2, "strategy": "ddp", "accumulate_grad_batches": 2}
    recorder, by_hand = run(folder, int(samples), **two)
    out = Path(folder) / f"rank{os.environ['RANK']}.npz"
    np.savez(out, history=recorder.loss_history_, by_hand=by_hand.rows())


if __name__ == "__main__":
    main(*sys.argv[1:])
