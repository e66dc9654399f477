"""Where forward and backward correction have T from: given, or estimated in the run."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lossnoise import NoisyLabelTrainer
from lossnoise.corrections import BackwardCorrection, CrossEntropy, ForwardCorrection
from lossnoise.exceptions import InvalidDataError, InvalidParameterError, LayoutWarning
from lossnoise.noise import estimate_transition
from lossnoise.training import Callback

both = pytest.mark.parametrize("method", [ForwardCorrection, BackwardCorrection])
T = [[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6]]
MATRIX = "a (3, 3) matrix of probabilities whose rows sum to 1"


class Engine:
    """Note what a correction asks of the engine."""

    model = None

    def __init__(self):
        self.calls = []

    def hold_schedules(self):
        self.calls.append("hold")

    def restart(self, num_epochs):
        self.calls.append(num_epochs)


# -- given --------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize(
    "given", [T, np.array(T), torch.tensor(T), torch.tensor(T).requires_grad_()]
)
def test_a_given_matrix_is_used_from_the_start(method, given, make_batch, make_context):
    engine = Engine()
    correction = method(transition=given, estimation=10)
    assert correction.transition_ is None
    for epoch in (1, 10):
        context = make_context(epoch=epoch, engine=engine)
        correction.setup(context)
        correction.begin_epoch(context)
        correction.end_epoch(context)
    assert correction.transition_.dtype == torch.float32
    np.testing.assert_allclose(correction.transition_, T, rtol=1e-6)
    assert engine.calls == []


@both
def test_rows_are_scaled_to_sum_to_1(method, make_context):
    correction = method(transition=np.array(T) * 1.0005)
    correction.setup(make_context())
    np.testing.assert_allclose(correction.transition_, T, rtol=1e-6)


COUNTS = "counts become probabilities divided by the sums of their rows"
BAD = [
    (T[:2], "an array of shape (2, 3) instead"),
    (np.eye(4), "an array of shape (4, 4) instead"),
    ([[0.8, 0.1, 0.2], *T[1:]], "a sum of 1.1 in row 0 (1 of 3 rows) instead"),
    ([T[0], [0.3, 0.3, 0.3], [0.5, 0.5, 0.1]], "a sum of 0.9 in row 1 (2 of 3 rows) instead"),
    ([[1.2, -0.1, -0.1], *T[1:]], "-0.1 in row 0 (1 of 3 rows) instead"),
    ([*T[:2], [float("nan"), 0.1, 0.1]], "nan in row 2 (1 of 3 rows) instead"),
    (30 * np.eye(3), f"a sum of 30 in row 0 (3 of 3 rows) instead: {COUNTS}"),
    ([[0.5, 0.5], [1.0]], "a list that is no array of numbers instead"),
    ("identity", "a str that is no array of numbers instead"),
    (0.2, "an array of shape () instead"),
]


@both
@pytest.mark.parametrize(("given", "got"), BAD)
def test_what_is_no_matrix_of_probabilities(method, given, got, make_context):
    message = f"The 'transition' parameter of {method.__name__} must be {MATRIX}. Got {got}."
    with pytest.raises(InvalidDataError, match=f"^{re.escape(message)}$"):
        method(transition=given).setup(make_context())


@both
@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("percentile", 0.0, "a float in the range (1.0, 100.0]"),
        ("percentile", 100.5, "a float in the range (1.0, 100.0]"),
        ("percentile", "97", "'auto' or a float in the range (1.0, 100.0]"),
        (
            "estimation",
            1.5,
            "a number of epochs (int >= 0) or a fraction of the run in [0.0, 1.0]",
        ),
        ("estimation", 10, "fewer than the 10 epochs of the run where no transition is given"),
        ("estimation", 1.0, "fewer than the 10 epochs of the run where no transition is given"),
    ],
)
def test_parameters_out_of_range(method, name, value, expected, make_context):
    message = (
        f"The {name!r} parameter of {method.__name__} must be {expected}. Got {value!r} instead."
    )
    with pytest.raises(InvalidParameterError, match=f"^{re.escape(message)}$"):
        method(**{name: value}).setup(make_context())


# -- estimated ----------------------------------------------------------------------------------


@both
def test_until_then_the_loss_is_cross_entropy(method, make_net, make_batch, make_context):
    correction = method()
    correction.setup(make_context(engine=Engine()))
    ours, plain = (
        each.loss(make_net(), make_batch(), make_context()) for each in (correction, CrossEntropy())
    )
    assert torch.equal(ours, plain)


@both
@pytest.mark.parametrize(("estimation", "last"), [(0.2, 2), (3, 3), (0, 1), (0.0, 1)])
@pytest.mark.parametrize("percentile", [90.0, 100.0, "auto"])
def test_it_is_estimated_from_predictions_and_the_run_starts_afresh(
    method, estimation, last, percentile, make_batch, make_context
):
    generator = torch.Generator().manual_seed(1)
    probs = (3.0 * torch.randn(96, 3, generator=generator)).softmax(dim=1)
    engine, correction = Engine(), method(estimation=estimation, percentile=percentile)

    def sweep(function):
        found = function(lambda inputs: probs.log().bfloat16(), make_batch(size=96))
        torch.testing.assert_close(found, probs.log().bfloat16().float().softmax(dim=1))
        return probs

    for epoch in range(1, last + 2):
        context = make_context(epoch=epoch, engine=engine, sweep=sweep)
        if epoch == 1:
            correction.setup(context)
        correction.begin_epoch(context)
        assert (correction.transition_ is None) == (epoch <= last)
        correction.end_epoch(context)
    assert engine.calls == ["hold"] * last + [10 - last]
    expected = estimate_transition(probs.numpy(), percentile=percentile)
    np.testing.assert_allclose(correction.transition_, expected, rtol=1e-6)


@both
def test_state_holds_the_estimate(method, make_batch, make_context):
    first, resumed = method(), method()
    for correction in (first, resumed):
        correction.setup(make_context(engine=Engine()))
    resumed.load_state_dict(first.state_dict())
    assert resumed.transition_ is None
    first.use(torch.tensor(T))
    resumed.load_state_dict(first.state_dict())
    model, batch = torch.nn.Linear(2, 3), make_batch()
    ours, theirs = (each.loss(model, batch, make_context()) for each in (first, resumed))
    assert torch.equal(ours, theirs)


def test_a_resumed_estimate_comes_to_the_training_device(make_context):
    """Checkpoints are read on the host, whatever the device of the run."""
    correction = ForwardCorrection()
    correction.setup(make_context(engine=Engine(), device=torch.device("meta")))
    correction.load_state_dict({"transition": torch.tensor(T)})
    assert correction.transition_.device.type == "meta"


class Watch(Callback):
    """Keep the weights and the learning rate with which each epoch begins."""

    def __init__(self):
        self.weights, self.rates = [], []

    def on_epoch_begin(self, trainer, epoch):
        self.weights.append(trainer.model[0].weight.detach().clone())
        self.rates.append(trainer.engine_.optimizers[0].param_groups[0]["lr"])


@both
def test_in_a_run_the_network_starts_afresh_and_the_matrix_is_found(method, make_net, make_data):
    """A third of the labels of each class became the next class."""
    watch = Watch()
    trainer = NoisyLabelTrainer(
        make_net(),
        correction=method(estimation=6),
        epochs=16,
        batch_size=32,
        device="cpu",
        random_state=0,
        callbacks=[watch],
    )
    trainer.fit(make_data(size=960), make_data(size=300, noise=0.0, seed=1))
    weights, rates = watch.weights, watch.rates
    assert not torch.equal(weights[5], weights[0])
    assert torch.equal(weights[6], weights[0])
    assert rates == pytest.approx([0.1] * 6 + [0.1] * 5 + [0.01] * 3 + [0.001] * 2)
    expected = 0.7 * np.eye(3) + 0.3 * np.roll(np.eye(3), 1, axis=1)
    np.testing.assert_allclose(trainer.correction_.transition_, expected, atol=0.12)
    assert trainer.history_[-1]["val_accuracy"] > 0.95


def test_a_given_matrix_needs_no_second_network(make_context):
    correction = ForwardCorrection(transition=T)
    correction.setup(make_context(engine=SimpleNamespace(model=None)))
    correction.begin_epoch(make_context(engine=SimpleNamespace(model=None)))


# -- against the labels ------------------------------------------------------------------------


def labels_by(transition, truth):
    """Draw given labels of true classes."""
    draws = np.random.default_rng(0).random(len(truth))
    return (draws[:, None] > np.cumsum(transition, axis=1)[truth]).sum(axis=1)


def finished(method, transition, make_context):
    correction = method(transition=transition)
    correction.setup(make_context())
    return correction


SHIFT = 0.6 * np.eye(3) + 0.4 * np.roll(np.eye(3), 1, axis=1)
TRUTH = np.arange(600) % 3


@both
@pytest.mark.parametrize("transition", [T, SHIFT, np.full((3, 3), 1 / 3)])
def test_a_matrix_that_fits_the_labels_is_not_questioned(method, transition, make_context):
    if method is BackwardCorrection and np.linalg.cond(transition) > 100:
        pytest.skip("refused")
    finished(method, transition, make_context).end_run(TRUTH, labels_by(transition, TRUTH))


@both
def test_a_transposed_matrix_is_told(method, make_context):
    """By it, a network that fits the labels predicts the class before the true one."""
    labels = labels_by(SHIFT, TRUTH)
    message = (
        f"^100% of the samples are in predicted classes whose most frequent given label is another "
        f"one than the transition matrix of {method.__name__} says. Its rows are true classes, its "
        "columns given labels: is it transposed, or of classes in another order. Or the model has "
        "not learned to tell them.$"
    )
    with pytest.warns(LayoutWarning, match=message):
        finished(method, SHIFT.T, make_context).end_run((TRUTH + 1) % 3, labels)


def test_an_estimate_is_not_questioned(make_context):
    correction = finished(ForwardCorrection, None, make_context)
    correction.use(torch.tensor(SHIFT.T))
    correction.end_run((TRUTH + 1) % 3, labels_by(SHIFT, TRUTH))
