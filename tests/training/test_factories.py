"""Factories of optimizers and schedules: what they are given, and what they may return."""

import re
import warnings

import numpy as np
import pytest
import torch
from torch.optim.lr_scheduler import (
    ConstantLR,
    CosineAnnealingLR,
    LambdaLR,
    LinearLR,
    MultiStepLR,
    OneCycleLR,
    SequentialLR,
    StepLR,
)

from lossnoise import cross_val_losses
from lossnoise.corrections import ForwardCorrection
from lossnoise.exceptions import InvalidDataError, InvalidParameterError, ScheduleWarning
from lossnoise.training import Callback
from lossnoise.training._checks import EXAMPLES


class Rates(Callback):
    def __init__(self):
        self.rates = []

    def on_epoch_begin(self, trainer, epoch):
        self.rates.append(trainer.engine_.optimizers[0].param_groups[0]["lr"])


def test_a_factory_may_read_the_parameters_twice(build, make_data, make_net):
    """As the usual groups with and without weight decay do."""

    def groups(parameters):
        weights = [p for p in parameters if p.ndim > 1]
        others = [p for p in parameters if p.ndim <= 1]
        return torch.optim.SGD([{"params": weights, "weight_decay": 0.1}, {"params": others}], 0.1)

    trained = build(make_net(), optimizer=groups).fit(make_data()).model
    for name in ("0.weight", "1.bias", "4.weight", "4.bias"):
        assert not torch.equal(trained.get_parameter(name), make_net().get_parameter(name)), name


def of_another_model(parameters):
    return torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.1)


OF_THE_MODEL = (
    "an optimizer of the model's parameters (a copy of the trainer has a copy of the model): a "
    "factory is given those to train"
)


@pytest.mark.parametrize(
    ("factory", "expected", "got"),
    [
        (
            lambda parameters: None,
            f"a factory that returns an Optimizer, such as {EXAMPLES['optimizer']}",
            type(None),
        ),
        (of_another_model, OF_THE_MODEL, torch.optim.SGD),
        (torch.optim.LBFGS, "an optimizer that steps without a closure", torch.optim.LBFGS),
    ],
)
def test_optimizers_that_cannot_train_the_model(build, make_data, factory, expected, got):
    message = f"The 'optimizer' parameter of NoisyLabelTrainer must be {expected}. Got {got} inst"
    with pytest.raises(InvalidParameterError, match=f"^{re.escape(message)}"):
        build(optimizer=factory).fit(make_data())


def test_a_ready_optimizer_that_needs_a_closure_is_refused(build, make_data, make_net):
    """Also where a schedule has wrapped its step."""
    model = make_net()
    optimizer = torch.optim.LBFGS(model.parameters())
    settings = {"optimizer": optimizer, "scheduler": StepLR(optimizer, 1)}
    with pytest.raises(InvalidParameterError, match="must be an optimizer that steps without a cl"):
        build(model, **settings).fit(make_data())


@pytest.mark.parametrize(
    ("factory", "expected", "got"),
    [
        (
            lambda optimizer: None,
            f"a factory that returns a schedule, such as {EXAMPLES['scheduler']}",
            type(None),
        ),
        (
            lambda optimizer: StepLR(of_another_model(()), 1),
            "a factory, or a ready schedule of the optimizer that is given beside it",
            StepLR,
        ),
    ],
)
def test_schedules_that_cannot_be_stepped(build, make_data, factory, expected, got):
    message = f"The 'scheduler' parameter of NoisyLabelTrainer must be {expected}. Got {got} inst"
    with pytest.raises(InvalidParameterError, match=f"^{re.escape(message)}"):
        build(scheduler=factory).fit(make_data())


class Delegating:
    """A schedule around another one, as some libraries make them."""

    def __init__(self, inner, *, by_attribute):
        self.inner = inner
        if by_attribute:
            self.step = inner.step

    def __getattr__(self, name):
        return getattr(self.__dict__["inner"], name)


@pytest.mark.parametrize("by_attribute", [True, False])
def test_a_schedule_may_pass_its_steps_on(build, make_data, by_attribute):
    rates = Rates()
    build(
        epochs=3,
        scheduler=lambda o: Delegating(StepLR(o, 1), by_attribute=by_attribute),
        callbacks=[rates],
    ).fit(make_data())
    assert rates.rates == pytest.approx([0.1, 0.01, 0.001])


