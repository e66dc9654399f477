"""Callbacks that write, stop and choose: what they do in a run, after a resume, on two ranks."""

import copy
import csv
import re
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.exceptions import NotFittedError
from torch import nn
from torch.utils.data import DataLoader, WeightedRandomSampler

from lossnoise.exceptions import (
    InvalidDataError,
    InvalidParameterError,
    MissingExtraError,
    ScheduleWarning,
)
from lossnoise.training import (
    BestModel,
    CSVLogger,
    EarlyStopping,
    LossRecorder,
    TensorBoardLogger,
    callbacks,
    loggers,
)


class Trainer(SimpleNamespace):
    """What callbacks see of a trainer; the weight of its model is the number of the epoch."""

    def __init__(self, verbose=0):
        super().__init__(
            history_=[], model=nn.Linear(1, 1), stopped=False, verbose=verbose, epochs=9
        )
        self.engine_ = SimpleNamespace(first_epoch=1, awaits_restart=False)
        self.recorder_ = LossRecorder(1)  # records nothing

    def request_stop(self):
        self.stopped = True

    def run(self, callback, values, name="val_accuracy", state=None):
        """Run epochs until there are no more values, or the callback asks to stop."""
        callback.on_train_begin(self)
        callback.load_state_dict(state or {})
        if self.history_:
            callback.on_resume(self)
        for value in values:
            if self.stopped:
                break
            self.train_epoch(callback, value, name)
        callback.on_train_end(self)
        return self

    def train_epoch(self, callback, value, name="val_accuracy"):
        epoch = len(self.history_) + 1
        nn.init.constant_(self.model.weight, epoch)
        record = {"epoch": epoch, "train_loss": 1.0 / epoch, "val_accuracy": None} | {name: value}
        self.history_.append(record)
        callback.on_epoch_end(self, record)

    def resumed(self):
        """Return a trainer that went on from a checkpoint of this one."""
        other = Trainer()
        other.history_ = copy.deepcopy(self.history_)
        other.model.load_state_dict(self.model.state_dict())
        return other


def exactly(message):
    return f"^{re.escape(message)}$"


def through_a_file(state, folder):
    torch.save(state, folder / "state.pt")
    return torch.load(folder / "state.pt", weights_only=True)


def read(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


# -- CSVLogger ------------------------------------------------------------------------------------


def test_one_row_an_epoch_that_reads_back_to_the_history(tmp_path):
    path = tmp_path / "new" / "folder" / "run.csv"
    trainer = Trainer().run(CSVLogger(path), [0.1, None, 1 / 3])
    assert path.read_text().splitlines()[0] == "epoch,train_loss,val_accuracy"
    rows = read(path)
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3]
    assert [row["val_accuracy"] for row in rows] == ["0.1", "", repr(1 / 3)]  # None, and all digits
    assert float(rows[2]["train_loss"]) == trainer.history_[2]["train_loss"]
    assert [found.name for found in path.parent.iterdir()] == ["run.csv"]


def test_the_file_is_complete_after_each_epoch(tmp_path):
    logger, trainer = CSVLogger(str(tmp_path / "run.csv")), Trainer()
    logger.on_train_begin(trainer)
    for epoch in (1, 2, 3):
        trainer.train_epoch(logger, 0.5)
        assert len(read(tmp_path / "run.csv")) == epoch


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_a_resumed_run_has_each_epoch_once(tmp_path, lost):
    """The file may be ahead of the checkpoint that the run goes on from."""
    path = tmp_path / "run.csv"
    trainer = Trainer().run(CSVLogger(path), [0.1, 0.2, 0.3])
    other = trainer.resumed()
    del other.history_[3 - lost :]
    other.run(CSVLogger(path), [0.9] * (1 + lost))
    assert [int(row["epoch"]) for row in read(path)] == [1, 2, 3, 4]
    assert [float(row["val_accuracy"]) for row in read(path)][-1 - lost :] == [0.9] * (1 + lost)


def test_a_new_run_takes_the_place_of_an_old_one(tmp_path):
    path = tmp_path / "run.csv"
    Trainer().run(CSVLogger(path), [0.1, 0.2, 0.3])
    Trainer().run(CSVLogger(path), [0.5])
    assert [row["val_accuracy"] for row in read(path)] == ["0.5"]


