"""The engine: steps, restart, snapshot and rollback, several models."""

from contextlib import nullcontext
from itertools import pairwise

import pytest
import torch
from torch.optim.lr_scheduler import ExponentialLR, LinearLR

from lossnoise.corrections._logits import user_model
from lossnoise.training._engine import (
    Precision,
    TrainingEngine,
    _fresh_copy,
    default_scheduler,
    unchanged_where,
)


@pytest.fixture
def make_engine(make_net):
    def make(**given):
        settings = {
            "num_models": 1,
            "optimizer": None,
            "scheduler": None,
            "device": torch.device("cpu"),
            "precision": Precision("float32"),
            "num_epochs": 6,
            "keep_initial": True,
        }
        return TrainingEngine(make_net(), **(settings | given))

    return make


def train(engine, steps=3, epochs=1):
    inputs = torch.randn(8, 2, generator=torch.Generator().manual_seed(0))
    for _ in range(epochs):
        for _ in range(steps):
            for index, model in enumerate(engine.models):
                engine.step(model(inputs).square().mean(), index)
        engine.step_schedules()


def rate(engine, index=0):
    return engine.optimizers[index].param_groups[0]["lr"]


def flat(state):
    """Return every leaf of nested dicts and lists, with its path; tensors are copied."""
    if isinstance(state, dict):
        pairs = state.items()
    elif isinstance(state, (list, tuple)):
        pairs = enumerate(state)
    else:
        return {(): state.clone() if isinstance(state, torch.Tensor) else state}
    return {(key, *path): leaf for key, part in pairs for path, leaf in flat(part).items()}


def assert_equal(first, second):
    assert first.keys() == second.keys()
    for path, leaf in first.items():
        if isinstance(leaf, torch.Tensor):
            assert torch.equal(leaf, second[path]), path
        else:
            assert leaf == second[path], path


def rates_of_a_run(engine, num_epochs):
    rates = []
    for _ in range(num_epochs):
        rates.append(rate(engine))
        train(engine, steps=1)
    return rates


def test_the_learning_rate_is_that_of_the_first_parameters(make_engine):
    engine = make_engine()
    engine.optimizers[0].param_groups[0]["lr"] = torch.tensor(0.25)
    assert engine.learning_rate == 0.25
    engine.optimizers[0].param_groups[0]["lr"] = None  # of optimizers that find their own
    assert engine.learning_rate == 0.0


def test_restart_gives_initial_weights_and_optimizers(make_engine):
    engine = make_engine(optimizer=torch.optim.Adam)
    initial = flat(engine.state_dict())
    train(engine, epochs=4)
    assert not torch.equal(user_model(engine.model)[0].weight, initial["models", 0, "0.weight"])
    assert engine.optimizers[0].state_dict()["state"]
    engine.restart(6)
    engine.begin_epoch(1)
    assert_equal(flat(engine.state_dict()), initial)


def test_a_restart_waits_for_the_next_epoch_also_in_a_checkpoint(make_engine):
    engine, other = make_engine(), make_engine()
    train(engine, epochs=2)
    trained = flat(engine.state_dict()["models"])
    engine.restart(6)
    assert_equal(flat(engine.state_dict()["models"]), trained)
    other.load_state_dict(engine.snapshot())
    assert_equal(flat(other.state_dict()["models"]), trained)
    for either in (engine, other):
        either.begin_epoch(1)
        assert_equal(
            flat(either.state_dict()["models"]), flat(make_engine().state_dict()["models"])
        )
        assert rates_of_a_run(either, 6) == rates_of_a_run(make_engine(), 6)


def test_restart_gives_a_schedule_of_the_new_length(make_engine):
    engine = make_engine()
    train(engine, epochs=5)
    engine.restart(3)
    engine.begin_epoch(1)
    assert rates_of_a_run(engine, 3) == rates_of_a_run(make_engine(num_epochs=3), 3)


def test_restart_makes_a_new_schedule_from_a_factory(make_engine):
    engine = make_engine(scheduler=lambda optimizer: ExponentialLR(optimizer, 0.5))
    first = rates_of_a_run(engine, 3)
    engine.restart(3)
    engine.begin_epoch(1)
    assert rates_of_a_run(engine, 3) == first
    assert first == pytest.approx([first[0], first[0] / 2, first[0] / 4])


