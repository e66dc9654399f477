"""Co-teaching+ against choices made by hand in numpy, and two networks in a run."""

import re
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from lossnoise import NoisyLabelTrainer
from lossnoise.corrections import CoTeachingPlus
from lossnoise.corrections.co_teaching_plus import (
    find_disagreement,
    select_small_losses,
    share_to_keep,
)
from lossnoise.exceptions import InvalidDataError, InvalidParameterError
from lossnoise.training import Callback


class Engine:
    """Two models, and the losses that they were to learn from, with the gradients."""

    def __init__(self, *models):
        self.models, self.model = list(models), models[0]
        self.losses, self.gradients = {}, {}

    def autocast(self, *, no_grad=False):
        return nullcontext()

    def step(self, loss, index=0):
        self.losses[index] = loss.detach()
        loss.backward()
        self.gradients[index] = [p.grad.clone() for p in self.models[index].parameters()]
        for p in self.models[index].parameters():
            p.data.zero_()  # as if it had learned: what comes later must not look at it again


@pytest.fixture
def engine():
    torch.manual_seed(0)
    return Engine(nn.Linear(2, 3), nn.Linear(2, 3))


# -- by hand ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rate", "epoch", "ramp", "expected"),
    [(0.4, 1, 10, 0.96), (0.4, 5, 10, 0.8), (0.4, 10, 10, 0.6), (0.4, 99, 10, 0.6),
     (0.4, 1, 0, 0.6), (0.0, 5, 10, 1.0)],
)  # fmt: skip
def test_the_share_falls_to_that_of_right_labels(rate, epoch, ramp, expected):
    assert share_to_keep(rate, epoch, ramp) == pytest.approx(expected)


def test_candidates_are_those_on_which_the_networks_disagree():
    first = torch.eye(3)[[0, 1, 2, 0, 1]]
    second = torch.eye(3)[[1, 1, 2, 2, 0]]
    assert find_disagreement(first, second).tolist() == [True, False, False, True, True]


def test_without_disagreement_all_are_candidates():
    logits = torch.eye(3)
    assert find_disagreement(logits, 2.0 * logits).tolist() == [True] * 3


def chosen_by_hand(losses, candidates, share):
    places = [i for i in range(len(losses)) if candidates[i]]
    places.sort(key=lambda i: losses[i])
    return sorted(places[: max(1, round(share * len(places)))])


@pytest.mark.parametrize("share", [0.0, 0.05, 0.3, 0.6, 0.96, 1.0])
@pytest.mark.parametrize("seed", range(4))
def test_the_smallest_losses_are_chosen(share, seed):
    rng = np.random.default_rng(seed)
    losses = rng.permutation(20) + rng.random(20)
    candidates = rng.random(20) < 0.5
    candidates[7] = True
    chosen = select_small_losses(torch.tensor(losses), torch.tensor(candidates), share)
    assert chosen.dtype == torch.bool
    assert chosen.nonzero().squeeze(1).tolist() == chosen_by_hand(losses, candidates, share)


def test_the_first_sample_may_be_chosen_and_a_single_one_is_enough():
    losses = torch.tensor([0.1, 0.2, 0.3])
    every = torch.ones(3, dtype=torch.bool)
    assert select_small_losses(losses, every, 0.3).tolist() == [True, False, False]
    assert select_small_losses(losses, every, 0.0).tolist() == [True, False, False]
    only = torch.tensor([False, False, True])
    assert select_small_losses(losses, only, 1.0).tolist() == only.tolist()


@pytest.mark.parametrize("losses", [[torch.inf] * 4, [torch.nan] * 4, [1.0] * 4])
def test_losses_that_rank_nothing_still_give_that_many(losses):
    every = torch.ones(4, dtype=torch.bool)
    assert int(select_small_losses(torch.tensor(losses), every, 0.5).sum()) == 2


# -- the step -----------------------------------------------------------------------------------


