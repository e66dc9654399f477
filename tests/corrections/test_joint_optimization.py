"""Joint optimisation against numpy in float64, and its two stages in a run."""

import re
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, RandomSampler, WeightedRandomSampler

from lossnoise import NoisyLabelTrainer
from lossnoise.corrections import JointOptimization
from lossnoise.corrections.joint_optimization import mean_predictions
from lossnoise.corrections.losses import prediction_entropy, soft_cross_entropy
from lossnoise.exceptions import ClassPriorWarning, InvalidParameterError, SmallBatchWarning
from lossnoise.training import Callback

# Of the few samples of a batch, more than half have one label.
uneven = pytest.mark.filterwarnings("ignore:JointOptimization supposes")


class Engine:
    """Note what a correction asks of the engine."""

    model = None

    def __init__(self):
        self.calls = []

    def hold_schedules(self):
        self.calls.append("hold")

    def restart(self, num_epochs):
        self.calls.append(num_epochs)


@pytest.fixture
def begin(make_context):
    """A correction at the beginning of an epoch, and its context."""

    def make(correction, epoch=1, engine=None, **given):
        context = make_context(epoch=epoch, engine=engine or Engine(), **given)
        correction.setup(context)
        correction.begin_epoch(context)
        return context

    return make


def probabilities(size=96, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return (2.0 * torch.randn(size, 3, generator=generator)).softmax(dim=1)


# -- formulae -----------------------------------------------------------------------------------


def test_pure_losses_against_numpy(reference):
    logits, targets = (
        torch.randn(8, 3, generator=torch.Generator().manual_seed(0)),
        probabilities(8),
    )
    log_h = reference.log_softmax(logits.double().numpy())
    soft = soft_cross_entropy(logits.bfloat16(), targets)
    assert soft.dtype == prediction_entropy(logits.bfloat16()).dtype == torch.float32
    np.testing.assert_allclose(
        soft_cross_entropy(logits, targets), -(targets.numpy() * log_h).sum(axis=1), rtol=1e-5
    )
    np.testing.assert_allclose(
        prediction_entropy(logits), -(np.exp(log_h) * log_h).sum(axis=1), rtol=1e-5
    )


def test_a_certain_prediction_has_no_entropy_and_a_finite_gradient():
    logits = torch.tensor([[200.0, 0.0, -200.0]], requires_grad=True)
    entropy = prediction_entropy(logits)
    entropy.sum().backward()
    assert entropy.item() == 0.0
    assert torch.equal(logits.grad, torch.zeros(1, 3))


@pytest.mark.parametrize(
    ("settings", "alpha", "beta"),
    [
        ({}, 1.2, 0.8),
        ({"class_balance": 0.8, "entropy": 0.4}, 0.8, 0.4),
        ({"class_balance": 0.0, "entropy": 0.0}, 0.0, 0.0),
    ],
)
@pytest.mark.parametrize("prior", ["uniform", [0.5, 0.3, 0.2]])
def test_loss_of_the_first_stage_against_numpy(
    settings, alpha, beta, prior, make_batch, begin, reference
):
    model, batch, soft = torch.nn.Linear(2, 3), make_batch(), probabilities()
    correction = JointOptimization(class_prior=prior, **settings)
    context = begin(correction)
    log_h = reference.log_probs(model, batch.inputs.double().numpy())
    p = None if prior == "uniform" else prior
    terms = alpha * reference.divergence(log_h, p) - beta * (np.exp(log_h) * log_h).sum(axis=1)
    given = -log_h[np.arange(12), batch.labels] + terms
    losses = correction.loss(model, batch, context)
    assert losses.dtype == torch.float32
    np.testing.assert_allclose(losses.detach(), given, rtol=1e-5)
    correction.load_state_dict({"soft_labels": soft, "kept": ()})
    found = -(soft[batch.indices].numpy() * log_h).sum(axis=1) + terms
    np.testing.assert_allclose(correction.loss(model, batch, context).detach(), found, rtol=1e-5)


def test_loss_of_the_second_stage_is_the_cross_entropy_with_the_labels_found(
    make_batch, begin, reference
):
    model, batch, soft = torch.nn.Linear(2, 3), make_batch(), probabilities()
    correction = JointOptimization()
    context = begin(correction, epoch=7)
    correction.load_state_dict({"soft_labels": soft, "kept": ()})
    log_h = reference.log_probs(model, batch.inputs.double().numpy())
    expected = -(soft[batch.indices].numpy() * log_h).sum(axis=1)
    losses = correction.loss(model, batch, context)
    np.testing.assert_allclose(losses.detach(), expected, rtol=1e-5)


def test_the_mean_is_over_the_epochs_that_saw_a_sample():
    first, second, before = probabilities(5, 1), probabilities(5, 2), probabilities(5, 3)
    first[3:], second[[0, 4]] = 0.0, 0.0
    expected = np.stack([first[0], *((first[1:3] + second[1:3]) / 2.0), second[3], before[4]])
    np.testing.assert_allclose(mean_predictions((first, second), before), expected, rtol=1e-6)
    assert torch.equal(mean_predictions((first, second))[4], torch.zeros(3))


# -- labels by index ----------------------------------------------------------------------------


@uneven
@pytest.mark.parametrize(("warmup", "first"), [(0, 1), (1, 1), (3, 3), (0.4, 4)])
@pytest.mark.parametrize("average", [1, 2, 10])
def test_labels_become_the_mean_of_the_last_predictions(
    warmup, first, average, make_batch, make_context
):
    """Against a list of every epoch's softmax, for a model that changes and batches in disorder."""
    correction = JointOptimization(warmup=warmup, first_stage=6, average=average)
    correction.setup(make_context(engine=Engine()))
    predicted = []
    for epoch in range(1, 6):
        context = make_context(epoch=epoch, engine=Engine())
        probs = probabilities(seed=epoch)
        correction.begin_epoch(context)
        for part in torch.randperm(96).split(12):
            batch = make_batch(seed=epoch)
            batch = type(batch)(batch.inputs, batch.labels, part)
            correction.loss(lambda _, part=part, probs=probs: probs[part].log(), batch, context)
        correction.end_epoch(context)
        predicted.append(probs.double().numpy())
        if epoch < first:
            assert correction.soft_labels_ is None
            continue
        expected = np.mean(predicted[-average:], axis=0)
        np.testing.assert_allclose(correction.soft_labels_, expected, rtol=1e-5, atol=1e-7)


@uneven
def test_samples_that_were_never_seen_keep_their_given_label(make_batch, make_context, reference):
    model, correction = torch.nn.Linear(2, 3), JointOptimization(warmup=1, entropy=0.0)
    context = make_context(engine=Engine(), num_samples=13)
    correction.setup(context)
    correction.begin_epoch(context)
    correction.loss(model, make_batch(), context)  # samples 0 to 11 of 13
    correction.end_epoch(context)
    batch = make_batch()
    batch = type(batch)(batch.inputs, batch.labels, torch.full((12,), 12))
    context = make_context(engine=Engine(), epoch=7)
    correction.begin_epoch(context)
    log_h = reference.log_probs(model, batch.inputs.double().numpy())
    losses = correction.loss(model, batch, context).detach()
    np.testing.assert_allclose(losses, -log_h[np.arange(12), batch.labels], rtol=1e-5)


def test_processes_share_their_predictions(make_batch, make_context):
    """Each sees a part; a sample that both saw counts by its mean, and each epoch alike."""
    correction, batch = JointOptimization(warmup=1, class_balance=0.0), make_batch(8)
    correction.setup(make_context(engine=Engine(), num_samples=12))
    expected = torch.zeros(12, 3)
    for epoch, alone in ((1, 5), (2, 7)):  # how many the other process does not see
        own, others = probabilities(12, epoch), probabilities(12, epoch + 2)
        others[:alone] = 0.0
        context = make_context(
            epoch=epoch,
            engine=Engine(),
            num_samples=12,
            all_mean=lambda tensor, others=others: (tensor + others) / 2.0,
            shard=(0, 2),
        )
        correction.begin_epoch(context)
        correction.loss(lambda _, own=own: own[:8].log(), batch, context)
        correction.end_epoch(context)
        both = (own[alone:8] + others[alone:8]) / 2.0
        expected += torch.cat([own[:alone], both, others[8:]]) / 2.0
    torch.testing.assert_close(correction.soft_labels_, expected)


@uneven
def test_no_gradient_flows_through_what_is_kept(make_batch, begin):
    model, correction = torch.nn.Linear(2, 3), JointOptimization(warmup=1)
    context = begin(correction)
    correction.loss(model, make_batch(), context)
    correction.end_epoch(context)
    assert not correction.soft_labels_.requires_grad


def test_losses_against_the_given_labels_are_recorded(make_net, make_batch, begin):
    for epoch in (1, 7):
        recorded, correction = [], JointOptimization()
        context = begin(correction, epoch, record=lambda *pair: recorded.append(pair))  # noqa: B023  # called at once
        model, batch = make_net().eval(), make_batch()
        correction.loss(model, batch, context)
        ((indices, losses),) = recorded
        plain = torch.nn.functional.cross_entropy(
            model(batch.inputs), batch.labels, reduction="none"
        )
        assert torch.equal(indices, batch.indices)
        torch.testing.assert_close(losses, plain.detach())
        assert not losses.requires_grad


# -- stages -------------------------------------------------------------------------------------


@uneven
@pytest.mark.parametrize(("first_stage", "last"), [(0.625, 6), (4, 4), (0, 1), (9, 9)])
def test_after_the_first_stage_it_starts_afresh_and_labels_stay(
    first_stage, last, make_batch, make_context
):
    engine, found = Engine(), []
    correction = JointOptimization(warmup=1, first_stage=first_stage)
    correction.setup(make_context(engine=engine))
    for epoch in range(1, 11):
        context = make_context(epoch=epoch, engine=engine)
        correction.begin_epoch(context)
        correction.loss(torch.nn.Linear(2, 3), make_batch(), context)
        correction.end_epoch(context)
        found.append(correction.soft_labels_)
    assert engine.calls == ["hold"] * last + [10 - last]
    assert all(later is found[last - 1] for later in found[last:])


class Watch(Callback):
    """Keep the weights and the learning rate with which each epoch begins."""

    def __init__(self):
        self.weights, self.rates = [], []

    def on_epoch_begin(self, trainer, epoch):
        self.weights.append(trainer.model[0].weight.detach().clone())
        self.rates.append(trainer.engine_.optimizers[0].param_groups[0]["lr"])


@pytest.fixture
def fitted(make_net, make_data):
    """A run on three groups of points, a third of whose labels became the next class."""

    def make(data=None, **settings):
        watch = Watch()
        trainer = NoisyLabelTrainer(
            make_net(),
            correction=JointOptimization(**settings),
            epochs=16,
            batch_size=32,
            device="cpu",
            random_state=0,
            callbacks=[watch],
        )
        data = make_data(size=960) if data is None else data
        return trainer.fit(data, make_data(size=300, noise=0.0, seed=1)), watch

    return make


def test_in_a_run_the_true_labels_are_found(fitted, make_data):
    trainer, watch = fitted(warmup=4, first_stage=8)
    assert not torch.equal(watch.weights[7], watch.weights[0])
    assert torch.equal(watch.weights[8], watch.weights[0])
    assert watch.rates == pytest.approx([0.1] * 8 + [0.1] * 4 + [0.01] * 3 + [0.001])
    found = trainer.correction_.soft_labels_
    clean, given = torch.arange(960) % 3, make_data(size=960).tensors[1]
    assert (found.argmax(dim=1) == clean).float().mean() > 0.98
    own = 1.0 - found[torch.arange(960), given].numpy()
    assert own[clean != given].min() > own[clean == given].max() - 0.5
    assert trainer.history_[-1]["val_accuracy"] > 0.97
    wrong = (clean != given).numpy()
    assert trainer.losses_[wrong].mean() > 3.0 * trainer.losses_[~wrong].mean()


def test_a_loader_that_leaves_samples_out_trains(fitted, make_data):
    data = make_data(size=960)
    loader = DataLoader(data, 32, sampler=RandomSampler(data, num_samples=320), drop_last=True)
    trainer, _ = fitted(loader, warmup=1, first_stage=2)
    rows = trainer.correction_.soft_labels_.sum(dim=1)
    assert set(rows.round(decimals=4).tolist()) == {0.0, 1.0}
    assert trainer.history_[-1]["val_accuracy"] > 0.9


# -- state and errors ---------------------------------------------------------------------------


def test_state_comes_to_the_training_device(make_context):
    """Checkpoints are read on the host, whatever the device of the run."""
    correction = JointOptimization()
    correction.setup(make_context(engine=Engine(), device=torch.device("meta")))
    correction.load_state_dict({"soft_labels": probabilities(), "kept": [probabilities()]})
    assert correction.soft_labels_.device.type == "meta"
    (kept,) = correction.state_dict()["kept"]
    assert kept.device.type == "meta"


EPOCHS = "a number of epochs (int >= 0) or a fraction of the run in [0.0, 1.0]"
FIRST = "the 6 epochs of the first stage (first_stage=0.625)"


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"warmup": -1}, EPOCHS),
        ({"first_stage": 1.5}, EPOCHS),
        ({"first_stage": 10}, "fewer than the 10 epochs of the run"),
        ({"first_stage": 1.0}, "fewer than the 10 epochs of the run"),
        ({"warmup": 7}, f"at most {FIRST}, and is 7 epochs of this run"),
        ({"warmup": 0.7}, f"at most {FIRST}, and is 7 epochs of this run"),
        ({"average": 0}, "an int in the range [1, inf)"),
        ({"average": 0.5}, "an int in the range [1, inf)"),
        ({"entropy": -0.1}, "a float in the range [0.0, inf)"),
        ({"class_balance": "none"}, "'auto' or a float >= 0"),
        ({"class_prior": "even"}, "one of 'labels', 'uniform'"),
    ],
)
def test_parameters_out_of_range(settings, expected, make_context):
    ((name, value),) = settings.items()
    message = (
        f"The {name!r} parameter of JointOptimization must be {expected}. Got {value!r} instead."
    )
    with pytest.raises(InvalidParameterError, match=f"^{re.escape(message)}$"):
        JointOptimization(**settings).setup(make_context(engine=SimpleNamespace(model=None)))


