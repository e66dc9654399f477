"""Callbacks that choose an epoch, where a correction has the weights begin anew within the run."""

import pytest

from lossnoise.corrections import CrossEntropy, ForwardCorrection
from lossnoise.training import BestModel, Callback, EarlyStopping


class Cycles(CrossEntropy):
    """Starts afresh after every second epoch, with a schedule of two epochs."""

    needs_restart = True

    def end_epoch(self, context):
        if context.epoch % 2 == 0:
            context.engine.restart(2)


def test_each_of_several_restarts_counts(build, make_data):
    best = BestModel("epoch", "min")
    build(correction=Cycles(), epochs=7, callbacks=[best]).fit(make_data())
    assert best.best_epoch_ == 7


def start_afresh(build, callbacks, epochs=8, **settings):
    """Return a trainer whose weights begin anew after its third epoch, where T is estimated."""
    forward = ForwardCorrection(estimation=3)
    return build(correction=forward, epochs=epochs, callbacks=callbacks, **settings)


def test_patience_begins_anew_where_the_weights_do(build, make_data):
    """Nothing is better than the first epoch of each part of the run."""
    stopping = EarlyStopping("train_loss", patience=2, min_delta=100.0)
    trainer = start_afresh(build, [stopping]).fit(make_data())
    assert (stopping.best_epoch_, stopping.stopped_epoch_) == (4, 6)
    assert len(trainer.history_) == 6


@pytest.mark.parametrize("cut", [2, 3, 4, 5])
@pytest.mark.parametrize("keep_state", [True, False])
def test_a_resumed_run_knows_where_the_weights_began(build, make_data, tmp_path, cut, keep_state):
    settings = {"checkpoint_dir": tmp_path}
    stopping, best = EarlyStopping("train_loss", 2, min_delta=100.0), BestModel("epoch", "min")
    cutting = [CutAfter(cut), *([stopping, best] if keep_state else [])]
    start_afresh(build, cutting, **settings).fit(make_data())
    stopping, best = EarlyStopping("train_loss", 2, min_delta=100.0), BestModel("epoch", "min")
    resumed = start_afresh(build, [stopping, best], **settings).fit(make_data(), resume=True)
    assert (stopping.best_epoch_, len(resumed.history_)) == (4, 6)
    assert best.best_epoch_ == 4 if keep_state else best.best_epoch_ >= 4


class CutAfter(Callback):
    def __init__(self, epoch):
        self.epoch = epoch

    def on_epoch_end(self, trainer, record):
        if record["epoch"] == self.epoch:
            trainer.request_stop()


def test_the_best_model_is_one_of_the_weights_that_stay(build, make_data):
    """Until they begin anew, one of the others is kept: the run may be ended before."""
    for cut, kept in ((2, 1), (8, 4)):
        best = BestModel("epoch", "min")
        start_afresh(build, [best, CutAfter(cut)]).fit(make_data())
        assert best.best_epoch_ == kept