def gradient(model, inputs, labels, chosen, log_softmax):
    """Of the mean cross-entropy of the chosen samples, for a linear layer."""
    weight, bias = (p.detach().double().numpy() for p in model.parameters())
    x = inputs.double().numpy()[chosen]
    error = np.exp(log_softmax(x @ weight.T + bias)) - np.eye(3)[labels[chosen]]
    return error.T @ x / len(chosen), error.mean(axis=0)


@pytest.mark.parametrize("epoch", [1, 2, 3, 9])
@pytest.mark.parametrize("noise_rate", [0.0, 0.4, 0.7])
@pytest.mark.parametrize("size", [5, 24])
def test_each_network_learns_what_the_other_chose(
    epoch, noise_rate, size, engine, make_batch, make_context, reference
):
    batch, context = make_batch(size), make_context(epoch=epoch, engine=engine)
    correction = CoTeachingPlus(noise_rate=noise_rate, warmup=2, ramp=4)
    logits = [reference.logits(m, batch.inputs.double().numpy()) for m in engine.models]
    losses = [-reference.log_softmax(s)[np.arange(size), batch.labels] for s in logits]
    differs = logits[0].argmax(axis=1) != logits[1].argmax(axis=1)
    candidates = differs if epoch > 2 and differs.any() else np.ones(size, dtype=bool)
    share = 1.0 - min(epoch / 4 * noise_rate, noise_rate)
    chosen = [chosen_by_hand(each, candidates, share) for each in losses]
    expected = [
        gradient(engine.models[i], batch.inputs, batch.labels, chosen[1 - i], reference.log_softmax)
        for i in (0, 1)
    ]
    returned = correction.train_step(engine, batch, context)
    for i in (0, 1):
        np.testing.assert_allclose(engine.losses[i], losses[i][chosen[1 - i]].mean(), rtol=1e-5)
        for ours, theirs in zip(engine.gradients[i], expected[i], strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-6)
    assert returned.shape == (size,)
    assert not returned.requires_grad
    torch.testing.assert_close(returned.mean(), engine.losses[0])


def test_over_processes_the_mean_is_that_of_all_chosen(engine, make_batch, make_context):
    """Where another process chose three times as many, these samples weigh half as much."""
    alone, together = [], []
    for factor, found in ((1.0, alone), (2.0, together)):
        context = make_context(engine=engine, all_mean=lambda count, f=factor: f * count)
        torch.manual_seed(0)
        fresh = Engine(nn.Linear(2, 3), nn.Linear(2, 3))
        CoTeachingPlus(noise_rate=0.5).train_step(fresh, make_batch(), context)
        found.extend(fresh.losses.values())
    torch.testing.assert_close(torch.stack(alone), 2.0 * torch.stack(together))


@pytest.mark.parametrize(
    ("found", "evidence", "expected"),
    [(None, 1.0, 1.0), (0.3, 1.0, 0.7), (0.0, 1.0, 1.0), (0.8, 0.25, 0.8), (0.8, 0.0, 1.0)],
)
def test_the_rate_is_the_detectors_unless_it_is_given(found, evidence, expected, make_context):
    context = make_context(epoch=10, noise_rate=found, evidence=evidence)
    assert CoTeachingPlus().share_to_keep(context) == pytest.approx(expected)
    assert CoTeachingPlus(noise_rate=0.2).share_to_keep(context) == pytest.approx(0.8)
    assert CoTeachingPlus(noise_rate=0.0).share_to_keep(context) == 1.0


def test_losses_of_the_first_network_are_recorded(engine, make_batch, make_context):
    recorded = []
    context = make_context(engine=engine, record=lambda *pair: recorded.append(pair))
    batch, correction = make_batch(), CoTeachingPlus(noise_rate=0.5)
    plain = correction.loss(engine.model, batch, context)
    correction.train_step(engine, batch, context)
    ((indices, losses),) = recorded
    assert torch.equal(indices, batch.indices)
    assert torch.equal(losses, plain)
    assert not losses.requires_grad


# -- in a run -----------------------------------------------------------------------------------


