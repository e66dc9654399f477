"""`NoisyLabelTrainer`: what it gives back, and what it leaves alone."""

import random
import re

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch import nn
from torch.optim.lr_scheduler import ExponentialLR
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Sampler,
    SequentialSampler,
    Subset,
    TensorDataset,
)

from lossnoise import BetaMixtureNoiseDetector
from lossnoise.corrections import CORRECTIONS, MDyrH
from lossnoise.data._indexed import IndexedData
from lossnoise.exceptions import (
    InterruptedWarning,
    InvalidDataError,
    NoSeparableNoiseWarning,
)
from lossnoise.training import Callback

# -- what comes out -------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:D2L begins after")
@pytest.mark.parametrize("correction", CORRECTIONS)
def test_attributes(build, make_data, correction, with_clean_set):
    data = make_data()
    trainer = build(correction=with_clean_set(correction))
    assert trainer.fit(data, make_data(seed=1)) is trainer
    assert (trainer.losses_.shape, trainer.losses_.dtype) == ((96,), np.float32)
    assert (trainer.noise_proba_.shape, trainer.noise_proba_.dtype) == ((96,), np.float64)
    assert trainer.noisy_indices_.dtype == np.int64
    assert trainer.num_classes_ == 3
    assert type(trainer.correction_) is CORRECTIONS[correction]
    expected = trainer.detector_.posterior(trainer.losses_)
    np.testing.assert_array_equal(trainer.noise_proba_, expected)


@pytest.mark.filterwarnings("ignore:D2L begins after")
@pytest.mark.parametrize("correction", CORRECTIONS)
def test_history(build, make_data, correction, with_clean_set):
    needs_detector = CORRECTIONS[correction].needs_detector
    for validation in (make_data(seed=1), None):
        trainer = build(correction=with_clean_set(correction)).fit(make_data(), validation)
        for epoch, record in enumerate(trainer.history_, 1):
            keys = (
                "epoch train_loss val_loss val_accuracy noise_rate separable learning_rate seconds"
            )
            assert list(record) == keys.split()
            assert record["epoch"] == epoch
            assert (record["noise_rate"] is not None) == needs_detector
            assert (record["separable"] in (True, False)) == needs_detector
            for name in ("val_loss", "val_accuracy"):
                assert (record[name] is not None) == (validation is not None)
            assert record["seconds"] > 0.0


def test_last_record_agrees_with_the_trained_model(build, make_data):
    val = make_data(seed=1)
    trainer = build(correction=MDyrH(sweep="epoch")).fit(make_data(), val)
    assert trainer.history_[-1]["val_accuracy"] == pytest.approx(trainer.score(val))
    given = trainer.predict_proba(val)[np.arange(len(val)), [int(label) for _, label in val]]
    assert trainer.history_[-1]["val_loss"] == pytest.approx(-np.log(given).mean(), rel=1e-5)
    assert trainer.history_[-1]["noise_rate"] == trainer.noise_proba_.mean()


def test_losses_are_those_of_the_final_model_in_the_order_of_the_dataset(build, make_data):
    data = make_data()
    trainer = build(batch_size=7).fit(data)
    trainer.model.eval()
    with torch.no_grad():
        logits = trainer.model(data.tensors[0])
    expected = nn.functional.cross_entropy(logits, data.tensors[1], reduction="none")
    np.testing.assert_allclose(trainer.losses_, expected, rtol=1e-4, atol=1e-6)


class Counting(nn.Linear):
    def __init__(self):
        super().__init__(2, 3)
        self.passes = []

    def forward(self, inputs):
        self.passes.append((self.training, torch.is_grad_enabled()))
        return super().forward(inputs)


@pytest.mark.parametrize(("sweep", "sweeps"), [("running", 2), ("epoch", 5)])
def test_epochs_that_recorded_all_losses_are_not_swept(build, make_data, sweep, sweeps):
    """Of 4 epochs, all but the first of two warm-up epochs; and one sweep at the end."""
    model = Counting()
    correction = MDyrH(warmup=2, sweep=sweep)
    build(model, correction=correction, epochs=4, batch_size=16).fit(make_data())
    assert model.passes.count((True, True)) == 4 * 6
    assert model.passes.count((True, False)) == {"running": 3 * 6, "epoch": 2 * 6}[sweep]
    assert model.passes.count((False, False)) == sweeps * 6 + 1  # one batch counts the classes