def one_cycle(steps):
    return lambda optimizer: OneCycleLR(optimizer, max_lr=0.1, total_steps=steps)


def test_a_schedule_must_last_as_long_as_the_run(build, make_data, make_net):
    message = (
        "The 'scheduler' parameter of NoisyLabelTrainer must be a schedule for {} epochs more: it "
        "is stepped once an epoch. Got one of {} steps, of which {} are done, instead."
    )
    with pytest.raises(InvalidDataError) as error:
        build(epochs=5, scheduler=one_cycle(4)).fit(make_data())
    assert str(error.value) == message.format(5, 4, 0)
    model = make_net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    schedule = OneCycleLR(optimizer, max_lr=0.1, total_steps=5)
    trainer = build(model, epochs=3, optimizer=optimizer, scheduler=schedule).fit(make_data())
    with pytest.raises(InvalidDataError) as error:
        trainer.fit(make_data())
    assert str(error.value) == message.format(3, 5, 3)


ADVICE = (
    "Give it the epochs of the run, or step it in the on_batch_end of a callback, with "
    "scheduler=lambda optimizer: torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0) for "
    "the trainer, which then leaves the rate alone."
)


@pytest.mark.parametrize(
    "scheduler",
    [
        one_cycle(15),
        lambda o: CosineAnnealingLR(o, T_max=15),
        lambda o: LinearLR(o, total_iters=15),
        lambda o: SequentialLR(o, [LinearLR(o), CosineAnnealingLR(o, T_max=15)], [2]),
    ],
)
@pytest.mark.filterwarnings("ignore:The epoch parameter in:UserWarning")  # PyTorch 2.4's own
def test_a_schedule_for_batches_is_told(build, make_data, scheduler):
    with pytest.warns(ScheduleWarning) as warned:
        build(epochs=5, scheduler=scheduler).fit(make_data())
    assert [str(w.message) for w in warned if w.category is ScheduleWarning] == [
        "The schedule is made for 15 steps, and this run makes 5, one an epoch: most of it is left "
        f"out. {ADVICE}"
    ]


def test_a_warm_up_over_batches_is_told(build, make_data):
    """As Hugging Face's schedules have it: functions of the step."""
    with pytest.warns(ScheduleWarning) as warned:
        build(epochs=5, scheduler=lambda o: LambdaLR(o, lambda step: min(1.0, step / 100))).fit(
            make_data()
        )
    assert [str(w.message) for w in warned if w.category is ScheduleWarning] == [
        "The learning rate rises from 0 to 0.001 in the first of 5 epochs, too slowly for the "
        f"optimizer's 0.1: the schedule looks made for batches. {ADVICE}"
    ]


class Stateful:
    """A factor that it keeps: it may be asked once a step."""

    factor = 1.0 / 0.7

    def __call__(self, epoch):
        self.factor *= 0.7
        return self.factor


def test_a_function_is_asked_once_an_epoch(build, make_data):
    trainer = build(epochs=3, scheduler=lambda o: LambdaLR(o, Stateful())).fit(make_data())
    rates = [record["learning_rate"] for record in trainer.history_]
    assert rates == pytest.approx([0.1, 0.07, 0.049])


def test_a_schedule_that_turns_in_a_second_run_is_told(build, make_data, make_net):
    model = make_net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    schedule = CosineAnnealingLR(optimizer, T_max=4)
    trainer = build(model, epochs=3, optimizer=optimizer, scheduler=schedule).fit(make_data())
    with pytest.warns(ScheduleWarning) as warned:
        trainer.fit(make_data())
    assert [str(w.message) for w in warned if w.category is ScheduleWarning] == [
        "The schedule has made 3 of its 4 steps, and this run makes 3 more: the learning rate "
        f"rises again. {ADVICE}"
    ]


class StepEachBatch(Callback):
    def __init__(self, schedule):
        self.schedule = schedule

    def on_batch_end(self, trainer, batch, num_batches):
        self.schedule.step()