@pytest.fixture
def fit(make_net, make_data):
    def run(net=None, correction="co-teaching-plus", resume=False, **given):
        settings = {"epochs": 12, "batch_size": 32, "device": "cpu", "random_state": 0} | given
        trainer = NoisyLabelTrainer(net or make_net(), correction=correction, **settings)
        val = make_data(size=300, noise=0.0, seed=1)
        return trainer.fit(make_data(size=960), val, resume=resume)

    return run


def test_both_networks_learn_and_the_first_predicts(fit, make_data):
    trainer = fit()
    val = make_data(size=300, noise=0.0, seed=1)
    inputs, labels = val.tensors
    first, second = (model.eval() for model in trainer.engine_.models)
    assert not torch.equal(next(first.parameters()), next(second.parameters()))
    for model in (first, second):
        assert (model(inputs).argmax(dim=1) == labels).float().mean() > 0.95
    expected = trainer.model.eval()(inputs).softmax(dim=1).detach()
    torch.testing.assert_close(torch.from_numpy(trainer.predict_proba(inputs)), expected)
    assert trainer.history_[-1]["noise_rate"] == pytest.approx(0.3, abs=0.1)


class Frozen(nn.Module):
    """A network that is all its own: nothing in it can draw new parameters."""

    def __init__(self, seed=0):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.weight = nn.Parameter(0.5 * torch.randn(2, 3, generator=generator))
        self.bias = nn.Parameter(torch.zeros(3))

    def forward(self, inputs):
        return inputs @ self.weight + self.bias


def test_two_networks_that_begin_alike_are_refused(fit):
    message = (
        "The 'model_factory' parameter of CoTeachingPlus must be a callable that returns a network "
        "with other parameters than the model's"
    )
    why = ", whose layers have no reset_parameters to draw new ones with. Got None instead."
    with pytest.raises(InvalidParameterError, match=f"^{re.escape(message + why)}$"):
        fit(Frozen())
    with pytest.raises(InvalidParameterError, match=f"^{re.escape(message)}. Got <class "):
        fit(Frozen(), CoTeachingPlus(model_factory=Frozen))


@pytest.mark.parametrize("wrap", [weight_norm, torch.nn.utils.spectral_norm])
def test_weights_that_are_made_of_others_are_not_drawn_anew(fit, make_net, wrap):
    """What weight_norm makes of them is overwritten, and not what it makes that of."""
    net = make_net()
    wrap(net[0])
    message = (
        "The 'model_factory' parameter of CoTeachingPlus must be a callable that returns a network "
        "with other parameters than the model's, as layers with a parametrization, such as "
        "weight_norm, draw none. Got None instead."
    )
    with pytest.raises(InvalidParameterError, match=f"^{re.escape(message)}$"):
        fit(net, epochs=1)
    net[0].requires_grad_(False)
    fit(net, epochs=1)


def make_second():
    return Frozen(seed=1)


def test_a_factory_gives_the_second_network(fit):
    trainer = fit(Frozen(), CoTeachingPlus(model_factory=make_second))
    second = trainer.engine_.models[1].module
    assert isinstance(second, Frozen)
    assert second is not trainer.model
    assert not torch.equal(second.weight, Frozen(seed=1).weight)
    assert trainer.history_[-1]["val_accuracy"] > 0.95


def test_a_second_network_itself_is_no_factory(fit):
    message = (
        "The 'model_factory' parameter of CoTeachingPlus must be a callable without arguments that "
        f"returns a model, such as a function. Got {Frozen} instead."
    )
    with pytest.raises(InvalidParameterError, match=f"^{re.escape(message)}$"):
        fit(Frozen(), CoTeachingPlus(model_factory=Frozen(seed=1)))


