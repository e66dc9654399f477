"""Weights that are of another model: told in words, and the model stays as it is."""

import re

import pytest
import torch
from torch import nn

from lossnoise.exceptions import InvalidDataError
from lossnoise.training import BestModel


class Named(nn.Module):
    """Parameters of the shapes of a sequence of two layers, by other names."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(2, 4), nn.Linear(4, 3)

    def forward(self, inputs):
        return self.head(self.body(inputs))


def unnamed(width=4):
    return nn.Sequential(nn.Linear(2, width), nn.Linear(width, 3))


def test_a_checkpoint_of_another_model(build, make_data, tmp_path):
    settings = {"correction": "cross-entropy", "checkpoint_dir": tmp_path}
    build(unnamed(), **settings).fit(make_data())
    message = (
        "The 'model' parameter of NoisyLabelTrainer must be of the same kind as the one of the run "
        "that is resumed. Got one of other parameters instead: another network needs another "
        "checkpoint_dir. torch says: Error(s) in loading state_dict for Named: Missing key(s) "
    )
    with pytest.raises(InvalidDataError, match=f"^{re.escape(message)}[^\n]*[^.].$"):
        build(Named(), **settings).fit(make_data(), resume=True)


@pytest.mark.parametrize("make", [Named, lambda: unnamed(5)])
def test_the_best_model_is_restored_into_one_like_it(build, make_data, make):
    best, model = BestModel("train_loss"), make()
    build(unnamed(), correction="cross-entropy", callbacks=[best]).fit(make_data())
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    message = (
        "The 'trainer' parameter of BestModel.restore must be one whose model is like that which "
        "was watched. Got one of other parameters instead: torch says: Error(s) in loading "
    )
    with pytest.raises(InvalidDataError, match=f"^{re.escape(message)}"):
        best.restore(build(model))
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())