@pytest.mark.parametrize("own", ["the default", "the same", "constant", "another"])
def test_a_schedule_that_a_callback_steps_must_be_the_only_one(build, make_data, make_net, own):
    model = make_net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    by_batch = StepLR(optimizer, 10, gamma=0.5)
    given = {
        "the default": None,
        "the same": by_batch,
        "constant": lambda optimizer: ConstantLR(optimizer, factor=1.0),
        "another": lambda optimizer: StepLR(optimizer, 1),
    }[own]
    settings = {"optimizer": optimizer, "scheduler": given, "callbacks": [StepEachBatch(by_batch)]}
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        build(model, epochs=3, **settings).fit(make_data())
    expected = (
        "The learning rate changes within an epoch, and the trainer's schedule changes it after "
        "each epoch as well. Step a schedule in the on_batch_end of a callback, with "
        "scheduler=lambda optimizer: torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0) "
        "for the trainer, which then leaves the rate alone."
    )
    found = [str(w.message) for w in told if w.category is ScheduleWarning]
    assert found == [expected] * (own in ("the default", "the same"))


@pytest.mark.parametrize("schedule", [CosineAnnealingLR, StepLR])
def test_a_schedule_without_its_arguments_is_refused(build, make_data, schedule):
    expected = "must be a factory such as lambda optimizer: torch.optim.lr_scheduler.StepLR"
    with pytest.raises(InvalidParameterError, match=expected):
        build(scheduler=schedule).fit(make_data())


@pytest.mark.parametrize(
    "scheduler",
    [
        one_cycle(5),
        one_cycle(14),
        LinearLR,
        lambda o: CosineAnnealingLR(o, T_max=5),
        lambda o: LambdaLR(o, lambda step: step / 20),
        lambda o: LambdaLR(o, lambda step: 0.05 * 0.9**step),
    ],
)
def test_other_schedules_are_used_in_silence(build, make_data, scheduler):
    build(epochs=5, scheduler=scheduler).fit(make_data())


class WithTotal(Delegating):
    total_steps = 5

    def __getattr__(self, name):
        if name == "last_epoch":
            raise AttributeError(name)
        return super().__getattr__(name)


def test_a_schedule_of_another_kind_may_know_its_length_alone(build, make_data):
    build(epochs=3, scheduler=lambda o: WithTotal(StepLR(o, 1), by_attribute=True)).fit(make_data())


def test_a_factory_must_use_what_it_is_given(build, make_data, make_net):
    """A second model, or the copy for a fold, would not be trained without a word."""
    model = make_net()
    settings = {"optimizer": lambda _: torch.optim.SGD(model.parameters(), lr=0.1)}
    message = re.escape(OF_THE_MODEL)
    with pytest.raises(InvalidParameterError, match=message):
        build(model, correction="co-teaching-plus", **settings).fit(make_data())
    with pytest.raises(InvalidParameterError, match=message):
        cross_val_losses(build(model, **settings), make_data(), cv=2)
    build(model, **settings).fit(make_data())


def test_a_restart_rewinds_a_ready_schedule_with_its_rate(build, make_data, make_net):
    """A schedule that multiplies the present rate would go on from a wrong one."""
    model, rates = make_net(), Rates()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    build(
        model,
        correction=ForwardCorrection(estimation=2),
        epochs=6,
        optimizer=optimizer,
        scheduler=LinearLR(optimizer, start_factor=0.1, total_iters=3),
        callbacks=[rates],
    ).fit(make_data())
    np.testing.assert_allclose(rates.rates, [0.01, 0.01, 0.01, 0.04, 0.07, 0.1])


def test_a_restart_begins_with_the_rate_that_a_ready_optimizer_came_with(
    build, make_data, make_net
):
    """Which an earlier schedule has lowered."""
    model, rates = make_net(), Rates()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    settings = {"optimizer": optimizer, "epochs": 4}
    build(model, scheduler=lambda o: MultiStepLR(o, [1, 2]), **settings).fit(make_data())
    correction = ForwardCorrection(estimation=2)
    build(model, correction=correction, callbacks=[rates], **settings).fit(make_data())
    np.testing.assert_allclose(rates.rates, [0.001, 0.001, 0.001, 0.0001])
