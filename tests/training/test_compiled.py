"""Compiled models train and answer as they do uncompiled, also where results are overwritten."""

import numpy as np
import pytest
import torch
from functorch.compile import make_boxed_func
from torch._dynamo.backends.common import aot_autograd

from lossnoise.corrections import Mixup
from lossnoise.corrections._logits import CAN_UNCOMPILE


def overwriting(graph, _example_inputs):
    """Return a compiled graph whose results always lie in the same memory, as of CUDA graphs."""
    kept = {}

    def run(*args):
        results = graph(*args)
        return tuple(
            kept.setdefault(place, torch.empty_like(result)).copy_(result)
            if isinstance(result, torch.Tensor)
            else result
            for place, result in enumerate(results)
        )

    return make_boxed_func(run)


def compiled(net):
    return torch.compile(net, backend=aot_autograd(fw_compiler=overwriting), dynamic=False)


def compiled_inside(net):
    return torch.nn.Sequential(compiled(net))


def compiled_in_place(net):
    net.forward = compiled(net.forward)
    return net


@pytest.mark.parametrize(
    ("name", "prepare"),
    [
        ("cross-entropy", compiled),
        ("cross-entropy", compiled_inside),
        ("cross-entropy", compiled_in_place),
        ("dyr-h", compiled),
        ("m-dyr-h", compiled),
        ("md-dyr-sh", compiled),
        ("co-teaching-plus", compiled),
        ("joint-optimization", compiled),
    ],
)
def test_results_that_are_overwritten_are_read_in_time(name, prepare, build, make_data, make_net):
    """As with ``mode="reduce-overhead"``: outputs, what backward needs, and gradients."""
    torch._dynamo.reset()
    found = [
        build(model, correction=name, epochs=8).fit(make_data(), make_data(seed=1))
        for model in (make_net(), prepare(make_net()))
    ]
    for result in (
        lambda t: t.losses_,
        lambda t: t.noise_proba_,
        lambda t: t.predict_proba(make_data(seed=3)),
    ):
        expected, got = map(result, found)
        np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-4)


def test_a_compiled_model_trains(build, make_data, make_net):
    compiled = torch.compile(make_net(), backend="eager")
    plain = build(make_net()).fit(make_data())
    np.testing.assert_allclose(build(compiled).fit(make_data()).losses_, plain.losses_, rtol=1e-4)


@pytest.mark.skipif(
    not CAN_UNCOMPILE, reason="before PyTorch 2.6 an error asks for the model as is"
)
def test_modules_of_a_compiled_model_have_the_names_that_they_had(build, make_data, make_net):
    mixed = {"correction": Mixup(mix_at="0")}
    compiled = build(torch.compile(make_net(), backend="eager"), **mixed).fit(make_data())
    plain = build(make_net(), **mixed).fit(make_data())
    np.testing.assert_allclose(compiled.losses_, plain.losses_, rtol=1e-4)
