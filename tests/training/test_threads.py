"""Predictions by several threads at a time, and while another one trains."""

import multiprocessing
import os
import threading
from concurrent.futures import ThreadPoolExecutor, wait

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from lossnoise.exceptions import InvalidParameterError
from lossnoise.training import Callback

pytestmark = pytest.mark.filterwarnings("ignore::lossnoise.exceptions.LossNoiseWarning")
MESSAGE = (
    "The 'model' parameter of NoisyLabelTrainer must be left to the thread that trains it, until "
    "fit has ended. Got a call by another thread instead: callbacks are called by the same one, "
    "and may predict, or make a copy for others (copy.deepcopy)."
)


def dropping_net():
    layers = [nn.Linear(2, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 3)]
    net, generator = nn.Sequential(*layers), torch.Generator().manual_seed(0)
    for weights in net.parameters():
        nn.init.uniform_(weights, -0.5, 0.5, generator=generator)
    return net


@pytest.mark.parametrize("loaded", [False, True])
def test_threads_get_what_one_gets(build, make_data, tmp_path, loaded):
    data = make_data()
    trainer = build(dropping_net()).fit(data)
    if loaded:
        trainer.save(tmp_path / "model.pt")
        trainer = build(dropping_net()).load(tmp_path / "model.pt")
    inputs = data.tensors[0]
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    expected = trainer.predict_proba(inputs)
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda _: trainer.predict_proba(inputs), range(40)))
    assert all(np.array_equal(each, expected) for each in found)
    assert all(torch.equal(v, before[name]) for name, v in trainer.model.state_dict().items())
    assert trainer.model.training


class Meeting(nn.Module):
    """Goes on when two threads have called it."""

    def __init__(self):
        super().__init__()
        self.last, self.barrier = nn.Linear(2, 3), None

    def forward(self, inputs):
        if self.barrier is not None:
            self.barrier.wait(timeout=30)
        return self.last(inputs)


def test_a_model_in_eval_mode_is_used_at_the_same_time(build, make_data):
    data = make_data(32)
    trainer = build(Meeting()).fit(data)
    trainer.model.eval()
    trainer.model.barrier = threading.Barrier(2)
    with ThreadPoolExecutor(2) as threads:
        first, second = threads.map(lambda _: trainer.predict_proba(data.tensors[0]), range(2))
    assert np.array_equal(first, second)


def test_models_that_share_a_part_take_turns(build, make_data):
    data, shared = make_data(), dropping_net()
    trainers = [build(nn.Sequential(shared, nn.ReLU(), nn.Linear(3, 3))).fit(data) for _ in "ab"]
    before = {name: value.clone() for name, value in shared.state_dict().items()}
    inputs = data.tensors[0]
    expected = [trainer.predict_proba(inputs) for trainer in trainers]
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda i: trainers[i % 2].predict_proba(inputs), range(60)))
    assert all(np.array_equal(each, expected[i % 2]) for i, each in enumerate(found))
    assert all(torch.equal(value, before[name]) for name, value in shared.state_dict().items())


class Waiting(TensorDataset):
    """Says when it is read, and goes on when it may."""

    def __init__(self, data):
        super().__init__(*data.tensors)
        self.is_read, self.may_go_on = threading.Event(), threading.Event()

    def __getitem__(self, index):
        self.is_read.set()
        assert self.may_go_on.wait(30)
        return super().__getitem__(index)


class Note(Callback):
    """Notes after each batch whether the dataset may be read."""

    def __init__(self, waiting):
        self.waiting, self.found = waiting, []

    def on_batch_end(self, *of_batch):
        self.found.append(self.waiting.may_go_on.is_set())


@pytest.mark.parametrize("mode", [True, False])
def test_training_waits_for_predictions_that_have_begun(build, make_data, mode):
    data = make_data()
    trainer = build(dropping_net()).fit(data)
    trainer.model.train(mode)
    expected, waiting = trainer.predict_proba(data), Waiting(data)
    note = Note(waiting)
    with ThreadPoolExecutor(2) as threads:
        prediction = threads.submit(trainer.predict_proba, waiting)
        assert waiting.is_read.wait(30)
        training = threads.submit(build(trainer.model, callbacks=[note]).fit, data)
        training_waits = not wait([training], timeout=0.2).done
        waiting.may_go_on.set()
        assert np.array_equal(prediction.result(), expected)
        training.result()
    assert training_waits
    assert all(note.found)
    assert trainer.model.training is mode


class Asking(TensorDataset):
    """Has another thread predict for each sample that is read."""

    def __init__(self, data, trainer, threads):
        super().__init__(*data.tensors)
        self.trainer, self.threads = trainer, threads

    def __getitem__(self, index):
        predict = self.threads.submit(self.trainer.predict_proba, self.tensors[0][:4])
        assert predict.result(timeout=30).shape == (4, 3)
        return super().__getitem__(index)


def test_a_dataset_may_predict_by_another_thread(build, make_data):
    data = make_data(32)
    trainer = build(dropping_net()).fit(data)
    with ThreadPoolExecutor(1) as threads:
        found = trainer.predict_proba(Asking(data, trainer, threads))
    assert np.array_equal(found, trainer.predict_proba(data))
    assert trainer.model.training


def score(trainer, data, queue):
    torch.set_num_threads(1)
    queue.put(trainer.score(data))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no processes are forked here")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_process_forked_while_a_thread_predicts_does_not_wait_for_it(build, make_data):
    data = make_data(32)
    trainer = build(dropping_net()).fit(data)
    expected = trainer.score(data)
    waiting, processes = Waiting(data), multiprocessing.get_context("fork")
    with ThreadPoolExecutor(1) as thread:
        prediction = thread.submit(trainer.predict_proba, waiting)
        assert waiting.is_read.wait(30)
        queue = processes.Queue()
        child = processes.Process(target=score, args=(trainer, data, queue))
        child.start()
        try:
            assert queue.get(timeout=30) == expected
        finally:
            child.kill()
            child.join()
            waiting.may_go_on.set()
        assert prediction.exception() is None


class PredictElsewhere(Callback):
    """Has another thread predict after each epoch, and predicts by itself."""

    def __init__(self, inputs):
        self.inputs, self.errors = inputs, []

    def on_epoch_end(self, trainer, record):
        trainer.predict_proba(self.inputs)
        with ThreadPoolExecutor(1) as thread:
            self.errors.append(thread.submit(trainer.predict_proba, self.inputs).exception())


def test_a_thread_that_does_not_train_is_refused_while_another_does(build, make_data):
    data = make_data()
    plain = build(dropping_net()).fit(data)
    callback = PredictElsewhere(data.tensors[0])
    trainer = build(dropping_net(), callbacks=[callback]).fit(data)
    assert [type(error) for error in callback.errors] == 2 * [InvalidParameterError]
    assert str(callback.errors[0]) == MESSAGE
    assert np.array_equal(trainer.losses_, plain.losses_)
    with ThreadPoolExecutor(1) as thread:  # when fit has ended
        assert thread.submit(trainer.score, data).result() == trainer.score(data)


def test_after_a_run_that_failed_other_threads_may_predict(build, make_data):
    class Fail(Callback):
        def on_epoch_end(self, trainer, record):
            raise OSError("no space")

    data = make_data()
    trainer = build(dropping_net()).fit(data)
    with pytest.raises(OSError, match="no space"):
        trainer.set_params(callbacks=[Fail()]).fit(data)
    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(trainer.predict, data).exception() is None
