"""MD-DYR-H on small models, against numpy in float64: its three phases and their losses."""

import re

import numpy as np
import pytest
import torch

from lossnoise.corrections import MDDyrH, Mixup
from lossnoise.corrections.mixing import draw_mixing_weight, draw_partners
from lossnoise.exceptions import InvalidParameterError


def mixed_by_trust(model, batch, context, reference):
    """Return log h of dynamically mixed inputs, corrected targets, partners."""
    x, y = batch.inputs.double().numpy(), batch.labels.numpy()
    q = draw_partners(12, context.generator).numpy()
    unmixed = reference.log_probs(model, x)
    w = reference.posterior(-unmixed[np.arange(12), y])
    d = 1.0 - w
    share = (d / (d + d[q]))[:, None]
    guesses = reference.one_hot(unmixed.argmax(axis=1))
    targets = (1.0 - w)[:, None] * reference.one_hot(y) + w[:, None] * guesses
    return reference.log_probs(model, share * x + (1.0 - share) * x[q]), targets, q


@pytest.mark.parametrize(("class_balance", "eta"), [("auto", 1.0), (0.0, 0.0)])
def test_loss_against_numpy(make_batch, make_context, reference, class_balance, eta):
    """Inputs by d_p / (d_p + d_q), both corrected targets by one half."""
    model, batch = torch.nn.Linear(2, 3), make_batch()
    log_h, targets, q = mixed_by_trust(model, batch, make_context(seed=3), reference)
    expected = -((targets + targets[q]) / 2.0 * log_h).sum(axis=1)
    expected += eta * reference.divergence(log_h)
    context = make_context(seed=3, epoch=5, noise_proba=reference.posterior)
    correction = MDDyrH(warmup=3, dynamic_mixup=1, class_balance=class_balance)
    losses = correction.loss(model, batch, context)
    assert losses.dtype == torch.float32
    np.testing.assert_allclose(losses.detach(), expected, rtol=1e-5)


def test_dynamic_mixup_without_bootstrapping_against_numpy(make_batch, make_context, reference):
    """The same inputs; the labels as given, by a draw of their own; no R."""
    model, batch, same = torch.nn.Linear(2, 3), make_batch(), make_context(seed=3)
    log_h, _, q = mixed_by_trust(model, batch, same, reference)
    d, y, rows = draw_mixing_weight(4.0, same.rng), batch.labels.numpy(), np.arange(12)
    expected = -d * log_h[rows, y] - (1.0 - d) * log_h[rows, y[q]]
    context = make_context(seed=3, epoch=4, noise_proba=reference.posterior)
    correction = MDDyrH(alpha=4.0, warmup=3, dynamic_mixup=1, class_balance=1.0)
    losses = correction.loss(model, batch, context)
    np.testing.assert_allclose(losses.detach(), expected, rtol=1e-5)


PAPER = {"warmup": 105, "dynamic_mixup": 5}
PHASES = {"mixup": [1, 50, 105], "dynamic": [106, 110], "all": [111, 199, 300]}


@pytest.mark.parametrize(
    ("phase", "epoch"), [(phase, epoch) for phase, epochs in PHASES.items() for epoch in epochs]
)
@pytest.mark.parametrize("shape", [PAPER, {"warmup": 105 / 300}])
def test_the_phases_of_the_papers_recipe(make_batch, make_context, reference, phase, epoch, shape):
    """Mixup in epochs 1..105 of 300, dynamic mixup in 106..110, and all of it from 111 on."""
    model, batch = torch.nn.Linear(2, 3), make_batch()

    def loss(correction, **given):
        context = make_context(epoch=epoch, num_epochs=300, noise_proba=reference.posterior)
        return correction.loss(model, batch, context).detach()

    ours = loss(MDDyrH(**shape))
    expected = {
        "mixup": Mixup(),
        "dynamic": MDDyrH(warmup=0, dynamic_mixup=300),
        "all": MDDyrH(warmup=0, dynamic_mixup=0),
    }
    equal = {name: torch.equal(ours, loss(each)) for name, each in expected.items()}
    assert equal == {name: name == phase for name in expected}


def test_without_evidence_it_is_mixup_by_halves(make_batch, make_context, reference):
    """Then w is 0 for all: no sample has the larger share, and no guess counts."""
    model, batch, same = torch.nn.Linear(2, 3), make_batch(), make_context(seed=3)
    x, y, rows = batch.inputs.double().numpy(), batch.labels.numpy(), np.arange(12)
    q = draw_partners(12, same.generator).numpy()
    log_h = reference.log_probs(model, (x + x[q]) / 2.0)
    context = make_context(seed=3, evidence=0.0, noise_proba=reference.posterior)
    losses = MDDyrH(warmup=0, dynamic_mixup=0, class_balance=0.0).loss(model, batch, context)
    np.testing.assert_allclose(
        losses.detach(), -(log_h[rows, y] + log_h[rows, y[q]]) / 2.0, rtol=1e-5
    )


def test_labels_that_are_surely_wrong_give_their_partners_nearly_all(make_batch, make_context):
    """Even where both of a pair are surely wrong, nothing is divided by 0."""
    model, batch = torch.nn.Linear(2, 3), make_batch()
    seen = []
    model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    for wrong in (torch.arange(12) % 2.0, torch.ones(12), torch.zeros(12)):
        context = make_context(seed=3, noise_proba=lambda losses, wrong=wrong: wrong)
        losses = MDDyrH(warmup=0, dynamic_mixup=0).loss(model, batch, context)
        losses.mean().backward()
        assert losses.isfinite().all()
        assert model.weight.grad.isfinite().all()
    x, q = batch.inputs, draw_partners(12, make_context(seed=3).generator)
    mixed = {name: seen[place] for name, place in (("some", 1), ("all", 3), ("none", 5))}
    torch.testing.assert_close(mixed["all"], (x + x[q]) / 2.0)
    torch.testing.assert_close(mixed["none"], (x + x[q]) / 2.0)
    wrong = (torch.arange(12) % 2).bool()
    ours, theirs = ~wrong & wrong[q], wrong & ~wrong[q]
    assert ours.any()
    torch.testing.assert_close(mixed["some"][ours], x[ours], atol=2e-3, rtol=0.0)
    torch.testing.assert_close(mixed["some"][theirs], x[q][theirs], atol=2e-3, rtol=0.0)


@pytest.mark.parametrize("value", [-1, 1.5, True, "5", None])
def test_dynamic_mixup_out_of_range(make_context, value):
    message = (
        "The 'dynamic_mixup' parameter of MDDyrH must be a number of epochs (int >= 0) or a "
        f"fraction of the run in [0.0, 1.0]. Got {value!r} instead."
    )
    with pytest.raises(InvalidParameterError, match=f"^{re.escape(message)}$"):
        MDDyrH(dynamic_mixup=value).setup(make_context())
