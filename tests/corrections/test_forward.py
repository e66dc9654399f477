"""Forward correction against numpy in float64; where T comes from is in test_transition.py."""

import numpy as np
import torch

from lossnoise.corrections import CrossEntropy, ForwardCorrection

T = np.array([[0.7, 0.2, 0.1], [0.0, 1.0, 0.0], [0.3, 0.3, 0.4]])


def test_loss_against_numpy(make_batch, make_context, reference):
    model, batch = torch.nn.Linear(2, 3), make_batch()
    correction = ForwardCorrection(transition=T)
    correction.setup(make_context())
    h = np.exp(reference.log_probs(model, batch.inputs.double().numpy()))
    given = h @ T  # (T' h) of each sample, as a row
    losses = correction.loss(model, batch, make_context())
    assert losses.dtype == torch.float32
    np.testing.assert_allclose(
        losses.detach(), -np.log(given[np.arange(12), batch.labels]), rtol=1e-5
    )


def test_without_noise_it_is_cross_entropy(make_net, make_batch, make_context):
    correction, results = ForwardCorrection(transition=np.eye(3)), []
    correction.setup(make_context())
    for method in (correction, CrossEntropy()):
        model = make_net()
        losses = method.loss(model, make_batch(), make_context())
        losses.mean().backward()
        results.append([losses, *(p.grad for p in model.parameters())])
    for ours, plain in zip(*results, strict=True):
        torch.testing.assert_close(ours, plain)


def test_in_the_mean_it_is_lowest_where_the_truth_is_predicted(make_context):
    """Forward is consistent: the best prediction of a noisy label is the true class through T."""
    correction = ForwardCorrection(transition=T)
    correction.setup(make_context())
    logits = torch.zeros(1, 3, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.1)
    given = torch.tensor(0.5 * T[0] + 0.5 * T[2], dtype=torch.float32)  # of a true 0 or 2
    for _ in range(400):
        losses = correction.corrected_loss(logits.expand(3, 3), torch.arange(3))
        optimizer.zero_grad()
        (given * losses).sum().backward()
        optimizer.step()
    np.testing.assert_allclose(logits.softmax(1).detach()[0], [0.5, 0.0, 0.5], atol=0.02)
