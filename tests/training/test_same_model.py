"""A run is resumed with the network that it began with, and a file is loaded into such a one."""

import re
import sys

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from lossnoise.exceptions import CheckpointWarning, InvalidParameterError
from lossnoise.training._wiring import layers_of
from lossnoise.training.checkpoint import first_difference

pytestmark = pytest.mark.filterwarnings(
    "ignore::lossnoise.exceptions.NoSeparableNoiseWarning",
    "ignore::lossnoise.exceptions.ScheduleWarning",
)


def make(activation=nn.ReLU, momentum=0.1, frozen=False):
    net = nn.Sequential(
        nn.Linear(2, 8), nn.BatchNorm1d(8, momentum=momentum), activation(), nn.Linear(8, 3)
    )
    generator = torch.Generator().manual_seed(0)
    for weights in net.parameters():
        nn.init.uniform_(weights, -0.5, 0.5, generator=generator)
    net[0].requires_grad_(not frozen)
    return net


class Addressed(nn.Identity):
    def __repr__(self):
        return f"<Addressed at {hex(id(self))}>"


@pytest.mark.parametrize(
    ("changed", "name", "was", "now"),
    [
        (
            {"activation": nn.Tanh},
            f"layers, as torch {torch.__version__} describes them",
            "(2): ReLU()",
            "(2): Tanh()",
        ),
        ({"frozen": True}, "frozen parameters", "none", "0.weight"),
    ],
)
def test_another_network_of_the_same_shapes_is_told(
    build, make_data, tmp_path, changed, name, was, now
):
    build(make(), checkpoint_dir=tmp_path).fit(make_data())
    message = (
        f"The checkpoint in {tmp_path} was made with {name}: {was!r}, and is resumed with {now!r}. "
        "Unless a callback changed them, the result will be another."
    )
    with pytest.warns(CheckpointWarning, match=f"^{re.escape(message)}$"):
        build(make(**changed), checkpoint_dir=tmp_path).fit(make_data(), resume=True)
    build(make(), checkpoint_dir=tmp_path).fit(make_data(), resume=True)  # without a warning


def test_another_momentum_of_batchnorm_is_told(build, make_data, tmp_path):
    build(make(), checkpoint_dir=tmp_path).fit(make_data())
    with pytest.warns(CheckpointWarning, match="momentum=0.1.*momentum=0.2"):
        build(make(momentum=0.2), checkpoint_dir=tmp_path).fit(make_data(), resume=True)


def test_the_layers_of_a_compiled_network_are_its_own():
    assert layers_of(torch.compile(make(), backend="eager")) == layers_of(make())
    lines = layers_of(nn.Sequential(Addressed()))
    assert lines == ["Sequential(", "  (0): <Addressed>", ")"]


class Scale(nn.Module):
    """Describes itself by what it has learnt, as FakeQuantize does."""

    def __init__(self):
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(()))

    def forward(self, logits):
        return logits * self.temperature

    def extra_repr(self):
        return f"temperature={self.temperature.item()}"


class Shy(nn.Identity):
    def extra_repr(self):
        raise AttributeError("no such width")


@pytest.mark.parametrize("layer", [Scale, Shy])
def test_layers_that_describe_themselves_by_their_weights_are_the_same(
    build, make_data, tmp_path, layer
):
    def trainer():
        return build(nn.Sequential(make(), layer()), checkpoint_dir=tmp_path / "run")

    first = trainer().fit(make_data())
    first.save(tmp_path / "model.pt")
    trainer().load(tmp_path / "model.pt")
    trainer().fit(make_data(), resume=True)
    first.fit(make_data(), resume=True)


def test_lines_that_differ():
    assert first_difference(["none"], []) == ("none", "none")
    assert first_difference(["a", " b"], ["a", "c"]) == ("b", "c")
    assert first_difference(["a"], ["a", "c"]) == ("none", "c")


def test_another_kind_of_sampler_is_told(build, make_data, tmp_path):
    data = make_data()
    build(make(), checkpoint_dir=tmp_path).fit(DataLoader(data, 16, shuffle=True))
    message = "made with samplers: 'RandomSampler', and is resumed with 'SequentialSampler'."
    with pytest.warns(CheckpointWarning, match=re.escape(message)):
        build(make(), checkpoint_dir=tmp_path).fit(DataLoader(data, 16), resume=True)


def test_a_file_of_a_network_with_other_layers_is_told(build, make_data, tmp_path):
    trainer = build(make()).fit(make_data())
    path = tmp_path / "model.pt"
    trainer.save(path)
    message = (
        f"The model in {path} was saved with '(2): ReLU()', and this trainer's has '(2): Tanh()': "
        "it may predict something else."
    )
    with pytest.warns(CheckpointWarning, match=f"^{re.escape(message)}$"):
        build(make(nn.Tanh)).load(path)
    same = build(make()).load(path)
    assert np.array_equal(same.predict_proba(make_data()), trainer.predict_proba(make_data()))


def test_a_file_that_says_nothing_of_layers_is_loaded(build, make_data, tmp_path):
    """As those of an earlier version of the library, or of torch."""
    path = tmp_path / "model.pt"
    build(make()).fit(make_data()).save(path)
    content = torch.load(path, weights_only=True)
    for changed in ({"torch": "2.0.0"}, {"torch": None, "layers": None}):
        kept = {name: value for name, value in (content | changed).items() if value is not None}
        torch.save(kept, path)
        assert build(make(nn.Tanh)).load(path).num_classes_ == 3


class Broken(torch.utils.data.Dataset):
    def __init__(self, data):
        self.data = data

    def __len__(self):
        return len(self.data)

    def __getitem__(self, index):
        if index == 77:
            raise OSError("truncated file")
        return self.data[index]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="notes came with Python 3.11")
@pytest.mark.parametrize("workers", [0, 1])
def test_a_sample_that_cannot_be_read_is_named(build, make_data, workers):
    loader = DataLoader(Broken(make_data()), 16, shuffle=True, num_workers=workers)
    with pytest.raises(OSError, match="truncated file") as caught:
        build(make()).fit(loader)
    told = [*getattr(caught.value, "__notes__", []), str(caught.value)]
    assert any("Raised by sample 77 of a dataset of NoisyLabelTrainer." in text for text in told)


def test_a_network_made_in_inference_mode_is_refused(build, make_data):
    with torch.inference_mode():
        net = make()
    message = "a model that was made outside of torch.inference_mode(), or copied there since"
    with pytest.raises(InvalidParameterError, match=re.escape(message)):
        build(net).fit(make_data())
