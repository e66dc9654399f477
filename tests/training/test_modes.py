"""Modes of models that several threads use: put back in order, whatever happens between."""

import multiprocessing
import os
import threading
from concurrent.futures import ThreadPoolExecutor, wait

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from lossnoise.corrections._modes import eval_mode, trained_here
from lossnoise.exceptions import InvalidParameterError

pytestmark = pytest.mark.filterwarnings("ignore::lossnoise.exceptions.LossNoiseWarning")


def flags(*models):
    return [part.training for model in models for part in model.modules()]


def three_parts():
    shared, first, second = (nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)) for _ in range(3))
    return shared, first, second


class Held:
    """A model in eval mode in a thread of its own, until it is let go."""

    def __init__(self, threads, *parts, using=eval_mode):
        self.begun, self.let_go = threading.Event(), threading.Event()
        self.end = threads.submit(self.hold, using, nn.Sequential(*parts))
        assert self.begun.wait(30)

    def hold(self, using, model):
        with using(model):
            self.begun.set()
            assert self.let_go.wait(30)

    def finish(self):
        self.let_go.set()
        self.end.result(timeout=30)


def test_modes_come_back_in_reverse_order():
    """The second use of a shared part found it in eval mode, and the third one the second's."""
    shared, first, second = three_parts()
    with ThreadPoolExecutor(3) as threads:
        uses = [Held(threads, shared, first), Held(threads, shared, second)]
        uses.append(Held(threads, second, nn.Dropout()))
        for place in (1, 0, 2):
            assert not any(flags(second)) or place != 2
            uses[place].finish()
    assert all(flags(shared, first, second))


def test_training_waits_until_the_modes_are_back():
    """The first use is over, but its part is in eval mode as long as the shared one is used."""
    shared, first, second = three_parts()
    with ThreadPoolExecutor(3) as threads:
        uses = [Held(threads, shared, first), Held(threads, shared, second)]
        uses[0].finish()
        assert not any(flags(first))
        found = threads.submit(train, nn.Sequential(first, nn.Linear(2, 2)))
        assert not wait([found], timeout=0.2).done
        uses[1].finish()
        assert found.result(timeout=30) is True
    assert all(flags(shared, first, second))


def train(model):
    with trained_here(model):
        return all(flags(model))


def test_other_models_are_left_alone():
    mine, other = nn.Linear(2, 2), nn.Linear(2, 2)
    with ThreadPoolExecutor(2) as threads:
        training = Held(threads, mine, using=trained_here)
        with eval_mode(other):
            assert not other.training
        assert threads.submit(train, other).result(timeout=30)
        with pytest.raises(InvalidParameterError, match="until fit has ended"), trained_here(mine):
            pass
        with pytest.raises(InvalidParameterError, match="until fit has ended"), eval_mode(mine):
            pass
        training.finish()
    with eval_mode(mine):
        assert not mine.training
    assert mine.training


class FailsOnce(nn.Linear):
    """Raises where it is put back into train mode, the first time."""

    failed = False

    def train(self, mode=True):
        if mode and not self.failed:
            self.failed = True
            raise RuntimeError("cannot unfold now")
        return super().train(mode)


def test_a_model_that_cannot_be_put_back_stops_nobody():
    model = nn.Sequential(FailsOnce(2, 2), nn.Linear(2, 2))
    with ThreadPoolExecutor(2) as threads:
        held = Held(threads, model)
        found = threads.submit(train, model)
        assert not wait([found], timeout=0.2).done
        with pytest.raises(RuntimeError, match="cannot unfold now"):
            held.finish()
        found.result(timeout=30)


class Stop(nn.Linear):
    """Is interrupted where it is put back into train mode, the first time."""

    stopped = False

    def train(self, mode=True):
        if mode and not self.stopped:
            self.stopped = True
            raise KeyboardInterrupt
        return super().train(mode)


