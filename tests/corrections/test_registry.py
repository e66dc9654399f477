"""What every registered correction must do; a new one is tested here as soon as it has a line."""

import copy
import pickle
import random

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch.utils.data import Dataset

from lossnoise import AuditReport, NoisyLabelTrainer
from lossnoise.corrections import (
    CORRECTIONS,
    D2L,
    BackwardCorrection,
    Correction,
    DyrH,
    MDDyrSH,
    MDyrH,
    MDyrS,
    OpenSet,
)
from lossnoise.exceptions import InvalidParameterError, ScheduleWarning
from lossnoise.training import Callback

# Its window of five epochs is longer than most of these runs.
pytestmark = pytest.mark.filterwarnings("ignore:D2L begins after")

every_correction = pytest.mark.parametrize("name", CORRECTIONS)


@every_correction
def test_is_constructible_without_arguments(name):
    correction = CORRECTIONS[name]()
    assert isinstance(correction, Correction)
    assert type(correction).__name__ in repr(correction)
    assert type(correction).__doc__.count(f'registry name ``"{name}"``') == 1


@pytest.mark.parametrize("name", ["co-teaching-plus", "mentornet-pd", "open-set", "d2l", "dyr-s"])
def test_a_warm_up_that_outlasts_the_run_is_told(name, make_net, make_data):
    """1.0, the whole run, is easily written for an epoch."""
    method = CORRECTIONS[name](**{"startup" if name == "d2l" else "warmup": 1.0})
    with pytest.warns(ScheduleWarning, match=f"^{type(method).__name__} begins after"):
        NoisyLabelTrainer(make_net(), correction=method, epochs=7, device="cpu").fit(make_data())


@every_correction
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda c: pickle.loads(pickle.dumps(c))])
def test_is_copied_whole(name, copied):
    correction = CORRECTIONS[name]()
    other = copied(correction)
    assert type(other) is type(correction)
    assert vars(other) == vars(correction)


@every_correction
def test_is_an_estimator(name):
    correction = CORRECTIONS[name]()
    settings = correction.get_params()
    assert settings == vars(correction)
    assert repr(clone(correction)) == repr(correction)
    for setting, value in settings.items():
        assert correction.set_params(**{setting: value}) is correction
    with pytest.raises(ValueError, match="Invalid parameter 'other'"):
        correction.set_params(other=1)


def test_parameters_of_a_correction_are_parameters_of_its_trainer(make_net):
    trainer = NoisyLabelTrainer(make_net(), correction=MDyrH(warmup=0.5))
    assert trainer.get_params()["correction__warmup"] == 0.5
    other = clone(trainer).set_params(correction__warmup=0.25)
    assert (trainer.correction.warmup, other.correction.warmup) == (0.5, 0.25)


def test_parameters_of_a_part_that_is_a_name_are_refused(make_net):
    trainer = NoisyLabelTrainer(make_net())
    message = (
        "The 'correction' parameter of NoisyLabelTrainer must be an instance for its 'warmup' to "
        "be set. Got 'm-dyr-h' instead."
    )
    with pytest.raises(InvalidParameterError) as caught:
        trainer.set_params(correction__warmup=0.5)
    assert str(caught.value) == message
    trainer.set_params(correction=MDyrH(), correction__warmup=0.5)
    assert trainer.correction.warmup == 0.5


def outcome(trainer):
    """Return everything that a run leaves behind, but for how long it took."""
    return {
        "weights": {name: t.clone() for name, t in trainer.model.state_dict().items()},
        "losses": trainer.losses_,
        "noise_proba": trainer.noise_proba_,
        "noisy_indices": trainer.noisy_indices_,
        "history": [
            {key: value for key, value in record.items() if key != "seconds"}
            for record in trainer.history_
        ],
    }


def assert_same(first, second):
    assert first["history"] == second["history"]
    assert first["weights"].keys() == second["weights"].keys()
    for name, weight in first["weights"].items():
        assert torch.equal(weight, second["weights"][name]), name
    for name in ("losses", "noise_proba", "noisy_indices"):
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)


class Jittered(Dataset):
    """A dataset whose transform draws from all three global generators, as users' do."""

    def __init__(self, dataset):
        self.dataset = dataset

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, index):
        inputs, label = self.dataset[index]
        shift = np.random.standard_normal() + random.gauss(0.0, 1.0)  # noqa: NPY002  # user code draws from it
        return inputs + 0.05 * torch.randn(2) + 0.05 * shift, label


class Interrupt(Callback):
    def __init__(self, epoch, error):
        self.epoch, self.error = epoch, error

    def on_epoch_end(self, trainer, record):
        if record["epoch"] == self.epoch and self.error is None:
            trainer.request_stop()

    def on_epoch_begin(self, trainer, epoch):
        if epoch == self.epoch + 1 and self.error is not None:
            raise self.error


@pytest.fixture
def train(make_data, make_net, with_clean_set):
    def run(name, *, dropout=0.0, jitter=False, resume=False, seed=0, net_seed=0, **settings):
        settings = {"epochs": 4, "batch_size": 16, "device": "cpu", "random_state": seed} | settings
        net = make_net(seed=net_seed, dropout=dropout)
        trainer = NoisyLabelTrainer(net, correction=with_clean_set(name), **settings)
        data = make_data()
        trainer.fit(Jittered(data) if jitter else data, make_data(seed=1), resume=resume)
        return trainer

    return run


