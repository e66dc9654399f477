"""MentorNet, predefined and learnt: against numpy in float64, and on a small network."""

import copy
import re

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

from lossnoise import NoisyLabelTrainer
from lossnoise.corrections import CrossEntropy, MentorNetDD, MentorNetPD
from lossnoise.corrections._mentor import moving_percentile
from lossnoise.corrections._mentor_network import Lesson, Mentor, fit_mentor
from lossnoise.corrections.mentornet_pd import predefined_curriculum
from lossnoise.exceptions import InvalidDataError, InvalidParameterError
from lossnoise.training._engine import Precision, TrainingEngine

NO_DROPOUT = {"dropout": (0.0, 0.0)}


def given_losses(reference, model, batch):
    rows = np.arange(len(batch.labels))
    return -reference.log_probs(model, batch.inputs.double().numpy())[rows, batch.labels]


# -- what both share ------------------------------------------------------------------------------


@pytest.mark.parametrize("percentile", [0.0, 30.0, 75.0, 100.0])
@pytest.mark.parametrize("before", [None, 0.4])
def test_moving_percentile_against_numpy(percentile, before):
    losses = torch.rand(17, generator=torch.Generator().manual_seed(0))
    expected = np.percentile(losses.double().numpy(), percentile)
    if before is not None:
        expected = 0.9 * before + 0.1 * expected
        before = torch.tensor(before)
    found = moving_percentile(losses, before, percentile, 0.9)
    assert found.shape == ()
    assert float(found) == pytest.approx(expected, rel=1e-6)


def test_percentile_of_several_processes_is_their_mean(make_batch, make_context):
    correction, model = MentorNetPD(**NO_DROPOUT), torch.nn.Linear(2, 3)
    correction.loss(model, make_batch(), make_context(all_mean=lambda tensor: tensor + 1.0))
    alone = MentorNetPD(**NO_DROPOUT)
    alone.loss(model, make_batch(), make_context())
    assert correction.state_dict()["average"] == alone.state_dict()["average"] + 1.0


@pytest.mark.parametrize(("epoch", "rate"), [(1, 0.5), (2, 0.5), (3, 0.05), (10, 0.05)])
def test_dropout_of_samples(make_batch, make_context, epoch, rate):
    model, batch = torch.nn.Linear(2, 3), make_batch(4000)
    correction = MentorNetPD(warmup=10)
    losses = correction.loss(model, batch, make_context(epoch=epoch)).detach()
    plain = CrossEntropy().loss(model, batch, make_context()).detach()
    dropped = losses == 0.0
    assert float(dropped.float().mean()) == pytest.approx(rate, abs=0.03)
    assert torch.equal(losses[~dropped], plain[~dropped])


def test_warm_up_is_cross_entropy_and_losses_are_recorded(make_batch, make_context):
    model, batch, recorded = torch.nn.Linear(2, 3), make_batch(), []
    context = make_context(epoch=2, record=lambda *pair: recorded.append(pair))
    losses = MentorNetPD(warmup=2, **NO_DROPOUT).loss(model, batch, context)
    plain = CrossEntropy().loss(model, batch, make_context())
    assert torch.equal(losses, plain)
    ((indices, kept),) = recorded
    assert torch.equal(indices, batch.indices)
    assert torch.equal(kept, plain.detach())
    assert not kept.requires_grad


@pytest.mark.parametrize("kind", [MentorNetPD, MentorNetDD])
@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("percentile", 0.75, "a float in the range (1.0, 100.0]"),
        ("decay", 1.0, "a float in the range [0.0, 1.0)"),
        (
            "warmup",
            1.5,
            "a number of epochs (int >= 0) or a fraction of the run in [0.0, 1.0]",
        ),
        ("dropout", 0.5, "two floats in the range [0.0, 1.0)"),
        ("dropout", (0.5, 1.0), "two floats in the range [0.0, 1.0)"),
        ("dropout", (0.5, "no"), "two floats in the range [0.0, 1.0)"),
        (
            "dropout_until",
            -1,
            "a number of epochs (int >= 0) or a fraction of the run in [0.0, 1.0]",
        ),
    ],
)
def test_parameters_out_of_range(make_context, kind, name, value, expected):
    message = f"The {name!r} parameter of {kind.__name__} must be {expected}. Got {value!r} instead"
    with pytest.raises(InvalidParameterError, match=f"^{re.escape(message)}"):
        kind(**{name: value}).setup(make_context())