def test_one_epoch_has_no_two_stages(make_context):
    message = (
        "The 'epochs' parameter of NoisyLabelTrainer must be at least 2 for JointOptimization, "
        "which has two stages. Got 1 instead."
    )
    with pytest.raises(InvalidParameterError, match=f"^{re.escape(message)}$"):
        JointOptimization().setup(make_context(num_epochs=1))


def test_small_batches_are_not_balanced_unless_asked_for(make_batch, begin):
    message = (
        "Batches of 5 samples are too small to balance 3 classes: the class-balance term of "
        "JointOptimization is off. Use batch_size >= 6, or set class_balance=1.2 to have it."
    )
    model, batch, losses = torch.nn.Linear(2, 3), make_batch(5), []
    with pytest.warns(SmallBatchWarning, match=f"^{re.escape(message)}$"):
        begin(JointOptimization(), batch_size=5)
    for weight in ("auto", 0.0, 1.2):
        correction = JointOptimization(class_balance=weight)
        context = begin(correction, batch_size=12)
        losses.append(correction.loss(model, batch, context))
    assert torch.equal(losses[0], losses[1])
    assert not torch.allclose(losses[0], losses[2])


# -- imbalanced classes -------------------------------------------------------------------------


@pytest.fixture
def train_on(make_net, make_uneven):
    """Train on so many samples of each class."""

    def run(counts, batch_size=16, **given):
        trainer = NoisyLabelTrainer(
            make_net(),
            correction=JointOptimization(warmup=1, first_stage=2, **given),
            epochs=3,
            batch_size=batch_size,
            device="cpu",
            random_state=0,
        )
        return trainer.fit(make_uneven(counts))

    return run


