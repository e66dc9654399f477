"""An MLP on the rows of a pandas DataFrame, some of which have a wrong label.

    python examples/train_table.py

The table is scikit-learn's breast cancer data, 30 % of the labels flipped. Some seconds.
"""

from __future__ import annotations

import argparse

import numpy as np
import pandas as pd
import torch
from sklearn.datasets import load_breast_cancer
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.utils.data import TensorDataset

from lossnoise import NoisyLabelTrainer
from lossnoise.noise import inject_noise


def load_table() -> tuple[pd.DataFrame, pd.Series]:
    """Return the features and the diagnosis of 569 tumours."""
    frame = load_breast_cancer(as_frame=True).frame
    return frame.drop(columns="target"), frame["target"].map({0: "malignant", 1: "benign"})


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--noise", type=float, default=0.3, help="share of labels flipped")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)

    features, diagnosis = load_table()
    codes, classes = pd.factorize(diagnosis, sort=True)  # labels are integers from 0
    given, changed = inject_noise(
        codes, options.noise, include_true=False, random_state=options.seed
    )
    inputs = torch.tensor(StandardScaler().fit_transform(features), dtype=torch.float32)

    torch.manual_seed(options.seed)
    model = nn.Sequential(
        nn.Linear(inputs.shape[1], 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, len(classes))
    )
    trainer = NoisyLabelTrainer(
        model, epochs=options.epochs, batch_size=32, random_state=options.seed
    )
    trainer.fit(TensorDataset(inputs, torch.as_tensor(given)))

    table = features.assign(
        diagnosis=classes[given],
        p_wrong=trainer.noise_proba_,
        suggested=classes[trainer.suggested_labels_],
    )
    suspicious = table.iloc[trainer.noisy_indices_]
    print(suspicious[["diagnosis", "suggested", "p_wrong"]].head(10).to_string())
    found = np.isin(np.arange(len(given)), trainer.noisy_indices_)
    print(f"\n{changed.sum()} labels are wrong, {found.sum()} are flagged")
    print(f"precision {changed[found].mean():.2f}, recall {found[changed].mean():.2f}")
    print(f"accuracy against the true diagnosis {(trainer.predict(inputs) == codes).mean():.3f}")


if __name__ == "__main__":
    main()
