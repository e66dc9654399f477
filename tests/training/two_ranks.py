"""Run under torchrun by test_distributed.py: train one model on all processes, write what each has.

torchrun --nproc_per_node=2 two_ranks.py TASK FOLDER
"""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from lossnoise import NoisyLabelTrainer
from lossnoise.corrections import CORRECTIONS
from lossnoise.exceptions import InvalidDataError
from lossnoise.training import BestModel, Callback, EarlyStopping

N = 1001  # an odd number: shares are unequal, the last batch of each is short


def make_data(size=N, seed=0, noise=0.3):
    generator = torch.Generator().manual_seed(seed)
    clean = torch.arange(size) % 3
    inputs = 3.0 * torch.eye(3)[clean][:, :2] + 0.3 * torch.randn(size, 2, generator=generator)
    moved = torch.rand(size, generator=generator) < noise
    return TensorDataset(inputs, torch.where(moved, (clean + 1) % 3, clean))


def make_net(seed=0):
    torch.manual_seed(seed)  # both ranks alike; the trainer would see to it anyway
    layers = [nn.Linear(2, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 3)]
    return nn.Sequential(*layers)


class PartlyUsed(nn.Module):
    def __init__(self):
        super().__init__()
        self.used, self.unused = make_net(), nn.Linear(2, 3)

    def forward(self, inputs):
        return self.used(inputs)


class Stop(Callback):
    """Asks for an end after an epoch, on one process only."""

    def __init__(self, epoch, rank):
        self.epoch, self.rank = epoch, rank

    def on_epoch_end(self, trainer, record):
        if record["epoch"] == self.epoch and int(os.environ["RANK"]) == self.rank:
            trainer.request_stop()


class OwnNumber(Callback):
    """Adds a number of each process: the first one alone would choose epoch 1, the second 4."""

    def on_epoch_end(self, trainer, record):
        shares = [(0.9, 0.2, 0.6, 0.0, 0.1), (0.0, 0.5, 0.7, 0.8, 0.1)][int(os.environ["RANK"])]
        record["share"] = shares[record["epoch"] - 1]


class BatchesAlone(TensorDataset):
    """Reads no single samples."""

    def __getitem__(self, index):
        raise NotImplementedError

    def __getitems__(self, indices):
        return [tuple(tensor[index] for tensor in self.tensors) for index in indices]


class Die(Callback):
    def on_batch_end(self, trainer, batch, num_batches):
        if batch == 3 and int(os.environ["RANK"]) == 1:
            os._exit(7)


def write(folder, trainer):
    rank = os.environ["RANK"]
    state = {f"weight {k}": v.numpy() for k, v in trainer.model.state_dict().items()}
    found = {
        "losses": trainer.losses_,
        "noise_proba": trainer.noise_proba_,
        "suggested": trainer.suggested_labels_,
        "loss_history": trainer.loss_history_,
        "train_loss": [record["train_loss"] for record in trainer.history_],
        "val_loss": [record["val_loss"] for record in trainer.history_],
        "val_accuracy": [record["val_accuracy"] for record in trainer.history_],
        "weights_": trainer.detector_.weights_,
        "alphas_": trainer.detector_.alphas_,
    }
    np.savez(folder / f"rank{rank}.npz", **found, **state)


SETTINGS = {"epochs": 4, "batch_size": 32, "device": "cpu", "random_state": 0}


def resume(folder):
    first = NoisyLabelTrainer(
        make_net(seed=0), checkpoint_dir=folder / "run", callbacks=[Stop(2, 1)], **SETTINGS
    ).fit(make_data(), make_data(100, 1))
    assert len(first.history_) == 2
    inputs, labels = make_data().tensors
    other = labels.clone()
    other[3] = (labels[3] + 1) % 3  # which one process meets, and all have to end
    with pytest.raises(InvalidDataError, match=r"other labels of 1 of 1001 samples .sample 3"):
        NoisyLabelTrainer(make_net(), checkpoint_dir=folder / "run", **SETTINGS).fit(
            TensorDataset(inputs, other), make_data(100, 1), resume=True
        )
    again = NoisyLabelTrainer(
        make_net(seed=5 + int(os.environ["RANK"])), checkpoint_dir=folder / "run", **SETTINGS
    )
    return again.fit(make_data(), make_data(100, 1), resume=True)


def fit_twice(folder):
    """Also with a loader of the user's own."""
    data, val = make_data(), make_data(100, 1)
    trainer = NoisyLabelTrainer(make_net(), **SETTINGS)
    trainer.fit(data, val)
    sampler = DistributedSampler(data, shuffle=True, seed=3)
    trainer.fit(DataLoader(data, 32, sampler=sampler), make_data(1, 1))
    assert sampler.epoch == 4
    if int(os.environ["RANK"]) == 0:  # the others need not take part
        assert trainer.predict(val).shape == (100,)
        assert 0.0 <= trainer.score(val) <= 1.0
    return trainer


def use_a_part(folder):
    distributed.init_process_group("gloo")
    model = DistributedDataParallel(PartlyUsed(), find_unused_parameters=True)
    trainer = NoisyLabelTrainer(model, **SETTINGS).fit(make_data(), make_data(100, 1))
    trainer.save(folder / f"trainer{os.environ['RANK']}.pt")
    return trainer


def watch_own_numbers(folder):
    best = BestModel("share", mode="max")
    stopping = EarlyStopping("share", mode="max", patience=2)
    trainer = NoisyLabelTrainer(
        make_net(), callbacks=[OwnNumber(), best, stopping], **SETTINGS | {"epochs": 9}
    ).fit(make_data(), make_data(100, 1))
    assert best.best_epoch_ == 3
    assert best.best_value_ == pytest.approx(0.65)
    assert len(trainer.history_) == 5
    return trainer


def fit_to(data):
    return NoisyLabelTrainer(make_net(), **SETTINGS).fit(data, make_data(100, 1))


def train(task):
    """Train by a correction, or until a process dies."""
    callbacks = [Die()] if task == "die" else []
    correction = CORRECTIONS[task if task != "die" else "m-dyr-h"]()
    if correction.needs_clean_batch:
        correction.clean_set = make_data(40, 3, noise=0.0)
    trainer = NoisyLabelTrainer(
        make_net(seed=int(os.environ["RANK"])),
        correction=correction,
        callbacks=callbacks,
        **SETTINGS,
    )
    return trainer.fit(make_data(), make_data(100, 1))


TASKS = {
    "resume": resume,
    "twice": fit_twice,
    "partly used": use_a_part,
    "own numbers": watch_own_numbers,
    "batches alone": lambda folder: fit_to(BatchesAlone(*make_data().tensors)),
    "other lengths": lambda folder: fit_to(make_data(N - int(os.environ["RANK"]))),
    "other labels": lambda folder: fit_to(make_data(seed=int(os.environ["RANK"]))),
    "unsharded": lambda folder: fit_to(DataLoader(make_data(), 32)),
}


if __name__ == "__main__":
    task, folder = sys.argv[1], Path(sys.argv[2])
    write(folder, TASKS[task](folder) if task in TASKS else train(task))
