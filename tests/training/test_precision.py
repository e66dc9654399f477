"""In what type the passes of a run are computed: with gradient, without, and for results."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lossnoise.corrections import CORRECTIONS, MDyrH
from lossnoise.exceptions import InvalidParameterError
from lossnoise.training import Precision

pytestmark = pytest.mark.filterwarnings("ignore::lossnoise.exceptions.LossNoiseWarning")

FEWER_BITS = Precision(no_grad="bfloat16")


class Watched(nn.Module):
    """Note each pass: whether it trains, whether it has gradients, and the type of its logits."""

    def __init__(self, net):
        super().__init__()
        self.net = net
        self.passes = []

    def forward(self, inputs):
        logits = self.net(inputs)
        self.passes.append((self.training, torch.is_grad_enabled(), logits.dtype))
        return logits


@pytest.mark.parametrize("sweep", ["running", "epoch"])
def test_only_passes_of_training_without_gradient_have_fewer_bits(
    make_net, make_data, build, sweep
):
    net = Watched(make_net())
    trainer = build(net, correction=MDyrH(warmup=1, sweep=sweep), precision=FEWER_BITS, epochs=3)
    trainer.fit(make_data())
    sweeps = (False, False, torch.bfloat16)
    opinions, steps = (True, False, torch.bfloat16), (True, True, torch.float32)
    results = (False, False, torch.float32)
    expected = {opinions, steps, results} | ({sweeps} if sweep == "epoch" else set())
    assert set(net.passes) == expected
    net.passes.clear()
    trainer.score(make_data())
    trainer.predict_proba(make_data().tensors[0])
    assert set(net.passes) == {results}


def test_validation_is_in_the_type_of_the_model(make_data, build):
    runs = [
        build(correction="cross-entropy", precision=precision).fit(make_data(), make_data(32))
        for precision in ("float32", FEWER_BITS)
    ]
    first, second = ([epoch["val_loss"] for epoch in run.history_] for run in runs)
    assert first == second


def test_results_are_those_of_the_model(make_data, build):
    data = make_data()
    trainer = build(correction=MDyrH(warmup=1), precision=FEWER_BITS, epochs=3).fit(data)
    with torch.no_grad():
        logits = trainer.model.eval()(data.tensors[0])
    losses = F.cross_entropy(logits, data.tensors[1], reduction="none")
    np.testing.assert_allclose(trainer.losses_, losses.numpy(), rtol=1e-5, atol=1e-6)


def test_a_method_without_such_passes_learns_the_same(make_data, build):
    runs = [
        build(correction="mixup", precision=precision).fit(make_data())
        for precision in ("float32", FEWER_BITS)
    ]
    for one, other in zip(*(run.model.state_dict().values() for run in runs), strict=True):
        torch.testing.assert_close(one, other, rtol=0.0, atol=0.0)


@pytest.mark.parametrize("name", CORRECTIONS)
def test_every_correction_learns_with_them(name, make_data, build, with_clean_set):
    trainer = build(correction=with_clean_set(name), precision=FEWER_BITS, epochs=8)
    trainer.fit(make_data(noise=0.1))
    clean = torch.arange(96) % 3
    assert (trainer.predict(make_data()) == clean.numpy()).mean() > 0.8


def test_an_unknown_type_is_refused(make_data, build):
    message = (
        "The 'precision' parameter of NoisyLabelTrainer must be one of 'float32', 'bfloat16', "
        "'float16', or a Precision of types of these names. Got Precision(dtype='float32', "
        "channels_last=False, no_grad='half') instead."
    )
    with pytest.raises(InvalidParameterError) as caught:
        build(precision=Precision(no_grad="half")).fit(make_data())
    assert str(caught.value) == message


def test_a_run_is_resumed_exactly(make_data, build, tmp_path):
    settings = {"correction": MDyrH(warmup=1, sweep="epoch"), "precision": FEWER_BITS, "epochs": 4}
    whole = build(**settings, checkpoint_dir=tmp_path).fit(make_data())
    (tmp_path / "epoch-00004.pt").unlink()
    again = build(**settings, checkpoint_dir=tmp_path).fit(make_data(), resume=True)
    np.testing.assert_array_equal(again.losses_, whole.losses_)
    np.testing.assert_array_equal(again.noise_proba_, whole.noise_proba_)
