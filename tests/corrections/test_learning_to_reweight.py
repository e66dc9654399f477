"""Learning to reweight: the gradient by finite differences, the weights by hand, the step whole."""

import copy
import re

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.utils.data import TensorDataset

from lossnoise import NoisyLabelTrainer
from lossnoise.corrections import CORRECTIONS, Batch, LearningToReweight
from lossnoise.corrections.learning_to_reweight import example_gradients, example_weights
from lossnoise.corrections.losses import cross_entropy
from lossnoise.exceptions import InvalidParameterError
from lossnoise.training._engine import Precision, TrainingEngine

WIDTH = 1e-4  # of a central difference in float64


def float64_losses(net, parameters, inputs, labels):
    buffers = {name: buffer.clone() for name, buffer in net.named_buffers()}
    logits = functional_call(net, {**buffers, **parameters}, (inputs,))
    return nn.functional.cross_entropy(logits, labels, reduction="none")


def finite_differences(net, batch, clean, step):
    """-d L(theta - step d/dtheta sum_i eps_i l_i) / d eps_i at 0, sample by sample."""
    parameters = {name: p.detach().clone() for name, p in net.named_parameters()}

    def clean_loss(i, eps):
        theta = {name: p.clone().requires_grad_() for name, p in parameters.items()}
        loss = eps * float64_losses(net, theta, *batch)[i]
        gradients = torch.autograd.grad(loss, list(theta.values()))
        moved = {
            name: p.detach() - step * g
            for (name, p), g in zip(theta.items(), gradients, strict=True)
        }
        return float(float64_losses(net, moved, *clean).mean())

    return [
        -(clean_loss(i, WIDTH) - clean_loss(i, -WIDTH)) / (2.0 * WIDTH)
        for i in range(len(batch[1]))
    ]


@pytest.mark.parametrize("normalised", [False, True])
@pytest.mark.parametrize("step", [1.0, 0.1])
def test_gradient_against_finite_differences(make_net, normalised, step):
    """Also through BatchNorm, and the length of the virtual step is but a factor."""
    net = make_net().double() if normalised else nn.Sequential(nn.Linear(2, 3)).double()
    generator = torch.Generator().manual_seed(0)
    batch, clean = (
        (
            torch.randn(size, 2, generator=generator, dtype=torch.float64),
            torch.arange(size) % 3,
        )
        for size in (7, 9)
    )
    parameters = dict(net.named_parameters())
    losses = float64_losses(net, parameters, *batch)
    found = example_gradients(
        losses, parameters, lambda virtual: float64_losses(net, virtual, *clean).mean()
    )
    expected = np.array(finite_differences(net, batch, clean, step)) / step
    assert found.dtype == torch.float64
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-9)
    assert (expected < 0.0).any()
    assert (expected > 0.0).any()
    losses.sum().backward()  # the graph is still there


def test_gradient_is_the_product_of_two_gradients(make_net, make_batch):
    """At eps = 0: g_i = dl_i/dtheta . dL/dtheta, with no second derivative."""
    net, batch, clean = nn.Linear(2, 3), make_batch(), make_batch(9, seed=1)

    def flat_gradient(loss):
        return torch.cat([g.flatten() for g in torch.autograd.grad(loss, net.parameters())])

    def losses(parameters, batch):
        return cross_entropy(functional_call(net, parameters, (batch.inputs,)), batch.labels)

    parameters = dict(net.named_parameters())
    found = example_gradients(
        losses(parameters, batch), parameters, lambda new: losses(new, clean).mean()
    )
    whole = flat_gradient(losses(parameters, clean).mean())
    for i in range(12):
        own = flat_gradient(losses(parameters, batch)[i])
        assert found[i] == pytest.approx(float(own @ whole), rel=1e-4, abs=1e-6)


def test_the_virtual_step_is_the_mean_of_all_processes():
    """Here another process has a step of 3 on the second sample, and both halves count."""
    theta = torch.tensor([1.0, 2.0], requires_grad=True)
    met = []

    def clean_loss(new):
        met.append(new["theta"].detach())
        return (new["theta"] * torch.tensor([1.0, 10.0])).sum()

    found = example_gradients(
        theta * theta,
        {"theta": theta},
        clean_loss,
        all_mean=lambda step: (step + torch.tensor([0.0, 3.0])) / 2.0,
    )
    assert met[0].tolist() == [1.0, 0.5]
    assert found.tolist() == [1.0, 20.0]


def test_parameters_that_the_losses_do_not_depend_on():
    used, unused = torch.ones(2, requires_grad=True), torch.ones(3, requires_grad=True)
    found = example_gradients(
        used * torch.tensor([1.0, -2.0]),
        {"used": used, "unused": unused},
        lambda new: new["used"].sum() + new["unused"].sum(),
    )
    assert found.tolist() == [1.0, -2.0]


