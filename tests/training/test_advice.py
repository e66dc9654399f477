"""What an error advises where data and model are not meant for each other."""

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from lossnoise import AuditReport
from lossnoise.exceptions import InvalidDataError, InvalidParameterError

TOKENS = [{"input_ids": [i % 7, 2, 3, 4], "labels": i % 3} for i in range(60)]


class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.head = nn.Embedding(9, 8), nn.Linear(8, 3)
        generator = torch.Generator().manual_seed(0)
        for weights in self.parameters():
            nn.init.normal_(weights, generator=generator)

    def forward(self, input_ids):
        return self.head(self.embedding(input_ids).mean(dim=1))


class Shaped(Words):
    """Asks for the shape of its input first, as transformers do."""

    def forward(self, input_ids):
        return super().forward(input_ids.reshape(input_ids.size()))


@pytest.mark.parametrize("model", [Words, Shaped])
def test_lists_of_token_ids_are_to_be_tensors(build, model):
    expected = (
        r"a list of tensors for 'input_ids', .* let the dataset return torch.tensor\(...\) of"
    )
    with pytest.raises(InvalidDataError, match=expected):
        build(model(), correction="dyr-h").fit(TOKENS)
    tensors = [sample | {"input_ids": torch.tensor(sample["input_ids"])} for sample in TOKENS]
    build(model(), correction="dyr-h").fit(tensors)


class Broken(Words):
    def forward(self, input_ids, text):
        return super().forward(input_ids).nosuch()


def test_a_mistake_of_the_model_is_not_blamed_on_lists(build):
    data = [
        {"input_ids": torch.tensor(sample["input_ids"]), "text": "a", "labels": sample["labels"]}
        for sample in TOKENS
    ]
    with pytest.raises(AttributeError, match="nosuch"):
        build(Broken()).fit(data)


def test_labels_of_minus_one_and_one(build, make_data):
    inputs, labels = make_data().tensors
    signs = TensorDataset(inputs, 2 * (labels > 0).long() - 1)
    with pytest.raises(InvalidDataError, match="instead: -1 and 1 become 0 and 1; samples"):
        build(nn.Linear(2, 2)).fit(signs)
    with pytest.raises(InvalidDataError, match="instead: samples without a label"):
        build(nn.Linear(2, 3)).fit(signs)


def test_one_output_is_none_of_two_classes(build, make_data):
    inputs, labels = make_data().tensors
    with pytest.raises(InvalidDataError, match="needs two outputs, not one as binary cross-ent"):
        build(nn.Linear(2, 1)).fit(TensorDataset(inputs, (labels > 0).long()))


def test_verbose_may_be_true_or_false(build, make_data, capsys):
    build(verbose=False).fit(make_data())
    assert not capsys.readouterr().err
    build(verbose=True).fit(make_data())
    assert "epoch" in capsys.readouterr().err


def test_a_report_is_of_a_trainer(make_data):
    expected = (
        "The 'trainer' parameter of AuditReport.from_trainer must be a NoisyLabelTrainer. Got "
        "<class 'object'> instead."
    )
    with pytest.raises(InvalidParameterError) as error:
        AuditReport.from_trainer(object(), make_data())
    assert str(error.value) == expected


@pytest.mark.parametrize(
    ("shape", "advice"),
    [
        ((96, 4), "a label for each token is not supported, other than in a loop of your own"),
        ((96, 4, 4), "a label for each pixel is not supported, other than in a loop of your own"),
    ],
)
def test_labels_of_tokens_and_pixels(build, make_data, shape, advice):
    inputs, _ = make_data().tensors
    tags = torch.arange(96 * 4 ** (len(shape) - 1)).reshape(shape) % 5
    with pytest.raises(InvalidDataError, match=f"instead: {advice}."):
        build(nn.Linear(2, 5)).fit(TensorDataset(inputs, tags))
