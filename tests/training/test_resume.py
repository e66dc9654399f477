"""Resuming a run: from what, with what, and what is refused.

That every correction resumes to the same bits is tested in tests/corrections/test_registry.py.
"""

import re
from datetime import datetime

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import LinearLR, MultiStepLR, OneCycleLR, SequentialLR, StepLR
from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler

from lossnoise import AuditReport
from lossnoise.corrections import CrossEntropy, Mixup
from lossnoise.exceptions import (
    CheckpointWarning,
    InvalidDataError,
    InvalidParameterError,
    NonFiniteLossError,
)
from lossnoise.training import BestModel, Callback, Checkpoints, EarlyStopping


def exactly(text):
    return f"^{re.escape(text)}$"


class StopAfter(Callback):
    def __init__(self, epoch):
        self.epoch = epoch

    def on_epoch_end(self, trainer, record):
        if record["epoch"] == self.epoch:
            trainer.request_stop()


def test_resuming_needs_a_folder(build, make_data):
    message = (
        "The 'checkpoint_dir' parameter of NoisyLabelTrainer must be a folder when fit is called "
        "with resume=True. Got None instead."
    )
    with pytest.raises(InvalidParameterError, match=exactly(message)):
        build().fit(make_data(), resume=True)


def test_resuming_a_finished_run_gives_its_results(build, make_data, tmp_path):
    for correction in ("cross-entropy", "m-dyr-h"):
        settings = {"correction": correction, "checkpoint_dir": tmp_path / correction}
        finished = build(**settings).fit(make_data())
        again = build(**settings).fit(make_data(), resume=True)
        assert again.history_ == finished.history_
        np.testing.assert_array_equal(again.losses_, finished.losses_)


def test_resuming_from_an_empty_folder_starts(build, make_data, tmp_path):
    folder = tmp_path / "new" / "run"
    trainer = build(checkpoint_dir=folder).fit(make_data(), resume=True)
    assert len(trainer.history_) == 2
    assert sorted(path.name for path in folder.iterdir()) == ["epoch-00001.pt", "epoch-00002.pt"]


FLOAT = "Precision(dtype='float32', channels_last=False, no_grad=None)"
BFLOAT = "Precision(dtype='bfloat16', channels_last=False, no_grad=None)"
MIXUP_4, MIXUP_2 = (f"'Mixup(alpha={alpha}, mix_at=None)'" for alpha in (4.0, 2.0))


@pytest.mark.parametrize(
    ("name", "value", "shown", "was", "now"),
    [
        ("epochs", 3, "epochs", 2, 3),
        ("batch_size", 8, "batch_size", 16, 8),
        (
            "precision",
            "bfloat16",
            "precision",
            repr(FLOAT),
            repr(FLOAT.replace("float32", "bfloat16")),
        ),
        (
            "correction",
            Mixup(alpha=2.0),
            "correction",
            "'Mixup(alpha=4.0, mix_at=None)'",
            "'Mixup(alpha=2.0, mix_at=None)'",
        ),
    ],
)
def test_resuming_needs_the_same_settings(build, make_data, tmp_path, name, value, shown, was, now):
    build(
        checkpoint_dir=tmp_path, **({name: Mixup(alpha=4.0)} if name == "correction" else {})
    ).fit(make_data())
    message = (
        f"The checkpoint in {tmp_path} was made with {shown} = {was}, and cannot be resumed "
        f"with {now}"
    )
    with pytest.raises(InvalidDataError, match=f"^{re.escape(message)}[.:]"):
        build(checkpoint_dir=tmp_path, **{name: value}).fit(make_data(), resume=True)


def test_resuming_needs_the_same_data_and_model(build, make_data, make_net, tmp_path):
    build(checkpoint_dir=tmp_path).fit(make_data())
    with pytest.raises(InvalidDataError, match="made with number of samples = 96, and"):
        build(checkpoint_dir=tmp_path).fit(make_data(size=90), resume=True)
    with pytest.raises(InvalidDataError, match="made with number of classes = 3, and"):
        build(make_net(num_classes=4), checkpoint_dir=tmp_path).fit(make_data(), resume=True)
    deeper = nn.Sequential(nn.Linear(2, 3))
    with pytest.raises(InvalidDataError, match="made with shapes of the parameters = "):
        build(deeper, checkpoint_dir=tmp_path).fit(make_data(), resume=True)


