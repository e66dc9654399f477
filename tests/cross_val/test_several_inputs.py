"""Networks of several inputs: none of them is lost where a label is put in its place."""

import re

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from lossnoise import NoisyLabelTrainer, cross_val_losses
from lossnoise.exceptions import InvalidDataError

IDS = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
MASK = (torch.arange(240).reshape(60, 4) % 3 > 0).float()
Y = np.arange(60) % 2


class Masked(nn.Linear):
    def forward(self, ids, mask=None):
        return super().forward(ids if mask is None else ids * mask)


def measure(data):
    torch.manual_seed(0)
    trainer = NoisyLabelTrainer(Masked(4, 2), correction="cross-entropy", epochs=1, device="cpu")
    return cross_val_losses(trainer, data, Y, cv=2, random_state=0)


def test_a_second_input_is_not_replaced_by_the_label():
    message = (
        "The datasets of cross_val_losses must yield inputs, alone or in pairs (input, label). Got "
        "a pair whose second part has 4 numbers instead: the second part of a pair is taken for "
        "its label, and several inputs are one part, ((a, b),) without labels or ((a, b), label); "
        "of labels that are no classes, pass the inputs alone."
    )
    with pytest.raises(InvalidDataError, match=f"^{re.escape(message)}$"):
        measure(TensorDataset(IDS, MASK))


def test_labels_with_a_column_a_class_are_replaced():
    one_hot = measure(TensorDataset(IDS, torch.eye(2)[torch.arange(len(IDS)) % 2]))
    np.testing.assert_array_equal(one_hot, measure(IDS))


def test_several_inputs_are_one_part():
    parts = list(zip(IDS, MASK, strict=True))
    alone = measure([(part,) for part in parts])
    np.testing.assert_array_equal(alone, measure([(part, 0) for part in parts]))
    assert not np.array_equal(alone, measure(IDS))
