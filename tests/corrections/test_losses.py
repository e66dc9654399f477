"""The per-sample losses against numpy in float64, written from the formulae."""

import re
from threading import Barrier, Thread

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lossnoise import NoisyLabelTrainer
from lossnoise.corrections.losses import (
    backward_corrected,
    class_prior_divergence,
    cross_entropy,
    dynamic_bootstrap,
    forward_corrected,
    hard_bootstrap,
    prediction_entropy,
    soft_bootstrap,
    soft_cross_entropy,
)
from lossnoise.exceptions import InvalidDataError


def log_softmax(logits):
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def draw(batch, num_classes, seed=0, scale=3.0):
    rng = np.random.default_rng(seed)
    logits = torch.tensor(rng.normal(scale=scale, size=(batch, num_classes)), dtype=torch.float32)
    labels, guesses = torch.tensor(rng.integers(num_classes, size=(2, batch)))
    return logits, labels, guesses, torch.tensor(rng.uniform(size=batch), dtype=torch.float32)


def draw_rows(rows, num_classes, seed=1, concentration=0.5):
    """Return distributions over the classes, in float32 and in numpy's float64."""
    rng = np.random.default_rng(seed)
    table = rng.dirichlet(np.full(num_classes, concentration), size=rows).astype(np.float32)
    return torch.from_numpy(table), table.astype(np.float64)


def divergence(logits, prior=None):
    """R = sum_c p_c log(p_c / hbar_c), straight from the formula; p_c = 1 / C by default."""
    mean = np.exp(log_softmax(logits)).mean(axis=0)
    prior = np.full(len(mean), 1.0 / len(mean)) if prior is None else prior
    return sum(p * np.log(p / h) for p, h in zip(prior, mean, strict=True) if p > 0.0)


def divergence_gradient(logits, prior=None):
    """dR/ds_ij = sum_c -(p_c / hbar_c) h_ic (delta_cj - h_ij) / n."""
    h = np.exp(log_softmax(logits))
    n, num_classes = h.shape
    prior = np.full(num_classes, 1.0 / num_classes) if prior is None else prior
    outer = -prior / h.mean(axis=0) / n
    return h * (outer - (h * outer).sum(axis=1, keepdims=True))