@pytest.mark.parametrize("correction", ["cross-entropy", "mixup"])
@pytest.mark.parametrize("stopped", [True, False])
def test_resuming_needs_the_same_labels(build, make_data, tmp_path, correction, stopped):
    """Corrected labels would be mixed with the old ones, or not be learned from at all."""
    settings = {"epochs": 4, "checkpoint_dir": tmp_path, "correction": correction}
    data = make_data()
    build(**settings, callbacks=[StopAfter(2)] * stopped).fit(data)
    before = sorted(path.name for path in tmp_path.iterdir())
    inputs, labels = data.tensors
    corrected = labels.clone()
    corrected[[5, 9]] = (labels[[5, 9]] + 1) % 3
    message = (
        "The 'train' parameter of NoisyLabelTrainer.fit must be the data that the resumed run was "
        "trained on. Got other labels of 2 of 96 samples (sample 5 has "
        f"{int(corrected[5])} for {int(labels[5])}) instead: to learn from corrected labels, begin "
        "a run in another checkpoint_dir."
    )
    with pytest.raises(InvalidDataError, match=exactly(message)):
        build(**settings).fit(TensorDataset(inputs, corrected), resume=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert len(build(**settings).fit(data, resume=True).history_) == 4


def test_labels_met_before_a_stop_are_known_after_it(build, make_data, tmp_path):
    """Where an epoch does not meet every sample."""
    data = make_data()

    def loader():
        order = WeightedRandomSampler(
            torch.ones(96), 48, generator=torch.Generator().manual_seed(0)
        )
        return DataLoader(data, batch_size=16, sampler=order)

    def known(folder):
        path = max(folder.iterdir())
        return (torch.load(path, weights_only=True)["run"]["labels"] >= 0).sum()

    settings = {"epochs": 4, "correction": "cross-entropy"}
    build(**settings, checkpoint_dir=tmp_path / "a").fit(loader())
    build(**settings, checkpoint_dir=tmp_path / "b", callbacks=[StopAfter(2)]).fit(loader())
    build(**settings, checkpoint_dir=tmp_path / "b").fit(loader(), resume=True)
    assert known(tmp_path / "a") == known(tmp_path / "b") > 48


def test_a_new_run_in_an_old_folder_is_refused(build, make_data, tmp_path):
    """It would write over the old one, or be taken for it when it is resumed."""
    build(checkpoint_dir=tmp_path).fit(make_data())
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    message = (
        "The 'checkpoint_dir' parameter of NoisyLabelTrainer must be a folder without checkpoints, "
        f"unless fit is called with resume=True to go on from them. Got {str(tmp_path)!r} instead."
    )
    with pytest.raises(InvalidParameterError, match=exactly(message)):
        build(checkpoint_dir=tmp_path).fit(make_data())
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.filterwarnings("ignore:The epoch parameter in:UserWarning")  # SequentialLR's, once
@pytest.mark.parametrize(
    "scheduler",
    [
        lambda optimizer: LinearLR(optimizer, total_iters=4),
        lambda optimizer: OneCycleLR(optimizer, 0.1, total_steps=4),
        lambda optimizer: SequentialLR(
            optimizer,
            [LinearLR(optimizer, 0.1, total_iters=2), MultiStepLR(optimizer, [1])],
            milestones=[2],
        ),
    ],
)
def test_optimizer_and_schedule_are_resumed(build, make_data, make_net, tmp_path, scheduler):
    settings = {"optimizer": torch.optim.AdamW, "scheduler": scheduler, "epochs": 4}
    unbroken = build(**settings).fit(make_data())
    build(checkpoint_dir=tmp_path, callbacks=[StopAfter(2)], **settings).fit(make_data())
    resumed = build(make_net(seed=9), checkpoint_dir=tmp_path, **settings)
    resumed.fit(make_data(), resume=True)
    np.testing.assert_array_equal(resumed.losses_, unbroken.losses_)
    rates = [t.engine_.optimizers[0].param_groups[0]["lr"] for t in (resumed, unbroken)]
    assert rates[0] == rates[1]


class Restarts(CrossEntropy):
    """Carries state, and starts afresh after its second epoch with a loss that depends on it."""

    needs_restart = True

    def setup(self, context):
        self.steps, self.factor = 0, torch.ones(1)

    def loss(self, model, batch, context):
        self.steps += 1
        return self.factor * super().loss(model, batch, context)

    def end_epoch(self, context):
        if context.epoch == 2:
            context.engine.restart(context.num_epochs - 2)
        self.factor = self.factor + 0.01 * self.steps

    def state_dict(self):
        return {"steps": self.steps, "factor": self.factor}

    def load_state_dict(self, state):
        self.steps, self.factor = state["steps"], state["factor"]


def test_the_state_of_a_correction_is_resumed(build, make_data, make_net, tmp_path):
    """Also where it restarted the models at the end of the epoch that was saved."""
    settings = {"correction": Restarts(), "epochs": 5}
    unbroken = build(**settings).fit(make_data())
    build(checkpoint_dir=tmp_path, callbacks=[StopAfter(2)], **settings).fit(make_data())
    resumed = build(make_net(seed=9), checkpoint_dir=tmp_path, **settings)
    resumed.fit(make_data(), resume=True)
    assert resumed.correction_.steps == unbroken.correction_.steps == 5 * 6
    assert torch.equal(resumed.correction_.factor, unbroken.correction_.factor)
    np.testing.assert_array_equal(resumed.losses_, unbroken.losses_)


def test_a_run_that_was_stopped_early_stays_stopped(build, make_data, tmp_path):
    """Resuming it trains no further epoch."""
    settings = {"epochs": 9, "checkpoint_dir": tmp_path, "correction": "cross-entropy"}

    def stopping():
        return EarlyStopping("train_loss", patience=1, min_delta=100.0)

    first = build(callbacks=[stopping()], **settings).fit(make_data())
    assert len(first.history_) == 2
    again = build(callbacks=[stopping()], **settings).fit(make_data(), resume=True)
    assert again.history_ == first.history_
    np.testing.assert_array_equal(again.losses_, first.losses_)


class Counter(Callback):
    def on_train_begin(self, trainer):
        self.epochs = 0

    def on_epoch_end(self, trainer, record):
        self.epochs += 1

    def state_dict(self):
        return {"epochs": self.epochs}

    def load_state_dict(self, state):
        self.epochs = state["epochs"]


def test_callbacks_take_up_their_own_states(build, make_data, tmp_path):
    """Whatever others there are in the resumed run."""
    first = [StopAfter(2), Counter()]
    build(epochs=4, checkpoint_dir=tmp_path, callbacks=first).fit(make_data())
    counters = [Counter(), Counter()]
    resumed = build(epochs=4, checkpoint_dir=tmp_path, callbacks=[*counters, Callback()])
    resumed.fit(make_data(), resume=True)
    assert [counter.epochs for counter in counters] == [4, 2]


class Afresh(CrossEntropy):
    needs_restart = True

    def end_epoch(self, context):
        if context.epoch == 2:
            context.engine.restart(context.num_epochs - 2)


def test_the_best_model_is_the_one_that_its_epoch_trained(build, make_data):
    """Not what the correction restarted after it."""
    best = BestModel()
    trainer = build(correction=Afresh(), epochs=3, callbacks=[best]).fit(make_data(), make_data())
    best.restore(trainer)
    assert trainer.score(make_data()) == best.best_value_


@pytest.mark.parametrize("epochs", [2, 6])
def test_a_run_that_ends_before_a_restart_keeps_what_it_trained(
    build, make_data, make_net, tmp_path, epochs
):
    settings = {"correction": Afresh(), "epochs": epochs, "checkpoint_dir": tmp_path}
    ended = build(callbacks=[StopAfter(2)], **settings).fit(make_data(), make_data())
    assert ended.score(make_data()) == ended.history_[-1]["val_accuracy"]
    if epochs > 2:  # the restart comes where the run goes on
        unbroken = build(correction=Afresh(), epochs=epochs).fit(make_data(), make_data())
        resumed = build(make_net(seed=9), **settings).fit(make_data(), make_data(), resume=True)
        np.testing.assert_array_equal(resumed.losses_, unbroken.losses_)


class Rates(Callback):
    def __init__(self):
        self.rates = []

    def on_epoch_begin(self, trainer, epoch):
        self.rates.append(trainer.engine_.optimizers[0].param_groups[0]["lr"])


def test_a_restart_begins_with_the_full_learning_rate(build, make_data):
    """Whatever a schedule made of it before the first states were kept."""
    rates = Rates()
    build(
        correction=Afresh(),
        epochs=6,
        optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.1),
        scheduler=lambda optimizer: LinearLR(optimizer, start_factor=0.1, total_iters=3),
        callbacks=[rates],
    ).fit(make_data())
    np.testing.assert_allclose(rates.rates, [0.01, 0.04, 0.01, 0.04, 0.07, 0.1])


