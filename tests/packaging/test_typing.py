"""A user's project, type-checked against the installed wheel and nothing else of ours."""

import re
import sys

USERS_PROJECT = """
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils.data import TensorDataset
from typing_extensions import assert_type

import lossnoise.training
from lossnoise import (
    AuditReport,
    BetaMixtureNoiseDetector,
    LossRecorder,
    NoisyLabelTrainer,
    audit,
    cross_val_losses,
)
from lossnoise.corrections import CORRECTIONS, Batch, Correction, EpochContext
from lossnoise.corrections.losses import cross_entropy
from lossnoise.noise import inject_noise

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def detect(losses: Floats) -> Floats:
    detector = BetaMixtureNoiseDetector(max_iter=50).fit(losses)
    assert_type(detector, BetaMixtureNoiseDetector)
    assert_type(detector.noise_rate_, float)
    assert_type(detector.noise_rate_interval_, tuple[float, float])
    assert_type(detector.threshold_for(budget=50).threshold, float)
    return detector.predict_proba(losses)[:, 1]


def train(dataset: TensorDataset, inputs: torch.Tensor) -> None:
    trainer = NoisyLabelTrainer(nn.Linear(2, 3), correction=Plain(), epochs=2).fit(dataset)
    assert_type(trainer, NoisyLabelTrainer)
    assert_type(trainer.noise_proba_, Floats)
    assert_type(trainer.noisy_indices_, Ints)
    assert_type(trainer.loss_history_, NDArray[np.float32])
    assert_type(trainer.predict_proba(inputs), NDArray[np.float32])
    assert_type(AuditReport.from_trainer(trainer, dataset), AuditReport)


class Plain(Correction):
    def loss(self, model: nn.Module, batch: Batch, context: EpochContext) -> torch.Tensor:
        return cross_entropy(model(batch.inputs), batch.labels)


def review(estimator: object, features: Floats, labels: Ints) -> None:
    noisy, changed = inject_noise(labels, 0.1, random_state=0)
    assert_type(changed, NDArray[np.bool_])
    losses, pred_probs = cross_val_losses(estimator, features, noisy, return_proba=True)
    assert_type(cross_val_losses(estimator, features, noisy), Floats)
    report = audit(noisy, losses=losses, pred_probs=pred_probs)
    assert_type(report, AuditReport)
    report.to_html("audit.html", inputs=features)


def record(indices: torch.Tensor, losses: torch.Tensor) -> None:
    recorder = LossRecorder(100)
    recorder.update(indices, losses, epoch=1)
    assert_type(recorder.losses_, NDArray[np.float32])
    assert_type(recorder.reduce(last=5), Floats)
    assert_type(CORRECTIONS["m-dyr-h"], type[Correction])


def wrong_uses(losses: Floats) -> None:
    BetaMixtureNoiseDetector(max_iter="many")  # wrong
    BetaMixtureNoiseDetector(50)  # wrong
    BetaMixtureNoiseDetector().fit(losses).threshold_for(budget="all")  # wrong
    NoisyLabelTrainer(nn.Linear(2, 3), epoch=2)  # wrong
    NoisyLabelTrainer("resnet18")  # wrong
    LossRecorder(losses)  # wrong
    LossRecorder(100).update(losses=losses)  # wrong
    inject_noise([0, 1], "0.1")  # wrong
    audit([0, 1], loss=losses)  # wrong
    audit([0, 1], losses=losses).to_hmtl("audit.html")  # wrong
"""


def test_a_users_project_is_type_checked(run, site, tmp_path):
    project = tmp_path / "project.py"
    project.write_text(USERS_PROJECT)
    # No configuration: what a user gets who has none. On errors the exit status is 1.
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", str(project)]
    printed = run(*command, cwd=tmp_path, env={"PYTHONPATH": str(site)}, statuses=(0, 1))
    found = [int(number) for number in re.findall(r"^project\.py:(\d+): error: ", printed, re.M)]
    lines = USERS_PROJECT.splitlines()
    wrong = [number for number, line in enumerate(lines, start=1) if line.endswith("# wrong")]
    assert found == wrong, printed