def test_noisy_indices_are_the_suspicious_samples_worst_first(build, make_data):
    trainer = build(epochs=12).fit(make_data())
    proba = trainer.noise_proba_[trainer.noisy_indices_]
    assert 0 < len(proba) < 96
    assert (np.diff(proba) <= 0.0).all()
    assert set(trainer.noisy_indices_) == set(np.flatnonzero(trainer.noise_proba_ > 0.5))


def test_the_model_is_trained_in_place_and_the_dataset_left_alone(build, make_data, make_net):
    model, data = make_net(), make_data()
    inputs, labels = (tensor.clone() for tensor in data.tensors)
    trainer = build(model).fit(data)
    assert trainer.model is model
    assert not torch.equal(model[0].weight, make_net()[0].weight)
    assert torch.equal(data.tensors[0], inputs)
    assert torch.equal(data.tensors[1], labels)
    assert set(vars(data)) == {"tensors"}


def test_fitting_again_goes_on_from_the_present_weights(build, make_data):
    trainer = build(correction="cross-entropy").fit(make_data())
    first = trainer.history_
    trainer.fit(make_data())
    assert [record["epoch"] for record in trainer.history_] == [1, 2]
    assert trainer.history_[0]["train_loss"] < first[0]["train_loss"]


@pytest.mark.parametrize("of", ["dataset", "tensor"])
def test_predictions(build, make_data, of):
    data = make_data(size=50)
    trainer = build().fit(make_data())
    X = data if of == "dataset" else data.tensors[0]
    proba = trainer.predict_proba(X)
    trainer.model.eval()
    with torch.no_grad():
        expected = trainer.model(data.tensors[0]).softmax(dim=1)
    assert proba.dtype == np.float32
    np.testing.assert_allclose(proba, expected, atol=1e-5)
    np.testing.assert_array_equal(trainer.predict(X), proba.argmax(axis=1))
    right = trainer.predict(X) == data.tensors[1].numpy()
    assert trainer.score(data) == pytest.approx(right.mean())


def test_predictions_use_no_labels(build, make_data):
    inputs, _ = make_data().tensors
    trainer = build().fit(make_data())
    unlabelled = TensorDataset(inputs, torch.full((96,), -1))
    np.testing.assert_array_equal(trainer.predict(unlabelled), trainer.predict(inputs))


def test_a_subset_of_a_dataset_is_a_dataset(build, make_data):
    rows = list(range(90, 10, -2))
    whole, part = make_data(), Subset(make_data(), rows)
    trainer = build().fit(part)
    direct = build().fit(TensorDataset(*(tensor[rows] for tensor in whole.tensors)))
    np.testing.assert_array_equal(trainer.losses_, direct.losses_)


def test_labels_of_any_integer_type(build, make_data):
    inputs, labels = make_data().tensors
    expected = build().fit(TensorDataset(inputs, labels)).losses_
    for dtype in (torch.int32, torch.uint8):
        np.testing.assert_array_equal(
            build().fit(TensorDataset(inputs, labels.to(dtype))).losses_, expected
        )


def test_a_trailing_batch_of_one_joins_the_batch_before_it(build, make_data):
    """BatchNorm refuses to learn from one sample."""
    trainer = build().fit(make_data(size=65))
    assert trainer.losses_.shape == (65,)


@pytest.mark.parametrize("size", [40, 41, 9])
@pytest.mark.parametrize("drop_last", [True, False])
def test_the_last_batch_is_known_by_its_number(build, make_data, size, drop_last):
    seen = []

    class Watch(Callback):
        def on_batch_end(self, trainer, batch, num_batches):
            seen.append((batch, num_batches))

    data = make_data(size=max(size, 10))
    loader = DataLoader(data, batch_size=8, drop_last=drop_last)
    build(correction="cross-entropy", epochs=1, callbacks=[Watch()]).fit(loader)
    assert seen[-1][0] == seen[-1][1] == len(seen)