@every_correction
def test_trains(name, train):
    trainer = train(name, epochs=2)
    assert np.isfinite(trainer.losses_).all()
    assert ((trainer.noise_proba_ >= 0.0) & (trainer.noise_proba_ <= 1.0)).all()
    assert [record["epoch"] for record in trainer.history_] == [1, 2]
    assert all(np.isfinite(record["train_loss"]) for record in trainer.history_)


@every_correction
def test_its_findings_become_a_report(name, train, make_data):
    trainer = train(name, epochs=2)
    report = AuditReport.from_trainer(trainer, make_data())
    np.testing.assert_array_equal(report.losses, trainer.losses_)
    np.testing.assert_array_equal(report.noise_proba, trainer.noise_proba_)


@every_correction
def test_learns(name, train):
    """Three groups far apart: after a few epochs the clean labels are predicted."""
    assert train(name, epochs=12).history_[-1]["val_accuracy"] > 0.5


@every_correction
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_the_same_seed_gives_the_same_bits(name, dropout, train):
    first, second = (outcome(train(name, dropout=dropout, jitter=True)) for _ in range(2))
    assert_same(first, second)


@every_correction
def test_another_seed_gives_another_run(name, train):
    first, second = (outcome(train(name, seed=seed)) for seed in (0, 1))
    assert not np.array_equal(first["losses"], second["losses"])


@every_correction
def test_a_correction_that_was_used_begins_afresh(name, train):
    """What it found in one run is nothing to begin another one with."""
    first = train(name)
    assert_same(outcome(train(first.correction_)), outcome(first))


@every_correction
@pytest.mark.parametrize("epoch", [1, 3])
@pytest.mark.parametrize(
    ("error", "dropout", "jitter"),
    [(RuntimeError("power cut"), 0.3, True), (None, 0.0, False)],
)
def test_resuming_gives_the_bits_of_an_unbroken_run(
    name, epoch, error, dropout, jitter, train, tmp_path
):
    """The new process has another network, and does not even know the seed."""
    settings = {"dropout": dropout, "jitter": jitter}
    unbroken = outcome(train(name, **settings))
    callbacks = [Interrupt(epoch, error)]
    if error is None:
        train(name, callbacks=callbacks, checkpoint_dir=tmp_path, **settings)
    else:
        with pytest.raises(RuntimeError, match="power cut"):
            train(name, callbacks=callbacks, checkpoint_dir=tmp_path, **settings)
    resumed = train(name, checkpoint_dir=tmp_path, resume=True, seed=None, net_seed=7, **settings)
    assert_same(outcome(resumed), unbroken)


VARIANTS = [
    MDyrH(warmup="auto"),
    MDyrH(warmup=1, compat="published", mix_at="2"),
    DyrH(warmup=1, compat="published"),
    MDyrS(warmup=1, class_prior="labels", sweep="epoch"),
    MDDyrSH(warmup=1, dynamic_mixup=1, anneal=2, class_prior=[0.5, 0.25, 0.25]),
    BackwardCorrection(estimation=2),
    D2L(startup=1, window=2),
    OpenSet(warmup=2, every=1, contrast=0.0),
]


@pytest.mark.parametrize("correction", VARIANTS, ids=repr)
@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_what_the_parameters_ask_for_is_resumed(correction, epoch, train, tmp_path):
    unbroken = outcome(train(correction, jitter=True))
    with pytest.raises(RuntimeError, match="power cut"):
        train(
            correction,
            jitter=True,
            callbacks=[Interrupt(epoch, RuntimeError("power cut"))],
            checkpoint_dir=tmp_path,
        )
    resumed = train(
        correction, jitter=True, checkpoint_dir=tmp_path, resume=True, seed=None, net_seed=7
    )
    assert_same(outcome(resumed), unbroken)


@pytest.mark.parametrize("name", ["dyr-h", "m-dyr-h"])
def test_the_prior_of_the_labels_is_counted_in_the_training_set(name, train, make_data):
    """A run with the frequencies themselves is the same to the bit."""
    counts = torch.bincount(make_data().tensors[1]).double()
    first, second = (
        outcome(train(CORRECTIONS[name](warmup=1, class_prior=prior)))
        for prior in ("labels", counts / counts.sum())
    )
    assert_same(first, second)


@every_correction
def test_writing_checkpoints_changes_nothing(name, train, tmp_path):
    with_checkpoints = train(name, dropout=0.3, jitter=True, checkpoint_dir=tmp_path)
    assert_same(outcome(with_checkpoints), outcome(train(name, dropout=0.3, jitter=True)))


@every_correction
def test_trains_in_bfloat16(name, train):
    trainer = train(name, epochs=2, precision="bfloat16")
    assert trainer.losses_.dtype == np.float32
    assert np.isfinite(trainer.losses_).all()
    assert next(trainer.model.parameters()).dtype == torch.float32


@every_correction
def test_trains_where_float64_is_the_default_type(name, train):
    torch.set_default_dtype(torch.float64)
    try:
        trainer = train(name, epochs=3)
    finally:
        torch.set_default_dtype(torch.float32)
    assert trainer.losses_.dtype == np.float32
    assert np.isfinite(trainer.losses_).all()
    assert next(trainer.model.parameters()).dtype == torch.float64
