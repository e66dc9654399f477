"""The contract's own code: numbers of epochs, and the step that simple methods share."""

import re
from contextlib import nullcontext

import numpy as np
import pandas as pd
import pytest
import torch

from lossnoise.corrections import Correction, ForwardCorrection
from lossnoise.corrections.base import resolve_epochs
from lossnoise.exceptions import InvalidParameterError


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        *[(0, 0), (7, 7), (1000, 1000), (np.int64(3), 3)],
        *[(0.0, 0), (1.0, 40), (0.35, 14), (0.01, 0), (np.float32(0.5), 20)],
    ],
)
def test_epochs_are_a_number_or_a_fraction(value, expected):
    resolved = resolve_epochs("Owner", "warmup", value, 40)
    assert resolved == expected
    assert type(resolved) is int


@pytest.mark.parametrize("value", [-1, 1.5, -0.1, True, "3", None, float("nan")])
def test_anything_else_is_refused(value):
    message = (
        "The 'warmup' parameter of Owner must be a number of epochs (int >= 0) or a fraction of "
        f"the run in [0.0, 1.0]. Got {value!r} instead."
    )
    with pytest.raises(InvalidParameterError, match=f"^{re.escape(message)}$"):
        resolve_epochs("Owner", "warmup", value, 40)


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor, pd.DataFrame])
def test_two_matrices_have_two_texts(kind):
    """numpy would leave out the middle of a large one, and round what it shows."""
    matrix = np.full((40, 40), 0.025)
    other = matrix.copy()
    other[20, 21] += 1e-9
    text = repr(ForwardCorrection(transition=kind(matrix)))
    assert "of shape (40, 40)" in text
    assert text != repr(ForwardCorrection(transition=kind(other)))
    with np.printoptions(precision=2):
        assert text == repr(ForwardCorrection(transition=kind(matrix.copy())))


class Scaled(Correction):
    def loss(self, model, batch, context):
        return model(batch.inputs).squeeze(1)


class RecordingEngine:
    def __init__(self, model):
        self.model = model
        self.steps = []

    def autocast(self, *, no_grad=False):
        return nullcontext()

    def step(self, loss, index=0):
        self.steps.append((loss, index))


def test_the_default_step_learns_from_the_mean_and_returns_every_loss(make_batch, make_context):
    engine = RecordingEngine(torch.nn.Linear(2, 1))
    batch = make_batch()
    losses = Scaled().train_step(engine, batch, make_context())
    ((loss, index),) = engine.steps
    assert index == 0
    assert loss.requires_grad
    assert not losses.requires_grad
    assert torch.equal(losses, engine.model(batch.inputs).squeeze(1).detach())
    assert torch.equal(loss.detach(), losses.mean())


def test_hooks_do_nothing_by_default(make_context):
    correction = Scaled()
    for hook in (correction.setup, correction.begin_epoch, correction.end_epoch):
        assert hook(make_context()) is None
    assert correction.state_dict() == {}
    assert correction.load_state_dict({}) is None
    assert vars(correction) == {}


def test_a_correction_needs_a_loss():
    with pytest.raises(TypeError, match="loss"):
        Correction()