def test_a_batch_sampler_says_how_large_batches_are(build, make_data):
    data = make_data(size=40)
    batches = BatchSampler(SequentialSampler(data), 8, drop_last=False)
    trainer = build(correction="cross-entropy", batch_size=64)
    watched = []

    class Watch(Callback):
        def on_batch_end(self, trainer, batch, num_batches):
            watched.append(num_batches)

    trainer.callbacks = [Watch()]
    trainer.fit(DataLoader(data, batch_sampler=batches))
    assert set(watched) == {5}
    assert IndexedData(DataLoader(data, batch_sampler=batches), 64).batch_size == 8


def test_prediction_needs_no_labels_and_takes_the_types_of_the_model(build, make_data):
    data = make_data()
    inputs, labels = data.tensors
    trainer = build().fit(data)
    proba = trainer.predict_proba(data)
    for unused in (labels + 7, labels.float(), torch.full((96,), torch.nan)):
        np.testing.assert_array_equal(trainer.predict_proba(TensorDataset(inputs, unused)), proba)
    double = build(nn.Linear(2, 3).double(), correction="cross-entropy")
    double.fit(TensorDataset(inputs.double(), labels))
    expected = double.predict(inputs.double())
    np.testing.assert_array_equal(double.predict(inputs.double().numpy()), expected)


# -- settings -------------------------------------------------------------------------------------


def test_wrong_labels_are_found(build, make_data):
    data, clean = make_data(size=300), torch.arange(300) % 3
    trainer = build(correction=MDyrH(warmup=5, alpha=1.0), epochs=20).fit(data)
    wrong = (data.tensors[1] != clean).numpy()
    assert ((trainer.noise_proba_ > 0.5) == wrong).mean() > 0.9
    assert (trainer.predict(data.tensors[0]) == clean.numpy()).mean() > 0.95


@pytest.mark.parametrize("ready", [False, True])
def test_optimizer_and_scheduler_are_factories_or_ready(build, make_data, make_net, ready):
    model = make_net()
    rates = []

    class Watch(Callback):
        def on_epoch_begin(self, trainer, epoch):
            rates.append(trainer.engine_.optimizers[0].param_groups[0]["lr"])

    def optimizer(params):
        return torch.optim.Adam(params, lr=0.02)

    def scheduler(adam):
        return ExponentialLR(adam, 0.5)

    if ready:
        optimizer = optimizer(model.parameters())
        scheduler = scheduler(optimizer)
    build(model, epochs=3, optimizer=optimizer, scheduler=scheduler, callbacks=[Watch()]).fit(
        make_data()
    )
    assert rates == pytest.approx([0.02, 0.01, 0.005])
    assert not torch.equal(model[0].weight, make_net()[0].weight)


@pytest.mark.parametrize("random_state", [3, None, np.random.default_rng(3)])
def test_every_random_state_works(build, make_data, random_state):
    assert np.isfinite(build(random_state=random_state).fit(make_data()).losses_).all()


def test_without_a_random_state_runs_differ(build, make_data):
    first, second = (build(random_state=None).fit(make_data()).losses_ for _ in range(2))
    assert not np.array_equal(first, second)


def global_draws():
    return torch.rand(3).tolist(), np.random.rand(3).tolist(), random.random()  # noqa: NPY002  # user code draws from it


def seed_globals():
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002  # user code draws from it
    random.seed(5)


class Fails(Callback):
    def on_epoch_end(self, trainer, record):
        raise RuntimeError("on purpose")


@pytest.mark.parametrize("callbacks", [(), (Fails(),)])
def test_the_callers_generators_are_given_back(build, make_data, make_net, callbacks):
    seed_globals()
    expected = global_draws()
    trainer = build(make_net(dropout=0.5), callbacks=callbacks)
    seed_globals()
    if callbacks:
        with pytest.raises(RuntimeError, match="on purpose"):
            trainer.fit(make_data())
    else:
        trainer.fit(make_data())
        trainer.predict(make_data())
        trainer.score(make_data())
    assert global_draws() == expected