def test_restart_rewinds_a_ready_schedule(make_engine, make_net):
    model = make_net()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    scheduler = ExponentialLR(optimizer, 0.5)
    engine = TrainingEngine(
        model,
        num_models=1,
        optimizer=optimizer,
        scheduler=scheduler,
        device=torch.device("cpu"),
        precision=Precision("float32"),
        num_epochs=3,
        keep_initial=True,
    )
    assert engine.optimizers == [optimizer]
    assert engine.schedulers == [scheduler]
    assert rates_of_a_run(engine, 3) == [1.0, 0.5, 0.25]
    engine.restart(3)
    engine.begin_epoch(1)
    assert rates_of_a_run(engine, 3) == [1.0, 0.5, 0.25]


def test_only_a_correction_that_says_so_can_restart(make_engine):
    with pytest.raises(RuntimeError, match="needs_restart = True"):
        make_engine(keep_initial=False).restart(3)


def test_two_restarts_are_alike(make_engine):
    engine, outcomes = make_engine(optimizer=torch.optim.Adam), []
    for _ in range(2):
        train(engine, epochs=3)
        outcomes.append(flat(engine.state_dict()))
        engine.restart(6)
        engine.begin_epoch(1)
    assert_equal(*outcomes)


@pytest.mark.parametrize("optimizer", [torch.optim.Adam, None])
def test_rollback_goes_back_to_a_snapshot_as_often_as_wanted(make_engine, optimizer):
    engine = make_engine(optimizer=optimizer)
    train(engine, epochs=2)
    snapshot = engine.snapshot()
    kept = flat(snapshot)
    futures = []
    for _ in range(2):
        train(engine, epochs=3)
        futures.append(flat(engine.state_dict()))
        assert_equal(flat(snapshot), kept)  # training must not reach into it
        engine.rollback(snapshot)
        engine.begin_epoch(1)
        assert_equal(flat(engine.state_dict()), kept)
    assert_equal(*futures)


def test_held_schedules_stay_until_a_restart(make_engine):
    engine = make_engine(scheduler=lambda optimizer: ExponentialLR(optimizer, 0.5))
    start = rate(engine)
    engine.hold_schedules()
    train(engine, epochs=3)
    assert rate(engine) == start
    other = make_engine(scheduler=lambda optimizer: ExponentialLR(optimizer, 0.5))
    other.load_state_dict(engine.snapshot())
    train(other)
    assert rate(other) == start
    engine.restart(3)
    engine.begin_epoch(1)
    train(engine)
    assert rate(engine) == start / 2


def test_a_schedule_that_warms_up_does_so_once_more_after_a_restart(make_engine):
    """It scales the rate as soon as it is made: what is scaled must be the first one."""
    engine = make_engine(scheduler=lambda optimizer: LinearLR(optimizer, 0.1, 1.0, 3))
    assert rate(engine) == pytest.approx(0.01)
    train(engine, epochs=3)
    assert rate(engine) == pytest.approx(0.1)
    engine.restart(3)
    engine.begin_epoch(1)
    assert rate(engine) == pytest.approx(0.01)


def test_two_models_are_independent(make_engine):
    engine = make_engine(num_models=2)
    first, second = engine.models
    assert engine.model is first
    own, other = user_model(first), user_model(second)
    assert not torch.equal(own[0].weight, other[0].weight)
    assert torch.equal(other[1].running_mean, torch.zeros(16))
    before = {name: tensor.clone() for name, tensor in other.state_dict().items()}
    engine.step(first(torch.randn(8, 2)).square().mean(), 0)
    for name, tensor in other.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    engine.step(second(torch.randn(8, 2)).square().mean(), 1)
    assert not torch.equal(other[0].weight, before["0.weight"])
    assert len(engine.optimizers) == len(engine.schedulers) == 2


def test_attention_draws_new_parameters_in_the_second_model():
    """It has torch's own `_reset_parameters`, and no public one."""
    attention = torch.nn.MultiheadAttention(8, 2)
    second = _fresh_copy(attention)
    assert not torch.equal(second.in_proj_weight, attention.in_proj_weight)
    assert not torch.equal(second.out_proj.weight, attention.out_proj.weight)


