"""skorch's own training loop, two epochs on the CPU, and every loss worked out by hand."""

import pickle

import numpy as np
import pytest
import torch
from torch import nn

from lossnoise import BetaMixtureNoiseDetector, audit
from lossnoise.exceptions import InvalidDataError

# What the framework warns of is not ours to mend.
pytestmark = pytest.mark.filterwarnings("ignore")

N, NUM_CLASSES = 22, 3  # in batches of four: five, and one of two


@pytest.fixture
def skorch(load):
    load("by_hand", "skorch")
    import skorch

    return skorch


@pytest.fixture
def by_hand(load):
    return load("by_hand").ByHand(LABELS)


LABELS = np.random.default_rng(0).integers(0, NUM_CLASSES, N)


def make_inputs():
    """Points whose first coordinate is the number of the sample."""
    inputs = np.random.default_rng(1).normal(size=(N, 3)).astype(np.float32)
    inputs[:, 0] = np.arange(N)
    return inputs


class Net(nn.Module):
    """Works out by hand what a recorder should record."""

    def __init__(self, by_hand=None, proba=False, size=N):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.2), nn.Linear(8, NUM_CLASSES))
        self.by_hand, self.proba, self.size, self.seen = by_hand, proba, size, 0

    def forward(self, inputs):
        logits = self.layers(inputs / torch.tensor([10.0, 1.0, 1.0]))
        if self.training:
            epoch = 1 + self.seen // self.size
            self.seen += len(inputs)
            self.by_hand.add(inputs[:, 0], logits, epoch)
        return logits.softmax(dim=1) if self.proba else logits


def make_net(skorch, by_hand, *, loss_fn=None, **settings):
    from lossnoise.integrations.skorch import SkorchLossRecorder

    torch.manual_seed(0)
    recorder = SkorchLossRecorder(loss_fn=loss_fn)
    defaults = {
        "criterion": nn.CrossEntropyLoss,
        "train_split": None,
        "iterator_train": recorder.loader,
        "iterator_train__shuffle": True,
        "max_epochs": 2,
    }
    net = skorch.NeuralNetClassifier(
        Net,
        module__by_hand=by_hand,
        batch_size=4,
        verbose=0,
        callbacks=[("recorder", recorder)],
        **defaults | settings,
    )
    return net, recorder


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"iterator_train__num_workers": 2},
        {"criterion": nn.NLLLoss, "module__proba": True},
        {"loss_fn": lambda logits, y: -logits.log_softmax(1)[torch.arange(len(y)), y]},
    ],
    ids=["plain", "workers", "probabilities", "own-loss"],
)
def test_every_loss_is_the_one_worked_out_by_hand(skorch, by_hand, settings):
    net, recorder = make_net(skorch, by_hand, **settings)
    net.fit(make_inputs(), LABELS)
    assert recorder.loss_history_.shape == (N, 2)
    assert by_hand.check(recorder.loss_history_) == 2 * N


def test_a_net_that_is_no_classifier_has_log_probabilities(skorch):
    from lossnoise.integrations.skorch import SkorchLossRecorder

    recorder, seen = SkorchLossRecorder(), {}

    class LogNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.Sequential(nn.Linear(3, NUM_CLASSES), nn.LogSoftmax(dim=1))

        def forward(self, inputs):
            log_proba = self.layers(inputs)
            for place, row in zip(inputs[:, 0].tolist(), log_proba.detach(), strict=True):
                seen[int(place)] = -row[LABELS[int(place)]].item()
            return log_proba

    net = skorch.NeuralNet(
        LogNet,
        criterion=nn.NLLLoss,
        train_split=None,
        iterator_train=recorder.loader,
        max_epochs=1,
        batch_size=4,
        verbose=0,
        callbacks=[recorder],
    )
    net.fit(make_inputs(), LABELS)
    np.testing.assert_allclose(recorder.losses_, [seen[i] for i in range(N)], atol=1e-5)


def test_a_part_that_fit_was_given_is_the_whole_of_it(skorch, by_hand):
    whole = torch.utils.data.TensorDataset(
        torch.from_numpy(make_inputs()), torch.from_numpy(LABELS)
    )
    net, recorder = make_net(skorch, by_hand, module__size=N - 10)
    net.fit(torch.utils.data.Subset(whole, list(range(10, N))), None)
    assert recorder.loss_history_.shape == (N - 10, 2)
    padded = np.vstack([np.full((10, 2), np.nan), recorder.loss_history_])
    assert by_hand.check(padded) == 2 * (N - 10)


def test_a_fit_loop_of_its_own_and_a_pickle_without_the_data(skorch, by_hand):
    net, recorder = make_net(skorch, by_hand)
    net.initialize().fit_loop(make_inputs(), LABELS)
    assert by_hand.check(recorder.loss_history_) == 2 * N
    net.partial_fit(make_inputs(), LABELS)
    assert make_inputs().tobytes() not in pickle.dumps(recorder)


def test_samples_of_a_last_batch_that_is_dropped_were_not_seen(skorch, by_hand):
    net, recorder = make_net(skorch, by_hand, iterator_train__drop_last=True, max_epochs=1)
    net.fit(make_inputs(), LABELS)
    assert by_hand.check(recorder.loss_history_) == 20


def test_held_out_samples_stay_nan(skorch, by_hand):
    split = skorch.dataset.ValidSplit(2)
    net, recorder = make_net(skorch, by_hand, train_split=split, max_epochs=1)
    net.fit(make_inputs(), LABELS)
    assert by_hand.check(recorder.loss_history_) == N // 2


def test_what_comes_of_the_losses(skorch, by_hand):
    net, recorder = make_net(skorch, by_hand)
    net.fit(make_inputs(), LABELS)
    detector = BetaMixtureNoiseDetector().fit(recorder.losses_)
    assert detector.predict_proba(recorder.losses_).shape == (N, 2)
    assert len(audit(LABELS, losses=recorder.losses_).table) == N


def test_fit_begins_anew_and_partial_fit_goes_on(skorch, by_hand):
    net, recorder = make_net(skorch, by_hand)
    net.fit(make_inputs(), LABELS)
    net.fit(make_inputs(), LABELS)
    assert recorder.loss_history_.shape == (N, 2)
    net.partial_fit(make_inputs(), LABELS)
    assert recorder.loss_history_.shape == (N, 4)


def test_a_net_with_a_recorder_can_be_cloned(skorch, by_hand):
    from sklearn.base import clone

    net, recorder = make_net(skorch, by_hand)
    copied = clone(net).set_params(module__by_hand=by_hand)
    copied.fit(make_inputs(), LABELS)
    own = dict(copied.callbacks)["recorder"]
    assert own is not recorder
    assert by_hand.check(own.loss_history_) == 2 * N
    with pytest.raises(ValueError, match=r"^This SkorchLossRecorder has recorded nothing yet"):
        _ = recorder.losses_


def test_a_net_without_the_loader_is_told(skorch, by_hand):
    net, _ = make_net(skorch, by_hand, iterator_train=torch.utils.data.DataLoader)
    message = (
        r"^SkorchLossRecorder found no indices in a batch\. Give the net its loader too: "
        r"iterator_train=recorder\.loader\.$"
    )
    with pytest.raises(InvalidDataError, match=message):
        net.fit(make_inputs(), LABELS)
