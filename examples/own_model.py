"""
A network and a dataset of your own
===================================

Half of the labels of a training set are redrawn. The same network learns from them twice: as usual,
and with M-DYR-H, which learns less from labels that look wrong. What comes out is a network that
does what it should, and a list of the labels that are wrong::

    python examples/own_model.py

It needs matplotlib (``pip install 'lossnoise[plot]'``), no download, and some twenty seconds.
"""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.utils.data import Dataset

from lossnoise import LossHistoryDisplay, LossMixtureDisplay, NoisyLabelTrainer
from lossnoise.noise import inject_noise

# %%
# A dataset
# ---------
# Any map-style dataset of ``(input, label)`` pairs will do, with labels from 0. This one holds
# scans of handwritten digits, 8 by 8 pixels of 17 shades, and makes a tensor of each when it is
# read.


class Scans(Dataset[tuple[Tensor, int]]):
    def __init__(self, images: np.ndarray, labels: np.ndarray) -> None:
        self.images = images.astype(np.uint8)
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        pixels = torch.from_numpy(self.images[index])
        return pixels.float().div(16).unsqueeze(0), int(self.labels[index])


# %%
# Half of the training labels are redrawn over all ten digits, so that some 45 % are wrong.
# ``changed`` tells which. The test labels stay right, because they are the measure.

digits = load_digits()
train_images, test_images, clean_labels, test_labels = train_test_split(
    digits.images, digits.target, test_size=0.25, random_state=0, stratify=digits.target
)
given, changed = inject_noise(clean_labels, 0.5, random_state=0)
train_set = Scans(train_images, given)
test_set = Scans(test_images, test_labels)
print(f"{len(train_set)} training labels, of which {changed.sum()} are wrong")

# %%
# A network
# ---------
# Any ``nn.Module`` that returns one logit for each class. There is no softmax at its end.


class Network(nn.Module):
    def __init__(self, width: int = 32, num_classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.block = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.head = nn.Linear(width * 4, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        hidden = nn.functional.max_pool2d(self.norm(self.stem(images)).relu(), 2)
        hidden = hidden + self.block(hidden)
        return self.head(nn.functional.max_pool2d(hidden, 2).flatten(1))


# %%
# Train
# -----
# Only ``correction`` differs. The optimizer is a function of the network's parameters, and both
# runs begin with the same weights. The second dataset is for measuring alone: nothing is chosen
# by it.


def train(correction: str) -> NoisyLabelTrainer:
    torch.manual_seed(0)
    trainer = NoisyLabelTrainer(
        Network(),
        correction=correction,
        epochs=40,
        optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.03, momentum=0.9),
        random_state=0,
    )
    return trainer.fit(train_set, test_set)


plain = train("cross-entropy")
corrected = train("m-dyr-h")
for name, trainer in (("plain training", plain), ("M-DYR-H", corrected)):
    accuracy = trainer.history_[-1]["val_accuracy"]
    print(f"{name:<15} accuracy on right test labels after the last epoch: {accuracy:.3f}")

# %%
# What happened in training
# -------------------------
# The lines are the median losses of right and of wrong labels, the bands the middle halves. Plain
# training learns more and more of the wrong labels by heart: their losses fall. With the correction
# the two part as soon as its warm-up ends, after a quarter of the epochs.

LossHistoryDisplay.from_trainer({"plain training": plain, "M-DYR-H": corrected}, changed)
plt.show()

# %%
# Which labels are wrong
# ----------------------
# After the last epoch the losses are measured once more, and the detector is fitted to them.

LossMixtureDisplay.from_estimator(corrected.detector_, corrected.losses_)
plt.show()

# %%
# ``noisy_indices_`` are the samples whose label is more likely wrong than right, the most
# suspicious first. ``suggested_labels_`` are what the network would rather call them.

flagged = corrected.noisy_indices_
print(f"{len(flagged)} labels are flagged: {changed[flagged].mean():.0%} of them are really wrong,")
print(f"and {changed[flagged].sum() / changed.sum():.0%} of all wrong labels are among them")
suggested = corrected.suggested_labels_[flagged]
print(
    f"{(suggested == clean_labels[flagged]).mean():.0%} of the suggested labels are the true ones"
)

_, axes = plt.subplots(2, 6, figsize=(9, 3.4), layout="constrained")
for ax, index in zip(axes.flat, flagged, strict=False):
    ax.imshow(train_images[index], cmap="gray_r")
    ax.set_title(f"given {given[index]}, rather {corrected.suggested_labels_[index]}", fontsize=9)
    ax.set_axis_off()
plt.show()

# %%
# What to do with it
# ------------------
# The network is ready to use. ``corrected.predict(test_set)`` gives classes, ``predict_proba``
# probabilities, ``corrected.model`` is the network itself, and ``save`` writes all of it to a
# file.

print("first test pictures:", corrected.predict(test_set)[:10])
print("what they show:     ", test_labels[:10])