def test_a_number_that_appears_later_gets_a_column(tmp_path):
    path, trainer = tmp_path / "run.csv", Trainer()
    trainer.run(CSVLogger(path), [0.1, 0.2]).run(CSVLogger(path), [0.7], name="other, number")
    assert [row["other, number"] for row in read(path)] == ["", "", "0.7"]


def test_only_the_first_process_writes(tmp_path, monkeypatch):
    monkeypatch.setattr(loggers, "rank_and_size", lambda: (1, 2))
    Trainer().run(CSVLogger(tmp_path / "folder" / "run.csv"), [0.1])
    assert list(tmp_path.iterdir()) == []


def test_only_the_first_process_writes_for_tensorboard(tmp_path, monkeypatch):
    pytest.importorskip("tensorboard")
    monkeypatch.setattr(loggers, "rank_and_size", lambda: (1, 2))
    Trainer().run(TensorBoardLogger(tmp_path), [0.1])
    assert list(tmp_path.iterdir()) == []


def test_the_path_is_that_of_a_file(tmp_path):
    for path in (tmp_path, None):
        message = (
            f"The 'path' parameter of CSVLogger must be the path of a file. Got {path!r} instead."
        )
        with pytest.raises(InvalidParameterError, match=exactly(message)):
            Trainer().run(CSVLogger(path), [0.1])


# -- TensorBoardLogger ----------------------------------------------------------------------------


def read_events(folder):
    """Return {name: {epoch: value}} as TensorBoard shows it, and the same of histograms' counts."""
    loader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    everything = {"scalars": 0, "histograms": 0}
    events = loader.EventAccumulator(str(folder), everything).Reload()
    tags = events.Tags()
    scalars = {tag: {e.step: e.value for e in events.Scalars(tag)} for tag in tags["scalars"]}
    counts = {
        tag: {e.step: e.histogram_value.num for e in events.Histograms(tag)}
        for tag in tags["histograms"]
    }
    return scalars, counts


def test_tensorboard_shows_the_history_and_the_losses_that_are_known(build, make_data, tmp_path):
    pytest.importorskip("tensorboard")
    train, val = make_data(), make_data(60, seed=1)
    logger = TensorBoardLogger(tmp_path / "runs" / "first")
    trainer = build(correction="dyr-h", epochs=3, callbacks=[logger]).fit(train, val)
    scalars, counts = read_events(tmp_path / "runs" / "first")
    for record in trainer.history_:
        shown = {name: curve.get(record["epoch"]) for name, curve in scalars.items()}
        assert shown == pytest.approx({name: float(record[name]) for name in scalars})
    assert {"train_loss", "val_accuracy", "seconds"} <= set(scalars)
    assert counts == {"losses": {epoch: len(train) for epoch in (1, 2, 3)}}


def test_tensorboard_shows_the_losses_of_the_epoch_alone(build, make_data, tmp_path):
    """Where a sampler leaves samples out, the newest of theirs is one of an earlier epoch."""
    pytest.importorskip("tensorboard")
    some = DataLoader(make_data(), batch_size=20, sampler=WeightedRandomSampler([1.0] * 96, 60))
    trainer = build(correction="cross-entropy", epochs=3, callbacks=[TensorBoardLogger(tmp_path)])
    history = trainer.fit(some).loss_history_
    seen = np.isfinite(history).sum(axis=0)
    assert read_events(tmp_path)[1] == {"losses": {e: seen[e - 1] for e in (1, 2, 3)}}


def test_tensorboard_shows_an_epoch_once_after_a_resume(tmp_path):
    pytest.importorskip("tensorboard")
    trainer = Trainer().run(TensorBoardLogger(tmp_path), [0.1, 0.2, 0.3])
    trainer.history_.pop()  # its checkpoint was not written
    trainer.resumed().run(TensorBoardLogger(tmp_path), [0.7])
    assert read_events(tmp_path)[0]["val_accuracy"] == pytest.approx({1: 0.1, 2: 0.2, 3: 0.7})


