"""Models whose `train` does more than to set a flag, and whose `forward` writes into its inputs."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lossnoise.corrections import MDyrH, OpenSet
from lossnoise.corrections._logits import LogitsModel

pytestmark = pytest.mark.filterwarnings("ignore::lossnoise.exceptions.LossNoiseWarning")


class Adapted(nn.Linear):
    """A frozen layer with an adapter that eval mode folds into its weight, and train mode out."""

    def __init__(self, inputs, outputs):
        super().__init__(inputs, outputs)
        self.weight.requires_grad_(False)
        self.down = nn.Parameter(torch.ones(2, inputs) / inputs)
        self.up = nn.Parameter(torch.zeros(outputs, 2))
        self.folded = False

    def train(self, mode=True):
        super().train(mode)
        if mode == self.folded:
            change = self.up.data @ self.down.data
            self.weight.data += -change if mode else change
            self.folded = not mode
        return self

    def forward(self, inputs):
        outputs = F.linear(inputs, self.weight, self.bias)
        return outputs if self.folded else outputs + inputs @ self.down.T @ self.up.T


@pytest.mark.parametrize(
    "correction", ["cross-entropy", "m-dyr-h", "md-dyr-sh", "co-teaching-plus"]
)
def test_adapters_that_eval_mode_folds_in_learn(build, make_data, correction):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(Adapted(2, 16), nn.ReLU(), nn.Linear(16, 3))
    trainer = build(net, correction=correction, epochs=4).fit(make_data(), make_data(32))
    assert net[0].up.abs().max() > 0.0
    assert not net[0].folded
    assert net[0].training
    assert trainer.score(make_data(noise=0.0)) > 0.6
    assert not net[0].folded


class Frozen(nn.Module):
    """Fine-tuning scripts freeze a part so."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8))
        self.head = nn.Linear(8, 3)

    def train(self, mode=True):
        super().train(mode)
        self.body.eval()
        return self

    def forward(self, inputs):
        return self.head(self.body(inputs))


@pytest.mark.parametrize("correction", ["cross-entropy", "m-dyr-h", "co-teaching-plus"])
def test_a_part_that_train_freezes_stays_frozen(build, make_data, correction):
    net = Frozen()
    build(net, correction=correction).fit(make_data(), make_data(32))
    assert net.body[1].num_batches_tracked == 0


def test_a_part_of_a_frozen_part_may_be_in_train_mode(build, make_data, make_net):
    """As dropout is, whose spread over several passes says how sure a network is."""
    net, modes = nn.Sequential(make_net(dropout=0.5)), set()
    net[0].eval()
    net[0][3].train()

    def note(module, inputs, output):
        if torch.is_grad_enabled():
            modes.add((net[0][1].training, net[0][3].training))

    net.register_forward_hook(note)
    build(net, correction="m-dyr-h").fit(make_data())
    assert modes == {(False, True)}
    assert net.training
    assert (net[0].training, net[0][3].training) == (False, True)


class Scaling(nn.Module):
    def __init__(self, net, in_place):
        super().__init__()
        self.net, self.in_place = net, in_place

    def forward(self, inputs):
        scaled = inputs.sub_(0.3).div_(0.5) if self.in_place else (inputs - 0.3) / 0.5
        return self.net(scaled)


@pytest.mark.parametrize(
    "correction", [MDyrH(warmup=1), "md-dyr-sh", "d2l", OpenSet(warmup=1), "co-teaching-plus"]
)
def test_a_model_that_writes_into_its_inputs_learns_the_same(
    build, make_data, make_net, correction
):
    runs = [
        build(Scaling(make_net(), in_place), correction=correction, epochs=4).fit(make_data())
        for in_place in (False, True)
    ]
    for one, other in zip(*(run.model.state_dict().values() for run in runs), strict=True):
        torch.testing.assert_close(one, other, rtol=0.0, atol=0.0)
    np.testing.assert_array_equal(runs[0].losses_, runs[1].losses_)


def test_inputs_are_copied_only_where_they_are_written_to(make_net):
    inputs = torch.zeros(4, 2)
    for in_place in (False, True):
        model = LogitsModel(Scaling(make_net(), in_place))
        model(inputs.clone())
        model({"inputs": inputs})
        assert torch.equal(inputs, torch.zeros(4, 2))
        assert model._writes_inputs == in_place