def test_what_is_interrupted_is_done_by_the_next_one():
    model = nn.Sequential(Stop(2, 2), nn.Linear(2, 2))
    with pytest.raises(KeyboardInterrupt), eval_mode(model):
        pass
    with eval_mode(model):
        assert not any(flags(model))
    assert all(flags(model))


def test_a_refused_fit_changes_nothing_of_the_run_that_goes_on(build, make_data):
    data = make_data()

    class Asks(TensorDataset):
        refuses = False

        def __getitem__(self, index):
            if self.refuses:
                errors.append(threads.submit(try_to_fit).result(timeout=30))
            return super().__getitem__(index)

    def try_to_fit():
        with pytest.raises(InvalidParameterError):
            build(trainer.model).fit(data)
        return True

    found, errors = [], []
    with ThreadPoolExecutor(1) as threads:
        for Asks.refuses in (False, True):
            trainer = build(dropping_net(), epochs=2)
            found.append(trainer.fit(Asks(*data.tensors)).losses_)
    assert all(errors)
    assert len(errors) > 100
    np.testing.assert_array_equal(*found)


class Drawing(TensorDataset):
    """Draws a random number for each sample, once it may."""

    def __init__(self, data):
        super().__init__(*data.tensors)
        self.is_read, self.may_go_on = threading.Event(), threading.Event()

    def __getitem__(self, index):
        self.is_read.set()
        assert self.may_go_on.wait(30)
        torch.rand(1)
        return super().__getitem__(index)


def test_a_fit_that_waited_is_that_of_its_random_state(build, make_data):
    data = make_data()
    trainer = build(dropping_net()).fit(data)
    expected = build(dropping_net()).fit(data).losses_
    drawing, again = Drawing(data), build(dropping_net())
    again.model[0] = trainer.model[0]  # a part in common
    trainer.model[0].load_state_dict(dropping_net()[0].state_dict())
    with ThreadPoolExecutor(2) as threads:
        prediction = threads.submit(trainer.predict_proba, drawing)
        assert drawing.is_read.wait(30)
        training = threads.submit(again.fit, data)
        assert not wait([training], timeout=0.2).done
        drawing.may_go_on.set()
        prediction.result(timeout=30)
        training.result(timeout=60)
    np.testing.assert_array_equal(again.losses_, expected)


def dropping_net():
    layers = [nn.Linear(2, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 3)]
    net, generator = nn.Sequential(*layers), torch.Generator().manual_seed(0)
    for weights in net.parameters():
        nn.init.uniform_(weights, -0.5, 0.5, generator=generator)
    return net


class Nested(Drawing):
    """Predicts for each sample that is read."""

    def __getitem__(self, index):
        sample = super().__getitem__(index)
        assert self.trainer.predict_proba(self.tensors[0][:4]).shape == (4, 3)
        return sample


def test_a_prediction_within_one_that_is_waited_for(build, make_data):
    data = make_data(32)
    trainer = build(dropping_net()).fit(data)
    nested = Nested(data)
    nested.trainer = trainer
    expected = trainer.predict_proba(data)
    with ThreadPoolExecutor(2) as threads:
        prediction = threads.submit(trainer.predict_proba, nested)
        assert nested.is_read.wait(30)
        training = threads.submit(build(trainer.model).fit, data)
        assert not wait([training], timeout=0.2).done
        nested.may_go_on.set()
        np.testing.assert_array_equal(prediction.result(timeout=60), expected)
        training.result(timeout=60)


def fit_in_child(model, queue):
    with trained_here(model):
        queue.put(True)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_does_not_wait_for_threads_that_it_has_not():
    model, context = nn.Linear(2, 2), multiprocessing.get_context("fork")
    queue = context.Queue()
    with ThreadPoolExecutor(1) as threads:
        held = Held(threads, model)
        child = context.Process(target=fit_in_child, args=(model, queue))
        child.start()
        assert queue.get(timeout=30) is True
        child.join(30)
        held.finish()