def test_tensorboard_needs_a_folder_and_its_package(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    for wrong in (None, tmp_path / "file"):
        with pytest.raises(InvalidParameterError, match=r"^The 'log_dir' parameter of TensorBoar"):
            Trainer().run(TensorBoardLogger(wrong), [0.1])
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    message = (
        "TensorBoardLogger needs tensorboard, which is not installed: "
        "pip install 'lossnoise[tensorboard]'"
    )
    with pytest.raises(MissingExtraError, match=exactly(message)):
        Trainer().run(TensorBoardLogger(tmp_path), [0.1])


# -- EarlyStopping --------------------------------------------------------------------------------

RISES = [0.1, 0.3, 0.2, 0.3, 0.25, 0.9]  # best in epoch 2; epochs 3 to 5 are no better


@pytest.mark.parametrize(
    ("settings", "name", "values"),
    [
        ({}, "val_accuracy", RISES),
        ({"monitor": "train_loss"}, "train_loss", [-x for x in RISES]),
        ({"monitor": "noise_rate", "mode": "min"}, "noise_rate", [-x for x in RISES]),
        ({"monitor": "train_loss", "mode": "max"}, "train_loss", RISES),
    ],
)
def test_the_run_ends_after_epochs_without_improvement(settings, name, values):
    stopping = EarlyStopping(patience=3, **settings)
    trainer = Trainer().run(stopping, values, name)
    assert trainer.stopped
    assert len(trainer.history_) == stopping.stopped_epoch_ == 5
    assert (stopping.best_epoch_, stopping.best_value_) == (2, values[1])


@pytest.mark.parametrize("verbose", [0, 1])
@pytest.mark.parametrize("rank", [0, 1])
def test_it_says_why_the_run_ended(monkeypatch, capsys, verbose, rank):
    monkeypatch.setattr(callbacks, "rank_and_size", lambda: (rank, 2))
    Trainer(verbose).run(EarlyStopping(patience=3), RISES[:4])
    last = Trainer(verbose)
    last.epochs = 5  # the patience ends with the run
    last.run(EarlyStopping(patience=3), RISES)
    assert capsys.readouterr() == ("", "")
    Trainer(verbose).run(EarlyStopping(patience=3), RISES)
    why = (
        "stopped after epoch 5 of 9: val_accuracy has not improved for 3 epochs, best in epoch 2\n"
    )
    assert capsys.readouterr() == ("", why if verbose and rank == 0 else "")


def test_an_improvement_begins_the_patience_anew():
    stopping = EarlyStopping(patience=2)
    trainer = Trainer().run(stopping, [0.1, 0.0, 0.2, 0.1, 0.3, 0.2])
    assert not trainer.stopped
    assert stopping.stopped_epoch_ is None
    assert stopping.best_epoch_ == 5


def test_small_changes_do_not_count():
    values = [0.5, 0.5625, 0.625, 0.6875]  # 1/16 more each time, exact in binary
    stopping = EarlyStopping(patience=3, min_delta=0.125)
    assert not Trainer().run(stopping, values).stopped  # 0.6875 is more than 0.125 above 0.5
    assert stopping.best_epoch_ == 4
    stopping = EarlyStopping(patience=2, min_delta=0.0625)
    Trainer().run(stopping, values[:3])
    assert stopping.best_epoch_ == 3  # 0.5625 is not more than 0.0625 above 0.5


def test_nan_is_no_improvement():
    stopping = EarlyStopping(patience=2)
    with pytest.warns(ScheduleWarning, match="after epoch 4 of 9: 'val_accuracy' is nan, which"):
        trainer = Trainer().run(stopping, [np.nan, 0.1, np.nan, np.nan])
    assert trainer.stopped
    assert stopping.best_epoch_ == 2


@pytest.mark.parametrize("cut", [1, 2, 3, 4, 5])
def test_stopping_goes_on_where_it_was_interrupted(tmp_path, cut):
    whole = EarlyStopping(patience=3)
    Trainer().run(whole, RISES)
    first = EarlyStopping(patience=3)
    trainer = Trainer().run(first, RISES[:cut])
    second, state = EarlyStopping(patience=3), through_a_file(first.state_dict(), tmp_path)
    resumed = trainer.resumed().run(second, RISES[cut:], state=state)
    assert len(resumed.history_) == whole.stopped_epoch_ == second.stopped_epoch_
    assert second.best_epoch_ == whole.best_epoch_
    assert second.state_dict() == whole.state_dict()


def test_without_a_state_the_history_is_read_again():
    trainer = Trainer()
    trainer.run(EarlyStopping(patience=9), RISES[:4])
    stopping = EarlyStopping(patience=3)
    resumed = trainer.resumed().run(stopping, RISES[4:])
    assert len(resumed.history_) == stopping.stopped_epoch_ == 5


def test_an_old_wait_that_was_overcome_does_not_stop_a_resumed_run():
    trainer = Trainer()
    trainer.run(EarlyStopping(patience=9), RISES)  # three epochs without improvement, and one with
    stopping = EarlyStopping(patience=3)
    resumed = trainer.resumed().run(stopping, [0.0])
    assert not resumed.stopped
    assert stopping.best_epoch_ == 6


def test_a_new_run_begins_anew():
    stopping = EarlyStopping(patience=3)
    Trainer().run(stopping, RISES)
    trainer = Trainer().run(stopping, [0.01, 0.02])
    assert not trainer.stopped
    assert (stopping.best_epoch_, stopping.stopped_epoch_) == (2, None)


# -- BestModel ------------------------------------------------------------------------------------


def weight(trainer):
    return trainer.model.weight.item()


@pytest.mark.parametrize(
    ("values", "best"), [(RISES, 6), (RISES[:5], 2), ([np.nan, 0.0], 2), ([0.5, 0.5], 1)]
)
def test_the_best_epoch_is_kept_and_training_left_alone(values, best):
    keeper = BestModel()
    trainer = Trainer().run(keeper, values)
    assert (keeper.best_epoch_, keeper.best_value_) == (best, values[best - 1])
    assert weight(trainer) == len(values)
    keeper.restore(trainer)
    assert weight(trainer) == best
    nn.init.zeros_(trainer.model.weight)
    keeper.restore(trainer)  # the copy is one of its own
    assert weight(trainer) == best


def test_buffers_are_kept_too(make_net):
    keeper, trainer = BestModel(), Trainer()
    trainer.model = make_net()
    trainer.model.weight = trainer.model[0].weight  # the stand-in writes the epoch there
    keeper.on_train_begin(trainer)
    trainer.train_epoch(keeper, 0.5)
    expected = copy.deepcopy(trainer.model.state_dict())
    trainer.model(torch.randn(8, 2))  # BatchNorm's statistics move
    assert not torch.equal(trainer.model.state_dict()["1.running_mean"], expected["1.running_mean"])
    trainer.train_epoch(keeper, 0.4)
    keeper.restore(trainer)
    for name, value in trainer.model.state_dict().items():
        assert torch.equal(value, expected[name]), name


@pytest.mark.parametrize("cut", [1, 2, 3, 5])
def test_the_best_model_survives_an_interruption(tmp_path, cut):
    first = BestModel()
    trainer = Trainer().run(first, RISES[:cut])
    second, state = BestModel(), through_a_file(first.state_dict(), tmp_path)
    resumed = trainer.resumed().run(second, RISES[cut:5], state=state)
    second.restore(resumed)
    assert weight(resumed) == second.best_epoch_ == 2


def test_models_of_epochs_that_nobody_kept_are_not_made_up():
    """Added at a resume: the history knows a better epoch, whose weights are gone."""
    trainer = Trainer()
    trainer.run(EarlyStopping(), [0.9, 0.2])
    keeper = BestModel()
    resumed = trainer.resumed().run(keeper, [0.1])
    assert (keeper.best_epoch_, keeper.best_value_) == (2, 0.2)
    keeper.restore(resumed)
    assert weight(resumed) == 2


def test_a_new_run_forgets_the_old_model():
    keeper = BestModel()
    Trainer().run(keeper, [0.9])
    trainer = Trainer().run(keeper, [0.1, 0.2])
    assert keeper.best_epoch_ == 2
    keeper.restore(trainer)
    assert weight(trainer) == 2


@pytest.mark.parametrize(
    ("name", "values", "chosen"),
    [
        ("val_accuracy", RISES[:4], "epoch 2 of 4, by val_accuracy = 0.3000 on the data given to "
         "fit as val"),
        ("train_loss", [0.5, 0.75], "epoch 1 of 2, by train_loss = 0.5000 on the training data, "
         "labels as given"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("verbose", [0, 1])
@pytest.mark.parametrize("rank", [0, 1])
def test_it_says_on_which_data_it_chose(monkeypatch, capsys, name, values, chosen, verbose, rank):
    monkeypatch.setattr(callbacks, "rank_and_size", lambda: (rank, 2))
    keeper = BestModel(name)
    Trainer(verbose).run(keeper, values, name)
    assert keeper.chosen_on_ == chosen
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (f"best model: {chosen}\n" if verbose and rank == 0 else "")


def test_nothing_was_chosen_where_nothing_was_measured():
    keeper = BestModel()
    trainer = Trainer().run(keeper, [np.nan])
    assert not hasattr(keeper, "chosen_on_")
    message = (
        "BestModel has no model to restore: it has watched no epoch yet. A clone of a trainer has "
        "callbacks of its own, in its `callbacks`."
    )
    for one in (keeper, BestModel()):
        with pytest.raises(NotFittedError, match=exactly(message)):
            one.restore(trainer)


# -- both ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [EarlyStopping, BestModel])
def test_a_number_that_no_epoch_records(kind):
    message = (
        f"The 'monitor' parameter of {kind.__name__} must be a name in history_, one of 'epoch', "
        "'train_loss', 'val_accuracy'. Got 'test_accuracy' instead: a callback that adds one of "
        "its own comes before, in 'callbacks'."
    )
    with pytest.raises(InvalidParameterError, match=exactly(message)):
        Trainer().run(kind("test_accuracy"), [0.1])


@pytest.mark.parametrize("kind", [EarlyStopping, BestModel])
@pytest.mark.parametrize(
    ("settings", "name", "advice"),
    [
        ({}, "val_accuracy", "give fit a validation set"),
        ({"mode": "min"}, "noise_rate", "watch what this run measures"),
    ],
)
def test_a_number_that_was_not_measured(kind, settings, name, advice):
    message = f"{kind.__name__} watches {name!r}, which is None in epoch 1: {advice}."
    with pytest.raises(InvalidDataError, match=exactly(message)):
        Trainer().run(kind(name, **settings), [None], name)


@pytest.mark.parametrize(
    ("callback", "expected", "got"),
    [
        (EarlyStopping(3), "'monitor' parameter of EarlyStopping must be a name in history_", "3"),
        (
            EarlyStopping(patience=0),
            "'patience' parameter of EarlyStopping must be an int in the range [1, inf)",
            "0",
        ),
        (
            EarlyStopping(min_delta=-0.1),
            "'min_delta' parameter of EarlyStopping must be a float in the range [0.0, inf)",
            "-0.1",
        ),
        (
            BestModel(mode="best"),
            "'mode' parameter of BestModel must be one of 'auto', 'max', 'min'",
            "'best'",
        ),
        (
            BestModel("noise_rate"),
            "'mode' parameter of BestModel must be 'max' or 'min' where the name 'noise_rate' does "
            "not tell",
            "'auto'",
        ),
    ],
)
def test_parameters_are_checked_before_the_first_epoch(callback, expected, got):
    with pytest.raises(InvalidParameterError, match=exactly(f"The {expected}. Got {got} instead.")):
        callback.on_train_begin(Trainer())


@pytest.mark.parametrize("callback", [EarlyStopping(), BestModel()])
def test_before_a_run_there_is_no_state(callback):
    assert callback.state_dict() == {}
    callback.load_state_dict({})
    assert callback.state_dict() == {}


def test_in_a_run_the_best_epoch_is_restored_to_what_it_scored(build, make_data, tmp_path):
    train, val = make_data(), make_data(60, noise=0.3, seed=1)
    keeper, stopping = BestModel(), EarlyStopping(patience=3)
    path = tmp_path / "run.csv"
    callbacks = [keeper, stopping, CSVLogger(path)]
    trainer = build(correction="mixup", epochs=30, callbacks=callbacks).fit(train, val)
    accuracies = [record["val_accuracy"] for record in trainer.history_]
    assert len(accuracies) == stopping.stopped_epoch_ == keeper.best_epoch_ + 3 < 30
    assert keeper.best_value_ == max(accuracies)
    keeper.restore(trainer)
    assert trainer.score(val) == keeper.best_value_
    assert [float(row["val_accuracy"]) for row in read(path)] == accuracies