@pytest.mark.parametrize(
    ("gradients", "total", "expected"),
    [
        ([1.0, 3.0, -5.0], None, [0.25, 0.75, 0.0]),
        ([1.0, 3.0, -5.0], 8.0, [0.125, 0.375, 0.0]),
        ([-1.0, 0.0, -5.0], None, [0.0, 0.0, 0.0]),
        ([1e-30, 1e-30, 0.0], None, [0.5, 0.5, 0.0]),
        ([], None, []),
    ],
)
def test_weights(gradients, total, expected):
    total = None if total is None else torch.tensor(total)
    assert example_weights(torch.tensor(gradients), total).tolist() == expected


# -- the step -------------------------------------------------------------------------------------


@pytest.fixture
def start(make_net, make_data, make_context):
    """A correction that is set up, its engine and context; the clean set is the whole batch."""

    def make(clean=None, net=None, precision="float32", **settings):
        clean = make_data(12, 0.0, seed=3) if clean is None else clean
        correction = LearningToReweight(clean_set=clean, **settings)
        engine = TrainingEngine(
            make_net() if net is None else net,
            num_models=1,
            optimizer=lambda parameters: torch.optim.SGD(parameters, 0.1, weight_decay=0.01),
            scheduler=None,
            device=torch.device("cpu"),
            precision=Precision(precision),
            num_epochs=10,
        )
        context = make_context(engine=engine)
        correction.setup(context)
        correction.begin_epoch(context)
        return correction, engine, context

    return make


def test_step_against_one_by_hand(start, make_batch, make_data):
    """Of a network with BatchNorm in train mode: virtual step, weights, then the real step."""
    correction, engine, context = start()
    net, batch, clean = copy.deepcopy(engine.model.module), make_batch(), make_data(12, 0.0, seed=3)
    returned = correction.train_step(engine, batch, context)

    by_hand = copy.deepcopy(net).double()
    pairs = [(batch.inputs.double(), batch.labels), (clean.tensors[0].double(), clean.tensors[1])]
    gradients = torch.tensor(finite_differences(by_hand, *pairs, 1.0))
    weights = gradients.clamp_min(0.0) / gradients.clamp_min(0.0).sum()
    losses = cross_entropy(net(batch.inputs), batch.labels)
    optimizer = torch.optim.SGD(net.parameters(), 0.1, weight_decay=0.01)
    (weights.float() * losses).sum().backward()
    optimizer.step()
    torch.testing.assert_close(returned.mean(), (weights.float() * losses).sum().detach())
    torch.testing.assert_close(returned, 12 * weights.float() * losses.detach())
    for (name, new), own in zip(
        net.state_dict().items(), engine.model.module.state_dict().values(), strict=True
    ):
        torch.testing.assert_close(own, new, rtol=1e-4, atol=1e-6, msg=name)
    correction.end_epoch(context)
    shown = correction.sample_weights_
    torch.testing.assert_close(shown[:12], 12 * weights.float(), rtol=1e-3, atol=1e-5)
    assert shown[12:].isnan().all()


def test_batchnorm_keeps_the_statistics_of_training_batches(start, make_batch):
    """The virtual step is made in train mode, and the clean batch leaves no trace."""
    clean = TensorDataset(1000.0 + torch.randn(8, 2), torch.arange(8) % 3)
    correction, engine, context = start(clean)
    net, batch = copy.deepcopy(engine.model.module), make_batch()
    correction.train_step(engine, batch, context)
    net(batch.inputs)
    norm = engine.model.module[1]
    assert torch.equal(norm.running_mean, net[1].running_mean)
    assert torch.equal(norm.running_var, net[1].running_var)
    assert norm.num_batches_tracked == 1


@pytest.mark.filterwarnings("ignore:The clean_set of LearningToReweight has no sample of 2")
def test_where_no_sample_helps_the_step_is_skipped(start):
    """A batch whose labels are all the opposite of the clean ones; weight decay waits too."""
    inputs, labels = torch.tensor([[1.0, 0.0]] * 6), torch.zeros(6, dtype=torch.int64)
    net = nn.Linear(2, 3)
    nn.init.zeros_(net.weight)  # with a third class that is far ahead, both labels would help
    nn.init.zeros_(net.bias)
    correction, engine, context = start(TensorDataset(inputs, labels), net=net)
    correction.train_step(engine, Batch(inputs, labels, torch.arange(6)), context)
    assert engine.model.state_dict()["module.weight"].any()  # or there is nothing to decay
    before = {name: t.clone() for name, t in engine.model.state_dict().items()}
    wrong = Batch(inputs, labels + 1, torch.arange(6))
    losses = correction.train_step(engine, wrong, context)
    assert losses.isfinite().all()
    for name, tensor in engine.model.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    correction.train_step(engine, Batch(inputs, labels, torch.arange(6)), context)
    assert not torch.equal(engine.model.state_dict()["module.weight"], before["module.weight"])


