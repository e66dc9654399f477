import pytest

from lossnoise import NoisyLabelTrainer


@pytest.fixture
def build(make_net):
    """A trainer with small settings; whatever is given wins."""

    def make(model=None, **given):
        settings = {"epochs": 2, "batch_size": 16, "device": "cpu", "random_state": 0}
        return NoisyLabelTrainer(make_net() if model is None else model, **(settings | given))

    return make