@pytest.mark.parametrize(
    ("correction", "message"),
    [
        (
            MentorNetPD(gamma=0.0),
            "The 'gamma' parameter of MentorNetPD must be a float in the range (0.0, inf). Got 0.0",
        ),
        (
            MentorNetPD(hard_until=2.0),
            "The 'hard_until' parameter of MentorNetPD must be a number of epochs (int >= 0) or a "
            "fraction of the run in [0.0, 1.0]. Got 2.0",
        ),
        (
            MentorNetDD(steps=0),
            "The 'steps' parameter of MentorNetDD must be an int in the range [1, inf). Got 0",
        ),
    ],
)
def test_own_parameters_out_of_range(make_context, correction, message):
    with pytest.raises(InvalidParameterError, match=f"^{re.escape(message)}"):
        correction.setup(make_context())


# -- predefined -----------------------------------------------------------------------------------


@pytest.mark.parametrize("gamma", [None, 0.5, 2.0])
def test_curriculum_against_numpy(gamma):
    diffs = torch.linspace(-2.0, 3.0, 51)
    d = diffs.double().numpy()
    expected = d <= 0.0 if gamma is None else np.clip(1.0 - d / gamma, 0.0, 1.0)
    np.testing.assert_allclose(predefined_curriculum(diffs, gamma), expected, atol=1e-6)


@pytest.mark.parametrize(("epoch", "stage"), [(2, "all"), (3, "hard"), (9, "hard"), (10, "soft")])
def test_predefined_loss_against_numpy(make_batch, make_context, reference, epoch, stage):
    """Two batches: the percentile of the first still counts in the second."""
    model, correction = torch.nn.Linear(2, 3), MentorNetPD(gamma=0.7, **NO_DROPOUT)
    context = make_context(epoch=epoch)
    correction.setup(context)
    average = None
    for seed in (0, 1):
        batch = make_batch(seed=seed)
        own = given_losses(reference, model, batch)
        now = np.quantile(own, 0.75)
        average = now if average is None else 0.5 * average + 0.5 * now
        diffs = own - average
        v = {"all": np.ones(12), "hard": diffs <= 0, "soft": np.clip(1 - diffs / 0.7, 0, 1)}[stage]
        losses = correction.loss(model, batch, context)
        np.testing.assert_allclose(losses.detach(), v * own, rtol=1e-5, atol=1e-6)
    expected = torch.autograd.grad(losses.sum(), model.weight, retain_graph=True)
    fixed = torch.as_tensor(v, dtype=torch.float32) * CrossEntropy().loss(model, batch, context)
    torch.testing.assert_close(expected, torch.autograd.grad(fixed.sum(), model.weight))


def test_weights_of_an_epoch_are_shown(make_batch, make_context):
    model, batch = torch.nn.Linear(2, 3), make_batch()
    correction, context = MentorNetPD(warmup=0, percentile=50.0), make_context(num_samples=20)
    assert correction.sample_weights_ is None
    correction.begin_epoch(context)
    correction.loss(model, batch, context)
    correction.loss(model, batch, context)  # seen twice: by its mean
    correction.end_epoch(context)
    shown = correction.sample_weights_
    assert sorted(shown[:12].tolist()) == [0.0] * 6 + [1.0] * 6
    assert shown[12:].isnan().all()
    resumed = MentorNetPD()
    resumed.load_state_dict(correction.state_dict())
    assert torch.equal(resumed.sample_weights_[:12], shown[:12])


def test_weights_are_those_of_all_processes(make_batch, make_context):
    """Another one saw the first two samples, one of them beside this one, with a weight of 0."""
    correction, context = MentorNetPD(warmup=10, **NO_DROPOUT), make_context(num_samples=14)
    correction.begin_epoch(context)
    batch = make_batch()
    batch = type(batch)(batch.inputs, batch.labels, batch.indices + 1)
    correction.loss(torch.nn.Linear(2, 3), batch, context)
    others = iter((torch.zeros(14), (torch.arange(14) < 2).float()))  # sums, and how often
    context.all_mean = lambda own: (own + next(others)) / 2.0
    correction.end_epoch(context)
    shown = correction.sample_weights_
    assert shown[:13].tolist() == [0.0, 0.5] + [1.0] * 11
    assert shown[13].isnan()


