"""Penultimate features of models as users have them."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from lossnoise import NoisyLabelTrainer
from lossnoise.corrections import D2L, OpenSet
from lossnoise.corrections._features import forward_features
from lossnoise.corrections._logits import CAN_UNCOMPILE, OR_UNCOMPILED, LogitsModel
from lossnoise.exceptions import InvalidDataError, InvalidParameterError

both = pytest.mark.parametrize("method", [D2L, OpenSet])


def exactly(text):
    return f"^{re.escape(text)}$"


@pytest.fixture
def inputs():
    return torch.randn(5, 2, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def net(make_net):
    return make_net().eval()


def wrapped(net):
    return LogitsModel(net)


def compiled(net):
    return LogitsModel(torch.compile(net, backend="eager"))


def compiled_in_place(net):
    net.compile(backend="eager")
    return net


@pytest.mark.parametrize("wrap", [lambda net: net, wrapped, compiled, compiled_in_place])
def test_they_are_what_the_last_linear_layer_is_called_with(net, inputs, wrap):
    model = wrap(net)
    with torch.no_grad():
        model(inputs)  # compiles without the hooks
    found = forward_features(model, inputs)
    torch.testing.assert_close(found.features, net[:-1](inputs))
    torch.testing.assert_close(found.logits, net(inputs))
    assert found.features.requires_grad
    assert not net[-1]._forward_pre_hooks


def test_the_last_one_that_is_met_is_meant_not_the_last_in_the_list(inputs):
    class Backwards(nn.Module):
        def __init__(self):
            super().__init__()
            self.head, self.body = nn.Linear(8, 3), nn.Linear(2, 8)

        def forward(self, points):
            return self.head(self.body(points).relu())

    model = Backwards()
    torch.testing.assert_close(
        forward_features(model, inputs).features, model.body(inputs).relu(), rtol=0, atol=0
    )


@pytest.mark.parametrize("wrap", [wrapped, compiled])
def test_a_module_can_be_named(net, inputs, wrap):
    found = forward_features(wrap(net), inputs, "1")
    assert torch.equal(found.features, net[0](inputs))


def test_they_are_one_float32_row_a_sample(inputs):
    model = nn.Sequential(nn.Unflatten(1, (1, 2)), nn.Linear(2, 4), nn.Flatten(), nn.ReLU())
    assert forward_features(model, inputs, "2").features.shape == (5, 4)
    assert forward_features(model, inputs, "1").features.shape == (5, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert forward_features(model, inputs, "2").features.dtype == torch.float32


class Sometimes(nn.Module):
    """Has layers that it does not call, or with another number of rows."""

    def __init__(self, rows=None):
        super().__init__()
        self.rows, self.body, self.other = rows, nn.Conv1d(2, 3, 1), nn.Linear(3, 3)

    def forward(self, points):
        logits = self.body(points[:, :, None]).squeeze(2)
        if self.rows is not None:
            self.other(logits[self.rows])
        return logits


@pytest.mark.parametrize(
    ("features_at", "shown"), [("", "a torch.nn.Linear"), ("other", "the module 'other'")]
)
def test_a_layer_that_is_never_called(inputs, features_at, shown):
    message = (
        f"The model of NoisyLabelTrainer must call {shown} for its features. It does not: name a "
        f"module that it calls with them, by features_at{OR_UNCOMPILED}."
    )
    with pytest.raises(InvalidDataError, match=exactly(message)):
        forward_features(Sometimes(), inputs, features_at)


@pytest.mark.parametrize(("rows", "shape"), [(slice(2), (2, 3)), ((0, slice(3)), (3,))])
def test_a_layer_that_is_called_with_other_rows(inputs, rows, shape):
    message = (
        "The model of NoisyLabelTrainer must call a torch.nn.Linear with one row a sample. Got a "
        f"tensor of shape {shape} for 5 samples instead: name another module by features_at."
    )
    with pytest.raises(InvalidDataError, match=exactly(message)):
        forward_features(Sometimes(rows), inputs)


@both
@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (nn.Sequential(nn.Linear(2, 3)), "'0'"),
        (LogitsModel(nn.Sequential(nn.Linear(2, 3))), "'0'"),
        (torch.compile(nn.Sequential(nn.Linear(2, 3)), backend="eager"), "'0'"),
    ],
)
@pytest.mark.parametrize("value", ["head", None, 7])
def test_what_is_named_must_be_a_module(method, make_context, model, expected, value):
    message = (
        f"The 'features_at' parameter of {method.__name__} must be the name of a module of the "
        f"model ({expected}). Got {value!r} instead."
    )
    context = make_context(engine=SimpleNamespace(model=model))
    with pytest.raises(InvalidParameterError, match=exactly(message)):
        method(features_at=value).setup(context)


@both
@pytest.mark.parametrize("value", ["", "head"])
def test_without_a_linear_layer_a_module_must_be_named(method, make_context, value):
    model = nn.Sequential(nn.Flatten(), nn.Bilinear(2, 2, 3))
    message = (
        f"The 'features_at' parameter of {method.__name__} must be the name of a module of the "
        f"model ('0', '1'), as it has no torch.nn.Linear. Got {value!r} instead."
    )
    context = make_context(engine=SimpleNamespace(model=model))
    with pytest.raises(InvalidParameterError, match=exactly(message)):
        method(features_at=value).setup(context)
    method(features_at="1").setup(context)


@both
def test_that_is_said_before_the_first_batch(method, make_data):
    batches = []
    model = nn.Sequential(nn.Unflatten(1, (2, 1)), nn.Conv1d(2, 3, 1), nn.Flatten())
    model[1].register_full_backward_hook(lambda *_: batches.append(1))
    trainer = NoisyLabelTrainer(model, correction=method(), device="cpu")
    with pytest.raises(InvalidParameterError, match=r"has no torch\.nn\.Linear"):
        trainer.fit(make_data())
    assert batches == []


class Branches(nn.Module):
    """Its linear layer is called with two rows a sample, or never."""

    def __init__(self, called):
        super().__init__()
        self.head, self.used, self.called = nn.Linear(2, 3), nn.Parameter(torch.eye(2, 3)), called

    def forward(self, inputs):
        twice = self.head(torch.cat([inputs, inputs]))[: len(inputs)] if self.called else 0.0
        return inputs @ self.used + twice


@both
@pytest.mark.parametrize(("called", "found"), [(True, "one row a sample"), (False, "It does not")])
def test_that_no_batch_gives_features_is_said_at_the_first(method, make_data, called, found):
    net = Branches(called)
    before = net.used.detach().clone()
    trainer = NoisyLabelTrainer(net, correction=method(), epochs=20, device="cpu")
    with pytest.raises(InvalidDataError, match=found):
        trainer.fit(make_data())
    assert torch.equal(net.used, before)


@both
@pytest.mark.skipif(
    not CAN_UNCOMPILE, reason="PyTorch before 2.6: an error asks for the model as it is"
)
@pytest.mark.filterwarnings("ignore:D2L begins after")
def test_a_compiled_model_trains_alike(method, make_net, make_data):
    losses = []
    for prepare in (lambda net: net, lambda net: torch.compile(net, backend="eager")):
        trainer = NoisyLabelTrainer(
            prepare(make_net()), correction=method(), epochs=3, device="cpu", random_state=0
        )
        losses.append(trainer.fit(make_data()).losses_)
    np.testing.assert_allclose(*losses, rtol=1e-4, atol=1e-6)
