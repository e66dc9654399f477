"""What would cost a run, or its meaning: said at once, or at its end, and not left to be found."""

import re

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from lossnoise.audit import AuditReport
from lossnoise.corrections import CrossEntropy
from lossnoise.corrections.losses import cross_entropy
from lossnoise.exceptions import (
    InvalidDataError,
    InvalidParameterError,
    LayoutWarning,
    NoSeparableNoiseWarning,
    ScheduleWarning,
)
from lossnoise.training import BestModel, Callback, EarlyStopping
from lossnoise.training._seen import are_batch_means


@pytest.fixture(autouse=True)
def seeded():
    """Models begin with the same weights, whatever ran before."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        yield


class Stop(Callback):
    def on_epoch_end(self, trainer, record):
        if record["epoch"] == 2:
            trainer.request_stop()


class Batches(Callback):
    """Counts from the beginning of a run, as one that knows nothing of resuming does."""

    def on_train_begin(self, trainer):
        self.number = 0

    def on_batch_end(self, trainer, batch, num_batches):
        self.number += 1

    def state_dict(self):
        return {"number": self.number}

    def load_state_dict(self, state):
        self.number = state["number"]


def two_blobs(num_samples=200, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(num_samples) % 2
    inputs = torch.randn(num_samples, 2, generator=generator) + 4.0 * labels[:, None]
    return inputs, labels


# -- callbacks -------------------------------------------------------------------------------------


def test_a_callback_that_sets_up_its_count_at_the_beginning_goes_on(build, make_data, tmp_path):
    settings = {"epochs": 5, "checkpoint_dir": tmp_path, "correction": "cross-entropy"}
    build(callbacks=[Batches(), Stop()], **settings).fit(make_data())
    batches = Batches()
    build(callbacks=[batches], **settings).fit(make_data(), resume=True)
    whole = Batches()
    build(correction="cross-entropy", epochs=5, callbacks=[whole]).fit(make_data())
    assert batches.number == whole.number


@pytest.mark.parametrize("kind", [EarlyStopping, BestModel])
def test_what_was_watched_is_watched_again(build, make_data, tmp_path, kind):
    settings = {"epochs": 3, "checkpoint_dir": tmp_path, "correction": "cross-entropy"}
    build(callbacks=[kind("train_loss"), Stop()], **settings).fit(make_data(), make_data())
    expected = (
        f"The 'monitor' parameter of {kind.__name__} must be 'train_loss', as in the run that is "
        "resumed. Got 'val_loss' instead."
    )
    with pytest.raises(InvalidParameterError, match=f"^{re.escape(expected)}$"):
        build(callbacks=[kind("val_loss")], **settings).fit(make_data(), make_data(), resume=True)


def test_a_run_that_stops_in_its_warm_up_says_so(build, make_data):
    stopping = EarlyStopping("train_loss", patience=1, min_delta=100.0)
    expected = (
        "EarlyStopping ended the run after epoch 2, before the warm-up of MDyrH was over: it "
        "trained like its warm-up. Give EarlyStopping a longer patience, or the method a shorter "
        "warmup."
    )
    with pytest.warns(ScheduleWarning, match=f"^{re.escape(expected)}$"):
        build(epochs=12, callbacks=[stopping]).fit(make_data())


@pytest.mark.parametrize("correction", ["co-teaching-plus", "mentornet-pd", "open-set", "d2l"])
def test_methods_say_after_how_many_epochs_they_begin(build, make_data, correction):
    stopping = EarlyStopping("train_loss", patience=1, min_delta=100.0)
    with pytest.warns(ScheduleWarning, match="before the warm-up of .* was over"):
        build(correction=correction, epochs=40, callbacks=[stopping]).fit(make_data())


def test_a_correction_may_have_any_attributes(build, make_data):
    class Mine(CrossEntropy):
        warmup_epochs = 2

    stopping = EarlyStopping("train_loss", patience=1, min_delta=100.0)
    trainer = build(correction=Mine(), epochs=9, callbacks=[stopping]).fit(make_data())
    assert len(trainer.history_) == 2


def test_a_stop_goes_by_the_state_and_not_by_the_history(build, make_data, tmp_path):
    """The history, read with other settings, would have ended the run."""
    settings = {"epochs": 4, "checkpoint_dir": tmp_path, "correction": "cross-entropy"}
    build(callbacks=[EarlyStopping("train_loss", patience=1), Stop()], **settings).fit(make_data())
    stopping = EarlyStopping("train_loss", patience=2, min_delta=100.0)
    trainer = build(callbacks=[stopping], **settings).fit(make_data(), resume=True)
    assert len(trainer.history_) == 4


def test_callbacks_take_the_state_of_the_one_that_watched_the_same(build, make_data, tmp_path):
    data, val = make_data(), make_data(seed=1)
    settings = {"epochs": 3, "checkpoint_dir": tmp_path, "correction": "cross-entropy"}
    first = [EarlyStopping("val_loss", 9), EarlyStopping("train_loss", 9), Stop()]
    build(callbacks=first, **settings).fit(data, val)
    other = [EarlyStopping("val_accuracy", 9), EarlyStopping("train_loss", 9, mode="min")]
    with pytest.raises(InvalidParameterError, match="must be 'val_loss', as in the run"):
        build(callbacks=other, **settings).fit(data, val, resume=True)
    resumed = build(callbacks=other[1:], **settings).fit(data, val, resume=True)
    losses = [record["train_loss"] for record in resumed.history_]
    assert other[1].best_value_ == min(losses)


def test_two_keepers_of_models_are_told_apart_in_any_order(build, make_data, tmp_path):
    data, val = make_data(), make_data(seed=1)
    settings = {"epochs": 3, "checkpoint_dir": tmp_path, "correction": "cross-entropy"}
    first = [BestModel("val_loss"), BestModel("train_loss"), Stop()]
    build(callbacks=first, **settings).fit(data, val)
    keepers = {name: BestModel(name) for name in ("train_loss", "val_loss")}
    resumed = build(callbacks=list(keepers.values()), **settings).fit(data, val, resume=True)
    for name, keeper in keepers.items():
        assert keeper.best_value_ == min(record[name] for record in resumed.history_)


def test_the_learning_rate_is_in_the_history(build, make_data):
    trainer = build(
        correction="cross-entropy",
        epochs=4,
        optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.5),
        scheduler=lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 2, gamma=0.5),
    ).fit(make_data())
    assert [record["learning_rate"] for record in trainer.history_] == [0.5, 0.5, 0.25, 0.25]


def test_a_run_is_resumed_with_its_own_length(build, make_data, tmp_path):
    settings = {"checkpoint_dir": tmp_path, "correction": "cross-entropy"}
    build(epochs=2, **settings).fit(make_data())
    with pytest.raises(InvalidDataError, match=r"with 9: phases and .* To train on, fit a trainer"):
        build(epochs=9, **settings).fit(make_data(), resume=True)


# -- losses that a correction records --------------------------------------------------------------


class RecordsMeans(CrossEntropy):
    needs_detector = True

    def loss(self, model, batch, context):
        losses = cross_entropy(model(batch.inputs), batch.labels)
        context.record(batch.indices, losses.mean())
        return losses


class RecordsRepeatedMeans(CrossEntropy):
    def __init__(self, *, begin=1):
        self.begin = begin

    def loss(self, model, batch, context):
        losses = cross_entropy(model(batch.inputs), batch.labels)
        if context.epoch >= self.begin:
            context.record(batch.indices, losses.mean().expand(len(losses)))
        return losses


class RecordsWithGraph(CrossEntropy):
    needs_detector = True

    def loss(self, model, batch, context):
        losses = cross_entropy(model(batch.inputs), batch.labels)
        context.record(batch.indices, losses)
        return losses


def test_the_mean_of_a_batch_is_no_loss_of_its_samples(build, make_data):
    expected = (
        "The 'losses' parameter of context.record must be one loss for each of the 16 samples of "
        "the batch. Got a tensor of shape () instead: give no means or sums."
    )
    with pytest.raises(InvalidDataError, match=f"^{re.escape(expected)}$"):
        build(correction=RecordsMeans()).fit(make_data())


def test_losses_need_not_be_detached(build, make_data):
    trainer = build(correction=RecordsWithGraph(), epochs=1).fit(make_data())
    assert np.isfinite(trainer.loss_history_).all()


@pytest.mark.parametrize("begin", [1, 2])
def test_the_mean_of_a_batch_for_all_its_samples_is_told_once(build, make_data, begin):
    expected = (
        "The losses that RecordsRepeatedMeans recorded of 96 samples have 6 different values in 6 "
        "batches, as the mean over a batch has: that says little about a single label. "
        "context.record takes the losses of single samples, such as torch's with "
        "reduction='none'."
    )
    trainer = build(correction=RecordsRepeatedMeans(begin=begin), epochs=4)
    with pytest.warns(LayoutWarning) as caught:
        trainer.fit(make_data())
    assert [str(warning.message) for warning in caught] == [expected]


@pytest.mark.parametrize(
    ("losses", "num_batches", "num_processes", "told"),
    [
        (np.repeat([0.5, 0.7, 0.9], [8, 8, 5]), 3, 1, True),
        (np.repeat([0.5, 0.7, 0.9, 1.1], [8, 8, 8, 1]), 3, 2, True),  # one that both have seen
        (np.repeat([0.5, 0.7, 0.9, 1.1], [8, 8, 8, 1]), 3, 1, False),
        (np.repeat([0.5, 0.7], 8), 2, 1, False),  # too few batches
        (np.repeat([0.5, 0.7, 0.9], 3), 3, 1, False),  # too small ones
        (np.repeat([0.0, 0.7, 0.9], [20, 1, 3]), 3, 1, False),  # memorised
        (np.zeros(24), 3, 1, False),
        (np.linspace(0.1, 2.0, 24), 3, 1, False),
    ],
)
def test_what_means_over_batches_are(losses, num_batches, num_processes, told):
    assert are_batch_means(losses.astype(np.float32), num_batches, num_processes) is told


# -- streams ---------------------------------------------------------------------------------------


class Stream(IterableDataset):
    def __init__(self, num_samples=60):
        self.inputs, self.labels = two_blobs(num_samples)

    def __len__(self):
        return len(self.labels)

    def __iter__(self):
        for i in range(len(self)):
            yield i, (self.inputs[i], self.labels[i])


@pytest.mark.filterwarnings("ignore:Length of IterableDataset:UserWarning")
def test_a_stream_that_every_worker_yields_whole_is_refused_after_an_epoch(build):
    epochs = []

    class Count(Callback):
        def on_epoch_end(self, trainer, record):
            epochs.append(record["epoch"])

    loader = DataLoader(Stream(), batch_size=16, num_workers=2)
    expected = "60 more than once instead: each worker process must yield its own share"
    with pytest.raises(InvalidDataError, match=expected):
        build(correction="cross-entropy", epochs=9, callbacks=[Count()]).fit(loader)
    assert epochs == []


# -- outputs that no label has ---------------------------------------------------------------------


def test_predictions_of_classes_that_no_label_has_are_told(build):
    inputs, labels = two_blobs()
    net = nn.Linear(2, 8)
    with torch.no_grad():  # the third class for some of the second
        net.weight[:] = net.bias[:] = 0.0
        net.weight[1], net.bias[1] = torch.ones(2), -4.0
        net.weight[5, 0], net.bias[5] = 20.0, -90.0
    data = TensorDataset(inputs, labels)
    none = {"optimizer": lambda parameters: torch.optim.SGD(parameters, lr=0.0)}
    expected = (
        r"The trained model predicts classes that no label has for \d+ of 200 samples: it has 8 "
        r"outputs, and the labels are of 2 classes\."
    )
    with pytest.warns(LayoutWarning, match=expected):
        trainer = build(net, correction="cross-entropy", epochs=1, **none).fit(data)
    trainer.noise_proba_[:] = 0.9
    report = AuditReport.from_trainer(trainer, data)
    assert not report.summary["separable"]
    assert "suggests classes that no label has" in report.summary["verdict"]


def test_outputs_that_are_never_predicted_are_not_told(build):
    trainer = build(nn.Linear(2, 8), correction="cross-entropy", epochs=5)
    with pytest.warns(NoSeparableNoiseWarning):
        trainer.fit(TensorDataset(*two_blobs()))


class FeaturesFirst(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(2, 12), nn.Linear(12, 2)

    def forward(self, inputs):
        features = self.body(inputs)
        return features, self.head(features)


def test_features_before_the_logits_are_told(build):
    expected = (
        "A layer of the model with 2 outputs learned nothing in the last batch, and it has 12 "
        "outputs, and the labels are of 2 classes: what it returns first may not be the logits, "
        "but features."
    )
    with (
        pytest.warns(LayoutWarning, match=re.escape(expected)),
        pytest.warns(NoSeparableNoiseWarning),
    ):
        build(FeaturesFirst(), correction="cross-entropy", epochs=3).fit(
            TensorDataset(*two_blobs())
        )


def test_parameters_that_are_not_used_are_no_head(build):
    net = nn.Linear(2, 12)
    net.mask_token = nn.Parameter(torch.zeros(1, 2))
    trainer = build(net, correction="cross-entropy", epochs=5)
    with pytest.warns(NoSeparableNoiseWarning) as caught:
        trainer.fit(TensorDataset(*two_blobs()))
    assert len(caught) == 1


def test_labels_of_one_class_tell_nothing(build):
    inputs, _ = two_blobs()
    data = TensorDataset(inputs, torch.zeros(200, dtype=torch.int64))
    trainer = build(nn.Linear(2, 3), correction="cross-entropy", epochs=3)
    with pytest.warns(NoSeparableNoiseWarning):
        trainer.fit(data)
    trainer.noise_proba_[:100] = 0.9
    report = AuditReport.from_trainer(trainer, data)
    assert report.summary["separable"] is False
    assert "all labels are of one class" in report.summary["verdict"]
    assert report.summary["cautious_precision"] is None