def test_given_objects_are_copied(build, make_data):
    detector, correction = BetaMixtureNoiseDetector(max_iter=3), MDyrH(warmup=1, alpha=2.0)
    trainer = build(detector=detector, correction=correction).fit(make_data())
    assert trainer.detector_ is not detector
    assert trainer.detector_.max_iter == 3
    assert not hasattr(detector, "weights_")
    assert trainer.correction_ is not correction
    assert repr(trainer.correction_) == repr(correction)
    assert vars(correction) == vars(MDyrH(warmup=1, alpha=2.0))  # no state of the run


def test_is_a_scikit_learn_estimator(build):
    trainer = build(epochs=7)
    copied = clone(trainer)
    assert copied.epochs == 7
    assert copied.model is not trainer.model
    assert "epochs=7" in repr(trainer)
    for name, value in trainer.get_params(deep=False).items():
        assert getattr(trainer, name) is value


def test_bfloat16_rounds_the_forward_passes(build, make_data):
    full, low = (
        build(precision=precision).fit(make_data()) for precision in ("float32", "bfloat16")
    )
    assert low.losses_.dtype == np.float32
    assert low.predict_proba(make_data()).dtype == np.float32
    assert 0.0 < np.abs(full.losses_ - low.losses_).max() < 0.5
    assert not np.array_equal(low.losses_, torch.tensor(low.losses_).bfloat16().float().numpy())


@pytest.mark.parametrize("verbose", [0, 1])
def test_silent_unless_asked(build, make_data, capsys, verbose):
    build(verbose=verbose, epochs=3).fit(make_data(), make_data(seed=1))
    out, err = capsys.readouterr()
    assert out == ""
    lines = re.findall(
        r"epoch (\d)/3 \| loss \d\.\d+ \| val accuracy \d\.\d+ \| noise rate \d\.\d+ \| ", err
    )
    assert lines == (["1", "2", "3"] if verbose else [])
    assert verbose or err == ""


# -- callbacks ------------------------------------------------------------------------------------


class Log(Callback):
    def __init__(self, stop_at=None):
        self.events, self.stop_at = [], stop_at

    def on_train_begin(self, trainer):
        self.events.append("begin")

    def on_epoch_begin(self, trainer, epoch):
        assert len(trainer.history_) == epoch - 1
        self.events.append(f"epoch {epoch}")

    def on_batch_end(self, trainer, batch, num_batches):
        self.events.append(f"{batch}/{num_batches}")

    def on_epoch_end(self, trainer, record):
        assert record is trainer.history_[-1]
        self.events.append(f"end {record['epoch']}")
        if record["epoch"] == self.stop_at:
            trainer.request_stop()

    def on_train_end(self, trainer):
        assert trainer.losses_.shape == trainer.noise_proba_.shape
        self.events.append("end")


@pytest.mark.parametrize("correction", ["cross-entropy", "m-dyr-h"])
@pytest.mark.parametrize("stop_at", [None, 1])
def test_callbacks_see_the_run_in_order(build, make_data, stop_at, correction):
    log = Log(stop_at)
    trainer = build(callbacks=[log], batch_size=50, correction=correction).fit(make_data())
    first = ["epoch 1", "1/2", "2/2", "end 1"]
    second = [] if stop_at else ["epoch 2", "1/2", "2/2", "end 2"]
    assert log.events == ["begin", *first, *second, "end"]
    assert len(trainer.history_) == (stop_at or 2)


@pytest.mark.parametrize("correction", ["cross-entropy", "m-dyr-h"])
def test_equal_losses_are_a_warning_and_no_lost_run(build, correction):
    """One class: every loss is 0, and nothing can be told from it."""
    data = TensorDataset(torch.randn(40, 2), torch.zeros(40, dtype=torch.int64))
    with pytest.warns(NoSeparableNoiseWarning, match="all 40 are the same") as told:
        trainer = build(nn.Linear(2, 1), correction=correction).fit(data)
    said = [w for w in told if "all 40 are the same" in str(w.message)]
    assert len(said) == (1 if correction == "cross-entropy" else 2)  # of an epoch, and of the end
    assert not trainer.losses_.any()
    assert not trainer.noise_proba_.any()
    assert len(trainer.history_) == 2
    assert trainer.detector_.separable_ is False