class Versioned(nn.Linear):
    """A module that looks at the version of its saved state, as some of torchvision's do."""

    _version = 2

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, *rest):
        assert local_metadata.get("version") == 2
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *rest)


def test_versions_of_modules_are_kept(build, make_data, tmp_path):
    build(Versioned(2, 3), checkpoint_dir=tmp_path / "run").fit(make_data()).save(tmp_path / "m.pt")
    build(Versioned(2, 3), checkpoint_dir=tmp_path / "run").fit(make_data(), resume=True)
    assert build(Versioned(2, 3)).load(tmp_path / "m.pt").losses_.shape == (96,)


def test_another_kind_of_optimizer_is_refused(build, make_data, tmp_path):
    build(checkpoint_dir=tmp_path).fit(make_data())
    message = r"made with optimizer = \['SGD'\], and cannot be resumed with \['AdamW'\]"
    with pytest.raises(InvalidDataError, match=message):
        build(checkpoint_dir=tmp_path, optimizer=torch.optim.AdamW).fit(make_data(), resume=True)


def test_weights_that_are_not_finite_are_never_the_newest_checkpoint(build, make_data, tmp_path):
    class Break(Callback):
        def on_epoch_end(self, trainer, record):
            if record["epoch"] == 2:
                trainer.model[0].weight.data[0, 0] = float("inf")

    with pytest.raises(
        NonFiniteLossError, match=r"^Weights of the model are not finite after epoch"
    ):
        build(checkpoint_dir=tmp_path, callbacks=[Break()], epochs=4).fit(make_data())
    assert [path.name for path in tmp_path.iterdir()] == ["epoch-00001.pt"]