@pytest.mark.parametrize("num_classes", [2, 10, 100])
def test_cross_entropy_is_minus_the_log_probability(num_classes):
    logits, labels, *_ = draw(32, num_classes)
    expected = -log_softmax(logits.double().numpy())[np.arange(32), labels]
    np.testing.assert_allclose(cross_entropy(logits, labels), expected, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("num_classes", [2, 10, 100])
def test_hard_bootstrap_mixes_label_and_guess(num_classes):
    logits, labels, guesses, weights = draw(32, num_classes)
    log_h, w = log_softmax(logits.double().numpy()), weights.double().numpy()
    target = (1.0 - w)[:, None] * np.eye(num_classes)[labels]
    target += w[:, None] * np.eye(num_classes)[guesses]
    expected = -(target * log_h).sum(axis=1)
    losses = hard_bootstrap(logits, labels, guesses, weights)
    np.testing.assert_allclose(losses, expected, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_weights_of_0_and_1_are_cross_entropy_with_label_and_guess(weight):
    logits, labels, guesses, _ = draw(32, 10)
    losses = hard_bootstrap(logits, labels, guesses, torch.full((32,), weight))
    expected = cross_entropy(logits, guesses if weight else labels)
    torch.testing.assert_close(losses, expected)


@pytest.mark.parametrize("num_classes", [2, 10, 100])
def test_soft_bootstrap_mixes_label_and_distribution(num_classes):
    logits, labels, _, weights = draw(32, num_classes)
    guesses, z = draw_rows(32, num_classes)
    log_h, w = log_softmax(logits.double().numpy()), weights.double().numpy()[:, None]
    target = (1.0 - w) * np.eye(num_classes)[labels] + w * z
    losses = soft_bootstrap(logits, labels, guesses, weights)
    np.testing.assert_allclose(losses, -(target * log_h).sum(axis=1), rtol=2e-5, atol=1e-6)


def test_soft_bootstrap_with_a_certain_guess_is_hard_bootstrap():
    logits, labels, guesses, weights = draw(32, 10)
    certain = torch.nn.functional.one_hot(guesses, 10).float()
    torch.testing.assert_close(
        soft_bootstrap(logits, labels, certain, weights),
        hard_bootstrap(logits, labels, guesses, weights),
    )


@pytest.mark.parametrize("num_classes", [2, 10, 100])
def test_forward_correction_predicts_the_given_label(num_classes):
    logits, labels, *_ = draw(32, num_classes)
    transition, T = draw_rows(num_classes, num_classes)
    given_label = np.exp(log_softmax(logits.double().numpy())) @ T
    expected = -np.log(given_label[np.arange(32), labels])
    losses = forward_corrected(logits, labels, transition)
    np.testing.assert_allclose(losses, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("num_classes", [2, 10, 100])
def test_backward_correction_weighs_the_losses_of_all_classes(num_classes):
    logits, labels, *_ = draw(32, num_classes)
    T = 0.6 * np.eye(num_classes) + 0.4 * draw_rows(num_classes, num_classes)[1]
    every_loss = -log_softmax(logits.double().numpy())
    expected = np.linalg.solve(T, every_loss.T)[labels, np.arange(32)]
    inverse = torch.tensor(np.linalg.inv(T), dtype=torch.float32)
    losses = backward_corrected(logits, labels, inverse)
    np.testing.assert_allclose(losses, expected, rtol=1e-4, atol=1e-4)


def test_without_noise_the_corrections_are_cross_entropy():
    logits, labels, *_ = draw(32, 10)
    expected = cross_entropy(logits, labels)
    torch.testing.assert_close(forward_corrected(logits, labels, torch.eye(10)), expected)
    torch.testing.assert_close(backward_corrected(logits, labels, torch.eye(10)), expected)


@pytest.mark.parametrize("num_classes", [10, 100])
@pytest.mark.parametrize("kind", ["uniform", "given", "with absent classes"])
@pytest.mark.parametrize("all_mean", [None, lambda tensor: tensor])
def test_class_prior_divergence_and_its_gradient(num_classes, kind, all_mean):
    logits = draw(64, num_classes)[0].requires_grad_()
    prior, p = (None, None)
    if kind != "uniform":
        (prior,), (p,) = draw_rows(1, num_classes, concentration=5.0)
    if kind == "with absent classes":
        prior[:3], p[:3] = 0.0, 0.0
    value = class_prior_divergence(logits, prior, all_mean)
    value.backward()
    reference = logits.detach().double().numpy()
    assert value.item() == pytest.approx(divergence(reference, p), rel=1e-4)
    expected = divergence_gradient(reference, p)
    np.testing.assert_allclose(logits.grad, expected, rtol=1e-3, atol=1e-7)


def test_a_class_that_is_never_predicted_is_still_pulled_up():
    """Its mean is below the smallest float32, and its logarithm is not."""
    logits = torch.tensor([[0.0, 0.0, -200.0], [0.0, 0.0, -300.0]])
    for all_mean in (None, lambda tensor: tensor):
        leaf = logits.clone().requires_grad_()
        value = class_prior_divergence(leaf, None, all_mean)
        value.backward()
        reference = logits.double().numpy()
        assert value.item() == pytest.approx(divergence(reference), rel=1e-5)
        np.testing.assert_allclose(leaf.grad, divergence_gradient(reference), atol=1e-6)
        assert leaf.grad[0, 2] < -0.3


class Ranks:
    """Processes as threads: `all_mean` waits for the tensors of all, and gives their mean."""

    def __init__(self, size):
        self.barrier, self.tensors = Barrier(size), [None] * size

    def all_mean(self, rank):
        def mean(tensor):
            self.tensors[rank] = tensor
            self.barrier.wait(10.0)
            found = torch.stack(self.tensors).mean(dim=0)
            self.barrier.wait(10.0)
            return found

        return mean


@pytest.mark.parametrize("scale", [1.0, 200.0])
@pytest.mark.parametrize("prior", [None, torch.tensor([0.1, 0.2, 0.3, 0.4])])
def test_class_prior_divergence_of_a_batch_that_is_spread_over_processes(scale, prior):
    logits = (scale * draw(24, 4)[0]).requires_grad_()
    ranks, parts = Ranks(3), [None] * 3

    def run(rank):
        own = logits[8 * rank : 8 * rank + 8]
        parts[rank] = class_prior_divergence(own, prior, ranks.all_mean(rank))

    threads = [Thread(target=run, args=(rank,)) for rank in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    whole = class_prior_divergence(logits, prior)
    for part in parts:
        torch.testing.assert_close(part, whole)
    (expected,) = torch.autograd.grad(whole, logits)
    (gradient,) = torch.autograd.grad(parts[0], logits)
    torch.testing.assert_close(gradient, expected)


@given(
    arrays(np.float32, (6, 4), elements=st.floats(-500, 500, width=32)),
    arrays(np.float32, 4, elements=st.floats(0.0, 1.0, width=32)).filter(lambda p: p.sum() > 0.1),
)
def test_class_prior_divergence_is_never_negative(logits, prior):
    prior = torch.from_numpy(prior / prior.sum())
    value = class_prior_divergence(torch.from_numpy(logits), prior, lambda tensor: tensor)
    assert value.isfinite()
    assert value >= -1e-5


@pytest.mark.parametrize("num_classes", [10, 100])
def test_class_prior_divergence_is_0_for_evenly_spread_predictions(num_classes):
    even = 8.0 * torch.eye(num_classes).repeat(3, 1)
    assert class_prior_divergence(even).item() == pytest.approx(0.0, abs=1e-5)
    assert class_prior_divergence(even[:2]).item() > 1.0


def one_of_each(logits, labels, guesses, weights):
    soft, _ = draw_rows(len(labels), 10)
    transition = 0.7 * torch.eye(10) + 0.03
    return {
        "cross-entropy": cross_entropy(logits, labels),
        "hard bootstrap": hard_bootstrap(logits, labels, guesses, weights),
        "soft bootstrap": soft_bootstrap(logits, labels, soft, weights),
        "forward": forward_corrected(logits, labels, transition),
        "forward, no noise": forward_corrected(logits, labels, torch.eye(10)),
        "backward": backward_corrected(logits, labels, torch.linalg.inv(transition)),
        "class prior": class_prior_divergence(logits),
        "class prior, given": class_prior_divergence(logits, soft[0], lambda tensor: tensor),
    }


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_losses_are_float32_whatever_the_logits_are(dtype):
    logits, labels, guesses, weights = draw(32, 10)
    low = one_of_each(logits.to(dtype), labels, guesses, weights)
    high = one_of_each(logits.to(dtype).float(), labels, guesses, weights)
    for name, losses in low.items():
        assert losses.dtype == torch.float32, name
        assert torch.equal(losses, high[name]), name


@pytest.mark.parametrize("scale", [1e-3, 1e3, 1e30])
def test_values_and_gradients_are_finite_for_extreme_logits(scale):
    logits, labels, guesses, weights = draw(32, 10, scale=scale)
    for name in one_of_each(logits, labels, guesses, weights):
        leaf = logits.clone().requires_grad_()
        value = one_of_each(leaf, labels, guesses, weights)[name].sum()
        value.backward()
        assert value.isfinite(), name
        assert leaf.grad.isfinite().all(), name


@pytest.mark.parametrize("hard", [True, False])
def test_dynamic_bootstrap_takes_its_guess_from_the_logits_without_gradient(hard):
    logits, labels, _, weights = draw(16, 5)
    logits.requires_grad_()
    losses = dynamic_bootstrap(logits, labels, weights, hard=hard)
    log_probs = log_softmax(logits.detach().double().numpy())
    h = np.exp(log_probs)
    y, w = np.eye(5)[labels], weights.double().numpy()[:, None]
    targets = (1.0 - w) * y + w * (np.eye(5)[h.argmax(axis=1)] if hard else h)
    expected = -(targets * log_probs).sum(axis=1)
    np.testing.assert_allclose(losses.detach().numpy(), expected, rtol=1e-5)
    losses.sum().backward()  # of fixed targets that sum to 1: h - t
    np.testing.assert_allclose(logits.grad.numpy(), h - targets, atol=1e-5)


@pytest.mark.parametrize("hard", [True, False])
def test_probabilities_of_any_kind_give_float32(hard):
    logits, labels = draw(3, 4)[0], torch.tensor([0, 1, 2])
    expected = dynamic_bootstrap(logits, labels, torch.tensor([0.0, 0.5, 1.0]), hard=hard)
    for proba in (np.array([0.0, 0.5, 1.0]), [0.0, 0.5, 1.0], torch.tensor([0, 0.5, 1]).double()):
        found = dynamic_bootstrap(logits, labels, proba, hard=hard)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, expected)
    rounded = torch.tensor([-1e-7, 0.5, 1.0 + 1e-7])
    assert torch.equal(dynamic_bootstrap(logits, labels, rounded, hard=hard), expected)
    matrix = torch.full((4, 4), 0.1, dtype=torch.float64) + 0.6 * torch.eye(4)
    assert forward_corrected(logits, labels, matrix).dtype == torch.float32
    assert backward_corrected(logits, labels, matrix.inverse()).dtype == torch.float32


@pytest.mark.parametrize(
    ("proba", "expected", "got"),
    [
        (torch.zeros(3, 1), "of shape (3,), one probability for each sample", "shape (3, 1)"),
        (torch.zeros(2), "of shape (3,), one probability for each sample", "shape (2,)"),
        (np.array([0.0, 2.0, 1.0]), "in [0, 1]", "0 to 2"),
        (torch.tensor([0.0, torch.nan, 1.0]), "in [0, 1]", "nan to nan"),
    ],
    ids=["column", "short", "too-large", "unseen"],
)
def test_probabilities_that_cannot_be_are_told(proba, expected, got):
    message = f"The 'noise_proba' parameter of dynamic_bootstrap must be {expected}. Got {got} inst"
    with pytest.raises(InvalidDataError, match=f"^{re.escape(message)}"):
        dynamic_bootstrap(torch.zeros(3, 4), torch.tensor([0, 1, 2]), proba)


@pytest.mark.parametrize("loss", [hard_bootstrap, soft_bootstrap])
def test_a_column_of_weights_is_no_matrix_of_losses(loss):
    logits, labels = torch.zeros(3, 4), torch.tensor([0, 1, 2])
    guesses = labels if loss is hard_bootstrap else torch.full((3, 4), 0.25)
    message = (
        f"The 'weights' parameter of {loss.__name__} must be of shape (3,), one probability for "
        "each sample. Got shape (3, 1) instead."
    )
    with pytest.raises(InvalidDataError, match=f"^{re.escape(message)}$"):
        loss(logits, labels, guesses, torch.zeros(3, 1))


def test_labels_that_a_matrix_rules_out_have_finite_gradients():
    matrix = torch.tensor([[0.9, 0.1, 0.0], [0.2, 0.8, 0.0], [0.5, 0.5, 0.0]])
    logits = torch.zeros(2, 3, requires_grad=True)
    losses = forward_corrected(logits, torch.tensor([2, 0]), matrix)
    losses.sum().backward()
    assert losses[0] > 80.0
    assert losses[1].item() == pytest.approx(-np.log(1.6 / 3), rel=1e-6)
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("loss", [forward_corrected, backward_corrected])
def test_negative_labels_are_no_class(loss):
    with pytest.raises(IndexError):
        loss(torch.zeros(1, 3), torch.tensor([-1]), torch.eye(3))


@pytest.mark.parametrize("prior", [None, torch.tensor([0.2, 0.3, 0.5])])
@pytest.mark.parametrize("all_mean", [None, lambda tensor: tensor])
def test_a_class_that_cannot_be_has_no_part_in_any_loss(prior, all_mean):
    """Models that mask classes give them logits of -inf; 0 times the infinite loss is NaN."""
    logits, labels, _, weights = draw(32, 3)
    guesses, _ = draw_rows(32, 3)
    inverse = torch.linalg.inv(0.7 * torch.eye(3) + 0.1)

    def losses(fourth):
        """Return values and gradients; `fourth` adds a class to the rows of a tensor."""
        leaf = logits.clone().requires_grad_()
        scores, guessed = fourth(leaf, -torch.inf), fourth(guesses, 0.0)
        own_prior = None if prior is None else fourth(prior, 0.0)
        values = [
            soft_bootstrap(scores, labels, guessed, weights).sum(),
            soft_cross_entropy(scores, guessed).sum(),
            prediction_entropy(scores).sum(),
            backward_corrected(scores, labels, fourth(inverse, 0.0)).sum(),
            class_prior_divergence(scores, own_prior, all_mean),
        ]
        return [*values, *(torch.autograd.grad(v, leaf, retain_graph=True)[0] for v in values)]

    masked = losses(lambda rows, value: torch.nn.functional.pad(rows, (0, 1), value=value))
    for with_it, without in zip(masked, losses(lambda rows, value: rows), strict=True):
        torch.testing.assert_close(with_it, without)


class Masked(torch.nn.Module):
    """Knows four classes, of which the last cannot be."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, inputs):
        logits = self.net(inputs)
        return logits.masked_fill(torch.arange(4) == 3, -torch.inf)


@pytest.mark.parametrize("correction", ["bootstrap-soft", "dyr-s", "m-dyr-h", "joint-optimization"])
def test_a_model_that_masks_a_class_is_trained(make_net, make_data, correction):
    model = Masked(make_net(num_classes=4))
    trainer = NoisyLabelTrainer(model, correction=correction, epochs=6, batch_size=16, device="cpu")
    trainer.set_params(random_state=0).fit(make_data())
    assert np.isfinite([record["train_loss"] for record in trainer.history_]).all()
    assert trainer.predict_proba(make_data())[:, 3].max() == 0.0