def test_attributes_of_an_earlier_fit_do_not_survive_a_failed_one(build, make_data):
    trainer = build().fit(make_data())
    trainer.callbacks = [Failing()]
    with pytest.raises(ZeroDivisionError):
        trainer.fit(make_data(size=60))
    assert not hasattr(trainer, "noise_proba_")
    assert trainer.history_ == []


class Failing(Callback):
    def on_epoch_begin(self, trainer, epoch):
        raise ZeroDivisionError


class KeepLosses(Callback):
    def __init__(self):
        self.kept = []

    def on_epoch_end(self, trainer, record):
        self.kept.append((trainer.losses_, trainer.losses_.copy()))


def test_losses_that_a_callback_keeps_stay_as_they_were(build, make_data):
    callback = KeepLosses()
    build(correction=MDyrH(warmup=1), epochs=4, callbacks=[callback]).fit(make_data())
    assert len(callback.kept) == 4
    for kept, copy in callback.kept:
        np.testing.assert_array_equal(kept, copy)


def test_a_run_can_be_ended_from_the_keyboard(build, make_data, tmp_path):
    class Impatient(Callback):
        def on_batch_end(self, trainer, batch, num_batches):
            if len(trainer.history_) == 2 and batch == 3:
                raise KeyboardInterrupt

    trainer = build(epochs=9, callbacks=[Impatient()], checkpoint_dir=tmp_path)
    message = r"^Training was interrupted in epoch 3\. .* goes on from the last checkpoint\.$"
    with pytest.warns(InterruptedWarning, match=message):
        trainer.fit(make_data())
    assert len(trainer.history_) == 2
    assert trainer.losses_.shape == trainer.noise_proba_.shape == (96,)
    assert trainer.predict(make_data()).shape == (96,)
    resumed = build(epochs=9, checkpoint_dir=tmp_path).fit(make_data(), resume=True)
    unbroken = build(epochs=9).fit(make_data())
    np.testing.assert_array_equal(resumed.losses_, unbroken.losses_)


def test_suggested_labels_are_the_most_probable_other_classes(build, make_data):
    data = make_data()
    trainer = build(epochs=8).fit(data)
    proba, given = trainer.predict_proba(data), data.tensors[1].numpy()
    proba[np.arange(96), given] = -1.0
    np.testing.assert_array_equal(trainer.suggested_labels_, proba.argmax(axis=1))
    assert trainer.suggested_labels_.dtype == np.int64


@pytest.mark.parametrize("correction", ["m-dyr-h", "mixup", "cross-entropy"])
def test_the_losses_of_every_epoch_are_kept(build, make_data, correction):
    trainer = build(epochs=4, correction=correction).fit(make_data())
    history = trainer.loss_history_
    if correction == "mixup":  # it never sees an unmixed sample
        assert history.shape == (96, 0)
    else:
        assert history.shape == (96, 4)
        assert np.isfinite(history).all()


def test_epochs_that_meet_a_part_of_the_samples_are_kept_too(build, make_data):
    data = make_data()
    order = [*range(40), *range(20)], [*range(30, 96), *range(30)]

    class Turns(Sampler):
        epoch = -1

        def __len__(self):
            return 60

        def __iter__(self):
            self.epoch += 1
            return iter(order[self.epoch % 2][:60])

    loader = DataLoader(data, batch_size=20, sampler=Turns())
    trainer = build(epochs=2, correction="cross-entropy").fit(loader)
    unseen = np.isnan(trainer.loss_history_)
    assert unseen[:, 0].tolist() == [i >= 40 for i in range(96)]
    assert unseen[:, 1].tolist() == [not 30 <= i < 90 for i in range(96)]
    with pytest.raises(InvalidDataError, match="6 were never seen"):
        trainer.recorder_.reduce()