# -- learnt ---------------------------------------------------------------------------------------


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def test_mentor_against_an_lstm_and_numpy():
    """One step of torch's own bidirectional LSTM with the same weights; the rest by hand."""
    mentor = Mentor(3, torch.Generator().manual_seed(0))
    lstm = torch.nn.LSTM(2, 10, bidirectional=True, batch_first=True)
    weight, bias = (p.detach().reshape(3, 2, 10, -1) for p in mentor.reader.parameters())
    for index, suffix in enumerate(("", "_reverse")):
        gate, out, cell = 0, 1, 2
        for name, part in (("weight", weight), ("bias", bias)):
            forget = torch.zeros_like(part[0, index])
            parts = [part[gate, index], forget, part[cell, index], part[out, index]]
            value = torch.cat(parts).reshape(getattr(lstm, f"{name}_ih_l0{suffix}").shape)
            getattr(lstm, f"{name}_ih_l0{suffix}").data = value
        getattr(lstm, f"bias_hh_l0{suffix}").data.zero_()
    generator = torch.Generator().manual_seed(1)
    losses, diffs = torch.rand(2, 6, generator=generator)
    labels, parts = torch.arange(6) % 3, torch.arange(6)
    read, _ = lstm(torch.stack([losses, diffs], dim=1)[:, None])
    state = {name: value.double().numpy() for name, value in mentor.state_dict().items()}
    label, part = state["label.weight"][labels], state["part.weight"][parts]
    seen = np.concatenate([read[:, 0].detach(), label, part], axis=1)
    hidden = np.tanh(seen @ state["hidden.weight"].T + state["hidden.bias"])
    expected = hidden @ state["answer.weight"][0] + state["answer.bias"]
    assert (label.shape, part.shape, hidden.shape) == ((6, 2), (6, 5), (6, 20))
    found = mentor(losses, diffs, labels, parts).detach()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def make_lesson(n=300, seed=0):
    generator = torch.Generator().manual_seed(seed)
    right = (torch.rand(n, generator=generator) < 0.6).float()
    losses = torch.rand(n, generator=generator) + 2.0 * (1.0 - right)
    return Lesson(losses, losses - 1.0, torch.arange(n) % 3, torch.full((n,), 4), right)


def test_mentor_learns_what_is_right():
    generator = torch.Generator().manual_seed(0)
    mentor, lesson = Mentor(3, generator), make_lesson()
    fit_mentor(mentor, lesson, lesson, 100, generator)
    new = make_lesson(seed=1)
    answers = mentor(*new[:-1]).sigmoid()
    assert ((answers > 0.5) == (new.right > 0.5)).float().mean() > 0.98


def test_mentor_learns_this_epoch_as_well_as_the_past():
    """What is right has changed: the epochs are told apart by the part of the run."""
    past, present = (
        make_lesson()._replace(parts=torch.full((300,), part), right=torch.full((300,), right))
        for part, right in ((4, 0.0), (5, 1.0))
    )
    mentor = Mentor(3, torch.Generator().manual_seed(0))
    fit_mentor(mentor, past, present, 100, torch.Generator().manual_seed(0))
    assert (mentor(*past[:-1]) < 0.0).all()
    assert (mentor(*present[:-1]) > 0.0).all()


@pytest.fixture
def start(make_net, make_context):
    """A learnt mentor that is set up, with its engine and a context of the second epoch."""

    def make(clean, **settings):
        correction = MentorNetDD(clean_set=clean, **(NO_DROPOUT | settings))
        engine = TrainingEngine(
            make_net(),
            num_models=1,
            optimizer=None,
            scheduler=None,
            device=torch.device("cpu"),
            precision=Precision(),
            num_epochs=10,
        )
        context = make_context(epoch=2, engine=engine, noise_rate=0.4)
        correction.setup(context)
        correction.load_state_dict(correction.state_dict() | {"average": torch.tensor(0.8)})
        return correction, context

    return make