def test_a_uniform_prior_for_uneven_labels_is_warned_of(train_on):
    message = (
        "JointOptimization supposes that all classes are alike frequent (class_prior='uniform'). "
        "The given labels are not: the share of a class is 0.1 to 0.75. Right labels of frequent "
        "classes may be taken for wrong ones: use correction=JointOptimization(class_prior="
        "'labels'), at some cost to rare classes whose labels are right, or pass the frequencies "
        "of the true labels there, if you know them."
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        train_on((60, 12, 8))
    assert [str(w.message) for w in caught if w.category is ClassPriorWarning] == [message]


@pytest.mark.parametrize(
    ("counts", "given"),
    [
        ((60, 12, 8), {"class_prior": "labels"}),
        ((60, 12, 8), {"class_prior": [0.75, 0.15, 0.1]}),
        ((60, 12, 8), {"class_balance": 0.0}),
        ((40, 30, 20), {}),
    ],
)
def test_other_priors_and_nearly_even_labels_are_not(train_on, counts, given):
    train_on(counts, **given)  # warnings are errors here


def test_even_batches_of_uneven_labels_are_told(make_uneven, make_net):
    data = make_uneven((60, 12, 8))
    weights = 1.0 / data.tensors[1].bincount()[data.tensors[1]]
    sampler = WeightedRandomSampler(weights, 80, generator=torch.Generator().manual_seed(0))
    trainer = NoisyLabelTrainer(
        make_net(),
        correction=JointOptimization(warmup=1, class_prior="labels"),
        epochs=3,
        device="cpu",
        random_state=0,
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer.fit(DataLoader(data, batch_size=16, sampler=sampler))
    (message,) = (str(w.message) for w in caught if w.category is ClassPriorWarning)
    assert message.startswith("JointOptimization takes the classes to be as frequent as in the giv")


def test_a_term_that_is_off_needs_no_prior(train_on):
    with pytest.warns(SmallBatchWarning):  # and no other
        train_on((60, 12, 8), batch_size=4)
