"""Warnings point at the line of the user, whatever stands in between."""

import warnings

import numpy as np
import pytest
import torch
from sklearn.pipeline import make_pipeline
from torch import nn
from torch.utils.data import TensorDataset

from lossnoise import BetaMixtureNoiseDetector, NoisyLabelTrainer, audit
from lossnoise.exceptions import LossNoiseWarning, ModelOutputWarning, NoSeparableNoiseWarning
from lossnoise.training import Callback

LOSSES = np.random.default_rng(0).gamma(1.0, 0.1, 500)


def fit_a_detector():
    BetaMixtureNoiseDetector().fit(LOSSES)


def fit_a_pipeline():
    make_pipeline(BetaMixtureNoiseDetector()).fit(LOSSES[:, None])


def transform_losses():
    BetaMixtureNoiseDetector().fit_transform(LOSSES)  # scikit-learn wraps it


def audit_losses():
    audit(np.zeros(500, dtype=int), losses=LOSSES)


def train():
    model = nn.Sequential(nn.Linear(2, 3), nn.Softmax(dim=1))  # found under no_grad
    data = TensorDataset(torch.randn(40, 2), torch.arange(40) % 3)
    NoisyLabelTrainer(model, correction="cross-entropy", epochs=1, device="cpu").fit(data)


@pytest.mark.parametrize(
    "call", [fit_a_detector, fit_a_pipeline, transform_losses, audit_losses, train]
)
def test_warnings_point_at_the_caller(call):
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        call()
    lines = [w.lineno for w in told if issubclass(w.category, LossNoiseWarning)]
    assert lines
    assert {w.filename for w in told} == {__file__}
    first = call.__code__.co_firstlineno
    assert all(first < line <= first + 4 for line in lines)


class Watcher(Callback):
    def on_train_begin(self, trainer):
        fit_a_detector()


@pytest.mark.filterwarnings("ignore")
def test_code_of_the_user_inside_a_run_is_pointed_at():
    model = nn.Sequential(nn.Linear(2, 3), nn.Softmax(dim=1))
    data = TensorDataset(torch.randn(40, 2), torch.arange(40) % 3)
    trainer = NoisyLabelTrainer(
        model, correction="cross-entropy", epochs=1, device="cpu", callbacks=[Watcher()]
    )
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        trainer.fit(data)
    lines = {w.category: w.lineno for w in told[::-1]}  # the first of each
    inside, outside = fit_a_detector.__code__.co_firstlineno, train.__code__.co_firstlineno
    assert lines[NoSeparableNoiseWarning] == inside + 1
    assert lines[ModelOutputWarning] > outside + 4


def test_the_same_words_are_seen_once_for_a_line():
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("default")
        for _ in range(3):
            fit_a_detector()
    assert len(told) == 1