@pytest.mark.filterwarnings("ignore::lossnoise.exceptions.LossNoiseWarning")
@pytest.mark.parametrize("correction", ["dyr-h", "co-teaching-plus"])
def test_resuming_after_losses_that_are_all_equal(build, tmp_path, correction):
    """The mixture in use is an older one then, and the run goes on with it."""
    labels = torch.arange(60) % 3
    inputs = 400.0 * nn.functional.one_hot(labels, 3).float() + torch.randn(60, 3)
    data = TensorDataset(inputs, labels)

    def make(**settings):
        torch.manual_seed(0)
        return build(nn.Linear(3, 3), correction=correction, epochs=6, **settings)

    straight = make().fit(data)
    assert not straight.losses_.any()
    assert straight.history_[-1]["noise_rate"] is not None
    make(checkpoint_dir=tmp_path, callbacks=[StopAfter(4)]).fit(data)
    resumed = make(checkpoint_dir=tmp_path).fit(data, resume=True)
    for record in (*straight.history_, *resumed.history_):
        del record["seconds"]
    assert resumed.history_ == straight.history_
    np.testing.assert_array_equal(resumed.noise_proba_, straight.noise_proba_)
    report = AuditReport.from_trainer(resumed, data)
    assert report.summary["separable"] is False
    assert not len(report.noisy_indices)


@pytest.mark.parametrize(
    ("changed", "shown", "was", "now"),
    [
        (
            {"optimizer": lambda p: torch.optim.SGD(p, 0.01)},
            "lr of the optimizer",
            "[0.1]",
            "[0.01]",
        ),
        (
            {"optimizer": lambda p: torch.optim.SGD(p, 0.1, momentum=0.5)},
            "momentum of the optimizer",
            "[0]",
            "[0.5]",
        ),
        (
            {"scheduler": lambda o: MultiStepLR(o, [2, 3])},
            "milestones of the schedule",
            "[{1: 1, 3: 1}]",
            "[{2: 1, 3: 1}]",
        ),
    ],
)
def test_another_learning_rate_is_refused(build, make_data, tmp_path, changed, shown, was, now):
    """The state of the old one would take its place without a word."""
    settings = {
        "optimizer": lambda p: torch.optim.SGD(p, 0.1),
        "scheduler": lambda o: MultiStepLR(o, [1, 3]),
        "epochs": 4,
        "checkpoint_dir": tmp_path,
    }
    build(callbacks=[StopAfter(2)], **settings).fit(make_data())
    message = (
        f"The checkpoint in {tmp_path} was made with {shown} = {was}, and cannot be resumed "
        f"with {now}."
    )
    with pytest.raises(InvalidDataError, match=exactly(message)):
        build(**(settings | changed)).fit(make_data(), resume=True)
    assert len(build(**settings).fit(make_data(), resume=True).history_) == 4