def past_of(correction):
    return Lesson(*correction.state_dict()["past"])


def test_lesson_of_a_set_with_given_labels(start, make_data, make_batch):
    """Losses as in a training step, and v* = 1[given == true]; the network is left as it was."""
    inputs, given = make_data(24, 0.4).tensors
    true = torch.arange(24) % 3
    correction, context = start(TensorDataset(inputs, given, true))
    net = copy.deepcopy(context.engine.model.module)
    correction.begin_epoch(context)
    lesson = past_of(correction)
    for own, other in zip(
        context.engine.model.state_dict().values(), net.state_dict().values(), strict=True
    ):
        assert torch.equal(own, other)
    assert lesson.parts.tolist() == [10] * 24  # the second epoch of ten
    torch.testing.assert_close(lesson.diffs, lesson.losses - 0.8)
    assert sorted(lesson.labels.tolist()) == sorted(given.tolist())
    assert lesson.right.sum() == (given == true).sum()
    order = np.random.default_rng(0)
    order.integers(2**31)  # the mentor's first weights
    rows = order.permutation(24)
    assert torch.equal(lesson.labels, given[rows])
    assert torch.equal(lesson.right, (given == true)[rows].float())
    logits = torch.cat([net(inputs[rows[:12]]), net(inputs[rows[12:]])])
    expected = torch.nn.functional.cross_entropy(logits, given[rows], reduction="none")
    torch.testing.assert_close(lesson.losses, expected.detach())


def test_losses_of_a_lesson_are_the_mean_of_all_processes(start, make_data):
    """Each process has a dropout of its own, and all must teach the same."""
    losses = []
    for shift in (0.0, 1.0):
        inputs, given = make_data(24, 0.4).tensors
        correction, context = start(TensorDataset(inputs, given, torch.arange(24) % 3))
        context.all_mean = lambda own, s=shift: own + s if own.shape == (24,) else own
        correction.begin_epoch(context)
        lesson = past_of(correction)
        torch.testing.assert_close(lesson.diffs, lesson.losses - 0.8)
        losses.append(lesson.losses)
    torch.testing.assert_close(losses[1], losses[0] + 1.0)


@pytest.mark.parametrize("given", [None, "true"])
@pytest.mark.parametrize(("rate", "wrong"), [(0.4, 12), (0.0, 2), (1.0, 28)])
def test_noise_of_the_detectors_rate_where_all_labels_are_right(
    start, make_data, given, rate, wrong
):
    inputs, true = make_data(30, 0.0).tensors
    data = TensorDataset(inputs, *([true] if given else []), true)
    correction, context = start(data, warmup=2)
    context.noise_rate = rate
    for epoch in (2, 3):
        context.epoch = epoch
        correction.begin_epoch(context)
        now = Lesson(*(column[-30:] for column in past_of(correction)))
        assert int((1.0 - now.right).sum()) == wrong
    lesson = past_of(correction)
    assert len(lesson.losses) == 60
    assert lesson.parts.tolist() == [10] * 30 + [20] * 30
    assert not torch.equal(lesson.right[:30], lesson.right[30:])  # drawn anew


def test_the_student_learns_the_copy_from_the_end_of_the_warm_up_on(start, make_data):
    """With one batch, no dropout and the mentor's v, against a step by hand; labels then stay."""
    inputs, true = make_data(20, 0.0).tensors
    correction, context = start(TensorDataset(inputs, true), warmup=2)
    context.batch_size = 20
    own, redrawn = context.engine.model.module, []
    for epoch in (2, 3, 4):
        before = copy.deepcopy(own)
        context.epoch = epoch
        correction.begin_epoch(context)
        lesson = Lesson(*(column[-20:] for column in past_of(correction)))
        redrawn.append(correction.state_dict()["redrawn"])
        if epoch == 3:
            mentor = Mentor(3, torch.Generator())
            mentor.load_state_dict(correction.state_dict()["mentor"])
            v = mentor(*lesson[:-1]).sigmoid().detach()
            order = [
                int((before_of(before, inputs, redrawn[1]) - x).abs().argmin()) for x in lesson[0]
            ]
            losses = torch.nn.functional.cross_entropy(
                before(inputs[order]), redrawn[1][order], reduction="none"
            )
            (v * losses).mean().backward()
            rate = context.engine.optimizers[0].param_groups[0]["lr"]
            expected = before[4].weight - rate * (before[4].weight.grad + 1e-4 * before[4].weight)
            torch.testing.assert_close(own[4].weight, expected)
        assert torch.equal(own[4].weight, before[4].weight) == (epoch == 2)
    assert not torch.equal(redrawn[0], redrawn[1])
    assert torch.equal(redrawn[1], redrawn[2])