@pytest.mark.parametrize("affine", [True, False])
def test_frozen_layers_are_the_same_in_the_second_model(make_net, affine):
    """A pretrained body that is not trained would be lost without a trace."""
    net = make_net()
    net[1] = torch.nn.BatchNorm1d(16, affine=affine)
    net(torch.randn(8, 2))
    net[:3].requires_grad_(False).eval()
    second = _fresh_copy(net)
    for name, tensor in second.state_dict().items():
        assert torch.equal(tensor, net.state_dict()[name]) == (not name.startswith("4.")), name
    assert not any(p.requires_grad for p in second[:3].parameters())


def test_both_models_restart_and_step_their_schedules(make_engine):
    engine = make_engine(num_models=2, scheduler=lambda optimizer: ExponentialLR(optimizer, 0.5))
    initial, start = flat(engine.state_dict()), rate(engine)
    train(engine, epochs=2)
    assert rate(engine, 0) == rate(engine, 1) == start / 4
    engine.restart(6)
    engine.begin_epoch(1)
    assert_equal(flat(engine.state_dict()), initial)


@pytest.mark.parametrize(
    ("precision", "dtype"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)]
)
def test_autocast(make_engine, precision, dtype):
    engine = make_engine(precision=Precision(precision))
    inputs = torch.ones(4, 2)
    for context, expected in ((engine.autocast(), dtype), (nullcontext(), torch.float32)):
        with context:
            assert engine.model(inputs).dtype == expected


@pytest.mark.parametrize("num_epochs", [1, 2, 3, 60, 300])
def test_the_default_schedule_only_falls_and_is_positive(num_epochs):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    scheduler = default_scheduler(optimizer, num_epochs)
    rates = []
    for _ in range(num_epochs):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates[0] == 0.1
    assert all(0.0 < later <= earlier for earlier, later in pairwise(rates))
    assert rates[-1] < 0.1 or num_epochs < 3


OPTIMIZERS = [
    None,
    lambda parameters: torch.optim.SGD(parameters, 0.1),
    lambda parameters: torch.optim.AdamW(parameters, 0.1, amsgrad=True),
]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("steps_before", [0, 2])
def test_a_skipped_step_changes_nothing(make_engine, optimizer, steps_before):
    engine = make_engine(optimizer=optimizer)
    for _ in range(steps_before):
        engine.step(engine.model(torch.randn(8, 2)).square().mean())
    loss = engine.model(torch.randn(8, 2)).square().mean()
    before = flat(engine.state_dict())
    engine.step(loss, skip=torch.tensor(True))
    assert_equal(flat(engine.state_dict()), before)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_step_that_is_not_skipped_is_a_step(make_engine, optimizer):
    first, second = (make_engine(optimizer=optimizer) for _ in range(2))
    inputs = torch.randn(8, 2)
    first.step(first.model(inputs).square().mean())
    second.step(second.model(inputs).square().mean(), skip=torch.tensor(False))
    assert_equal(flat(first.state_dict()), flat(second.state_dict()))


def updates(engine, skip, steps=3):
    """Make steps without a look at the device, as on CUDA; return parameters and state."""
    optimizer = engine.optimizers[0]
    for _ in range(steps):
        engine.model(torch.ones(4, 2)).square().mean().backward()
        with unchanged_where(torch.tensor(skip), optimizer):
            optimizer.step()
    state = optimizer.state_dict()["state"]
    return [*engine.model.parameters()], [v for v in flat(state).values() if v is not None]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_steps_are_undone_without_a_look_at_the_device(make_engine, optimizer):
    parameters, state = updates(make_engine(optimizer=optimizer), skip=True)
    for parameter, initial in zip(parameters, make_engine().model.parameters(), strict=True):
        assert torch.equal(parameter, initial)
    assert not any(tensor.any() for tensor in state)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_steps_are_kept_without_a_look_at_the_device(make_engine, optimizer):
    plain, engine = make_engine(optimizer=optimizer), make_engine(optimizer=optimizer)
    for _ in range(3):
        plain.model(torch.ones(4, 2)).square().mean().backward()
        plain.optimizers[0].step()
    parameters, _ = updates(engine, skip=False)
    assert_equal(flat(list(plain.model.parameters())), flat(parameters))