@pytest.mark.filterwarnings("ignore:Seems like `optimizer.step:UserWarning")  # of the new run
@pytest.mark.parametrize("schedule", [StepLR, OneCycleLR, None])
def test_ready_objects_that_have_begun_go_on_where_they_were(
    build, make_data, make_net, tmp_path, schedule
):
    model = make_net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    settings = {"epochs": 4, "checkpoint_dir": tmp_path, "optimizer": optimizer}
    if schedule is StepLR:
        settings["scheduler"] = StepLR(optimizer, 1)
    if schedule is OneCycleLR:
        settings["scheduler"] = OneCycleLR(optimizer, 0.1, total_steps=5)
    build(model, callbacks=[StopAfter(2)], **settings).fit(make_data())
    assert len(build(model, **settings).fit(make_data(), resume=True).history_) == 4


def test_a_folder_that_cannot_be_used_is_refused_before_training(build, make_data, tmp_path):
    (tmp_path / "file").write_text("mine")
    trainer = build(checkpoint_dir=Checkpoints(tmp_path / "file" / "run", every=50))
    with pytest.raises(InvalidParameterError, match="must be a folder to write into"):
        trainer.fit(make_data())
    assert trainer.history_ == []


def test_two_runs_in_one_folder_leave_each_others_checkpoints(build, make_data, tmp_path):
    class Other(Callback):
        def on_epoch_end(self, trainer, record):
            (tmp_path / "epoch-00009.pt").touch()

    build(checkpoint_dir=tmp_path, epochs=4, callbacks=[Other()]).fit(make_data())
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"epoch-0000{number}.pt" for number in (3, 4, 9)
    ]


def test_a_resumed_run_takes_over_the_checkpoints_that_it_goes_on_from(build, make_data, tmp_path):
    settings = {"checkpoint_dir": tmp_path, "epochs": 3}
    build(callbacks=[StopAfter(2)], **settings).fit(make_data())
    torch.save([1], tmp_path / "epoch-00007.pt")
    with pytest.warns(CheckpointWarning, match="is no checkpoint of NoisyLabelTrainer"):
        build(**settings).fit(make_data(), resume=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"epoch-0000{number}.pt" for number in (2, 3, 7)
    ]


class Timed(Callback):
    def __init__(self):
        self.when = datetime(2024, 1, 1)

    def on_epoch_end(self, trainer, record):
        record["when"] = self.when

    def state_dict(self):
        return {"best": self.when}


def test_files_that_could_not_be_read_are_refused(build, make_data, tmp_path):
    with pytest.raises(InvalidDataError, match=r"^What is saved as history\[0\]\.when must be ten"):
        build(checkpoint_dir=tmp_path / "run", callbacks=[Timed()]).fit(make_data())
    trainer = build(callbacks=[Timed()]).fit(make_data())
    with pytest.raises(InvalidDataError, match=r"^What is saved as history\[0\]\.when must be ten"):
        trainer.save(tmp_path / "model.pt")
    assert list(tmp_path.glob("*.pt")) == []


class ByCriterion(CrossEntropy):
    def __init__(self, *, criterion=None):
        self.criterion = criterion


def test_another_loss_function_of_a_correction_is_refused(build, make_data, tmp_path):
    for smoothing in (0.1, 0.1, 0.2):
        parts = torch.nn.Linear(2, 2), torch.nn.CrossEntropyLoss(label_smoothing=smoothing)
        correction = ByCriterion(criterion=torch.nn.Sequential(*parts))
        trainer = build(epochs=1, correction=correction, checkpoint_dir=tmp_path)
        trainer.fit(make_data(), resume=True) if smoothing == 0.1 else None
    with pytest.raises(InvalidDataError, match="was made with modules of the corr"):
        trainer.fit(make_data(), resume=True)