def test_samples_of_the_copy_are_dropped_as_those_of_the_training_set(
    start, make_data, monkeypatch
):
    """Where all of them are, the one step does no more than decay the weights."""
    monkeypatch.setattr(MentorNetDD, "_drawn", lambda self, size, context: torch.zeros(size))
    correction, context = start(make_data(20, 0.0), warmup=1)
    own = context.engine.model.module
    before = copy.deepcopy(own)
    correction.begin_epoch(context)
    rate = context.engine.optimizers[0].param_groups[0]["lr"]
    expected = before[4].weight - rate * 1e-4 * before[4].weight
    torch.testing.assert_close(own[4].weight, expected, rtol=1e-6, atol=0.0)


def before_of(net, inputs, labels):
    """Losses in train mode, in the order of the set."""
    return torch.nn.functional.cross_entropy(
        copy.deepcopy(net)(inputs), labels, reduction="none"
    ).detach()


def test_a_set_with_given_labels_is_not_learnt(start, make_data):
    inputs, given = make_data(24, 0.4).tensors
    correction, context = start(TensorDataset(inputs, given, torch.arange(24) % 3), warmup=0)
    before = copy.deepcopy(context.engine.model.state_dict())
    correction.begin_epoch(context)
    for name, tensor in context.engine.model.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_without_a_noise_rate_or_losses_there_is_no_lesson(start, make_data, make_batch):
    correction, context = start(make_data(30, 0.0))
    context.noise_rate = None
    correction.begin_epoch(context)
    assert correction.state_dict()["past"] is None
    batch, context.epoch = make_batch(), 9
    losses = correction.loss(context.engine.model, batch, context)
    plain = CrossEntropy().loss(context.engine.model, batch, context)
    torch.testing.assert_close(losses, plain)


def test_the_mentors_answer_weighs_the_loss(start, make_data, make_batch):
    correction, context = start(make_data(30, 0.0), warmup=1, decay=0.0)
    correction.begin_epoch(context)
    batch, model = make_batch(), context.engine.model
    losses = correction.loss(model, batch, context)
    plain = CrossEntropy().loss(model, batch, context).detach()
    mentor = Mentor(3, torch.Generator())
    mentor.load_state_dict(correction.state_dict()["mentor"])
    diffs = plain - torch.quantile(plain, 0.75)
    v = mentor(plain, diffs, batch.labels, torch.full((12,), 10)).sigmoid().detach()
    torch.testing.assert_close(losses.detach(), v * plain)
    correction.end_epoch(context)
    torch.testing.assert_close(correction.sample_weights_[:12], v)


def test_a_set_with_labels_out_of_range(make_context):
    data = TensorDataset(torch.randn(4, 2), torch.tensor([0, 1, 2, 3]))
    with pytest.raises(InvalidDataError, match=r"^The labels of MentorNetDD's clean_set must be"):
        MentorNetDD(clean_set=data).setup(make_context())


@pytest.mark.parametrize("known", ["true", "both"])
def test_mentors_tell_wrong_labels_from_right_ones(make_net, make_data, known):
    data, clean = make_data(240, 0.4), make_data(60, 0.0, seed=5)
    if known == "both":
        inputs, given = make_data(60, 0.4, seed=5).tensors
        clean = TensorDataset(inputs, given, clean.tensors[1])
    trainer = NoisyLabelTrainer(
        make_net(),
        correction=MentorNetDD(clean_set=clean, warmup=2),
        epochs=8,
        batch_size=32,
        device="cpu",
        random_state=0,
    ).fit(data)
    wrong = data.tensors[1] != torch.arange(240) % 3
    weights = trainer.correction_.sample_weights_
    assert weights[wrong].mean() < 0.3 * weights[~wrong].mean()