def test_weights_are_divided_by_the_sum_of_all_processes(start, make_batch):
    """Where others have three times as much, these weigh half."""
    shown = []
    for factor in (1.0, 2.0):
        correction, engine, context = start()
        context.all_mean = lambda mean, f=factor: f * mean if mean.ndim == 0 else mean
        correction.train_step(engine, make_batch(), context)
        correction.end_epoch(context)
        shown.append(correction.sample_weights_[:12])
    assert shown[0].sum() == pytest.approx(12.0)
    torch.testing.assert_close(shown[0], 2.0 * shown[1])


def test_frozen_parameters_stay(start, make_batch):
    correction, engine, context = start()
    frozen = engine.model.module[0].weight
    frozen.requires_grad_(False)
    before = frozen.clone()
    correction.train_step(engine, make_batch(), context)
    assert torch.equal(frozen, before)


def test_bfloat16_gives_float32_losses_and_nearly_the_same_weights(start, make_batch):
    weights = []
    for precision in ("float32", "bfloat16"):
        correction, engine, context = start(precision=precision)
        losses = correction.train_step(engine, make_batch(), context)
        assert losses.dtype == torch.float32
        correction.end_epoch(context)
        weights.append(correction.sample_weights_[:12])
    torch.testing.assert_close(*weights, rtol=0.1, atol=0.1)


class Attention(nn.Module):
    """With torch's fused attention, which has a first derivative only."""

    def __init__(self):
        super().__init__()
        self.query = nn.Linear(1, 8)
        self.head = nn.Linear(8, 3)

    def forward(self, inputs):
        tokens = self.query(inputs[:, :, None])[:, None]
        mixed = nn.functional.scaled_dot_product_attention(tokens, tokens, tokens)
        return self.head(mixed.mean(dim=(1, 2)))


def test_attention_has_the_second_derivative(start, make_batch):
    correction, engine, context = start(net=Attention())
    assert correction.train_step(engine, make_batch(), context).isfinite().all()


# -- parameters -----------------------------------------------------------------------------------


def test_parameters_out_of_range(make_context, make_data):
    message = (
        "The 'clean_batch_size' parameter of LearningToReweight must be an int in the range "
        "[2, inf). Got 1 instead."
    )
    correction = LearningToReweight(clean_set=make_data(), clean_batch_size=1)
    with pytest.raises(InvalidParameterError, match=f"^{re.escape(message)}$"):
        correction.setup(make_context())


NEEDY = sorted(name for name, kind in CORRECTIONS.items() if kind.needs_clean_batch)


@pytest.mark.parametrize("name", NEEDY)
def test_a_missing_clean_set_is_one_clear_error_before_the_first_batch(name, make_net, make_data):
    owner = CORRECTIONS[name].__name__
    message = (
        f"The 'clean_set' parameter of {owner} must be a map-style dataset of (input, true label), "
        f"or a DataLoader of one: {owner}(clean_set=TensorDataset(inputs, clean_labels)). Got "
        "None instead."
    )
    net = make_net()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    trainer = NoisyLabelTrainer(net, correction=name, epochs=1, device="cpu")
    with pytest.raises(InvalidParameterError, match=f"^{re.escape(message)}$"):
        trainer.fit(make_data())
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


def test_wrong_labels_get_smaller_weights(make_net, make_data):
    data, clean = make_data(240, 0.4), make_data(60, 0.0, seed=5)
    correction = LearningToReweight(clean_set=clean)
    trainer = NoisyLabelTrainer(
        make_net(), correction=correction, epochs=8, batch_size=32, device="cpu", random_state=0
    ).fit(data)
    wrong = data.tensors[1] != torch.arange(240) % 3
    weights = trainer.correction_.sample_weights_
    assert weights[wrong].mean() < 0.3 * weights[~wrong].mean()
    assert correction.sample_weights_ is None  # the trainer has a copy
    assert trainer.correction_.clean_set is clean  # and not of the data


class Bag(nn.Module):
    """Token ids, and the mean of their embeddings, which torch has twice."""

    def __init__(self, twice):
        super().__init__()
        self.words = nn.Embedding(9, 4) if twice else nn.EmbeddingBag(9, 4)
        self.head = nn.Linear(4, 2)
        self.twice = twice

    def forward(self, tokens):
        found = self.words(tokens)
        return self.head(found.mean(dim=1) if self.twice else found)


def test_a_layer_without_a_second_derivative_is_named_with_another():
    labels = torch.arange(24) % 2
    tokens = torch.stack([labels, labels + 2, labels + 4], dim=1)
    data = TensorDataset(tokens, labels)
    correction = LearningToReweight(clean_set=data)
    settings = {"correction": correction, "epochs": 1, "batch_size": 8, "device": "cpu"}
    message = (
        "The 'model' parameter of NoisyLabelTrainer must be a model of layers that torch can "
        f"differentiate twice, for LearningToReweight. Got {Bag} instead: torch.nn.Embedding and a "
        "mean do what EmbeddingBag does. torch says: "
    )
    with pytest.raises(InvalidParameterError, match=f"^{re.escape(message)}"):
        NoisyLabelTrainer(Bag(twice=False), **settings).fit(data)
    NoisyLabelTrainer(Bag(twice=True), **settings).fit(data)