def test_a_second_network_in_eval_mode_is_trained_all_the_same(fit, make_net):
    """As pretrained ones come; without a step in train mode BatchNorm would see no sample."""
    correction = CoTeachingPlus(model_factory=lambda: make_net(seed=1).eval())
    trainer = fit(correction=correction, epochs=1)
    assert [int(m.module[1].num_batches_tracked) for m in trainer.engine_.models] == [30, 30]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"noise_rate": 1.0}, "a float in the range [0.0, 1.0)"),
        ({"noise_rate": "auto"}, "a float in the range [0.0, 1.0)"),
        ({"warmup": 1.5}, "a number of epochs (int >= 0) or a fraction of the run in [0.0, 1.0]"),
        ({"ramp": -1}, "a number of epochs (int >= 0) or a fraction of the run in [0.0, 1.0]"),
    ],
)
def test_parameters_out_of_range(settings, expected, make_context):
    ((name, value),) = settings.items()
    message = f"The {name!r} parameter of CoTeachingPlus must be {expected}. Got {value!r} instead."
    context = make_context(engine=SimpleNamespace(models=[None, None]))
    with pytest.raises(InvalidParameterError, match=f"^{re.escape(message)}$"):
        CoTeachingPlus(**settings).setup(context)


# -- what only several models meet --------------------------------------------------------------


def test_the_trainers_own_model_is_no_second_one(fit):
    net = Frozen()
    message = (
        "The 'model_factory' parameter of CoTeachingPlus must be a callable that returns a "
        "torch.nn.Module, another one than the trainer's. Got"
    )
    for factory in (lambda: net, lambda: "resnet"):
        with pytest.raises(InvalidParameterError, match=f"^{re.escape(message)}"):
            fit(net, CoTeachingPlus(model_factory=factory))
    with pytest.raises(InvalidParameterError, match=r"must be a callable that .*Got 3 instead\.$"):
        fit(correction=CoTeachingPlus(model_factory=3))


def test_a_second_network_that_trains_a_part_of_the_first_is_refused(fit):
    """A part that is not trained may be the same."""
    body = nn.Linear(2, 8)

    def make():
        return nn.Sequential(body, nn.ReLU(), nn.Linear(8, 3))

    message = (
        "The 'model_factory' parameter of CoTeachingPlus must be a callable that returns a network "
        "that trains no parameter of the model's. Got <function"
    )
    with pytest.raises(InvalidParameterError, match=f"^{re.escape(message)}"):
        fit(make(), CoTeachingPlus(model_factory=make), epochs=1)
    body.requires_grad_(False)
    first, second = fit(make(), CoTeachingPlus(model_factory=make), epochs=1).engine_.models
    assert first.module[0] is second.module[0]


def test_the_second_network_has_the_same_classes(fit):
    message = "All 2 models must return logits of one shape. Got (32, 3), (32, 4) instead."
    correction = CoTeachingPlus(model_factory=lambda: nn.Linear(2, 4))
    with pytest.raises(InvalidDataError, match=f"^{re.escape(message)}$"):
        fit(correction=correction)


def test_ready_optimizers_serve_one_model_alone(fit, make_net):
    net = make_net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    message = (
        "The 'optimizer' parameter of NoisyLabelTrainer must be a factory, as CoTeachingPlus "
        "trains 2 models. Got <class 'torch.optim.sgd.SGD'> instead."
    )
    with pytest.raises(InvalidParameterError, match=f"^{re.escape(message)}$"):
        fit(net, optimizer=optimizer)


def test_a_run_with_a_factory_is_resumed_by_another_one_of_that_name(fit, tmp_path):
    """Its address in memory is not the setting."""
    correction = CoTeachingPlus(model_factory=make_second)
    assert repr(correction).endswith("model_factory=<function make_second>)")

    class Stop(Callback):
        def on_epoch_end(self, trainer, record):
            if record["epoch"] == 2:
                trainer.request_stop()

    unbroken = fit(Frozen(), correction, epochs=4)
    fit(Frozen(), correction, epochs=4, checkpoint_dir=tmp_path, callbacks=[Stop()])
    resumed = fit(Frozen(7), correction, epochs=4, checkpoint_dir=tmp_path, resume=True)
    np.testing.assert_array_equal(resumed.losses_, unbroken.losses_)
    for ours, theirs in zip(resumed.engine_.models, unbroken.engine_.models, strict=True):
        for name, tensor in ours.state_dict().items():
            assert torch.equal(tensor, theirs.state_dict()[name]), name
