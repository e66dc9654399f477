"""Backward correction against numpy in float64; where T comes from is in test_transition.py."""

import re

import numpy as np
import pytest
import torch

from lossnoise.corrections import BackwardCorrection, CrossEntropy
from lossnoise.exceptions import InvalidDataError

T = np.array([[0.7, 0.2, 0.1], [0.05, 0.9, 0.05], [0.3, 0.3, 0.4]])


def test_loss_against_numpy(make_batch, make_context, reference):
    model, batch = torch.nn.Linear(2, 3), make_batch()
    correction = BackwardCorrection(transition=T)
    correction.setup(make_context())
    log_h = reference.log_probs(model, batch.inputs.double().numpy())
    corrected = np.linalg.solve(T, -log_h.T).T  # T^-1 l of each sample, as a row
    losses = correction.loss(model, batch, make_context())
    assert losses.dtype == torch.float32
    np.testing.assert_allclose(
        losses.detach(), corrected[np.arange(12), batch.labels], rtol=1e-4, atol=1e-5
    )


def test_without_noise_it_is_cross_entropy(make_net, make_batch, make_context):
    correction, results = BackwardCorrection(transition=np.eye(3)), []
    correction.setup(make_context())
    for method in (correction, CrossEntropy()):
        model = make_net()
        losses = method.loss(model, make_batch(), make_context())
        losses.mean().backward()
        results.append([losses, *(p.grad for p in model.parameters())])
    for ours, plain in zip(*results, strict=True):
        torch.testing.assert_close(ours, plain)


def test_in_the_mean_over_the_noise_it_is_the_loss_on_the_true_label(make_context):
    correction = BackwardCorrection(transition=T)
    correction.setup(make_context())
    logits = torch.tensor([[1.0, -2.0, 0.5]])
    every_label = correction.corrected_loss(logits.expand(3, 3), torch.arange(3)).double()
    plain = -logits.log_softmax(dim=1)[0].double().numpy()
    np.testing.assert_allclose(T @ every_label.numpy(), plain, rtol=1e-5)
    assert every_label.min() < plain.min()  # the price: some are far off


@pytest.mark.parametrize(
    ("transition", "condition"),
    [(np.full((3, 3), 1 / 3), None), ([[0.5, 0.5, 0], [0.50005, 0.49995, 0], [0, 0, 1]], "2e+04")],
)
def test_a_matrix_without_a_useful_inverse(make_context, transition, condition):
    number = r"[\d.]+e\+\d+|inf" if condition is None else re.escape(condition)
    message = (
        "The transition matrix of BackwardCorrection is close to singular (condition number @): "
        "some classes are labelled alike, and their losses cannot be told apart. Use "
        "correction='forward', which needs no inverse."
    )
    pattern = re.escape(message).replace("@", f"({number})")
    with pytest.raises(InvalidDataError, match=f"^{pattern}$"):
        BackwardCorrection(transition=transition).setup(make_context())
