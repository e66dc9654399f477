"""The network of the paper: its size, its shapes, its gradients."""

import pytest
import torch
from torch import nn

from lossnoise.exceptions import InvalidParameterError
from lossnoise.models import preact_resnet18


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_number_of_parameters():
    assert count(preact_resnet18()) == 11_171_274
    assert count(preact_resnet18(100)) == 11_171_274 + 90 * 513
    # from the channels, by hand; the rest is 1,856 in the stem and 5,130 in the linear layer
    stages = [getattr(preact_resnet18(), f"stage{i}") for i in range(1, 5)]
    assert [count(stage) for stage in stages] == [147_968, 525_184, 2_098_944, 8_392_192]


@pytest.mark.parametrize("size", [8, 32, 64])
def test_output_shape(size):
    model = preact_resnet18(7).eval()
    with torch.no_grad():
        assert model(torch.zeros(2, 3, size, size)).shape == (2, 7)


def test_features_are_pooled_over_four_by_four_pixels():
    model = preact_resnet18().eval()
    shapes = []
    model.pool.register_forward_hook(lambda _, inputs, __: shapes.append(inputs[0].shape))
    with torch.no_grad():
        model(torch.zeros(1, 3, 32, 32))
    assert shapes == [(1, 512, 4, 4)]


def test_there_is_no_normalisation_after_the_last_block():
    model = preact_resnet18().eval()
    seen = []
    model.pool.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    with torch.no_grad():
        model(torch.randn(2, 3, 16, 16))
    assert (seen[0] < 0).any()  # a ReLU would leave none
    assert sum(isinstance(module, nn.BatchNorm2d) for module in model.modules()) == 1 + 16


def test_every_parameter_gets_a_gradient():
    model = preact_resnet18()
    model(torch.randn(2, 3, 16, 16)).logsumexp(dim=1).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


@pytest.mark.parametrize("number", [0, 1])
def test_what_skips_a_block_is_its_activated_input(number):
    block = preact_resnet18().stage2[number].eval()
    nn.init.zeros_(block.conv2.weight)  # leaves the shortcut alone
    inputs = torch.randn(1, 64 << number, 8, 8)
    with torch.no_grad():
        active = torch.relu(block.norm1(inputs))
        expected = active if block.shortcut is None else block.shortcut(active)
        torch.testing.assert_close(block(inputs), expected)


def test_num_classes_is_checked():
    with pytest.raises(InvalidParameterError) as caught:
        preact_resnet18(1)
    assert str(caught.value) == (
        "The 'num_classes' parameter of preact_resnet18 must be an int in the range [2, inf). "
        "Got 1 instead."
    )
