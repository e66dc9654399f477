"""The base of callbacks, and the one that writes progress."""

import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from lossnoise import NoisyLabelTrainer
from lossnoise.training import Callback
from lossnoise.training._progress import Progress, describe

RECORD = {
    "epoch": 3,
    "train_loss": 0.71828,
    "val_accuracy": 0.9375,
    "noise_rate": 0.4215,
    "separable": None,
    "seconds": 1.26,
}


def test_a_callback_does_nothing_until_it_is_overridden():
    callback, trainer = Callback(), SimpleNamespace()
    callback.on_train_begin(trainer)
    callback.on_epoch_begin(trainer, 1)
    callback.on_batch_end(trainer, 1, 2)
    callback.on_epoch_end(trainer, RECORD)
    callback.on_train_end(trainer)
    assert vars(trainer) == vars(callback) == {}


@pytest.mark.parametrize(
    ("missing", "line"),
    [
        (
            [],
            "epoch   3/100 | loss 0.7183 | val accuracy 0.9375 | noise rate 0.421 | 1.3 s",
        ),
        (["val_accuracy"], "epoch   3/100 | loss 0.7183 | noise rate 0.421 | 1.3 s"),
        (["val_accuracy", "noise_rate"], "epoch   3/100 | loss 0.7183 | 1.3 s"),
    ],
)
def test_a_line_has_what_is_known(missing, line):
    assert describe(RECORD | dict.fromkeys(missing), 100) == line


def run_epoch(num_batches=2):
    trainer = SimpleNamespace(history_=[], epochs=10)
    progress = Progress()
    progress.on_train_begin(trainer)
    for epoch in (1, 2, 3):
        for batch in range(1, num_batches + 1):
            progress.on_batch_end(trainer, batch, num_batches)
        record = RECORD | {"epoch": epoch, "seconds": 2.0}
        trainer.history_.append(record)
        progress.on_epoch_end(trainer, record)
    progress.on_train_end(trainer)


@pytest.mark.parametrize("tqdm_installed", [True, False])
def test_progress_goes_to_stderr_with_the_time_that_is_left(monkeypatch, capsys, tqdm_installed):
    if not tqdm_installed:
        monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    run_epoch()
    out, err = capsys.readouterr()
    assert out == ""
    lines = [line for line in err.replace("\r", "\n").splitlines() if "left" in line]
    assert [line.split(" | ")[-1] for line in lines] == ["18 s left", "16 s left", "14 s left"]


@pytest.mark.parametrize("watched", [True, False])
def test_bars_are_for_who_is_watching(monkeypatch, watched):
    """On a terminal, one bar that begins anew in each epoch; none in a log file."""
    made = []

    class Bar:
        def __init__(self, **settings):
            self.settings, self.closed, self.cleared, self.moves = settings, False, 0, [0]
            self.labels, self.notes = [settings["desc"]], []
            made.append(self)

        def update(self):
            self.moves[-1] += 1

        def set_description(self, label, refresh):
            self.labels.append(label)

        def set_postfix_str(self, note, refresh):
            self.notes.append(note)

        def reset(self, total):
            assert total == 4
            self.moves.append(0)

        def clear(self):
            self.cleared += 1

        def close(self):
            self.closed = True

    monkeypatch.setitem(sys.modules, "tqdm.auto", SimpleNamespace(tqdm=Bar))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: watched)
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    run_epoch(num_batches=4)
    (bar,) = made
    assert bar.labels == ["epoch 1/10", "epoch 2/10", "epoch 3/10"]
    assert bar.notes == [  # of the epoch before
        "loss 0.7183, noise rate 0.421, run 18 s left",
        "loss 0.7183, noise rate 0.421, run 16 s left",
    ]
    assert bar.moves == [4, 4, 4]
    assert bar.settings["total"] == 4
    assert bar.cleared == 3
    assert bar.closed
    assert bar.settings["disable"] is not watched


def test_a_notebook_without_widgets_gets_its_bars_without_a_warning():
    """In a process of its own, because tqdm warns when it is imported."""
    pytest.importorskip("tqdm")
    code = (
        "import sys\n"
        "from types import SimpleNamespace\n"
        "sys.modules['ipykernel.zmqshell'] = None\n"
        "sys.modules['IPython'] = SimpleNamespace(get_ipython=object)\n"
        "sys.modules['ipywidgets'] = None\n"
        "from lossnoise._progress import make_bar\n"
        "print(type(make_bar(2, 'epoch 1', 'batch')).__name__)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stderr, done.stdout) == ("", "tqdm_asyncio\n")


def test_a_callback_has_no_state_until_it_says_so():
    callback = Callback()
    assert callback.state_dict() == {}
    callback.load_state_dict({"anything": 1})
    assert vars(callback) == {}


class Modes(torch.nn.Linear):
    """A layer that notes in which mode it learns."""

    def __init__(self):
        super().__init__(8, 3)
        self.learned_in = []

    def forward(self, inputs):
        if torch.is_grad_enabled():
            self.learned_in.append(self.training)
        return super().forward(inputs)


class Evaluating(Callback):
    """Leave the model in eval mode after one of the hooks, as loops of one's own do."""

    def __init__(self, hook):
        setattr(self, hook, lambda trainer, *_: trainer.model.eval())


HOOKS = ["on_train_begin", "on_epoch_begin", "on_batch_end", "on_epoch_end", "on_train_end"]


def fit_with(callbacks, model):
    data = torch.utils.data.TensorDataset(torch.randn(64, 8), torch.arange(64) % 3)
    trainer = NoisyLabelTrainer(
        model, correction="cross-entropy", epochs=3, batch_size=16, callbacks=callbacks
    )
    return trainer.fit(data)


@pytest.mark.filterwarnings("ignore::lossnoise.exceptions.LossNoiseWarning")
@pytest.mark.parametrize("hook", HOOKS)
def test_a_callback_that_evaluates_does_not_have_the_model_trained_in_eval_mode(hook):
    layer, frozen = Modes(), torch.nn.BatchNorm1d(8)
    model = torch.nn.Sequential(frozen, layer)
    frozen.eval()
    fit_with([Evaluating(hook)], model)
    assert layer.learned_in == [True] * 12
    assert model.training
    assert not frozen.training


@pytest.mark.filterwarnings("ignore::lossnoise.exceptions.LossNoiseWarning")
def test_a_callback_may_change_the_mode_of_a_part():
    class Freeze(Callback):
        def on_epoch_begin(self, trainer, epoch):
            trainer.model[1].train(epoch != 2)

        def on_epoch_end(self, trainer, record):
            trainer.model.eval()

    layer = Modes()
    fit_with([Freeze()], torch.nn.Sequential(torch.nn.Dropout(), layer))
    assert layer.learned_in == [True] * 4 + [False] * 4 + [True] * 4


@pytest.mark.filterwarnings("ignore::lossnoise.exceptions.LossNoiseWarning")
def test_a_layer_that_a_callback_puts_in_learns_in_train_mode():
    class Replace(Callback):
        def on_epoch_begin(self, trainer, epoch):
            trainer.model.eval()
            if epoch == 2:
                trainer.model[0] = added.eval()

    added = torch.nn.Dropout(0.1)
    model = torch.nn.Sequential(torch.nn.Identity(), Modes())
    fit_with([Replace()], model)
    assert added.training
